//! A model kernel: VEs as they would be, without a kernel. It carries out steps, and refuses those
//! that a real host must never see, such as a new disk under a running VE.
//!
//! Properties of plans are proven on it; root tests replay the same scenarios on the real kernel so
//! that the two cannot drift apart.

mod live;
mod observe;
mod ve;

use std::collections::BTreeMap;

use self::live::{
    apply_cgroup, apply_devices, apply_namespaces, apply_network, apply_packages, apply_users, set,
};
pub use self::ve::{SimRun, SimVe};
use crate::backoff::Jitter;
use crate::capability::Capabilities;
use crate::desired::Desired;
use crate::ids::{VeName, VeUid};
use crate::ledger::{Facts, Ledger, LedgerError, Started};
use crate::plan::{Proposed, Step, VePlan, Wish, plan_ve};
use crate::status::Health;
use crate::subsystem::lifecycle::{self, Exit};
use crate::subsystem::{Cx, Effect, beancounters, cgroup, disk, namespaces, network, packages};
use crate::units::{Millis, Timestamp};

/// A host with its ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Sim {
    /// What the host can do.
    pub caps: Capabilities,
    /// The clock.
    pub now: Timestamp,
    /// What vzd has noted.
    pub ledger: Ledger,
    /// What of that is on disk.
    on_disk: Ledger,
    ves: BTreeMap<VeUid, SimVe>,
    next_pid: u32,
}

/// A step that a real host must never see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The step needs a VE that runs.
    #[error("{0} needs a running VE")]
    NotRunning(String),
    /// The step needs a VE that doesn't run.
    #[error("{0} needs a stopped VE")]
    Running(String),
    /// What is held still was to be written down.
    #[error("{0} needs a VE that is not frozen")]
    Frozen(String),
    /// A VE was to be resumed from nothing.
    #[error("there is no checkpoint to resume from")]
    NoCheckpoint,
    /// A VE without a root was to be started.
    #[error("there is no root to start from")]
    NoRoot,
    /// A limit was to be set where there can be none.
    #[error("the root has no limits")]
    NoLimits,
    /// A limit below what is in use would have processes killed.
    #[error("{0} would kill")]
    Kills(String),
    /// An address was to be given to a link that is not there, or a link with addresses taken away.
    #[error("{0} has no link to be done on")]
    NoLink(String),
    /// The ledger refuses.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Where a step is cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// After the step is announced in the ledger, before it is done.
    Before,
    /// After it is done, before that is written down.
    After,
}

impl Sim {
    /// An empty host.
    pub fn new(caps: Capabilities, now: Timestamp) -> Self {
        Self {
            caps,
            now,
            ledger: Ledger::default(),
            on_disk: Ledger::default(),
            ves: BTreeMap::new(),
            next_pid: 1000,
        }
    }

    /// The VE with this uid, to be looked at or meddled with.
    pub fn ve(&mut self, uid: &VeUid) -> &mut SimVe {
        self.ves.entry(uid.clone()).or_default()
    }

    /// Whether nothing is left of the VE.
    pub fn is_gone(&self, uid: &VeUid) -> bool {
        self.ledger.get(uid).is_none() && self.ves.get(uid).is_none_or(|ve| *ve == SimVe::default())
    }

    /// Init ends by itself.
    pub fn end(&mut self, uid: &VeUid, exit: Exit) {
        let ve = self.ve(uid);
        if ve.run.take().is_some() {
            ve.last_exit = Some(exit);
        }
    }

    /// The host goes down and comes up again.
    pub fn reboot(&mut self, boot_id: &str) {
        self.caps.boot_id = boot_id.to_owned();
        for ve in self.ves.values_mut() {
            (ve.run, ve.last_exit) = (None, None);
        }
    }

