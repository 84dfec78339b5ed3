//! What only ext4 can do: growing while it is mounted.

use std::os::fd::{AsFd, AsRawFd};

use crate::error::{SysError, SysResult};

const RESIZE: libc::c_ulong = 0x4008_6610;

/// Enlarges the file system that is mounted at `mount` to so many of its blocks; the device has to have them. Needs
/// CAP_SYS_RESOURCE.
pub fn grow(mount: impl AsFd, blocks: u64) -> SysResult<()> {
    // A descriptor of the mount itself takes no ioctl: its root directory does.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let root = rustix::fs::openat(&mount, ".", flags, rustix::fs::Mode::empty())
        .map_err(|e| SysError::new("open", "root of the file system", e))?;
    // SAFETY: the kernel reads a 64-bit number, which outlives the call.
    match unsafe { libc::ioctl(root.as_raw_fd(), RESIZE, &raw const blocks) } {
        0 => Ok(()),
        _ => {
            let error = std::io::Error::last_os_error();
            Err(SysError::new("enlarge", "ext4 file system", error).value(blocks))
        }
    }
}
