//! What to do about one VE, and about all of them: steps in order, with what they change and why.
//!
//! A plan is proposed by `plan_ve`, cut down to what is allowed by `policy::authorize`, and only then
//! executed: the type says which. Making a plan changes nothing.

mod differences;
mod draft;
mod feasible;
mod gone;
mod handover;
mod host;
mod json;
mod overruled;
mod power;
mod text;
mod want;

use std::marker::PhantomData;

use serde::Serialize;
use vzd_schema::Code;

pub use self::feasible::{Infeasible, infeasible};
pub use self::host::{HostPlan, Summary};
pub use self::json::FORMAT_VERSION;
pub use self::power::{Power, Reason, Target, end_of_run, target};
use crate::desired::{Desired, SourceRef};
use crate::disruption::{Cause, Change, Disruption};
use crate::ids::{VeName, VeUid};
use crate::observed::Observed;
use crate::subsystem::lifecycle::{Step as LifecycleStep, UpdatePolicy};
use crate::subsystem::{
    Cx, Unreadable, beancounters, cgroup, devices, disk, lifecycle, namespaces, network, packages, users,
};
use crate::units::Timestamp;

/// What is wanted of a VE.
#[derive(Debug, Clone, Copy)]
pub enum Wish<'a> {
    /// A manifest says this.
    Want(&'a Desired),
    /// The manifest cannot be read or is not there, but the VE is kept as its last good spec says.
    Keep(&'a Desired),
    /// The manifest was removed.
    Gone,
    /// Nothing is wanted: leave it alone.
    Unmanaged,
    /// Its record cannot be read, for this reason. That is no absence: nothing is planned.
    Unknown(&'a str),
}

/// One step, of whichever subsystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Starting, stopping and keeping the books.
    Lifecycle(lifecycle::Step),
    /// Freezing.
    Cgroup(cgroup::Live),
    /// Beancounters.
    Beancounters(beancounters::Live),
    /// The root file system, of a VE that doesn't run.
    Disk(disk::Cold),
    /// Limits of the root file system, of one that does.
    DiskLive(disk::Live),
    /// Names and mounts.
    Namespaces(namespaces::Live),
    /// Nodes and rules.
    Devices(devices::Live),
    /// Links and addresses.
    Network(network::Live),
    /// Users inside.
    Users(users::Live),
    /// Software inside.
    Packages(packages::Live),
}

impl Step {
    /// Whether the step touches nothing but the ledger.
    pub fn only_notes(&self) -> bool {
        match self {
            Self::Lifecycle(step) => match step {
                LifecycleStep::Create
                | LifecycleStep::Restore
                | LifecycleStep::Accept
                | LifecycleStep::Adopt { .. }
                | LifecycleStep::Quarantine { .. }
                | LifecycleStep::Forget => true,
                LifecycleStep::Reap { .. }
                | LifecycleStep::Stop { .. }
                | LifecycleStep::Start { .. }
                | LifecycleStep::Suspend
                | LifecycleStep::Resume { .. }
                | LifecycleStep::Discard
                | LifecycleStep::Destroy => false,
            },
            Self::DiskLive(step) => {
                matches!(step, disk::Live::StartGrace { .. } | disk::Live::EndGrace { .. })
            }
            Self::Network(step) => matches!(step, network::Live::EndTrial { .. }),
            Self::Cgroup(_)
            | Self::Beancounters(_)
            | Self::Disk(_)
            | Self::Namespaces(_)
            | Self::Devices(_)
            | Self::Users(_)
            | Self::Packages(_) => false,
        }
    }

    /// Whether it brings the VE to life: by a start, or from a checkpoint.
    pub fn is_start(&self) -> bool {
        matches!(self, Self::Lifecycle(LifecycleStep::Start { .. } | LifecycleStep::Resume { .. }))
    }

    /// Whether it is done to a VE as it runs, and other subsystems do not build on it.
    pub fn is_live(&self) -> bool {
        match self {
            Self::Lifecycle(_) | Self::Disk(_) => false,
            Self::Cgroup(_)
            | Self::Beancounters(_)
            | Self::DiskLive(_)
            | Self::Namespaces(_)
            | Self::Devices(_)
            | Self::Network(_)
            | Self::Users(_)
            | Self::Packages(_) => true,
        }
    }

    /// Whether its failure says nothing about other steps of its subsystem.
    pub fn stands_alone(&self) -> bool {
        use namespaces::Live::{SetLocale, SetTimezone};
        matches!(
            self,
            Self::Users(_) | Self::Packages(_) | Self::Namespaces(SetTimezone { .. } | SetLocale { .. })
        )
    }
}

/// A step with what it carries out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// What to do.
    pub step: Step,
    /// Which of the plan's changes it carries out.
    pub changes: Vec<usize>,
    /// How much the VE notices.
    pub disruption: Disruption,
    /// Why.
    pub cause: Cause,
}

/// Why a change or a start is not made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HeldFor {
    /// It takes effect at the next start.
    RestartRequired,
    /// It would throw data away.
    RecreateRefused,
    /// The host cannot do it.
    Infeasible,
    /// The ids that it needs are not to be had.
    NoIds,
    /// Another VE is not Ready.
    DependencyNotReady,
    /// The VE holds more than the limit lets it.
    InUse,
    /// Earlier tries failed.
    BackOff,
    /// It is being done.
    UnderWay,
    /// Too many VEs would go at once.
    PruneGuard,
    /// The operator or the host forbids it.
    Policy,
    /// Another host has a say.
    OtherHost,
    /// It is to be on a host of which nobody has said how it is reached.
    HostUnknown,
}

