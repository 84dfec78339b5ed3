//! The starter: a child of the keeper that leaves a running VE behind and ends.
//!
//! Two stages keep the VE from undoing its mounts. The starter makes a mount namespace that belongs to
//! the host, and the VE's first process in new user, pid, net, uts and ipc namespaces, parked. A helper
//! inside its pid and net namespaces builds the tree ([`super::tree`]), and the starter puts the parked
//! process into its cgroups. Then the first process copies the mount namespace into its own user
//! namespace, which locks every mount; the manifest's own mounts are put into that copy
//! ([`super::inject`]), and the process becomes init ([`super::init`]).
//!
//! ```text
//! keeper ─fork─ starter ─clone3(CLONE_PARENT)─ first process (child of the keeper): parked … init
//!                  ├─fork─ network builder (among the host's mounts), meanwhile
//!                  └─vfork─ tree builder (in the VE's pid and net namespaces)
//! ```

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{At, SysError, SysResult};
use crate::kernel::clone::{VE_NAMESPACES, clone_sibling};
use crate::kernel::ns::{self, Kind, Namespace};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::{self, SingleThreaded};
use crate::kernel::{mount, net, seqpacket};
use crate::runtime::checkpoint::image::Image;
use crate::runtime::checkpoint::restore;
use crate::runtime::spec::{StartSpec, Started};
use crate::runtime::{init, inject, network, scripts, tree};

/// What the starter and the first process say to each other: the starter `Go` once the tree is built,
/// the first process `Locked` once it has its own copy, the starter `Go` again once the mounts are in.
/// Then the socket closes by exec, or a `Failed` says why not.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// Go on.
    Go,
    /// The mount tree is copied and locked.
    Locked,
    /// Some system calls are to be answered by whoever has the descriptor that comes with this.
    Listening,
    /// A step failed.
    Failed(SysError),
}

/// A VE that runs.
#[derive(Debug)]
pub struct Up {
    /// What is told of it.
    pub started: Started,
    /// Its init.
    pub pidfd: Pidfd,
    /// The listener of calls that are to be answered ([`quotas`](super::quotas)).
    pub listener: Option<OwnedFd>,
    /// The checkpoint that it was resumed from, which is of no more use. What is left of it goes with the next one.
    pub used: Option<Image>,
}

/// Starts the VE; the process that runs this is forked for it alone and ends afterwards.
///
/// `console` is the path of the slave of the VE's console. Returns once init has been executed. On an error nothing is left
/// running; cgroups and directories stay for the caller.
pub fn start(proof: SingleThreaded, spec: &StartSpec, console: &Path) -> SysResult<Up> {
    if let Some(scripts) = &spec.scripts {
        scripts.before_root()?;
    }
    if let Some(checkpoint) = &spec.checkpoint {
        return restore::restore(proof, spec, checkpoint, console);
    }
    let cgroup = {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = &spec.cgroup_delegated;
        rustix::fs::open(dir, flags, Mode::empty()).at("open", dir.display())?
    };
    let v1 = open_v1(spec)?;
    let prepared = init::Prepared::new(spec)?;
    // While this process still sees the host's /proc and control groups.
    let inside = spec.scripts.as_ref().and_then(|scripts| scripts.start.as_ref());
    let inside = inside.map(|inside| scripts::Waiting::fork(proof, spec, inside)).transpose()?;
    // Links are made among the host's mounts.
    let host_mounts = spec.is_linked().then(|| Namespace::here(Kind::Mount)).transpose()?;
    ns::unshare(&[Kind::Mount])?;
    mount::make_all_private()?;

    let (ours, theirs) = seqpacket::pair()?;
    let first = clone_sibling(proof, VE_NAMESPACES, Some(cgroup.as_fd()), || init::run(&prepared, &theirs))?;
    drop(theirs);
    let pidfd = Pidfd::from(first.pidfd);
    let raised = raise(proof, spec, first.pid, console, (&v1, host_mounts.as_ref(), inside), &ours);
    let (started, listener) = raised.inspect_err(|_| {
        // The keeper, its parent, reaps it.
        let _ = pidfd.signal(libc::SIGKILL);
    })?;
    Ok(Up { started, pidfd, listener, used: None })
}

