//! A root in a directory with a quota of its project: on the host's own file system where that keeps such quotas (ext4
//! or XFS, mounted with prjquota), else in the [`Pool`].
//!
//! A VE's project is the first id of its range: no other VE has it, and it is known without being noted anywhere. The
//! limits are hard ones; which is in force when is decided by the pure core. What the quota counts is all that lies in
//! the directory: the VE's own files, and the few directories that overlayfs makes.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vzd_state::capability::Feature;
use vzd_state::ids::IdRange;
use vzd_state::subsystem::Effect;
use vzd_state::subsystem::disk::{Meter, Resource, Usage};

use super::pool::Pool;
use super::{LAYERS, ext4, make_dir, make_layers, open_dir};
use crate::drivers::Ve;
use crate::engine::fault;
use crate::error::{At, SysError, SysResult};
use crate::host::Host;
use crate::kernel::quota::users::{self, Kind};
use crate::kernel::quota::{self, Limit, Quota};
use crate::runtime::quotas::{self, UserQuotas};
use crate::runtime::spec::VolumeSpec;

/// A project's inodes are given back a moment after the last of its files has gone (XFS).
const UNUSED_TRIES: usize = 400;
const UNUSED_PAUSE: Duration = Duration::from_millis(5);

/// Whether this host can keep roots so.
pub fn probe(state_dir: &Path) -> Feature {
    let there = state_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if open_dir(there).is_ok_and(quota::limits_projects) {
        return Feature::Yes;
    }
    match ext4::probe() {
        Feature::Yes if !has_quota_format() => {
            Feature::No("the kernel has no quota files (CONFIG_QFMT_V2, module quota_v2)".to_owned())
        }
        other => other,
    }
}

/// Whether quotas of users and groups can be kept beside those of projects.
pub fn probe_users(state_dir: &Path) -> Feature {
    let there = state_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match open_dir(there) {
        Ok(dir) if quota::limits_projects(&dir) && !quota::limits_users(&dir) => Feature::No(format!(
            "the file system of {} is mounted with quotas of projects, but not of users and groups (usrquota, grpquota)",
            state_dir.display()
        )),
        _ => probe(state_dir),
    }
}

/// Whether ext4 can keep quotas: it takes a module, which it loads by itself.
fn has_quota_format() -> bool {
    const MODULE: &str = "/quota_v2.ko";
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = Path::new("/lib/modules").join(kernel.trim());
    let lists = |file| std::fs::read_to_string(modules.join(file)).is_ok_and(|list| list.contains(MODULE));
    Path::new("/sys/module/quota_v2").exists() || lists("modules.builtin") || lists("modules.dep")
}

/// Where a VE's files are.
#[derive(Debug)]
enum Place {
    /// In its directory on the host.
    Host(OwnedFd),
    /// In the pool.
    Pool(Pool),
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Place::Host(dir) => dir.as_fd(),
            Place::Pool(pool) => pool.as_fd(),
        }
    }
}

/// The quota of a VE, and where its files are, as long as this lives.
#[derive(Debug)]
pub struct Project {
    place: Place,
    id: u32,
}

/// Makes the directories of a VE, in its project; without effect on what is there already.
pub fn create(ve: Ve<'_>, dir: &Path) -> SysResult<()> {
    let (point, base) = (dir.join(LAYERS), ve.entry.ids.start);
    if open_dir(dir).is_ok_and(quota::limits_projects) {
        return make_root(&point, base);
    }
    let pool = Pool::make(ve.host)?;
    fault::point();
    make_root(&pool.path().join(ve.entry.uid.as_str()), base)?;
    make_dir(&point, 0o711)
}

/// The directory that is the project's, and in it the overlay's two: what is made later takes the project from the
/// directory that it is made in.
fn make_root(dir: &Path, base: u32) -> SysResult<()> {
    let is_new = !dir.exists();
    make_dir(dir, 0o711)?;
    let fd = open_dir(dir)?;
    if is_new {
        wait_until_unused(&fd, base)?;
    }
    fault::point();
    quota::set_project(&fd, base)?;
    fault::point();
    make_layers(dir, base)?;
    rustix::fs::fsync(&fd).at("write to disk", dir.display())
}

/// Somebody else's files must not be limited with a VE's, nor a VE's with theirs.
fn wait_until_unused(fs: impl AsFd, id: u32) -> SysResult<()> {
    for _ in 0..UNUSED_TRIES {
        if quota::usage(&fs, id)?.inodes == 0 {
            return Ok(());
        }
        std::thread::sleep(UNUSED_PAUSE);
    }
    let why = "there are files of this project that are not vzd's, or were left by it: find them (`lsattr -pR`, \
               `xfs_quota`), or give the VE another `security.userNamespace.start`";
    Err(SysError::refused("use", format_args!("project {id}"), why))
}

/// Whether a VE's files are on the host's own file system.
pub fn is_on_host(dir: &Path) -> bool {
    dir.join(LAYERS).join("upper").exists()
}

impl Project {
    /// That of a VE that is to start.
    pub fn open(ve: Ve<'_>, dir: &Path) -> SysResult<Self> {
        Self::with(ve, dir, Pool::open)
    }

