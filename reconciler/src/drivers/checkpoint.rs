//! Checkpoints, IO half: writing a running VE to disk, and throwing that away. Resuming is a kind of start, and the
//! lifecycle driver's.

use std::path::{Path, PathBuf};

use vzd_state::reading::Reading;
use vzd_state::subsystem::lifecycle::{Checkpoint, Compression};
use vzd_state::subsystem::network;

use crate::drivers::{Effect, StepError, Ve, disk, lifecycle, reading};
use crate::engine::clock;
use crate::error::{SysError, SysResult};
use crate::kernel::net;
use crate::kernel::ns::{self, Kind, Namespace};
use crate::runtime::checkpoint::ahead::AheadSpec;
use crate::runtime::checkpoint::bound;
use crate::runtime::checkpoint::dump::DumpSpec;
use crate::runtime::checkpoint::image::{self, Image};
use crate::runtime::checkpoint::obstacles;
use crate::runtime::spec::CheckpointSpec;

/// The directory of a VE's checkpoint, with the VE's own files.
pub fn dir(ve: Ve<'_>) -> PathBuf {
    of(&ve.host.ve_dir(&ve.entry.uid))
}

/// The same, of a VE with this directory.
pub fn of(ve: &Path) -> PathBuf {
    ve.join("checkpoint")
}

/// What a VE is resumed from.
pub fn spec(ve: Ve<'_>) -> CheckpointSpec {
    let groups = ve.host.cgroup(ve.entry).places();
    CheckpointSpec { criu: ve.host.settings.criu.clone(), dir: dir(ve), groups }
}

/// The interfaces that vzd has given a VE, by their names in it.
fn interfaces(network: &network::Desired) -> Vec<String> {
    let routed = network.has_venet().then(|| net::INSIDE.to_owned());
    routed.into_iter().chain(network.interfaces.keys().cloned()).collect()
}

/// What stands in the way of writing a VE that runs to disk.
pub fn obstacles(ve: Ve<'_>) -> SysResult<Vec<String>> {
    let (pid, group) = (lifecycle::running(ve)?.pid, ve.host.cgroup(ve.entry));
    let interfaces = ve.entry.applied.network.as_deref().map(interfaces).unwrap_or_default();
    obstacles::obstacles(pid, &group.pids()?, &group.exec_dir(), &interfaces)
}

/// What stands in the way of going on with it in a clone of it.
pub fn obstacles_of_a_clone(ve: Ve<'_>) -> SysResult<Vec<String>> {
    let bound = bound::bound(lifecycle::running(ve)?.pid)?;
    let told = |at| format!("something in it has a socket at {at}, an address that its clone does not have");
    Ok(obstacles(ve)?.into_iter().chain(bound.into_iter().map(told)).collect())
}

/// Whether there is one that the VE can be resumed from.
pub fn observe(ve: Ve<'_>) -> Reading<Checkpoint> {
    reading(image::look(&dir(ve)))
}

/// Writes the VE to disk. It runs on if that fails.
pub fn suspend(ve: Ve<'_>) -> SysResult<()> {
    let ahead = ve.entry.handover.as_ref().map(|handover| handover.id.clone());
    let pre_dump = ahead.is_none() && policies(ve).is_some_and(|is| is.checkpoint_pre_dump);
    let spec = dump_spec(ve, dir(ve))?;
    ve.host.keeper.suspend(DumpSpec { place: place(ve), ahead, pre_dump, ..spec })
}

/// Where its checkpoint is kept, if not with the VE.
fn place(ve: Ve<'_>) -> Option<PathBuf> {
    let place = policies(ve).and_then(|is| is.checkpoint_directory.as_ref());
    place.map(|dir| Path::new(dir).join(ve.entry.uid.as_str()).join("checkpoint"))
}

/// Writes a round of its memory ahead for the hand-over `id`. It runs on.
pub fn write_ahead(ve: Ve<'_>, id: &str, round: u32) -> SysResult<()> {
    ve.host.keeper.write_ahead(AheadSpec {
        id: id.to_owned(),
        round,
        pid: lifecycle::running(ve)?.pid,
        criu: ve.host.settings.criu.clone(),
        checkpoint: dir(ve),
        place: place(ve),
        compress: compresses(ve),
    })
}

/// Whether anything of it was written ahead, or is being.
pub fn is_ahead(ve: Ve<'_>) -> bool {
    image::is_ahead(&dir(ve))
}

/// Removes what was written ahead for nothing, if anything was.
pub fn forget_ahead(ve: Ve<'_>) -> SysResult<()> {
    if is_ahead(ve) { Image::lock(&dir(ve))?.forget_ahead() } else { Ok(()) }
}

