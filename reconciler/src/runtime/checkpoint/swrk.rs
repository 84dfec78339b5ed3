//! CRIU as a service: one request, its notifications, its answer, over a socket that it inherits (`criu swrk`).
//!
//! CRIU is never killed here: a dump that is cut off would leave its code in the VE's processes. It ends when the
//! socket closes, and undoes what it has not finished.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use crate::error::{At, SysError, SysResult};
use crate::kernel::clone::clone_sibling;
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::{self, SingleThreaded};
use crate::kernel::seccomp::{self, Op};
use crate::kernel::seqpacket;
use crate::runtime::checkpoint::wire::{Message, Value, fields};

/// `criu_req_type`.
const DUMP: u64 = 1;
const RESTORE: u64 = 2;
const NOTIFY: u64 = 6;
const SINGLE_PRE_DUMP: u64 = 13;

/// Empty network namespace: CRIU keeps nothing of it, and makes a bare one.
const EMPTY_NET: u64 = libc::CLONE_NEWNET as u64;
/// `criu_cg_mode` SOFT: into the groups that there are, whose limits stay.
const CGROUPS_SOFT: u64 = 3;
/// `criu_network_lock_method` SKIP: the network is closed by us.
const LOCK_SKIP: u64 = 3;
/// Warnings and errors are all that is read of its log.
const LOG_LEVEL: u64 = 2;
/// Freezing takes so long at most, in seconds.
const FREEZE_TIMEOUT: u64 = 10;
/// Files that are open but have no name any more are kept up to this size.
const GHOST_LIMIT: u64 = 64 << 20;

/// What is asked of CRIU.
#[derive(Debug)]
pub enum Ask {
    /// Write the tree of this process, and end it or let it run on.
    Dump {
        /// It runs on.
        leave_running: bool,
        /// Mount points that are left out.
        skipped: Vec<String>,
        /// Directories in which what is watched (inotify) is searched for. An overlay opens no file by its handle.
        searched: Vec<String>,
        /// Its root process.
        pid: i32,
        /// The directory of what was written ahead last, from that of images.
        parent: Option<String>,
    },
    /// Write what has changed in the memory of the tree of this process, which goes on.
    Ahead {
        /// Its root process.
        pid: i32,
        /// The directory of what was written before, from that of images; else all of it is written.
        parent: Option<String>,
    },
    /// Bring a tree back, as children of this process's parent.
    Restore {
        /// The descriptor that stands for the terminal of the last external name.
        tty: (String, RawFd),
        /// A mount that becomes its root.
        root: std::path::PathBuf,
        /// Groups, by controller, in the place of those that it was in.
        groups: BTreeMap<String, String>,
    },
}

/// A request.
#[derive(Debug)]
pub struct Request<'a> {
    /// What.
    pub ask: Ask,
    /// The directory of images, which has to stay open.
    pub images: &'a OwnedFd,
    /// Name of its log in that directory.
    pub log: &'a str,
    /// Established TCP connections are not kept.
    pub closes_tcp: bool,
    /// What lies outside of the tree, in CRIU's notation.
    pub external: Vec<String>,
}

impl Request<'_> {
    fn encode(&self) -> Vec<u8> {
        let images = u64::try_from(self.images.as_raw_fd()).unwrap_or_default();
        let mut opts = Message::default()
            .number(1, images)
            .number(if self.closes_tcp { 52 } else { 5 }, 1) // tcp_close, tcp_established
            .number(8, 1) // file_locks
            .number(9, LOG_LEVEL)
            .text(10, self.log)
            .number(12, 1) // notify_scripts
            .number(18, 1) // link_remap
            .number(24, 1) // manage_cgroups
            .number(34, CGROUPS_SOFT)
            .number(38, EMPTY_NET);
        for name in &self.external {
            opts = opts.text(37, name);
        }
        let (kind, opts) = match &self.ask {
            Ask::Ahead { pid, parent } => {
                opts = opts.number(2, u64::try_from(*pid).unwrap_or_default()).number(45, FREEZE_TIMEOUT);
                (SINGLE_PRE_DUMP, since(opts.number(15, 1), parent.as_deref())) // track_mem
            }
            Ask::Dump { leave_running, skipped, searched, pid, parent } => {
                if parent.is_some() {
                    opts = since(opts.number(15, 1), parent.as_deref()); // track_mem
                }
                opts = opts
                    .number(2, u64::try_from(*pid).unwrap_or_default())
                    .number(3, u64::from(*leave_running))
                    .number(35, GHOST_LIMIT)
                    .number(45, FREEZE_TIMEOUT)
                    .number(46, 1) // tcp_skip_in_flight
                    .number(64, LOCK_SKIP);
                for path in skipped {
                    opts = opts.text(31, path);
                }
                for path in searched {
                    opts = opts.text(36, path); // irmap_scan_paths
                }
                (DUMP, opts)
            }
            Ask::Restore { tty: (name, fd), root, groups } => {
                let fd = u64::try_from(*fd).unwrap_or_default();
                let inherited = Message::default().text(1, name).number(2, fd);
                let root = root.display().to_string();
                for (name, path) in groups {
                    opts = opts.message(25, Message::default().text(1, name).text(2, path)); // cg_root
                }
                (RESTORE, opts.text(13, &root).number(26, 1).message(27, inherited))
            }
        };
        Message::default().number(1, kind).message(2, opts).into_bytes()
    }
}

