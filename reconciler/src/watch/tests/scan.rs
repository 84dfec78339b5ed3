//! What a scan reads, what it passes over, and when it believes that something is gone.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::watch::Work;

/// Scans until no file is so new that it has to be read again.
fn settled(scanner: &mut Scanner) -> Arc<Revision> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let revision = scanner.scan();
        if scanner.work().read == 0 {
            return revision;
        }
        assert!(Instant::now() < end, "a file is read again and again");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn only_what_has_changed_is_read_and_only_that_is_parsed() {
    let lab = Lab::new();
    for i in 0..1000 {
        lab.write(&format!("ve-{i:04}.yaml"), &ve(&format!("ve-{i:04}")));
    }
    let mut scanner = lab.scanner();
    let first = scanner.scan();
    assert_eq!(scanner.work(), Work { files: 1000, read: 1000, parsed: 1000 });
    assert!(first.complete && first.diagnostics.is_empty());
    assert_eq!(names(&first).len(), 1000);
    let second = settled(&mut scanner);
    assert!(Arc::ptr_eq(&first, &second), "nothing has changed");
    assert_eq!(scanner.work(), Work { files: 1000, read: 0, parsed: 0 });
    lab.replace("ve-0500.yaml", &ve_with("ve-0500", "new"));
    let third = scanner.scan();
    assert_eq!(scanner.work(), Work { files: 1000, read: 1, parsed: 1 });
    assert_eq!(description(&third, "ve-0500").as_deref(), Some("new"));
    assert_ne!(first.digest, third.digest);
    let same = |name| Arc::ptr_eq(&first.ve(name).unwrap().document, &third.ve(name).unwrap().document);
    assert!(same("ve-0499") && !same("ve-0500"));
    lab.write("ve-0500.yaml", &ve("ve-0500"));
    assert_eq!(scanner.scan().digest, first.digest, "equal directories have equal digests");
}

#[test]
fn a_touched_file_is_read_but_not_parsed() {
    let lab = Lab::new();
    let path = lab.write("web.yaml", &ve("web"));
    let mut scanner = lab.scanner();
    let first = settled(&mut scanner);
    std::fs::File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert!(Arc::ptr_eq(&first, &scanner.scan()));
    assert_eq!(scanner.work(), Work { files: 1, read: 1, parsed: 0 });
}

#[test]
fn a_file_with_the_size_and_times_of_the_last_one_is_seen_to_differ() {
    let lab = Lab::new();
    let path = lab.write("web.yaml", &ve_with("web", "one"));
    let mut scanner = lab.scanner();
    assert_eq!(description(&scanner.scan(), "web").as_deref(), Some("one"));
    let is = std::fs::metadata(&path).unwrap();
    lab.write("web.yaml", &ve_with("web", "two"));
    std::fs::File::open(&path).unwrap().set_modified(is.modified().unwrap()).unwrap();
    let now = std::fs::metadata(&path).unwrap();
    assert_eq!((now.ino(), now.len(), now.modified().unwrap()), (is.ino(), is.len(), is.modified().unwrap()));
    assert_eq!(description(&scanner.scan(), "web").as_deref(), Some("two"));
}

#[test]
fn what_is_no_manifest_is_passed_over_and_told() {
    let lab = Lab::new();
    lab.write("web.yaml", &ve("web"));
    for name in [".web.yaml.swp", "web.yaml~", "#web.yaml#", "README", "web.yaml.dpkg-old"] {
        lab.write(name, "not: [yaml");
    }
    std::fs::write(lab.dir.join(std::ffi::OsStr::from_bytes(b"bad-\xff.yaml")), "x").unwrap();
    std::fs::create_dir(lab.path(".git")).unwrap();
    lab.write(".git/config.yaml", "x: [");
    let fifo = lab.path("fifo.yaml");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o644.into()).unwrap();
    symlink(&fifo, lab.path("to-fifo.yaml")).unwrap();
    std::os::unix::net::UnixListener::bind(lab.path("socket.yaml")).unwrap();
    let revision = lab.scanner().scan();
    assert_eq!(names(&revision), ["web"]);
    assert!(revision.complete && revision.diagnostics.is_empty(), "{:?}", revision.diagnostics);
    let skipped: Vec<(&str, &str)> = revision
        .skipped
        .iter()
        .map(|(path, why)| (path.strip_prefix(lab.dir.to_str().unwrap()).unwrap(), why.as_str()))
        .collect();
    assert_eq!(
        skipped,
        [
            ("/#web.yaml#", "an editor's unsaved copy"),
            ("/.git", "hidden"),
            ("/.web.yaml.swp", "hidden"),
            ("/README", "not named .yaml, .yml or .json"),
            ("/bad-\\xff.yaml", "its name is not UTF-8 text"),
            ("/fifo.yaml", "not a regular file"),
            ("/socket.yaml", "not a regular file"),
            ("/to-fifo.yaml", "not a regular file"),
            ("/web.yaml.dpkg-old", "left by a package manager"),
            ("/web.yaml~", "an editor's backup"),
        ]
    );
}

