//! Kinds that only system calls make.
#![expect(unsafe_code, reason = "they are made by the calls that a program would make them by")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{Look, check, ensure};

fn owned(fd: libc::c_int) -> io::Result<File> {
    check(fd)?;
    // SAFETY: a call has just made it, and nobody else knows it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// A tmpfs with a file in it, and a directory that is bound to another.
pub(super) fn mounts() -> io::Result<Look> {
    for dir in ["/mnt/own", "/mnt/bound"] {
        std::fs::create_dir_all(dir)?;
    }
    let none = std::ptr::null();
    // SAFETY: all are static strings.
    check(unsafe {
        libc::mount(
            c"own".as_ptr(),
            c"/mnt/own".as_ptr(),
            c"tmpfs".as_ptr(),
            libc::MS_NOSUID,
            c"size=1m".as_ptr().cast(),
        )
    })?;
    // SAFETY: as above.
    check(unsafe {
        libc::mount(c"/root".as_ptr(), c"/mnt/bound".as_ptr(), none, libc::MS_BIND, none.cast())
    })?;
    std::fs::write("/mnt/own/file", "content")?;
    let told = || -> io::Result<Vec<String>> {
        let text = std::fs::read_to_string("/proc/self/mountinfo")?;
        // Numbers of mounts and devices are others, and an overlay shows how it was made.
        let line = |line: &str| line.split(' ').skip(3).take(6).collect::<Vec<_>>().join(" ");
        let is_plain = |line: &&str| !line.contains("master:") && !line.contains("shared:");
        Ok(text.lines().filter(is_plain).map(line).filter(|line| line.contains("/mnt/")).collect())
    };
    let before = told()?;
    Ok(Box::new(move || {
        let after = told()?;
        ensure(before == after && after.len() >= 2, format_args!("{before:?} became {after:?}"))?;
        ensure(std::fs::read_to_string("/mnt/own/file")? == "content", "the file in the tmpfs")?;
        std::fs::write("/root/keep.bound", "x")?;
        ensure(std::fs::exists("/mnt/bound/keep.bound")?, "what is bound is not the same directory")
    }))
}

/// That has told nothing yet.
pub(super) fn inotify() -> io::Result<Look> {
    std::fs::create_dir_all("/root/watched")?;
    // SAFETY: no pointer is passed.
    let mut watch = owned(unsafe { libc::inotify_init1(libc::IN_NONBLOCK) })?;
    // SAFETY: the path is a static string.
    check(unsafe { libc::inotify_add_watch(watch.as_raw_fd(), c"/root/watched".as_ptr(), libc::IN_CREATE) })?;
    Ok(Box::new(move || {
        std::fs::write("/root/watched/new", "")?;
        let mut bytes = [0; 256];
        let told = watch.read(&mut bytes)?;
        ensure(bytes[..told].windows(3).any(|name| name == b"new"), "another name was told")
    }))
}

/// An alarm and a descriptor that expires again and again, both far away: CRIU keeps one that has expired without having been
/// read for that once only.
pub(super) fn timers() -> io::Result<Look> {
    // SAFETY: no pointer is passed.
    unsafe { libc::alarm(3000) };
    // SAFETY: no pointer is passed.
    let timer = owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) })?;
    let after = |seconds| libc::timespec { tv_sec: seconds, tv_nsec: 0 };
    let mut set = libc::itimerspec { it_interval: after(5), it_value: after(3000) };
    // SAFETY: `set` outlives the call.
    check(unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const set, std::ptr::null_mut()) })?;
    Ok(Box::new(move || {
        // SAFETY: no pointer is passed.
        let left = unsafe { libc::alarm(0) };
        ensure((2000..=3000).contains(&left), format_args!("the alarm is {left} s away"))?;
        // SAFETY: `set` outlives the call.
        check(unsafe { libc::timerfd_gettime(timer.as_raw_fd(), &raw mut set) })?;
        let (left, again) = (set.it_value.tv_sec, set.it_interval.tv_sec);
        ensure((2000..=3000).contains(&left) && again == 5, format_args!("{left} s, then each {again} s"))
    }))
}

