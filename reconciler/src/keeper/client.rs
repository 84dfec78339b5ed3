//! The controller's side of the keeper: find or start it, and ask.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::Timeout;

use crate::error::{At, SysError, SysResult};
use crate::keeper::protocol::{ConsoleInput, Exited, Held, Reply, Request};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::WaitStatus;
use crate::kernel::seqpacket;
use crate::runtime::accounts;
use crate::runtime::checkpoint::ahead::AheadSpec;
use crate::runtime::checkpoint::dump::DumpSpec;
use crate::runtime::enter::{self, Door};
use crate::runtime::spec::{MountSpec, StartSpec, Started};

/// The name of the hidden subcommand that runs the keeper.
pub const SUBCOMMAND: &str = "keeper";

/// What came back: nothing from a keeper that ended.
type Answer = Option<(Reply, Vec<OwnedFd>)>;

/// Tries more, when keepers end just as they are asked.
const AGAIN: usize = 5;
/// Connections that are kept for the next questions: as many as may be asked at a time.
const MOST_IDLE: usize = 16;

/// Where the keeper of one run directory is found. Each request has a connection of its own while it
/// lasts, so that workers never wait for each other.
#[derive(Debug, Clone)]
pub struct Keeper {
    run_dir: PathBuf,
    /// Connections on which nothing is under way.
    idle: Arc<Mutex<Vec<OwnedFd>>>,
}

