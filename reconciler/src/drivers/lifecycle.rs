//! The lifecycle, IO half: starting a VE and stopping it. Whether it runs is [`find`]'s.

mod find;
pub mod host_mount;
mod scripts;
mod spec;

use std::borrow::Cow;
use std::time::Duration;

use vzd_state::subsystem::lifecycle::{End, Step};
use vzd_state::units::Millis;

use self::find::{Found, find};
use self::spec::{as_recorded, start_spec};
use crate::drivers::{
    Effect, Made, StepError, Ve, beancounters, cgroup, checkpoint, devices, disk, namespaces, network,
};
use crate::error::{SysError, SysResult};
use crate::kernel::process::WaitStatus;
use crate::kernel::procfs;
use crate::runtime::scripts::RUN;

pub use self::find::{Census, Running, Stopped, is_down, observe, running, still_running, stopped};
pub use self::scripts::has_scripts;
pub use self::spec::door;

/// After a kill every process of a VE is gone within this, unless one hangs in the kernel.
pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries out a step. Those that only the ledger notes have nothing to do here.
pub fn apply(ve: Ve<'_>, step: &Step) -> Result<(Effect, Made), StepError> {
    let done = |effect| Ok((effect, Made::default()));
    let told = |effect, told| Ok((effect, Made { told, ..Made::default() }));
    match step {
        Step::Start { .. } => {
            let init_pid = start(ve, Begin::Init)?;
            Ok((Effect::Changed, Made { init_pid: Some(init_pid), ..Made::default() }))
        }
        Step::Resume { .. } => {
            let init_pid = resume(ve)?;
            Ok((Effect::Changed, Made { init_pid: Some(init_pid), ..Made::default() }))
        }
        Step::Suspend => told(suspend(ve)?, scripts::after_suspension(ve)),
        Step::Discard => done(checkpoint::discard(ve)?),
        Step::Stop { timeout, .. } => {
            let (effect, mut failed) = stop(ve, *timeout)?;
            failed.extend(scripts::after_run(ve));
            told(effect, failed)
        }
        // What a script of that run did went down with the host.
        Step::Reap { end: End::HostRebooted } => done(clear(ve)?),
        Step::Reap { .. } => told(clear(ve)?, scripts::after_run(ve)),
        Step::Destroy => {
            stopped(ve)?;
            clear(ve)?;
            checkpoint::destroy(ve)?;
            done(disk::destroy(ve)?)
        }
        Step::Create
        | Step::Restore
        | Step::Accept
        | Step::Adopt { .. }
        | Step::Quarantine { .. }
        | Step::Forget => done(Effect::AlreadySo),
    }
}

/// What a VE begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// Its init, and everything that its manifest wants.
    Init,
    /// Its checkpoint, with limits as its manifest wants them, and all else as it was (and is on record).
    Checkpoint,
}

/// Writes the VE to disk, and clears up after it.
fn suspend(ve: Ve<'_>) -> Result<Effect, StepError> {
    // An earlier suspension, that was not waited for, may have ended it.
    checkpoint::wait(ve)?;
    let effect = match find(ve, None)? {
        Found::Running(_) => {
            checkpoint::suspend(ve)?;
            Effect::Changed
        }
        Found::Stopped(_) if checkpoint::observe(ve).is().is_some() => Effect::AlreadySo,
        Found::Stopped(_) => {
            return Err(
                SysError::refused("suspend", format_args!("VE {}", ve.entry.name), "it has ended").into()
            );
        }
    };
    clear(ve)?;
    Ok(effect)
}

/// Has the VE go on, from its checkpoint if it does not run.
fn resume(ve: Ve<'_>) -> Result<u32, StepError> {
    checkpoint::wait(ve)?;
    if let Found::Running(running) = find(ve, None)? {
        checkpoint::call_off(ve, running.pid)?;
        return Ok(running.pid.unsigned_abs());
    }
    start(ve, Begin::Checkpoint)
}

