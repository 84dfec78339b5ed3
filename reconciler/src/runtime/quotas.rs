//! Quotas of a VE's own users and groups, set by its root with the ordinary tools.
//!
//! The kernel keeps them, on the file system that the VE's files lie on, for the ids that the VE's are on the host. It
//! takes orders from the host's root alone, so a process of the host's answers for it: each quotactl(2) of the VE comes
//! here ([`supervise`]), ids are shifted into the VE's range, and nothing outside of that is told or changed.
//!
//! It reads the memory of a hostile process and may be made to wait for ever by that: it is a process of its own for each
//! filter, and nobody waits for it. The tools look for a device that is mounted with quotas: [`DEVICE`] is a node to be
//! looked at only, and [`mounts`] what they read instead of /proc/mounts.

mod graces;
mod kept;
mod layout;

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{At, SysError, SysResult};
use crate::kernel::quota::Quota;
use crate::kernel::quota::users::{self, Kind};
use crate::kernel::seccomp::notify::{Call, Heard, Listener};
use crate::kernel::{caps, process};
use graces::Graces;
pub use graces::forget;
pub use kept::Kept;
use layout::{bytes_of, bytes_of_info, info_of, quota_of};

/// After this, what could not be done about grace times is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(20);

/// The name of the VE's root as a device, inside it.
pub const DEVICE: &str = "/dev/vzroot";

/// What the tools read instead of /proc/mounts: the root first, and what every VE has beside it.
pub fn mounts() -> String {
    format!(
        "{DEVICE} / ext4 rw,relatime,usrquota,grpquota 0 0\n\
         proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n\
         sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime 0 0\n\
         tmpfs /dev tmpfs rw,nosuid,noexec,relatime 0 0\n\
         devpts /dev/pts devpts rw,nosuid,noexec,relatime 0 0\n\
         tmpfs /dev/shm tmpfs rw,nosuid,nodev 0 0\n\
         tmpfs /run tmpfs rw,nosuid,nodev 0 0\n"
    )
}

/// Whose quotas are kept where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserQuotas {
    /// The block device of the file system.
    pub device: PathBuf,
    /// Where the VE's grace times are noted: its directory.
    pub dir: PathBuf,
    /// First host id of the VE's range.
    pub base: u32,
    /// Ids in it.
    pub count: u32,
    /// So many of them may have limits, users and groups together.
    pub most: u32,
}

impl UserQuotas {
    /// Its ids on the host.
    fn ids(&self) -> std::ops::Range<u32> {
        self.base..self.base.saturating_add(self.count)
    }
}

/// Answers the calls of a filter until none of its processes is left. Runs in a process of its own, which is the host's
/// root and keeps nothing of what it was forked from.
pub fn supervise(listener: &Listener, quotas: &UserQuotas) -> i32 {
    let served = stand_alone(listener).and_then(|()| {
        let device = CString::new(quotas.device.as_os_str().as_bytes())
            .map_err(|e| SysError::refused("use", quotas.device.display(), e))?;
        let graces = Graces::of(quotas, &device);
        let mut due = Instant::now();
        loop {
            if due <= Instant::now() {
                // What can't be read or set now is tried again.
                due = Instant::now() + graces.settle().unwrap_or(TRY_AGAIN);
            }
            match listener.next(due)? {
                Heard::Call(call) => {
                    let answer = Caller::of(&call, listener).and_then(|caller| {
                        let [command, special, id, address, ..] = call.args;
                        let asked =
                            Asked { device: &device, quotas, graces: &graces, caller: &caller, address };
                        asked.answer(low(command), special, low(id))
                    });
                    listener.answer(&call, answer);
                    // A shorter time may have been set.
                    if is_about_graces(&call) {
                        due = Instant::now();
                    }
                }
                Heard::Nothing => {}
                Heard::End => return Ok(()),
            }
        }
    });
    i32::from(served.is_err())
}

fn is_about_graces(call: &Call) -> bool {
    low(call.args[0]) >> 8 == SETINFO
}