/// Writes a VE to disk that runs on. `copy` is done while everything stands still.
pub fn copy<T: Send>(ve: Ve<'_>, to: PathBuf, copy: impl FnOnce() -> SysResult<T>) -> SysResult<T> {
    ve.host.keeper.copy(dump_spec(ve, to)?, copy)
}

/// The same, for a clone of it: what is written is the clone's, and without its connections.
pub fn copy_for<T: Send>(ve: Ve<'_>, clone: Ve<'_>, copy: impl FnOnce() -> SysResult<T>) -> SysResult<T> {
    let spec = DumpSpec {
        uid: clone.entry.uid.as_str().to_owned(),
        id_base: clone.entry.ids.start,
        clone_of: Some(ve.entry.ids.start),
        closes_tcp: true,
        // It is resumed at once.
        compress: false,
        ..dump_spec(ve, dir(clone))?
    };
    ve.host.keeper.copy(spec, copy)
}

/// Refuses a copy that is not whole, or not of this VE.
pub fn check(ve: Ve<'_>, copy: &Path) -> SysResult<()> {
    let ids = (ve.entry.ids.start, ve.entry.ids.count);
    Image::lock(copy)?.check(ve.entry.uid.as_str(), ids).map(drop)
}

/// Makes a copy the VE's checkpoint. The copy stays.
pub fn take_up(ve: Ve<'_>, copy: &Path) -> SysResult<()> {
    Image::lock(&dir(ve))?.link(&Image::lock(copy)?)
}

/// What the manifest says, or said while there was one.
fn policies(ve: Ve<'_>) -> Option<&vzd_state::subsystem::lifecycle::Desired> {
    ve.want.map(|want| &want.lifecycle).or(ve.entry.applied.lifecycle.as_ref())
}

fn compresses(ve: Ve<'_>) -> bool {
    policies(ve).is_some_and(|is| is.checkpoint_compress != Compression::None)
}

fn dump_spec(ve: Ve<'_>, checkpoint: PathBuf) -> SysResult<DumpSpec> {
    let pid = lifecycle::running(ve)?.pid;
    if let Some(why) = obstacles::unkept(pid, &ve.host.cgroup(ve.entry).pids()?)?.into_iter().next() {
        return Err(SysError::refused("suspend", "VE", why));
    }
    let (applied, run) = (&ve.entry.applied, ve.entry.run.as_ref());
    let mounts = applied.namespaces.iter().flat_map(|is| is.mounts.keys());
    Ok(DumpSpec {
        uid: ve.entry.uid.as_str().to_owned(),
        id_base: ve.entry.ids.start,
        id_count: ve.entry.ids.count,
        pid,
        criu: ve.host.settings.criu.clone(),
        checkpoint,
        place: None,
        closes_tcp: policies(ve).is_some_and(|is| !is.checkpoint_keeps_tcp),
        mounts: mounts.map(PathBuf::from).collect(),
        entered: ve.host.cgroup(ve.entry).exec_dir(),
        delegated: ve.host.cgroup(ve.entry).delegated_dir(),
        groups: ve.host.cgroup(ve.entry).places(),
        interfaces: applied.network.as_deref().map(interfaces).unwrap_or_default(),
        users: run.map(|run| disk::users(ve, &run.cold)).transpose()?.flatten(),
        at: clock::now(),
        leave_running: false,
        ahead: None,
        clone_of: None,
        pre_dump: false,
        compress: compresses(ve),
    })
}

/// Waits for a suspension that may still be under way, though nobody waits for it any more.
pub fn wait(ve: Ve<'_>) -> SysResult<()> {
    Image::lock(&dir(ve)).map(drop)
}

/// Has a VE that was not suspended after all go on: what a suspension that was cut off has left.
pub fn call_off(ve: Ve<'_>, pid: i32) -> SysResult<()> {
    if ve.entry.applied.network.as_deref().is_none_or(|network| !network.has_links()) {
        return Ok(());
    }
    ns::on_thread_in(&Namespace::of(pid, Kind::Net)?, net::let_through)
}

/// Throws away what of a VE that is destroyed lies elsewhere.
pub fn destroy(ve: Ve<'_>) -> SysResult<()> {
    let dir = dir(ve);
    if dir.is_symlink() { Image::lock(&dir)?.remove() } else { Ok(()) }
}

/// Throws it away.
pub fn discard(ve: Ve<'_>) -> Result<Effect, StepError> {
    let image = Image::lock(&dir(ve))?;
    if ve.entry.run.is_some() {
        // A suspension that nobody waited for may have come to its end meanwhile: then it is all there is of the VE.
        lifecycle::running(ve)?;
    }
    image.remove()?;
    Ok(Effect::Changed)
}
