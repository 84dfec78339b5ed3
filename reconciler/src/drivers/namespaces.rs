//! What a VE sees of its own, IO half: its names, its time zone and language, and the mounts it has from the host.
//!
//! What lies inside the VE is hostile: paths are opened beneath its root and through no magic link, and
//! compared by device and inode.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use vzd_state::ledger::AppliedNamespaces;
use vzd_state::reading::Reading;
use vzd_state::subsystem::namespaces::{
    self, Live, Mount, MountFlags, MountSeen, Observed, RegionSeen, SourceSeen,
};

use crate::drivers::{Effect, Running, Ve, reading};
use crate::error::{At, SysError, SysResult};
use crate::kernel::ns::{self, Kind, Namespace};
use crate::kernel::procfs::{self, MountLine};
use crate::runtime::init::set_domainname;
use crate::runtime::spec::MountSpec;
use crate::runtime::{locale, zone};

/// Reads names and mounts.
pub fn observe(ve: Ve<'_>, running: &Running) -> Observed {
    let (hostname, domainname) = match names(running.pid) {
        Ok((host, domain)) => (Reading::Is(host), Reading::Is(domain)),
        Err(e) => (Reading::Unreadable(e.to_string()), Reading::Unreadable(e.to_string())),
    };
    let timezone = region(
        ve,
        running.pid,
        |want| &want.timezone,
        |set| &set.timezone,
        |root, name| {
            let zone::Zone { is, unknown } = zone::look(root, name)?;
            Ok(RegionSeen { is, unknown })
        },
    );
    let locale = region(
        ve,
        running.pid,
        |want| &want.locale,
        |set| &set.locale,
        |root, name| Ok(RegionSeen { is: locale::look(root, name)?, unknown: locale::lacks(root, name) }),
    );
    Observed { hostname, domainname, timezone, locale, mounts: reading(mounts(ve, running.pid)) }
}

/// Reads what is in files of the VE's, if it is wanted or was set.
fn region(
    ve: Ve<'_>,
    pid: i32,
    wanted: impl Fn(&namespaces::Desired) -> &Option<String>,
    set: impl Fn(&AppliedNamespaces) -> &Option<String>,
    look: impl Fn(&OwnedFd, &str) -> SysResult<RegionSeen>,
) -> Reading<RegionSeen> {
    let wanted = ve.want.and_then(|want| wanted(&want.namespaces).as_ref());
    let set = ve.entry.applied.namespaces.as_ref().and_then(|is| set(is).as_ref());
    let Some(name) = wanted.or(set) else { return Reading::Absent };
    match root_of(pid).and_then(|root| look(&root, name)) {
        Ok(seen) => Reading::Is(seen),
        // Whatever the VE's owner has put there is no reason to leave the rest of it alone.
        Err(e) => Reading::Is(RegionSeen { is: Some(e.to_string()), unknown: false }),
    }
}

fn names(pid: i32) -> SysResult<(String, String)> {
    ns::uts_names(Namespace::of(pid, Kind::Uts)?)
}

/// Mounts at the targets that matter: those wanted and those we made.
fn mounts(ve: Ve<'_>, pid: i32) -> SysResult<BTreeMap<String, MountSeen>> {
    let mut expected: BTreeMap<String, Mount> =
        ve.entry.applied.namespaces.as_ref().map(|is| is.mounts.clone()).unwrap_or_default();
    if let Some(want) = ve.want {
        expected.extend(namespaces::wanted_mounts(&want.namespaces, &ve.host.caps()));
    }
    if expected.is_empty() {
        return Ok(BTreeMap::new());
    }
    let lines = procfs::mounts(pid)?;
    let root = root_of(pid)?;
    let mut seen = BTreeMap::new();
    for (target, mount) in expected {
        // The last line of a target is the mount on top.
        if let Some(line) = lines.iter().rev().find(|line| line.target == target) {
            let source = source_seen(&root, &target, &mount.source)?;
            let idmapped = line.options.iter().any(|option| option == "idmapped");
            seen.insert(target, MountSeen { source, flags: flags(line), idmapped });
        }
    }
    Ok(seen)
}

