//! POSIX shared memory and semaphores, which are files in /dev/shm, and message queues, which have calls of their own.
//!
//! Must use what libc's functions use and nothing else: a /dev/shm that is somebody else's is what a test looks for.

use std::os::fd::{FromRawFd, OwnedFd};

use super::{Answer, Verb};
use crate::sys::{Arg, Errno, call, text};

/// shm_open's and sem_open's file.
pub(super) fn file(verb: Verb, key: &str, prefix: &str) -> Answer {
    let path = format!("/dev/shm/{prefix}{}", key.trim_start_matches('/'));
    let told = || Some(path.clone());
    let done = match verb {
        Verb::Create | Verb::Hold => std::fs::File::create_new(&path).map(|_| ("created", told())),
        Verb::Lookup => std::fs::metadata(&path).map(|_| ("found", told())),
        Verb::Remove => std::fs::remove_file(&path).map(|()| ("removed", None)),
    };
    done.map_err(|error| Errno::of(&error))
}

/// A POSIX message queue.
pub(super) fn queue(verb: Verb, key: &str) -> Answer {
    // The kernel takes the name without the slash that mq_open wants.
    let name = text(key.trim_start_matches('/'));
    let open = |flags: i32| {
        let arguments = [Arg::Text(&name), Arg::Int(i64::from(flags)), Arg::Int(0o600), Arg::Null];
        let fd = i32::try_from(call(libc::SYS_mq_open, arguments)?).map_err(|_| Errno(libc::EBADF))?;
        drop(owned(fd));
        Ok::<(), Errno>(())
    };
    match verb {
        Verb::Create | Verb::Hold => {
            open(libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_CLOEXEC)?;
            Ok(("created", None))
        }
        Verb::Lookup => {
            open(libc::O_RDONLY | libc::O_CLOEXEC)?;
            Ok(("found", None))
        }
        Verb::Remove => {
            call(libc::SYS_mq_unlink, [Arg::Text(&name)])?;
            Ok(("removed", None))
        }
    }
}

#[expect(unsafe_code, reason = "std can't own a descriptor without it")]
fn owned(fd: i32) -> OwnedFd {
    // SAFETY: mq_open has just handed out this descriptor, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
