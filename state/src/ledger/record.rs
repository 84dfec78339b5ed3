//! What each step does to the ledger, before and after it is done. The planner, the engine and the
//! model kernel all use this, so that they cannot disagree.
//!
//! `begin` is written to disk before the step touches the kernel and widens what the ledger answers
//! for; `finish` is written after and narrows it. A controller killed in between finds more in the
//! ledger than in the kernel, never less, and can tell its own stops and starts from the VE's.

use super::applied::Phase;
use super::{AppliedNamespaces, Backoff, By, DiskRecord, Entry, ExitRecord, Ledger, LedgerError};
use super::{Counts, Override, RunRecord, Standing, Suspension};
use crate::application::Application;
use crate::backoff::{Jitter, STABLE, delay};
use crate::capability::Capabilities;
use crate::desired::Desired;
use crate::ids::VeUid;
use crate::plan::Step;
use crate::subsystem::lifecycle::{DeletionPolicy, End, Exit, RestartPolicy, StartReason, State, StopReason};
use crate::subsystem::{beancounters, cgroup, disk, lifecycle, namespaces, network};
use crate::transient::{self, Transients};
use crate::units::Timestamp;

/// What the ledger has to be told about the world.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// What the host can do, and its boot.
    pub caps: &'a Capabilities,
    /// The time now.
    pub now: Timestamp,
    /// A random fraction.
    pub jitter: Jitter,
    /// What a start made, once it is done.
    pub started: Option<Started>,
    /// How init ended, if that was seen.
    pub exit: Option<Exit>,
    /// The root that a `CreateRoot` made, once it is done.
    pub made_root: Option<MadeRoot>,
    /// What was counted of a run before it was suspended.
    pub counts: Counts,
}

/// A root that was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MadeRoot {
    /// Where it lies on the host.
    pub path: Option<String>,
    /// Digest of the template's content, if there is one.
    pub digest: Option<String>,
    /// How the program is run that the template is the image of.
    pub application: Option<Box<Application>>,
}

impl<'a> Facts<'a> {
    /// Nothing but the time: for steps that make nothing.
    pub fn at(caps: &'a Capabilities, now: Timestamp) -> Self {
        Self {
            caps,
            now,
            jitter: Jitter::NONE,
            started: None,
            exit: None,
            made_root: None,
            counts: Counts::new(),
        }
    }
}

/// What a start made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The host's pid of init.
    pub init_pid: u32,
    /// When init was started.
    pub at: Timestamp,
}

impl Ledger {
    /// Notes that a step is about to be done. `Create` needs `want`; a `Destroy` is final from here on.
    pub fn begin(
        &mut self,
        uid: &VeUid,
        step: &Step,
        want: Option<&Desired>,
        facts: &Facts<'_>,
    ) -> Result<(), LedgerError> {
        if let (Step::Lifecycle(lifecycle::Step::Create), Some(want)) = (step, want) {
            return self.create(uid, want).map(drop);
        }
        let entry = self.entries.get_mut(uid).ok_or_else(|| LedgerError::Unknown(uid.clone()))?;
        entry.begin(step, want, facts);
        Ok(())
    }

    /// Notes that a step was done. After a `Destroy` the entry is gone.
    pub fn finish(
        &mut self,
        uid: &VeUid,
        step: &Step,
        want: Option<&Desired>,
        facts: &Facts<'_>,
    ) -> Result<(), LedgerError> {
        if *step == Step::Lifecycle(lifecycle::Step::Destroy) {
            self.remove(uid);
            return Ok(());
        }
        let entry = self.entries.get_mut(uid).ok_or_else(|| LedgerError::Unknown(uid.clone()))?;
        entry.finish(step, want, facts);
        Ok(())
    }
}