/// The root directory of a process, for looking up paths beneath it.
pub fn root_of(pid: i32) -> SysResult<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at("open", path)
}

fn source_seen(root: &OwnedFd, target: &str, source: &str) -> SysResult<SourceSeen> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(root, target, flags, Mode::empty(), resolve);
    let there = match opened.and_then(rustix::fs::fstat) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOTCONN) => return Ok(SourceSeen::Dead),
        Err(e) => return Err(SysError::new("stat in the VE", target, e)),
    };
    match rustix::fs::stat(source) {
        Ok(here) if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) => Ok(SourceSeen::Same),
        Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(SourceSeen::Other),
        Err(e) => Err(SysError::new("stat", source, e)),
    }
}

fn flags(line: &MountLine) -> MountFlags {
    let has = |option: &str| line.options.iter().any(|o| o == option);
    MountFlags { read_only: has("ro"), nosuid: has("nosuid"), noexec: has("noexec"), nodev: has("nodev") }
}

/// A mount as the starter and the keeper take it.
pub fn mount_spec(target: &str, mount: &Mount) -> MountSpec {
    let MountFlags { read_only, nosuid, noexec, nodev } = mount.flags;
    MountSpec {
        source: PathBuf::from(&mount.source),
        target: PathBuf::from(target),
        read_only,
        nosuid,
        noexec,
        nodev,
        idmap: mount.idmap,
    }
}

/// Changes names and mounts of a running VE.
pub fn apply_live(ve: Ve<'_>, step: &Live, running: &Running) -> SysResult<Effect> {
    match step {
        Live::SetHostname { to, .. } => set_name(
            running,
            |(host, _)| host == to,
            || nix::unistd::sethostname(to).map_err(|e| SysError::new("set", "hostname", e).value(to)),
        ),
        Live::SetDomainname { to, .. } => {
            set_name(running, |(_, domain)| domain == to, || set_domainname(to))
        }
        Live::SetTimezone { to, .. } => {
            let changed = zone::set(root_of(running.pid)?, ve.entry.ids.start, to.as_deref())?;
            Ok(if changed { Effect::Changed } else { Effect::AlreadySo })
        }
        Live::SetLocale { to, .. } => {
            let changed = locale::set(root_of(running.pid)?, ve.entry.ids.start, to.as_deref())?;
            Ok(if changed { Effect::Changed } else { Effect::AlreadySo })
        }
        Live::AddMount { target, mount } => {
            if matches!(at_target(running.pid, target, mount)?, Some(SourceSeen::Same)) {
                return Ok(Effect::AlreadySo);
            }
            add(ve, running, target, mount)
        }
        Live::ReplaceMount { target, mount, .. } => {
            remove(ve, running, target)?;
            add(ve, running, target, mount)
        }
        Live::RemoveMount { target, .. } => remove(ve, running, target),
    }
}

fn set_name(
    running: &Running,
    is_so: impl FnOnce(&(String, String)) -> bool,
    set: impl FnOnce() -> SysResult<()> + Send,
) -> SysResult<Effect> {
    if is_so(&names(running.pid)?) {
        return Ok(Effect::AlreadySo);
    }
    ns::on_thread_in(&Namespace::of(running.pid, Kind::Uts)?, set)?;
    Ok(Effect::Changed)
}

fn at_target(pid: i32, target: &str, mount: &Mount) -> SysResult<Option<SourceSeen>> {
    if !procfs::mounts(pid)?.iter().any(|line| line.target == target) {
        return Ok(None);
    }
    source_seen(&root_of(pid)?, target, &mount.source).map(Some)
}

fn add(ve: Ve<'_>, running: &Running, target: &str, mount: &Mount) -> SysResult<Effect> {
    ve.host.keeper.add_mounts(running.pid, vec![mount_spec(target, mount)])?;
    Ok(Effect::Changed)
}

fn remove(ve: Ve<'_>, running: &Running, target: &str) -> SysResult<Effect> {
    if !procfs::mounts(running.pid)?.iter().any(|line| line.target == target) {
        return Ok(Effect::AlreadySo);
    }
    ve.host.keeper.remove_mount(running.pid, Path::new(target).to_owned())?;
    Ok(Effect::Changed)
}
