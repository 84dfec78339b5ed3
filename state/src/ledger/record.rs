//! What each step does to the ledger, before and after it is done. The planner, the engine and the
//! model kernel all use this, so that they cannot disagree.
//!
//! `begin` is written to disk before the step touches the kernel and widens what the ledger answers
//! for; `finish` is written after and narrows it. A controller killed in between finds more in the
//! ledger than in the kernel, never less, and can tell its own stops and starts from the VE's.

mod run;

use super::applied::Phase;
use super::{By, Counts, DiskRecord, Entry, Ledger, LedgerError, Override};
use crate::application::Application;
use crate::backoff::Jitter;
use crate::capability::Capabilities;
use crate::desired::Desired;
use crate::ids::VeUid;
use crate::plan::Step;
use crate::subsystem::lifecycle::{DeletionPolicy, Exit, State};
use crate::subsystem::{disk, lifecycle};
use crate::transient;
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

    /// What the image of its root says of how to run it.
    pub fn application(&self) -> Option<&Application> {
        self.disk.as_ref()?.application.as_deref()
    }

    /// What to do when the manifest goes.
    pub fn deletion_policy(&self) -> DeletionPolicy {
        self.applied.lifecycle.as_ref().map_or(DeletionPolicy::Quarantine, |is| is.deletion_policy)
    }
}
