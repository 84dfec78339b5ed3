//! What goes into a guest: the programs, the list of tests, and the files that a systemd guest starts with, as one file
//! system. Must lay out here all that `inside` and `init.sh` look for.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::distributions;
use super::image::file_system;
use super::tests::{Kind, Test};
use crate::guest::Guest;
use crate::run::{Context, Result, root, target};

/// PID 1 of a guest without a service manager.
const INIT: &str = include_str!("init.sh");
/// Runs the tests where systemd is PID 1.
const UNIT: &str = include_str!("vzd-lab.service");

/// What is the same for all tests of a job.
pub(super) struct Job<'a> {
    pub(super) tests: &'a [&'a Test],
    pub(super) kind: Kind,
    pub(super) guest: &'a Guest,
    /// After this many seconds a test is taken for hung.
    pub(super) limit: u64,
    /// How many tests run at a time in a plain guest.
    pub(super) side_by_side: u32,
    /// Sandboxes of failed tests stay.
    pub(super) keep: bool,
    /// They are benchmarks.
    pub(super) benches: bool,
}

impl Job<'_> {
    /// Writes the file system to `image`.
    pub(super) fn write(&self, image: &Path) -> Result<()> {
        let staging = image.with_extension("staging");
        std::fs::create_dir_all(staging.join("root")).context(staging.display())?;
        // Still there when a build has put another in its place.
        install(Path::new("/proc/self/exe"), &staging.join("xtask"))?;
        // What is measured is what is released.
        let built = target().join(if self.benches { "release" } else { "debug" });
        install(&built.join("vzd"), &staging.join("vzd"))?;
        if self.benches {
            install(&built.join("vzd-bench"), &staging.join("vzd-bench"))?;
        }
        install(&self.guest.witness, &staging.join("guest"))?;
        install(&self.guest.pause, &staging.join("guest-pause"))?;
        write(&staging.join("init"), INIT)?;
        for program in self.tests.iter().map(|test| &test.program).collect::<BTreeSet<_>>() {
            install(program, &staging.join(file_name(program)))?;
        }
        copy(&root().join("examples"), &staging.join("examples"))?;
        if Path::new(crate::criu::FOLDER).is_dir() {
            copy(Path::new(crate::criu::FOLDER), &staging.join("criu"))?;
        }
        if self.has_distributions() {
            copy(&distributions::folder()?, &staging.join("distributions"))?;
        }
        if self.kind == Kind::Systemd {
            self.with_systemd(&staging.join("root"))?;
        }
        write(&staging.join("job.json"), &self.description().to_string())?;
        file_system(&staging, image)?;
        std::fs::remove_dir_all(&staging).context(staging.display())
    }

    /// Whether a test boots one.
    fn has_distributions(&self) -> bool {
        self.tests.iter().any(|test| test.needs.iter().any(|need| need == distributions::NEED))
    }

    fn description(&self) -> Value {
        let test = |test: &&Test| {
            json!({ "name": test.name, "exact": test.exact,
                    "program": format!("/lab/{}", file_name(&test.program)) })
        };
        let mut environment = json!({
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "RUST_BACKTRACE": "0",
            "VZD_BIN": "/lab/vzd", "VZD_GUEST": "/lab/guest", "VZD_GUEST_PAUSE": "/lab/guest-pause",
            "VZD_TEST_SLOWNESS": SLOWNESS, "VZD_LAB": "1", "VZD_BENCH_ROUNDS": ROUNDS,
        });
        if self.has_distributions() {
            environment["VZD_TEST_DISTRIBUTIONS"] = json!("/lab/distributions");
        }
        if let Ok(moves) = std::env::var("VZD_TEST_MOVES") {
            environment["VZD_TEST_MOVES"] = json!(moves);
        }
        if self.keep {
            environment["VZD_TEST_KEEP"] = json!("1");
        }
        if self.kind == Kind::Pair {
            environment["VZD_LAB_PEER"] = json!("10.77.0.2:7077");
            environment["VZD_LAB_ADDRESS"] = json!("10.77.0.1");
        }
        let side_by_side = if self.kind == Kind::Plain { self.side_by_side } else { 1 };
        json!({
            "tests": self.tests.iter().map(test).collect::<Vec<_>>(), "environment": environment,
            "sideBySide": side_by_side, "limit": self.limit,
            // Tests were told at compile time where their sources are, and that CRIU lies where it is on this machine.
            "links": { root().join("examples").display().to_string(): "/lab/examples",
                       crate::criu::FOLDER: "/lab/criu" },
        })
    }

    /// vzd as a package would install it, and the unit that runs the tests.
    fn with_systemd(&self, root_of_guest: &Path) -> Result<()> {
        let packaging = root().join("packaging");
        install(&target().join("debug/vzd"), &root_of_guest.join("usr/bin/vzd"))?;
        for (from, to) in [("systemd", "system"), ("sysusers.d", ""), ("tmpfiles.d", "")] {
            let to = if to.is_empty() { format!("usr/lib/{from}") } else { format!("usr/lib/{from}/{to}") };
            copy(&packaging.join(from), &root_of_guest.join(to))?;
        }
        let settings = root_of_guest.join("etc/systemd/system/vzd.service.d/lab.conf");
        write(&settings, "[Service]\nEnvironment=VZD_CRIU=/lab/criu/criu\n")?;
        write(&root_of_guest.join("etc/systemd/system/vzd-lab.service"), UNIT)?;
        let wants = root_of_guest.join("etc/systemd/system/multi-user.target.wants");
        std::fs::create_dir_all(&wants).context(wants.display())?;
        symlink("../vzd-lab.service", wants.join("vzd-lab.service")).context(wants.display())
    }
}

/// How much longer than on a real machine everything may take: emulation, on cores that others use too.
const SLOWNESS: &str = "10";
/// Rounds of a benchmark.
const ROUNDS: &str = "15";

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A copy that can be run. The program is not stripped here: a backtrace is worth the megabytes.
fn install(from: &Path, to: &Path) -> Result<()> {
    if let Some(directory) = to.parent() {
        std::fs::create_dir_all(directory).context(directory.display())?;
    }
    std::fs::copy(from, to).context(from.display()).map(|_| ())
}

fn write(to: &PathBuf, text: &str) -> Result<()> {
    if let Some(directory) = to.parent() {
        std::fs::create_dir_all(directory).context(directory.display())?;
    }
    std::fs::write(to, text).context(to.display())?;
    let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode)).context(to.display())
}

/// A directory with all that is in it; links stay links.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).context(to.display())?;
    for entry in std::fs::read_dir(from).context(from.display())? {
        let entry = entry.context(from.display())?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().context(path.display())?;
        if kind.is_symlink() {
            std::fs::read_link(&path).and_then(|way| symlink(way, &target)).context(path.display())?;
        } else if kind.is_dir() {
            copy(&path, &target)?;
        } else {
            std::fs::copy(&path, &target).context(path.display())?;
        }
    }
    Ok(())
}
