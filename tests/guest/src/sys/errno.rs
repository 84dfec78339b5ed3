//! Error numbers with their names, since a test's message that says 95 helps nobody. Must not translate or judge them.

use std::fmt;

/// An errno value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub(crate) i32);

macro_rules! names {
    ($($name:ident)*) => {
        const NAMES: &[(i32, &str)] = &[$((libc::$name, stringify!($name))),*];
    };
}

names! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST
    EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE
    EDEADLK ENAMETOOLONG ENOSYS ENOTEMPTY ELOOP EIDRM EOVERFLOW EUSERS EOPNOTSUPP EPROTONOSUPPORT ESOCKTNOSUPPORT
    EPFNOSUPPORT EAFNOSUPPORT EADDRNOTAVAIL ENETUNREACH ECONNREFUSED ETIMEDOUT EALREADY ESTALE EDQUOT ENOKEY EKEYREVOKED
    EKEYREJECTED ENOBUFS ENOTCONN ECONNRESET ENOTSOCK EMSGSIZE EPROTO EBADMSG
}

impl Errno {
    /// The errno of the calling thread's last failed call.
    pub(crate) fn last() -> Errno {
        Errno::of(&std::io::Error::last_os_error())
    }

    /// The errno inside a library error; EIO for one that has none.
    pub(crate) fn of(error: &std::io::Error) -> Errno {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Whether it is one of `numbers`.
    pub(crate) fn is_any(self, numbers: &[i32]) -> bool {
        numbers.contains(&self.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        std::io::Error::from_raw_os_error(errno.0)
    }
}