    /// Plans for a VE, with every VE that runs counted as Ready.
    pub fn plan(&self, uid: &VeUid, name: &VeName, wish: Wish<'_>) -> VePlan<Proposed> {
        let want = match wish {
            Wish::Want(want) | Wish::Keep(want) => Some(want),
            Wish::Gone | Wish::Unmanaged | Wish::Unknown(_) => None,
        };
        let is_ready = |name: &VeName| {
            let ve = self.ledger.by_name(name).and_then(|entry| self.ves.get(&entry.uid));
            ve.is_some_and(|ve| ve.run.is_some())
        };
        let cx = Cx {
            caps: &self.caps,
            now: self.now,
            entry: self.ledger.get(uid),
            is_ready: &is_ready,
            health: &Health::NoProbe,
        };
        plan_ve(name, wish, &self.observe(uid, want), &cx)
    }

    /// Does a step as the engine does: announces it, does it, writes it down.
    pub fn step(&mut self, uid: &VeUid, step: &Step, want: Option<&Desired>) -> Result<Effect, Broken> {
        self.cut_short(uid, step, want, Cut::Before)?;
        let effect = self.apply(uid, step, want)?;
        let facts = self.facts(uid);
        self.ledger.finish(uid, step, want, &facts.borrow(&self.caps))?;
        Ok(effect)
    }

    /// Writes down what is noted, as the engine does after a plan.
    pub fn save(&mut self) {
        self.on_disk.clone_from(&self.ledger);
    }

    /// The controller is killed: what it has not written down is lost.
    pub fn kill(&mut self) {
        self.ledger.clone_from(&self.on_disk);
    }

    /// Begins a step as the engine does, and leaves it at that.
    pub fn cut_short(
        &mut self,
        uid: &VeUid,
        step: &Step,
        want: Option<&Desired>,
        cut: Cut,
    ) -> Result<(), Broken> {
        let facts = self.facts(uid);
        let answered = self.ledger.get(uid).is_some_and(|entry| entry.answers_for(step));
        self.ledger.begin(uid, step, want, &facts.borrow(&self.caps))?;
        if !step.only_notes() && !answered {
            self.save();
        }
        if cut == Cut::After {
            self.apply(uid, step, want)?;
        }
        Ok(())
    }

    /// Does what a step does to the kernel. Notes do nothing there.
    pub fn apply(&mut self, uid: &VeUid, step: &Step, want: Option<&Desired>) -> Result<Effect, Broken> {
        match step {
            Step::Lifecycle(own) => self.apply_lifecycle(uid, own, step, want),
            Step::Cgroup(own) => {
                let caps = self.caps.clone();
                apply_cgroup(self.running(uid, step)?, own, &caps)
                    .map_err(|()| Broken::Kills(step.to_string()))
            }
            Step::Beancounters(own) => {
                let run = self.running(uid, step)?;
                let (setting, to) = match own.clone() {
                    beancounters::Live::Set { setting, to, .. } => (setting, to),
                    beancounters::Live::Reset { setting, .. } => (setting, cgroup::Value::max()),
                };
                let to = Some(to).filter(cgroup::Value::is_limit);
                if run.settings.get(&setting) == to.as_ref() {
                    return Ok(Effect::AlreadySo);
                }
                match to {
                    Some(to) => run.settings.insert(setting, to),
                    None => run.settings.remove(&setting),
                };
                Ok(Effect::Changed)
            }
            Step::Disk(own) => {
                let ve = self.stopped(uid, step)?;
                Ok(match own {
                    disk::Cold::CreateRoot { template, backend } => {
                        set(&mut ve.root, Some((template.clone(), *backend)))
                    }
                    disk::Cold::DestroyRoot => {
                        ve.accounts.clear();
                        ve.software = packages::Seen::default();
                        set(&mut ve.root, None)
                    }
                })
            }
            Step::DiskLive(disk::Live::SetLimit { resource, to, .. }) => {
                let root = self.ves.get(uid).and_then(|ve| ve.root.as_ref());
                let kept = root.is_some_and(|(_, backend)| backend.limits(*resource));
                let run = self.running(uid, step)?;
                let limits = run.limits.as_mut().filter(|_| kept).ok_or(Broken::NoLimits)?;
                Ok(set(&mut limits[*resource as usize], *to))
            }
            Step::DiskLive(disk::Live::SetReadOnly { to }) => {
                Ok(set(&mut self.running(uid, step)?.read_only, *to))
            }
            Step::DiskLive(disk::Live::StartGrace { .. } | disk::Live::EndGrace { .. }) => {
                Ok(Effect::AlreadySo)
            }
            Step::Namespaces(own) => Ok(apply_namespaces(self.running(uid, step)?, own)),
            Step::Devices(own) => Ok(apply_devices(self.running(uid, step)?, own)),
            Step::Packages(packages::Live::Begin(work)) => {
                let now = self.now;
                self.running(uid, step)?;
                Ok(apply_packages(self.ve(uid), work, now))
            }
            Step::Users(own) => {
                self.running(uid, step)?;
                Ok(apply_users(self.ve(uid), own))
            }
            Step::Network(own) => {
                apply_network(self.running(uid, step)?, own).ok_or_else(|| Broken::NoLink(step.to_string()))
            }
        }
    }