/// With a number in it, in an epoll.
pub(super) fn eventfd() -> io::Result<Look> {
    // SAFETY: no pointer is passed.
    let (mut event, epoll) = unsafe { (owned(libc::eventfd(41, 0))?, owned(libc::epoll_create1(0))?) };
    let mut wanted = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 4711 };
    // SAFETY: `wanted` outlives the call.
    check(unsafe {
        libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, event.as_raw_fd(), &raw mut wanted)
    })?;
    Ok(Box::new(move || {
        event.write_all(&1_u64.to_ne_bytes())?;
        let mut told = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: there is room for the one event that is asked for.
        let found = check(unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut told, 1, 1000) })?;
        let data = told.u64;
        ensure(found == 1 && data == 4711, "the epoll tells nothing of it")?;
        let mut count = [0; 8];
        event.read_exact(&mut count)?;
        ensure(u64::from_ne_bytes(count) == 42, format_args!("{count:?}"))
    }))
}

/// One that is blocked and pending, and a descriptor for it.
pub(super) fn signals() -> io::Result<Look> {
    // SAFETY: zeros are an empty set, which is then filled in.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid for all of them.
    let descriptor = unsafe {
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK)
    };
    let mut descriptor = owned(descriptor)?;
    // SAFETY: it is blocked.
    check(unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) })?;
    Ok(Box::new(move || {
        let mut told = [0; 128];
        descriptor.read_exact(&mut told)?;
        ensure(told[0] == libc::SIGUSR1.to_ne_bytes()[0], "another signal was pending")
    }))
}

fn lock_of(kind: libc::c_int) -> libc::flock {
    // SAFETY: zeros are a valid one: all of the file.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = i16::try_from(kind).unwrap_or_default();
    lock
}

pub(super) fn posix_lock() -> io::Result<Look> {
    let file = File::create("/root/keep.lock")?;
    let lock = lock_of(libc::F_WRLCK);
    // SAFETY: `lock` outlives the call.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) })?;
    Ok(Box::new(move || {
        // A lock of another kind asks, and it is not this process that would have it.
        let mut lock = lock_of(libc::F_WRLCK);
        // SAFETY: `lock` outlives the call.
        check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) })?;
        ensure(i32::from(lock.l_type) == libc::F_WRLCK, "nobody has it locked")?;
        ensure(lock.l_pid == std::process::id().cast_signed(), format_args!("process {} has", lock.l_pid))
    }))
}

/// Both ends, one with a line that nobody has read.
pub(super) fn pty() -> io::Result<Look> {
    // SAFETY: no pointer is passed.
    let mut master = owned(unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY) })?;
    let mut name = [0; 64];
    // SAFETY: the descriptor is a master's, and the buffer as long as is said.
    unsafe {
        check(libc::grantpt(master.as_raw_fd()))?;
        check(libc::unlockpt(master.as_raw_fd()))?;
        check(-libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr(), name.len()))?;
    }
    // SAFETY: it was filled in, and ends with a zero.
    let mut slave = owned(unsafe { libc::open(name.as_ptr(), libc::O_RDWR | libc::O_NOCTTY) })?;
    let size = libc::winsize { ws_row: 33, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` outlives the call.
    check(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
    Ok(Box::new(move || {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: `size` outlives the call.
        check(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
        ensure((size.ws_row, size.ws_col) == (33, 111), "its size")?;
        master.write_all(b"typed\n")?;
        let mut line = [0; 16];
        let read = slave.read(&mut line)?;
        ensure(&line[..read] == b"typed\n", format_args!("{:?}", &line[..read]))
    }))
}

/// A filter of its own, which refuses one system call.
pub(super) fn seccomp() -> io::Result<Look> {
    const REFUSED: libc::c_long = libc::SYS_getpgid;
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EDOM.cast_unsigned();
    let mut filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::try_from(REFUSED).unwrap_or_default()),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, refuse),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the program outlives the call.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))?;
    }
    Ok(Box::new(|| {
        // SAFETY: no pointer is passed.
        let called = check(unsafe { libc::getpgid(0) });
        ensure(called.is_err_and(|e| e.raw_os_error() == Some(libc::EDOM)), "the call is not refused")
    }))
}