impl Entry {
    /// Notes that a step is about to be done.
    pub fn begin(&mut self, step: &Step, want: Option<&Desired>, facts: &Facts<'_>) {
        match step {
            Step::Lifecycle(step) => self.begin_lifecycle(step, want, facts),
            Step::Cgroup(step) => self.apply_cgroup(step, Phase::Before, facts.now),
            Step::Beancounters(step) => self.apply_beancounters(step, Phase::Before),
            Step::Disk(disk::Cold::CreateRoot { template, backend }) => {
                let (template, backend) = (template.clone(), *backend);
                let (root, digest, over) = (None, None, disk::Over::default());
                self.disk = Some(DiskRecord {
                    template,
                    ready: false,
                    root,
                    digest,
                    backend,
                    over,
                    read_only: false,
                    application: None,
                });
            }
            Step::Disk(disk::Cold::DestroyRoot) => {
                if let Some(disk) = &mut self.disk {
                    disk.ready = false;
                }
            }
            Step::DiskLive(disk::Live::SetReadOnly { to: true }) => self.note_read_only(true),
            Step::DiskLive(_) => {}
            Step::Namespaces(step) => self.apply_namespaces(step, Phase::Before),
            Step::Devices(step) => self.apply_devices(step, Phase::Before),
            Step::Network(step) => self.apply_network(step, Phase::Before),
            Step::Users(step) => self.apply_users(step, Phase::Before),
            // Nothing is vzd's by that: what is installed is the VE's.
            Step::Packages(_) => {}
        }
    }

    /// Notes that a step was done.
    pub fn finish(&mut self, step: &Step, want: Option<&Desired>, facts: &Facts<'_>) {
        match step {
            Step::Lifecycle(step) => self.finish_lifecycle(step, want, facts),
            Step::Cgroup(step) => self.apply_cgroup(step, Phase::After, facts.now),
            Step::Beancounters(step) => self.apply_beancounters(step, Phase::After),
            Step::Disk(disk::Cold::CreateRoot { .. }) => {
                if let Some(disk) = &mut self.disk {
                    let MadeRoot { path, digest, application } = facts.made_root.clone().unwrap_or_default();
                    (disk.ready, disk.root, disk.digest) = (true, path, digest);
                    disk.application = application;
                }
            }
            Step::Disk(disk::Cold::DestroyRoot) => {
                self.disk = None;
                self.applied.users.clear();
            }
            Step::DiskLive(step) => {
                let (resource, since) = match step {
                    disk::Live::StartGrace { resource, since } => (*resource, Some(*since)),
                    disk::Live::EndGrace { resource } => (*resource, None),
                    disk::Live::SetReadOnly { to } => return self.note_read_only(*to),
                    disk::Live::SetLimit { .. } => return,
                };
                if let Some(disk) = &mut self.disk {
                    disk.over.set(resource, since);
                }
            }
            Step::Namespaces(step) => self.apply_namespaces(step, Phase::After),
            Step::Devices(step) => self.apply_devices(step, Phase::After),
            Step::Network(step) => self.apply_network(step, Phase::After),
            Step::Users(step) => self.apply_users(step, Phase::After),
            Step::Packages(_) => {}
        }
    }

    /// Notes that a step failed. Only a start leaves something to be noted: it is not tried again at once.
    /// Whether a suspension that failed is still going on somewhere is not known: it stays on record.
    pub fn fail(&mut self, step: &Step, facts: &Facts<'_>) {
        let starts = |step: &lifecycle::Step| {
            matches!(step, lifecycle::Step::Start { .. } | lifecycle::Step::Resume { .. })
        };
        if matches!(step, Step::Lifecycle(step) if starts(step)) {
            self.end_run();
            self.back_off(1, facts);
        }
    }

    /// Notes that the VE is to be in another state than its manifest says, for this generation.
    pub fn override_state(&mut self, state: State, by: By, at: Timestamp) {
        self.run_override = Some(Override { state, by, generation: self.generation, at });
        if by == By::Operator {
            self.backoff = None;
        }
    }

    /// The same as an order about the manifest as it is now, which may not have been taken over yet.
    pub fn order_state(&mut self, state: State, by: By, at: Timestamp, want: Option<&Desired>) {
        self.override_state(state, by, at);
        if let (Some(order), true) =
            (&mut self.run_override, want.is_some_and(|want| want.digest != self.digest))
        {
            order.generation += 1;
        }
    }