#[test]
fn vims_dance_is_no_removal() {
    let lab = Lab::new();
    let path = lab.write("web.yaml", &ve_with("web", "one"));
    lab.write("other.yaml", &ve("other"));
    let mut scanner = lab.scanner();
    scanner.scan();
    lab.write("4913", "");
    std::fs::remove_file(lab.path("4913")).unwrap();
    std::fs::rename(&path, lab.path("web.yaml~")).unwrap();
    lab.write("web.yaml", "");
    let middle = scanner.scan();
    assert_eq!(state(&middle, &path), "kept: it is empty");
    assert_eq!(description(&middle, "web").as_deref(), Some("one"));
    lab.write("web.yaml", &ve_with("web", "two"));
    std::fs::remove_file(lab.path("web.yaml~")).unwrap();
    let last = scanner.scan();
    assert_eq!(description(&last, "web").as_deref(), Some("two"));
    assert!(last.complete && !is_kept(&last, "web") && last.diagnostics.is_empty());
}

#[test]
fn directories_within_are_read_each_once() {
    let lab = Lab::new();
    let sub = lab.path("a/b");
    std::fs::create_dir_all(&sub).unwrap();
    lab.write("a/b/web.yaml", &ve("web"));
    symlink("a", lab.path("z")).unwrap();
    symlink("..", lab.path("a/up")).unwrap();
    let revision = lab.scanner().scan();
    assert_eq!(names(&revision), ["web"]);
    assert_eq!(state(&revision, &lab.path("a/b/web.yaml")), "good");
    let skipped: Vec<&str> = revision.skipped.values().map(String::as_str).collect();
    assert_eq!(skipped, ["the same directory under another name"; 2]);
    let deep = lab.path("1/2/3/4/5/6/7/8/9/10");
    std::fs::create_dir_all(&deep).unwrap();
    write(&deep.join("deep.yaml"), &ve("deep"));
    let revision = lab.scanner().scan();
    assert_eq!(names(&revision), ["web"]);
    assert_eq!(revision.skipped.get(lab.path("1/2/3/4/5/6/7/8/9").to_str().unwrap()).unwrap(), "too deep");
}

#[test]
fn a_swapped_tree_is_one_revision() {
    let lab = Lab::new();
    for (version, text) in [("..1", "one"), ("..2", "two")] {
        std::fs::create_dir(lab.path(version)).unwrap();
        for name in ["a", "b"] {
            lab.write(&format!("{version}/{name}.yaml"), &ve_with(name, text));
        }
    }
    symlink("..1", lab.path("..data")).unwrap();
    for name in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{name}"), lab.path(name)).unwrap();
    }
    let mut scanner = lab.scanner();
    let first = scanner.scan();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(description(&first, "b").as_deref(), Some("one"));
    symlink("..2", lab.path("..data_tmp")).unwrap();
    std::fs::rename(lab.path("..data_tmp"), lab.path("..data")).unwrap();
    std::fs::remove_dir_all(lab.path("..1")).unwrap();
    let second = scanner.scan();
    assert_eq!(description(&second, "a").as_deref(), Some("two"));
    assert_eq!(description(&second, "b").as_deref(), Some("two"));
    assert!(second.complete);
}

