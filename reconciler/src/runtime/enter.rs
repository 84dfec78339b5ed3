//! Executing a program inside a running VE.
//!
//! The process joins the VE's control groups and namespaces and gets what the VE's init got: its
//! capabilities and its system call filter, nothing of the host's environment, and no descriptor but
//! the three it is given (or a terminal of the VE's own). Until it executes the program it can be
//! neither traced nor read from inside.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{At, SysError, SysResult};
use crate::kernel::ns::{Kind, Namespace};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::{self, SingleThreaded, WaitStatus};
use crate::kernel::{caps, clone, pty, seccomp, seqpacket};
use crate::runtime::init::{c_strings, program};
use crate::runtime::printed::Printed;
use crate::runtime::quotas::{self, UserQuotas};

/// Which VE to enter, and with what rights.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Door {
    /// The host's pid of its init.
    pub pid: i32,
    /// Version 2 cgroup for processes of the host's.
    pub cgroup_exec: PathBuf,
    /// Version 1 cgroups.
    pub cgroup_v1: Vec<PathBuf>,
    /// Capabilities it keeps.
    pub capabilities: u64,
    /// Text of its seccomp profile.
    pub seccomp_profile: Option<String>,
    /// It may set attributes of its files.
    #[serde(default)]
    pub own_attributes: bool,
    /// Quotas that its root sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<UserQuotas>,
}

/// What to execute.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// Program and arguments; a name without a slash is looked up in `PATH`.
    pub argv: Vec<String>,
    /// Its environment, `NAME=value`.
    pub env: Vec<String>,
    /// Working directory inside the VE.
    pub cwd: PathBuf,
}

/// The environment of a program executed in a VE, beside what the caller adds.
pub fn default_env(term: &str) -> Vec<String> {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    [path, "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "container=vzd"]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("TERM={term}")])
        .collect()
}

/// Has a shell of the VE execute what follows, as OpenVZ does it: bash if there is one, else the shell that there is.
pub const SHELL: &str = r#"if [ -x /bin/bash ]; then exec /bin/bash "$@"; else exec /bin/sh "$@"; fi"#;

/// The words that have a shell of the VE run a script, which calls itself `name`.
pub fn script(text: String, name: String) -> Vec<String> {
    let shell = ["/bin/sh", "-c", SHELL, "vzd", "-c"].map(str::to_owned);
    shell.into_iter().chain([text, name]).collect()
}

/// Where its standard streams come from.
pub enum Stdio {
    /// These three descriptors of the caller.
    Given([OwnedFd; 3]),
    /// A new terminal of the VE, of this size (rows, columns).
    Terminal(u16, u16),
}

/// A program running in a VE. It is a child of the calling process.
#[derive(Debug)]
pub struct Entered {
    /// Its host pid.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: Pidfd,
    /// The master side of its terminal, when it has one.
    pub terminal: Option<OwnedFd>,
}

/// What the joined process says, and the program's; in whichever order. The program's end of the socket closes by exec.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    /// The program's process is this one; its pidfd comes with it, and its terminal if it has one.
    Cloned(i32),
    /// Calls of the program are heard at the descriptor that comes with this.
    Listening,
    /// A step failed.
    Failed(SysError),
}

