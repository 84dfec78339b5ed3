//! The store: one directory a content, whoever asks and however often; nothing else is touched.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::mpsc;
use std::time::Duration;

use super::*;

fn sample(text: &str) -> Vec<u8> {
    Tar::default().dir("etc").file("etc/f", text).end()
}

fn inode(template: &Template) -> u64 {
    std::fs::metadata(&template.root).unwrap().ino()
}

#[test]
fn the_same_content_is_the_same_directory() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let one = fixture.unpack(&sample("1")).unwrap();
    let again = fixture.unpack(&sample("1")).unwrap();
    assert_eq!((inode(&one), &one.digest, &one.root), (inode(&again), &again.digest, &again.root));
    let two = fixture.unpack(&sample("2")).unwrap();
    assert_ne!(one.root, two.root);
    assert_eq!(read(&one.root.join("etc/f")), "1", "running VEs keep what they have");
    let out = std::process::Command::new("sha256sum").arg(fixture.path("archive")).output().unwrap();
    assert_eq!(two.digest, String::from_utf8(out.stdout).unwrap()[..64]);
    let mode = std::fs::metadata(fixture.path("templates/.store")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o700, "setuid programs of templates are not for users of the host");
    assert_eq!(std::fs::metadata(&one.root).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn many_callers_at_once_get_one_directory() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let source = Source::File(fixture.archive(&sample("x")));
    let dir = fixture.path("templates");
    let own = &fixture.store;
    let inodes: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let (source, dir) = (&source, &dir);
                // Half of them share a store, half have their own as another process would.
                scope.spawn(move || {
                    let template = if n % 2 == 0 {
                        own.ensure(source)
                    } else {
                        Store::open(dir).unwrap().ensure(source)
                    };
                    inode(&template.unwrap())
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(inodes.iter().all(|i| *i == inodes[0]), "{inodes:?}");
    assert_eq!(fixture.own().iter().filter(|n| n.starts_with("file-")).count(), 1);
}

#[test]
fn makers_and_removers_do_not_disturb_each_other() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let source = Source::File(fixture.archive(&sample("x")));
    let (store, done) = (&fixture.store, &std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let remover = scope.spawn(move || {
            let mut removed = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let removal = store.remove_unused(&BTreeSet::new()).unwrap();
                assert!(removal.failed.is_empty(), "{removal:?}");
                removed += removal.removed.len();
            }
            removed
        });
        for _ in 0..60 {
            let template = store.ensure(&source).unwrap();
            std::thread::sleep(Duration::from_millis(2));
            assert_eq!(read(&template.root.join("etc/f")), "x");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(remover.join().unwrap() > 0);
    });
}

#[test]
fn leftovers_of_a_killed_run_are_removed() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    for name in [".partial-00ff/etc/deep", ".trash-00ff/0/x"] {
        std::fs::create_dir_all(fixture.path("templates/.store").join(name)).unwrap();
    }
    symlink(fixture.outside(), fixture.path("templates/.store/.partial-00ff/out")).unwrap();
    symlink(fixture.outside(), fixture.path("templates/.store/.partial-0link")).unwrap();
    std::fs::write(fixture.path("templates/.store/index.json"), "{\"format\": 1, \"rec").unwrap();
    let template = fixture.unpack(&sample("x")).unwrap();
    let name = template.root.file_name().unwrap().to_str().unwrap();
    assert_eq!(fixture.own(), [name, "index.json", "lock"]);
}

#[test]
fn a_template_that_is_there_needs_neither_lock_nor_hash() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let archive = fixture.archive(&sample("x"));
    std::thread::sleep(Duration::from_millis(3100)); // Until a change of the archive would show in its ctime.
    let sources = [Source::File(archive.clone()), Source::Tiny];
    let sources: Vec<&Source> = sources.iter().filter(|s| fixture.store.ensure(s).is_ok()).collect();
    let lock = std::fs::File::open(fixture.path("templates/.store/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let fresh = Store::open(&fixture.path("templates")).unwrap();
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let (sources, stores) = (&sources, [&fixture.store, &fresh]);
        scope.spawn(move || {
            for store in stores {
                for source in sources.iter() {
                    store.ensure(source).unwrap();
                }
            }
            send.send(()).unwrap();
        });
        let quick = receive.recv_timeout(Duration::from_secs(5));
        drop(lock);
        quick.expect("it waited for the lock");
    });
    // A directory that someone deleted is made anew.
    let gone = fixture.store.ensure(sources[0]).unwrap();
    std::fs::remove_dir_all(&gone.root).unwrap();
    assert_eq!(read(&fixture.store.ensure(sources[0]).unwrap().root.join("etc/f")), "x");
    // So is one whose archive changed, be it in size or not.
    std::fs::write(&archive, sample("y")).unwrap();
    assert_eq!(read(&fixture.store.ensure(sources[0]).unwrap().root.join("etc/f")), "y");
}

