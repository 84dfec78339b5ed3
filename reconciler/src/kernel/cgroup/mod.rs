//! Control groups of VEs, on version 2 alone and on hybrid hosts.
//!
//! A VE owns `<root>/<ctid>` in every hierarchy: limits and device rules sit there, out of its reach.
//! In the version 2 tree its processes live one level below, in `ve` (delegated: the VE's own root owns
//! it and sees it as `/`) and `exec` (processes that the host put in). Whole-VE freezing and killing
//! are the version 2 core's, which needs no controller, so they work on hybrid hosts as well.
//! Version 1 controllers are joined where they are mounted. This file finds the hierarchies; `ve` is
//! about one VE; `usage` reads what it uses.

mod below;
mod usage;
mod ve;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

pub use usage::{Io, Usage};
pub use ve::{VeCgroup, refused_tasks};

use crate::error::{At, SysError, SysResult};

/// Where the hierarchies of this host are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The version 2 tree.
    pub v2: PathBuf,
    /// Version 1 trees that VEs join: mount points, one per hierarchy.
    pub v1: Vec<PathBuf>,
    /// Our subtree in each of them.
    pub root: String,
    /// The mount points of version 1 trees by the controllers in them.
    v1_controllers: BTreeMap<String, PathBuf>,
    /// Controllers of the version 2 tree.
    v2_controllers: BTreeSet<String>,
    /// Protection of memory reaches the groups that a VE makes (mount option memory_recursiveprot).
    pub protects_below: bool,
}

/// Where a controller's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy<'a> {
    /// In a version 1 tree, mounted here.
    V1(&'a Path),
    /// In the version 2 tree.
    V2(&'a Path),
}

impl Layout {
    /// Finds the hierarchies. `root` is the path of our subtree in each of them.
    pub fn find(root: &str) -> SysResult<Self> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").at("read", "/proc/self/mountinfo")?;
        let mut layout = Layout::from_mountinfo(&text, root)?;
        let controllers = read(&layout.v2.join("cgroup.controllers"))?;
        layout.v2_controllers = controllers.split_whitespace().map(str::to_owned).collect();
        Ok(layout)
    }

    /// Where a controller is, by its name in version 2.
    pub fn controller(&self, name: &str) -> Option<Hierarchy<'_>> {
        let v1_name = if name == "io" { "blkio" } else { name };
        match self.v1_controllers.get(v1_name) {
            Some(top) => Some(Hierarchy::V1(top)),
            None => self.v2_controllers.contains(name).then_some(Hierarchy::V2(&self.v2)),
        }
    }

    fn from_mountinfo(text: &str, root: &str) -> SysResult<Self> {
        if root.is_empty() || root.starts_with('/') || root.split('/').any(|part| part == "..") {
            return Err(SysError::refused("use cgroup root", root, "it must be a relative path"));
        }
        let (mut v2, mut v1) = (None, Vec::new());
        let (mut v1_controllers, mut protects_below) = (BTreeMap::new(), false);
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(target) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut right = right.split(' ');
            let (kind, options) = (right.next().unwrap_or_default(), right.nth(1).unwrap_or_default());
            match kind {
                "cgroup2" if v2.is_none() => {
                    protects_below = options.split(',').any(|option| option == "memory_recursiveprot");
                    v2 = Some(target);
                }
                // Device rules are a program on the version 2 tree, whose core freezes too; a named hierarchy
                // has no controller.
                "cgroup"
                    if options
                        .split(',')
                        .any(|o| matches!(o, "devices" | "freezer") || o.starts_with("name=")) => {}
                "cgroup" => {
                    v1_controllers
                        .extend(options.split(',').map(|option| (option.to_owned(), target.clone())));
                    v1.push(target);
                }
                _ => {}
            }
        }
        let v2 = v2.ok_or_else(|| {
            SysError::refused("find", "a cgroup version 2 mount", "none is mounted; vzd needs one")
        })?;
        let (root, v2_controllers) = (root.to_owned(), BTreeSet::new());
        Ok(Layout { v2, v1, root, v1_controllers, v2_controllers, protects_below })
    }

    /// Whether version 1 controllers are in use beside version 2.
    pub fn is_hybrid(&self) -> bool {
        !self.v1.is_empty()
    }

    /// Makes our subtree in each hierarchy.
    pub fn make_root(&self) -> SysResult<()> {
        for top in &self.v1 {
            let mut dir = top.clone();
            for part in Path::new(&self.root) {
                let parent = dir.clone();
                dir.push(part);
                make_dir(&dir)?;
                give_cpus(&parent, &dir)?;
            }
        }
        let mut dir = self.v2.clone();
        enable_controllers(&dir)?;
        for part in Path::new(&self.root) {
            dir.push(part);
            make_dir(&dir)?;
            enable_controllers(&dir)?;
        }
        Ok(())
    }

    /// Begins, in another thread, the wait that the first move of a process between version 1 groups has
    /// to go through after a quiet while (a grace period of the kernel's, several milliseconds), so that a
    /// start finds it over. This process is moved to where it is already. A version 2 group is cloned
    /// into, which waits for nothing.
    pub fn expect_moves(&self) {
        static MOVER: OnceLock<SyncSender<PathBuf>> = OnceLock::new();
        let Some(procs) = self.own_procs() else { return };
        let mover = MOVER.get_or_init(|| {
            let (order, orders) = sync_channel::<PathBuf>(1);
            let move_here = move || orders.iter().for_each(|procs| drop(std::fs::write(procs, "0")));
            // Without the thread a start only takes longer.
            drop(std::thread::Builder::new().name("cgroups".into()).stack_size(64 * 1024).spawn(move_here));
            order
        });
        // One that is about to begin serves this start too.
        drop(mover.try_send(procs));
    }

    /// cgroup.procs of the group of the first version 1 hierarchy that this process is in.
    fn own_procs(&self) -> Option<PathBuf> {
        let top = self.v1.first()?;
        let controller = top.file_name()?.to_str()?.split(',').next()?;
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = own.lines().find_map(|line| {
            let (_, line) = line.split_once(':')?;
            let (controllers, path) = line.split_once(':')?;
            controllers.split(',').any(|one| one == controller).then_some(path)
        })?;
        Some(top.join(path.trim_start_matches('/')).join("cgroup.procs"))
    }

    /// The control groups of one VE.
    pub fn ve(&self, ctid: u32) -> VeCgroup<'_> {
        VeCgroup::new(self, ctid)
    }

    /// The numeric ids that have a directory in our subtree.
    pub fn ctids(&self) -> SysResult<Vec<u32>> {
        let dir = self.v2.join(&self.root);
        let entries = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.at("list", dir.display())?,
        };
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// Removes our subtree where it holds no VE any more; the kernel refuses it where it does.
    pub fn remove_root_if_empty(&self) {
        for top in self.v1.iter().chain([&self.v2]) {
            let _ = std::fs::remove_dir(top.join(&self.root));
        }
    }
}

