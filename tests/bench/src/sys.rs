//! The few system calls that std lacks. The only file of this crate with `unsafe`; must stay free of policy.
#![expect(unsafe_code, reason = "pidfds, rusage, namespaces and subreapers have no safe form in std or libc")]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Orphans of our descendants become our children, so that their CPU time is counted when they end.
pub(crate) fn become_subreaper() -> crate::result::Result<()> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    crate::result::Context::context(checked(i64::from(result)), "PR_SET_CHILD_SUBREAPER").map(drop)
}

/// A process, held so that its number can't become another's.
#[derive(Debug)]
pub(crate) struct Pidfd {
    fd: OwnedFd,
    pub(crate) pid: i32,
}

impl Pidfd {
    pub(crate) fn open(pid: i32) -> io::Result<Pidfd> {
        // SAFETY: takes numbers; the descriptor is new and ours.
        let fd = unsafe {
            let fd = checked(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
            OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?)
        };
        Ok(Pidfd { fd, pid })
    }

    /// Waits for its end; false if that takes longer than `limit`.
    pub(crate) fn wait(&self, limit: Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one live pollfd, as the count says.
        Ok(checked(i64::from(unsafe { libc::poll(&raw mut poll, 1, limit) }))? > 0)
    }

    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: takes numbers and a null siginfo.
        let result = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal, std::ptr::null::<u8>(), 0)
        };
        checked(result).map(drop)
    }
}

/// The descriptor that is sent over a stream.
pub(crate) fn receive_fd(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut bytes = [0_u8; 256];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // Aligned as control messages have to be.
    let mut control = [0_u64; 8];
    // SAFETY: zeros are a valid msghdr.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the message points to live buffers of the lengths it says; a control message is read only where the kernel
    // has written one, and its descriptor is new and ours.
    unsafe {
        let got = libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC);
        checked(libc::c_long::try_from(got).map_err(io::Error::other)?)?;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
            return Err(io::Error::other("no descriptor came"));
        }
        Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned()))
    }
}

/// Reaps every child that has ended, but for `keep`, whose owner waits for it itself. True if something was reaped.
pub(crate) fn reap(keep: Option<u32>) -> bool {
    let mut any = false;
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: the kernel fills the live structure; zeros are a valid one.
        let pid = unsafe {
            match libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), look) {
                0 => info.assume_init().si_pid(),
                _ => return any,
            }
        };
        if pid == 0 || u32::try_from(pid).ok() == keep {
            return any;
        }
        // SAFETY: a null status pointer is allowed.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        any = true;
    }
}

/// CPU time of all children that have ended and been waited for, theirs included.
pub(crate) fn children_cpu() -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the live structure; zeros are a valid one.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Gives the calling thread a mount namespace of its own, and takes `target` away in it.
pub(crate) fn without_mount(target: &str) -> io::Result<()> {
    let target = CString::new(target).map_err(io::Error::other)?;
    own_mounts(0)?;
    // SAFETY: the string is NUL-terminated and lives through the call.
    checked(i64::from(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) })).map(drop)
}

/// Moves the calling thread into the UTS namespace of a process.
pub(crate) fn join_uts(pid: i32) -> io::Result<()> {
    join(pid, "uts", libc::CLONE_NEWUTS)
}

/// The number of the calling thread, by which its namespaces are found.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Moves the calling thread into the network of a process.
pub(crate) fn join_network(pid: i32) -> io::Result<()> {
    join(pid, "net", libc::CLONE_NEWNET)
}

fn join(pid: i32, name: &str, kind: i32) -> io::Result<()> {
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/{name}"))?;
    // SAFETY: takes numbers only; the file is open.
    checked(i64::from(unsafe { libc::setns(namespace.as_raw_fd(), kind) })).map(drop)
}

/// Gives the calling thread a network of its own, and a /sys that tells of it.
pub(crate) fn new_network() -> io::Result<()> {
    const ASIDE: &CStr = c"/mnt";
    const GROUPS: &CStr = c"/sys/fs/cgroup";
    own_mounts(libc::CLONE_NEWNET)?;
    let mount = |from: &CStr, to: &CStr, kind: &CStr, flags| {
        // SAFETY: all strings are NUL-terminated and live through the call; options may be null.
        let result =
            unsafe { libc::mount(from.as_ptr(), to.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) };
        checked(i64::from(result)).map(drop)
    };
    let bind = libc::MS_BIND | libc::MS_REC;
    mount(GROUPS, ASIDE, c"", bind)?;
    mount(c"sysfs", c"/sys", c"sysfs", 0)?;
    mount(ASIDE, GROUPS, c"", bind)?;
    // SAFETY: the string is NUL-terminated and lives through the call.
    checked(i64::from(unsafe { libc::umount2(ASIDE.as_ptr(), libc::MNT_DETACH) })).map(drop)
}

/// Gives the calling thread a mount namespace of its own, from which nothing comes out, and other namespaces with it.
fn own_mounts(others: i32) -> io::Result<()> {
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the string is NUL-terminated; the others may be null.
    unsafe {
        checked(i64::from(libc::unshare(libc::CLONE_NEWNS | others)))?;
        let null = std::ptr::null();
        checked(i64::from(libc::mount(null, c"/".as_ptr(), null, private, std::ptr::null()))).map(drop)
    }
}

/// The host name as the calling thread sees it.
pub(crate) fn hostname() -> String {
    let mut name = [0u8; 128];
    // SAFETY: the buffer is live and as large as said.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    name.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
}

fn checked(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A datagram socket over IPv4.
pub(crate) fn datagram_socket() -> io::Result<OwnedFd> {
    // SAFETY: takes plain numbers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Kilobytes of a page.
pub(crate) fn page_kilobytes() -> f64 {
    // SAFETY: sysconf takes an integer and may be called at any time.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    i32::try_from(bytes).map_or(f64::NAN, f64::from) / 1024.0
}

/// What is free for others than root in a file system, in its blocks.
pub(crate) fn free_blocks(path: &std::path::Path) -> io::Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let mut told = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the string is NUL-terminated; the kernel fills the live structure, of which zeros are a valid one.
    unsafe {
        checked(i64::from(libc::statvfs(path.as_ptr(), told.as_mut_ptr())))?;
        Ok(told.assume_init().f_bavail)
    }
}