/// Nothing of its parent's is held open, its terminal's signals do not reach it, and it keeps the rights to set quotas,
/// and to open, read and write the memory of whoever asks.
fn stand_alone(listener: &Listener) -> SysResult<()> {
    const DAC_OVERRIDE: u64 = 1 << 1;
    const SYS_PTRACE: u64 = 1 << 19;
    const SYS_ADMIN: u64 = 1 << 21;
    process::close_all_but(&[std::os::fd::AsFd::as_fd(listener).as_raw_fd()])?;
    let null = File::options().read(true).write(true).open("/dev/null").at("open", "/dev/null")?;
    process::set_stdio(&null.into())?;
    // It fails for the leader of a group, which nobody made this one.
    let _ = nix::unistd::setsid();
    rustix::process::chdir("/").at("enter", "/")?;
    process::default_signals();
    process::unblock_signals()?;
    caps::keep_only(DAC_OVERRIDE | SYS_PTRACE | SYS_ADMIN)
}

/// The kernel looks at no more of these.
#[expect(clippy::cast_possible_truncation, reason = "the upper half of the register means nothing")]
fn low(argument: u64) -> u32 {
    argument as u32
}

/// Who asks.
struct Caller {
    memory: File,
    user: u32,
    groups: Vec<u32>,
}

impl Caller {
    fn of(call: &Call, listener: &Listener) -> Result<Self, i32> {
        let gone = |_| libc::ESRCH;
        let memory = File::options().read(true).write(true).open(format!("/proc/{}/mem", call.pid));
        let status = std::fs::read_to_string(format!("/proc/{}/status", call.pid));
        let (memory, status) = (memory.map_err(gone)?, status.map_err(gone)?);
        // What was opened by number is the caller's only if it still waits.
        if !listener.waits(call) {
            return Err(libc::ESRCH);
        }
        let (user, groups) = credentials(&status).ok_or(libc::EPERM)?;
        Ok(Self { memory, user, groups })
    }

    fn read<const N: usize>(&self, address: u64) -> Result<[u8; N], i32> {
        let mut bytes = [0; N];
        self.memory.read_exact_at(&mut bytes, address).map_err(|_| libc::EFAULT)?;
        Ok(bytes)
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), i32> {
        self.memory.write_all_at(bytes, address).map_err(|_| libc::EFAULT)
    }

    /// Whether the text at an address is this one.
    fn says(&self, address: u64, text: &str) -> bool {
        let mut there = vec![0; text.len() + 1];
        let read = self.memory.read_exact_at(&mut there, address).is_ok();
        read && there.split_last() == Some((&0, text.as_bytes()))
    }
}

/// The effective user, and the effective group with all others, of /proc/PID/status.
fn credentials(status: &str) -> Option<(u32, Vec<u32>)> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let effective = |name: &str| field(name)?.split_whitespace().nth(1)?.parse().ok();
    let others = field("Groups:")?.split_whitespace().filter_map(|id| id.parse().ok());
    Some((effective("Uid:")?, others.chain([effective("Gid:")?]).collect()))
}

// Commands of quotactl(2): include/uapi/linux/quota.h.
const SYNC: u32 = 0x80_0001;
const QUOTAON: u32 = 0x80_0002;
const QUOTAOFF: u32 = 0x80_0003;
const GETFMT: u32 = 0x80_0004;
const GETINFO: u32 = 0x80_0005;
const SETINFO: u32 = 0x80_0006;
const GETQUOTA: u32 = 0x80_0007;
const SETQUOTA: u32 = 0x80_0008;
const GETNEXTQUOTA: u32 = 0x80_0009;

/// One call.
struct Asked<'a> {
    device: &'a CString,
    quotas: &'a UserQuotas,
    graces: &'a Graces<'a>,
    caller: &'a Caller,
    address: u64,
}

