//! Writing a running VE to disk, in a child of the keeper. It ends with the VE gone and its checkpoint whole, or with the
//! VE running as before and no checkpoint. A copy of a VE that runs on is made in the same way: then whoever asked for it
//! is told when everything stands still, and copies what belongs to it, before anything runs on.
//!
//! The child is let finish even when nobody waits for it any more: a dump that is cut off would harm the VE.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, statat};
use serde::{Deserialize, Serialize};
use vzd_state::ids::IdRange;
use vzd_state::units::Timestamp;

use super::ahead::Rounds;
use super::contents::Contents;
use super::image::Image;
use super::obstacles::{lost_console, made, stranger};
use super::swrk::{Ask, Request, Swrk};
use super::{filters, groups, ids, log, nodes};
use crate::error::{At, SysError, SysResult};
use crate::kernel::ns::{self, Kind, Namespace};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::SingleThreaded;
use crate::kernel::{mount, net, procfs, seqpacket};
use crate::runtime::quotas::{Kept, UserQuotas};

/// A VE that is to be written to disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DumpSpec {
    /// The VE's uid.
    pub uid: String,
    /// First host id of its range.
    pub id_base: u32,
    /// Ids in its range.
    pub id_count: u32,
    /// The host's pid of its init.
    pub pid: i32,
    /// CRIU.
    pub criu: PathBuf,
    /// The directory of its checkpoint.
    pub checkpoint: PathBuf,
    /// Where it is kept instead, with a link from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<PathBuf>,
    /// Established TCP connections are left out of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closes_tcp: bool,
    /// Mounts of the host's, by their path in the VE.
    pub mounts: Vec<PathBuf>,
    /// The control group of processes that were put into it.
    pub entered: PathBuf,
    /// The control group that the VE sees as its root.
    pub delegated: PathBuf,
    /// The groups it is in, by controller.
    pub groups: BTreeMap<String, String>,
    /// The interfaces that vzd has given it. What they carry is held up meanwhile.
    pub interfaces: Vec<String>,
    /// Quotas of its own users, if it has the right to set any.
    pub users: Option<UserQuotas>,
    /// The time now.
    pub at: Timestamp,
    /// It is to run on, once the requester has said so over the socket that came with the request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leave_running: bool,
    /// Whose rounds of what was written ahead it is to go by, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<String>,
    /// The first host id of the VE that is written, where its checkpoint is to be another's, which is the one named above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_of: Option<u32>,
    /// Memory is written ahead first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pre_dump: bool,
    /// Memory is kept compressed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compress: bool,
}

impl DumpSpec {
    /// The ids of the VE that is written.
    fn own_ids(&self) -> IdRange {
        IdRange { start: self.clone_of.unwrap_or(self.id_base), count: self.id_count }
    }
}

const LOG: &str = "dump.log";

/// Memory is written ahead so often at most, and no more when little was written in a round, or not much less than in the
/// one before.
pub const MOST_ROUNDS: u32 = 4;
/// Is written, or sent, in a moment.
pub const LITTLE: u64 = 4 << 20;

/// Where the runtime mounts what is the host's, and what CRIU calls that.
pub(super) const DEV: &str = "/dev";
pub(super) const CONSOLE: &str = "/dev/console";
pub(super) const SHOWN: &str = "/dev/vzd";
const OURS: [(&str, &str); 3] = [(DEV, "dev"), (CONSOLE, "console"), (SHOWN, "shown")];

/// Masks and views lie below these: they are left out, and made anew.
pub(super) const MASKED_TREES: [&str; 2] = ["/proc/", "/sys/"];
/// But this is the VE's own.
pub(super) const OWN_CGROUPS: &str = "/sys/fs/cgroup";

/// Writes the VE to disk, and ends it; or lets it run on, when the requester has done what it has to do meanwhile.
pub fn dump(proof: SingleThreaded, spec: &DumpSpec, requester: Option<&OwnedFd>) -> SysResult<()> {
    if spec.leave_running != requester.is_some() {
        return Err(SysError::refused("suspend", "VE", "nobody says what is to become of it"));
    }
    let image = Image::lock(&spec.checkpoint)?;
    is_up(spec.pid)?;
    let rounds = match spec.ahead.as_ref().and_then(|id| Rounds::of(&image, id, spec.pid)) {
        Some(rounds) => rounds,
        None => {
            image.make(spec.place.as_deref())?;
            Rounds::none("", spec.pid)
        }
    };
    write(proof, spec, &image, rounds, requester).inspect_err(|_| {
        let _ = image.remove();
    })
}