/// What was written before, and is not to be written again.
fn since(opts: Message, parent: Option<&str>) -> Message {
    match parent {
        Some(parent) => opts.text(14, parent), // parent_img
        None => opts,
    }
}

/// A CRIU that has been started.
#[derive(Debug)]
pub struct Swrk {
    socket: OwnedFd,
    pidfd: Pidfd,
}

/// Why a request was not done.
#[derive(Debug)]
pub struct Failure {
    /// The reason.
    pub error: SysError,
    /// CRIU has said that it gave up, and has undone everything. Else nobody knows how far it came.
    pub undone: bool,
    /// We refused to go on: CRIU's log tells nothing more.
    pub ours: bool,
}

/// What CRIU says on its way: the name of the stage, and the root's pid where it has one.
pub type Stage<'a> = (&'a str, i32);

impl Swrk {
    /// Starts `program` as a child of this process's parent, in this process's namespaces, with the descriptors of
    /// `keep` open under the same numbers.
    pub fn start(proof: SingleThreaded, program: &Path, keep: &[RawFd]) -> SysResult<Swrk> {
        Self::start_with(proof, program, keep, |_| Ok(()))
    }

    /// The same under a filter of system calls, which all that it brings back has then, too. Gives its listener.
    pub fn start_listening(
        proof: SingleThreaded,
        program: &Path,
        keep: &[RawFd],
        filter: &[Op],
    ) -> SysResult<(Swrk, OwnedFd)> {
        let criu = Self::start_with(proof, program, keep, |socket| {
            let listener = seccomp::install(filter, true);
            let fds: Vec<_> = listener.iter().flatten().map(AsFd::as_fd).collect();
            seqpacket::send(socket, &listener.as_ref().map(drop), &fds)
        })?;
        let Some((said, fds)) = seqpacket::recv::<SysResult<()>>(&criu.socket)? else {
            return Err(SysError::refused("start", "CRIU", "its process ended without a word"));
        };
        said?;
        let listener = fds.into_iter().next();
        let listener = listener.ok_or_else(|| SysError::refused("start", "CRIU", "no listener came back"))?;
        Ok((criu, listener))
    }

    /// `ready` is run in the new process, with its end of the socket.
    fn start_with(
        proof: SingleThreaded,
        program: &Path,
        keep: &[RawFd],
        ready: impl FnOnce(&OwnedFd) -> SysResult<()>,
    ) -> SysResult<Swrk> {
        let (socket, theirs) = seqpacket::pair()?;
        let word = |text: &str| {
            CString::new(text).map_err(|_| SysError::refused("pass", text, "it holds a NUL byte"))
        };
        let path = word(&program.display().to_string())?;
        let argv = [path, word("swrk")?, word(&theirs.as_raw_fd().to_string())?];
        let env = [word("PATH=/usr/sbin:/usr/bin:/sbin:/bin")?];
        let mut keep = keep.to_vec();
        keep.push(theirs.as_raw_fd());
        let started = clone_sibling(proof, 0, None, || {
            let ready = process::close_all_but(&keep)
                .and_then(|()| keep.iter().try_for_each(|fd| process::keep_open(*fd)))
                .and_then(|()| ready(&theirs));
            if ready.is_ok() {
                process::exec(&argv, &env);
            }
            127
        })?;
        Ok(Swrk { socket, pidfd: Pidfd::from(started.pidfd) })
    }

