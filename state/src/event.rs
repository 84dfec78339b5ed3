//! Events: what happened to a VE, for people. Repeats of one event are folded into it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::disruption;
use crate::ids::VeName;
use crate::units::{Millis, Timestamp};

/// Repeats further apart than this are events of their own.
pub const FOLD_WITHIN: Millis = Millis::from_secs(3600);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When it happened last.
    pub time: Timestamp,
    /// When it happened first.
    pub first_time: Timestamp,
    /// How often.
    pub count: u64,
    /// The VE; none for the host as a whole.
    pub ve: Option<VeName>,
    /// Whether someone should look.
    pub r#type: EventType,
    /// A word in PascalCase.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Whether it was wanted or put something right; none for what vzd did not do.
    pub cause: Option<EventCause>,
    /// What it is about. Events about one thing are one event, whose message is the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// Whether someone should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Something is wrong.
    Warning,
}

/// Why vzd changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventCause {
    /// A manifest or an operator asked for it.
    Intentional,
    /// It had drifted from what was applied.
    Corrective,
}

impl From<disruption::Cause> for EventCause {
    fn from(cause: disruption::Cause) -> Self {
        match cause {
            disruption::Cause::Drift => Self::Corrective,
            disruption::Cause::Spec | disruption::Cause::Profile | disruption::Cause::Default => {
                Self::Intentional
            }
        }
    }
}

impl Event {
    /// An event that happened once, now.
    pub fn new(
        time: Timestamp,
        ve: Option<VeName>,
        r#type: EventType,
        reason: &str,
        message: String,
    ) -> Self {
        let reason = reason.to_owned();
        Self { time, first_time: time, count: 1, ve, r#type, reason, message, cause: None, about: None }
    }

    /// The same event about a thing, having happened so often.
    pub fn about(self, thing: &str, count: u64) -> Self {
        Self { about: Some(thing.to_owned()), count, ..self }
    }

    /// The same event with its cause.
    pub fn because(self, cause: impl Into<EventCause>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// Whether the two are about one thing or, where that is not said, say the same.
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        self.about == other.about && (self.about.is_some() || self.message == other.message)
    }

    fn repeats(&self, other: &Self) -> bool {
        self.ve == other.ve
            && self.r#type == other.r#type
            && self.reason == other.reason
            && self.is_about_the_same(other)
            && self.cause == other.cause
            && other.time.since(self.time) <= FOLD_WITHIN
    }
}

/// One line: the message, and how often in how long.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)?;
        if self.count > 1 {
            write!(f, " (x{} over {})", self.count, self.time.since(self.first_time))?;
        }
        Ok(())
    }
}

/// Adds an event to a log that is sorted by time, folding it into the one that it repeats, and keeps
/// the `most` latest.
pub fn fold(log: &mut Vec<Event>, event: Event, most: usize) {
    let event = match log.iter().rposition(|known| known.repeats(&event)) {
        Some(at) => {
            let known = log.remove(at);
            Event { first_time: known.first_time, count: known.count + event.count, ..event }
        }
        None => event,
    };
    log.push(event);
    let surplus = log.len().saturating_sub(most);
    log.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seconds: i64, message: &str) -> Event {
        Event::new(Timestamp(seconds * 1000), None, EventType::Warning, "BackOff", message.to_owned())
    }

    #[test]
    fn repeats_are_folded_and_others_are_not() {
        let mut log = Vec::new();
        for i in 0..17 {
            fold(&mut log, event(i * 63 / 2, "again"), 10);
            if i == 3 {
                fold(&mut log, event(i * 63 / 2, "other"), 10);
            }
        }
        assert_eq!(log.len(), 2);
        assert_eq!(log[0].message, "other");
        assert_eq!(log[1].to_string(), "BackOff: again (x17 over 8m24s)");
        for (held, times) in [(3, 1), (7, 2)] {
            let event = event(600, &format!("{held} are held")).about("numproc", times);
            fold(&mut log, event, 10);
        }
        fold(&mut log, event(600, "none is held").about("numfile", 1), 10);
        assert_eq!(log.len(), 4);
        assert_eq!(log[2].to_string(), "BackOff: 7 are held (x3 over 0ms)");
        log.truncate(2);
        fold(&mut log, event(100_000, "again"), 10);
        assert_eq!(log.len(), 3, "too late to be the same");
    }

    #[test]
    fn a_log_keeps_the_latest() {
        let mut log = Vec::new();
        for i in 0..5 {
            fold(&mut log, event(i, &i.to_string()), 3);
        }
        let kept: Vec<_> = log.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(kept, ["2", "3", "4"]);
    }
}
