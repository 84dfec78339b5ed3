//! Processes: fork from a single-threaded process, wait, credentials, limits, exec.
//!
//! A fork is safe only where there is one thread, since the child gets a copy of every lock as it
//! stands; [`SingleThreaded`] is the proof of that, and what forks asks for it. Nothing here signals a
//! process by its number: that is `pidfd`'s work.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::process::{Resource, Rlimit};

use crate::error::{At, SysError, SysResult};

/// Proof that this process has exactly one thread.
#[derive(Debug, Clone, Copy)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads of this process.
    pub fn check() -> SysResult<Self> {
        let tasks = std::fs::read_dir("/proc/self/task").at("list threads in", "/proc/self/task")?.count();
        if tasks == 1 {
            return Ok(SingleThreaded(()));
        }
        Err(SysError::refused("fork", "this process", format!("it has {tasks} threads, not one")))
    }
}

/// A child of this process. Dropping it does not end or reap it.
#[derive(Debug)]
pub struct Child {
    pid: libc::pid_t,
}

/// How a process ended, as wait(2) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WaitStatus {
    /// It called exit with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// Nobody can tell any more.
    Unknown,
}

impl WaitStatus {
    /// Decodes the status word of wait(2).
    pub fn from_raw(status: i32) -> Self {
        if libc::WIFEXITED(status) {
            WaitStatus::Exited(libc::WEXITSTATUS(status))
        } else if libc::WIFSIGNALED(status) {
            WaitStatus::Signaled(libc::WTERMSIG(status))
        } else {
            WaitStatus::Unknown
        }
    }

    /// The exit code a shell would show: 128 + n for signal n.
    pub fn code(self) -> i32 {
        match self {
            WaitStatus::Exited(code) => code,
            WaitStatus::Signaled(signal) => 128 + signal,
            WaitStatus::Unknown => 255,
        }
    }
}

/// Forks a child that runs `body` and exits with its result.
pub fn fork(_proof: SingleThreaded, body: impl FnOnce() -> i32) -> SysResult<Child> {
    // SAFETY: one thread (`SingleThreaded`), so every lock and the allocator are consistent in the child.
    match unsafe { libc::fork() } {
        -1 => Err(SysError::new("fork", "this process", std::io::Error::last_os_error())),
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
            exit_now(code)
        }
        pid => Ok(Child { pid }),
    }
}

/// A child in a user namespace of its own, which does nothing until it is killed, with the calling thread at the latest. The
/// caller may have other threads.
pub fn fork_into_user_namespace() -> SysResult<Child> {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: no stack is given, so the child goes on on its own copy of ours, as after fork; it makes system calls alone, and
    // touches neither the allocator nor any lock.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => Err(SysError::new("clone", "a user namespace", std::io::Error::last_os_error())),
        0 => loop {
            // SAFETY: as above.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::pause();
            }
        },
        pid => {
            let pid = libc::pid_t::try_from(pid);
            Ok(Child { pid: pid.map_err(|_| SysError::refused("clone", "a process", "pid out of range"))? })
        }
    }
}

/// Runs `body` in a child that shares this process's memory, and returns what it returned.
///
/// Descriptors, credentials, root, working directory and namespaces are the child's own, so `body` may
/// change them; it also is what this process has set for its children (`setns` of a pid namespace). Nothing
/// is copied and no page is touched twice, which is what a fork mostly costs. This process sleeps until the
/// child has ended. A descriptor that `body` opens is open in the child alone, and must not be returned.
pub fn in_child<T>(_proof: SingleThreaded, body: impl FnOnce() -> T) -> SysResult<T> {
    /// What the child is given and gives back.
    struct Slot<F, T> {
        body: Option<F>,
        result: Option<T>,
    }
    extern "C" fn run<F: FnOnce() -> T, T>(slot: *mut libc::c_void) -> libc::c_int {
        // SAFETY: `in_child` passes a slot of these types, which outlives the child, and sleeps meanwhile.
        let slot = unsafe { &mut *slot.cast::<Slot<F, T>>() };
        if let Some(body) = slot.body.take() {
            slot.result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).ok();
        }
        0
    }
    fn runner<F: FnOnce() -> T, T>(_: &Slot<F, T>) -> extern "C" fn(*mut libc::c_void) -> libc::c_int {
        run::<F, T>
    }
    let mut slot = Slot { body: Some(body), result: None };
    let mut stack = vec![std::mem::MaybeUninit::<u128>::uninit(); CHILD_STACK / size_of::<u128>()];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: one thread (`SingleThreaded`), which CLONE_VFORK keeps asleep until the child has ended, so
    // nobody else uses this memory meanwhile; slot and stack outlive the child; the stack's end is aligned.
    let pid = unsafe {
        let top = stack.as_mut_ptr_range().end;
        libc::clone(runner(&slot), top.cast(), flags, (&raw mut slot).cast())
    };
    if pid == -1 {
        return Err(SysError::new("clone", "this process", std::io::Error::last_os_error()));
    }
    let ended = reap(pid)?;
    slot.result.ok_or_else(|| SysError::refused("run", "a child", format!("it ended: {ended:?}")))
}

