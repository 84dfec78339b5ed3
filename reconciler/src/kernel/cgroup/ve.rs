//! The control groups of one VE: make, join, freeze, kill, remove.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{At, SysError, SysResult};
use crate::kernel::cgroup::{Hierarchy, Layout, below, enable_controllers, make_dir, read, write};

/// The control groups of one VE.
#[derive(Debug, Clone, Copy)]
pub struct VeCgroup<'a> {
    layout: &'a Layout,
    ctid: u32,
}

/// The delegated child that the VE sees as its root.
const VE: &str = "ve";
/// The child for processes that the host puts into the VE.
const EXEC: &str = "exec";

impl<'a> VeCgroup<'a> {
    pub(super) fn new(layout: &'a Layout, ctid: u32) -> Self {
        VeCgroup { layout, ctid }
    }

    pub(super) fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// Whose they are.
    pub fn ctid(&self) -> u32 {
        self.ctid
    }

    /// Our directory in the version 2 tree.
    pub fn v2_dir(&self) -> PathBuf {
        self.layout.v2.join(&self.layout.root).join(self.ctid.to_string())
    }

    /// The delegated directory where the VE's init starts.
    pub fn delegated_dir(&self) -> PathBuf {
        self.v2_dir().join(VE)
    }

    /// The directory for processes that the host puts into the VE; the first of them makes it.
    pub fn exec_dir(&self) -> PathBuf {
        self.v2_dir().join(EXEC)
    }

    /// Our directories in the version 1 trees.
    pub fn v1_dirs(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.layout.v1.iter().map(|top| top.join(&self.layout.root).join(self.ctid.to_string()))
    }

    /// The groups that its processes are in, as paths below the top, by controller; version 2's has no name.
    pub fn places(&self) -> BTreeMap<String, String> {
        let group = Path::new("/").join(&self.layout.root).join(self.ctid.to_string());
        let v1 = self.layout.v1_controllers.keys().map(|name| (name.clone(), group.display().to_string()));
        v1.chain([(String::new(), group.join(VE).display().to_string())]).collect()
    }

    /// Our directory in the tree that has a controller, by its name in version 2, and that tree.
    pub fn dir_of(&self, controller: &str) -> SysResult<(Hierarchy<'a>, PathBuf)> {
        let hierarchy = self.layout.controller(controller).ok_or_else(|| {
            SysError::refused("find", format_args!("controller {controller}"), "the kernel has none")
        })?;
        let (Hierarchy::V1(top) | Hierarchy::V2(top)) = hierarchy;
        Ok((hierarchy, top.join(&self.layout.root).join(self.ctid.to_string())))
    }

    /// Our directory in the version 2 tree, and that tree.
    pub fn v2(&self) -> (Hierarchy<'a>, PathBuf) {
        (Hierarchy::V2(&self.layout.v2), self.v2_dir())
    }

    /// Gives each group around the VE's the memory.low that all those in it have together, this VE's
    /// being `value`. `own` is the VE's own file.
    pub fn protect_around(&self, own: &Path, value: u64) -> SysResult<()> {
        static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let ours = self.layout.v2.join(&self.layout.root);
        for dir in ours.ancestors().take_while(|dir| *dir != self.layout.v2) {
            let mut sum = 0_u64;
            for child in children(dir)? {
                let file = child.join("memory.low");
                let low = match own.starts_with(&child) && dir == ours {
                    true => value,
                    false => match read(&file) {
                        // It goes just now.
                        Err(e) if e.is_absent() => 0,
                        other => other?.trim().parse().unwrap_or(u64::MAX),
                    },
                };
                sum = sum.saturating_add(low);
            }
            write(&dir.join("memory.low"), &sum.to_string())?;
        }
        Ok(())
    }

    /// Makes them anew for a start, and gives the delegated one to the VE's root (host uid `owner`).
    /// No process may be left in them.
    ///
    /// What a run before left is removed first: a process cloned into a version 2 group that was once
    /// killed as a whole is killed as well (seen on 6.18), and no counter goes on from the last run.
    pub fn renew(&self, owner: u32) -> SysResult<()> {
        let tops = self.v1_dirs().chain([self.v2_dir()]);
        if tops.into_iter().any(|dir| dir.exists())
            && let Some(error) = self.remove().into_iter().next()
        {
            return Err(error);
        }
        self.make(owner)
    }

