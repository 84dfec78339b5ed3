//! `guest quota KIND ID [HARD]` and `guest grace KIND [SECONDS]`: quotas of users and groups as the tools of package quota set
//! and read them, by quotactl(2) on the device that vzd shows. What there is afterwards is told.

use serde::Serialize;

use crate::sys::{Arg, Block, Errno, call, text};

const DEVICE: &str = "/dev/vzroot";
const GETINFO: i64 = 0x80_0005;
const SETINFO: i64 = 0x80_0006;
const GETQUOTA: i64 = 0x80_0007;
const SETQUOTA: i64 = 0x80_0008;
/// In both structures: that of space.
const SPACE: u32 = 1;

/// Places in `struct if_dqblk`.
mod part {
    pub(super) const HARD: usize = 0;
    pub(super) const USED: usize = 16;
    pub(super) const VALID: usize = 64;
}

/// Places in `struct if_dqinfo`.
mod info {
    pub(super) const SPACE: usize = 0;
    pub(super) const VALID: usize = 20;
}

/// What a user or group may take of space.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    /// In KiB.
    hard: u64,
    /// In bytes.
    used: u64,
}

/// `user` or `group`, by its number in a command.
pub(crate) fn kind(name: &str) -> Option<i64> {
    ["user", "group"].iter().position(|is| *is == name).and_then(|at| i64::try_from(at).ok())
}

fn quotactl(command: i64, kind: i64, id: i64, data: &mut Block) -> Result<(), Errno> {
    let device = text(DEVICE);
    let command = Arg::Int(command << 8 | kind);
    call(libc::SYS_quotactl, [command, Arg::Text(&device), Arg::Int(id), Arg::Block(data)]).map(drop)
}

fn number(block: &Block, at: usize) -> u64 {
    u64::from(block.get_u32(at)) | u64::from(block.get_u32(at + 4)) << 32
}

/// Sets the hard limit of space, in KiB, if one is given.
pub(crate) fn limit(kind: i64, id: i64, hard: Option<u64>) -> Result<Told, Errno> {
    if let Some(hard) = hard {
        let mut block = Block::new();
        block.put_u64(part::HARD, hard).put_u32(part::VALID, SPACE);
        quotactl(SETQUOTA, kind, id, &mut block)?;
    }
    let mut block = Block::new();
    quotactl(GETQUOTA, kind, id, &mut block)?;
    Ok(Told { hard: number(&block, part::HARD), used: number(&block, part::USED) })
}

/// Sets the grace time of space, in seconds, if one is given.
pub(crate) fn grace(kind: i64, seconds: Option<u64>) -> Result<u64, Errno> {
    if let Some(seconds) = seconds {
        let mut block = Block::new();
        block.put_u64(info::SPACE, seconds).put_u32(info::VALID, SPACE);
        quotactl(SETINFO, kind, 0, &mut block)?;
    }
    let mut block = Block::new();
    quotactl(GETINFO, kind, 0, &mut block)?;
    Ok(number(&block, info::SPACE))
}