#[test]
fn only_unused_templates_of_the_store_are_removed() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let path = |name: &str| fixture.path("templates").join(name);
    let used = fixture.unpack(&sample("used")).unwrap().root;
    let aliased = fixture.unpack(&sample("aliased")).unwrap().root;
    let held = fixture.unpack(&sample("held")).unwrap();
    let unused = fixture.unpack(&sample("unused")).unwrap().root;
    std::fs::create_dir_all(path("named/mine")).unwrap();
    std::fs::create_dir_all(path(".store/other")).unwrap();
    let trap = path(&format!(".store/tiny-{}", "0".repeat(64)));
    symlink(fixture.outside(), &trap).unwrap();
    symlink(fixture.tmp.path(), fixture.path("alias")).unwrap();
    let alias = fixture.path("alias").join(aliased.strip_prefix(fixture.tmp.path()).unwrap());

    let in_use = BTreeSet::from([used.clone(), alias, PathBuf::from("/nonexistent/x")]);
    let removal = fixture.store.remove_unused(&in_use).unwrap();
    assert_eq!(removal.removed, std::slice::from_ref(&unused));
    assert_eq!(removal.busy, std::slice::from_ref(&held.root));
    assert_eq!(removal.failed.len(), 1, "{removal:?}");
    assert!(chain(&removal.failed[0]).contains("cannot remove"), "{removal:?}");
    assert!(used.exists() && aliased.exists() && held.root.exists() && !unused.exists());
    assert!(path("named/mine").exists() && path(".store/other").exists());
    assert_eq!(read(&fixture.path("outside/secret")), "untouched");

    std::fs::remove_file(trap).unwrap();
    let root = held.root.clone();
    drop(held);
    let removal = fixture.store.remove_unused(&in_use).unwrap();
    assert_eq!((removal.removed, removal.failed.len()), (vec![root], 0));
}

#[test]
fn names_are_looked_up() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let path = |name: &str| fixture.path("templates").join(name);
    std::fs::create_dir_all(path("named/deb")).unwrap();
    std::fs::create_dir_all(path("flat")).unwrap();
    std::fs::write(path("arch.tar.zst"), zstd::encode_all(&sample("z")[..], 1).unwrap()).unwrap();
    std::fs::write(path("plain.tar"), sample("p")).unwrap();
    let ensure = |name: &str| fixture.store.ensure(&Source::Named(name.into()));
    assert_eq!(ensure("deb").unwrap().root, path("named/deb"));
    assert_eq!(ensure("flat").unwrap().root, path("flat"));
    assert_eq!(read(&ensure("arch").unwrap().root.join("etc/f")), "z");
    assert_eq!(read(&ensure("arch.tar.zst").unwrap().root.join("etc/f")), "z");
    assert_eq!(read(&ensure("plain").unwrap().root.join("etc/f")), "p");
    assert_eq!(fixture.store.names(), ["arch", "deb", "flat", "plain", "tiny"]);
    for bad in ["", "..", "../outside", "a/b", ".store"] {
        assert!(matches!(ensure(bad), Err(TemplateError::BadName(_))), "{bad}");
    }
    for unknown in ["nope", "named"] {
        let error = ensure(unknown).unwrap_err();
        assert!(matches!(error, TemplateError::UnknownName { .. }), "{error}");
        assert!(error.help().unwrap().contains("known: arch, deb, flat, plain, tiny"), "{:?}", error.help());
    }
}

#[test]
fn directories_and_files_must_be_the_operators_own() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let dir = fixture.path("root");
    std::fs::create_dir(&dir).unwrap();
    let ensure = |path: &Path| fixture.store.ensure(&Source::Dir(path.into())).map_err(|e| chain(&e));
    let template = ensure(&dir).unwrap();
    assert_eq!(template.root, dir);
    assert_eq!(ensure(&dir).unwrap().digest, template.digest);
    let chmod = |mode| std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
    for (mode, good) in [(0o777, false), (0o1777, false), (0o775, true), (0o755, true)] {
        chmod(mode);
        assert_eq!(ensure(&dir).is_ok(), good, "{mode:o}");
    }
    std::os::unix::fs::chown(&dir, Some(1000), Some(0)).unwrap();
    assert!(ensure(&dir).unwrap_err().ends_with("it does not belong to root"));
    std::os::unix::fs::chown(&dir, Some(0), Some(1000)).unwrap();
    chmod(0o775);
    assert!(ensure(&dir).unwrap_err().ends_with("others can write to it"));
    symlink("root", fixture.path("link")).unwrap();
    let archive = fixture.archive(&sample("x"));
    for bad in [&fixture.path("link"), &archive] {
        assert!(ensure(bad).unwrap_err().contains("is not a directory"));
    }
    assert!(ensure(Path::new("root")).unwrap_err().contains("not absolute"));
    assert!(ensure(&fixture.path("none")).unwrap_err().contains("No such file"));
    assert!(list(&dir).is_empty());

    let file = |path: &Path| fixture.store.ensure(&Source::File(path.into())).map_err(|e| chain(&e));
    std::fs::set_permissions(&archive, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(file(&archive).unwrap_err().contains("others can write to it"));
    assert!(file(&dir).unwrap_err().contains("not a regular file"));
    let fifo = fixture.path("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    assert!(file(&fifo).unwrap_err().contains("not a regular file"));
}
