//! The root file system, IO half: a directory per VE with the overlay's own layers and a link to its
//! template. What keeps the layers, and their limits, is a matter of the backend ([`project`], [`image`], [`btrfs`]); whatever throws
//! something away is in [`remove`].
//!
//! `<state>/ves/<uid>/` holds `fs`, in it `upper` (the VE's own files, with the ids of its range) and `work`
//! (overlayfs's), and `lower`, a link to the template as it was when the VE was made: a newer template of
//! the same name does not change a VE.
//! The overlay itself is mounted by the starter, in the VE's own mount namespace: the host has no mount
//! of it, but where its administrator asks for one while the VE is down ([`host_mount`]).

pub mod btrfs;
pub mod clone;
mod copy;
pub mod export;
pub mod ext4;
pub mod host_mount;
mod image;
pub mod import;
pub mod kept;
pub mod own;
mod pool;
pub mod project;
mod remove;
mod root_mount;
mod shift;
pub mod shown;
pub mod snapshot;
pub mod stream;
mod users;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use vzd_state::desired::Desired;
use vzd_state::ledger::{DiskRecord, MadeRoot};
use vzd_state::reading::Reading;
use vzd_state::subsystem::disk::quota::in_force;
use vzd_state::subsystem::disk::{Backend, Cold, Live, Observed, Resource, Root, Usage};

use self::btrfs::Subvolume;
use self::image::Image;
use self::pool::Pool;
pub use self::pool::PoolSize;
use self::project::Project;
pub use self::remove::{destroy, tidy};
pub use self::users::{kept_users, put_users_back, users};
use crate::drivers::{Effect, Made, Running, StepError, Stopped, Ve, reading};
use crate::engine::{clock, fault};
use crate::error::{At, SysError, SysResult};
use crate::host::Host;
use crate::runtime::spec::RootSpec;
use crate::template::Source;

/// In the VE's directory: its files, or where the starter mounts the file system that they are on.
const LAYERS: &str = "fs";

/// Reads whether the root is there. A directory that was not finished counts as absent.
pub fn observe(ve: Ve<'_>) -> Observed {
    let dir = ve.host.ve_dir(&ve.entry.uid);
    let finished = ve.entry.disk.as_ref().is_some_and(|disk| disk.ready);
    let root = match std::fs::symlink_metadata(dir.join("lower")) {
        // Never made anew in its place: it may come back.
        Ok(_) if finished && backend(ve) == Backend::Image && !image::file(&dir).exists() => {
            Reading::Unreadable(format!("{} is missing", image::file(&dir).display()))
        }
        Ok(_) if finished && is_lost_with_pool(ve, &dir) => {
            Reading::Unreadable(format!("{} is missing", Pool::file(&ve.host.settings).display()))
        }
        Ok(_) if finished && backend(ve) == Backend::Btrfs && !btrfs::is_there(&dir) => {
            Reading::Unreadable(format!("subvolume {} is missing", dir.join(LAYERS).display()))
        }
        Ok(_) if finished => Reading::Is(Root { path: dir.display().to_string() }),
        Ok(_) => Reading::Absent,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Reading::Absent,
        Err(e) => Reading::Unreadable(SysError::new("stat", dir.join("lower").display(), e).to_string()),
    };
    Observed { root, ..Observed::default() }
}

fn is_lost_with_pool(ve: Ve<'_>, dir: &Path) -> bool {
    backend(ve) == Backend::Project && !project::is_on_host(dir) && !Pool::exists(&ve.host.settings)
}

fn backend(ve: Ve<'_>) -> Backend {
    ve.entry.disk.as_ref().map(|disk| disk.backend).unwrap_or_default()
}

/// Reads what there is to be read of a VE that runs: use and limits, and whether it may write.
pub fn observe_running(ve: Ve<'_>, running: &Running, observed: &mut Observed) {
    observed.usage = usage(ve);
    observed.read_only = root_mount::read_only(ve, running);
    observed.mount_options = root_mount::options(ve, running);
}

fn usage(ve: Ve<'_>) -> Reading<Usage> {
    match backend(ve) {
        Backend::Directory => Reading::Absent,
        Backend::Image => {
            let image = Image::running(&ve.host.ve_dir(&ve.entry.uid));
            reading(image.and_then(|image| image.usage()))
        }
        Backend::Project => {
            let project = Project::running(ve, &ve.host.ve_dir(&ve.entry.uid));
            reading(project.and_then(|project| project.usage()))
        }
        Backend::Btrfs => {
            let subvolume = Subvolume::open(&ve.host.ve_dir(&ve.entry.uid));
            reading(subvolume.and_then(|subvolume| subvolume.usage()))
        }
    }
}

