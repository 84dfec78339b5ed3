//! What can be asked, answered by an engine: the controller's, or a command's own.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde_json::Value;
use vzd_schema::v1::ALIAS;
use vzd_schema::{Code, Diagnostic};
use vzd_state::desired::Desired;
use vzd_state::ids::{Ctid, VeName};
use vzd_state::ledger::{Entry, Facts};
use vzd_state::observed::Observed;
use vzd_state::plan::Step;
use vzd_state::status::{ConditionStatus, ConditionType, Document, DocumentMetadata, Status};
use vzd_state::subsystem::lifecycle::{Run, Step as LifecycleStep};
use vzd_state::subsystem::{cgroup, disk};
use vzd_state::transient;

use crate::control::{
    ApplyOutcome, CloneRequest, Cloned, Control, ControlError, ControlResult, Entrance, EventQuery, Info,
    LoggedEvent, MountRequest, Outcomes, PlanRequest, PlanView, PowerRequest, Reinstall, Selector, Snapshot,
    SnapshotRequest, TransientRequest, VeCounters, VeNetwork, VeUsage, Why,
};
use crate::drivers::{Ve, lifecycle};
use crate::engine::pass::{Look, failure_of, plan_view, refusal_of};
use crate::engine::view::{Leave, View};
use crate::engine::wishes::Wanted;
use crate::engine::{Engine, Subject, clock};
use crate::handover;

pub(super) fn error(code: &str, message: impl Into<String>) -> ControlError {
    ControlError { code: code.to_owned(), message: message.into(), help: None }
}

impl Selector {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.labels.is_empty() && !self.all
    }
}

impl Engine {
    /// The subjects that a selector means. A name that is not known is an error.
    pub(super) fn select(&self, select: &Selector) -> ControlResult<Vec<Subject>> {
        let known: Vec<_> = self.subjects().into_iter().filter(|s| matches!(s, Subject::Name(_))).collect();
        let mut chosen = Vec::new();
        for name in &select.names {
            let subject = self.named(name, &known)?;
            chosen.push(subject);
        }
        if select.names.is_empty() {
            chosen = known;
        }
        chosen.retain(|subject| {
            let labels = self.labels_of(subject);
            select.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        });
        Ok(chosen)
    }

    pub(super) fn named(&self, name: &str, known: &[Subject]) -> ControlResult<Subject> {
        let ctid = name.parse::<u32>().ok().and_then(|number| Ctid::try_from(number).ok());
        let by_ctid = ctid.and_then(|ctid| {
            let shared = self.shared();
            let entry = shared.ledger.by_ctid(ctid).filter(|entry| !entry.is_quarantined())?;
            Some(Subject::Name(entry.name.clone()))
        });
        let by_name =
            name.parse::<VeName>().ok().map(Subject::Name).filter(|subject| known.contains(subject));
        let by_alias = || {
            let shared = self.shared();
            let is_it = |want: &Desired| want.annotations.get(ALIAS).is_some_and(|alias| alias == name);
            let found = shared.wishes.want.iter().find(|(_, want)| is_it(want));
            found.map(|(name, _)| Subject::Name(name.clone())).filter(|subject| known.contains(subject))
        };
        by_name.or(by_ctid).or_else(by_alias).ok_or_else(|| self.not_here(name))
    }

    fn labels_of(&self, subject: &Subject) -> BTreeMap<String, String> {
        let shared = self.shared();
        let Subject::Name(name) = subject else { return BTreeMap::new() };
        match (shared.wishes.want.get(name), shared.entry(subject)) {
            (Some(want), _) => want.labels.clone(),
            (None, Some(entry)) => entry.labels.clone(),
            (None, None) => BTreeMap::new(),
        }
    }

