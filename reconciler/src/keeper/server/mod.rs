//! The keeper's loop: one thread, one epoll, no blocking call.
//!
//! Tokens: the listener, the signal descriptor, then connections, starters' sockets and consoles by a
//! running number.

mod ves;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::error::{At, SysError, SysResult};
use crate::keeper::console::Console;
use crate::keeper::job;
use crate::keeper::protocol::{Reply, Request};
use crate::kernel::heap;
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::{self, SingleThreaded, WaitStatus};
use crate::kernel::seqpacket;
use crate::runtime::quotas::UserQuotas;

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
    Starter { uid: String, socket: OwnedFd, token: u64, client: u64, users: Option<UserQuotas> },
    Job { client: u64, let_finish: bool },
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
    /// Whose a token is, for tokens that are no client's.
    roles: BTreeMap<u64, Role>,
    /// VEs that run, by the pid of their init.
    inits: BTreeMap<i32, String>,
    /// How processes ended of which no starter has spoken yet.
    early: BTreeMap<i32, WaitStatus>,
}

/// Whose a token is.
enum Role {
    /// The socket of the starter with this pid.
    Starter(i32),
    /// The console of the VE with this uid.
    Console(String),
    /// The pidfd of the VE with this uid, which is not our child.
    Adopted(String),
}

/// Serves on `listener` until nothing is held and nobody is connected any more.
pub fn serve(listener: OwnedFd) -> SysResult<()> {
    let proof = SingleThreaded::check()?;
    heap::prefer_few_touched_pages();
    process::many_descriptors();
    process::default_signals();
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
        roles: BTreeMap::new(),
        inits: BTreeMap::new(),
        early: BTreeMap::new(),
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

    /// Hears no more of a descriptor that is about to be closed. Closing alone is not enough: a starter or a job that
    /// was forked meanwhile has it open too, and until that ends its hang-up would be told without a pause.
    fn unwatch(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
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
        match self.roles.get(&token) {
            None => self.on_client(token),
            Some(Role::Starter(pid)) => self.on_starter(*pid),
            Some(Role::Console(uid)) => self.on_console(&uid.clone()),
            Some(Role::Adopted(uid)) => self.on_adopted_end(&uid.clone()),
        }
    }

    fn on_client(&mut self, token: u64) {
        // An event of a descriptor that was closed in the same turn has no client any more.
        let Some(client) = self.clients.get(&token) else { return };
        let (packet, fds) = match seqpacket::recv_packet(&client.socket) {
            Ok(got) => got,
            Err(e) if e.errno == libc::EAGAIN => return,
            Err(_) => (Vec::new(), Vec::new()),
        };
        if packet.is_empty() {
            return self.hang_up(token);
        }
        if let Some(uid) = &client.console_of {
            if let Some((_, console)) = self.ves.get(uid).and_then(|ve| ve.console.as_ref()) {
                console.input(&packet);
            }
            return;
        }
        match serde_json::from_slice(&packet) {
            Ok(request) => self.on_request(token, request, fds),
            Err(e) => self.reply(token, &Reply::Failed(SysError::refused("read", "request", e)), None),
        }
    }

    /// A requester that goes away gives up what it asked for: its child is killed, and with a starter
    /// the VE that was to be.
    fn hang_up(&mut self, token: u64) {
        for (pid, child) in &self.children {
            let (client, let_finish) = match child {
                Child::Starter { client, .. } => (client, false),
                Child::Job { client, let_finish } => (client, *let_finish),
            };
            if *client == token && !let_finish {
                // Our own child, not reaped yet: the number is still its own.
                let _ = Pidfd::open(*pid).and_then(|pidfd| pidfd.signal(libc::SIGKILL));
            }
        }
        let client = self.drop_client(token);
        let uid = client.and_then(|client| client.console_of);
        let console = uid.and_then(|uid| self.ves.get_mut(&uid)?.console.as_mut());
        if let Some((_, console)) = console {
            console.detach(token);
        }
    }

    /// Takes a connection out; it is closed when the caller drops it.
    fn drop_client(&mut self, token: u64) -> Option<Client> {
        let client = self.clients.remove(&token)?;
        self.unwatch(&client.socket);
        Some(client)
    }

    fn reply(&self, token: u64, reply: &Reply, fd: Option<BorrowedFd<'_>>) {
        if let Some(client) = self.clients.get(&token) {
            let fds: Vec<_> = fd.into_iter().collect();
            let _ = seqpacket::send(&client.socket, reply, &fds);
        }
    }

    fn on_request(&mut self, token: u64, request: Request, fds: Vec<OwnedFd>) {
        if job::is_job(&request) {
            return self.start_job(token, &request, &fds);
        }
        let done = match request {
            Request::Start(spec) => return self.start_ve(token, &spec),
            Request::List => Ok(Reply::Held(self.held())),
            Request::Look(uid) => return self.look(token, &uid),
            Request::Forget(uid) => {
                if self.ves.get(&uid).is_some_and(|ve| ve.exited.is_some()) {
                    self.forget(&uid);
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
            Request::AddMounts { .. }
            | Request::RemoveMount { .. }
            | Request::Run { .. }
            | Request::Capture { .. }
            | Request::Suspend(_)
            | Request::WriteAhead(_)
            | Request::Accounts { .. } => return,
        };
        self.reply(token, &done.unwrap_or_else(Reply::Failed), None);
    }

    fn start_job(&mut self, token: u64, request: &Request, fds: &[OwnedFd]) {
        let Some(client) = self.clients.get(&token) else { return };
        let forked = process::fork(self.proof, || {
            let _ = process::unblock_signals();
            job::run(self.proof, request, fds, client.socket.as_fd())
        });
        match forked {
            Ok(child) => {
                let let_finish = job::is_let_finish(request);
                self.children.insert(child.pid(), Child::Job { client: token, let_finish });
            }
            Err(e) => self.reply(token, &Reply::Failed(e), None),
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Some((pid, status)) = process::reap_one() {
            match self.children.remove(&pid) {
                Some(Child::Job { client, .. }) if status != WaitStatus::Exited(0) => {
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
}
