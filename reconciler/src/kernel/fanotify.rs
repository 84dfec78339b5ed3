//! Has a say before files are opened, wherever they are mounted (fanotify with permission events).
//!
//! Whoever opens a marked file waits for [`Gate::next`]'s answer; if this process ends, the kernel lets all
//! of them through.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use crate::error::{SysError, SysResult};

/// Files whose openers wait.
#[derive(Debug)]
pub struct Gate(OwnedFd);

/// Somebody who is about to open a marked file.
#[derive(Debug)]
pub struct Opener<'a> {
    gate: &'a Gate,
    file: OwnedFd,
}

const OBJECT: &str = "fanotify";

impl Gate {
    /// A gate for no file yet.
    pub fn new() -> SysResult<Self> {
        let flags = libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC;
        let event_flags = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE).cast_unsigned();
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::fanotify_init(flags, event_flags) };
        if fd < 0 {
            return Err(SysError::new("open", OBJECT, std::io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// From now on those who open this file wait. The mark goes with the file.
    pub fn mark(&self, file: &Path) -> SysResult<()> {
        use std::os::unix::ffi::OsStrExt;
        let failed = |error: std::io::Error| SysError::new("mark", file.display(), error);
        let path = std::ffi::CString::new(file.as_os_str().as_bytes()).map_err(|e| failed(e.into()))?;
        // SAFETY: the path is a C string that outlives the call.
        let rc = unsafe {
            libc::fanotify_mark(
                self.0.as_raw_fd(),
                libc::FAN_MARK_ADD,
                libc::FAN_OPEN_PERM,
                libc::AT_FDCWD,
                path.as_ptr(),
            )
        };
        if rc == 0 { Ok(()) } else { Err(failed(std::io::Error::last_os_error())) }
    }

    /// Waits for those who open marked files.
    pub fn next(&self) -> SysResult<Vec<Opener<'_>>> {
        let mut buffer = [0_u64; 512];
        let mut bytes = 0;
        // SAFETY: the kernel writes at most as many bytes as the buffer has.
        let rc = unsafe { libc::read(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), size_of_val(&buffer)) };
        match usize::try_from(rc) {
            Ok(length) => bytes += length,
            Err(_) => {
                let error = std::io::Error::last_os_error();
                if error.kind() == std::io::ErrorKind::Interrupted {
                    return Ok(Vec::new());
                }
                return Err(SysError::new("read", OBJECT, error));
            }
        }
        let mut openers = Vec::new();
        let mut at = 0;
        // Each event is `struct fanotify_event_metadata`, whose size is a multiple of 8, as its first word says.
        while at + size_of::<libc::fanotify_event_metadata>() <= bytes {
            // SAFETY: the kernel has written a whole structure there, and the buffer is aligned for it.
            let event = unsafe {
                buffer.as_ptr().cast::<u8>().add(at).cast::<libc::fanotify_event_metadata>().read()
            };
            if event.fd >= 0 {
                // SAFETY: the kernel has just made this descriptor for us.
                let file = unsafe { OwnedFd::from_raw_fd(event.fd) };
                openers.push(Opener { gate: self, file });
            }
            at += (event.event_len as usize).max(size_of::<libc::fanotify_event_metadata>());
        }
        Ok(openers)
    }
}

impl Opener<'_> {
    /// The inode number of the file that is to be opened.
    pub fn inode(&self) -> Option<u64> {
        rustix::fs::fstat(self.file.as_fd()).ok().map(|stat| stat.st_ino)
    }
}

/// Lets it through.
impl Drop for Opener<'_> {
    fn drop(&mut self) {
        let answer = libc::fanotify_response { fd: self.file.as_raw_fd(), response: libc::FAN_ALLOW };
        // SAFETY: the structure lives through the call, which is told its size.
        unsafe {
            libc::write(
                self.gate.0.as_raw_fd(),
                (&raw const answer).cast(),
                size_of::<libc::fanotify_response>(),
            );
        }
    }
}
