//! File locks of both kinds. Must hold a lock only on `hold`, and never wait for one.
#![expect(unsafe_code, reason = "fcntl's lock structure has no safe form in libc")]

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, IntoRawFd};

use super::{Answer, Verb};
use crate::sys::{Arg, Errno, call};

/// flock(2) on a file, which is made if need be.
pub(super) fn flock(verb: Verb, path: &str) -> Answer {
    if verb == Verb::Remove {
        return remove(path);
    }
    let file = open(path)?;
    let operation = i64::from(libc::LOCK_EX | libc::LOCK_NB);
    match call(libc::SYS_flock, [Arg::Int(i64::from(file.as_raw_fd())), Arg::Int(operation)]) {
        Err(errno) if errno.0 == libc::EWOULDBLOCK => Ok(("busy", kernel_lists())),
        Err(errno) => Err(errno),
        Ok(_) => Ok(taken(verb, file)),
    }
}

/// fcntl(2)'s record lock on the whole of a file, which is made if need be.
pub(super) fn posix(verb: Verb, path: &str) -> Answer {
    if verb == Verb::Remove {
        return remove(path);
    }
    let file = open(path)?;
    // SAFETY: all zeros is a valid flock structure.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = 1; // F_WRLCK, whose type in libc differs between targets
    let fd = file.as_raw_fd();
    if verb == Verb::Lookup {
        // SAFETY: the structure lives through the call.
        if unsafe { libc::fcntl(fd, libc::F_GETLK, &raw mut lock) } == -1 {
            return Err(Errno::last());
        }
        return match lock.l_type {
            2 => Ok(("free", kernel_lists())),
            // The holder's pid in our pid namespace: 0 if it isn't there.
            _ => Ok(("busy", Some(format!("holder {}", lock.l_pid)))),
        };
    }
    // SAFETY: the structure lives through the call.
    if unsafe { libc::fcntl(fd, libc::F_SETLK, &raw const lock) } == -1 {
        let errno = Errno::last();
        return if errno.is_any(&[libc::EAGAIN, libc::EACCES]) { Ok(("busy", None)) } else { Err(errno) };
    }
    Ok(taken(verb, file))
}

/// A held lock lives as long as its descriptor, which the process then keeps to its end.
fn taken(verb: Verb, file: File) -> (&'static str, Option<String>) {
    match verb {
        Verb::Hold => {
            let _kept_open = file.into_raw_fd();
            ("locked", None)
        }
        _ => {
            // Its own lock isn't one to be told of.
            drop(file);
            ("free", kernel_lists())
        }
    }
}

fn open(path: &str) -> Result<File, Errno> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    file.map_err(|error| Errno::of(&error))
}

fn remove(path: &str) -> Answer {
    std::fs::remove_file(path).map(|()| ("removed", None)).map_err(|error| Errno::of(&error))
}

/// How many locks /proc/locks shows here: those of other pid namespaces must not be among them.
fn kernel_lists() -> Option<String> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    Some(format!("/proc/locks: {}", locks.lines().count()))
}
