//! lxcfs for the duration of the host tests, since a fresh machine (or a container) has it installed but not running.
//!
//! Must leave one that runs already alone, and must take its own mount away again.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{is_root, on_path};

const DIRECTORY: &str = "/var/lib/lxcfs";

/// One that we have started.
pub(crate) struct Lxcfs(Child);

impl Lxcfs {
    /// Starts it if that is possible and needed; tests that want it say themselves that they had to do without.
    pub(crate) fn start() -> Option<Lxcfs> {
        if serves() || !is_root() || !Path::new("/dev/fuse").exists() {
            return None;
        }
        unmount();
        std::fs::create_dir_all(DIRECTORY).ok()?;
        let mut command = Command::new(on_path("lxcfs")?);
        command
            .args(["--foreground", DIRECTORY])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = Lxcfs(command.spawn().ok()?);
        within_5_s(serves);
        Some(started)
    }
}

impl Drop for Lxcfs {
    fn drop(&mut self) {
        // It unmounts itself when asked to end, but lets go of its device first: as long as it has not ended, its mount
        // can be there and dead.
        let pid = self.0.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        if !within_5_s(|| self.0.try_wait().is_ok_and(|ended| ended.is_some())) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
        unmount();
    }
}

/// Takes away what one that was killed has left, which answers nobody any more.
fn unmount() {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let is_here = |line: &str| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some(DIRECTORY) && words.next() == Some("fuse.lxcfs")
    };
    if table.lines().any(is_here) && !serves() {
        drop(Command::new("umount").args(["-l", DIRECTORY]).status());
    }
}

fn serves() -> bool {
    Path::new(DIRECTORY).join("proc/meminfo").exists()
}

/// Whether it comes about in time.
fn within_5_s(mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
