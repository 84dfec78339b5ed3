//! What becomes of a VE's run on record: begun by a start or a resumption, kept by a suspension, ended by whatever ends it, and
//! what is waited for before the next.

use super::Facts;
use crate::backoff::{STABLE, delay};
use crate::desired::Desired;
use crate::ledger::{
    AppliedNamespaces, Backoff, By, Counts, Entry, ExitRecord, RunRecord, Standing, Suspension,
};
use crate::subsystem::lifecycle::{End, Exit, RestartPolicy, StartReason, State, StopReason};
use crate::subsystem::{beancounters, cgroup, lifecycle, namespaces, network};
use crate::transient::Transients;
use crate::units::Timestamp;

impl Entry {
    pub(super) fn begin_lifecycle(
        &mut self,
        step: &lifecycle::Step,
        want: Option<&Desired>,
        facts: &Facts<'_>,
    ) {
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

    pub(super) fn finish_lifecycle(
        &mut self,
        step: &lifecycle::Step,
        want: Option<&Desired>,
        facts: &Facts<'_>,
    ) {
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

    pub(super) fn note_read_only(&mut self, is: bool) {
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
    pub(super) fn end_run(&mut self) {
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
    pub(super) fn back_off(&mut self, counted_from: u32, facts: &Facts<'_>) {
        let failures = self.backoff.map_or(0, |is| is.failures).saturating_add(1);
        let wait = delay((failures + counted_from).saturating_sub(1), facts.jitter);
        self.backoff = Some(Backoff { failures, until: facts.now + wait });
    }

    fn cold(&self, want: Option<&Desired>) -> lifecycle::ColdSpec {
        let accepted = || self.applied.lifecycle.as_ref().map(|is| is.cold.clone());
        want.map(|want| want.lifecycle.cold.clone()).or_else(accepted).unwrap_or_default()
    }
}
