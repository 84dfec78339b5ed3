//! The VEs that the keeper holds: starting them, hearing of their end, their consoles.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::epoll::{self, EventData, EventFlags};

use super::{Child, Role, Server, Ve};
use crate::error::{At, SysError, SysResult};
use crate::keeper::console::{Console, Drained, show};
use crate::keeper::protocol::{Exited, Held, Reply};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::{self, SingleThreaded, WaitStatus};
use crate::kernel::seccomp::notify::Listener;
use crate::kernel::{procfs, pty, seqpacket};
use crate::runtime::quotas::{self, UserQuotas};
use crate::runtime::spec::{StartSpec, Started};
use crate::runtime::start::{self, Up};

impl Server {
    pub(super) fn held(&self) -> Vec<Held> {
        self.ves.iter().filter_map(|(uid, ve)| held(uid, ve)).collect()
    }

    pub(super) fn look(&self, token: u64, uid: &str) {
        let ve = self.ves.get(uid);
        let pidfd = ve.and_then(|ve| ve.pidfd.as_ref()).map(AsFd::as_fd);
        let held = ve.and_then(|ve| held(uid, ve)).into_iter().collect();
        self.reply(token, &Reply::Held(held), pidfd);
    }

    /// Lets go of a VE and of what belongs to it.
    pub(super) fn forget(&mut self, uid: &str) {
        if let Some((token, console)) = self.ves.remove(uid).and_then(|ve| ve.console) {
            self.roles.remove(&token);
            self.unwatch(console.master());
        }
    }

    pub(super) fn start_ve(&mut self, token: u64, spec: &StartSpec) {
        if self.ves.get(&spec.uid).is_some_and(|ve| ve.exited.is_none()) {
            let error =
                SysError::refused("start", format_args!("VE {}", spec.uid), "it is running or starting");
            return self.reply(token, &Reply::Failed(error), None);
        }
        if let Err(e) = self.fork_starter(token, spec) {
            self.forget(&spec.uid);
            self.reply(token, &Reply::Failed(e), None);
        }
    }

    pub(super) fn fork_starter(&mut self, client: u64, spec: &StartSpec) -> SysResult<()> {
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
        self.roles.insert(token, Role::Starter(child.pid()));
        self.roles.insert(console_token, Role::Console(spec.uid.clone()));
        let console = Some((console_token, Console::new(master)));
        let ve = Ve { pid: 0, pidfd: None, console, exited: None, adopted: None };
        self.ves.insert(spec.uid.clone(), ve);
        let (uid, users) = (spec.uid.clone(), spec.root.users.clone());
        let starter = Child::Starter { uid, socket: ours, token, client, users };
        self.children.insert(child.pid(), starter);
        Ok(())
    }

    /// A starter has said what came of it.
    pub(super) fn on_starter(&mut self, pid: i32) {
        let Some(Child::Starter { uid, socket, token, client, users }) = self.children.remove(&pid) else {
            return;
        };
        self.roles.remove(&token);
        self.unwatch(&socket);
        let said = seqpacket::recv::<Result<Started, SysError>>(&socket);
        // Its end as a process is reaped like any other's.
        self.children.insert(pid, Child::Job { client: 0, let_finish: true });
        let reply = match said {
            Ok(Some((Ok(started), fds))) => {
                let mut fds = fds.into_iter();
                let (pidfd, listener) = (fds.next(), fds.next());
                if let Some(ve) = self.ves.get_mut(&uid) {
                    ve.pid = started.pid;
                    self.inits.insert(started.pid, uid.clone());
                    ve.pidfd = pidfd.map(Pidfd::from);
                }
                if let (Some(listener), Some(users)) = (listener, &users) {
                    self.answer_for(listener.into(), users);
                }
                Reply::Started(started)
            }
            Ok(Some((Err(e), _))) => Reply::Failed(e),
            Ok(None) => Reply::Failed(SysError::refused("start", "VE", "the starter ended without a word")),
            Err(e) => Reply::Failed(e),
        };
        let mut ended = None;
        match &reply {
            Reply::Started(started) => {
                ended = self.early.remove_entry(&started.pid);
                let pidfd = self.ves.get(&uid).and_then(|ve| ve.pidfd.as_ref()).map(AsFd::as_fd);
                self.reply(client, &reply, pidfd);
            }
            _ => {
                self.forget(&uid);
                self.reply(client, &reply, None);
            }
        }
        if let Some((pid, status)) = ended {
            self.on_ve_end(pid, status);
        }
        if !self.children.values().any(|child| matches!(child, Child::Starter { .. })) {
            self.early.clear();
        }
    }

