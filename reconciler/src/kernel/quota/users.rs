//! Quotas of users and groups of a file system, named by its block device: quotactl(2), whose structures are passed on as
//! they are to whoever asked for them. Whose ids are whose is not known here.

use std::ffi::CStr;
use std::io;

use super::{GETQUOTA, Quota, SETQUOTA, VALID_BLOCK_LIMITS, VALID_INODE_LIMITS};

/// What a quota is of: the type in a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A user.
    User = 0,
    /// A group.
    Group = 1,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::User, Kind::Group];
}

const GETFMT: libc::c_uint = 0x80_0004;
const GETINFO: libc::c_uint = 0x80_0005;
const GETNEXTQUOTA: libc::c_uint = 0x80_0009;

/// What of a quota may be set: limits, and when grace ends. Not what is used.
pub const SETTABLE: u32 = VALID_BLOCK_LIMITS | VALID_INODE_LIMITS | VALID_BLOCK_TIME | VALID_INODE_TIME;
/// In [`Quota::valid`]: when grace for space ends.
pub const VALID_BLOCK_TIME: u32 = 16;
/// In [`Quota::valid`]: when grace for inodes ends.
pub const VALID_INODE_TIME: u32 = 32;
/// In [`Info::valid`].
pub const VALID_SPACE_GRACE: u32 = 1;
/// In [`Info::valid`].
pub const VALID_INODES_GRACE: u32 = 2;

impl Quota {
    /// Whether it limits anything.
    pub fn limits(&self) -> bool {
        [self.space_hard, self.space_soft, self.inodes_hard, self.inodes_soft].iter().any(|limit| *limit != 0)
    }
}

/// `struct if_dqinfo`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Info {
    /// Grace for space, in seconds.
    pub space_grace: u64,
    /// Grace for inodes, in seconds.
    pub inodes_grace: u64,
    /// `DQF_*`.
    pub flags: u32,
    /// Which of these mean something.
    pub valid: u32,
}

fn quotactl<T>(device: &CStr, command: libc::c_uint, kind: Kind, id: u32, mut data: T) -> io::Result<T> {
    let command = (command << 8) | kind as libc::c_uint;
    // SAFETY: `data` is the structure of this command (see the callers) and outlives the call.
    match unsafe { libc::syscall(libc::SYS_quotactl, command, device.as_ptr(), id, &raw mut data) } {
        0 => Ok(data),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Use and limits of an id. XFS does not know one that has nothing.
pub fn get(device: &CStr, kind: Kind, id: u32) -> io::Result<Quota> {
    let none = Quota { id, ..Quota::default() };
    match quotactl(device, GETQUOTA, kind, id, none) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(none),
        other => other.map(|quota| Quota { id, ..quota }),
    }
}

/// Use and limits of the first id from `id` on that has a quota; ENOENT when there is none.
pub fn next(device: &CStr, kind: Kind, id: u32) -> io::Result<Quota> {
    quotactl(device, GETNEXTQUOTA, kind, id, Quota::default())
}

/// Sets of a quota what its `valid` names.
pub fn set(device: &CStr, kind: Kind, id: u32, quota: Quota) -> io::Result<()> {
    quotactl(device, SETQUOTA, kind, id, quota).map(drop)
}

/// Grace times and flags of the file system's quotas.
pub fn info(device: &CStr, kind: Kind) -> io::Result<Info> {
    quotactl(device, GETINFO, kind, 0, Info::default())
}

/// The format of the file system's quotas, as a number.
pub fn format(device: &CStr, kind: Kind) -> io::Result<u32> {
    quotactl(device, GETFMT, kind, 0, 0)
}

/// All ids of a range that have a quota.
pub fn each(
    device: &CStr,
    kind: Kind,
    range: std::ops::Range<u32>,
) -> impl Iterator<Item = io::Result<Quota>> {
    let mut from = Some(range.start);
    std::iter::from_fn(move || match next(device, kind, from?) {
        Ok(quota) if quota.id < range.end => {
            from = quota.id.checked_add(1);
            Some(Ok(quota))
        }
        Err(e) if e.raw_os_error() != Some(libc::ENOENT) => {
            from = None;
            Some(Err(e))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<Info>(), 24);
    }

    #[test]
    fn what_is_no_device_has_no_quotas() {
        get(c"/dev/null", Kind::User, 1).unwrap_err();
        assert!(each(c"/dev/null", Kind::Group, 1..9).all(|one| one.is_err()));
        assert_eq!(each(c"/dev/null", Kind::Group, 1..9).count(), 1);
    }
}
