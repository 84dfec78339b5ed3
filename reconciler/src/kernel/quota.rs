//! Quotas of projects: quotactl_fd(2) (Linux 5.14), and the project that a directory gives to what is made in it.
//! Those of users and groups are in [`users`].
//!
//! Works alike on ext4 and XFS. Which project is whose is not known here. Layouts follow include/uapi/linux/quota.h,
//! dqblk_xfs.h and fs.h.

pub mod users;

use std::os::fd::{AsFd, AsRawFd};

use crate::error::{SysError, SysResult};

const PROJECT: libc::c_uint = 2;
const GETQUOTA: libc::c_uint = 0x80_0007;
const SETQUOTA: libc::c_uint = 0x80_0008;
/// XFS's own call, which every file system answers: what is counted, and what is limited.
const XGETQSTATV: libc::c_uint = 0x5808;
const STATV_VERSION1: i8 = 1;
const USERS_ENFORCED: u16 = 1 << 1;
const GROUPS_ENFORCED: u16 = 1 << 3;
const PROJECT_ENFORCED: u16 = 1 << 5;

const VALID_BLOCK_LIMITS: u32 = 1;
const VALID_INODE_LIMITS: u32 = 4;
/// Limits of space are told in these.
const UNIT: u64 = 1024;

const GET_ATTRIBUTES: libc::c_ulong = 0x801c_581f;
const SET_ATTRIBUTES: libc::c_ulong = 0x401c_5820;
const INHERIT_PROJECT: u32 = 0x200;

/// `struct if_dqblk`, and `struct if_nextdqblk` with an id where the former has padding.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// In KiB.
    pub space_hard: u64,
    /// In KiB.
    pub space_soft: u64,
    /// In bytes.
    pub space_used: u64,
    /// How many.
    pub inodes_hard: u64,
    /// How many.
    pub inodes_soft: u64,
    /// How many.
    pub inodes_used: u64,
    /// When grace ends, in seconds since 1970.
    pub space_time: u64,
    /// When grace ends, in seconds since 1970.
    pub inodes_time: u64,
    /// Which of these mean something.
    pub valid: u32,
    /// Whose it is, in an answer to [`users::next`].
    pub id: u32,
}

/// `struct fs_quota_statv`, of which only the flags are looked at.
#[repr(C)]
struct State {
    version: i8,
    pad: u8,
    flags: u16,
    rest: [u64; 19],
}

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    pad: [u8; 8],
}

/// Use and limits of a project; a limit of none is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes used.
    pub space: u64,
    /// Bytes at most.
    pub space_limit: Option<u64>,
    /// Inodes used.
    pub inodes: u64,
    /// Inodes at most.
    pub inodes_limit: Option<u64>,
}

/// A limit to set, at least 1; none for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Bytes, in units of 1 KiB.
    Space(Option<u64>),
    /// Inodes.
    Inodes(Option<u64>),
}

fn quotactl<T>(fs: impl AsFd, command: libc::c_uint, id: u32, data: &mut T) -> std::io::Result<()> {
    let (fd, command) = (fs.as_fd().as_raw_fd(), (command << 8) | PROJECT);
    // SAFETY: `data` is the structure of this command (see the callers) and outlives the call.
    match unsafe { libc::syscall(libc::SYS_quotactl_fd, fd, command, id, std::ptr::from_mut(data)) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Whether the file system that `fs` lies on limits projects.
pub fn limits_projects(fs: impl AsFd) -> bool {
    limits(fs, PROJECT_ENFORCED)
}

/// Whether the file system that `fs` lies on limits users and groups.
pub fn limits_users(fs: impl AsFd) -> bool {
    limits(fs, USERS_ENFORCED | GROUPS_ENFORCED)
}

fn limits(fs: impl AsFd, all: u16) -> bool {
    let mut state = State { version: STATV_VERSION1, pad: 0, flags: 0, rest: [0; 19] };
    quotactl(fs, XGETQSTATV, 0, &mut state).is_ok() && state.flags & all == all
}

/// Reads use and limits of a project.
pub fn usage(fs: impl AsFd, project: u32) -> SysResult<Usage> {
    let mut quota = Quota::default();
    match quotactl(fs, GETQUOTA, project, &mut quota) {
        Ok(()) => {}
        // XFS does not know a project that has nothing.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
        Err(e) => return Err(failed("read quota of", project, e)),
    }
    let limit = |limit: u64| (limit != 0).then_some(limit);
    Ok(Usage {
        space: quota.space_used,
        space_limit: limit(quota.space_hard.saturating_mul(UNIT)),
        inodes: quota.inodes_used,
        inodes_limit: limit(quota.inodes_hard),
    })
}

/// Sets a limit of a project, hard and at once. What is used already stays.
pub fn set_limit(fs: impl AsFd, project: u32, limit: Limit) -> SysResult<()> {
    let (mut quota, shown) = match limit {
        Limit::Space(to) => {
            let space_hard = to.map_or(0, |to| to / UNIT);
            (Quota { space_hard, valid: VALID_BLOCK_LIMITS, ..Quota::default() }, to)
        }
        Limit::Inodes(to) => {
            let inodes_hard = to.unwrap_or(0);
            (Quota { inodes_hard, valid: VALID_INODE_LIMITS, ..Quota::default() }, to)
        }
    };
    let shown = shown.map_or_else(|| "none".to_owned(), |to| to.to_string());
    quotactl(fs, SETQUOTA, project, &mut quota).map_err(|e| failed("set quota of", project, e).value(shown))
}

fn failed(op: &str, project: u32, error: std::io::Error) -> SysError {
    let object = format!("project {project}");
    match error.raw_os_error() {
        // Not "absent": there are limits to be kept, and nothing keeps them.
        Some(libc::ESRCH | libc::ENOSYS) => {
            SysError::refused(op, object, "its file system is not mounted with quotas of projects (prjquota)")
        }
        _ => SysError::new(op, object, error),
    }
}

/// Puts an empty directory into a project, and with it all that is made in it.
pub fn set_project(dir: impl AsFd, project: u32) -> SysResult<()> {
    let fd = dir.as_fd().as_raw_fd();
    let object = format!("project {project}");
    let mut attributes = Attributes::default();
    // SAFETY: `attributes` has the layout that the kernel writes and outlives the call.
    if unsafe { libc::ioctl(fd, GET_ATTRIBUTES, &raw mut attributes) } != 0 {
        let error = std::io::Error::last_os_error();
        return Err(SysError::new("read attributes of a directory for", object, error));
    }
    attributes.flags |= INHERIT_PROJECT;
    attributes.project = project;
    // SAFETY: as above; the kernel only reads it.
    match unsafe { libc::ioctl(fd, SET_ATTRIBUTES, &raw const attributes) } {
        0 => Ok(()),
        _ => Err(SysError::new("put a directory into", object, std::io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<Quota>(), 72);
        assert_eq!(size_of::<State>(), 160);
        assert_eq!(size_of::<Attributes>(), 28);
    }

    #[test]
    fn a_file_system_without_quota_is_told_from_one_with() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(!limits_projects(&proc));
        assert!(usage(&proc, 1).is_err_and(|e| !e.is_absent()));
    }
}
