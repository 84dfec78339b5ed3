//! Every way in which manifests are changed is hinted at.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;
use crate::watch::Hints;

/// Long for what must come, and short for what must not.
const SOON: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(300);

struct Ear {
    hints: Hints,
    heard: Receiver<()>,
}

impl Ear {
    fn on(dir: &Path) -> Self {
        let (tell, heard) = channel();
        let hints = Hints::start(dir, move || tell.send(()).unwrap_or_default()).unwrap();
        assert_eq!(hints.trouble(), None);
        Self { hints, heard }
    }

    /// Waits for a hint to what `change` does, and then for quiet: the ways are known again.
    fn hears(&self, what: &str, change: impl FnOnce()) {
        while self.heard.recv_timeout(QUIET).is_ok() {}
        change();
        assert!(self.heard.recv_timeout(SOON).is_ok(), "{what} was not heard of");
        while self.heard.recv_timeout(QUIET).is_ok() {}
    }
}

#[test]
fn writers_of_files_are_heard() {
    let lab = Lab::new();
    let ear = Ear::on(&lab.dir);
    ear.hears("a new file", || drop(lab.write("web.yaml", &ve("web"))));
    ear.hears("a written file", || drop(lab.write("web.yaml", &ve_with("web", "two"))));
    ear.hears("an exchanged file", || lab.replace("web.yaml", &ve("web")));
    ear.hears("a file from outside", || {
        write(&lab.temp.path().join("x"), &ve("db"));
        std::fs::rename(lab.temp.path().join("x"), lab.path("db.yaml")).unwrap();
    });
    ear.hears("a removed file", || std::fs::remove_file(lab.path("db.yaml")).unwrap());
    ear.hears("a directory", || {
        std::fs::create_dir_all(lab.path("sub/sub")).unwrap();
        lab.write("sub/sub/mail.yaml", &ve("mail"));
    });
    ear.hears("a file in it", || drop(lab.write("sub/sub/mail.yaml", &ve_with("mail", "two"))));
    ear.hears("a mode", || write(&lab.path("web.yaml"), &ve("web")));
    assert_eq!(ear.hints.trouble(), None);
}

#[test]
fn reading_is_not_heard() {
    let lab = Lab::new();
    lab.write("web.yaml", &ve("web"));
    let ear = Ear::on(&lab.dir);
    while ear.heard.recv_timeout(QUIET).is_ok() {}
    for _ in 0..3 {
        lab.scanner().scan();
    }
    std::fs::write(lab.temp.path().join("beside"), "").unwrap();
    assert!(ear.heard.recv_timeout(QUIET).is_err(), "it wakes itself");
}

#[test]
fn a_missing_directory_is_heard_of_when_it_comes_and_goes() {
    let lab = Lab::new();
    let dir = lab.temp.path().join("etc/vzd/manifests");
    let ear = Ear::on(&dir);
    ear.hears("the directory", || std::fs::create_dir_all(&dir).unwrap());
    for round in 0..3 {
        ear.hears("a file", || write(&dir.join("web.yaml"), &ve_with("web", &format!("v{round}"))));
        ear.hears("its removal", || std::fs::remove_dir_all(&dir).unwrap());
        ear.hears("its return", || std::fs::create_dir(&dir).unwrap());
    }
    let away = lab.temp.path().join("etc/vzd/away");
    ear.hears("its renaming", || std::fs::rename(&dir, &away).unwrap());
    ear.hears("its replacement", || std::fs::create_dir(&dir).unwrap());
    ear.hears("a file in the new one", || write(&dir.join("web.yaml"), &ve("web")));
    // Gone and back before anyone could look.
    ear.hears("a quick exchange", || {
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::create_dir(&dir).unwrap();
    });
    ear.hears("a file in the newest", || write(&dir.join("web.yaml"), &ve("web")));
}

