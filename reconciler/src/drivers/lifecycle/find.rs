//! Whether a VE runs.
//!
//! The keeper knows the VEs it started and how they ended. One that it does not hold (its keeper was
//! killed) is found by its control group, since a VE's processes cannot leave that, and handed to the
//! present keeper. This file makes the [`Running`] and [`Stopped`] tokens, and must not end or start anything.

use std::collections::BTreeSet;
use std::time::Duration;

use vzd_state::reading::Reading;
use vzd_state::subsystem::lifecycle::{Exit, Observed, Run};
use vzd_state::units::Timestamp;

use super::host_mount;
use crate::drivers::{Ve, checkpoint};
use crate::error::{SysError, SysResult};
use crate::host::Host;
use crate::keeper::protocol::Held;
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::WaitStatus;
use crate::kernel::procfs;

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

pub(super) enum Found {
    Running(Running),
    Stopped(Option<Exit>),
}

/// Finds out whether the VE runs, from the kernel and the keeper as they are now; a census spares the
/// questions about a VE of which it knows nothing.
pub(super) fn find(ve: Ve<'_>, census: Option<&Census>) -> SysResult<Found> {
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
