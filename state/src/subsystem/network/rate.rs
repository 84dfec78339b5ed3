//! The bandwidth that a VE has as a whole, each way; what limits of single interfaces share with it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vzd_schema::v1::{self, BitRate, Limit};

use super::Live;
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;
use crate::subsystem::{Changes, Cx, Mismatch};

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// To the VE.
    In,
    /// From the VE.
    Out,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::In, Self::Out];

    /// As manifests say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }

    fn path(self) -> String {
        format!("spec.network.rate.{}", self.name())
    }
}

/// Bits a second, each way; no entry where there is no limit.
pub type Rates = BTreeMap<Direction, u64>;

/// A limit as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shaped {
    /// Bits a second.
    pub rate: u64,
    /// The VE's interfaces whose packets go past it, by their names on the host.
    pub past: BTreeSet<String>,
}

/// The limits that a manifest asks for. The kernel counts whole bytes a second.
pub(crate) fn lower(given: &v1::Rate) -> Rates {
    let bits = |limit: Option<Limit<BitRate>>| match limit {
        None | Some(Limit::Unlimited) => None,
        Some(Limit::At(rate)) => Some((rate.bits() / 8 * 8).max(8)),
    };
    let both = [(Direction::In, bits(given.r#in)), (Direction::Out, bits(given.out))];
    both.into_iter().filter_map(|(direction, bits)| Some((direction, bits?))).collect()
}

pub(super) fn shown(rate: Option<u64>) -> Value {
    rate.map_or(Value::Null, |bits| BitRate::from_bits(bits).to_string().into())
}

fn seen_as(seen: Option<&Shaped>) -> Value {
    match seen {
        Some(Shaped { rate, past }) if !past.is_empty() => {
            let past: Vec<&str> = past.iter().map(String::as_str).collect();
            format!("{}, not for {}", BitRate::from_bits(*rate), past.join(", ")).into()
        }
        other => shown(other.map(|shaped| shaped.rate)),
    }
}

fn is(want: u64, seen: Option<&Shaped>) -> bool {
    seen.is_some_and(|Shaped { rate, past }| *rate == want && past.is_empty())
}

/// Steps that make the limits as wanted.
pub(super) fn diff(
    changes: &mut Changes<Live, Infallible>,
    wanted: &Rates,
    seen: &Reading<BTreeMap<Direction, Shaped>>,
    cx: &Cx<'_>,
) {
    let seen = match seen {
        Reading::Unreadable(why) => return changes.cannot_read("spec.network.rate", why),
        Reading::Absent => return,
        Reading::Is(seen) => seen,
    };
    let none = Rates::new();
    let applied = cx.entry.and_then(|entry| entry.applied.network.as_deref());
    let applied = applied.map_or(&none, |applied| &applied.rates);
    for direction in Direction::ALL {
        let (want, had, is_now) =
            (wanted.get(&direction).copied(), applied.get(&direction).copied(), seen.get(&direction));
        let missing = cx.caps.shaping.missing();
        let step = |from| Live::SetRate { direction, from, to: want };
        match want {
            None if had.is_none() => {}
            None => {
                let change = Change::new(direction.path(), seen_as(is_now), Value::Null, Disruption::Live);
                let indices = if is_now.is_some() { vec![changes.field(change)] } else { Vec::new() };
                changes.live.push((step(had), indices));
            }
            Some(rate) if is(rate, is_now) => {}
            Some(_) => {
                let cause = if want == had { Cause::Drift } else { Cause::Spec };
                let change = Change::new(direction.path(), seen_as(is_now), shown(want), Disruption::Live)
                    .because(cause)
                    .unless(missing);
                let index = changes.field(change);
                if missing.is_none() {
                    changes.live.push((step(is_now.map(|is| is.rate)), vec![index]));
                }
            }
        }
    }
}

/// What of the limits is not as wanted.
pub(super) fn satisfied(wanted: &Rates, seen: &Reading<BTreeMap<Direction, Shaped>>) -> Vec<Mismatch> {
    let seen = |direction: &Direction| seen.is().and_then(|seen| seen.get(direction));
    let wrong = wanted.iter().filter(|(direction, rate)| !is(**rate, seen(direction)));
    wrong
        .map(|(direction, rate)| {
            Mismatch::new(direction.path(), shown(Some(*rate)), seen_as(seen(direction)), Disruption::Live)
        })
        .collect()
}
