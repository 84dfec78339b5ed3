//! What people are shown of a VE and of events: words, ages, lines. The only file of the command line
//! that reads conditions.

use std::time::{SystemTime, UNIX_EPOCH};

use vzd_state::event::EventType;
use vzd_state::status::{Condition, ConditionStatus, ConditionType, Document};
use vzd_state::units::Timestamp;

use crate::cli::output::{Paint, harmless};
use crate::control::LoggedEvent;

/// The time now.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// How long ago that was, such as `8m24s`.
pub fn age(time: Timestamp) -> String {
    let age = now().since(time);
    if age.0 < 1000 { "0s".to_owned() } else { age.to_string() }
}

/// A condition of a VE.
pub fn condition(ve: &Document, wanted: ConditionType) -> Option<&Condition> {
    ve.status.conditions.iter().find(|condition| condition.r#type == wanted)
}

/// What a VE does, in a word.
pub fn state(ve: &Document) -> (&'static str, Option<Paint>) {
    let reason = |wanted| condition(ve, wanted).map_or("", |condition| condition.reason.as_str());
    let ready = reason(ConditionType::Ready);
    match (reason(ConditionType::DeletionPending), reason(ConditionType::Reconciling)) {
        ("DeletionQuarantined", _) => ("quarantined", Some(Paint::Faint)),
        ("Destroying", _) => ("destroying", Some(Paint::Warn)),
        _ if ve.status.init_pid.is_some() && ve.status.frozen => ("paused", Some(Paint::Warn)),
        _ if ve.status.init_pid.is_some() => ("running", Some(Paint::Good)),
        (_, "Progressing") => ("starting", Some(Paint::Warn)),
        (_, "Waiting" | "ProgressingWithRetry") => ("waiting", Some(Paint::Warn)),
        _ => match ready {
            "HaltedByOwner" => ("halted", Some(Paint::Faint)),
            "Crashed" => ("crashed", Some(Paint::Bad)),
            "SuspendedToDisk" | "SuspendedByOperator" => ("suspended", Some(Paint::Warn)),
            "Absent" => ("absent", Some(Paint::Faint)),
            "Unreadable" => ("unknown", Some(Paint::Bad)),
            _ => ("stopped", Some(Paint::Faint)),
        },
    }
}

/// Why a VE is as it is, and what else there is to know about it.
pub fn reasons(ve: &Document) -> String {
    use ConditionType::{
        AddressConflict, DeletionPending, Drifted, Ready, ResizePending, RestartRequired, Stalled, Suspended,
    };
    let ready = condition(ve, Ready).map(|ready| ready.reason.clone());
    let also =
        [Stalled, AddressConflict, RestartRequired, ResizePending, Drifted, Suspended, DeletionPending];
    let also = also.into_iter().filter(|wanted| {
        condition(ve, *wanted).is_some_and(|condition| condition.status == ConditionStatus::True)
    });
    let mut reasons: Vec<_> = ready.into_iter().chain(also.map(|wanted| format!("{wanted:?}"))).collect();
    reasons.dedup();
    reasons.join(", ")
}

/// The status of a condition as a word with its colour.
pub fn status(condition: &Condition) -> (&'static str, Option<Paint>) {
    let is_good_news =
        matches!(condition.r#type, ConditionType::Ready | ConditionType::Healthy | ConditionType::Migratable);
    match condition.status {
        ConditionStatus::True if is_good_news => ("True", Some(Paint::Good)),
        ConditionStatus::True => ("True", Some(Paint::Warn)),
        ConditionStatus::False if is_good_news => ("False", Some(Paint::Warn)),
        ConditionStatus::False => ("False", None),
        ConditionStatus::Unknown => ("Unknown", Some(Paint::Warn)),
    }
}

/// An event in a line: when, about what, what, and how often.
pub fn event(logged: &LoggedEvent, colour: bool) -> String {
    let event = &logged.event;
    let about = event.ve.as_ref().map_or("host", |name| name.as_str());
    let mark = match event.r#type {
        EventType::Normal => " ",
        EventType::Warning => "!",
    };
    let paint = if event.r#type == EventType::Warning { Paint::Warn } else { Paint::Good };
    let time = Paint::Faint.text(colour, &event.time.to_string());
    // "Reason: message (x17 over 8m24s)"; the cause is told apart when it put something right.
    let text = harmless(&event.to_string());
    let (reason, rest) = text.split_once(':').unwrap_or((&text, ""));
    let cause = match event.cause {
        Some(vzd_state::event::EventCause::Corrective) => "  [correction]",
        _ => "",
    };
    format!("{time} {mark} {about:<16} {}:{rest}{cause}", paint.text(colour, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ve(init: Option<u32>, conditions: &[(&str, &str, &str)]) -> Document {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(name, status, reason)| {
                json!({
                    "type": name, "status": status, "reason": reason, "message": "",
                    "observedGeneration": 1, "lastTransitionTime": "2026-11-22T23:00:41Z",
                })
            })
            .collect();
        let mut ve = json!({
            "apiVersion": "vzd/v1", "kind": "VE", "metadata": {"name": "web", "generation": 1}, "spec": {},
            "status": {"conditions": conditions},
        });
        if let Some(pid) = init {
            ve["status"]["initPid"] = json!(pid);
        }
        serde_json::from_value(ve).unwrap()
    }

    #[test]
    fn a_word_says_what_a_ve_does() {
        let of = |init, conditions: &[_]| state(&ve(init, conditions)).0;
        assert_eq!(of(Some(7), &[("Ready", "True", "ReconciliationSucceeded")]), "running");
        assert_eq!(of(Some(7), &[("Ready", "False", "HealthCheckFailed")]), "running");
        // What the kernel says, whoever wanted it and whatever is to come.
        let mut paused = ve(Some(7), &[("Ready", "False", "ManifestRemoved")]);
        paused.status.frozen = true;
        assert_eq!(state(&paused).0, "paused");
        assert_eq!(of(None, &[("Ready", "False", "HaltedByOwner")]), "halted");
        assert_eq!(of(None, &[("Ready", "False", "StoppedByOperator")]), "stopped");
        assert_eq!(of(None, &[("Ready", "False", "Absent")]), "absent");
        assert_eq!(of(None, &[("Ready", "False", "BackOff"), ("Reconciling", "True", "Waiting")]), "waiting");
        let removed =
            [("Ready", "False", "ManifestRemoved"), ("DeletionPending", "True", "DeletionQuarantined")];
        assert_eq!(of(None, &removed), "quarantined");
    }

    #[test]
    fn what_waits_is_told_beside_why_it_is_ready() {
        let ve = ve(
            Some(7),
            &[
                ("Ready", "True", "ReconciliationSucceeded"),
                ("RestartRequired", "True", "x"),
                ("Drifted", "False", "x"),
            ],
        );
        assert_eq!(reasons(&ve), "ReconciliationSucceeded, RestartRequired");
    }
}