/// Two trees are swapped as fast as possible while they are scanned.
#[test]
fn a_scan_never_mixes_two_trees() {
    let lab = Lab::new();
    let link = lab.temp.path().join("current");
    for version in ["one", "two"] {
        let dir = lab.path(version);
        std::fs::create_dir(&dir).unwrap();
        for i in 0..20 {
            write(&dir.join(format!("{i}.yaml")), &ve_with(&format!("ve-{i}"), version));
        }
    }
    symlink(lab.path("one"), &link).unwrap();
    let end = std::sync::atomic::AtomicBool::new(false);
    let mut scanner = Scanner::new(&link, TRUST);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let next = lab.temp.path().join("next");
            for version in ["two", "one"].iter().cycle() {
                symlink(lab.path(version), &next).unwrap();
                std::fs::rename(&next, &link).unwrap();
                if end.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        for _ in 0..200 {
            let revision = scanner.scan();
            let versions: BTreeSet<_> = (0..20).map(|i| description(&revision, &format!("ve-{i}"))).collect();
            assert!(versions.len() == 1 || !revision.complete, "{versions:?}");
        }
        end.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_directory_that_is_missing_unreadable_or_empty_removes_nothing() {
    let lab = Lab::new();
    lab.write("web.yaml", &ve("web"));
    let mut scanner = lab.scanner();
    let good = scanner.scan();
    let source = lab.path("web.yaml");
    let source = source.to_str().unwrap();
    let away = lab.temp.path().join("away");
    type Step<'a> = (&'a str, &'a dyn Fn(), &'a dyn Fn());
    let steps: [Step<'_>; 4] = [
        ("No such file", &|| std::fs::rename(&lab.dir, &away).unwrap(), &|| {
            std::fs::rename(&away, &lab.dir).unwrap();
        }),
        (
            "Not a directory",
            &|| {
                std::fs::rename(&lab.dir, &away).unwrap();
                std::fs::write(&lab.dir, "").unwrap();
            },
            &|| {
                std::fs::remove_file(&lab.dir).unwrap();
                std::fs::rename(&away, &lab.dir).unwrap();
            },
        ),
        ("no manifests", &|| std::fs::rename(source, &away).unwrap(), &|| {
            std::fs::rename(&away, source).unwrap();
        }),
        (
            "others can write",
            &|| {
                std::fs::set_permissions(&lab.dir, PermissionsExt::from_mode(0o777)).unwrap();
            },
            &|| {
                std::fs::set_permissions(&lab.dir, PermissionsExt::from_mode(0o755)).unwrap();
            },
        ),
    ];
    for (why, spoil, mend) in steps {
        spoil();
        let spoilt = scanner.scan();
        assert!(!spoilt.complete, "{why}");
        assert!(spoilt.diagnostics[0].message.contains(why), "{why}: {:?}", spoilt.diagnostics);
        assert!(is_kept(&spoilt, "web"), "{why}");
        assert!(!spoilt.is_removed("web", source) && !spoilt.is_removed("other", "elsewhere"), "{why}");
        assert_ne!(spoilt.digest, good.digest);
        mend();
        let mended = scanner.scan();
        assert!(mended.complete && !is_kept(&mended, "web"), "{why}");
        assert_eq!(mended.digest, good.digest);
    }
    let mut other = Scanner::new(&lab.temp.path().join("nothing"), TRUST);
    let revision = other.scan();
    assert!(!revision.complete && !revision.is_removed("web", source));
}

#[test]
fn what_is_gone_for_certain_is_removed() {
    let lab = Lab::new();
    let (web, db) = (lab.write("web.yaml", &ve("web")), lab.write("db.yaml", &ve("db")));
    let mut scanner = lab.scanner();
    scanner.scan();
    std::fs::rename(&web, lab.path("renamed.yaml")).unwrap();
    std::fs::remove_file(&db).unwrap();
    let revision = scanner.scan();
    assert!(!revision.is_removed("web", web.to_str().unwrap()), "renaming a file changes nothing");
    assert!(revision.is_removed("db", db.to_str().unwrap()));
    assert_eq!(names(&revision), ["web"]);
    lab.replace("renamed.yaml", "# nothing any more\n");
    assert!(scanner.scan().is_removed("web", web.to_str().unwrap()));
}

#[test]
fn only_a_directory_that_certainly_holds_nothing_is_empty() {
    let lab = Lab::new();
    let mut scanner = lab.scanner();
    assert!(scanner.scan().is_empty);
    let web = lab.write("web.yaml", &ve("web"));
    assert!(!scanner.scan().is_empty);
    std::fs::write(&web, "").unwrap();
    assert!(!scanner.scan().is_empty, "a file that is empty may be about to be written");
    std::fs::remove_file(&web).unwrap();
    let revision = scanner.scan();
    assert!(revision.is_empty && !revision.complete && !revision.is_removed("web", "web.yaml"));
    std::fs::remove_dir(&lab.dir).unwrap();
    assert!(!scanner.scan().is_empty, "a directory that is not there may come back");
}