    /// Has quotas of a VE's users answered for, until the VE ends. Without that process its quotactl(2) is ENOSYS.
    fn answer_for(&mut self, listener: Listener, users: &UserQuotas) {
        if let Ok(child) = process::fork(self.proof, || quotas::supervise(&listener, users)) {
            self.children.insert(child.pid(), Child::Job { client: 0, let_finish: true });
        }
    }

    pub(super) fn on_ve_end(&mut self, pid: i32, status: WaitStatus) {
        match self.inits.remove(&pid) {
            Some(uid) => self.record_end(&uid, status),
            // An init that ended before its starter was heard, or one that never became an init.
            None => drop(self.early.insert(pid, status)),
        }
    }

    pub(super) fn on_adopted_end(&mut self, uid: &str) {
        let Some(ve) = self.ves.get(uid) else { return };
        let zombie = procfs::zombie_status(ve.pid).map(WaitStatus::from_raw);
        // Reaped meanwhile: then the number may mean another process, and the pidfd knows.
        let reaped = ve.pidfd.as_ref().and_then(Pidfd::exit_status);
        self.record_end(uid, reaped.or(zombie).unwrap_or(WaitStatus::Unknown));
    }

    pub(super) fn record_end(&mut self, uid: &str, status: WaitStatus) {
        // Its last words, then the end of the stream.
        self.on_console(uid);
        let Some(ve) = self.ves.get_mut(uid) else { return };
        ve.exited = Some(status);
        let pidfd = ve.pidfd.take();
        let (adopted, console) = (ve.adopted.take(), ve.console.take());
        self.inits.retain(|_, known| known != uid);
        if let (Some(token), Some(pidfd)) = (adopted, pidfd) {
            self.roles.remove(&token);
            self.unwatch(&pidfd);
        }
        if let Some((token, console)) = console {
            self.roles.remove(&token);
            self.unwatch(console.master());
            for client in console.clients() {
                drop(self.drop_client(*client));
            }
        }
        let event = Exited { uid: uid.to_owned(), status };
        for client in self.clients.values().filter(|client| client.watching) {
            let _ = seqpacket::send(&client.socket, &event, &[]);
        }
    }

    pub(super) fn adopt(&mut self, uid: String, pid: i32, fds: Vec<OwnedFd>) -> SysResult<Reply> {
        let pidfd = fds.into_iter().next().map(Pidfd::from);
        let pidfd = pidfd.ok_or_else(|| SysError::refused("adopt", "VE", "no pidfd came with it"))?;
        if self.ves.get(&uid).is_some_and(|ve| ve.exited.is_none()) {
            return Ok(Reply::Done);
        }
        let token = self.token();
        self.watch_fd(pidfd.as_fd(), token, EventFlags::IN | EventFlags::ET)?;
        self.roles.insert(token, Role::Adopted(uid.clone()));
        let ve = Ve { pid, pidfd: Some(pidfd), console: None, exited: None, adopted: Some(token) };
        self.ves.insert(uid, ve);
        Ok(Reply::Done)
    }

    pub(super) fn attach_console(&mut self, token: u64, uid: String) {
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

    pub(super) fn on_console(&mut self, uid: &str) {
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

/// What is told of a VE: nothing yet while it starts.
fn held(uid: &str, ve: &Ve) -> Option<Held> {
    let told = ve.pidfd.is_some() || ve.exited.is_some();
    told.then(|| Held { uid: uid.to_owned(), pid: ve.pid, exited: ve.exited })
}

/// The life of a starter.
fn run_starter(proof: SingleThreaded, spec: &StartSpec, console: PathBuf, socket: &OwnedFd) -> i32 {
    let _ = process::unblock_signals();
    // What the keeper holds of other VEs is none of its business, and is more than an init may have open.
    let closed = process::close_all_but(&[socket.as_raw_fd()]);
    process::limits_of_an_init();
    let said = closed.and_then(|()| start::start(proof, spec, &console));
    let sent = match &said {
        Ok(Up { started, pidfd, listener, .. }) => {
            let fds: Vec<_> = [pidfd.as_fd()].into_iter().chain(listener.as_ref().map(AsFd::as_fd)).collect();
            seqpacket::send(socket, &Ok::<_, SysError>(started), &fds)
        }
        Err(error) => seqpacket::send(socket, &Err::<Started, _>(error), &[]),
    };
    // Nobody need wait for the end of what takes much disk.
    drop(said.ok().and_then(|up| up.used).map(|checkpoint| checkpoint.remove()));
    i32::from(sent.is_err())
}