    /// Takes over a manifest. Another spec is another generation: overrides and back-off end with the old, and so do
    /// the values that it says anew.
    pub(super) fn accept(&mut self, want: &Desired) {
        if self.digest != want.digest {
            self.generation += 1;
            self.digest = want.digest.clone();
            self.spec = want.spec.clone();
            let generation = self.generation;
            self.run_override.take_if(|order| order.generation != generation);
            self.backoff = None;
            let standing = transient::in_force(self, &want.spec);
            if let Some(run) = &mut self.run {
                run.transient = standing;
            }
        }
        self.labels.clone_from(&want.labels);
        self.annotations.clone_from(&want.annotations);
        self.source.clone_from(&want.source);
        self.pinned = false;
        self.applied.lifecycle = Some(want.lifecycle.clone());
        self.applied.disk = Some(want.disk.clone());
    }

    fn begin_lifecycle(&mut self, step: &lifecycle::Step, want: Option<&Desired>, facts: &Facts<'_>) {
        match step {
            lifecycle::Step::Start { reason } => {
                self.run = Some(Box::new(RunRecord {
                    boot_id: facts.caps.boot_id.clone(),
                    started_at: facts.now,
                    init_pid: None,
                    cold: self.cold(want),
                    reason: *reason,
                    stopping: None,
                    transient: Transients::new(),
                    before: Counts::new(),
                }));
                if let Some(want) = want {
                    self.apply_all(want, facts);
                }
            }
            lifecycle::Step::Stop { reason, .. } => {
                if let Some(run) = &mut self.run {
                    run.stopping = Some(*reason);
                }
            }
            lifecycle::Step::Suspend => {
                if let Some(run) = &mut self.run {
                    run.stopping = Some(StopReason::Suspend);
                }
            }
            lifecycle::Step::Resume { reason } => self.begin_resume(*reason, want, facts),
            // Final from here on: what is half gone is not gone on from.
            lifecycle::Step::Discard => self.suspension = None,
            lifecycle::Step::Destroy => self.standing = Standing::Destroying,
            lifecycle::Step::Create
            | lifecycle::Step::Restore
            | lifecycle::Step::Accept
            | lifecycle::Step::Adopt { .. }
            | lifecycle::Step::Reap { .. }
            | lifecycle::Step::Quarantine { .. }
            | lifecycle::Step::Forget => {}
        }
    }

    fn finish_lifecycle(&mut self, step: &lifecycle::Step, want: Option<&Desired>, facts: &Facts<'_>) {
        match step {
            lifecycle::Step::Create | lifecycle::Step::Discard | lifecycle::Step::Destroy => {}
            lifecycle::Step::Accept => {
                if let Some(want) = want {
                    self.accept(want);
                }
            }
            lifecycle::Step::Restore => {
                self.pinned = self.is_quarantined();
                self.standing = Standing::Active;
                self.run_override = None;
                self.backoff = None;
            }
            lifecycle::Step::Adopt { init_pid, started_at } => {
                let cold = self.cold(want);
                let run = self.run.get_or_insert_with(|| {
                    Box::new(RunRecord {
                        boot_id: String::new(),
                        started_at: *started_at,
                        init_pid: None,
                        cold,
                        reason: StartReason::Spec,
                        stopping: None,
                        transient: Transients::new(),
                        before: Counts::new(),
                    })
                });
                run.boot_id.clone_from(&facts.caps.boot_id);
                run.started_at = *started_at;
                run.init_pid = Some(*init_pid);
                self.suspension = None;
            }
            lifecycle::Step::Reap { end } => self.reap(*end, facts),
            lifecycle::Step::Stop { reason, .. } => self.reap(End::Ordered(*reason), facts),
            lifecycle::Step::Start { reason } => self.started(*reason, facts),
            lifecycle::Step::Suspend => self.reap(End::Ordered(StopReason::Suspend), facts),
            lifecycle::Step::Resume { reason } => {
                self.suspension = None;
                if let Some(run) = &mut self.run {
                    run.stopping.take_if(|reason| *reason == StopReason::Suspend);
                }
                self.started(*reason, facts);
            }
            lifecycle::Step::Quarantine { until } => {
                self.standing = Standing::Quarantined { since: facts.now, until: *until };
            }
            lifecycle::Step::Forget => self.standing = Standing::Retained,
        }
    }

