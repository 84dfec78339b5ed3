//! The keeper's loop: one thread, one epoll, no blocking call.
//!
//! Tokens: the listener, the signal descriptor, then connections, starters' sockets and consoles by a
//! running number.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::error::{At, SysError, SysResult};
use crate::keeper::console::{Console, Drained, show};
use crate::keeper::job;
use crate::keeper::protocol::{Exited, Held, Reply, Request};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::{self, SingleThreaded, WaitStatus};
use crate::kernel::{procfs, pty, seqpacket};
use crate::runtime::spec::{StartSpec, Started};
use crate::runtime::start;

const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const FIRST_TOKEN: u64 = 16;

/// A VE that is starting, running, or whose exit has not been fetched yet.
struct Ve {
    pid: i32,
    pidfd: Option<Pidfd>,
    console: Option<(u64, Console)>,
    exited: Option<WaitStatus>,
    /// Token of the pidfd of a VE that is not our child.
    adopted: Option<u64>,
}

/// A connection.
struct Client {
    socket: OwnedFd,
    watching: bool,
    console_of: Option<String>,
}

/// A forked child that works for a connection.
enum Child {
    Starter { uid: String, socket: OwnedFd, token: u64, client: u64 },
    Job { client: u64 },
}

struct Server {
    proof: SingleThreaded,
    epoll: OwnedFd,
    listener: OwnedFd,
    signals: SignalFd,
    next_token: u64,
    ves: BTreeMap<String, Ve>,
    clients: BTreeMap<u64, Client>,
    children: BTreeMap<i32, Child>,
}

/// Serves on `listener` until nothing is held and nobody is connected any more.
pub fn serve(listener: OwnedFd) -> SysResult<()> {
    let proof = SingleThreaded::check()?;
    let mut mask = SigSet::empty();
    // What ends an interactive program must not end the keeper: blocked, read and ignored.
    for signal in [Signal::SIGCHLD, Signal::SIGHUP, Signal::SIGINT, Signal::SIGPIPE, Signal::SIGTERM] {
        mask.add(signal);
    }
    mask.thread_block().at("block", "signals")?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .at("make", "signal descriptor")?;
    let epoll = epoll::create(CreateFlags::CLOEXEC).at("make", "epoll")?;
    let mut server = Server {
        proof,
        epoll,
        listener,
        signals,
        next_token: FIRST_TOKEN,
        ves: BTreeMap::new(),
        clients: BTreeMap::new(),
        children: BTreeMap::new(),
    };
    server.watch_fd(server.listener.as_fd(), LISTENER, EventFlags::IN)?;
    server.watch_fd(server.signals.as_fd(), SIGNALS, EventFlags::IN)?;
    let mut served = false;
    while !served || !server.is_idle() {
        server.turn()?;
        served |= !server.clients.is_empty();
    }
    Ok(())
}

impl Server {
    fn is_idle(&self) -> bool {
        self.ves.is_empty() && self.clients.is_empty() && self.children.is_empty()
    }