    /// A VE as it is published. A command without a controller looks at it now.
    pub(super) fn document(&self, subject: &Subject) -> Option<Document> {
        if !self.shared().published.contains_key(subject) {
            self.look(subject);
        }
        let view = self.view(subject, Leave::default())?;
        let published = self.shared().published.get(subject).cloned()?;
        let entry = view.entry.as_ref();
        let want = view.want();
        let (init_pid, started_at) = match published.observed.running() {
            Some(Run::Running { init_pid, started_at }) => (Some(*init_pid), Some(*started_at)),
            _ => (None, None),
        };
        let group = entry.map(|entry| self.host.cgroup(entry)).filter(|_| init_pid.is_some());
        let mut resources = group.as_ref().map(|group| group.usage().to_map()).unwrap_or_default();
        let limits = want.map(|want| self.limits(want, &published.observed, entry)).unwrap_or_default();
        if !limits.is_empty() {
            resources.insert("limits".into(), Value::from_iter(limits));
        }
        if let (Some(want), Some(record)) = (want, entry.and_then(|entry| entry.disk.as_ref())) {
            let run = entry.and_then(|entry| entry.run.as_ref()).map(|run| &run.cold);
            let shown = disk::report(&want.disk, &published.observed.disk, record, run);
            resources.insert("disk".into(), shown);
        }
        let status = Status {
            ctid: entry.map(|entry| entry.ctid),
            init_pid,
            started_at,
            frozen: init_pid.is_some()
                && published.observed.cgroup.group.is().is_some_and(|group| group.frozen),
            cgroup: group.map(|group| group.v2_dir().display().to_string()),
            transient: view.transient.clone(),
            conditions: published.conditions,
            resources,
            source: want.map(|want| want.source.clone()).or(entry.map(|entry| entry.source.clone())),
        };
        let metadata = DocumentMetadata {
            name: view.name.clone(),
            uid: entry.map(|entry| entry.uid.clone()),
            generation: entry.map_or(0, |entry| entry.generation),
            labels: self.labels_of(subject),
            annotations: want.map(|want| want.annotations.clone()).unwrap_or_default(),
        };
        let spec = want.map(|want| &want.spec).or(entry.map(|entry| &entry.spec));
        let spec = spec.map(|spec| transient::spec_over(spec, &view.transient)).unwrap_or_default();
        Some(Document { api_version: "vzd/v1".into(), kind: "VE".into(), metadata, spec, status })
    }

    /// The limits of a running VE beside what the kernel has, by field.
    pub(super) fn limits(
        &self,
        want: &Desired,
        observed: &Observed,
        entry: Option<&Entry>,
    ) -> BTreeMap<String, Value> {
        cgroup::report(&want.cgroup.limits, &observed.cgroup, &self.host.caps(), entry)
    }

    /// Plans afresh before a request that is about the manifests as they are now.
    fn subjects_of(&self, request: &PlanRequest) -> ControlResult<(Vec<Subject>, Leave)> {
        self.rescan();
        let subjects = if request.only.is_empty() { self.subjects() } else { self.select(&request.only)? };
        Ok((subjects, Leave { allow_prune: request.allow_prune }))
    }

    /// What is wrong, but for an empty directory where that is allowed: then it is as it is meant.
    fn diagnostics_of(&self, leave: Leave) -> Vec<Diagnostic> {
        let meant = leave.allow_prune.is_some() && self.shared().wishes.is_emptied();
        self.diagnostics().into_iter().filter(|is| !meant || is.code != Code::UnsafeDirectory).collect()
    }

    fn entrance(&self, view: &View) -> ControlResult<Option<Entrance>> {
        if let Wanted::Unknown(why) = &view.wanted {
            return Err(error("VZ0404", why));
        }
        let Some(entry) = &view.entry else { return Ok(None) };
        let ve = Ve { host: &self.host, entry, want: view.want() };
        match lifecycle::door(ve) {
            Ok(door) => {
                let uid = entry.uid.as_str().to_owned();
                Ok(Some(Entrance { name: view.name.to_string(), uid, door }))
            }
            Err(e) if e.detail.as_deref() == Some("it does not run") => Ok(None),
            Err(e) => Err(error("VZ0307", e.to_string())),
        }
    }
}

impl Control for Engine {
    fn list(&self, select: &Selector, quarantined: bool) -> ControlResult<Vec<Document>> {
        let mut subjects = self.select(select)?;
        if quarantined {
            subjects.extend(self.subjects().into_iter().filter(|s| matches!(s, Subject::Quarantined(_))));
        }
        subjects.sort_unstable();
        subjects.dedup();
        Ok(subjects.iter().filter_map(|subject| self.document(subject)).collect())
    }

