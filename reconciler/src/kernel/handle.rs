//! What a file system knows a file by, whatever it is called: its handle, as of name_to_handle_at(2).

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{SysError, SysResult};

/// A file's, of one file system.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handle {
    /// What its bytes mean (`enum fid_type` of include/linux/exportfs.h).
    pub kind: i32,
    /// Known to the file system.
    pub bytes: Vec<u8>,
}

/// `MAX_HANDLE_SZ` of include/linux/exportfs.h.
const MOST: usize = 128;

/// `struct file_handle` with room for the longest.
#[repr(C)]
struct Room {
    head: libc::file_handle,
    bytes: [u8; MOST],
}

impl Handle {
    /// The handle of the file of that name, which is not followed.
    pub fn of(file: &Path) -> SysResult<Handle> {
        let failed = |error: std::io::Error| SysError::new("get the handle of", file.display(), error);
        let path = CString::new(file.as_os_str().as_bytes()).map_err(|e| failed(e.into()))?;
        let head = libc::file_handle { handle_bytes: 128, handle_type: 0, f_handle: [] };
        let mut room = Room { head, bytes: [0; MOST] };
        let mut mount = 0;
        // SAFETY: the path is a C string, and the room has as many bytes behind its head as that says; both outlive the call.
        let rc = unsafe {
            libc::name_to_handle_at(libc::AT_FDCWD, path.as_ptr(), (&raw mut room).cast(), &raw mut mount, 0)
        };
        if rc != 0 {
            return Err(failed(std::io::Error::last_os_error()));
        }
        let length = usize::try_from(room.head.handle_bytes).unwrap_or(MOST).min(MOST);
        Ok(Handle { kind: room.head.handle_type, bytes: room.bytes[..length].to_vec() })
    }
}
