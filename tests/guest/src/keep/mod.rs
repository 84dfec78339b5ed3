//! `guest keep KIND FILE`: makes something that a checkpoint has to keep, writes `ready` to FILE, waits until FILE.go is there, and
//! then writes whether all of it is as it was left: `kept`, or what is wrong.
//!
//! Must not look at what it has made before it is told to: that something stands still is no proof that it was kept.

mod kernel;
mod memory;
mod plain;

use std::io;
use std::time::Duration;

/// What looks at something again.
type Look = Box<dyn FnOnce() -> io::Result<()>>;

/// What makes something.
type Make = fn() -> io::Result<Look>;

/// Every kind by name, and what makes one.
pub(crate) const KINDS: [(&str, Make); 25] = [
    ("pipe", plain::pipe),
    ("unix-pair", plain::unix_pair),
    ("unix-listener", plain::unix_listener),
    ("udp", plain::udp),
    ("tcp-listener", plain::tcp_listener),
    ("open-file", plain::open_file),
    ("deleted-file", plain::deleted_file),
    ("flock", plain::flock),
    ("threads", plain::threads),
    ("devices", plain::devices),
    ("process", plain::process),
    ("child", plain::child),
    ("mounts", kernel::mounts),
    ("inotify", kernel::inotify),
    ("timers", kernel::timers),
    ("eventfd", kernel::eventfd),
    ("signals", kernel::signals),
    ("posix-lock", kernel::posix_lock),
    ("pty", kernel::pty),
    ("seccomp", kernel::seccomp),
    ("memfd", memory::memfd),
    ("shared-memory", memory::shared),
    ("sysv-shm", memory::segment),
    ("sysv-sem", memory::semaphore),
    ("sysv-msg", memory::queue),
];

/// Makes one, waits, and looks.
pub(crate) fn run(kind: &str, file: &str) -> io::Result<Option<i32>> {
    let Some((_, make)) = KINDS.iter().find(|(name, _)| *name == kind) else { return Ok(None) };
    let look = make()?;
    std::fs::write(file, "ready\n")?;
    let go = format!("{file}.go");
    while !std::fs::exists(&go)? {
        std::thread::sleep(Duration::from_millis(20));
    }
    let found = look();
    let word = found.as_ref().map_or_else(|why| format!("lost: {why}\n"), |()| "kept\n".to_owned());
    std::fs::write(file, word)?;
    Ok(Some(i32::from(found.is_err())))
}

fn ensure(is: bool, what: impl std::fmt::Display) -> io::Result<()> {
    if is { Ok(()) } else { Err(io::Error::other(what.to_string())) }
}

/// What a system call returned, or its errno.
fn check(returned: impl Into<i64>) -> io::Result<i64> {
    match returned.into() {
        -1 => Err(io::Error::last_os_error()),
        returned => Ok(returned),
    }
}