impl Keeper {
    /// The keeper of this run directory; it is started when the first request needs it.
    pub fn new(run_dir: &Path) -> Self {
        Keeper { run_dir: run_dir.to_owned(), idle: Arc::default() }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket_path(&self) -> PathBuf {
        self.run_dir.join("keeper.sock")
    }

    /// Whether there is no keeper, so that a question need not start one.
    fn is_absent(&self) -> SysResult<bool> {
        if !self.idle().is_empty() {
            return Ok(false);
        }
        match seqpacket::connect(&self.socket_path()) {
            Ok(_) => Ok(false),
            Err(e) if matches!(e.errno, libc::ENOENT | libc::ECONNREFUSED) => Ok(true),
            Err(e) => Err(e),
        }
    }

    fn connect(&self) -> SysResult<OwnedFd> {
        if let Some(socket) = self.idle().pop() {
            return Ok(socket);
        }
        match seqpacket::connect(&self.socket_path()) {
            Err(e) if matches!(e.errno, libc::ENOENT | libc::ECONNREFUSED) => self.start(),
            other => other,
        }
    }

    /// Starts the keeper, unless somebody else just did, and connects to it.
    fn start(&self) -> SysResult<OwnedFd> {
        let lock_path = self.run_dir.join("keeper.lock");
        let lock = std::fs::File::create(&lock_path).at("create", lock_path.display())?;
        lock.lock().at("lock", lock_path.display())?;
        let path = self.socket_path();
        if let Ok(socket) = seqpacket::connect(&path) {
            return Ok(socket);
        }
        let listener = seqpacket::listen(&path)?;
        // Whoever connects from here on waits in the queue until the keeper accepts.
        let socket = seqpacket::connect(&path)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("vzd").arg(SUBCOMMAND).arg("--run-dir").arg(&self.run_dir);
        command.stdin(Stdio::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir("/").env_clear().process_group(0);
        let status = command.status().at("start", "keeper")?;
        if status.success() {
            return Ok(socket);
        }
        Err(SysError::refused("start", "keeper", status))
    }

    /// Sends a request and receives what comes back. A keeper that ends (it does when it holds nothing and
    /// nobody is connected) may leave a connection unaccepted or a request unread; the kernel tells that
    /// apart from one that was read, and it is asked again of the next keeper.
    fn exchange(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> SysResult<(Answer, OwnedFd)> {
        let once = || {
            let socket = self.connect()?;
            if timeout.is_some() {
                rustix::net::sockopt::set_socket_timeout(&socket, Timeout::Recv, timeout)
                    .at("set timeout of", "keeper socket")?;
            }
            seqpacket::send(&socket, request, fds)?;
            Ok((seqpacket::recv::<Reply>(&socket)?, socket))
        };
        let mut result = once();
        for _ in 0..AGAIN {
            match &result {
                Err(SysError { errno: libc::EPIPE | libc::ECONNRESET | libc::ECONNREFUSED, .. }) => {
                    // The others lead to the same keeper.
                    self.idle().clear();
                    result = once();
                }
                _ => break,
            }
        }
        result
    }

    fn ask(
        &self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
    ) -> SysResult<(Reply, Option<OwnedFd>, OwnedFd)> {
        self.ask_within(request, fd, None)
    }

    /// Asks, and gives up (which cancels the request) when there is no answer in time.
    fn ask_within(
        &self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> SysResult<(Reply, Option<OwnedFd>, OwnedFd)> {
        let fds: Vec<_> = fd.into_iter().collect();
        let (answer, socket) =
            self.exchange(request, &fds, timeout).map_err(|e| match (e.errno, timeout) {
                (libc::EAGAIN, Some(timeout)) => {
                    SysError::refused("wait for", "keeper", format!("no answer within {timeout:?}"))
                }
                _ => e,
            })?;
        match answer {
            None => Err(SysError::refused("ask", "keeper", "it ended before it answered")),
            Some((Reply::Failed(error), _)) => Err(error),
            Some((reply, fds)) => Ok((reply, fds.into_iter().next(), socket)),
        }
    }

    /// Asks what the keeper itself answers, once, and keeps the connection for the next question. Not for
    /// what it does in a process of its own: that one holds the connection too, and may still speak.
    fn ask_briefly(
        &self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> SysResult<(Reply, Option<OwnedFd>)> {
        let (reply, fd, socket) = self.ask_within(request, fd, timeout)?;
        if timeout.is_some() {
            rustix::net::sockopt::set_socket_timeout(&socket, Timeout::Recv, None)
                .at("set timeout of", "keeper socket")?;
        }
        let mut idle = self.idle();
        if idle.len() < MOST_IDLE {
            idle.push(socket);
        }
        Ok((reply, fd))
    }

    /// Starts a VE; returns once its init runs, or gives up after `timeout`.
    pub fn start_ve(&self, spec: StartSpec, timeout: Duration) -> SysResult<(Started, Pidfd)> {
        match self.ask_briefly(&Request::Start(Box::new(spec)), None, Some(timeout))? {
            (Reply::Started(started), Some(pidfd)) => Ok((started, Pidfd::from(pidfd))),
            (other, ..) => Err(unexpected(&other)),
        }
    }

    /// Everything it holds. When there is no keeper there is nothing, and none is started.
    pub fn held(&self) -> SysResult<Vec<Held>> {
        if self.is_absent()? {
            return Ok(Vec::new());
        }
        match self.ask_briefly(&Request::List, None, None)? {
            (Reply::Held(held), ..) => Ok(held),
            (other, ..) => Err(unexpected(&other)),
        }
    }

    /// What it holds of one VE, with a pidfd when that runs. When there is no keeper there is nothing.
    pub fn look(&self, uid: &str) -> SysResult<Option<(Held, Option<Pidfd>)>> {
        if self.is_absent()? {
            return Ok(None);
        }
        match self.ask_briefly(&Request::Look(uid.to_owned()), None, None)? {
            (Reply::Held(held), pidfd) => {
                Ok(held.into_iter().next().map(|one| (one, pidfd.map(Pidfd::from))))
            }
            (other, ..) => Err(unexpected(&other)),
        }
    }

    /// Tells it that the exit of a VE is on record. Where there is no keeper there is nothing to forget.
    pub fn forget(&self, uid: &str) -> SysResult<()> {
        if self.is_absent()? {
            return Ok(());
        }
        done(&self.ask_briefly(&Request::Forget(uid.to_owned()), None, None)?.0)
    }

    /// Hands it a VE that it did not start.
    pub fn adopt(&self, uid: &str, pid: i32, pidfd: &Pidfd) -> SysResult<()> {
        done(&self.ask_briefly(&Request::Adopt { uid: uid.to_owned(), pid }, Some(pidfd.as_fd()), None)?.0)
    }

    /// Puts mounts into a running VE.
    pub fn add_mounts(&self, pid: i32, mounts: Vec<MountSpec>) -> SysResult<()> {
        done(&self.ask(&Request::AddMounts { pid, mounts }, None)?.0)
    }

    /// Takes a mount out of a running VE.
    pub fn remove_mount(&self, pid: i32, target: PathBuf) -> SysResult<()> {
        done(&self.ask(&Request::RemoveMount { pid, target }, None)?.0)
    }

    /// Runs a program in a VE: how it ended, `None` when it did not in time, and the first of what it printed.
    pub fn capture(
        &self,
        door: Door,
        command: enter::Command,
        timeout: Duration,
    ) -> SysResult<(Option<WaitStatus>, String)> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        match self.ask(&Request::Capture { door: Box::new(door), command, timeout_ms }, None)? {
            (Reply::Captured(status, printed), ..) => Ok((status, printed)),
            (other, ..) => Err(unexpected(&other)),
        }
    }

    /// Asks about users of a running VE. What has not answered within `timeout` is ended.
    pub fn accounts(&self, pid: i32, ask: accounts::Ask, timeout: Duration) -> SysResult<accounts::Answer> {
        match self.ask_within(&Request::Accounts { pid, ask }, None, Some(timeout))? {
            (Reply::Accounts(answer), ..) => Ok(answer),
            (other, ..) => Err(unexpected(&other)),
        }
    }

    /// Runs a program in a VE; `None` when it did not end in time.
    pub fn run(&self, door: Door, command: enter::Command, timeout_ms: u64) -> SysResult<Option<WaitStatus>> {
        match self.ask(&Request::Run { door: Box::new(door), command, timeout_ms }, None)? {
            (Reply::Ran(status), ..) => Ok(status),
            (other, ..) => Err(unexpected(&other)),
        }
    }

    /// Writes a running VE to disk; it is gone when this returns, or runs on.
    pub fn suspend(&self, spec: DumpSpec) -> SysResult<()> {
        done(&self.ask(&Request::Suspend(Box::new(spec)), None)?.0)
    }

    /// Writes a round of a running VE's memory, of one that runs on.
    pub fn write_ahead(&self, spec: AheadSpec) -> SysResult<()> {
        done(&self.ask(&Request::WriteAhead(spec), None)?.0)
    }

    /// Writes a running VE to disk, which runs on. Between the two `copy` is done, while everything stands still.
    pub fn copy<T: Send>(&self, spec: DumpSpec, copy: impl FnOnce() -> SysResult<T>) -> SysResult<T> {
        let (ours, theirs) = seqpacket::pair()?;
        std::thread::scope(|scope| {
            let dump = scope.spawn(move || {
                // It closes with this thread: then nothing stands still, or ever will.
                let request = Request::Suspend(Box::new(DumpSpec { leave_running: true, ..spec }));
                done(&self.ask(&request, Some(theirs.as_fd()))?.0)
            });
            let copied = seqpacket::recv::<()>(&ours)?.map(|_| copy());
            if let Some(Ok(_)) = &copied {
                seqpacket::send(&ours, &(), &[])?;
            }
            drop(ours);
            let gone = || SysError::refused("copy", "VE", "whoever waited for it panicked");
            let dumped = dump.join().map_err(|_| gone())?;
            match (copied, dumped) {
                (Some(copied), dumped) => copied.and_then(|copied| dumped.map(|()| copied)),
                (None, Err(e)) => Err(e),
                (None, Ok(())) => Err(SysError::refused("copy", "VE", "nobody said that it stood still")),
            }
        })
    }

    /// A stream of exits.
    pub fn watch(&self) -> SysResult<Exits> {
        let (_, _, socket) = self.ask(&Request::Watch, None)?;
        Ok(Exits { socket })
    }

    /// Attaches to a VE's console.
    pub fn console(&self, uid: &str) -> SysResult<Attached> {
        let (_, _, socket) = self.ask(&Request::Console(uid.to_owned()), None)?;
        Ok(Attached { socket })
    }
}

fn done(reply: &Reply) -> SysResult<()> {
    match reply {
        Reply::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

fn unexpected(reply: &Reply) -> SysError {
    SysError::refused("understand", "keeper", format!("it answered {reply:?}"))
}

/// Exits of VEs, as they happen.
#[derive(Debug)]
pub struct Exits {
    socket: OwnedFd,
}

impl Exits {
    /// The next exit; `None` when the keeper is gone.
    pub fn next_exit(&self) -> SysResult<Option<Exited>> {
        Ok(seqpacket::recv(&self.socket)?.map(|(exited, _)| exited))
    }
}

/// A console as a client sees it.
#[derive(Debug)]
pub struct Attached {
    socket: OwnedFd,
}

impl AsFd for Attached {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Attached {
    /// Output of the VE; empty when the console is gone.
    pub fn read(&self) -> SysResult<Vec<u8>> {
        let mut buffer = vec![0; 64 * 1024];
        let (n, _) = seqpacket::recv_bytes(&self.socket, &mut buffer)?;
        buffer.truncate(n);
        Ok(buffer)
    }

    /// Types `bytes`.
    pub fn write(&self, bytes: &[u8]) -> SysResult<()> {
        self.send(ConsoleInput::Data, bytes)
    }

    /// Tells the size of the client's terminal.
    pub fn resize(&self, rows: u16, cols: u16) -> SysResult<()> {
        let [a, b] = rows.to_le_bytes();
        let [c, d] = cols.to_le_bytes();
        self.send(ConsoleInput::Resize, &[a, b, c, d])
    }

    fn send(&self, kind: ConsoleInput, rest: &[u8]) -> SysResult<()> {
        let mut packet = vec![kind as u8];
        packet.extend_from_slice(rest);
        seqpacket::send_bytes(&self.socket, &packet, &[])
    }
}
