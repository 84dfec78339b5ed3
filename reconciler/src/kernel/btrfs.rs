//! What only btrfs can do: subvolumes, and limits of their quota groups. What a group uses is read from sysfs, by others.
//!
//! Layouts follow include/uapi/linux/btrfs.h; the calls are those of btrfs-ioctl(2). Whose a subvolume is is not known
//! here.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{SysError, SysResult};

const SNAP_CREATE: libc::c_ulong = 0x5000_9401;
const SUBVOL_CREATE: libc::c_ulong = 0x5000_940e;
const INO_LOOKUP: libc::c_ulong = 0xd000_9412;
const FS_INFO: libc::c_ulong = 0x8400_941f;
const QGROUP_LIMIT: libc::c_ulong = 0x8030_942b;

/// The number of a subvolume's own directory.
pub const FIRST_INODE: u64 = 256;

const LIMIT_REFERENCED: u64 = 1;
/// Takes a limit away.
const CLEAR: u64 = u64::MAX;
/// Of a name, with its end.
const NAME_MOST: usize = 256;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Volume {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct Lookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_fs_info_args`, of which only the file system's id is looked at.
#[repr(C)]
struct Info {
    most_id: u64,
    devices: u64,
    id: [u8; 16],
    rest: [u64; 124],
}

/// `struct btrfs_ioctl_qgroup_limit_args`; group 0 is that of the subvolume it is asked of.
#[repr(C)]
#[derive(Default)]
struct GroupLimit {
    group: u64,
    flags: u64,
    referenced: u64,
    exclusive: u64,
    reserved_referenced: u64,
    reserved_exclusive: u64,
}

/// Makes an empty subvolume in a directory.
pub fn create_subvolume(dir: impl AsFd, name: &OsStr) -> SysResult<()> {
    volume(dir, SUBVOL_CREATE, "make subvolume", name, 0)
}

/// Makes a subvolume in a directory that has all that another one has, and can be written to.
pub fn snapshot(of: impl AsFd, dir: impl AsFd, name: &OsStr) -> SysResult<()> {
    volume(dir, SNAP_CREATE, "make snapshot", name, of.as_fd().as_raw_fd().into())
}

fn volume(dir: impl AsFd, call: libc::c_ulong, op: &str, name: &OsStr, fd: i64) -> SysResult<()> {
    let shown = || Path::new(name).display();
    let bytes = name.as_bytes();
    if bytes.len() >= NAME_MOST {
        return Err(SysError::refused(op, shown(), "the name is too long"));
    }
    let mut args = Volume { fd, name: [0; 4088] };
    args.name[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: `args` has the layout that both calls read, with a name that ends in zero, and outlives the call.
    match unsafe { libc::ioctl(dir.as_fd().as_raw_fd(), call, &raw const args) } {
        0 => Ok(()),
        _ => Err(SysError::new(op, shown(), std::io::Error::last_os_error())),
    }
}

/// The number of the subvolume that a file or directory is in.
pub fn subvolume(of: impl AsFd) -> SysResult<u64> {
    let mut args = Lookup { tree: 0, object: FIRST_INODE, name: [0; 4080] };
    // SAFETY: `args` has the layout that the kernel reads and writes, and outlives the call.
    match unsafe { libc::ioctl(of.as_fd().as_raw_fd(), INO_LOOKUP, &raw mut args) } {
        0 => Ok(args.tree),
        _ => Err(SysError::new("find", "subvolume", std::io::Error::last_os_error())),
    }
}

/// The id of the file system, as sysfs names it; none if it is no btrfs.
pub fn file_system(of: impl AsFd) -> SysResult<Option<String>> {
    let mut info = Info { most_id: 0, devices: 0, id: [0; 16], rest: [0; 124] };
    // SAFETY: `info` has the layout that the kernel writes, and outlives the call.
    if unsafe { libc::ioctl(of.as_fd().as_raw_fd(), FS_INFO, &raw mut info) } != 0 {
        let error = std::io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOTTY | libc::EOPNOTSUPP | libc::EINVAL) => Ok(None),
            _ => Err(SysError::new("look at", "file system", error)),
        };
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let [a, b, c, d, e] =
        [&info.id[..4], &info.id[4..6], &info.id[6..8], &info.id[8..10], &info.id[10..]].map(hex);
    Ok(Some(format!("{a}-{b}-{c}-{d}-{e}")))
}

/// Limits the bytes that a subvolume refers to; none takes the limit away. What is used already stays.
pub fn set_limit(subvolume: impl AsFd, to: Option<u64>) -> SysResult<()> {
    let referenced = to.unwrap_or(CLEAR);
    let args = GroupLimit { flags: LIMIT_REFERENCED, referenced, ..GroupLimit::default() };
    // SAFETY: `args` has the layout that the kernel reads, and outlives the call.
    if unsafe { libc::ioctl(subvolume.as_fd().as_raw_fd(), QGROUP_LIMIT, &raw const args) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        // Not "absent": there are limits to be kept, and nothing keeps them.
        Some(libc::ENOTCONN) => Err(SysError::refused(
            "set limit of",
            "subvolume",
            "quotas of its btrfs are off (btrfs quota enable)",
        )),
        _ => {
            let shown = to.map_or_else(|| "none".to_owned(), |to| to.to_string());
            Err(SysError::new("set limit of", "subvolume", error).value(shown))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<Volume>(), 4096);
        assert_eq!(size_of::<Lookup>(), 4096);
        assert_eq!(size_of::<Info>(), 1024);
        assert_eq!(size_of::<GroupLimit>(), 48);
    }

    #[test]
    fn another_file_system_is_told_from_btrfs() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert_eq!(file_system(&proc).unwrap(), None);
        assert!(subvolume(&proc).is_err_and(|e| !e.is_absent()));
        assert!(create_subvolume(&proc, OsStr::new(&"x".repeat(NAME_MOST))).is_err());
    }
}