/// Changes the disk of a VE that runs.
pub fn apply_live(ve: Ve<'_>, step: &Live, running: &Running) -> SysResult<Effect> {
    let (resource, to) = match step {
        Live::SetLimit { resource, to, .. } => (resource, to),
        Live::SetReadOnly { to } => return root_mount::set_read_only(running, *to),
        Live::StartGrace { .. } | Live::EndGrace { .. } => return Ok(Effect::AlreadySo),
    };
    match backend(ve) {
        Backend::Directory => {
            Err(SysError::refused("limit", ve.entry.name.as_str(), "its root is a directory"))
        }
        Backend::Image => Image::running(&ve.host.ve_dir(&ve.entry.uid))?.set_limit(*resource, *to),
        Backend::Project => Project::running(ve, &ve.host.ve_dir(&ve.entry.uid))?.set_limit(*resource, *to),
        Backend::Btrfs => Subvolume::open(&ve.host.ve_dir(&ve.entry.uid))?.set_limit(*resource, *to),
    }
}

/// Makes or throws away the root.
pub fn apply_cold(ve: Ve<'_>, step: &Cold, _stopped: &Stopped) -> Result<(Effect, Made), StepError> {
    let dir = ve.host.ve_dir(&ve.entry.uid);
    match step {
        Cold::CreateRoot { template, backend } => create(ve, &dir, template, *backend),
        Cold::DestroyRoot => Ok((destroy(ve)?, Made::default())),
    }
}

/// Makes sure that a root can be made, before the one that there is is thrown away for it.
pub fn prepare(host: &Host, step: &Cold) -> Result<(), StepError> {
    if let Cold::CreateRoot { template, .. } = step {
        is_copied(host, template)?;
        host.templates()?.ensure(&source(template))?;
    }
    Ok(())
}

/// The directory that a root is a copy of, if it is to be one: one that nobody but root could have put together.
fn is_copied(host: &Host, template: &str) -> Result<Option<PathBuf>, StepError> {
    let Some(path) = template.strip_prefix("copy:").map(PathBuf::from) else { return Ok(None) };
    host.templates()?.ensure(&Source::Dir(path.clone()))?;
    Ok(Some(path))
}

/// Why this host cannot have the root of a VE of another host's: it lacks the template, or has another one.
pub fn lacks_template(host: &Host, record: &DiskRecord) -> Option<String> {
    let template = &record.template;
    let found = host.templates().and_then(|store| store.ensure(&source(template)));
    match found {
        Err(e) => Some(format!("template {template}: {}", StepError::from(e))),
        Ok(found) if Some(&found.digest) != record.digest.as_ref() => {
            Some(format!("template {template} is not the same there"))
        }
        Ok(_) => None,
    }
}

fn create(ve: Ve<'_>, dir: &Path, template: &str, backend: Backend) -> Result<(Effect, Made), StepError> {
    let copied = is_copied(ve.host, template)?;
    // Held until the link is made: from then on the template counts as used.
    let template = ve.host.templates()?.ensure(&source(template))?;
    let made = MadeRoot {
        path: Some(dir.display().to_string()),
        digest: Some(template.digest.clone()),
        application: template.application.clone(),
    };
    let link = dir.join("lower");
    // A root is there though one is to be made: who made it, or was throwing it away, was killed. Nothing of
    // it may show in the new one.
    if std::fs::symlink_metadata(&link).is_ok() {
        destroy(ve)?;
    }
    let base = ve.entry.ids.start;
    make_dir(dir, 0o711)?;
    match (backend, ve.want) {
        (Backend::Directory, _) => {
            make_dir(&dir.join(LAYERS), 0o711)?;
            make_layers(&dir.join(LAYERS), base)?;
        }
        (Backend::Project, _) => project::create(ve, dir)?,
        (Backend::Btrfs, _) => btrfs::create(ve, dir, &template.root)?,
        (Backend::Image, Some(want)) => image::create(dir, &want.disk, base)?,
        (Backend::Image, None) => {
            return Err(SysError::refused("make", "image", "nothing says how large").into());
        }
    }
    fault::point();
    symlink(&template.root, &link).at("link", link.display())?;
    if let Some(from) = copied {
        let left = own::fill(ve, &from)?;
        tracing::info!(ve = %ve.entry.name, from = %from.display(), %left, "copied a root; some is left out");
    }
    Ok((Effect::Changed, Made { root: Some(made), ..Made::default() }))
}

/// The source that a manifest's `template` names; the schema has checked its form.
fn source(template: &str) -> Source {
    if let Some(image) = template.strip_prefix("oci:").and_then(|image| image.parse().ok()) {
        return Source::Image(Box::new(image));
    }
    match template.split_once(':') {
        Some(("dir", path)) => Source::Dir(PathBuf::from(path)),
        Some(("file", path)) => Source::File(PathBuf::from(path)),
        // All of it is the VE's own.
        Some(("copy", _)) => Source::Empty,
        _ => Source::Named(template.to_owned()),
    }
}

/// A VE's upper layer and work directory, reachable as long as this lives.
#[derive(Debug)]
struct Layers {
    path: PathBuf,
    project: Option<Project>,
    _image: Option<(Image, OwnedFd)>,
}