/// git-sync: the directory is a symlink that is pointed elsewhere, and the old target is removed.
#[test]
fn a_flipped_symlink_is_heard_and_then_its_new_target() {
    let lab = Lab::new();
    let (link, next) = (lab.temp.path().join("current"), lab.temp.path().join("next"));
    let tree = |name: &str| {
        let dir = lab.temp.path().join(name).join("conf");
        std::fs::create_dir_all(&dir).unwrap();
        write(&dir.join("web.yaml"), &ve_with("web", name));
    };
    let flip = |name: &str| {
        symlink(name, &next).unwrap();
        std::fs::rename(&next, &link).unwrap();
    };
    tree("r1");
    flip("r1");
    // Both the directory itself and a parent of it.
    let direct = Ear::on(&link);
    let through = Ear::on(&link.join("conf"));
    let mut scanner = Scanner::new(&link.join("conf"), TRUST);
    scanner.scan();
    for (old, new) in [("r1", "r2"), ("r2", "r3")] {
        tree(new);
        through.hears("the flip of a parent", || flip(new));
        direct.hears("a file in the new tree", || {
            write(&link.join("conf/web.yaml"), &ve_with("web", "changed"));
        });
        through.hears("the removal of the old tree, or a file", || {
            std::fs::remove_dir_all(lab.temp.path().join(old)).unwrap();
            write(&link.join("conf/web.yaml"), &ve_with("web", new));
        });
        assert_eq!(description(&scanner.scan(), "web").as_deref(), Some(new));
    }
    tree("r4");
    direct.hears("the flip", || flip("r4"));
}

/// Kubernetes: files are symlinks through `..data`, which is pointed elsewhere.
#[test]
fn a_swapped_configmap_is_heard() {
    let lab = Lab::new();
    let version = |name: &str| {
        std::fs::create_dir(lab.path(name)).unwrap();
        lab.write(&format!("{name}/web.yaml"), &ve_with("web", name.trim_start_matches('.')));
        symlink(name, lab.path("..data_tmp")).unwrap();
        std::fs::rename(lab.path("..data_tmp"), lab.path("..data")).unwrap();
    };
    version("..v1");
    symlink("..data/web.yaml", lab.path("web.yaml")).unwrap();
    let ear = Ear::on(&lab.dir);
    ear.hears("the swap", || version("..v2"));
    assert_eq!(description(&lab.scanner().scan(), "web").as_deref(), Some("v2"));
    ear.hears("the target", || drop(lab.write("..v2/web.yaml", &ve("web"))));
}

#[test]
fn targets_of_links_to_elsewhere_are_heard() {
    let lab = Lab::new();
    let shared = lab.temp.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    write(&shared.join("web.yaml"), &ve("web"));
    symlink("../shared/web.yaml", lab.path("web.yaml")).unwrap();
    symlink("../missing/db.yaml", lab.path("db.yaml")).unwrap();
    let ear = Ear::on(&lab.dir);
    ear.hears("the target", || write(&shared.join("web.yaml"), &ve_with("web", "two")));
    ear.hears("what was missing", || {
        std::fs::create_dir(lab.temp.path().join("missing")).unwrap();
        write(&lab.temp.path().join("missing/db.yaml"), &ve("db"));
    });
    ear.hears("and is there now", || write(&lab.temp.path().join("missing/db.yaml"), &ve("db")));
    while ear.heard.recv_timeout(QUIET).is_ok() {}
    write(&shared.join("unrelated"), "");
    assert!(ear.heard.recv_timeout(QUIET).is_err(), "a neighbour of a target is of no interest");
}

/// More events than the kernel queues: what is lost must not matter.
#[test]
fn a_flood_is_heard_to_its_end() {
    let lab = Lab::new();
    let ear = Ear::on(&lab.dir);
    let text = ve("web");
    for i in 0..3000 {
        std::fs::write(lab.path(&format!("{i}.yaml")), &text).unwrap();
    }
    ear.hears("the last of them", || drop(lab.write("last.yaml", &ve("last"))));
    ear.hears("a file after them", || drop(lab.write("after.yaml", &ve("after"))));
}

#[test]
fn dropping_ends_it() {
    let lab = Lab::new();
    let ear = Ear::on(&lab.dir);
    drop(ear.hints);
    lab.write("web.yaml", &ve("web"));
    while ear.heard.recv_timeout(QUIET).is_ok() {}
    assert!(
        ear.heard.recv_timeout(QUIET).is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Disconnected)
    );
}