/// Gives a group of the version 1 cpuset hierarchy its parent's CPUs and memory nodes where it has none: it is made with
/// none, and one below it could have none either. Groups made in it later start with its own.
fn give_cpus(parent: &Path, dir: &Path) -> SysResult<()> {
    if !dir.join("cpuset.cpus").exists() {
        return Ok(());
    }
    for file in ["cpuset.mems", "cpuset.cpus"] {
        if read(&dir.join(file))?.trim().is_empty() {
            write(&dir.join(file), read(&parent.join(file))?.trim())?;
        }
    }
    write(&dir.join("cgroup.clone_children"), "1")
}

/// Hands all controllers of a version 2 directory on to its children.
fn enable_controllers(dir: &Path) -> SysResult<()> {
    let wanted = read(&dir.join("cgroup.controllers"))?;
    let enabled = read(&dir.join("cgroup.subtree_control"))?;
    for controller in wanted.split_whitespace() {
        // Domain controllers only count whole pages or tasks; hugetlb and rdma have nothing for a VE.
        let useful = matches!(controller, "cpu" | "cpuset" | "io" | "memory" | "pids");
        if useful && !enabled.split_whitespace().any(|have| have == controller) {
            write(&dir.join("cgroup.subtree_control"), &format!("+{controller}"))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> SysResult<String> {
    std::fs::read_to_string(path).at("read", path.display())
}

/// Writes a value to a file of a control group. One that is not there is absent: the kernel would tell of the try to
/// make it as of a right that is missing.
pub fn write(path: &Path, value: &str) -> SysResult<()> {
    let mut file = std::fs::OpenOptions::new();
    let written =
        file.write(true).truncate(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|e| SysError::new("write", path.display(), e).value(value.trim()))
}

fn make_dir(path: &Path) -> SysResult<()> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(SysError::new("make cgroup", path.display(), e))
        }
        _ => Ok(()),
    }
}

fn remove_dir(path: &Path) -> SysResult<()> {
    match std::fs::remove_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(SysError::new("remove cgroup", path.display(), e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
26 25 0:23 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
27 25 0:24 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
28 25 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
29 25 0:27 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio
30 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_host_is_recognised() {
        let layout = Layout::from_mountinfo(HYBRID, "vzd").unwrap();
        assert_eq!(layout.v2, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(layout.v1, [Path::new("/sys/fs/cgroup/cpu"), Path::new("/sys/fs/cgroup/blkio")]);
        assert!(layout.is_hybrid());
        assert_eq!(layout.controller("cpu"), Some(Hierarchy::V1(Path::new("/sys/fs/cgroup/cpu"))));
        assert_eq!(layout.controller("io"), Some(Hierarchy::V1(Path::new("/sys/fs/cgroup/blkio"))));
        assert_eq!(layout.controller("pids"), None);
    }

    #[test]
    fn a_host_with_version_2_alone_is_recognised() {
        let text = "25 1 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        let layout = Layout::from_mountinfo(text, "vzd").unwrap();
        assert!(layout.protects_below);
        assert!(!layout.is_hybrid());
    }

    #[test]
    fn a_root_outside_is_refused() {
        for root in ["", "/vzd", "a/../../b"] {
            assert!(Layout::from_mountinfo(HYBRID, root).is_err(), "{root}");
        }
    }
}
