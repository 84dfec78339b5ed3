//! Quotas and grace times as a VE's programs write and read them: `struct if_dqblk` and `struct if_dqinfo`, as bytes.

use super::low;
use crate::kernel::quota::Quota;
use crate::kernel::quota::users::Info;

/// In [`Info::flags`]: kept by the file system itself, in no file that one could look at.
const SYS_FILE: u32 = 1 << 16;

/// As the kernel writes it.
pub fn bytes_of(quota: &Quota) -> [u8; 72] {
    let Quota {
        space_hard,
        space_soft,
        space_used,
        inodes_hard,
        inodes_soft,
        inodes_used,
        space_time,
        inodes_time,
        valid,
        id,
    } = *quota;
    let longs = [
        space_hard,
        space_soft,
        space_used,
        inodes_hard,
        inodes_soft,
        inodes_used,
        space_time,
        inodes_time,
        u64::from(valid) | u64::from(id) << 32,
    ];
    words(&longs)
}

/// So many words in the machine's order.
fn words<const N: usize>(longs: &[u64]) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, long) in bytes.chunks_exact_mut(8).zip(longs) {
        to.copy_from_slice(&long.to_le_bytes());
    }
    bytes
}

/// As a caller writes it.
pub fn quota_of(bytes: &[u8; 72]) -> Quota {
    let [
        space_hard,
        space_soft,
        space_used,
        inodes_hard,
        inodes_soft,
        inodes_used,
        space_time,
        inodes_time,
        last,
    ] = longs(bytes);
    Quota {
        space_hard,
        space_soft,
        space_used,
        inodes_hard,
        inodes_soft,
        inodes_used,
        space_time,
        inodes_time,
        valid: low(last),
        id: low(last >> 32),
    }
}

/// The words of a structure in the machine's order.
fn longs<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut longs = [0; N];
    for (long, from) in longs.iter_mut().zip(bytes.chunks_exact(8)) {
        *long = u64::from_le_bytes(from.try_into().unwrap_or_default());
    }
    longs
}

/// As the kernel writes it.
pub fn bytes_of_info(info: &Info) -> [u8; 24] {
    let last = u64::from(info.flags | SYS_FILE) | u64::from(info.valid) << 32;
    words(&[info.space_grace, info.inodes_grace, last])
}

/// As a caller writes it.
pub fn info_of(bytes: &[u8; 24]) -> Info {
    let [space_grace, inodes_grace, last] = longs(bytes);
    Info { space_grace, inodes_grace, flags: low(last), valid: low(last >> 32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_times_are_told_as_they_were_read() {
        let info = Info { space_grace: 1, inodes_grace: u64::MAX, flags: SYS_FILE, valid: 7 };
        assert_eq!(info_of(&bytes_of_info(&info)), info);
    }

    #[test]
    fn a_quota_is_told_as_it_was_read() {
        let quota = Quota { space_hard: 1, inodes_time: u64::MAX, valid: 63, id: 7, ..Quota::default() };
        assert_eq!(quota_of(&bytes_of(&quota)), quota);
    }
}