    fn watch_fd(&self, fd: BorrowedFd<'_>, token: u64, flags: EventFlags) -> SysResult<()> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token), flags).at("watch", "descriptor")
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Waits for events and handles them.
    fn turn(&mut self) -> SysResult<()> {
        let mut events = Vec::with_capacity(64);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(SysError::new("wait on", "epoll", e)),
        }
        for event in events {
            match event.data.u64() {
                LISTENER => self.accept(),
                SIGNALS => self.reap(),
                token => self.on_token(token),
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        let Ok(socket) = seqpacket::accept(&self.listener) else { return };
        let token = self.token();
        if self.watch_fd(socket.as_fd(), token, EventFlags::IN).is_ok() {
            self.clients.insert(token, Client { socket, watching: false, console_of: None });
        }
    }

    fn on_token(&mut self, token: u64) {
        if self.clients.contains_key(&token) {
            return self.on_client(token);
        }
        let starter = self.children.iter().find_map(|(pid, child)| match child {
            Child::Starter { token: t, .. } if *t == token => Some(*pid),
            _ => None,
        });
        if let Some(pid) = starter {
            return self.on_starter(pid);
        }
        if let Some(uid) = self.uid_where(|ve| ve.console.as_ref().is_some_and(|(t, _)| *t == token)) {
            return self.on_console(&uid);
        }
        if let Some(uid) = self.uid_where(|ve| ve.adopted == Some(token)) {
            self.on_adopted_end(&uid);
        }
    }

    fn uid_where(&self, matches: impl Fn(&Ve) -> bool) -> Option<String> {
        self.ves.iter().find(|(_, ve)| matches(ve)).map(|(uid, _)| uid.clone())
    }

    fn on_client(&mut self, token: u64) {
        let Some(client) = self.clients.get(&token) else { return };
        let mut buffer = vec![0; seqpacket::MAX_MESSAGE];
        let (n, fds) = match seqpacket::recv_bytes(&client.socket, &mut buffer) {
            Ok(got) => got,
            Err(e) if e.errno == libc::EAGAIN => return,
            Err(_) => (0, Vec::new()),
        };
        if n == 0 {
            return self.hang_up(token);
        }
        if let Some(uid) = &client.console_of {
            if let Some((_, console)) = self.ves.get(uid).and_then(|ve| ve.console.as_ref()) {
                console.input(&buffer[..n]);
            }
            return;
        }
        match serde_json::from_slice(&buffer[..n]) {
            Ok(request) => self.on_request(token, request, fds),
            Err(e) => self.reply(token, &Reply::Failed(SysError::refused("read", "request", e)), None),
        }
    }

    /// A requester that goes away gives up what it asked for: its child is killed, and with a starter
    /// the VE that was to be.
    fn hang_up(&mut self, token: u64) {
        for (pid, child) in &self.children {
            let (Child::Starter { client, .. } | Child::Job { client }) = child;
            if *client == token {
                // Our own child, not reaped yet: the number is still its own.
                let _ = Pidfd::open(*pid).and_then(|pidfd| pidfd.signal(libc::SIGKILL));
            }
        }
        if let Some(client) = self.clients.remove(&token) {
            if let Some((_, console)) =
                client.console_of.and_then(|uid| self.ves.get_mut(&uid)?.console.as_mut())
            {
                console.detach(token);
            }
        }
    }

    fn reply(&self, token: u64, reply: &Reply, fd: Option<BorrowedFd<'_>>) {
        if let Some(client) = self.clients.get(&token) {
            let fds: Vec<_> = fd.into_iter().collect();
            let _ = seqpacket::send(&client.socket, reply, &fds);
        }
    }

    fn on_request(&mut self, token: u64, request: Request, fds: Vec<OwnedFd>) {
        if job::is_job(&request) {
            return self.start_job(token, &request);
        }
        let done = match request {
            Request::Start(spec) => return self.start_ve(token, &spec),
            Request::List => Ok(Reply::Held(self.held())),
            Request::Open(uid) => return self.open_ve(token, &uid),
            Request::Forget(uid) => {
                if self.ves.get(&uid).is_some_and(|ve| ve.exited.is_some()) {
                    self.ves.remove(&uid);
                }
                Ok(Reply::Done)
            }
            Request::Adopt { uid, pid } => self.adopt(uid, pid, fds),
            Request::Watch => {
                if let Some(client) = self.clients.get_mut(&token) {
                    client.watching = true;
                }
                Ok(Reply::Done)
            }
            Request::Console(uid) => return self.attach_console(token, uid),
            Request::AddMounts { .. } | Request::RemoveMount { .. } | Request::Run { .. } => return,
        };
        self.reply(token, &done.unwrap_or_else(Reply::Failed), None);
    }

    fn held(&self) -> Vec<Held> {
        let held = |(uid, ve): (&String, &Ve)| Held { uid: uid.clone(), pid: ve.pid, exited: ve.exited };
        self.ves.iter().filter(|(_, ve)| ve.pidfd.is_some() || ve.exited.is_some()).map(held).collect()
    }

    fn open_ve(&self, token: u64, uid: &str) {
        match self.ves.get(uid) {
            Some(Ve { pid, pidfd: Some(pidfd), exited: None, .. }) => {
                self.reply(token, &Reply::Opened(*pid), Some(pidfd.as_fd()));
            }
            _ => {
                let error = SysError::refused("open", format_args!("VE {uid}"), "it is not running");
                self.reply(token, &Reply::Failed(error), None);
            }
        }
    }

    fn start_job(&mut self, token: u64, request: &Request) {
        let Some(client) = self.clients.get(&token) else { return };
        let forked = process::fork(self.proof, || {
            let _ = process::reset_signals();
            job::run(self.proof, request, client.socket.as_fd())
        });
        match forked {
            Ok(child) => {
                self.children.insert(child.pid(), Child::Job { client: token });
            }
            Err(e) => self.reply(token, &Reply::Failed(e), None),
        }
    }

    fn start_ve(&mut self, token: u64, spec: &StartSpec) {
        if self.ves.get(&spec.uid).is_some_and(|ve| ve.exited.is_none()) {
            let error = SysError::refused("start", format_args!("VE {}", spec.uid), "it is running or starting");
            return self.reply(token, &Reply::Failed(error), None);
        }
        if let Err(e) = self.fork_starter(token, spec) {
            self.ves.remove(&spec.uid);
            self.reply(token, &Reply::Failed(e), None);
        }
    }

    fn fork_starter(&mut self, client: u64, spec: &StartSpec) -> SysResult<()> {
        let (master, slave) = pty::open()?;
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::RDWR;
        rustix::fs::fcntl_setfl(&master, flags).at("set non-blocking", "pty")?;
        let (ours, theirs) = seqpacket::pair()?;
        let proof = self.proof;
        let child = process::fork(proof, || run_starter(proof, spec, slave, &theirs))?;
        let token = self.token();
        self.watch_fd(ours.as_fd(), token, EventFlags::IN)?;
        let console_token = self.token();
        self.watch_fd(master.as_fd(), console_token, EventFlags::IN | EventFlags::ET)?;
        let console = Some((console_token, Console::new(master)));
        let ve = Ve { pid: 0, pidfd: None, console, exited: None, adopted: None };
        self.ves.insert(spec.uid.clone(), ve);
        let starter = Child::Starter { uid: spec.uid.clone(), socket: ours, token, client };
        self.children.insert(child.pid(), starter);
        Ok(())
    }

    /// A starter has said what came of it.
    fn on_starter(&mut self, pid: i32) {
        let Some(Child::Starter { uid, socket, client, .. }) = self.children.remove(&pid) else { return };
        let said = seqpacket::recv::<Result<Started, SysError>>(&socket);
        // Its end as a process is reaped like any other's.
        self.children.insert(pid, Child::Job { client: 0 });
        let reply = match said {
            Ok(Some((Ok(started), fds))) => {
                if let Some(ve) = self.ves.get_mut(&uid) {
                    ve.pid = started.pid;
                    ve.pidfd = fds.into_iter().next().map(Pidfd::from);
                }
                Reply::Started(started)
            }
            Ok(Some((Err(e), _))) => Reply::Failed(e),
            Ok(None) => Reply::Failed(SysError::refused("start", "VE", "the starter ended without a word")),
            Err(e) => Reply::Failed(e),
        };
        match &reply {
            Reply::Started(_) => {
                let pidfd = self.ves.get(&uid).and_then(|ve| ve.pidfd.as_ref()).map(AsFd::as_fd);
                self.reply(client, &reply, pidfd);
            }
            _ => {
                self.ves.remove(&uid);
                self.reply(client, &reply, None);
            }
        }
        // Its init may have been reaped before its starter was heard.
        self.reap();
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Some((pid, status)) = process::reap_one() {
            match self.children.remove(&pid) {
                Some(Child::Job { client }) if status != WaitStatus::Exited(0) => {
                    let error = SysError::refused("do", "request", format!("its process ended: {status:?}"));
                    self.reply(client, &Reply::Failed(error), None);
                }
                Some(starter @ Child::Starter { .. }) => {
                    // Its word is in the socket; it is read when that is polled.
                    self.children.insert(pid, starter);
                    self.on_starter(pid);
                    self.children.remove(&pid);
                }
                Some(Child::Job { .. }) => {}
                None => self.on_ve_end(pid, status),
            }
        }
    }

    fn on_ve_end(&mut self, pid: i32, status: WaitStatus) {
        // An init that ends before its starter was heard is one whose starter still sits in `children`.
        let starters: Vec<i32> = self
            .children
            .iter()
            .filter(|(_, child)| matches!(child, Child::Starter { .. }))
            .map(|(pid, _)| *pid)
            .collect();
        let mut uid = self.uid_where(|ve| ve.pid == pid && ve.exited.is_none());
        for starter in starters {
            if uid.is_some() {
                break;
            }
            self.on_starter(starter);
            uid = self.uid_where(|ve| ve.pid == pid && ve.exited.is_none());
        }
        if let Some(uid) = uid {
            self.record_end(&uid, status);
        }
    }

    fn on_adopted_end(&mut self, uid: &str) {
        let Some(ve) = self.ves.get(uid) else { return };
        let zombie = procfs::zombie_status(ve.pid).map(WaitStatus::from_raw);
        // Reaped meanwhile: then the number may mean another process, and the pidfd knows.
        let reaped = ve.pidfd.as_ref().and_then(Pidfd::exit_status);
        self.record_end(uid, reaped.or(zombie).unwrap_or(WaitStatus::Unknown));
    }

    fn record_end(&mut self, uid: &str, status: WaitStatus) {
        // Its last words, then the end of the stream.
        self.on_console(uid);
        let Some(ve) = self.ves.get_mut(uid) else { return };
        ve.exited = Some(status);
        ve.pidfd = None;
        ve.adopted = None;
        if let Some((_, console)) = ve.console.take() {
            for client in console.clients() {
                self.clients.remove(client);
            }
        }
        let event = Exited { uid: uid.to_owned(), status };
        for client in self.clients.values().filter(|client| client.watching) {
            let _ = seqpacket::send(&client.socket, &event, &[]);
        }
    }

    fn adopt(&mut self, uid: String, pid: i32, fds: Vec<OwnedFd>) -> SysResult<Reply> {
        let pidfd = fds.into_iter().next().map(Pidfd::from);
        let pidfd = pidfd.ok_or_else(|| SysError::refused("adopt", "VE", "no pidfd came with it"))?;
        if self.ves.get(&uid).is_some_and(|ve| ve.exited.is_none()) {
            return Ok(Reply::Done);
        }
        let token = self.token();
        self.watch_fd(pidfd.as_fd(), token, EventFlags::IN | EventFlags::ET)?;
        let ve = Ve { pid, pidfd: Some(pidfd), console: None, exited: None, adopted: Some(token) };
        self.ves.insert(uid, ve);
        Ok(Reply::Done)
    }

    fn attach_console(&mut self, token: u64, uid: String) {
        let console = self.ves.get_mut(&uid).and_then(|ve| ve.console.as_mut());
        let Some((_, console)) = console else {
            let error = SysError::refused(
                "attach to the console of",
                format_args!("VE {uid}"),
                "it is not running, or its console was lost with an earlier keeper",
            );
            return self.reply(token, &Reply::Failed(error), None);
        };
        let before = console.attach(token);
        self.reply(token, &Reply::Done, None);
        if let Some(client) = self.clients.get_mut(&token) {
            client.console_of = Some(uid);
            show(client.socket.as_fd(), &before);
        }
    }

    fn on_console(&mut self, uid: &str) {
        let Some((token, console)) = self.ves.get_mut(uid).and_then(|ve| ve.console.as_mut()) else { return };
        let Drained::Bytes(bytes) = console.drain() else { return };
        let clients = console.clients().to_vec();
        if !bytes.is_empty() {
            // Edge-triggered: ask to be told again in case there is more.
            let (token, master) = (*token, console.master());
            let flags = EventFlags::IN | EventFlags::ET;
            let _ = epoll::modify(&self.epoll, master, EventData::new_u64(token), flags);
        }
        for client in clients.iter().filter_map(|token| self.clients.get(token)) {
            show(client.socket.as_fd(), &bytes);
        }
    }
}

/// The life of a starter.
fn run_starter(proof: SingleThreaded, spec: &StartSpec, console: PathBuf, socket: &OwnedFd) -> i32 {
    let _ = process::reset_signals();
    let said = start::start(proof, spec, &console);
    let sent = match &said {
        Ok((started, pidfd)) => {
            seqpacket::send(socket, &Ok::<_, SysError>(started), &[pidfd.as_fd()])
        }
        Err(error) => seqpacket::send(socket, &Err::<Started, _>(error), &[]),
    };
    i32::from(sent.is_err())
}
