//! Namespaces: open those of a process, join them, make new ones, map ids.
//!
//! A namespace belongs to a thread: [`on_thread_in`] runs a closure in a short-lived thread that joined
//! one, so that no pool thread is ever moved. User and mount namespaces with locked mounts can only be
//! joined by a single-threaded process; the runtime does that in a forked child.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::sched::CloneFlags;

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::error::{At, SysError, SysResult};
use crate::kernel::process::{self, SingleThreaded};

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Users and capabilities.
    User,
    /// Mounts.
    Mount,
    /// Process ids.
    Pid,
    /// Host and domain name.
    Uts,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Network devices, addresses, sockets.
    Net,
    /// The root of the visible cgroup tree.
    Cgroup,
}

impl Kind {
    fn file(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Mount => "mnt",
            Kind::Pid => "pid",
            Kind::Uts => "uts",
            Kind::Ipc => "ipc",
            Kind::Net => "net",
            Kind::Cgroup => "cgroup",
        }
    }

    fn flag(self) -> CloneFlags {
        match self {
            Kind::User => CloneFlags::CLONE_NEWUSER,
            Kind::Mount => CloneFlags::CLONE_NEWNS,
            Kind::Pid => CloneFlags::CLONE_NEWPID,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
            Kind::Net => CloneFlags::CLONE_NEWNET,
            Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        }
    }
}

/// An open namespace.
#[derive(Debug)]
pub struct Namespace {
    kind: Kind,
    fd: OwnedFd,
}

impl Namespace {
    /// Opens a namespace of a process. The caller checks by pidfd, afterwards, that the pid still
    /// means the process it wants.
    pub fn of(pid: i32, kind: Kind) -> SysResult<Self> {
        let path = PathBuf::from(format!("/proc/{pid}/ns/{}", kind.file()));
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).at("open", path.display())?;
        Ok(Namespace { kind, fd })
    }

    /// Like [`Namespace::of`], through a descriptor of the host's /proc, for a process whose own root
    /// is another.
    pub fn open_at(proc: impl AsFd, pid: i32, kind: Kind) -> SysResult<Self> {
        let path = format!("{pid}/ns/{}", kind.file());
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let fd = rustix::fs::openat(proc, &path, flags, rustix::fs::Mode::empty())
            .at("open", format_args!("/proc/{path}"))?;
        Ok(Namespace { kind, fd })
    }

    /// One that was opened elsewhere.
    pub(super) fn from_fd(fd: OwnedFd, kind: Kind) -> Self {
        Namespace { kind, fd }
    }

    /// A user namespace in which ids of the host are others, for idmapped mounts: of each range so many that have `from` on
    /// disk are shown as `to`'s.
    pub fn mapping(ranges: &[(u32, u32, u32)]) -> SysResult<Self> {
        let child = process::fork_into_user_namespace()?;
        let made = map(child.pid(), ranges).and_then(|()| Self::of(child.pid(), Kind::User));
        let ended = child.kill();
        made.and_then(|made| ended.map(|_| made))
    }

    /// The one of this kind that the calling thread is in.
    pub fn here(kind: Kind) -> SysResult<Self> {
        let path = PathBuf::from(format!("/proc/thread-self/ns/{}", kind.file()));
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).at("open", path.display())?;
        Ok(Namespace { kind, fd })
    }

    /// Moves the calling thread into it. For [`Kind::Pid`] only later children are in it.
    pub fn join(&self) -> SysResult<()> {
        nix::sched::setns(&self.fd, self.kind.flag()).at("join namespace", self.kind.file())
    }

    /// Whether the two are one.
    pub fn is_same(&self, other: &Namespace) -> bool {
        let number = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|is| (is.st_dev, is.st_ino));
        matches!((number(&self.fd), number(&other.fd)), (Ok(one), Ok(two)) if one == two)
    }

    /// The descriptor, for idmapped mounts.
    pub fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Moves the calling process into new namespaces of these kinds.