    fn make(&self, owner: u32) -> SysResult<()> {
        for dir in self.v1_dirs() {
            make_dir(&dir)?;
        }
        let v2 = self.v2_dir();
        make_dir(&v2)?;
        enable_controllers(&v2)?;
        let delegated = self.delegated_dir();
        make_dir(&delegated)?;
        chown(&delegated, Some(owner), Some(owner)).at("chown", delegated.display())?;
        for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            let path = delegated.join(file);
            chown(&path, Some(owner), Some(owner)).at("chown", path.display())?;
        }
        Ok(())
    }

    /// Whether the version 2 directory is there.
    pub fn exists(&self) -> bool {
        self.v2_dir().is_dir()
    }

    /// Whether a version 2 group is ours or below ours, by its path below the top.
    pub fn holds(&self, group: &Path) -> bool {
        group.starts_with(Path::new(&self.layout.root).join(self.ctid.to_string()))
    }

    /// Opens the version 2 directory, for device rules.
    pub fn open(&self) -> SysResult<OwnedFd> {
        let dir = self.v2_dir();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(&dir, flags, rustix::fs::Mode::empty()).at("open", dir.display())
    }

    /// Whether the whole VE is frozen, or about to be.
    pub fn is_frozen(&self) -> SysResult<bool> {
        Ok(read(&self.v2_dir().join("cgroup.freeze"))?.trim() == "1")
    }

    /// Whether any process is in the VE's groups.
    pub fn is_populated(&self) -> SysResult<bool> {
        self.event("populated")
    }

    fn event(&self, name: &str) -> SysResult<bool> {
        let text = read(&self.v2_dir().join("cgroup.events"))?;
        Ok(text.lines().any(|line| line.split_once(' ') == Some((name, "1"))))
    }

    /// Freezes or thaws every process, and waits until the kernel has done it.
    pub fn set_frozen(&self, frozen: bool, timeout: Duration) -> SysResult<()> {
        let path = self.v2_dir().join("cgroup.freeze");
        write(&path, if frozen { "1" } else { "0" })?;
        if self.wait_event("frozen", frozen, timeout)? {
            return Ok(());
        }
        let wish = if frozen { "frozen" } else { "thawed" };
        Err(SysError::refused("wait for", path.display(), format!("not {wish} after {timeout:?}")))
    }

    /// Kills every process, also those a freeze holds.
    pub fn kill(&self) -> SysResult<()> {
        write(&self.v2_dir().join("cgroup.kill"), "1")
    }

    /// Waits until no process is left; tells whether that is so.
    pub fn wait_empty(&self, timeout: Duration) -> SysResult<bool> {
        self.wait_event("populated", false, timeout)
    }

    /// cgroup.events raises POLLPRI when one of its values changes.
    fn wait_event(&self, name: &str, wanted: bool, timeout: Duration) -> SysResult<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let path = self.v2_dir().join("cgroup.events");
        let deadline = Instant::now() + timeout;
        let file = std::fs::File::open(&path).at("open", path.display())?;
        loop {
            let mut buffer = [0_u8; 256];
            let n = rustix::io::pread(&file, &mut buffer, 0).at("read", path.display())?;
            let text = String::from_utf8_lossy(&buffer[..n]);
            if text.lines().any(|line| line.split_once(' ') == Some((name, if wanted { "1" } else { "0" }))) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(SysError::new("poll", path.display(), e)),
            }
        }
    }

    /// Every process in the VE's groups, by host pid.
    pub fn pids(&self) -> SysResult<Vec<i32>> {
        collect_pids(&self.v2_dir())
    }

    /// Removes them, with what the VE made below its own. All errors are returned; what is gone
    /// already is none.
    pub fn remove(&self) -> Vec<SysError> {
        let mut errors: Vec<SysError> = Vec::new();
        for dir in self.v1_dirs() {
            errors.extend(below::remove(&dir).err());
        }
        let own = self.v2_dir().join("memory.low");
        let protected = read(&own).is_ok_and(|low| low.trim() != "0");
        errors.extend(below::remove(&self.v2_dir()).err());
        if protected {
            errors.extend(self.protect_around(&own, 0).err());
        }
        errors
    }
}

fn collect_pids(top: &Path) -> SysResult<Vec<i32>> {
    let mut pids = Vec::new();
    below::each(top, |dir| {
        let text = match below::read_in(dir, "cgroup.procs") {
            Err(e) if e.is_absent() => return Ok(()),
            // A threaded group of the VE's own making; its threads' leaders are listed above it.
            Err(e) if e.errno == libc::EOPNOTSUPP => String::new(),
            other => other?,
        };
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 1));
        Ok(())
    })?;
    Ok(pids)
}

/// How often a group and those below it were refused a task. Version 2 adds that up since Linux 6.12; before that,
/// and in version 1, it is counted where the process was that asked, and goes with that group.
pub fn refused_tasks(dir: &Path) -> u64 {
    let times = |events: &str| {
        events.lines().find_map(|line| line.strip_prefix("max ")?.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    if dir.join("pids.events.local").exists() {
        return read(&dir.join("pids.events")).map_or(0, |events| times(&events));
    }
    let mut refused = 0_u64;
    let counted = below::each(dir, |dir| {
        refused =
            refused.saturating_add(below::read_in(dir, "pids.events").map_or(0, |events| times(&events)));
        Ok(())
    });
    counted.map_or(0, |()| refused)
}

fn children(dir: &Path) -> SysResult<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", dir.display())?,
    };
    let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(dirs.map(|entry| entry.path()).collect())
}
