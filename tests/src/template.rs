//! A template for tests: busybox, the guest program and little else, as a directory.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Must;
use crate::guest::guest_binary;

const DIRS: &[&str] = &[
    "bin",
    "dev",
    "etc/init.d",
    "home",
    "mnt",
    "proc",
    "root",
    "run",
    "sbin",
    "srv",
    "sys",
    "tmp",
    "usr/bin",
    "usr/sbin",
    "var/log",
    "var/tmp",
];

/// The init is busybox's, unless a manifest names another. It does nothing but run what a test put into rcS.
const FILES: &[(&str, &str)] = &[
    ("etc/inittab", "::sysinit:/etc/init.d/rcS\n::ctrlaltdel:/sbin/reboot\n::shutdown:/etc/init.d/rcK\n"),
    ("etc/init.d/rcS", "#!/bin/sh\necho busybox is up\n"),
    ("etc/init.d/rcK", "#!/bin/sh\n[ -d /mnt/told ] && echo stopped > /mnt/told/rcK\nexit 0\n"),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("etc/hostname", "template\n"),
];

/// Makes the template below `root`.
pub(crate) fn make(root: &Path) {
    for dir in DIRS {
        std::fs::create_dir_all(root.join(dir)).must(format!("make {dir} of the template"));
    }
    for dir in ["tmp", "var/tmp"] {
        let mode = std::fs::Permissions::from_mode(0o1777);
        std::fs::set_permissions(root.join(dir), mode).must(format!("set the mode of {dir}"));
    }
    for (path, text) in FILES {
        std::fs::write(root.join(path), text).must(format!("write {path}"));
    }
    for script in ["etc/init.d/rcS", "etc/init.d/rcK"] {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(root.join(script), mode).must(format!("set the mode of {script}"));
    }
    let busybox = busybox();
    std::fs::copy(&busybox, root.join("bin/busybox")).must("copy busybox");
    std::fs::copy(guest_binary(), root.join("bin/guest")).must("copy the guest program");
    for applet in applets(&busybox) {
        // A few applets are named in two ways by the same path.
        drop(symlink("/bin/busybox", root.join(applet)));
    }
}

fn busybox() -> PathBuf {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    places.into_iter().find(|path| path.exists()).must("find busybox")
}

fn applets(busybox: &Path) -> Vec<String> {
    let output = Command::new(busybox).arg("--list-full").env_clear().output().must("list busybox's applets");
    let known =
        |path: &&str| DIRS.iter().any(|dir| path.rsplit_once('/').is_some_and(|(above, _)| above == *dir));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(known).filter(|path| *path != "bin/busybox").map(str::to_owned).collect()
}