    /// That of a VE that runs.
    pub fn running(ve: Ve<'_>, dir: &Path) -> SysResult<Self> {
        Self::with(ve, dir, Pool::running)
    }

    fn with(ve: Ve<'_>, dir: &Path, pool: impl FnOnce(&Host) -> SysResult<Pool>) -> SysResult<Self> {
        let place = if is_on_host(dir) {
            Place::Host(open_dir(&dir.join(LAYERS))?)
        } else {
            Place::Pool(pool(ve.host)?)
        };
        Ok(Self { place, id: ve.entry.ids.start })
    }

    /// The directory of the overlay's layers, as long as this lives.
    pub fn path(&self, ve: Ve<'_>, dir: &Path) -> PathBuf {
        match &self.place {
            Place::Host(_) => dir.join(LAYERS),
            Place::Pool(pool) => pool.path().join(ve.entry.uid.as_str()),
        }
    }

    /// Puts an empty directory into the project.
    pub fn take_in(&self, dir: &Path) -> SysResult<()> {
        quota::set_project(open_dir(dir)?, self.id)
    }

    /// Where the starter finds the overlay's layers, and what it has to mount for that.
    pub fn layers(&self, ve: Ve<'_>, dir: &Path) -> (PathBuf, Option<VolumeSpec>) {
        let point = dir.join(LAYERS);
        match &self.place {
            Place::Host(_) => (point, None),
            Place::Pool(pool) => (point.join(ve.entry.uid.as_str()), Some(pool.volume(&point))),
        }
    }

    /// The quotas of the VE's own users and groups, of which so many may have limits.
    pub fn users(&self, ve: Ve<'_>, most: u32) -> SysResult<UserQuotas> {
        let device = match &self.place {
            Place::Host(dir) => device_of(dir)?,
            Place::Pool(pool) => pool.device(),
        };
        let dir = ve.host.ve_dir(&ve.entry.uid);
        Ok(UserQuotas { device, dir, base: ve.entry.ids.start, count: ve.entry.ids.count, most })
    }

    /// Takes limits and grace times of the VE's users and groups away: nobody in it could see or change them.
    pub fn forget_users(&self, ve: Ve<'_>) -> SysResult<()> {
        quotas::forget(&ve.host.ve_dir(&ve.entry.uid))?;
        if !quota::limits_users(&self.place) {
            return Ok(());
        }
        forget_users(&self.users(ve, 0)?.device, ve.entry.ids)
    }

    /// What is used, and the limits in force.
    pub fn usage(&self) -> SysResult<Usage> {
        let is = quota::usage(&self.place, self.id)?;
        Ok(Usage {
            space: Meter { used: is.space, limit: is.space_limit, most: None },
            inodes: Some(Meter { used: is.inodes, limit: is.inodes_limit, most: None }),
        })
    }

    /// Puts a limit in force; below what is used, nothing more can be written.
    pub fn set_limit(&self, resource: Resource, to: Option<u64>) -> SysResult<Effect> {
        if self.usage()?.of(resource).is_some_and(|meter| meter.limit == to) {
            return Ok(Effect::AlreadySo);
        }
        let limit = match resource {
            Resource::Space => Limit::Space(to),
            Resource::Inodes => Limit::Inodes(to),
        };
        quota::set_limit(&self.place, self.id, limit)?;
        Ok(Effect::Changed)
    }
}

/// The block device of a file system, by its name.
fn device_of(fs: impl AsFd) -> SysResult<PathBuf> {
    let number = rustix::fs::fstat(fs).at("stat", "file system")?.st_dev;
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let event = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/uevent"));
    let text = std::fs::read_to_string(&event).at("read", event.display())?;
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    let name = name.ok_or_else(|| SysError::refused("find", event.display(), "it has no name"))?;
    Ok(Path::new("/dev").join(name))
}

/// Takes the limits of a VE away that has no files any more: its project's, and those of its users and groups.
pub fn forget(fs: impl AsFd, device: Option<&Path>, ids: IdRange) -> SysResult<()> {
    if !quota::limits_projects(&fs) {
        return Ok(());
    }
    if quota::limits_users(&fs) {
        let own = device.is_none().then(|| device_of(&fs)).transpose()?;
        let device = device.or(own.as_deref()).unwrap_or(Path::new(""));
        forget_users(device, ids)?;
    }
    let id = ids.start;
    let is = quota::usage(&fs, id)?;
    if is.space_limit.is_some() {
        quota::set_limit(&fs, id, Limit::Space(None))?;
    }
    if is.inodes_limit.is_some() {
        quota::set_limit(&fs, id, Limit::Inodes(None))?;
    }
    Ok(())
}

fn forget_users(device: &Path, ids: IdRange) -> SysResult<()> {
    let failed = |e| SysError::new("take limits of users from", device.display(), e);
    let name = CString::new(device.as_os_str().as_bytes())
        .map_err(|e| SysError::refused("use", device.display(), e))?;
    for kind in Kind::ALL {
        let range = ids.start..ids.start.saturating_add(ids.count);
        for quota in users::each(&name, kind, range) {
            let quota = quota.map_err(failed)?;
            if quota.limits() {
                let none = Quota { valid: users::SETTABLE, ..Quota::default() };
                users::set(&name, kind, quota.id, none).map_err(failed)?;
            }
        }
    }
    Ok(())
}
