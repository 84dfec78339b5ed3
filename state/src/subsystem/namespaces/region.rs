//! Where a VE's people are: its time zone and its language, which are in files of its own.
//!
//! Both are in the VE's root and say the same to all of its programs; how the files are read and written is the driver's
//! matter. What was never set is not looked at.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};

use super::{Desired, Live, Observed};
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;
use crate::subsystem::{Changes, Cx, Mismatch, json};

const TIMEZONE: &str = "spec.timezone";
const LOCALE: &str = "spec.locale";

/// What the files say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionSeen {
    /// The name in them or, in words, what is there instead.
    pub is: Option<String>,
    /// What is wanted means nothing there: neither the VE nor the host has the rules of the zone; the VE has no data of
    /// the locale.
    #[serde(default)]
    pub unknown: bool,
}

/// Steps that make them as wanted.
pub(super) fn diff(changes: &mut Changes<Live, Infallible>, want: &Desired, have: &Observed, cx: &Cx<'_>) {
    let applied = cx.entry.and_then(|entry| entry.applied.namespaces.as_ref());
    let had = applied.and_then(|is| is.timezone.as_ref());
    let no_rules = have.timezone.is().is_some_and(|seen| seen.unknown).then_some(
        "neither the VE nor the host knows this time zone: mind the spelling, or install tzdata in one of them",
    );
    one(changes, TIMEZONE, want.timezone.as_ref(), &have.timezone, had, no_rules, |had, to| {
        Live::SetTimezone { had, to }
    });
    // A locale without data is a matter of what the VE has installed, and told elsewhere.
    let had = applied.and_then(|is| is.locale.as_ref());
    one(changes, LOCALE, want.locale.as_ref(), &have.locale, had, None, |had, to| Live::SetLocale {
        had,
        to,
    });
}

fn one(
    changes: &mut Changes<Live, Infallible>,
    field: &str,
    want: Option<&String>,
    have: &Reading<RegionSeen>,
    had: Option<&String>,
    missing: Option<&str>,
    step: impl FnOnce(Option<String>, Option<String>) -> Live,
) {
    let seen = match have {
        Reading::Unreadable(why) => return changes.cannot_read(field, why),
        Reading::Absent => return,
        Reading::Is(seen) => seen,
    };
    let (before, cause) = match (want, had) {
        (None, None) => return,
        (Some(_), _) if seen.is.as_ref() == want => return,
        (Some(_), _) => (seen.is.as_ref(), if want == had { Cause::Drift } else { Cause::Spec }),
        (None, Some(_)) => (had, Cause::Spec),
    };
    let missing = missing.filter(|_| want.is_some());
    let change =
        Change::new(field, json(&before), json(&want), Disruption::Live).because(cause).unless(missing);
    let index = changes.field(change);
    if missing.is_none() {
        changes.live.push((step(had.cloned(), want.cloned()), vec![index]));
    }
}

/// What of them is not as wanted.
pub(super) fn unsatisfied(want: &Desired, have: &Observed) -> impl Iterator<Item = Mismatch> {
    let both = [(TIMEZONE, &want.timezone, &have.timezone), (LOCALE, &want.locale, &have.locale)];
    both.into_iter().filter_map(|(field, want, have)| {
        let is = have.is().and_then(|seen| seen.is.as_ref());
        let differs = want.is_some() && want.as_ref() != is;
        differs.then(|| Mismatch::new(field, json(want), json(&is), Disruption::Live))
    })
}

/// What is set and means nothing to the VE's programs, with why.
pub fn unenforced(want: &Desired, have: &Observed) -> Option<String> {
    let locale = want.locale.as_ref().filter(|_| have.locale.is().is_some_and(|seen| seen.unknown))?;
    Some(format!(
        "locale: the VE has no data of {locale}: its own root can make them, by `locale-gen` or a package"
    ))
}