impl Layers {
    fn open(ve: Ve<'_>, dir: &Path) -> SysResult<Self> {
        let (mut project, mut image) = (None, None);
        let path = match backend(ve) {
            Backend::Project => {
                let on = Project::open(ve, dir)?;
                let path = on.path(ve, dir);
                project = Some(on);
                path
            }
            Backend::Image => {
                let on = Image::open(dir)?;
                let root = on.root()?;
                let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
                image = Some((on, root));
                path
            }
            Backend::Directory | Backend::Btrfs => dir.join(LAYERS),
        };
        Ok(Self { path, project, _image: image })
    }
}

/// A root that is ready for the start of its VE: limited, and held until the VE holds it itself.
#[derive(Debug)]
pub struct Opened {
    /// Its layers.
    pub spec: RootSpec,
    _held: Held,
}

/// What the layers lie on.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what it keeps mounted")]
enum Held {
    Nothing,
    Image(Image),
    Project(Project),
}

/// Opens a VE's root for its start and puts its limits in force.
pub fn open(ve: Ve<'_>, want: &Desired) -> SysResult<Opened> {
    let dir = ve.host.ve_dir(&ve.entry.uid);
    let lower = std::fs::read_link(dir.join("lower")).at("read", dir.join("lower").display())?;
    let staging = ve.host.settings.staging_dir();
    // Of a resumed run, what it was started with.
    let cold = ve.entry.run.as_ref().map_or(&want.lifecycle.cold, |run| &run.cold);
    let spec = |dir: &Path, volume| RootSpec {
        lower: lower.clone(),
        upper: dir.join("upper"),
        work: dir.join("work"),
        staging: staging.clone(),
        volume,
        read_only: want.disk.read_only,
        options: cold.mount_options.iter().copied().collect(),
        users: None,
    };
    let limit = |set: &dyn Fn(Resource, Option<u64>) -> SysResult<Effect>| {
        let mut all = Resource::ALL.into_iter().filter(|one| backend(ve).limits(*one));
        let now = clock::now();
        all.try_for_each(|one| set(one, in_force(&want.disk, ve.entry.disk.as_ref(), one, now)).map(drop))
    };
    match backend(ve) {
        Backend::Directory => {
            move_layers(&dir)?;
            Ok(Opened { spec: spec(&dir.join(LAYERS), None), _held: Held::Nothing })
        }
        Backend::Image => {
            let image = Image::open(&dir)?;
            let usage = image.usage()?;
            limit(&|resource, to| {
                let most = usage.of(resource).and_then(|meter| meter.most);
                image.set_limit(resource, to.map(|to| most.map_or(to, |most| to.min(most))))
            })?;
            let volume = Some(image.volume(&dir));
            Ok(Opened { spec: spec(&image::point(&dir), volume), _held: Held::Image(image) })
        }
        Backend::Project => {
            let project = Project::open(ve, &dir)?;
            limit(&|resource, to| project.set_limit(resource, to))?;
            let (layers, volume) = project.layers(ve, &dir);
            let most = Some(want.lifecycle.cold.quota_ids).filter(|most| *most > 0);
            let users = most.map(|most| project.users(ve, most)).transpose()?;
            if users.is_none() {
                project.forget_users(ve)?;
            }
            Ok(Opened { spec: RootSpec { users, ..spec(&layers, volume) }, _held: Held::Project(project) })
        }
        Backend::Btrfs => {
            let subvolume = Subvolume::open(&dir)?;
            limit(&|resource, to| subvolume.set_limit(resource, to))?;
            Ok(Opened { spec: spec(&dir.join(LAYERS), None), _held: Held::Nothing })
        }
    }
}

/// Before there were snapshots the layers lay in the VE's directory itself.
fn move_layers(dir: &Path) -> SysResult<()> {
    let to = dir.join(LAYERS);
    for name in ["work", "upper"].into_iter().filter(|name| dir.join(name).exists()) {
        make_dir(&to, 0o711)?;
        std::fs::rename(dir.join(name), to.join(name)).at("move", dir.join(name).display())?;
    }
    Ok(())
}

/// A VE's file system is let go of a moment after its last process: within this, unless someone looks into it.
const DETACH_TRIES: usize = 400;
const DETACH_PAUSE: Duration = Duration::from_millis(5);

/// Waits until the kernel has let go of the root of a VE that has ended.
pub fn close(ve: Ve<'_>) {
    let dir = ve.host.ve_dir(&ve.entry.uid);
    if backend(ve) == Backend::Image {
        (0..DETACH_TRIES)
            .take_while(|_| image::is_attached(&dir))
            .for_each(|_| std::thread::sleep(DETACH_PAUSE));
    }
}

/// The overlay's own two directories, in one that is there.
fn make_layers(dir: &Path, base: u32) -> SysResult<()> {
    for (name, mode, owner) in [("upper", 0o755, base), ("work", 0o700, 0)] {
        let path = dir.join(name);
        make_dir(&path, mode)?;
        chown(&path, Some(owner), Some(owner)).at("chown", path.display())?;
    }
    Ok(())
}

fn open_dir(path: &Path) -> SysResult<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).at("open", path.display())
}

fn make_dir(path: &Path, mode: u32) -> SysResult<()> {
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(SysError::new("make directory", path.display(), e))
        }
        _ => Ok(()),
    }
}
