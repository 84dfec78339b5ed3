//! What a VE's first process does between clone and the execution of its init.
//!
//! It waits until its ids, cgroups and tree are ready, locks the tree by copying it into its own user
//! namespace, mounts what is its own to change, gives up what no VE may have, and executes init. It is
//! the VE's root already, so nothing it does here can reach the host.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, Uid};
use vzd_state::application::User;

use crate::error::{At, SysError, SysResult};
use crate::kernel::mount::{self, Attr, FsOption};
use crate::kernel::ns::{self, Kind};
use crate::kernel::{caps, process, seccomp, seqpacket};
use crate::runtime::dev::TTY_GROUP;
use crate::runtime::spec::StartSpec;
use crate::runtime::start::Word;

/// What can be checked and made before the process exists: C strings and the system call filter.
pub struct Prepared {
    argv: Vec<String>,
    env: Vec<CString>,
    dir: Option<PathBuf>,
    user: Option<User>,
    filter: Vec<seccomp::Op>,
    listening: bool,
    capabilities: u64,
    hostname: String,
    domainname: String,
}

impl Prepared {
    /// Refuses what could not be executed.
    pub fn new(spec: &StartSpec) -> SysResult<Self> {
        let filter = seccomp::filter(seccomp::Rules {
            profile: spec.seccomp_profile.as_deref(),
            own_attributes: spec.own_attributes,
            quotas: spec.root.users.is_some(),
        })?;
        c_strings(&spec.init)?;
        Ok(Prepared {
            argv: spec.init.clone(),
            env: c_strings(&spec.env)?,
            dir: spec.dir.clone(),
            user: spec.user.clone(),
            filter,
            listening: spec.root.users.is_some(),
            capabilities: spec.capabilities,
            hostname: spec.hostname.clone(),
            domainname: spec.domainname.clone(),
        })
    }
}

/// Turns words into C strings; one with a NUL byte is refused.
pub fn c_strings(words: &[String]) -> SysResult<Vec<CString>> {
    let one = |word: &String| {
        CString::new(word.as_str())
            .map_err(|_| SysError::refused("pass", word.escape_debug(), "it holds a NUL byte"))
    };
    words.iter().map(one).collect()
}

/// The words as C strings, the first of them looked up in the `PATH` of `env` if it is a bare name; never in the working
/// directory.
pub fn program(words: &[String], env: &[CString]) -> SysResult<Vec<CString>> {
    let mut argv = words.to_vec();
    if let Some(name) = argv.first_mut().filter(|name| !name.contains('/')) {
        let path = env.iter().find_map(|pair| pair.to_str().ok()?.strip_prefix("PATH="));
        let dirs = path.unwrap_or_default().split(':').filter(|dir| !dir.is_empty());
        let found = dirs
            .map(|dir| format!("{dir}/{name}"))
            .find(|program| rustix::fs::access(Path::new(program), rustix::fs::Access::EXEC_OK).is_ok());
        *name = found.ok_or_else(|| SysError::new("execute", name.as_str(), libc::ENOENT))?;
    }
    c_strings(&argv)
}

/// The life of the first process up to its init. Returns only when a step failed, which the starter is
/// told over `socket`.
pub fn run(prepared: &Prepared, socket: &OwnedFd) -> i32 {
    let error = match become_init(prepared, socket) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let _ = seqpacket::send(socket, &Word::Failed(error), &[]);
    127
}

fn become_init(prepared: &Prepared, socket: &OwnedFd) -> SysResult<Infallible> {
    process::close_all_but(&[socket.as_raw_fd()])?;
    process::undumpable()?;
    await_go(socket);
    process::become_root()?;
    ns::unshare(&[Kind::Mount, Kind::Cgroup])?;
    own_mounts()?;
    // Before anything of the VE's runs: a start script is told its name, not the host's.
    nix::unistd::sethostname(&prepared.hostname).at("set", "hostname")?;
    set_domainname(&prepared.domainname)?;
    seqpacket::send(socket, &Word::Locked, &[])?;
    await_go(socket);
    nix::unistd::setsid().at("setsid", "init")?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let console = rustix::fs::open("/dev/console", flags, Mode::empty()).at("open", "/dev/console")?;
    process::set_stdio(&console)?;
    process::unblock_signals()?;
    if let Some(dir) = &prepared.dir {
        std::fs::create_dir_all(dir).at("make directory", dir.display())?;
        rustix::process::chdir(dir).at("enter directory", dir.display())?;
    }
    let argv = program(&prepared.argv, &prepared.env)?;
    // The filter comes first: installing it takes a capability that `keep_only` may take away.
    if let Some(listener) = seccomp::install(&prepared.filter, prepared.listening)? {
        seqpacket::send(socket, &Word::Listening, &[listener.as_fd()])?;
    }
    if let Some(User { uid, gid, groups }) = &prepared.user {
        rustix::fs::fchown(&console, Some(Uid::from_raw(*uid)), None).at("chown", "/dev/console")?;
        process::become_user(*uid, *gid, groups)?;
    }
    caps::keep_only(prepared.capabilities)?;
    process::cloexec_from(3)?;
    Err(process::exec(&argv, &prepared.env))
}

/// Waits for the starter's word; when it gave up it has the reason itself.
fn await_go(socket: &OwnedFd) {
    if !matches!(seqpacket::recv(socket), Ok(Some((Word::Go, _)))) {
        process::exit_now(127);
    }
}

/// Sets the UTS domain name of this namespace.
pub fn set_domainname(name: &str) -> SysResult<()> {
    rustix::system::setdomainname(name.as_bytes())
        .map_err(|e| SysError::new("set", "domainname", e).value(name))
}

/// Mounts that are the VE's own to change: its terminals, shared memory, queues, /run and control groups.
fn own_mounts() -> SysResult<()> {
    let safe = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC;
    let plain = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV;
    let tty = TTY_GROUP.to_string();
    let terminals =
        [FsOption::Text("gid", &tty), FsOption::Text("mode", "0620"), FsOption::Text("ptmxmode", "0666")];
    let own: [(&str, &[FsOption<'_>], Attr, &str); 5] = [
        ("devpts", &terminals, safe, "/dev/pts"),
        ("tmpfs", &[FsOption::Text("mode", "1777")], plain, "/dev/shm"),
        ("mqueue", &[], plain | Attr::MOUNT_ATTR_NOEXEC, "/dev/mqueue"),
        ("tmpfs", &[FsOption::Text("mode", "0755")], plain, "/run"),
        ("cgroup2", &[], plain | Attr::MOUNT_ATTR_NOEXEC, "/sys/fs/cgroup"),
    ];
    for (kind, options, attrs, target) in own {
        let mounted = mount::new_fs(kind, options, attrs)?;
        mount::attach(mounted, rustix::fs::CWD, Path::new(target))?;
    }
    Ok(())
}