    fn note_read_only(&mut self, is: bool) {
        if let Some(disk) = &mut self.disk {
            disk.read_only = is;
        }
    }

    /// A start applies everything at once.
    fn apply_all(&mut self, want: &Desired, facts: &Facts<'_>) {
        self.note_read_only(want.disk.read_only);
        let knobs = cgroup::wanted_knobs(&want.cgroup.limits, facts.caps, self.ctid.get());
        self.applied.cgroup = Some(cgroup::Applied { frozen: false, knobs, squeezed: None });
        let early = beancounters::set_by_start(&want.beancounters, facts.caps);
        self.applied.beancounters = Some(early).filter(|early| !early.is_empty());
        self.applied.namespaces = Some(AppliedNamespaces {
            hostname: want.namespaces.hostname.clone(),
            domainname: want.namespaces.domainname.clone(),
            timezone: want.namespaces.timezone.clone(),
            locale: want.namespaces.locale.clone(),
            mounts: namespaces::wanted_mounts(&want.namespaces, facts.caps),
        });
        self.applied.devices = Some(want.devices.clone());
        self.applied.network = want.network.is_any().then(|| Box::new(want.network.clone()));
        if let Some(network) = &mut self.applied.network {
            network.firewall = network::in_force(&want.network, self.firewall_trial.as_deref()).cloned();
        }
    }

    /// A checkpoint brings back what was fixed in it; limits are as they are wanted now. A VE that never ended goes on
    /// with the run that is on record.
    fn begin_resume(&mut self, reason: StartReason, want: Option<&Desired>, facts: &Facts<'_>) {
        let Some(Suspension { at: _, cold, namespaces, devices, network, counts }) =
            self.suspension.as_deref().cloned()
        else {
            return;
        };
        self.run = Some(Box::new(RunRecord {
            boot_id: facts.caps.boot_id.clone(),
            started_at: facts.now,
            init_pid: None,
            cold,
            reason,
            stopping: None,
            transient: Transients::new(),
            before: counts,
        }));
        // Files are opened anew for its processes: its root is made read-only after that, not by the resumption.
        let read_only = self.disk.as_ref().is_some_and(|disk| disk.read_only);
        if let Some(want) = want {
            self.apply_all(want, facts);
        }
        self.note_read_only(read_only);
        (self.applied.namespaces, self.applied.devices, self.applied.network) =
            (namespaces, devices, network);
    }

    /// What a checkpoint of the present run would have to be resumed with.
    pub fn suspension_at(&self, at: Timestamp, counts: Counts) -> Option<Box<Suspension>> {
        self.clone().suspended(at, counts)
    }

    /// What was counted last, or else before that.
    fn suspended(&mut self, at: Timestamp, counts: Counts) -> Option<Box<Suspension>> {
        let RunRecord { cold, before, .. } = *self.run.take()?;
        Some(Box::new(Suspension {
            at,
            cold,
            counts: if counts.is_empty() { before } else { counts },
            namespaces: self.applied.namespaces.take(),
            devices: self.applied.devices.take(),
            network: self.applied.network.take(),
        }))
    }

    fn started(&mut self, reason: StartReason, facts: &Facts<'_>) {
        if let (Some(run), Some(started)) = (&mut self.run, facts.started) {
            run.init_pid = Some(started.init_pid);
            run.started_at = started.at;
        }
        match reason {
            StartReason::Crash | StartReason::Reboot | StartReason::Halted => self.restarts += 1,
            StartReason::Spec | StartReason::Operator | StartReason::Restart | StartReason::Boot => {}
        }
    }

