//! Linux capabilities as a set with one canonical form.

use std::fmt;

use serde::{Deserialize, Serialize};
use vzd_schema::v1::{Capability, ScalarError};

/// What a VE does not have unless its manifest adds it. Without SYS_RAWIO systemd skips the units that
/// would fail; SYS_BOOT stays, so that the owner can halt and reboot.
const DROPPED: [&str; 13] = [
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_PACCT",
    "SYS_TIME",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities: bit n is the capability with number n. Written as a sorted list of names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct CapSet(u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// Every capability that is known here.
    pub fn all() -> Self {
        Capability::all().fold(Self::EMPTY, Self::with)
    }

    /// The bits, as the kernel's interfaces take them.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The set with one more.
    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability.number())
    }

    /// The set with one less.
    #[must_use]
    pub fn without(self, capability: Capability) -> Self {
        Self(self.0 & !(1 << capability.number()))
    }

    /// Whether the capability is in the set.
    pub fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability.number() != 0
    }

    /// The members in the kernel's order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::all().filter(move |capability| self.has(*capability))
    }
}

/// What a VE has unless its manifest says otherwise.
impl Default for CapSet {
    fn default() -> Self {
        DROPPED.iter().filter_map(|name| name.parse().ok()).fold(Self::all(), Self::without)
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Capability::name)).finish()
    }
}

impl TryFrom<Vec<String>> for CapSet {
    type Error = ScalarError;

    fn try_from(names: Vec<String>) -> Result<Self, ScalarError> {
        names.iter().try_fold(Self::EMPTY, |set, name| Ok(set.with(name.parse()?)))
    }
}

impl From<CapSet> for Vec<String> {
    fn from(set: CapSet) -> Self {
        set.iter().map(|capability| capability.name().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_drops_what_no_ve_needs() {
        let set = CapSet::default();
        for name in DROPPED {
            assert!(!set.has(name.parse().unwrap()), "{name}");
        }
        for name in ["SYS_BOOT", "cap_sys_admin", "NET_ADMIN", "MKNOD"] {
            assert!(set.has(name.parse().unwrap()), "{name}");
        }
        assert_eq!(set.iter().count(), 28);
        assert_eq!("CAP_CHECKPOINT_RESTORE".parse::<Capability>().unwrap().number(), 40);
    }

    #[test]
    fn a_set_survives_json() {
        let json = serde_json::to_string(&CapSet::default()).unwrap();
        assert_eq!(serde_json::from_str::<CapSet>(&json).unwrap(), CapSet::default());
        assert!(serde_json::from_str::<CapSet>(r#"["FLY"]"#).is_err());
    }
}