/// Takes the parked process to the execution of its init.
fn raise(
    proof: SingleThreaded,
    spec: &StartSpec,
    pid: i32,
    console: &Path,
    (v1, host_mounts, inside): (&[OwnedFd], Option<&Namespace>, Option<scripts::Waiting>),
    first: &OwnedFd,
) -> SysResult<(Started, Option<OwnedFd>)> {
    ns::map_ids(pid, spec.id_base, spec.id_count)?;
    let netns = Namespace::of(pid, Kind::Net)?;
    let network = host_mounts.map(|mounts| network::begin(proof, spec, &netns, Some(mounts))).transpose()?;
    // Soon: the first move after a quiet while waits for the kernel, that wait has begun before (see
    // `Layout::expect_moves`), cloning into a group had to wait for its end as well, and it is not over for long.
    attach_v1(spec, pid, v1)?;
    let userns = Namespace::of(pid, Kind::User)?;
    let mounts = inject::open_sources(&spec.mounts, &userns)?;
    // The tree's root becomes this process's root as well: the host's /proc is looked up before.
    let host_proc = mount::open_path(Path::new("/proc"))?;
    if let Some(scripts) = spec.scripts.as_ref().filter(|scripts| !scripts.mount.is_empty()) {
        tree::attach_root(&spec.root, &userns)?;
        scripts.on_root()?;
    }
    build(proof, spec, pid, console, (&userns, &netns))?;
    seqpacket::send(first, &Word::Go, &[])?;
    match hear(first)? {
        Some((Word::Locked, _)) => {}
        other => return Err(SysError::refused("start", "first process", format!("it said {other:?}"))),
    }
    if !mounts.is_empty() {
        let mntns = Namespace::open_at(&host_proc, pid, Kind::Mount)?;
        inject::add(proof, mounts, &userns, &mntns)?;
    }
    if spec.root.read_only {
        // Not before: mount points were made in it. It is this process's root as well.
        mount::set_read_only(mount::open_path(Path::new("/"))?, true)?;
    }
    if let Some(network) = network {
        network.end()?;
    }
    if let Some(inside) = inside {
        inside.run(pid)?;
    }
    seqpacket::send(first, &Word::Go, &[])?;
    let mut listener = None;
    let mut said = hear(first)?;
    if let Some((Word::Listening, fds)) = said {
        listener = fds.into_iter().next();
        said = hear(first)?;
    }
    match said {
        None => Ok((Started { pid }, listener)),
        other => Err(SysError::refused("execute", "init", format!("the first process said {other:?}"))),
    }
}

/// The next word of the first process; `None` when it executed its init (or ended).
fn hear(first: &OwnedFd) -> SysResult<Option<(Word, Vec<OwnedFd>)>> {
    match seqpacket::recv(first)? {
        Some((Word::Failed(error), _)) => Err(error),
        other => Ok(other),
    }
}

/// The version 1 cgroup.procs files, opened while the host's tree is still this process's own.
fn open_v1(spec: &StartSpec) -> SysResult<Vec<OwnedFd>> {
    let open = |dir: &std::path::PathBuf| {
        let path = dir.join("cgroup.procs");
        rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).at("open", path.display())
    };
    spec.cgroup_v1.iter().map(open).collect()
}

/// Gives the parked process its mount tree, and a network that is linked to nothing what else it has.
fn build(
    proof: SingleThreaded,
    spec: &StartSpec,
    pid: i32,
    console: &Path,
    (userns, netns): (&Namespace, &Namespace),
) -> SysResult<()> {
    let pidns = Namespace::of(pid, Kind::Pid)?;
    pidns.join()?;
    process::in_child(proof, || {
        netns.join()?;
        if !spec.is_linked() {
            net::set_up(&network::unlinked(spec))?;
        }
        tree::build(spec, userns, console)
    })?
}

fn attach_v1(spec: &StartSpec, pid: i32, v1: &[OwnedFd]) -> SysResult<()> {
    for (procs, dir) in v1.iter().zip(&spec.cgroup_v1) {
        rustix::io::write(procs, pid.to_string().as_bytes())
            .map_err(|e| SysError::new("write", dir.join("cgroup.procs").display(), e).value(pid))?;
    }
    Ok(())
}