/// Executes `command` in the VE behind `door`. Returns once it runs, or with the step that failed.
///
/// `expected` is a pidfd of the VE's init: what was opened by number is used only if it still lives.
pub fn spawn(
    proof: SingleThreaded,
    door: &Door,
    expected: &Pidfd,
    command: &Command,
    stdio: Stdio,
) -> SysResult<Entered> {
    let plan = Plan::new(door, expected, command)?;
    let (ours, theirs) = seqpacket::pair()?;
    let joiner = clone::fork_into(proof, plan.cgroup_exec.as_fd(), || {
        let said = plan.join_and_clone(proof, stdio, &theirs);
        let failed = said.is_err();
        if let Err(error) = said {
            let _ = seqpacket::send(&theirs, &Said::Failed(error), &[]);
        }
        i32::from(failed)
    })?;
    drop(theirs);
    let heard = Heard::until_executed(&ours);
    let ended = joiner.wait()?;
    let Heard { cloned, listener, failed } = heard?;
    if let Some(error) = failed {
        if let Some((pid, _)) = cloned {
            process::reap(pid)?;
        }
        return Err(error);
    }
    let Some((pid, fds)) = cloned else {
        return Err(SysError::refused("enter", "VE", format!("the helper ended: {ended:?}")));
    };
    if let (Some(listener), Some(users)) = (listener, &door.users) {
        // It ends by itself when nothing of what is executed here is left. The program runs already: without, its
        // quotactl(2) is ENOSYS.
        let _ = process::fork(proof, || quotas::supervise(&listener.into(), users));
    }
    let mut fds = fds.into_iter();
    let pidfd = fds.next().ok_or_else(|| SysError::refused("enter", "VE", "no pidfd came back"))?;
    Ok(Entered { pid, pidfd: Pidfd::from(pidfd), terminal: fds.next() })
}

/// All that was said until the program was executed.
#[derive(Default)]
struct Heard {
    cloned: Option<(i32, Vec<OwnedFd>)>,
    listener: Option<OwnedFd>,
    failed: Option<SysError>,
}

impl Heard {
    fn until_executed(socket: &OwnedFd) -> SysResult<Self> {
        let mut heard = Self::default();
        while let Some((said, fds)) = seqpacket::recv::<Said>(socket)? {
            match said {
                Said::Cloned(pid) => heard.cloned = Some((pid, fds)),
                Said::Listening => heard.listener = fds.into_iter().next(),
                Said::Failed(error) => heard.failed = Some(error),
            }
        }
        Ok(heard)
    }
}

/// Executes `command` with nothing to read and waits for its end, at most for `timeout`: how it ended (nothing if it had to
/// be ended), and what it printed, up to a bound.
pub fn capture(
    proof: SingleThreaded,
    door: &Door,
    expected: &Pidfd,
    command: &Command,
    timeout: Duration,
) -> SysResult<(Option<WaitStatus>, String)> {
    let (mut printed, input) = Printed::pipe()?;
    let twin = input.try_clone().at("duplicate", "pipe")?;
    let entered = spawn(proof, door, expected, command, Stdio::Given([null()?, input, twin]))?;
    let ended = printed.await_end(&entered.pidfd, timeout)?;
    if !ended {
        entered.pidfd.signal(libc::SIGKILL)?;
    }
    let status = process::reap(entered.pid)?;
    Ok((ended.then_some(status), printed.into_text()))
}

/// Nothing to read, and nobody who reads.
pub fn null() -> SysResult<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at("open", "/dev/null")
}

/// Everything that can be opened and checked on the host's side.
struct Plan {
    namespaces: Vec<Namespace>,
    cgroup_exec: OwnedFd,
    cgroup_v1: Vec<PathBuf>,
    argv: Vec<String>,
    env: Vec<std::ffi::CString>,
    cwd: PathBuf,
    capabilities: u64,
    filter: Vec<seccomp::Op>,
    listening: bool,
}

impl Plan {
    fn new(door: &Door, expected: &Pidfd, command: &Command) -> SysResult<Self> {
        // The user namespace comes last: joining it gives up the host's rights.
        let kinds = [Kind::Cgroup, Kind::Ipc, Kind::Uts, Kind::Net, Kind::Pid, Kind::Mount, Kind::User];
        let namespaces =
            kinds.into_iter().map(|kind| Namespace::of(door.pid, kind)).collect::<SysResult<_>>()?;
        if !expected.is_alive()? {
            return Err(SysError::refused("enter", "VE", "it has just ended"));
        }
        let filter = seccomp::filter(seccomp::Rules {
            profile: door.seccomp_profile.as_deref(),
            own_attributes: door.own_attributes,
            quotas: door.users.is_some(),
        })?;
        let cgroup_exec = open_group(&door.cgroup_exec)?;
        c_strings(&command.argv)?;
        Ok(Plan {
            namespaces,
            cgroup_exec,
            cgroup_v1: door.cgroup_v1.clone(),
            argv: command.argv.clone(),
            env: c_strings(&command.env)?,
            cwd: command.cwd.clone(),
            capabilities: door.capabilities,
            filter,
            listening: door.users.is_some(),
        })
    }