impl Asked<'_> {
    fn answer(&self, command: u32, special: u64, id: u32) -> Result<(), i32> {
        let kind = match command & 0xff {
            0 => Kind::User,
            1 => Kind::Group,
            _ => return Err(libc::EINVAL),
        };
        match command >> 8 {
            // They are in memory as they are on disk.
            SYNC => return Ok(()),
            _ if !self.caller.says(special, DEVICE) => return Err(libc::ENODEV),
            // They always are, and never are not.
            QUOTAON if self.is_root() => return Err(libc::EBUSY),
            QUOTAON | QUOTAOFF => return Err(libc::EPERM),
            GETFMT => {
                let format = users::format(self.device, kind).map_err(errno)?;
                return self.caller.write(self.address, &format.to_ne_bytes());
            }
            GETINFO => {
                let info = self.graces.info(kind).map_err(|e| e.errno)?;
                return self.caller.write(self.address, &bytes_of_info(&info));
            }
            SETINFO if self.is_root() => {
                let info = info_of(&self.caller.read(self.address)?);
                return self.graces.set_info(kind, &info).map_err(|e| e.errno);
            }
            SETINFO => return Err(libc::EPERM),
            _ => {}
        }
        let host_id = self.on_host(id)?;
        match command >> 8 {
            GETQUOTA if self.is_root() || self.is_own(kind, host_id) => {
                self.tell(kind, users::get(self.device, kind, host_id).map_err(errno)?)
            }
            GETNEXTQUOTA if self.is_root() => {
                self.tell(kind, users::next(self.device, kind, host_id).map_err(errno)?)
            }
            SETQUOTA if self.is_root() => {
                let quota = quota_of(&self.caller.read(self.address)?);
                self.set(kind, host_id, Quota { valid: quota.valid & users::SETTABLE, ..quota })
            }
            GETQUOTA | GETNEXTQUOTA | SETQUOTA => Err(libc::EPERM),
            _ => Err(libc::EINVAL),
        }
    }

    fn on_host(&self, id: u32) -> Result<u32, i32> {
        let there = (id < self.quotas.count).then(|| self.quotas.base.checked_add(id)).flatten();
        there.ok_or(libc::EINVAL)
    }

    /// The VE's root: it is told by its id on the host, which no other user namespace can give.
    fn is_root(&self) -> bool {
        self.caller.user == self.quotas.base
    }

    fn is_own(&self, kind: Kind, host_id: u32) -> bool {
        match kind {
            Kind::User => self.caller.user == host_id,
            Kind::Group => self.caller.groups.contains(&host_id),
        }
    }

    fn tell(&self, kind: Kind, quota: Quota) -> Result<(), i32> {
        let id = quota.id.checked_sub(self.quotas.base).filter(|id| *id < self.quotas.count);
        let id = id.ok_or(libc::ENOENT)?;
        let told = self.graces.told(kind, quota).map_err(|e| e.errno)?;
        self.caller.write(self.address, &bytes_of(&Quota { id, ..told }))
    }

    fn set(&self, kind: Kind, host_id: u32, quota: Quota) -> Result<(), i32> {
        let is_new = quota.limits() && !users::get(self.device, kind, host_id).map_err(errno)?.limits();
        if is_new && self.limited()? >= self.quotas.most {
            return Err(libc::EDQUOT);
        }
        self.graces.set(kind, host_id, quota).map_err(|e| e.errno)
    }

    /// How many of the VE's users and groups have limits.
    fn limited(&self) -> Result<u32, i32> {
        let mut limited = 0;
        for kind in Kind::ALL {
            for quota in users::each(self.device, kind, self.quotas.ids()) {
                limited += u32::from(quota.map_err(errno)?.limits());
            }
        }
        Ok(limited)
    }
}

fn errno(error: std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_read_from_the_kernel() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n";
        assert_eq!(credentials(status), Some((2, vec![9, 10, 6])));
        assert_eq!(credentials("Uid:\t1\n"), None);
    }

    #[test]
    fn the_root_comes_first_among_the_mounts() {
        let mounts = mounts();
        assert!(mounts.starts_with("/dev/vzroot / ext4 "));
        assert!(mounts.lines().all(|line| line.split(' ').count() == 6));
    }
}
