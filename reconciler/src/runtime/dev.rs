//! A VE's /dev: the nodes, links and directories in it, owned by ids of the VE. Must make no node that was not asked for but the
//! safe ones.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};

use super::beneath::{chown, make_dirs, make_point, open_parent};
use super::spec::NodeSpec;
use crate::error::{At, SysError, SysResult};
use crate::kernel::mount::{self, Attr, FsOption};

/// The nodes every VE has: name, major, minor.
const SAFE_NODES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Mount points inside /dev; the VE's first process mounts on them (see `init`).
const DEV_DIRS: &[&str] = &["pts", "shm", "mqueue"];

/// The group that owns terminals in every distribution.
pub(super) const TTY_GROUP: u32 = 5;

/// /dev: a tmpfs of the host's, so that nodes on it open; only the safe ones and those asked for.
pub(super) fn make(base: u32, extra: &[NodeSpec]) -> SysResult<OwnedFd> {
    let owner = base.to_string();
    let options = [
        FsOption::Text("mode", "0755"),
        FsOption::Text("size", "64k"),
        FsOption::Text("nr_inodes", "1024"),
        FsOption::Text("uid", &owner),
        FsOption::Text("gid", &owner),
    ];
    let dev = mount::new_fs("tmpfs", &options, Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC)?;
    for (name, major, minor) in SAFE_NODES {
        let gid = if *name == "tty" { TTY_GROUP } else { 0 };
        let node = NodeSpec {
            path: PathBuf::from(name),
            block: false,
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid,
        };
        make_node(&dev, &node, base)?;
    }
    for node in extra {
        make_node(&dev, node, base)?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(*target, &dev, *name).at("link", name)?;
        chown(&dev, Path::new(name), base, base)?;
    }
    for name in DEV_DIRS {
        rustix::fs::mkdirat(&dev, *name, Mode::from_raw_mode(0o755)).at("make directory", name)?;
        chown(&dev, Path::new(name), base, base)?;
    }
    make_point(&dev, Path::new("console"), FileType::RegularFile)?;
    Ok(dev)
}

/// Makes a device node below `dev` (a VE's /dev), owned by an id of the VE.
pub fn make_node(dev: impl AsFd, node: &NodeSpec, base: u32) -> SysResult<()> {
    let dev = dev.as_fd();
    let shown = format!("/dev/{}", node.path.display());
    let parent = node.path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_dirs(dev, parent, Some(base))?;
    }
    let kind = if node.block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let mode = Mode::from_raw_mode(node.mode);
    let number = rustix::fs::makedev(node.major, node.minor);
    let (dir, name) = open_parent(dev, &node.path)?;
    rustix::fs::mknodat(&dir, name, kind, mode, number).map_err(|e| {
        SysError::new("make device node", &shown, e).value(format_args!("{}:{}", node.major, node.minor))
    })?;
    chown(&dir, Path::new(name), base + node.uid, base + node.gid)?;
    // The creation mode went through the umask.
    rustix::fs::chmodat(&dir, name, mode, rustix::fs::AtFlags::empty()).at("chmod", shown)
}

/// Gives the console of a VE to its root.
pub(super) fn own_console(console: &Path, base: u32) -> SysResult<()> {
    chown(rustix::fs::CWD, console, base, base + TTY_GROUP)
}