/// Refuses one whose init this is not, or not any more: an earlier dump may have ended it while this one waited.
pub(super) fn is_up(pid: i32) -> SysResult<()> {
    let init = Pidfd::open(pid)?;
    if procfs::innermost_pid(pid)? != 1 || !init.is_alive()? {
        return Err(SysError::refused("suspend", "VE", "it does not run any more"));
    }
    Ok(())
}

fn write(
    proof: SingleThreaded,
    spec: &DumpSpec,
    image: &Image,
    mut rounds: Rounds,
    requester: Option<&OwnedFd>,
) -> SysResult<()> {
    ns::unshare(&[Kind::Mount])?;
    mount::make_all_private()?;
    if let Some(why) = stranger(spec.pid, &spec.entered).or_else(|| lost_console(spec.pid)) {
        return Err(refusal(why));
    }
    take_in(&spec.entered, &spec.delegated)?;
    let (external, skipped) = mounts(spec)?;
    let root = open_root(spec.pid)?;
    let tty = tty(&root)?;
    let dev = rustix::fs::openat2(&root, "dev", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), IN_ROOT)
        .at("open", DEV)?;
    let netns = Namespace::of(spec.pid, Kind::Net)?;
    let mut made_inside = None;
    ns::in_child_in(proof, &netns, || {
        made_inside = net::made_inside(&spec.interfaces)?;
        Ok(())
    })?;
    if let Some(what) = made_inside {
        return Err(refusal(made(what)));
    }
    while spec.pre_dump && rounds.rounds < MOST_ROUNDS {
        let before = rounds.last_bytes();
        rounds = rounds.next(proof, (&spec.criu, spec.compress), image)?;
        if rounds.last_bytes() < LITTLE || before > 0 && rounds.last_bytes() > before / 2 {
            break;
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(image.dir(), flags, Mode::empty()).at("open", image.dir().display())?;
    let names = external.iter().map(|(target, name)| format!("mnt[{target}]:{name}"));
    let request = Request {
        ask: Ask::Dump {
            leave_running: spec.leave_running,
            skipped,
            searched: searched(&root)?,
            pid: spec.pid,
            parent: rounds.last(),
        },
        images: &dir,
        log: LOG,
        closes_tcp: spec.closes_tcp,
        external: names.chain([tty.clone()]).collect(),
    };
    let mut contents = Contents {
        format: 0,
        uid: spec.uid.clone(),
        id_base: spec.id_base,
        id_count: spec.id_count,
        at: spec.at,
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        tty,
        mounts: external,
        dev: Vec::new(),
        groups: spec.groups.clone(),
        groups_inside: Vec::new(),
        users: None,
        closes_tcp: spec.closes_tcp,
        ahead: rounds.rounds,
        files: rounds.files,
    };
    let criu = Swrk::start(proof, &spec.criu, &[image.lock_file().as_raw_fd()])?;
    let mut locked = false;
    let dumped = criu.ask(&request, |(stage, _)| match stage {
        // Every process stands still.
        "network-lock" if !spec.interfaces.is_empty() => {
            locked = true;
            ns::in_child_in(proof, &netns, net::hold_up)
        }
        "post-dump" => {
            contents.dev = nodes::list(&dev)?;
            contents.groups_inside = groups::look(&spec.delegated, (spec.own_ids().start, spec.id_count))?;
            std::fs::remove_file(image.dir().join(LOG)).at("remove", LOG)?;
            if let Some(users) = &spec.users {
                contents.users = Some(Kept::of(users)?);
                filters::leave_quotas_to_others(image.dir())?;
            }
            // Of one that runs on, this can wait until it does.
            requester.map_or_else(|| image.seal(contents.clone(), spec.compress), stand_still)
        }
        _ => Ok(()),
    });
    match dumped {
        Ok(_) if spec.leave_running => {
            if locked {
                ns::in_child_in(proof, &netns, net::let_through)?;
            }
            if spec.clone_of.is_some() {
                let (from, to) = (spec.own_ids(), IdRange { start: spec.id_base, count: spec.id_count });
                ids::carry(image.dir(), from, to)?;
                contents.dev = contents.dev.into_iter().map(|entry| entry.carried(from, to)).collect();
            }
            image.seal(contents, spec.compress)
        }
        Ok(_) => Ok(()),
        Err(failure) => {
            // Before anything else: it may have been whole.
            let invalid = image.invalidate();
            if locked {
                ns::in_child_in(proof, &netns, net::let_through)?;
            }
            invalid?;
            let cause = if failure.ours { None } else { log::cause(&image.dir().join(LOG)) };
            Err(cause.map_or(failure.error, refusal))
        }
    }
}

/// Says that everything stands still, and waits to hear that it may run on.
fn stand_still(requester: &OwnedFd) -> SysResult<()> {
    seqpacket::send(requester, &(), &[])?;
    match seqpacket::recv::<()>(requester)? {
        Some(_) => Ok(()),
        None => Err(SysError::refused("copy", "VE", "what belongs to its memory could not be copied")),
    }
}

/// Not the VE's files.
const NO_FILES: [&str; 3] = ["dev", "proc", "sys"];
/// Much, and seldom watched.
const LAST: [&str; 2] = ["var", "usr"];

/// The directories in a VE's root, in the order in which something is to be searched for in them.
fn searched(root: &OwnedFd) -> SysResult<Vec<String>> {
    let dir =
        rustix::fs::openat(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let mut names = Vec::new();
    for entry in Dir::read_from(&dir.at("open", "/")?).at("list", "/")? {
        let entry = entry.at("list", "/")?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Links are where they lead to.
        let is_dir = statat(root, &name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|is| FileType::from_raw_mode(is.st_mode) == FileType::Directory);
        if is_dir && !name.starts_with('.') && !NO_FILES.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| LAST.iter().position(|last| last == name).map_or(0, |at| at + 1));
    Ok(names.into_iter().map(|name| format!("/{name}")).collect())
}

fn refusal(why: String) -> SysError {
    SysError::refused("suspend", "VE", why)
}

/// Such moves are tried so often.
const TAKE_IN_ROUNDS: usize = 100;

/// What an `exec` has left behind is the VE's own now, and CRIU takes all of its groups to be below its root's.
fn take_in(group: &Path, delegated: &Path) -> SysResult<()> {
    let procs = delegated.join("cgroup.procs");
    // They may have children meanwhile.
    for _ in 0..TAKE_IN_ROUNDS {
        let left = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        if left.is_empty() {
            break;
        }
        for pid in left.lines() {
            match std::fs::write(&procs, pid) {
                // It has ended meanwhile.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                // Nobody may be in a group that others are below, those of its own services: they stay apart.
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => return Ok(()),
                other => other.at("write", procs.display()).map_err(|e| e.value(pid))?,
            }
        }
    }
    Ok(())
}

/// CRIU's names of mounts that are the host's, and the mount points that it leaves out.
fn mounts(spec: &DumpSpec) -> SysResult<(BTreeMap<String, String>, Vec<String>)> {
    let (mut external, mut skipped) = (BTreeMap::new(), Vec::new());
    for line in procfs::mounts(spec.pid)? {
        let target = line.target;
        let is_masked = MASKED_TREES.iter().any(|tree| target.starts_with(tree));
        if is_masked && target != OWN_CGROUPS {
            skipped.push(target);
        } else if let Some((_, name)) = OURS.iter().find(|(path, _)| *path == target) {
            external.insert(target, (*name).to_owned());
        } else if spec.mounts.iter().any(|path| *path == Path::new(&target)) {
            let name = format!("host{}", external.len());
            external.insert(target, name);
        }
    }
    Ok((external, skipped))
}

pub(super) const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

pub(super) fn open_root(pid: i32) -> SysResult<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at("open", &path)
}

/// CRIU's name of the terminal that the VE's console is.
fn tty(root: &OwnedFd) -> SysResult<String> {
    let console =
        rustix::fs::openat2(root, "dev/console", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), IN_ROOT)
            .at("open", CONSOLE)?;
    let stat = rustix::fs::fstat(&console).at("stat", CONSOLE)?;
    Ok(format!("tty[{:x}:{:x}]", stat.st_rdev, stat.st_dev))
}
