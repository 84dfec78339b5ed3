//! Loop devices: files as block devices, which go by themselves with their last user.
//!
//! Every device is attached with AUTOCLEAR: whoever has it open or mounted keeps it, and when nobody does any
//! more, the kernel takes it away. So nothing is left however a process ends. Layouts follow
//! include/uapi/linux/loop.h.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::error::{At, SysError, SysResult};

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_SET_CAPACITY: libc::c_ulong = 0x4C07;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;
/// As the file systems on them: with it, direct I/O is always aligned.
const BLOCK: u32 = 4096;
/// Others take free devices too: the next one is tried so often.
const TRIES: usize = 64;

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// A loop device that stays at least as long as this.
#[derive(Debug)]
pub struct LoopDevice {
    /// Its number.
    pub number: u32,
    open: OwnedFd,
}

impl LoopDevice {
    /// Its node.
    pub fn path(&self) -> PathBuf {
        node(self.number)
    }

    /// What sysfs and file systems call it.
    pub fn name(&self) -> String {
        format!("loop{}", self.number)
    }

    /// Takes over the size of its file, which has grown.
    pub fn grow(&self) -> SysResult<()> {
        // SAFETY: the call takes no argument.
        match unsafe { libc::ioctl(self.open.as_raw_fd(), LOOP_SET_CAPACITY) } {
            0 => Ok(()),
            _ => Err(SysError::new("enlarge", self.path().display(), std::io::Error::last_os_error())),
        }
    }
}

fn node(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

/// The device that a file is attached to, if it is.
pub fn find(file: &Path) -> SysResult<Option<LoopDevice>> {
    let dir = Path::new("/sys/block");
    for entry in std::fs::read_dir(dir).at("list", dir.display())?.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("loop")?.parse().ok());
        let Some(number) = number.filter(|_| is_backed_by(&entry.path(), file)) else { continue };
        match rustix::fs::open(node(number), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            // It was just being taken away, or has become another's.
            Err(rustix::io::Errno::NXIO) => return Ok(None),
            Ok(open) if is_backed_by(&entry.path(), file) => {
                return Ok(Some(LoopDevice { number, open }));
            }
            Ok(_) => return Ok(None),
            Err(e) => return Err(SysError::new("open", node(number).display(), e)),
        }
    }
    Ok(None)
}

fn is_backed_by(device: &Path, file: &Path) -> bool {
    let backing = std::fs::read(device.join("loop/backing_file")).unwrap_or_default();
    backing.strip_suffix(b"\n").is_some_and(|path| path == file.as_os_str().as_encoded_bytes())
}

/// Whether a file is attached to any device.
pub fn is_attached(file: &Path) -> bool {
    let entries = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    entries.into_iter().any(|entry| is_backed_by(&entry.path(), file))
}

/// Attaches a file, given by its canonical path, or takes the device that it is attached to: two devices of one
/// file would not know of each other's writes.
pub fn attach(file: &Path) -> SysResult<LoopDevice> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let backing = rustix::fs::open(file, flags, Mode::empty()).at("open", file.display())?;
    let control = Path::new("/dev/loop-control");
    let control = rustix::fs::open(control, flags, Mode::empty()).at("open", control.display())?;
    for _ in 0..TRIES {
        if let Some(found) = find(file)? {
            return Ok(found);
        }
        // SAFETY: the call takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        let Ok(number) = u32::try_from(number) else {
            return Err(SysError::new("find a free", "loop device", std::io::Error::last_os_error()));
        };
        let open = rustix::fs::open(node(number), flags, Mode::empty()).at("open", node(number).display())?;
        let config = config(u32::try_from(backing.as_raw_fd()).unwrap_or_default());
        // SAFETY: `config` has the layout that the kernel reads and outlives the call.
        let rc = unsafe { libc::ioctl(open.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
        match std::io::Error::last_os_error() {
            _ if rc == 0 => return Ok(LoopDevice { number, open }),
            e if e.raw_os_error() == Some(libc::EBUSY) => {}
            e => return Err(SysError::new("attach", node(number).display(), e).value(file.display())),
        }
    }
    Err(SysError::refused("attach", file.display(), "every free loop device was taken by someone else"))
}

fn config(fd: u32) -> LoopConfig {
    let info = LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: AUTOCLEAR | DIRECT_IO,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    LoopConfig { fd, block_size: BLOCK, info, reserved: [0; 8] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