/// Bytes of stack for [`in_child`]; only what is used of it takes memory.
const CHILD_STACK: usize = 512 * 1024;

/// Ends this process at once, without running exit handlers that belong to its parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

impl Child {
    /// A child that another call than [`fork`] has made.
    pub(super) fn of_fork(pid: i32) -> Self {
        Child { pid }
    }

    /// The child's pid; valid until [`Child::wait`] returned.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Kills the child and waits for its end.
    pub fn kill(self) -> SysResult<WaitStatus> {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        self.wait()
    }

    /// Waits for the child's end.
    pub fn wait(self) -> SysResult<WaitStatus> {
        reap(self.pid)
    }
}

/// Waits for the end of the child `pid` of this process.
pub fn reap(pid: i32) -> SysResult<WaitStatus> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call. A pid that is not our child's gives ECHILD.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid {
            return Ok(WaitStatus::from_raw(status));
        }
        let error = std::io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(SysError::new("wait for", format_args!("pid {pid}"), error));
        }
    }
}

/// Reaps one child that has ended, if there is one: its pid and how it ended.
pub fn reap_one() -> Option<(i32, WaitStatus)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call. Only the keeper calls this, whose children are all its own to reap.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then(|| (pid, WaitStatus::from_raw(status)))
}

/// Becomes uid 0, gid 0 of the user namespace this process is in, with no supplementary groups.
pub fn become_root() -> SysResult<()> {
    nix::unistd::setgroups(&[]).at("setgroups", "[]")?;
    let root = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    nix::unistd::setresgid(root.1, root.1, root.1).at("setresgid", 0)?;
    nix::unistd::setresuid(root.0, root.0, root.0).at("setresuid", 0)
}

/// Becomes this user and group of the user namespace this process is in, with these supplementary groups and no others. What
/// it may do stays until it executes a program.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> SysResult<()> {
    let groups: Vec<_> = groups.iter().copied().map(nix::unistd::Gid::from_raw).collect();
    let (user, group) = (nix::unistd::Uid::from_raw(uid), nix::unistd::Gid::from_raw(gid));
    nix::unistd::setgroups(&groups).at("setgroups", format_args!("{groups:?}"))?;
    nix::unistd::setresgid(group, group, group).at("setresgid", gid)?;
    nix::sys::prctl::set_keepcaps(true).at("keep capabilities of", "this process")?;
    nix::unistd::setresuid(user, user, user).at("setresuid", uid)?;
    super::caps::raise()
}

/// Sets the effective ids of this thread for file access (`setfsuid`, `setfsgid`).
pub fn set_fs_ids(uid: u32, gid: u32) {
    // SAFETY: both calls take an integer and change this thread's credentials only; they cannot fail
    // for a privileged caller and report nothing.
    unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
    }
}

/// Has this process, which `parent` has just forked, killed when that ends; an error if it has ended already.
pub fn end_with(parent: rustix::process::Pid) -> SysResult<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .at("set", "the signal at the parent's end")?;
    match rustix::process::getppid() {
        Some(is) if is == parent => Ok(()),
        _ => Err(SysError::refused("work for", parent.as_raw_nonzero(), "it has ended")),
    }
}

/// Every signal does what it does by default, here and in what this process forks and executes.
pub fn default_signals() {
    // `struct kernel_sigaction` with SIG_DFL, no flags, an empty mask. Not through libc, which keeps two
    // signals to itself that a caller may have ignored.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: the action is a valid one and outlives the call; KILL and STOP give a harmless EINVAL.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), 8)
        };
    }
}

/// No signal is blocked any more.
pub fn unblock_signals() -> SysResult<()> {
    let empty = nix::sys::signal::SigSet::empty();
    empty.thread_set_mask().at("clear", "the signal mask")
}

/// Makes this process unreadable and untraceable from inside a VE it joins, until it executes another
/// program: its memory and descriptors are the host's.
pub fn undumpable() -> SysResult<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .at("make undumpable", "this process")
}

