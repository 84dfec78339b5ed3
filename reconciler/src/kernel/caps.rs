//! Capabilities by number: limit what this process and its children can ever have.
//!
//! Sets are bit masks in the kernel's numbering (include/uapi/linux/capability.h). Which capabilities a
//! VE keeps is `vzd_state`'s decision.

use crate::error::{SysError, SysResult};

/// The highest capability this kernel knows.
pub fn last() -> u32 {
    std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(40)
}

/// Drops from the bounding set, and from what this process holds, all capabilities outside `keep`.
///
/// What is dropped from the bounding set cannot come back through exec of any file.
pub fn keep_only(keep: u64) -> SysResult<()> {
    for cap in 0..=last() {
        if keep & (1 << cap) != 0 {
            continue;
        }
        // SAFETY: prctl with integers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(cap), 0, 0, 0) } != 0 {
            return Err(SysError::new("drop capability", cap, std::io::Error::last_os_error()));
        }
    }
    set(keep)
}

/// Makes effective again what is permitted: a change of user takes that away.
pub fn raise() -> SysResult<()> {
    set(u64::MAX)
}

/// `struct __user_cap_header_struct` and two `__user_cap_data_struct`, version 3.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// Reduces the permitted and effective sets to their intersection with `keep`; clears inheritable.
fn set(keep: u64) -> SysResult<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: header and two data structs, as version 3 asks for, outlive both calls.
    let rc = unsafe {
        let mut rc = libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr());
        if rc == 0 {
            for (half, keep) in data.iter_mut().zip([keep & 0xFFFF_FFFF, keep >> 32]) {
                let keep = u32::try_from(keep).unwrap_or_default();
                half.permitted &= keep;
                half.effective = half.permitted;
                half.inheritable = 0;
            }
            header.version = VERSION_3;
            rc = libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr());
        }
        rc
    };
    match rc {
        0 => Ok(()),
        _ => Err(SysError::new("set capabilities", "process", std::io::Error::last_os_error())
            .value(format_args!("{keep:#x}"))),
    }
}
