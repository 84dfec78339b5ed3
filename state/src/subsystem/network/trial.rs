//! A packet filter that a VE has on trial: one that has been changed stays only if the VE can still be reached with it.
//!
//! The record of it is in the ledger before the filter is loaded, so that whoever comes after a controller that was
//! killed goes on with it.

use serde::{Deserialize, Serialize};

use super::Desired;
use crate::digest::sha256_hex;
use crate::status::Health;
use crate::subsystem::Cx;
use crate::units::{Millis, Timestamp};

/// From one look at a VE whose filter is on trial to the next.
const AGAIN: Millis = Millis::from_secs(1);

/// A filter on trial, or one that has failed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trial {
    /// Digest of what the manifest says of the filter: while it says that, one that has failed is not loaded again.
    pub wish: String,
    /// The text that was there before, and is put back.
    pub before: Option<String>,
    /// When it began.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// The host reached the VE before.
    pub reached: bool,
    /// The VE's health probe was content before.
    pub healthy: bool,
    /// Why it has failed, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// What a trial comes to so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The VE can be reached.
    Passed,
    /// It cannot, as it could before.
    Failed(String),
    /// Nothing is certain yet: look again then.
    Open(Timestamp),
}

impl Trial {
    /// One for what is wanted, if that is to be tried; `running`: one that is under way. `None` where the wish is none that
    /// needs a trial: it asks for none, or for what was there before.
    pub(super) fn of(
        want: &Desired,
        had: Option<&String>,
        running: Option<&Self>,
        reached: Option<bool>,
        cx: &Cx<'_>,
    ) -> Option<Self> {
        let (wish, confirm) = (wish(want)?, want.confirm?);
        // What was never confirmed is nothing to go back to.
        let before = running.map_or(had, |running| running.before.as_ref());
        if before == want.firewall.as_ref() {
            return None;
        }
        let before = before.cloned();
        let (reached, healthy) = match running {
            Some(running) => (running.reached, running.healthy),
            None => (reached == Some(true), *cx.health == Health::Healthy),
        };
        Some(Self { wish, before, since: cx.now, until: cx.now + confirm, reached, healthy, failed: None })
    }

    /// Whether it is still open.
    pub fn is_open(&self) -> bool {
        self.failed.is_none()
    }

    /// Why what is wanted is not carried out: it has failed before.
    pub fn refuses(&self, want: &Desired) -> Option<&str> {
        self.failed.as_deref().filter(|_| wish(want).as_ref() == Some(&self.wish))
    }

    /// `reached`: whether the host reaches the VE now.
    pub(super) fn judge(&self, reached: Option<bool>, cx: &Cx<'_>) -> Verdict {
        if self.reached && reached == Some(false) {
            return Verdict::Failed("the host does not reach the VE any more, as it did before".to_owned());
        }
        match cx.health {
            Health::Unhealthy(why) if self.healthy => return Verdict::Failed(why.clone()),
            Health::Unknown if self.healthy && cx.now >= self.until => return Verdict::Open(cx.now + AGAIN),
            _ if cx.now < self.until => return Verdict::Open(self.until.min(cx.now + AGAIN)),
            _ => {}
        }
        match (self.reached, reached) {
            (true, None) => Verdict::Open(cx.now + AGAIN),
            _ => Verdict::Passed,
        }
    }
}

/// Digest of what a manifest says of the filter, if it says anything.
fn wish(want: &Desired) -> Option<String> {
    let text = want.firewall.as_ref()?;
    Some(sha256_hex(format!("{}\n{text}", want.confirm.map_or(0, |confirm| confirm.0)).as_bytes()))
}

/// The text that is to be in force: what is wanted, or what was there before it failed.
pub fn in_force<'a>(want: &'a Desired, trial: Option<&'a Trial>) -> Option<&'a String> {
    match trial.filter(|trial| trial.refuses(want).is_some()) {
        Some(failed) => failed.before.as_ref(),
        None => want.firewall.as_ref(),
    }
}
