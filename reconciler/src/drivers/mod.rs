//! The IO halves of the subsystems: observe the kernel, carry out a step. No driver decides anything.
//!
//! A [`Running`] token stands for a VE that runs, a [`Stopped`] one for a VE that certainly does not;
//! only the lifecycle driver makes them, so that no live step reaches a stopped VE and no cold step a
//! running one. Every step can be done twice: the second time it is [`Effect::AlreadySo`].

pub mod beancounters;
pub mod cgroup;
pub mod checkpoint;
pub mod devices;
pub mod disk;
mod knobs;
pub mod lifecycle;
pub mod namespaces;
pub mod network;
pub mod packages;
pub mod users;

use std::sync::Arc;

use vzd_state::desired::Desired;
use vzd_state::ledger::{Entry, LedgerError, MadeRoot};
use vzd_state::observed::Observed;
use vzd_state::plan::Step;
use vzd_state::reading::Reading;
pub use vzd_state::subsystem::Effect;

use crate::error::{SysError, SysResult};
use crate::host::Host;
use crate::template::TemplateError;

pub use lifecycle::{Census, Running, Stopped};

/// What a step made that the ledger has to know.
#[derive(Debug, Default)]
pub struct Made {
    /// A root file system.
    pub root: Option<MadeRoot>,
    /// A run: the host's pid of init.
    pub init_pid: Option<u32>,
    /// Action scripts that failed, where that makes no step fail.
    pub told: Vec<String>,
}

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The kernel or the file system refused.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// The ledger refused: an id is another's, or none is left.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// An action script refused the start.
    #[error(transparent)]
    Script(SysError),
    /// The template cannot be had.
    #[error("{}", with_causes(.0))]
    Template(#[from] TemplateError),
    /// Something was left behind; everything that could be cleared was.
    #[error("{} things were left behind; the first: {}", .0.len(), .0[0])]
    Teardown(Vec<SysError>),
}

/// An error whose causes are not part of its own message, with them.
fn with_causes(error: &TemplateError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

impl StepError {
    /// The errors of a teardown that went on past failures, if there were any.
    pub fn teardown(errors: Vec<SysError>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(StepError::Teardown(errors)) }
    }

    /// What can be done about it.
    pub fn help(&self) -> Option<String> {
        match self {
            StepError::Template(e) => e.help(),
            StepError::Ledger(e) => e.help().map(str::to_owned),
            StepError::Script(_) => {
                Some("put the script right, or take it away: it is tried again".to_owned())
            }
            StepError::Sys(_) | StepError::Teardown(_) => None,
        }
    }
}

/// One VE as the drivers see it.
#[derive(Clone, Copy)]
pub struct Ve<'a> {
    /// The host it lives on.
    pub host: &'a Host,
    /// What the ledger holds of it.
    pub entry: &'a Entry,
    /// What its manifest wants, where there is one.
    pub want: Option<&'a Desired>,
}

/// A failed reading is a reading too: it causes a condition, never a change.
pub(crate) fn reading<T>(read: SysResult<T>) -> Reading<T> {
    match read {
        Ok(value) => Reading::Is(value),
        Err(e) if e.is_absent() => Reading::Absent,
        Err(e) => Reading::Unreadable(e.to_string()),
    }
}

/// Reads everything about one VE; the token comes with it when it runs.
pub fn observe(ve: Ve<'_>, census: Option<&Census>) -> (Observed, Option<Arc<Running>>) {
    let (lifecycle, running) = lifecycle::observe(ve, census);
    let mut observed = Observed { lifecycle, disk: disk::observe(ve), ..Observed::default() };
    let Some(running) = running else { return (observed, None) };
    observed.cgroup = cgroup::observe(ve);
    observed.beancounters = beancounters::observe(ve, &running);
    observed.namespaces = namespaces::observe(ve, &running);
    observed.devices = devices::observe(ve, &running);
    observed.network = network::observe(ve, &running);
    observed.users = users::observe(ve, &running);
    observed.packages = packages::observe(ve, &running, observed.frozen());
    disk::observe_running(ve, &running, &mut observed.disk);
    // What was read by pid is worth nothing if the pid has changed hands meanwhile.
    if running.is_alive() {
        return (observed, Some(Arc::new(running)));
    }
    let (lifecycle, _) = lifecycle::observe(ve, None);
    (Observed { lifecycle, disk: disk::observe(ve), ..Observed::default() }, None)
}

/// Reads the limits alone of a VE that was seen to run with this init; none if it does not any more.
pub fn observe_limits(
    ve: Ve<'_>,
    pid: i32,
) -> Option<(vzd_state::subsystem::cgroup::Observed, Arc<Running>)> {
    let running = lifecycle::still_running(ve, pid)?;
    let observed = cgroup::observe(ve);
    running.is_alive().then(|| (observed, Arc::new(running)))
}

/// Carries out one step. A VE that is known to have run is asked itself whether it still does; of another
/// one the keeper is.
pub fn apply(ve: Ve<'_>, step: &Step, known: Option<&Arc<Running>>) -> Result<(Effect, Made), StepError> {
    ve.host.writes.kernel();
    let effect = match step {
        Step::Lifecycle(step) => return lifecycle::apply(ve, step),
        Step::Disk(step) => return disk::apply_cold(ve, step, &lifecycle::stopped(ve)?),
        Step::DiskLive(step) => disk::apply_live(ve, step, &*running(ve, known)?),
        Step::Cgroup(step) => cgroup::apply_live(ve, step, &*running(ve, known)?),
        Step::Beancounters(step) => beancounters::apply_live(ve, step, &*running(ve, known)?),
        Step::Namespaces(step) => namespaces::apply_live(ve, step, &*running(ve, known)?),
        Step::Devices(step) => devices::apply_live(ve, step, &*running(ve, known)?),
        Step::Network(step) => network::apply_live(ve, step, &*running(ve, known)?),
        Step::Packages(step) => packages::apply_live(ve, step, &*running(ve, known)?),
        Step::Users(step) => users::apply_live(ve, step, &*running(ve, known)?),
    };
    Ok((effect?, Made::default()))
}

fn running(ve: Ve<'_>, known: Option<&Arc<Running>>) -> SysResult<Arc<Running>> {
    match known.filter(|running| running.is_alive()) {
        Some(running) => Ok(running.clone()),
        None => lifecycle::running(ve).map(Arc::new),
    }
}
