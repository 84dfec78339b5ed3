//! Whether the VE may write to its root at all: a matter of the whole file system, which the VE's own root cannot change.

use super::{Cold, Live};
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;
use crate::subsystem::{Changes, Cx, Mismatch};

const FIELD: &str = "spec.disk.readOnly";

/// The step that makes it as wanted. What was never set is not looked at.
pub(super) fn diff(changes: &mut Changes<Live, Cold>, want: bool, have: &Reading<bool>, cx: &Cx<'_>) {
    match have {
        Reading::Unreadable(why) => changes.cannot_read(FIELD, why),
        Reading::Is(is) if *is != want => {
            let set = cx.entry.and_then(|entry| entry.disk.as_ref()).is_some_and(|disk| disk.read_only);
            let cause = if set == want { Cause::Drift } else { Cause::Spec };
            let change = Change::new(FIELD, (*is).into(), want.into(), Disruption::Live).because(cause);
            let index = changes.field(change);
            changes.live.push((Live::SetReadOnly { to: want }, vec![index]));
        }
        Reading::Is(_) | Reading::Absent => {}
    }
}

/// What of it is not as wanted.
pub(super) fn unsatisfied(want: bool, have: &Reading<bool>) -> Option<Mismatch> {
    let is = have.is().filter(|is| **is != want)?;
    Some(Mismatch::new(FIELD, want.into(), (*is).into(), Disruption::Live))
}
