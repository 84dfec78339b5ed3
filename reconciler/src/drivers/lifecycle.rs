//! The lifecycle, IO half: whether a VE runs, starting it and stopping it.
//!
//! The keeper knows the VEs it started and how they ended. One that it does not hold (its keeper was
//! killed) is found by its control group, since a VE's processes cannot leave that, and handed to the
//! present keeper. This file makes the [`Running`] and [`Stopped`] tokens.

pub mod host_mount;
mod scripts;
mod spec;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use vzd_state::reading::Reading;
use vzd_state::subsystem::lifecycle::{End, Exit, Observed, Run, Step};
use vzd_state::units::{Millis, Timestamp};

use self::spec::{as_recorded, start_spec};
use crate::drivers::{
    Effect, Made, StepError, Ve, beancounters, cgroup, checkpoint, devices, disk, namespaces, network,
};
use crate::error::{SysError, SysResult};
use crate::host::Host;
use crate::keeper::protocol::Held;
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::WaitStatus;
use crate::kernel::procfs;
use crate::runtime::scripts::RUN;

pub use self::scripts::has_scripts;
pub use self::spec::door;

/// A VE that runs: made only here, from what was found in the kernel.
#[derive(Debug)]
pub struct Running {
    /// The host's pid of its init.
    pub pid: i32,
    pidfd: Pidfd,
}

impl Running {
    /// Whether it still runs: what was read by its pid is good only if it does.
    pub fn is_alive(&self) -> bool {
        self.pidfd.is_alive().unwrap_or(false)
    }

    /// Its pidfd.
    pub fn pidfd(&self) -> &Pidfd {
        &self.pidfd
    }
}

/// A VE that certainly does not run.
#[derive(Debug)]
pub struct Stopped(());

/// What runs on this host, read once for many VEs.
#[derive(Debug)]
pub struct Census {
    /// What the keeper holds, by uid.
    held: SysResult<BTreeSet<String>>,
    /// Ctids that have control groups.
    groups: SysResult<BTreeSet<u32>>,
}

impl Census {
    /// Whether nothing of this VE ran, or had run and was not fetched, when the census was taken. Of one
    /// that is on record as running the present is asked: the census may be older than that start.
    fn knows_nothing_of(&self, ve: Ve<'_>) -> SysResult<bool> {
        if ve.entry.run.is_some() {
            return Ok(false);
        }
        let held = self.held.as_ref().map_err(Clone::clone)?.contains(ve.entry.uid.as_str());
        let group = self.groups.as_ref().map_err(Clone::clone)?.contains(&ve.entry.ctid.get());
        Ok(!held && !group)
    }

    /// Asks the keeper and lists the control groups.
    pub fn take(host: &Host) -> Self {
        let held = host.keeper.held();
        let held = held.map(|held| held.into_iter().map(|one| one.uid).collect());
        Census { held, groups: host.layout.ctids().map(|ctids| ctids.into_iter().collect()) }
    }
}

/// After a kill every process of a VE is gone within this, unless one hangs in the kernel.
pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The keeper reaps an init as soon as it hears of its end: within this many looks, unless it is gone.
const REAP_TRIES: usize = 200;
const REAP_PAUSE: Duration = Duration::from_millis(5);

/// Reads whether the VE runs; the token comes with it when it does.
pub fn observe(ve: Ve<'_>, census: Option<&Census>) -> (Observed, Option<Running>) {
    let checkpoint = checkpoint::observe(ve);
    match find(ve, census) {
        Ok(Found::Running(running)) => {
            let init_pid = running.pid.unsigned_abs();
            let run = Run::Running { init_pid, started_at: started_at(ve, init_pid) };
            (Observed { run: Reading::Is(run), checkpoint }, Some(running))
        }
        Ok(Found::Stopped(last_exit)) => {
            (Observed { run: Reading::Is(Run::Stopped { last_exit }), checkpoint }, None)
        }
        Err(e) => (Observed { run: Reading::Unreadable(e.to_string()), checkpoint }, None),
    }
}

enum Found {
    Running(Running),
    Stopped(Option<Exit>),
}

/// Finds out whether the VE runs, from the kernel and the keeper as they are now; a census spares the
/// questions about a VE of which it knows nothing.
fn find(ve: Ve<'_>, census: Option<&Census>) -> SysResult<Found> {
    if let Some(census) = census
        && census.knows_nothing_of(ve)?
    {
        return Ok(Found::Stopped(None));
    }
    match ve.host.keeper.look(ve.entry.uid.as_str())? {
        Some((Held { exited: Some(status), .. }, _)) => Ok(Found::Stopped(Some(exit(status)))),
        Some((Held { pid, .. }, Some(pidfd))) if pidfd.is_alive()? => {
            Ok(Found::Running(Running { pid, pidfd }))
        }
        Some(_) => just_ended(ve),
        None if ve.host.cgroup(ve.entry).exists() => search_group(ve),
        None => Ok(Found::Stopped(None)),
    }
}