    /// Takes note that the host has booted since it stopped its VEs: what that kept stopped may run again, unless
    /// it is not to run at boot. Tells whether anything has changed.
    pub fn host_has_booted(&mut self, at: Timestamp) -> bool {
        if self.run_override.is_none_or(|above| above.by != By::Host) {
            return false;
        }
        self.run_override = None;
        self.backoff = None;
        if !self.applied.lifecycle.as_ref().is_none_or(|policies| policies.on_boot) {
            // What was written to disk stays there.
            let state = if self.suspension.is_some() { State::Suspended } else { State::Stopped };
            self.override_state(state, By::Boot, at);
        }
        true
    }

    fn reap(&mut self, end: End, facts: &Facts<'_>) {
        let policies = self.applied.lifecycle.clone().unwrap_or_default();
        let lasted = self.run.as_ref().map(|run| facts.now.since(run.started_at));
        if lasted.is_some_and(|lasted| lasted >= STABLE) {
            self.backoff = None;
        }
        match end {
            End::HaltedByOwner => match policies.restart_policy {
                RestartPolicy::Always => self.back_off(1, facts),
                RestartPolicy::OnFailure | RestartPolicy::Never => {
                    self.override_state(State::Stopped, By::Owner, facts.now);
                }
            },
            // The first reboot is free; one that follows a short run is the start of a loop.
            End::RebootedByOwner => self.back_off(0, facts),
            End::Crashed(_) => match policies.restart_policy {
                RestartPolicy::Always | RestartPolicy::OnFailure => self.back_off(1, facts),
                RestartPolicy::Never => self.override_state(State::Stopped, By::Crash, facts.now),
            },
            End::HostRebooted => {
                self.backoff = None;
                if !policies.on_boot {
                    self.override_state(State::Stopped, By::Boot, facts.now);
                }
            }
            End::Ordered(_) | End::NeverStarted => {}
        }
        match end {
            // A killed controller may have noted it before.
            End::Ordered(StopReason::Suspend) => {
                self.suspension = self.suspended(facts.now, facts.counts.clone()).or(self.suspension.take());
            }
            // The resumption did not come to pass.
            End::NeverStarted => {}
            _ => self.suspension = None,
        }
        let exit = match end {
            End::Crashed(exit) => Some(exit),
            End::HaltedByOwner => Some(Exit::Halted),
            End::RebootedByOwner => Some(Exit::Rebooted),
            End::HostRebooted | End::Ordered(_) | End::NeverStarted => facts.exit,
        };
        self.last_exit = Some(ExitRecord { end, exit, at: facts.now });
        self.end_run();
    }

    /// Nothing of the run is in force any more.
    fn end_run(&mut self) {
        self.run = None;
        self.bare = false;
        self.note_read_only(false);
        self.applied.cgroup = None;
        self.applied.beancounters = None;
        self.applied.namespaces = None;
        self.applied.devices = None;
        self.applied.network = None;
        if let Some(open) = self.firewall_trial.as_mut().filter(|trial| trial.is_open()) {
            open.failed = Some("the VE ended before its trial was over".to_owned());
        }
    }

    /// Counts one more failure; `counted_from` is 1 if the first already makes the next start wait.
    fn back_off(&mut self, counted_from: u32, facts: &Facts<'_>) {
        let failures = self.backoff.map_or(0, |is| is.failures).saturating_add(1);
        let wait = delay((failures + counted_from).saturating_sub(1), facts.jitter);
        self.backoff = Some(Backoff { failures, until: facts.now + wait });
    }

    fn cold(&self, want: Option<&Desired>) -> lifecycle::ColdSpec {
        let accepted = || self.applied.lifecycle.as_ref().map(|is| is.cold.clone());
        want.map(|want| want.lifecycle.cold.clone()).or_else(accepted).unwrap_or_default()
    }

    /// What the image of its root says of how to run it.
    pub fn application(&self) -> Option<&Application> {
        self.disk.as_ref()?.application.as_deref()
    }

    /// What to do when the manifest goes.
    pub fn deletion_policy(&self) -> DeletionPolicy {
        self.applied.lifecycle.as_ref().map_or(DeletionPolicy::Quarantine, |is| is.deletion_policy)
    }
}
