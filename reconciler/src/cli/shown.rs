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
        _ if ve.status.init_pid.is_some() => match ready {
            "Paused" | "PausedByOperator" => ("paused", Some(Paint::Warn)),
            _ => ("running", Some(Paint::Good)),
        },
        (_, "Progressing") => ("starting", Some(Paint::Warn)),
        (_, "Waiting" | "ProgressingWithRetry") => ("waiting", Some(Paint::Warn)),
        _ => match ready {
            "HaltedByOwner" => ("halted", Some(Paint::Faint)),
            "Crashed" => ("crashed", Some(Paint::Bad)),
            _ => ("stopped", Some(Paint::Faint)),
        },
    }
}

/// The status of a condition as a word with its colour. `good` is the status that is as it should be.
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