    fn plan(&self, request: &PlanRequest) -> ControlResult<PlanView> {
        let (subjects, leave) = self.subjects_of(request)?;
        let plan = self.plan_all(&subjects, Look::Plan, leave);
        Ok(plan_view(&plan, self.diagnostics_of(leave)))
    }

    fn apply(&self, request: &PlanRequest) -> ControlResult<ApplyOutcome> {
        let (subjects, leave) = self.subjects_of(request)?;
        self.ask_now();
        let plan = self.plan_all(&subjects, Look::Plan, leave);
        if let Some(expected) = request.check_index.as_ref().filter(|index| **index != plan.check_index) {
            return Err(ControlError {
                code: "VZ0205".into(),
                message: format!(
                    "the world has moved: the plan was made at {expected}, this is {}",
                    plan.check_index
                ),
                help: Some("make a new plan".into()),
            });
        }
        let outcomes = self.settle(&subjects, leave);
        let changed = outcomes.values().map(|outcome| outcome.changed).sum();
        let failed = outcomes
            .iter()
            .filter_map(|(subject, outcome)| {
                let refused = || refusal_of(&self.shared().published.get(subject)?.plan, None);
                Some((self.label(subject), failure_of(outcome).or_else(refused)?))
            })
            .collect();
        Ok(ApplyOutcome { plan: plan_view(&plan, self.diagnostics_of(leave)), changed, failed })
    }

    fn drift(&self, select: &Selector) -> ControlResult<PlanView> {
        let subjects = self.select(select)?;
        let plan = self.plan_all(&subjects, Look::Drift, Leave::default());
        let records = self.diagnostics().into_iter().filter(|is| is.code == Code::RecordUnreadable);
        Ok(plan_view(&plan, records.collect()))
    }

    fn power(&self, request: &PowerRequest) -> ControlResult<Outcomes> {
        self.give_orders(request)
    }

    fn transient(&self, request: &TransientRequest) -> ControlResult<()> {
        self.set_transient(request)
    }

    fn undelete(&self, name: &str) -> ControlResult<()> {
        let missing = || error("VZ0307", format!("there is no VE {name:?} in quarantine"));
        let name: VeName = name.parse().map_err(|_| missing())?;
        let entry = {
            let mut shared = self.shared();
            if shared.ledger.by_name(&name).is_some() {
                let taken = format!("there is a VE {name} again; remove or rename that first");
                return Err(error("VZ0307", taken));
            }
            let found = shared.ledger.quarantined(&name).ok_or_else(missing)?;
            self.is_ours(found)?;
            let uid = found.uid.clone();
            let restore = Step::Lifecycle(LifecycleStep::Restore);
            let caps = self.host.caps();
            let facts = Facts::at(&caps, clock::now());
            let noted = shared.ledger.finish(&uid, &restore, None, &facts);
            noted.map_err(|e| error("VZ0307", e.to_string()))?;
            shared.ledger.get(&uid).cloned().ok_or_else(missing)?
        };
        self.records.save(&entry).map_err(|e| error("VZ0404", e.to_string()))?;
        let outcome = self.reconcile(&Subject::Name(name), Leave::default(), None);
        failure_of(&outcome).map_or(Ok(()), Err)
    }

    fn reinstall(&self, request: &Reinstall) -> ControlResult<()> {
        self.do_reinstall(request)
    }

    fn clone_ve(&self, request: &CloneRequest) -> ControlResult<Cloned> {
        self.do_clone(request)
    }

    fn mount(&self, request: &MountRequest) -> ControlResult<()> {
        self.do_mount(request)
    }

    fn snapshots(&self, ve: &str) -> ControlResult<Vec<Snapshot>> {
        self.list_snapshots(ve)
    }

    fn snapshot(&self, request: &SnapshotRequest) -> ControlResult<()> {
        self.do_snapshot(request)
    }

    fn handover(&self, request: &handover::Request) -> ControlResult<handover::Answer> {
        self.do_handover(request)
    }

    fn events(&self, query: &EventQuery) -> ControlResult<Vec<LoggedEvent>> {
        let wait = Duration::from_millis(query.wait_ms.min(60_000));
        Ok(self.events.query(query.after, query.ve.as_deref(), wait))
    }