pub fn unshare(kinds: &[Kind]) -> SysResult<()> {
    let flags = kinds.iter().fold(CloneFlags::empty(), |all, kind| all | kind.flag());
    nix::sched::unshare(flags).at("unshare", format_args!("{kinds:?}"))
}

/// Runs `body` in a thread of its own that joined `namespace` and ends with it.
pub fn on_thread_in<T: Send>(
    namespace: &Namespace,
    body: impl FnOnce() -> SysResult<T> + Send,
) -> SysResult<T> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            if namespace.kind == Kind::Mount {
                nix::sched::unshare(CloneFlags::CLONE_FS).at("unshare", "file system state")?;
            }
            namespace.join()?;
            body()
        });
        worker.join().unwrap_or_else(|_| {
            Err(SysError::refused("work in namespace", namespace.kind.file(), "the thread panicked"))
        })
    })
}

/// Runs `body` in a child in `namespace`, for a process that makes no threads.
pub fn in_child_in(
    proof: SingleThreaded,
    namespace: &Namespace,
    body: impl FnOnce() -> SysResult<()>,
) -> SysResult<()> {
    process::in_child(proof, || {
        namespace.join()?;
        body()
    })?
}

/// A thread that goes from namespace to namespace and never comes back to the host's, for what is read at
/// each look at a VE: a new thread each time would make that dear.
pub struct Visitor {
    name: &'static str,
    ask: Mutex<Option<Sender<Job>>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Visitor {
    /// One whose thread is started by its first visit.
    pub const fn new(name: &'static str) -> Self {
        Visitor { name, ask: Mutex::new(None) }
    }

    /// Does something in a namespace.
    pub fn visit<T: Send + 'static>(
        &self,
        namespace: Namespace,
        body: impl FnOnce() -> SysResult<T> + Send + 'static,
    ) -> SysResult<T> {
        let gone = || SysError::refused("visit namespaces", self.name, "the thread that does is gone");
        let (tell, told) = channel();
        let job = move || drop(tell.send(namespace.join().and_then(|()| body())));
        let mut ask = self.ask.lock().unwrap_or_else(PoisonError::into_inner);
        if ask.is_none() {
            let (sender, jobs) = channel::<Job>();
            let thread = std::thread::Builder::new().name(self.name.into()).stack_size(128 * 1024);
            thread.spawn(move || jobs.iter().for_each(|job| job())).at("start thread", self.name)?;
            *ask = Some(sender);
        }
        ask.as_ref().ok_or_else(gone)?.send(Box::new(job)).map_err(|_| gone())?;
        drop(ask);
        told.recv().map_err(|_| gone())?
    }
}

/// The node name and the domain name of a UTS namespace.
pub fn uts_names(namespace: Namespace) -> SysResult<(String, String)> {
    static VISITOR: Visitor = Visitor::new("names");
    VISITOR.visit(namespace, || {
        let names = rustix::system::uname();
        let domain = names.domainname().to_string_lossy();
        // The kernel's word for a domain name that was never set.
        let domain = if domain == "(none)" { String::new() } else { domain.into_owned() };
        Ok((names.nodename().to_string_lossy().into_owned(), domain))
    })
}

/// Makes the calling thread, and no other, act as a user of the host; for good, so only for a thread
/// that ends.
pub fn become_user(uid: u32) -> SysResult<()> {
    let uid = rustix::process::Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).at("become user", uid.as_raw())
}

/// Maps ids 0..count of the user namespace of `pid` to base..base+count of the host.
pub fn map_ids(pid: i32, base: u32, count: u32) -> SysResult<()> {
    map(pid, &[(0, base, count)])
}

fn map(pid: i32, ranges: &[(u32, u32, u32)]) -> SysResult<()> {
    let line = |(inside, outside, count): &(u32, u32, u32)| format!("{inside} {outside} {count}\n");
    // The kernel takes a map whole, and once.
    let lines: String = ranges.iter().map(line).collect();
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{file}");
        std::fs::write(&path, &lines)
            .map_err(|e| SysError::new("write", &path, e).value(lines.trim_end()))?;
    }
    Ok(())
}
