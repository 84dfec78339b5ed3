//! Action scripts of OpenVZ: which there are for a VE, at which moment, and what one that fails means. ADR 0031.
//!
//! They are looked for in one directory of the host that only root can write to, when their moment has come, and nowhere
//! else: nothing of a VE is ever executed on the host. A script may run twice for one moment, when the controller is
//! killed between it and the record; it is never left out.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags};
use vzd_schema::v1::ALIAS;
use vzd_state::units::Millis;

use super::Begin;
use super::spec::door;
use crate::ctid_conf::ctid_conf;
use crate::drivers::Ve;
use crate::error::{At, SysError, SysResult};
use crate::runtime::scripts::{self, Inside, RUN, Scripts};
use crate::store::atomic;

/// The largest script that is given to a VE's shell.
const MOST: u64 = 64 << 10;

/// Whether scripts may be executed on the host, or are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Execute,
    Read,
}

/// What is to be run at a start. At a resumption that is what prepares the host: the root comes back with its mounts, and
/// what is inside goes on.
pub(super) fn for_start(ve: Ve<'_>, begin: Begin) -> SysResult<Option<Box<Scripts>>> {
    if !ve.host.settings.scripts.is_dir() {
        return Ok(None);
    }
    let premount = of_host(ve, "premount")?;
    let (mount, start) = match begin {
        // Nothing of it starts.
        Begin::Init if ve.entry.bare => (of_host(ve, "mount")?, None),
        Begin::Init => (of_host(ve, "mount")?, inside(ve, "start")?),
        Begin::Checkpoint => (Vec::new(), None),
    };
    if premount.is_empty() && mount.is_empty() && start.is_none() {
        return Ok(None);
    }
    Ok(Some(Box::new(Scripts {
        premount,
        mount,
        start,
        env: env(ve, &Mounted::inside(ve))?,
        timeout_ms: limit(ve).0,
    })))
}

/// Whether anything of that would be run.
pub fn has_scripts(ve: Ve<'_>) -> bool {
    let names = ["premount", "mount", "start"].into_iter().flat_map(|moment| names(ve, moment));
    names.into_iter().any(|name| ve.host.settings.scripts.join(name).exists())
}

/// Has a VE that is asked to stop run its stop script; gives what is left of the time, and why the script failed: the VE is
/// stopped nevertheless, since what is inside it must not keep it from that.
pub(super) fn before_stop(ve: Ve<'_>, timeout: Millis) -> (Millis, Option<String>) {
    let began = Instant::now();
    let run = || {
        let Some(script) = inside(ve, "stop")? else { return Ok(()) };
        let timeout = Duration::from_millis(timeout.0);
        let (status, printed) = ve.host.keeper.capture(door(ve)?, script.command(), timeout)?;
        scripts::result(&script.path, status, &printed)
    };
    let failed: SysResult<()> = run();
    let spent = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    (Millis(timeout.0.saturating_sub(spent)), failed.err().map(|error| error.to_string()))
}

/// What is run once nothing of a VE is left, in order.
pub(super) fn after_run(ve: Ve<'_>) -> Vec<String> {
    after(ve, &Mounted::inside(ve), &["umount", "postumount"])
}

/// What is run once a VE is written to disk: what prepared the host is taken back.
pub(super) fn after_suspension(ve: Ve<'_>) -> Vec<String> {
    after(ve, &Mounted::inside(ve), &["postumount"])
}

/// A root as scripts find it.
#[derive(Debug, Clone)]
pub(super) struct Mounted {
    /// Where.
    at: PathBuf,
    /// Whose files are those of the VE's root there.
    owner: u32,
}

impl Mounted {
    /// For the VE itself.
    fn inside(ve: Ve<'_>) -> Self {
        Mounted { at: ve.host.settings.staging_dir(), owner: ve.entry.ids.start }
    }

    /// On the host, with the ids that files have inside.
    pub(super) fn on_host(at: &Path) -> Self {
        Mounted { at: at.to_owned(), owner: 0 }
    }
}

/// Runs those of a moment of a root that is mounted on the host.
pub(super) fn on_host(ve: Ve<'_>, root: &Mounted, moment: &str) -> SysResult<()> {
    if !ve.host.settings.scripts.is_dir() {
        return Ok(());
    }
    let mut programs = of_host(ve, moment)?;
    if moment.ends_with("umount") {
        programs.reverse();
    }
    let timeout = Duration::from_millis(limit(ve).0);
    let ran = programs.iter().try_for_each(|program| scripts::run(program, &env(ve, root)?, timeout));
    let _ = std::fs::remove_file(conf(ve));
    ran
}

