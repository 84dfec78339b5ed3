//! CPU time from cgroups: exact, and it counts processes that have ended. Must not estimate.

use std::path::PathBuf;
use std::time::Duration;

use crate::result::{Context, Result};

/// A cgroup whose CPU time, with all below it, is read.
pub(crate) struct Meter {
    directory: PathBuf,
}

impl Meter {
    pub(crate) fn new(directory: PathBuf) -> Meter {
        Meter { directory }
    }

    /// Used so far; nothing if the cgroup isn't there (yet).
    pub(crate) fn used(&self) -> Result<Duration> {
        if !self.directory.is_dir() {
            return Ok(Duration::ZERO);
        }
        let version_1 = self.directory.join("cpuacct.usage");
        if version_1.is_file() {
            let text = std::fs::read_to_string(&version_1).context(version_1.display())?;
            return Ok(Duration::from_nanos(text.trim().parse().context(version_1.display())?));
        }
        let version_2 = self.directory.join("cpu.stat");
        let text = std::fs::read_to_string(&version_2).context(version_2.display())?;
        let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).ok_or("no usage_usec");
        let micros = micros.context(version_2.display())?;
        Ok(Duration::from_micros(micros.parse().context(version_2.display())?))
    }
}
