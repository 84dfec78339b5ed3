//! What operators do with templates: whatever goes wrong, the directory is as it was.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn sample(text: &str) -> Vec<u8> {
    Tar::default().dir("etc").file("etc/f", text).symlink("etc/l", "f").end()
}

fn names(fixture: &Fixture) -> Vec<String> {
    let entries = std::fs::read_dir(fixture.path("templates")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_archive_is_taken_in_and_out() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let store = &fixture.store;
    let template = store.add("web", &fixture.archive(&sample("1")), None).unwrap();
    assert_eq!(read(&template.root.join("etc/f")), "1");
    let named = store.ensure(&Source::Named("web".into())).unwrap();
    assert_eq!((&named.root, &named.digest), (&template.root, &template.digest));
    let listed = store.list().unwrap();
    let web = listed.iter().find(|is| is.name == "web").unwrap();
    assert_eq!((web.kind, web.origin.sha256.as_ref()), ("archive", Some(&template.digest)));
    assert_eq!(web.origin.file, Some(fixture.path("archive")));
    assert_eq!(names(&fixture), [".store", ".web.json", "web.tar"]);
    // Another one in its place, compressed in another way.
    let packed = zstd::encode_all(sample("2").as_slice(), 1).unwrap();
    store.add("web", &fixture.archive(&packed), None).unwrap();
    assert_eq!(names(&fixture), [".store", ".web.json", "web.tar.zst"]);
    assert_eq!(read(&store.ensure(&Source::Named("web".into())).unwrap().root.join("etc/f")), "2");
    assert_eq!(read(&template.root.join("etc/f")), "1", "VEs that run keep what they have");
    store.remove("web").unwrap();
    assert_eq!(names(&fixture), [".store"]);
    assert!(store.remove("web").unwrap_err().to_string().contains("no template named"));
}

#[test]
fn what_a_killed_one_was_writing_goes_with_the_next() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let beside = |name: &str| std::fs::write(fixture.path("templates").join(name), "").unwrap();
    // No process has the number 0.
    let running = format!(".other.{}.partial", std::process::id());
    [".web.0.partial", &running, ".web.x.partial", "mine.0.partial"].into_iter().for_each(beside);
    fixture.store.add("web", &fixture.archive(&sample("1")), None).unwrap();
    let mut wanted = [&running, ".store", ".web.json", ".web.x.partial", "mine.0.partial", "web.tar"];
    wanted.sort_unstable();
    assert_eq!(names(&fixture), wanted);
}

#[test]
fn what_is_refused_leaves_nothing() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let store = &fixture.store;
    store.add("web", &fixture.archive(&sample("1")), None).unwrap();
    let before = names(&fixture);
    let refused = |name: &str, bytes: &[u8], sha256: Option<&str>| {
        let error = store.add(name, &fixture.archive(bytes), sha256).unwrap_err();
        assert_eq!(names(&fixture), before, "{error}");
        let told = format!("{error} {:?}", std::error::Error::source(&error));
        assert!(!told.contains("partial"), "the operator's file is told of: {told}");
        told
    };
    assert!(
        refused("web", b"no archive at all, but text that is long enough to be read", None)
            .contains("archive")
    );
    let foreign = Tar::default().put(Head { name: b"etc/f", uid: 70_000, ..Head::default() }, b"x").end();
    assert!(refused("web", &foreign, None).contains("etc/f"));
    assert!(refused("web", &sample("2"), Some("00")).contains("not 00"));
    for name in ["", "../up", ".hidden", "a/b"] {
        assert!(refused(name, &sample("2"), None).contains("cannot be the name"));
    }
    assert!(refused("tiny", &sample("2"), None).contains("built in"));
    std::fs::create_dir(fixture.path("templates/mine")).unwrap();
    assert!(store.add("mine", &fixture.archive(&sample("2")), None).is_err());
    assert!(store.remove("mine").unwrap_err().to_string().contains("yours"));
    assert!(fixture.path("templates/mine").is_dir());
    assert_eq!(read(&store.ensure(&Source::Named("web".into())).unwrap().root.join("etc/f")), "1");
    assert!(store.update("web").unwrap_err().to_string().contains("not built by a recipe"));
}

#[test]
fn a_root_that_somebody_changed_is_found() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let store = &fixture.store;
    let digest = store.add("web", &fixture.archive(&sample("1")), None).unwrap().digest;
    assert_eq!(store.verify("web").unwrap(), digest);
    let root = store.ensure(&Source::Named("web".into())).unwrap().root;
    let differs = |what: &str| {
        let told = store.verify("web").unwrap_err().to_string();
        assert!(told.contains(what), "{told}");
    };
    let file = root.join("etc/f");
    std::fs::write(&file, "2").unwrap();
    differs("\"/etc/f\"");
    std::fs::write(&file, "1").unwrap();
    store.verify("web").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o4755)).unwrap();
    differs("mode");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(root.join("etc/more"), "").unwrap();
    differs("other entries");
    std::fs::remove_file(root.join("etc/more")).unwrap();
    std::fs::remove_file(root.join("etc/l")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", root.join("etc/l")).unwrap();
    differs("leads elsewhere");
    // The archive itself.
    std::fs::write(fixture.path("templates/web.tar"), sample("3")).unwrap();
    differs("SHA-256");
    let left = std::fs::read_dir(fixture.path("templates/.store")).unwrap();
    assert!(left.flatten().all(|entry| !entry.file_name().to_string_lossy().starts_with(".partial")));
}