    fn apply_lifecycle(
        &mut self,
        uid: &VeUid,
        own: &lifecycle::Step,
        step: &Step,
        want: Option<&Desired>,
    ) -> Result<Effect, Broken> {
        match own {
            lifecycle::Step::Start { .. } => self.start(uid, want),
            lifecycle::Step::Stop { .. } => {
                let ve = self.ve(uid);
                ve.last_exit = ve.run.as_ref().map_or(ve.last_exit, |_| Some(Exit::Halted));
                Ok(if ve.run.take().is_some() { Effect::Changed } else { Effect::AlreadySo })
            }
            lifecycle::Step::Suspend => {
                let ve = self.ve(uid);
                let Some(run) = ve.run.take() else { return Ok(Effect::AlreadySo) };
                if run.frozen {
                    return Err(Broken::Frozen(step.to_string()));
                }
                (ve.checkpoint, ve.last_exit) = (Some(run), Some(Exit::Killed(9)));
                Ok(Effect::Changed)
            }
            lifecycle::Step::Resume { .. } => self.resume(uid, want),
            lifecycle::Step::Discard => Ok(set(&mut self.ve(uid).checkpoint, None)),
            lifecycle::Step::Destroy => {
                self.stopped(uid, step)?;
                Ok(if self.ves.remove(uid).is_some() { Effect::Changed } else { Effect::AlreadySo })
            }
            lifecycle::Step::Reap { .. } | lifecycle::Step::Quarantine { .. } => {
                self.stopped(uid, step).map(|_| Effect::AlreadySo)
            }
            lifecycle::Step::Create
            | lifecycle::Step::Restore
            | lifecycle::Step::Accept
            | lifecycle::Step::Adopt { .. }
            | lifecycle::Step::Forget => Ok(Effect::AlreadySo),
        }
    }