    /// Joins everything and clones the program's process, as a child of our parent; it is in our
    /// control groups.
    fn join_and_clone(&self, proof: SingleThreaded, stdio: Stdio, socket: &OwnedFd) -> SysResult<()> {
        process::undumpable()?;
        process::limits_of_an_init();
        for dir in &self.cgroup_v1 {
            let path = dir.join("cgroup.procs");
            std::fs::write(&path, "0").at("write", path.display())?;
        }
        for namespace in &self.namespaces {
            namespace.join()?;
        }
        process::become_root()?;
        let (stdio, master) = match stdio {
            Stdio::Given(fds) => (Streams::Given(fds), None),
            Stdio::Terminal(rows, cols) => {
                let (master, slave) = ve_terminal()?;
                pty::resize(&master, rows, cols)?;
                (Streams::Terminal(slave), Some(master))
            }
        };
        let sibling = clone::clone_sibling(proof, 0, None, || {
            let error = match self.become_program(&stdio, socket) {
                Ok(never) => match never {},
                Err(error) => error,
            };
            let _ = seqpacket::send(socket, &Said::Failed(error), &[]);
            126
        })?;
        let mut fds = vec![sibling.pidfd.as_fd()];
        fds.extend(master.as_ref().map(AsFd::as_fd));
        seqpacket::send(socket, &Said::Cloned(sibling.pid), &fds)
    }

    fn become_program(&self, stdio: &Streams, socket: &OwnedFd) -> SysResult<Infallible> {
        nix::unistd::setsid().at("setsid", "program")?;
        match stdio {
            Streams::Given([input, output, error]) => {
                rustix::stdio::dup2_stdin(input).at("dup2", "stdin")?;
                rustix::stdio::dup2_stdout(output).at("dup2", "stdout")?;
                rustix::stdio::dup2_stderr(error).at("dup2", "stderr")?;
            }
            Streams::Terminal(slave) => {
                process::set_controlling_tty(slave)?;
                process::set_stdio(slave)?;
            }
        }
        process::close_all_but(&[socket.as_raw_fd()])?;
        rustix::process::chdir(&self.cwd).at("enter directory", self.cwd.display())?;
        process::default_signals();
        process::unblock_signals()?;
        let argv = program(&self.argv, &self.env)?;
        if let Some(listener) = seccomp::install(&self.filter, self.listening)? {
            seqpacket::send(socket, &Said::Listening, &[listener.as_fd()])?;
        }
        caps::keep_only(self.capabilities)?;
        Err(process::exec(&argv, &self.env))
    }
}

enum Streams {
    Given([OwnedFd; 3]),
    Terminal(OwnedFd),
}

/// A terminal of the VE's own devpts, checked to be one: master and slave.
fn ve_terminal() -> SysResult<(OwnedFd, OwnedFd)> {
    const DEVPTS_MAGIC: i64 = 0x1cd1;
    let path = "/dev/pts/ptmx";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let master = rustix::fs::open(path, flags, Mode::empty()).at("open", path)?;
    if rustix::fs::fstatfs(&master).at("stat", path)?.f_type != DEVPTS_MAGIC {
        return Err(SysError::refused("open", path, "the VE put something else there"));
    }
    rustix::pty::unlockpt(&master).at("unlock", path)?;
    let flags =
        rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).at("open slave of", path)?;
    Ok((master, slave))
}

/// Opens the group for processes from outside, which the first of them makes: most VEs never have one.
fn open_group(dir: &Path) -> SysResult<OwnedFd> {
    match rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(SysError::new("make cgroup", dir.display(), e)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).at("open", dir.display())
}