    fn why(&self, ve: &str, field: &str) -> ControlResult<Why> {
        self.answer_why(ve, field)
    }

    fn entrances(&self, select: &Selector) -> ControlResult<Vec<Entrance>> {
        let mut entrances = Vec::new();
        for subject in self.select(select)? {
            let Some(view) = self.view(&subject, Leave::default()) else { continue };
            match self.entrance(&view)? {
                Some(entrance) => entrances.push(entrance),
                None if select.names.is_empty() => {}
                None => return Err(error("VZ0307", format!("VE {} does not run", view.name))),
            }
        }
        Ok(entrances)
    }

    fn counters(&self, select: &Selector) -> ControlResult<Vec<VeCounters>> {
        let mut all = Vec::new();
        for subject in self.select(select)? {
            let Some(view) = self.view(&subject, Leave::default()) else { continue };
            match self.count(&view) {
                Some(counted) => all.push(counted),
                None if select.names.is_empty() => {}
                None => return Err(error("VZ0307", format!("VE {} does not run", view.name))),
            }
        }
        Ok(all)
    }

    fn networks(&self, select: &Selector) -> ControlResult<Vec<VeNetwork>> {
        let mut all = Vec::new();
        for subject in self.select(select)? {
            let Some(view) = self.view(&subject, Leave::default()) else { continue };
            match self.network_of(&view) {
                Some(network) => all.push(network?),
                None if select.names.is_empty() => {}
                None => return Err(error("VZ0307", format!("VE {} does not run", view.name))),
            }
        }
        Ok(all)
    }

    fn usage(&self, select: &Selector) -> ControlResult<Vec<VeUsage>> {
        Ok(self.select(select)?.iter().filter_map(|subject| self.use_of(subject)).collect())
    }

    fn info(&self) -> ControlResult<Info> {
        let diagnostics = self.diagnostics();
        let shared = self.shared();
        Ok(Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.lock.as_ref().map(|_| std::process::id()),
            revision: shared.wishes.revision.digest.clone(),
            ves: shared.wishes.want.len(),
            last_pass: shared.last_pass.clone(),
            diagnostics,
            skipped: shared.wishes.revision.skipped.clone(),
            capabilities: serde_json::to_value(&*self.host.caps()).unwrap_or_default(),
            names: self.host.resolver.use_of(),
        })
    }

    fn wait(&self, select: &Selector, condition: &str, status: &str, timeout_ms: u64) -> ControlResult<bool> {
        let wanted = match status.to_ascii_lowercase().as_str() {
            "true" => ConditionStatus::True,
            "false" => ConditionStatus::False,
            "unknown" => ConditionStatus::Unknown,
            _ => return Err(error("VZ0405", format!("{status:?} is not a status: True, False or Unknown"))),
        };
        let condition = ConditionType::named(condition).map_err(|why| error("VZ0405", why))?;
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        loop {
            let met = self.select(select).is_ok_and(|subjects| {
                for subject in &subjects {
                    if !self.shared().published.contains_key(subject) {
                        self.look(subject);
                    }
                }
                let shared = self.shared();
                subjects.iter().all(|subject| {
                    let conditions = shared.published.get(subject).map(|is| is.conditions.as_slice());
                    let found = conditions.unwrap_or_default().iter().find(|is| is.r#type == condition);
                    // A condition that is present only while true is false when it is not there.
                    found.map_or(wanted == ConditionStatus::False, |c| c.status == wanted)
                        && shared.published.contains_key(subject)
                })
            });
            let left = deadline.saturating_duration_since(Instant::now());
            if met || left.is_zero() {
                return Ok(met);
            }
            // Published or not, the directory may have named a VE meanwhile.
            let guard = self.shared();
            let nap = left.min(Duration::from_millis(200));
            drop(self.published.wait_timeout(guard, nap).unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Engine {
    pub(super) fn label(&self, subject: &Subject) -> String {
        match subject {
            Subject::Name(name) => name.to_string(),
            Subject::Quarantined(uid) => {
                let shared = self.shared();
                let name = shared.ledger.get(uid).map(|entry: &Entry| entry.name.to_string());
                format!("{} (in quarantine)", name.unwrap_or_else(|| uid.to_string()))
            }
        }
    }
}