/// Marks every descriptor from `first` on close-on-exec.
pub fn cloexec_from(first: u32) -> SysResult<()> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC)
}

/// Has what this process executes inherit a descriptor.
pub fn keep_open(fd: i32) -> SysResult<()> {
    // SAFETY: F_SETFD takes an integer; on a number that is not open it gives EBADF.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
        0 => Ok(()),
        _ => {
            Err(SysError::new("keep open", format_args!("descriptor {fd}"), std::io::Error::last_os_error()))
        }
    }
}

/// Closes every descriptor but standard ones and those in `keep`.
pub fn close_all_but(keep: &[i32]) -> SysResult<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep {
        if fd > first {
            close_range_to(first, fd - 1, 0)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, 0)
}

fn close_range(first: u32, flags: u32) -> SysResult<()> {
    close_range_to(first, u32::MAX, flags)
}

fn close_range_to(first: u32, last: u32, flags: u32) -> SysResult<()> {
    // SAFETY: takes integers only. Called where every owner of a descriptor in the range is about to be
    // replaced by exec or lies in a forked child that never returns to its owner.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } {
        0 => Ok(()),
        _ => Err(SysError::new("close_range", format_args!("{first}.."), std::io::Error::last_os_error())),
    }
}

/// Has the kernel kill the program when the thread that starts it ends: it must not go on beside its own next run.
pub fn end_with_this_thread(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let die = || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .map_err(std::io::Error::from)
    };
    // SAFETY: one system call with integers, between fork and exec: it takes no lock and allocates nothing.
    unsafe { command.pre_exec(die) };
}

/// Kills the process group that a child of this process leads, which has not been reaped: its number is still its own.
pub fn kill_group(leader: i32) {
    if let Some(leader) = rustix::process::Pid::from_raw(leader) {
        let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
    }
}

/// Replaces this process by a program. Returns only when that failed.
pub fn exec(argv: &[CString], env: &[CString]) -> SysError {
    let path = argv.first().cloned().unwrap_or_default();
    match nix::unistd::execve(&path, argv, env) {
        Ok(never) => match never {},
        Err(errno) => SysError::new("execute", path.to_string_lossy(), errno),
    }
}

/// Lets this process have as many descriptors open as its hard limit says: it holds some for each VE.
pub fn many_descriptors() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let all = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // The soft limit that there is serves small hosts as well.
    let _ = rustix::process::setrlimit(Resource::Nofile, all);
}

/// Gives this process, and what it starts, the limits that an init has on a machine of its own, soft and hard, whoever
/// started vzd and with which. Those for files are systemd's, the others the kernel's (include/asm-generic/resource.h).
/// A hard limit that this process may not raise stays.
pub fn limits_of_an_init() {
    const FILES: (Option<u64>, Option<u64>) = (Some(1024), Some(512 * 1024));
    const STACK: (Option<u64>, Option<u64>) = (Some(8 << 20), None);
    const NONE: (Option<u64>, Option<u64>) = (None, None);
    for (resource, (current, maximum)) in [
        (Resource::Nofile, FILES),
        (Resource::Stack, STACK),
        (Resource::Core, (Some(0), None)),
        (Resource::Cpu, NONE),
        (Resource::Fsize, NONE),
        (Resource::Data, NONE),
        (Resource::As, NONE),
        (Resource::Nproc, NONE),
    ] {
        if rustix::process::setrlimit(resource, Rlimit { current, maximum }).is_err() {
            let maximum = rustix::process::getrlimit(resource).maximum;
            let current = match (current, maximum) {
                (Some(current), Some(maximum)) => Some(current.min(maximum)),
                (None, maximum) => maximum,
                (current, None) => current,
            };
            let _ = rustix::process::setrlimit(resource, Rlimit { current, maximum });
        }
    }
}

/// Makes `fd` standard input, output and error.
pub fn set_stdio(fd: &OwnedFd) -> SysResult<()> {
    rustix::stdio::dup2_stdin(fd).at("dup2", "stdin")?;
    rustix::stdio::dup2_stdout(fd).at("dup2", "stdout")?;
    rustix::stdio::dup2_stderr(fd).at("dup2", "stderr")
}

/// Makes the terminal `tty` the controlling one of this session.
pub fn set_controlling_tty(tty: impl AsFd) -> SysResult<()> {
    // SAFETY: TIOCSCTTY takes an integer argument and a descriptor that is open for the call.
    match unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) } {
        0 => Ok(()),
        _ => Err(SysError::new("take as controlling terminal", "tty", std::io::Error::last_os_error())),
    }
}
