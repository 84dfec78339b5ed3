//! What a test needs of the machine. A need that isn't met is a skip with a name, which xtask counts and lists; where
//! `VZD_TEST_MUST_RUN` is set (CI) it is a failure, but for what some kernels can never have.

use std::io::Write;
use std::path::Path;

/// Something that a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The rights of root.
    Root,
    /// A cgroup version 2 tree, alone or beside version 1.
    Cgroups,
    /// A static busybox, which the `tiny` template is made of.
    Busybox,
    /// lxcfs, mounted where Debian mounts it.
    Lxcfs,
    /// /dev/net/tun.
    Tun,
    /// /dev/fuse.
    Fuse,
    /// A vzd with fault points: a debug build.
    FaultPoints,
    /// The program `script` (bsdutils), which gives a command a terminal.
    Script,
}

impl Need {
    /// Why it isn't met; none if it is.
    fn lacking(self) -> Option<String> {
        let exists = |path: &str| Path::new(path).exists();
        let absent = |path: &str| (!exists(path)).then(|| format!("there is no {path}"));
        match self {
            Need::Root => (!rustix::process::geteuid().is_root()).then(|| "not root".to_owned()),
            Need::Cgroups => {
                let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
                (!mounts.contains(" - cgroup2 ")).then(|| "no cgroup2 is mounted".to_owned())
            }
            Need::Busybox => (!exists("/bin/busybox") && !exists("/usr/bin/busybox"))
                .then(|| "busybox-static is not installed".to_owned()),
            Need::Lxcfs => absent("/var/lib/lxcfs/proc/meminfo"),
            Need::Tun => absent("/dev/net/tun"),
            Need::Fuse => absent("/dev/fuse"),
            Need::Script => absent("/usr/bin/script"),
            Need::FaultPoints => crate::vzd_binary()
                .components()
                .any(|part| part.as_os_str() == "release")
                .then(|| "vzd is a release build".to_owned()),
        }
    }

    /// Whether CI has to have it: it can install programs, but not another kernel, and lxcfs needs to be running.
    fn must_be_met(self) -> bool {
        !matches!(self, Need::Lxcfs | Need::Tun | Need::Fuse)
    }
}

/// Tells whether a test can run; if not, says so where xtask finds it.
#[track_caller]
pub fn is_met(need: Need) -> bool {
    let Some(why) = need.lacking() else { return true };
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    assert!(
        std::env::var_os("VZD_TEST_MUST_RUN").is_none() || !need.must_be_met(),
        "{test} must run here, but {need:?} is lacking: {why}"
    );
    // Both may be gone or closed: a skip is no reason to fail.
    drop(writeln!(std::io::stderr(), "skipped {test}: needs {need:?}: {why}"));
    if let Some(file) = std::env::var_os("VZD_TEST_SKIPS") {
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
        drop(opened.and_then(|mut file| file.write_all(format!("{test}\t{need:?}\t{why}\n").as_bytes())));
    }
    false
}

/// Returns from the test, noting a skip, unless the machine has all of these.
#[macro_export]
macro_rules! needs {
    ($($need:ident),+ $(,)?) => {
        $(if !$crate::is_met($crate::Need::$need) { return; })+
    };
}
