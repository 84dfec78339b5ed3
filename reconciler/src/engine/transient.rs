//! Orders to change a running VE until it stops: checked like a manifest that says so, noted with the run, and made so
//! by a pass. What cannot all be done is taken back. What such values come to is decided in [`vzd_state::transient`].

use std::collections::BTreeMap;

use serde_json::Value;
use vzd_schema::{Diagnostic, Document};
use vzd_state::desired::Desired;
use vzd_state::event::{Event, EventType};
use vzd_state::ids::VeUid;
use vzd_state::transient::{self, Transient, Transients};

use crate::control::{ControlError, ControlResult, Selector, TransientChange, TransientRequest};
use crate::engine::answer::error;
use crate::engine::pass::{failure_of, refusal_of};
use crate::engine::view::{Leave, View};
use crate::engine::wishes::host_device;
use crate::engine::{Engine, clock};

impl Engine {
    /// Carries out such an order.
    pub(super) fn set_transient(&self, request: &TransientRequest) -> ControlResult<()> {
        self.rescan();
        let select = Selector { names: vec![request.ve.clone()], ..Selector::default() };
        let subject = self.select(&select)?.pop().ok_or_else(|| error("VZ0307", "no VE was named"))?;
        let view = self.view(&subject, Leave::default());
        let view = view.ok_or_else(|| error("VZ0307", format!("there is no VE {:?}", request.ve)))?;
        let runs = || self.observe(&view, None).running().is_some();
        let (Some(want), Some(entry)) = (view.want(), view.entry.as_ref().filter(|_| runs())) else {
            return Err(error("VZ0307", format!("VE {} does not run", view.name)));
        };
        for field in request.changes.keys() {
            transient::allowed(field).map_err(|why| error("VZ0405", why))?;
        }
        let wanted = self.wanted_values(&view, want, &request.changes)?;
        let before = entry.run.as_ref().map(|run| run.transient.clone()).unwrap_or_default();
        let of = |all: &Transients| -> BTreeMap<String, Option<Transient>> {
            request.changes.keys().map(|field| (field.clone(), all.get(field).cloned())).collect()
        };
        let (after, before) = (of(&wanted), of(&before));
        if after == before {
            return Ok(());
        }
        self.note_transient(&entry.uid, &after)?;
        let outcome = self.reconcile(&subject, Leave::default(), None);
        let refused = || refusal_of(&self.shared().published.get(&subject)?.plan, None);
        if let Some(error) = failure_of(&outcome).or_else(refused) {
            self.note_transient(&entry.uid, &before)?;
            // The error counts that led here; what this one leaves is in the conditions.
            drop(self.reconcile(&subject, Leave::default(), None));
            return Err(error);
        }
        for (field, is) in after {
            let message = match is {
                Some(is) => format!("{field} is {} until the VE stops, not {}", is.value, is.over),
                None => format!("{field} is what the manifest says again"),
            };
            self.tell(Event::new(
                clock::now(),
                Some(view.name.clone()),
                EventType::Normal,
                "Transient",
                message,
            ));
        }
        Ok(())
    }

    /// All that is to stand above the manifest once these changes are made.
    fn wanted_values(
        &self,
        view: &View,
        want: &Desired,
        changes: &BTreeMap<String, TransientChange>,
    ) -> ControlResult<Transients> {
        let mut values: BTreeMap<String, Value> =
            view.transient.iter().map(|(field, is)| (field.clone(), is.value.clone())).collect();
        for (field, change) in changes {
            match change {
                TransientChange::Set(value) => drop(values.insert(field.clone(), value.clone())),
                TransientChange::Unset => drop(values.insert(field.clone(), Value::Null)),
                TransientChange::End => drop(values.remove(field)),
            }
        }
        let spec = transient::with(&want.spec, &values);
        let spec = self.check_spec(view, &spec).map_err(refused)?;
        let now = clock::now();
        let stands = |field: String| {
            let (value, over) = (transient::value_at(&spec, &field), transient::value_at(&want.spec, &field));
            let same = view.transient.get(&field).filter(|is| is.value == value && is.over == over);
            let is = same.cloned().unwrap_or(Transient { value, over, at: now });
            (is.value != is.over).then_some((field, is))
        };
        let wanted: Transients = values.into_keys().filter_map(stands).collect();
        transient::lay(want.clone(), &wanted, &host_device).map_err(|wrong| {
            let first = wrong.first().map_or_else(String::new, ToString::to_string);
            error("VZ0102", first)
        })?;
        Ok(wanted)
    }

    /// Checks a spec as if it stood in the VE's manifest, beside all others as they are in force.
    fn check_spec(&self, view: &View, spec: &Value) -> Result<Value, Vec<Diagnostic>> {
        let own = transient::document(view.name.as_str(), spec)?;
        let (revision, above) = {
            let shared = self.shared();
            let of_others = shared.wishes.want.values().filter(|other| other.name != view.name);
            let above = of_others.filter_map(|other| {
                let entry = shared.ledger.by_name(&other.name)?;
                let values = transient::in_force(entry, &other.spec);
                let spec = transient::spec_over(&other.spec, &values);
                (!values.is_empty()).then(|| transient::document(other.name.as_str(), &spec).ok())?
            });
            (shared.wishes.revision.clone(), above.collect::<Vec<Document>>())
        };
        let known = |document: &Document| {
            let is = |other: &Document| other.kind == document.kind && other.name == document.name;
            is(&own) || above.iter().any(is)
        };
        let others = revision.documents.iter().map(|held| &*held.document).filter(|is| !known(is));
        let others: Vec<&Document> = others.chain(&above).collect();
        transient::checked(&own, &others)
    }

    /// Notes with the run what is to stand above each of these fields, if anything.
    fn note_transient(&self, uid: &VeUid, fields: &BTreeMap<String, Option<Transient>>) -> ControlResult<()> {
        let entry = {
            let mut shared = self.shared();
            let stopped = || error("VZ0307", "the VE stopped meanwhile");
            let entry = shared.ledger.get_mut(uid).ok_or_else(stopped)?;
            let run = entry.run.as_mut().ok_or_else(stopped)?;
            for (field, is) in fields {
                match is {
                    Some(is) => drop(run.transient.insert(field.clone(), is.clone())),
                    None => drop(run.transient.remove(field)),
                }
            }
            entry.clone()
        };
        self.records.save(&entry).map(drop).map_err(|e| error("VZ0404", e.to_string()))
    }
}

fn refused(wrong: Vec<Diagnostic>) -> ControlError {
    let Some(first) = wrong.first() else { return error("VZ0102", "the values make no spec") };
    ControlError {
        code: first.code.to_string(),
        message: first.message.to_string(),
        help: first.help.first().cloned(),
    }
}
