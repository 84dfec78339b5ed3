//! Where the benchmarks may work: one directory and one cgroup, given by xtask, which takes them away afterwards.
//!
//! Must make everything that the peers share, and nothing outside these two.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::result::{Context, Result, fail};

/// First id of the containers' users; the peers' ranges are this one.
pub(crate) const FIRST_ID: u32 = 100_000;
/// How many.
pub(crate) const IDS: u32 = 65_536;
/// The payload's path inside.
pub(crate) const PAYLOAD: &str = "/bin/pause";

/// Below the place, what is gone with a boot: in memory, as /run is.
pub(crate) const RUN: &str = "run";

/// The place.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    /// Path of the cgroup below each hierarchy's top.
    pub(crate) cgroup: String,
    pub(crate) vzd: PathBuf,
    /// A root file system with the payload, owned by root.
    pub(crate) template: PathBuf,
    /// The same, owned by the containers' ids: the peers neither shift nor copy.
    pub(crate) shifted: PathBuf,
}

impl Place {
    pub(crate) fn prepare() -> Result<Place> {
        let variable = |name: &str| match std::env::var_os(name) {
            Some(value) => Ok(PathBuf::from(value)),
            None => fail(format!("{name} isn't set: run `cargo xtask bench`")),
        };
        let directory = set_apart(&variable("VZD_BENCH_DIR")?)?;
        let place = Place {
            cgroup: variable("VZD_BENCH_CGROUP")?.display().to_string(),
            vzd: variable("VZD_BIN")?,
            template: directory.join("template"),
            shifted: directory.join("shifted"),
            directory,
        };
        let payload = variable("VZD_GUEST_PAUSE")?;
        in_memory(&place.subdirectory(RUN)?)?;
        root_file_system(&place.template, &payload, 0)?;
        root_file_system(&place.shifted, &payload, FIRST_ID)?;
        for hierarchy in hierarchies() {
            cgroup(&hierarchy, &place.cgroup)?;
        }
        place.join_account()?;
        Ok(place)
    }

    /// What this process starts is charged to our cgroup, not to the shell's: starters make much of what containers keep.
    fn join_account(&self) -> Result<()> {
        let memory = Path::new("/sys/fs/cgroup/memory");
        if !memory.is_dir() {
            return Ok(());
        }
        let own = memory.join(&self.cgroup).join("bench");
        fs::create_dir_all(&own).context(own.display())?;
        fs::write(own.join("cgroup.procs"), std::process::id().to_string()).context(own.display())
    }

    /// A new directory in it that others may pass through.
    pub(crate) fn subdirectory(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        directory(&path, 0)?;
        Ok(path)
    }

    /// Another root file system like the template.
    pub(crate) fn root(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        root_file_system(&path, &self.template.join(PAYLOAD.trim_start_matches('/')), 0)?;
        Ok(path)
    }

    /// A cgroup below ours, in the hierarchy that counts CPU time.
    pub(crate) fn cpu_cgroup(&self, name: &str) -> PathBuf {
        let version_1 = Path::new("/sys/fs/cgroup/cpuacct");
        let top = if version_1.is_dir() { version_1 } else { Path::new("/sys/fs/cgroup") };
        top.join(&self.cgroup).join(name)
    }
}

/// A directory of this run's in the given one, that ext4 puts into another group of blocks than earlier runs' (it goes by
/// the name). One without a journal gives no inode again for minutes, and looks at all of those in a group for each file
/// that is made there: what was deleted before would be measured, a third of all CPU time after a few runs.
fn set_apart(top: &Path) -> Result<PathBuf> {
    // Other file systems have no such flag.
    drop(Command::new("chattr").arg("+T").arg(top).output());
    let path = top.join(std::process::id().to_string());
    directory(&path, 0)?;
    Ok(path)
}

fn in_memory(directory: &Path) -> Result<()> {
    let output =
        Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(directory).output().context("mount")?;
    match output.status.success() {
        true => Ok(()),
        false => {
            fail(format!("mount {}: {}", directory.display(), String::from_utf8_lossy(&output.stderr).trim()))
        }
    }
}

/// Every hierarchy's mount point.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let entry = |line: &str| {
        let kind = line.split_once(" - ")?.1;
        kind.starts_with("cgroup").then(|| line.split(' ').nth(4).map(PathBuf::from)).flatten()
    };
    table.lines().filter_map(entry).collect()
}

fn cgroup(hierarchy: &Path, name: &str) -> Result<()> {
    let path = hierarchy.join(name);
    fs::create_dir_all(&path).context(path.display())?;
    // A new cpuset is empty in version 1, and nothing can be put below an empty one.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if path.join("cgroup.clone_children").is_file() && path.join(file).is_file() {
            let all = fs::read_to_string(hierarchy.join(file)).context(file)?;
            fs::write(path.join(file), all.trim()).context(path.join(file).display())?;
            fs::write(path.join("cgroup.clone_children"), "1").context("cgroup.clone_children")?;
        }
    }
    Ok(())
}

fn root_file_system(path: &Path, payload: &Path, owner: u32) -> Result<()> {
    directory(path, owner)?;
    for name in ["bin", "dev", "etc", "proc", "run", "sbin", "sys", "tmp", "var"] {
        directory(&path.join(name), owner)?;
    }
    let program = path.join(PAYLOAD.trim_start_matches('/'));
    fs::copy(payload, &program).context(payload.display())?;
    chown(&program, Some(owner), Some(owner)).context(program.display())
}

fn directory(path: &Path, owner: u32) -> Result<()> {
    fs::create_dir_all(path).context(path.display())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).context(path.display())?;
    chown(path, Some(owner), Some(owner)).context(path.display())
}