/// Starts the VE.
fn start(ve: Ve<'_>, begin: Begin) -> Result<u32, StepError> {
    if let Found::Running(running) = find(ve, None)? {
        return Ok(running.pid.unsigned_abs());
    }
    let want = ve.want.ok_or_else(|| {
        SysError::refused("start", format_args!("VE {}", ve.entry.name), "nothing says how")
    })?;
    host_mount::take_away(ve)?;
    let root = disk::open(ve, want)?;
    let given = match begin {
        Begin::Init => Cow::Borrowed(want),
        Begin::Checkpoint => Cow::Owned(as_recorded(ve, want)),
    };
    let mut spec = start_spec(ve, &given, root.spec.clone())?;
    if begin == Begin::Checkpoint {
        spec.checkpoint = Some(checkpoint::spec(ve));
        let recorded = ve.entry.applied.namespaces.iter().flat_map(|is| &is.mounts);
        spec.mounts = recorded.map(|(target, mount)| namespaces::mount_spec(target, mount)).collect();
    }
    spec.scripts = scripts::for_start(ve, begin).map_err(StepError::Script)?;
    spec.handed = network::before_start(ve, &given.network)?;
    spec.neighbours = network::neighbours(ve, &given.network.addresses)?;
    let inside = spec.scripts.as_ref().and_then(|scripts| scripts.start.as_ref());
    let inside = inside.map(|script| script.path.display().to_string());
    let group = ve.host.cgroup(ve.entry);
    group.renew(ve.entry.ids.start)?;
    let limited = cgroup::set_limits(ve, &want.cgroup.limits)
        .and_then(|()| beancounters::set_before_start(ve, &want.beancounters));
    let started = limited.and_then(|()| devices::set_rules(ve, &given.devices.rules)).and_then(|_| {
        let longest = spec.scripts.as_ref().map_or(Duration::ZERO, |scripts| scripts.longest());
        let timeout = Duration::from_millis(want.lifecycle.start_timeout.0);
        ve.host.keeper.start_ve(spec, timeout + longest)
    });
    drop(root);
    match started {
        Ok((started, _)) => Ok(started.pid.unsigned_abs()),
        Err(e) => {
            // Nothing of a start that failed is left; the reason is worth more than a failure to clear.
            let _ = clear(ve);
            let of_script = e.op == RUN;
            if !of_script || inside.as_deref() == Some(e.object.as_str()) {
                // It was mounted. Why the start failed is worth more than what they have to say.
                let _ = scripts::after_run(ve);
            }
            Err(if of_script { StepError::Script(e) } else { e.into() })
        }
    }
}

/// Asks init to stop, and kills every process when it has not within `timeout`. Gives what went wrong meanwhile as well.
fn stop(ve: Ve<'_>, timeout: Millis) -> Result<(Effect, Vec<String>), StepError> {
    let mut told = Vec::new();
    let effect = match find(ve, None)? {
        Found::Stopped(_) => Effect::AlreadySo,
        Found::Running(running) => {
            let group = ve.host.cgroup(ve.entry);
            let mut left = timeout;
            if timeout.0 > 0 {
                // A frozen init cannot hear.
                if group.is_frozen()? {
                    group.set_frozen(false, KILL_TIMEOUT)?;
                }
                let failed;
                (left, failed) = scripts::before_stop(ve, timeout);
                told.extend(failed);
                ask_to_stop(ve, &running)?;
            }
            if !running.pidfd().wait(Duration::from_millis(left.0))? {
                group.kill()?;
            }
            if !running.pidfd().wait(KILL_TIMEOUT)? {
                return Err(SysError::refused(
                    "kill",
                    format_args!("VE {}", ve.entry.name),
                    "its init does not end",
                )
                .into());
            }
            Effect::Changed
        }
    };
    clear(ve)?;
    Ok((effect, told))
}

/// Tells init in its own language to power off.
fn ask_to_stop(ve: Ve<'_>, running: &Running) -> SysResult<()> {
    /// glibc keeps the first two real-time signals to itself: SIGRTMIN is 34.
    const SIGRTMIN: i32 = 34;
    let started = ve.entry.run.as_ref().map(|run| &run.cold);
    let application = started.and_then(|cold| cold.application(ve.entry.application()));
    if let Some(signal) = application.and_then(|is| is.stop_signal) {
        return running.pidfd().signal(signal);
    }
    let exe = match procfs::exe(running.pid) {
        // It is ending already: there is nobody to be asked.
        Err(e) if e.is_absent() => return Ok(()),
        other => other?,
    };
    let name = exe.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match name.as_str() {
        "systemd" => running.pidfd().signal(SIGRTMIN + 4),
        "busybox" => running.pidfd().signal(libc::SIGUSR2),
        // No signal of sysvinit's halts: its own command has to.
        "init" => {
            let command = crate::runtime::enter::Command {
                argv: vec!["telinit".into(), "0".into()],
                env: crate::runtime::enter::default_env("linux"),
                cwd: "/".into(),
            };
            match door(ve).and_then(|door| ve.host.keeper.run(door, command, 5_000)) {
                Ok(Some(WaitStatus::Exited(0))) => Ok(()),
                _ => running.pidfd().signal(libc::SIGTERM),
            }
        }
        _ => running.pidfd().signal(libc::SIGTERM),
    }
}

/// Clears up after a run: what is left of its processes, its groups, its place in the keeper.
fn clear(ve: Ve<'_>) -> Result<Effect, StepError> {
    let group = ve.host.cgroup(ve.entry);
    let mut errors = Vec::new();
    let mut effect = Effect::AlreadySo;
    if group.exists() {
        effect = Effect::Changed;
        let emptied = group.kill().and_then(|()| group.wait_empty(KILL_TIMEOUT));
        match emptied {
            Ok(true) => {
                errors.extend(group.remove());
                errors.extend(beancounters::clear(ve).err());
            }
            Ok(false) => {
                let object = group.v2_dir().display().to_string();
                errors.push(SysError::refused("empty", object, "a process does not end"));
            }
            Err(e) => errors.push(e),
        }
    }
    errors.extend(network::clear(ve).err());
    errors.extend(ve.host.keeper.forget(ve.entry.uid.as_str()).err());
    disk::close(ve);
    StepError::teardown(errors)?;
    Ok(effect)
}