/// How a VE ended whose init is being reaped right now: the keeper knows in a moment.
fn just_ended(ve: Ve<'_>) -> SysResult<Found> {
    for _ in 0..REAP_TRIES {
        match ve.host.keeper.look(ve.entry.uid.as_str())? {
            Some((Held { exited: Some(status), .. }, _)) => return Ok(Found::Stopped(Some(exit(status)))),
            Some(_) => std::thread::sleep(REAP_PAUSE),
            None => return Ok(Found::Stopped(None)),
        }
    }
    Err(SysError::refused("open", format_args!("VE {}", ve.entry.name), "it is just ending"))
}

/// Looks for the init of a VE that the keeper does not know, and hands it to the keeper.
fn search_group(ve: Ve<'_>) -> SysResult<Found> {
    let group = ve.host.cgroup(ve.entry);
    for pid in group.pids()? {
        if procfs::innermost_pid(pid).is_ok_and(|inner| inner == 1) {
            let Ok(pidfd) = Pidfd::open(pid) else { continue };
            // Still in the group: so the number still meant it when the pidfd was opened.
            if pidfd.is_alive()? && group.pids()?.contains(&pid) {
                ve.host.keeper.adopt(ve.entry.uid.as_str(), pid, &pidfd)?;
                return Ok(Found::Running(Running { pid, pidfd }));
            }
        }
    }
    Ok(Found::Stopped(None))
}

fn exit(status: WaitStatus) -> Exit {
    match status {
        WaitStatus::Exited(code) => Exit::Exited(code),
        WaitStatus::Signaled(libc::SIGINT) => Exit::Halted,
        WaitStatus::Signaled(libc::SIGHUP) => Exit::Rebooted,
        WaitStatus::Signaled(signal) => Exit::Killed(signal),
        WaitStatus::Unknown => Exit::Unknown,
    }
}

/// When init was started: as recorded or, for a run that is not on record yet, by the kernel's account,
/// which is good to a clock tick and moves with the clock.
fn started_at(ve: Ve<'_>, init_pid: u32) -> Timestamp {
    let recorded = ve.entry.run.as_ref().filter(|run| run.init_pid == Some(init_pid));
    match recorded {
        Some(run) => run.started_at,
        None => procfs::started_at_ms(init_pid.cast_signed()).map_or(Timestamp(0), Timestamp),
    }
}

/// The token of a running VE.
pub fn running(ve: Ve<'_>) -> SysResult<Running> {
    match find(ve, None)? {
        Found::Running(running) => Ok(running),
        Found::Stopped(_) => {
            Err(SysError::refused("change", format_args!("VE {}", ve.entry.name), "it does not run"))
        }
    }
}

/// The token of a VE that was seen to run with this init, if the kernel says that it still does: the process is there,
/// and in the VE's group, which no process leaves.
pub fn still_running(ve: Ve<'_>, pid: i32) -> Option<Running> {
    let pidfd = Pidfd::open(pid).ok()?;
    let group = ve.host.cgroup(ve.entry);
    let is_ours = procfs::v2_group(pid).is_ok_and(|path| group.holds(&path));
    let running = Running { pid, pidfd };
    (is_ours && running.is_alive()).then_some(running)
}

/// Whether the VE is down.
pub fn is_down(ve: Ve<'_>) -> SysResult<bool> {
    Ok(matches!(find(ve, None)?, Found::Stopped(_)))
}

/// The token of a stopped VE, whose files nobody else has mounted either.
pub fn stopped(ve: Ve<'_>) -> SysResult<Stopped> {
    match find(ve, None)? {
        Found::Stopped(_) => host_mount::take_away(ve).map(|()| Stopped(())),
        Found::Running(_) => {
            Err(SysError::refused("change", format_args!("VE {}", ve.entry.name), "it runs"))
        }
    }
}

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
            if !running.pidfd.wait(Duration::from_millis(left.0))? {
                group.kill()?;
            }
            if !running.pidfd.wait(KILL_TIMEOUT)? {
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
        return running.pidfd.signal(signal);
    }
    let exe = match procfs::exe(running.pid) {
        // It is ending already: there is nobody to be asked.
        Err(e) if e.is_absent() => return Ok(()),
        other => other?,
    };
    let name = exe.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match name.as_str() {
        "systemd" => running.pidfd.signal(SIGRTMIN + 4),
        "busybox" => running.pidfd.signal(libc::SIGUSR2),
        // No signal of sysvinit's halts: its own command has to.
        "init" => {
            let command = crate::runtime::enter::Command {
                argv: vec!["telinit".into(), "0".into()],
                env: crate::runtime::enter::default_env("linux"),
                cwd: "/".into(),
            };
            match door(ve).and_then(|door| ve.host.keeper.run(door, command, 5_000)) {
                Ok(Some(WaitStatus::Exited(0))) => Ok(()),
                _ => running.pidfd.signal(libc::SIGTERM),
            }
        }
        _ => running.pidfd.signal(libc::SIGTERM),
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