    /// Makes a request. At each stage `on` is asked whether to go on; an error of it undoes everything, and is returned.
    /// Returns the pid of the root that was restored, 0 for a dump.
    pub fn ask(
        self,
        request: &Request<'_>,
        mut on: impl FnMut(Stage<'_>) -> SysResult<()>,
    ) -> Result<i32, Failure> {
        let mut ours = false;
        let answered = self.converse(request, |stage| on(stage).inspect_err(|_| ours = true));
        let answered = answered.map_err(|error| Failure { error, undone: false, ours: false })?;
        answered.map_err(|error| Failure { error, undone: true, ours })
    }

    /// What CRIU answered, in the end.
    fn converse(
        self,
        request: &Request<'_>,
        mut on: impl FnMut(Stage<'_>) -> SysResult<()>,
    ) -> SysResult<SysResult<i32>> {
        seqpacket::send_bytes(&self.socket, &request.encode(), &[])?;
        let mut refused = None;
        let answer = loop {
            let (packet, _) = seqpacket::recv_packet(&self.socket)?;
            let answer = Answer::read(&packet)?;
            let Some((stage, pid)) = &answer.stage else { break answer };
            let result = if refused.is_none() { on((stage, *pid)) } else { Ok(()) };
            let good = u64::from(result.is_ok() && refused.is_none());
            refused = refused.or(result.err());
            let reply = Message::default().number(1, NOTIFY).number(3, good);
            seqpacket::send_bytes(&self.socket, &reply.into_bytes(), &[])?;
        };
        drop(self.socket);
        let refused = match refused {
            Some(error) => error,
            // What it still has open goes with it. Who works on the checkpoint next waits for that by the lock on it.
            None if answer.success => return Ok(Ok(answer.pid)),
            None => answer.error,
        };
        // It does nothing more: its end is only waited for.
        self.pidfd.wait(std::time::Duration::from_secs(10))?;
        Ok(Err(refused))
    }
}

struct Answer {
    success: bool,
    pid: i32,
    stage: Option<(String, i32)>,
    error: SysError,
}

impl Answer {
    fn read(packet: &[u8]) -> SysResult<Self> {
        let gone = || SysError::refused("ask", "CRIU", "it ended before it answered");
        if packet.is_empty() {
            return Err(gone());
        }
        let mut answer = Answer {
            success: false,
            pid: 0,
            stage: None,
            error: SysError::refused("ask", "CRIU", "it failed"),
        };
        let pid_of = |number: u64| i32::try_from(number).unwrap_or_default();
        for field in fields(packet)? {
            match field {
                (2, Value::Number(success)) => answer.success = success != 0,
                (4, Value::Bytes(restored)) => {
                    for field in fields(restored)? {
                        if let (1, Value::Number(pid)) = field {
                            answer.pid = pid_of(pid);
                        }
                    }
                }
                (5, Value::Bytes(notify)) => {
                    let mut stage = (String::new(), 0);
                    for field in fields(notify)? {
                        match field {
                            (1, Value::Bytes(name)) => stage.0 = String::from_utf8_lossy(name).into_owned(),
                            (2, Value::Number(pid)) => stage.1 = pid_of(pid),
                            _ => {}
                        }
                    }
                    answer.stage = Some(stage);
                }
                (7, Value::Number(errno)) => answer.error.errno = pid_of(errno),
                (9, Value::Bytes(text)) => {
                    let text = String::from_utf8_lossy(text).trim().to_owned();
                    answer.error.detail = Some(text).filter(|text| !text.is_empty()).or(answer.error.detail);
                }
                _ => {}
            }
        }
        Ok(answer)
    }
}

/// The version of a CRIU, as `4.2.1`.
pub fn version(program: &Path) -> SysResult<String> {
    let output = std::process::Command::new(program).arg("--version").env_clear().output();
    let output = output.at("execute", program.display())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
    version.map(|version| version.trim().to_owned()).ok_or_else(|| {
        SysError::refused("read the version of", program.display(), format!("it said {:?}", text.trim()))
    })
}

/// The oldest one that can dump sockets on kernels since 6.16.
const OLDEST: [u32; 2] = [4, 2];

/// Whether there is a CRIU that can be used.
pub fn try_version(program: &Path) -> SysResult<()> {
    let version = version(program)?;
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let number = [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)];
    if number >= OLDEST {
        return Ok(());
    }
    let why = format!("it is version {version}; {}.{} or later is needed", OLDEST[0], OLDEST[1]);
    Err(SysError::refused("use", program.display(), why))
}