/// Runs all of them, whatever becomes of one: gives why some failed.
pub(super) fn after(ve: Ve<'_>, root: &Mounted, moments: &[&str]) -> Vec<String> {
    if !ve.host.settings.scripts.is_dir() {
        return Vec::new();
    }
    let mut failed = Vec::new();
    let timeout = Duration::from_millis(limit(ve).0);
    for moment in moments {
        // What is set up for all first and for one then is taken down the other way round.
        let run = |program: &PathBuf| scripts::run(program, &env(ve, root)?, timeout);
        match of_host(ve, moment) {
            Ok(programs) => failed.extend(programs.iter().rev().filter_map(|program| run(program).err())),
            Err(error) => failed.push(error),
        }
    }
    // There is one only if a script has run.
    let _ = std::fs::remove_file(conf(ve));
    failed.iter().map(ToString::to_string).collect()
}

/// How long each may take.
fn limit(ve: Ve<'_>) -> Millis {
    let policies = ve.want.map(|want| &want.lifecycle).or(ve.entry.applied.lifecycle.as_ref());
    policies.map_or(Millis::from_secs(60), |policies| policies.start_timeout)
}

/// What scripts of a moment are called: for all VEs, then for this one.
fn names(ve: Ve<'_>, moment: &str) -> [String; 2] {
    [format!("vps.{moment}"), format!("{}.{moment}", ve.entry.ctid.get())]
}

/// The programs of a moment: for all VEs, then for this one.
fn of_host(ve: Ve<'_>, moment: &str) -> SysResult<Vec<PathBuf>> {
    let found = names(ve, moment).into_iter().map(|name| {
        let path = ve.host.settings.scripts.join(name);
        Ok(open(&ve.host.settings.scripts, &path, Use::Execute)?.map(|_| path))
    });
    found.filter_map(SysResult::transpose).collect()
}

/// The script of this VE that its own shell runs.
fn inside(ve: Ve<'_>, moment: &str) -> SysResult<Option<Inside>> {
    let path = ve.host.settings.scripts.join(format!("{}.{moment}", ve.entry.ctid.get()));
    let Some(file) = open(&ve.host.settings.scripts, &path, Use::Read)? else { return Ok(None) };
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text).at(RUN, path.display())?;
    if text.len() as u64 > MOST {
        return Err(SysError::refused(RUN, path.display(), format!("it is larger than {MOST} bytes")));
    }
    let cgroup_exec = ve.host.cgroup(ve.entry).exec_dir();
    Ok(Some(Inside { path, text, cgroup_exec, timeout_ms: limit(ve).0 }))
}

/// Opens a script, if it is there. One that others than root could have written is refused.
fn open(dir: &Path, path: &Path, using: Use) -> SysResult<Option<File>> {
    // Non-blocking, or the open of a fifo waits for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        other => other.at(RUN, path.display())?,
    };
    let refused = |why: &str| Err(SysError::refused(RUN, path.display(), why));
    let of_dir = rustix::fs::stat(dir).at("stat", dir.display())?;
    let stat = rustix::fs::fstat(&file).at("stat", path.display())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return refused("it is not a regular file");
    }
    let others = Mode::WGRP | Mode::WOTH;
    if [&of_dir, &stat].iter().any(|is| is.st_uid != 0 || Mode::from_raw_mode(is.st_mode).intersects(others))
    {
        return refused("it or its directory is not root's alone to write to");
    }
    if using == Use::Execute && !Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR) {
        return refused("it is not executable");
    }
    Ok(Some(File::from(file)))
}

fn conf(ve: Ve<'_>) -> PathBuf {
    ve.host.settings.confs_dir().join(format!("{}.conf", ve.entry.ctid.get()))
}

/// What programs of the host are told, after the VE has been written down for them as OpenVZ would.
fn env(ve: Ve<'_>, root: &Mounted) -> SysResult<Vec<(String, String)>> {
    let (root, ids) = (root.at.display().to_string(), root.owner.to_string());
    let private = ve.host.ve_dir(&ve.entry.uid).display().to_string();
    let name = ve.entry.annotations.get(ALIAS).cloned().unwrap_or_else(|| ve.entry.name.to_string());
    let conf = conf(ve);
    let own = [("VE_ROOT", root.clone()), ("VE_PRIVATE", private.clone()), ("NAME", name.clone())];
    let dir = ve.host.settings.confs_dir();
    std::fs::create_dir_all(&dir).at("make directory", dir.display())?;
    atomic::write(&conf, ctid_conf(&ve.entry.spec).text(&own).as_bytes(), &ve.host.writes)?;
    let all = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("VEID", ve.entry.ctid.get().to_string()),
        ("VE_CONFFILE", conf.display().to_string()),
        ("VE_ROOT", root),
        ("VE_PRIVATE", private),
        ("VE_NAME", name),
        ("LOCAL_UID", ids.clone()),
        ("LOCAL_GID", ids),
    ];
    Ok(all.map(|(name, value)| (name.to_owned(), value)).to_vec())
}
