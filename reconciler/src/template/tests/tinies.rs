//! The tiny template: complete, of plain root-owned files, and what runs in it is busybox.

use std::os::unix::fs::MetadataExt;

use super::*;

/// The template, where the machine has busybox-static.
fn tiny(store: &Store) -> Option<Template> {
    if !is_root() {
        return None;
    }
    match store.ensure(&Source::Tiny) {
        Err(TemplateError::NoStaticBusybox { .. }) => {
            println!("skipped: needs busybox-static");
            None
        }
        done => Some(done.unwrap()),
    }
}

#[test]
fn it_has_what_an_init_needs() {
    let fixture = Fixture::new();
    let Some(template) = tiny(&fixture.store) else { return };
    let root = &template.root;
    let meta = |name: &str| std::fs::symlink_metadata(root.join(name)).unwrap();
    let owner = |name: &str| (meta(name).mode() & 0o7777, meta(name).uid(), meta(name).gid());
    for (name, want) in [
        ("", (0o755, 0, 0)),
        ("tmp", (0o1777, 0, 0)),
        ("root", (0o700, 0, 0)),
        ("etc/shadow", (0o640, 0, 42)),
        ("etc/inittab", (0o644, 0, 0)),
        ("etc/init.d/rcS", (0o755, 0, 0)),
        ("bin/busybox", (0o755, 0, 0)),
    ] {
        assert_eq!(owner(name), want, "{name}");
    }
    for empty in ["dev", "proc", "sys", "run", "tmp", "root"] {
        assert!(list(&root.join(empty)).is_empty(), "{empty}");
    }
    for applet in ["sbin/init", "bin/sh", "sbin/getty", "sbin/syslogd", "usr/sbin/crond", "sbin/poweroff"] {
        assert_eq!(std::fs::read_link(root.join(applet)).unwrap(), Path::new("/bin/busybox"), "{applet}");
    }
    assert!(read(&root.join("etc/os-release")).contains("ID=vzd-tiny\n"));
    assert!(read(&root.join("etc/shadow")).starts_with("root:!:"));
    assert!(!root.join("linuxrc").exists());
    assert!(read(&root.join("etc/inittab")).lines().all(|line| line.split(':').count() >= 4));
}

#[test]
fn its_busybox_runs_and_its_scripts_parse() {
    let fixture = Fixture::new();
    let Some(template) = tiny(&fixture.store) else { return };
    let busybox = template.root.join("bin/busybox");
    let out = std::process::Command::new(&busybox).args(["echo", "it runs"]).output().unwrap();
    assert_eq!(out.stdout, b"it runs\n");
    for script in ["etc/init.d/rcS", "etc/init.d/rcK", "etc/init.d/console", "etc/profile"] {
        let status =
            std::process::Command::new(&busybox).args(["sh", "-n"]).arg(template.root.join(script)).status();
        assert!(status.unwrap().success(), "{script}");
    }
}

#[test]
fn the_same_busybox_is_the_same_template_and_another_is_another() {
    let fixture = Fixture::new();
    let Some(one) = tiny(&fixture.store) else { return };
    let again = fixture.store.ensure(&Source::Named("tiny".into())).unwrap();
    assert_eq!((&one.root, &one.digest), (&again.root, &again.digest));
    // A static program with other content: the same one with bytes after its end.
    let other = fixture.path("busybox");
    let mut program = std::fs::read(one.root.join("bin/busybox")).unwrap();
    program.extend(b"another version");
    std::fs::write(&other, program).unwrap();
    rustix::fs::chmod(&other, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    let store = Store::open(&fixture.path("templates")).unwrap().with_busybox(vec![other]);
    let two = store.ensure(&Source::Tiny).unwrap();
    assert_ne!(one.digest, two.digest);
    assert!(one.root.exists() && two.root.exists());
}

#[test]
fn without_a_static_busybox_the_cure_is_named() {
    let fixture = Fixture::new();
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    for (places, why) in [(vec![], "no busybox on this machine"), (vec![shell], "is not statically linked")] {
        let store = Store::open(&fixture.path("templates")).unwrap().with_busybox(places);
        let error = store.ensure(&Source::Tiny).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.help().unwrap(), "apt-get install busybox-static");
    }
}
