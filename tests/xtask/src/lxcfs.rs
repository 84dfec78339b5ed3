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
        if mounted() || !is_root() || !Path::new("/dev/fuse").exists() {
            return None;
        }
        std::fs::create_dir_all(DIRECTORY).ok()?;
        let mut command = Command::new(on_path("lxcfs")?);
        command
            .args(["--foreground", DIRECTORY])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = Lxcfs(command.spawn().ok()?);
        wait(true);
        Some(started)
    }
}

impl Drop for Lxcfs {
    fn drop(&mut self) {
        // It unmounts itself when asked to end; umount is for the case that it didn't.
        let pid = self.0.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        wait(false);
        if mounted() {
            drop(Command::new("umount").args(["-l", DIRECTORY]).status());
        }
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn mounted() -> bool {
    Path::new(DIRECTORY).join("proc/meminfo").exists()
}

fn wait(wanted: bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while mounted() != wanted && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}