    fn start(&mut self, uid: &VeUid, want: Option<&Desired>) -> Result<Effect, Broken> {
        let (now, init_pid, caps) = (self.now, self.next_pid, self.caps.clone());
        let ctid = self.ledger.get(uid).map_or(0, |entry| entry.ctid.get());
        let entry = self.ledger.get(uid);
        let record = entry.and_then(|entry| entry.disk.clone());
        let trial = entry.and_then(|entry| entry.firewall_trial.clone());
        let ve = self.ve(uid);
        if ve.run.is_some() {
            return Ok(Effect::AlreadySo);
        }
        let Some(want) = want.filter(|_| ve.root.is_some()) else { return Err(Broken::NoRoot) };
        ve.run = Some(SimRun {
            init_pid,
            started_at: now,
            cold: want.lifecycle.cold.clone(),
            frozen: false,
            knobs: cgroup::wanted_knobs(&want.cgroup.limits, &caps, ctid),
            settings: beancounters::set_by_start(&want.beancounters, &caps)
                .into_iter()
                .filter(|(_, value)| value.is_limit())
                .collect(),
            memory: (0, 0),
            limits: ve.root.as_ref().filter(|(_, backend)| *backend != disk::Backend::Directory).map(|_| {
                disk::Resource::ALL.map(|one| disk::quota::in_force(&want.disk, record.as_ref(), one, now))
            }),
            used: [0, 0],
            read_only: want.disk.read_only,
            hostname: want.namespaces.hostname.clone(),
            domainname: want.namespaces.domainname.clone(),
            timezone: want.namespaces.timezone.clone(),
            locale: want.namespaces.locale.clone(),
            mounts: namespaces::wanted_mounts(&want.namespaces, &caps),
            nodes: want.devices.nodes.clone(),
            rules: want.devices.rules.clone(),
            venet: Some(want.network.addresses.clone()).filter(|_| want.network.has_venet()),
            interfaces: want.network.interfaces.clone(),
            handed: want.network.devices.clone(),
            sysctls: want.network.sysctls.clone(),
            rates: want.network.rates.clone(),
            firewall: network::in_force(&want.network, trial.as_deref()).cloned(),
            routes: want.network.routes.clone(),
            routing_rules: want.network.rules.clone(),
            translations: want.network.translations.clone(),
            files: {
                let files = want.network.files.iter();
                let lines = files.map(|(file, wish)| (*file, network::Resolvers::default().expand(wish)));
                lines.filter(|(_, lines)| !lines.is_empty()).collect()
            },
        });
        ve.run.iter_mut().for_each(|run| run.knobs.retain(|knob, value| *value != knob.default(&caps)));
        self.next_pid += 1;
        Ok(Effect::Changed)
    }

    /// The checkpoint's own names, mounts and links with new limits.
    fn resume(&mut self, uid: &VeUid, want: Option<&Desired>) -> Result<Effect, Broken> {
        let ve = self.ve(uid);
        if ve.run.is_some() {
            return Ok(Effect::AlreadySo);
        }
        let kept = ve.checkpoint.take().ok_or(Broken::NoCheckpoint)?;
        self.start(uid, want)?;
        let run = self.ve(uid).run.take().ok_or(Broken::NoRoot)?;
        let SimRun { init_pid, started_at, frozen, knobs, settings, limits, .. } = run;
        let anew = SimRun { init_pid, started_at, frozen, knobs, settings, limits, read_only: false, ..kept };
        self.ve(uid).run = Some(anew);
        Ok(Effect::Changed)
    }

    fn running(&mut self, uid: &VeUid, step: &Step) -> Result<&mut SimRun, Broken> {
        self.ve(uid).run.as_mut().ok_or_else(|| Broken::NotRunning(step.to_string()))
    }

    fn stopped(&mut self, uid: &VeUid, step: &Step) -> Result<&mut SimVe, Broken> {
        let ve = self.ve(uid);
        if ve.run.is_some() { Err(Broken::Running(step.to_string())) } else { Ok(ve) }
    }

    fn facts(&self, uid: &VeUid) -> OwnFacts {
        let ve = self.ves.get(uid);
        let started = ve.and_then(|ve| ve.run.as_ref());
        OwnFacts {
            now: self.now,
            exit: ve.and_then(|ve| ve.last_exit),
            started: started.map(|run| Started { init_pid: run.init_pid, at: run.started_at }),
        }
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Millis) {
        self.now = self.now + time;
    }
}

struct OwnFacts {
    now: Timestamp,
    exit: Option<Exit>,
    started: Option<Started>,
}

impl OwnFacts {
    fn borrow<'a>(&self, caps: &'a Capabilities) -> Facts<'a> {
        Facts {
            caps,
            now: self.now,
            jitter: Jitter::NONE,
            started: self.started,
            exit: self.exit,
            made_root: None,
            counts: BTreeMap::new(),
        }
    }
}
