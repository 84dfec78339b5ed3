//! The error of one kernel or file operation: which operation, on what, with what value, and why.
//!
//! Every driver error ends in one of these. It can cross a process boundary (a starter reports to the
//! keeper, the keeper to the controller), so the cause is kept as an errno, not as a boxed error.
//! This file must not know about VEs, plans or HTTP.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A failed operation on a kernel object, file or program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysError {
    /// What was attempted, as a verb phrase: `mount overlay`, `write`.
    pub op: String,
    /// What it was attempted on: a path, a cgroup, a pid.
    pub object: String,
    /// The value written or asked for, when there was one.
    pub value: Option<String>,
    /// The errno, or 0 when the cause is in `detail`.
    pub errno: i32,
    /// A cause that is not an errno (a refused value, a malformed file).
    pub detail: Option<String>,
}

/// The result of a kernel-facing operation.
pub type SysResult<T> = Result<T, SysError>;

impl SysError {
    /// A failed call: the operation, its object and the errno.
    pub fn new(op: impl Into<String>, object: impl fmt::Display, errno: impl IntoErrno) -> Self {
        let errno = errno.into_errno();
        SysError { op: op.into(), object: object.to_string(), value: None, errno, detail: None }
    }

    /// A refusal of our own: the operation, its object and the reason in words.
    pub fn refused(op: impl Into<String>, object: impl fmt::Display, why: impl fmt::Display) -> Self {
        SysError {
            op: op.into(),
            object: object.to_string(),
            value: None,
            errno: 0,
            detail: Some(why.to_string()),
        }
    }

    /// Adds the value that was being written.
    #[must_use]
    pub fn value(mut self, value: impl fmt::Display) -> Self {
        self.value = Some(value.to_string());
        self
    }

    /// Whether the kernel said that the object is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self.errno, libc::ENOENT | libc::ESRCH | libc::ENODEV)
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.op, self.object)?;
        if let Some(value) = &self.value {
            write!(f, " (value {value:?})")?;
        }
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        if self.errno != 0 {
            write!(f, ": {}", std::io::Error::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl std::error::Error for SysError {}

/// Anything that carries an errno.
pub trait IntoErrno {
    /// The errno, or `EIO` for an error that has none.
    fn into_errno(self) -> i32;
}

impl IntoErrno for i32 {
    fn into_errno(self) -> i32 {
        self
    }
}

impl IntoErrno for rustix::io::Errno {
    fn into_errno(self) -> i32 {
        self.raw_os_error()
    }
}

impl IntoErrno for nix::errno::Errno {
    fn into_errno(self) -> i32 {
        self as i32
    }
}

impl IntoErrno for std::io::Error {
    fn into_errno(self) -> i32 {
        self.raw_os_error().unwrap_or(libc::EIO)
    }
}

/// Attaches operation and object to a failing call: `open(p).at("open", p)?`.
pub trait At<T> {
    /// Turns the error into a [`SysError`].
    fn at(self, op: &str, object: impl fmt::Display) -> SysResult<T>;
}

impl<T, E: IntoErrno> At<T> for Result<T, E> {
    fn at(self, op: &str, object: impl fmt::Display) -> SysResult<T> {
        self.map_err(|e| SysError::new(op, object, e))
    }
}
