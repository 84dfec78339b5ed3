//! `guest drive KIND COUNT`: takes so many of a resource, one by one until one is refused, says how many it got and what
//! the refusal was, and holds them until it is killed.
//!
//! Must not give anything back by itself, and must not go on after a refusal.
#![expect(unsafe_code, reason = "resources are taken by the calls that a program would take them by")]

mod memory;
mod rules;
mod sockets;

use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd};

use serde::Serialize;

use crate::sys::{Arg, Errno, call, open};

/// What one kind takes at a time, by number from 0.
type Take = Box<dyn FnMut(u64) -> Result<(), Errno>>;

/// A name, and what is got ready for taking.
type Kind = (&'static str, fn() -> Take);

/// Every kind.
pub(crate) const KINDS: &[Kind] = &[
    ("processes", || Box::new(process)),
    ("files", || Box::new(|_| keep(open("/dev/null", libc::O_RDONLY)))),
    ("files-in-flight", sockets::in_flight),
    ("pipes", || Box::new(|_| pipe())),
    ("terminals", || Box::new(|_| keep(open("/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY)))),
    ("flocks", || Box::new(flock)),
    ("posix-locks", || range_locks(libc::F_SETLK)),
    ("ofd-locks", || range_locks(libc::F_OFD_SETLK)),
    ("signals", || Box::new(|_| signal())),
    ("rules", rules::rules),
    ("dentries", || Box::new(dentry)),
    ("locked-pages", || Box::new(memory::locked)),
    ("private-pages", || Box::new(memory::private)),
    ("touched-pages", || Box::new(memory::touched)),
    ("sysv-pages", || Box::new(|_| memory::segment())),
    ("tmpfs-pages", memory::file),
    ("mapped-blocks", memory::blocks),
    ("unnamed-files", || Box::new(|_| unnamed())),
    ("tcp-sockets", || Box::new(|_| sockets::made(libc::AF_INET, libc::SOCK_STREAM))),
    ("udp-sockets", || Box::new(|_| sockets::made(libc::AF_INET, libc::SOCK_DGRAM))),
    ("unix-sockets", || Box::new(|_| sockets::made(libc::AF_UNIX, libc::SOCK_DGRAM))),
    ("accepted-sockets", sockets::accepted),
    ("tcp-kib", sockets::tcp_bytes),
    ("udp-kib", sockets::udp_bytes),
    ("unix-kib", sockets::unix_bytes),
];

#[derive(Serialize)]
struct Driven<'a> {
    kind: &'a str,
    wanted: u64,
    made: u64,
    errno: Option<String>,
}

/// Takes, tells, and holds. Comes back only for a kind that there is not.
pub(crate) fn run(kind: &str, count: u64) -> Result<(), String> {
    let known = KINDS.iter().find(|(name, _)| *name == kind);
    let (name, take) = known.ok_or_else(|| format!("unknown kind {kind}"))?;
    raise_limits();
    let mut take = take();
    let mut driven = Driven { kind: name, wanted: count, made: 0, errno: None };
    while driven.made < count && driven.errno.is_none() {
        match take(driven.made) {
            Ok(()) => driven.made += 1,
            Err(errno) => driven.errno = Some(errno.to_string()),
        }
    }
    let text = serde_json::to_string(&driven).unwrap_or_default();
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    loop {
        // SAFETY: takes no arguments; a signal ends the process.
        unsafe { libc::pause() };
    }
}

/// What a process may have by itself is not what is to be found out.
fn raise_limits() {
    for resource in [libc::RLIMIT_NOFILE, libc::RLIMIT_SIGPENDING, libc::RLIMIT_MEMLOCK, libc::RLIMIT_NPROC] {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the structure lives through both calls.
        unsafe {
            libc::getrlimit(resource, &raw mut limit);
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(resource, &raw const limit);
        }
    }
}

/// Keeps a descriptor to the end of the process.
fn keep(made: Result<impl IntoRawFd, Errno>) -> Result<(), Errno> {
    made.map(|fd| {
        let _kept_open = fd.into_raw_fd();
    })
}

/// The last failure of libc, if this is one.
fn check(result: i32) -> Result<i32, Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

fn process(_: u64) -> Result<(), Errno> {
    // SAFETY: this program has one thread; the child only waits to be killed with its parent.
    if check(unsafe { libc::fork() })? == 0 {
        // SAFETY: no memory is passed.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            loop {
                libc::pause();
            }
        }
    }
    Ok(())
}

fn pipe() -> Result<(), Errno> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    check(unsafe { libc::pipe(ends.as_mut_ptr()) }).map(drop)
}

fn flock(at: u64) -> Result<(), Errno> {
    let file = open(&format!("/tmp/drive-{at}"), libc::O_RDWR | libc::O_CREAT)?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) })?;
    keep(Ok(file))
}

/// A file of 64 KiB in /root that has no name.
fn unnamed() -> Result<(), Errno> {
    let file = open("/root", libc::O_RDWR | libc::O_TMPFILE)?;
    let mut file = std::fs::File::from(file);
    file.write_all(&[1; 0x1_0000]).map_err(|error| Errno::of(&error))?;
    keep(Ok(file))
}

/// Every other byte of one file: neighbours would become one lock.
fn range_locks(command: i32) -> Take {
    let file = open("/tmp/drive-ranges", libc::O_RDWR | libc::O_CREAT);
    Box::new(move |at| {
        let fd = file.as_ref().map_err(|errno| *errno)?.as_raw_fd();
        // SAFETY: all zeros is a valid flock structure.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = 1; // F_WRLCK, whose type in libc differs between targets
        lock.l_start = i64::try_from(at * 2).map_err(|_| Errno(libc::EOVERFLOW))?;
        lock.l_len = 1;
        // SAFETY: the structure lives through the call.
        check(unsafe { libc::fcntl(fd, command, &raw const lock) }).map(drop)
    })
}

/// Queues a blocked real-time signal to this process.
fn signal() -> Result<(), Errno> {
    let signal = libc::SIGRTMIN() + 3;
    crate::sys::signal::block(&[signal]).map_err(|error| Errno::of(&error))?;
    let value = libc::sigval { sival_ptr: std::ptr::null_mut() };
    // SAFETY: the value is passed on, and nobody takes it.
    check(unsafe { libc::sigqueue(libc::getpid(), signal, value) }).map(drop)
}

/// A name that is not there, which the kernel remembers.
fn dentry(at: u64) -> Result<(), Errno> {
    let path = crate::sys::text(format!("/tmp/drive-not-there-{at:0200}"));
    match call(libc::SYS_access, [Arg::Text(&path), Arg::Int(0)]) {
        Err(errno) if errno.0 != libc::ENOENT => Err(errno),
        _ => Ok(()),
    }
}
