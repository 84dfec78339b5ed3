//! OpenVZ's user beancounters: the bounds of each, and those of them that the kernel enforces by other
//! means than a control group.
//!
//! `numproc`, `physpages`, `swappages` and the guarantees are limits of the VE's control group
//! (`cgroup`). A counter that a stock kernel cannot limit is counted, and said to be only that.

mod bounds;

use std::collections::BTreeMap;
use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use self::bounds::{Bound, Counter, Enforcement, UNLIMITED, Unit, enforcement, fill};
use super::cgroup::Value;
use super::{Changes, Cx, Mismatch, Subsystem, json};
use crate::capability::Capabilities;
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;

/// What is wanted of the counters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The bounds of counters; one that is not here has none.
    pub bounds: BTreeMap<Counter, Bound>,
    /// What is to be set beside the control group: only what a manifest says.
    pub settings: BTreeMap<Setting, Value>,
}

/// A limit that is set inside the VE's namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Setting {
    /// Terminals of its devpts.
    Terminals,
    /// Pages of System V shared memory (kernel.shmall).
    SharedMemory,
    /// TCP sockets, by a program on its control group.
    TcpSockets,
    /// Other sockets over IPv4 and IPv6, likewise.
    OtherSockets,
    /// Open files, by a program at the kernel's security hooks.
    Files,
}

impl Setting {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Terminals, Self::SharedMemory, Self::TcpSockets, Self::OtherSockets, Self::Files];

    /// The counter that it enforces.
    pub fn counter(self) -> Counter {
        match self {
            Self::Terminals => Counter::Numpty,
            Self::SharedMemory => Counter::Shmpages,
            Self::TcpSockets => Counter::Numtcpsock,
            Self::OtherSockets => Counter::Numothersock,
            Self::Files => Counter::Numfile,
        }
    }

    /// Whether it is set before init runs: sockets and files that are made before are not counted.
    pub fn before_start(self) -> bool {
        matches!(self, Self::TcpSockets | Self::OtherSockets | Self::Files)
    }

    /// Why this host cannot set it. The counter is then only counted.
    pub fn missing(self, caps: &Capabilities) -> Option<&str> {
        match self {
            Self::TcpSockets | Self::OtherSockets => caps.socket_counters.missing(),
            Self::Files => caps.file_counters.missing(),
            Self::Terminals | Self::SharedMemory => None,
        }
    }

    fn field(self) -> String {
        format!("spec.beancounters.{}", self.counter())
    }
}

/// What is seen; absent when the VE doesn't run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// At least what is wanted or what the ledger says was set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<Setting, Reading<Value>>,
}

impl Observed {
    /// What would be seen of a VE that runs without any limit.
    pub(crate) fn nothing() -> Self {
        Self { settings: Setting::ALL.map(|setting| (setting, Reading::Is(Value::max()))).into() }
    }
}

/// Steps for a running VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Live {
    /// Set a limit.
    Set {
        /// Which.
        setting: Setting,
        /// The limit before.
        from: Value,
        /// The limit to set.
        to: Value,
    },
    /// Take a limit away that nobody wants any more.
    Reset {
        /// Which.
        setting: Setting,
        /// The limit before.
        from: Value,
    },
}

/// What a start sets before init runs.
pub fn set_by_start(want: &Desired, caps: &Capabilities) -> BTreeMap<Setting, Value> {
    let settings = want.settings.iter();
    let early = settings.filter(|(setting, _)| setting.before_start() && setting.missing(caps).is_none());
    early.map(|(setting, value)| (*setting, value.clone())).collect()
}

/// The counters that are bounded and that this host lacks the means to enforce, each with why.
pub fn unenforced(want: &Desired, caps: &Capabilities) -> String {
    let missing = want.settings.iter().filter(|(_, value)| value.is_limit());
    let told =
        missing.filter_map(|(setting, _)| Some(format!("{}: {}", setting.counter(), setting.missing(caps)?)));
    told.collect::<Vec<_>>().join("; ")
}

/// The subsystem.
#[derive(Debug)]
pub struct Beancounters;

impl Subsystem for Beancounters {
    type Desired = Desired;
    type Observed = Observed;
    type Live = Live;
    type Cold = Infallible;

    fn diff(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Changes<Live, Infallible> {
        // Bounds that nothing enforces need nothing done: they are read where counters are shown.
        let Desired { bounds: _, settings } = want;
        let Observed { settings: seen } = have;
        let none = BTreeMap::new();
        let applied = cx.entry.and_then(|entry| entry.applied.beancounters.as_ref()).unwrap_or(&none);
        let mut changes = Changes::default();
        for (setting, seen) in seen.iter().filter(|(setting, _)| setting.missing(cx.caps).is_none()) {
            let from = match seen {
                Reading::Unreadable(why) => {
                    changes.cannot_read(&setting.field(), why);
                    continue;
                }
                Reading::Absent => continue,
                Reading::Is(from) => from.clone(),
            };
            let before = Json::from(from.is_limit().then(|| from.to_string()));
            match settings.get(setting) {
                Some(to) if *to == from => {}
                Some(to) => {
                    let cause = if applied.get(setting) == Some(to) { Cause::Drift } else { Cause::Spec };
                    let after = if to.is_limit() { to.to_string() } else { "unlimited".to_owned() };
                    let change = Change::new(setting.field(), before, after.into(), Disruption::Live);
                    let index = changes.field(change.because(cause));
                    let step = Live::Set { setting: *setting, from, to: to.clone() };
                    changes.live.push((step, vec![index]));
                }
                None if applied.contains_key(setting) && from.is_limit() => {
                    let change = Change::new(setting.field(), before, Json::Null, Disruption::Live);
                    let index = changes.field(change);
                    changes.live.push((Live::Reset { setting: *setting, from }, vec![index]));
                }
                None => {}
            }
        }
        changes
    }

    fn satisfied(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Vec<Mismatch> {
        let Desired { bounds: _, settings } = want;
        let Observed { settings: seen } = have;
        let wrong = |(setting, to): (&Setting, &Value)| {
            let is = seen.get(setting);
            let wrong = is.and_then(Reading::is) != Some(to) && setting.missing(cx.caps).is_none();
            wrong.then(|| Mismatch::new(setting.field(), json(to), json(&is), Disruption::Live))
        };
        settings.iter().filter_map(wrong).collect()
    }
}