impl HeldFor {
    /// Whether it will not come by waiting: someone has to change something.
    pub fn is_error(self) -> bool {
        match self {
            Self::RecreateRefused | Self::Infeasible | Self::NoIds | Self::HostUnknown => true,
            Self::RestartRequired
            | Self::DependencyNotReady
            | Self::InUse
            | Self::BackOff
            | Self::UnderWay
            | Self::PruneGuard
            | Self::Policy
            | Self::OtherHost => false,
        }
    }

    /// The code under which the reason is explained, unless it is a matter of time or of leave.
    pub fn code(self) -> Option<Code> {
        match self {
            Self::RestartRequired => Some(Code::RestartRequired),
            Self::RecreateRefused => Some(Code::RecreateRefused),
            Self::Infeasible => Some(Code::KernelLacks),
            Self::NoIds => Some(Code::NoIds),
            Self::PruneGuard => Some(Code::PruneGuard),
            Self::HostUnknown => Some(Code::HostUnknown),
            Self::DependencyNotReady
            | Self::InUse
            | Self::BackOff
            | Self::UnderWay
            | Self::Policy
            | Self::OtherHost => None,
        }
    }
}

/// Something that is not done now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Path of the field.
    pub field: String,
    /// How disruptive it would be.
    pub disruption: Disruption,
    /// The kind of reason.
    pub held_for: HeldFor,
    /// The reason in words.
    pub why: String,
    /// Where the manifest says the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRef>,
}

/// What a plan comes to for its VE as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Nothing to do.
    None,
    /// It is made.
    Create,
    /// It is changed, started or stopped.
    Update,
    /// It is changed by a stop and a start.
    Restart,
    /// It is thrown away and made anew.
    Recreate,
    /// It goes: into quarantine or for good.
    Delete,
    /// It is no longer managed.
    Forget,
}

/// A plan that nobody has allowed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposed(());

/// A plan that may be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approved(());

/// The plan for one VE.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VePlan<S> {
    /// Which VE.
    pub name: VeName,
    /// Its uid; none before it is created.
    pub uid: Option<VeUid>,
    /// Where its manifest lies.
    pub source: Option<SourceRef>,
    /// What it comes to.
    pub action: Action,
    /// Fields that change, whether now or not.
    pub changes: Vec<Change>,
    /// What to do, in order.
    pub steps: Vec<PlannedStep>,
    /// What is not done now.
    pub held: Vec<Held>,
    /// What could not be read; nothing is done about it.
    pub unreadable: Vec<Unreadable>,
    /// Why nothing at all is done, if reconciling is suspended.
    pub suspended: Option<String>,
    /// When to plan again though nothing happens until then.
    pub next_wake: Option<Timestamp>,
    /// The state to be in and why.
    pub target: Target,
    /// Order among VEs.
    #[serde(skip)]
    pub order: Order,
    /// What to do if a restart, or the loss of data, is not allowed.
    #[serde(skip)]
    pub(crate) gentler: Option<Gentler>,
    #[serde(skip)]
    pub(crate) stage: PhantomData<S>,
}

/// Where a VE stands among the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// Higher starts first.
    pub boot_order: i32,
    /// VEs that go before this one.
    pub depends_on: Vec<VeName>,
}

/// The plan's other half: what is done when its restart, or the loss of data, is not allowed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gentler {
    pub(crate) update_policy: UpdatePolicy,
    pub(crate) steps: Vec<PlannedStep>,
}

/// Plans what to do about one VE, so that what is seen becomes what is wished.
///
/// Whatever part of an earlier plan was done, a new plan goes on from there. The result is only a
/// proposal: `policy::authorize` decides about restarts and removals.
pub fn plan_ve(name: &VeName, wish: Wish<'_>, have: &Observed, cx: &Cx<'_>) -> VePlan<Proposed> {
    if let Some(plan) = handover::plan(name, wish, have, cx) {
        return plan;
    }
    match wish {
        Wish::Want(want) => want::plan(want, draft::Source::Manifest, have, cx),
        Wish::Keep(want) => want::plan(want, draft::Source::Ledger, have, cx),
        Wish::Gone => gone::plan(name, have, cx),
        Wish::Unmanaged => draft::Draft::new(name, have, cx).unmanaged(),
        Wish::Unknown(why) => {
            let mut plan = draft::Draft::new(name, have, cx).unmanaged();
            plan.unreadable.push(Unreadable { what: "record".to_owned(), why: why.to_owned() });
            plan
        }
    }
}

impl VePlan<Approved> {
    /// The plan up to the end of the run, where values stand above the manifest's that end with it: what follows
    /// has to be planned without them.
    pub fn until_the_run_ends(mut self) -> Self {
        let ends = |planned: &PlannedStep| {
            matches!(
                planned.step,
                Step::Lifecycle(lifecycle::Step::Stop { .. } | lifecycle::Step::Reap { .. })
            )
        };
        if let Some(at) = self.steps.iter().position(ends) {
            self.steps.truncate(at + 1);
        }
        self
    }
}

impl<S> VePlan<S> {
    /// Whether there is nothing to do now.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How disruptive the plan is: the most disruptive of its steps.
    pub fn disruption(&self) -> Disruption {
        self.steps.iter().map(|step| step.disruption).max().unwrap_or_default()
    }

    /// Whether the plan takes something away from the host: such plans go first.
    pub fn is_removal(&self) -> bool {
        matches!(self.action, Action::Delete | Action::Forget)
    }
}
