//! Linux capabilities as a set with one canonical form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names by number, without `CAP_`, in the kernel's order.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
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

/// One capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cap(u8);

impl Cap {
    /// The kernel's number of the capability.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The name without `CAP_`.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }
}

/// A name that no capability has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no capability {0:?}")]
pub struct UnknownCap(pub String);

/// In any case, with or without `CAP_`.
impl FromStr for Cap {
    type Err = UnknownCap;

    fn from_str(text: &str) -> Result<Self, UnknownCap> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == name).and_then(|n| u8::try_from(n).ok());
        number.map(Self).ok_or_else(|| UnknownCap(text.to_owned()))
    }
}

/// A set of capabilities: bit n is the capability with number n. Written as a sorted list of names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct CapSet(u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// Every capability that is known here.
    pub fn all() -> Self {
        Self((1 << NAMES.len()) - 1)
    }

    /// The bits, as the kernel's interfaces take them.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The set with one more.
    #[must_use]
    pub fn with(self, cap: Cap) -> Self {
        Self(self.0 | 1 << cap.0)
    }

    /// The set with one less.
    #[must_use]
    pub fn without(self, cap: Cap) -> Self {
        Self(self.0 & !(1 << cap.0))
    }

    /// Whether the capability is in the set.
    pub fn has(self, cap: Cap) -> bool {
        self.0 & 1 << cap.0 != 0
    }

    /// The members in the kernel's order.
    pub fn iter(self) -> impl Iterator<Item = Cap> {
        (0u8..).take(NAMES.len()).map(Cap).filter(move |cap| self.has(*cap))
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
        f.debug_set().entries(self.iter().map(Cap::name)).finish()
    }
}

impl TryFrom<Vec<String>> for CapSet {
    type Error = UnknownCap;

    fn try_from(names: Vec<String>) -> Result<Self, UnknownCap> {
        names.iter().try_fold(Self::EMPTY, |set, name| Ok(set.with(name.parse()?)))
    }
}

impl From<CapSet> for Vec<String> {
    fn from(set: CapSet) -> Self {
        set.iter().map(|cap| cap.name().to_owned()).collect()
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
        assert_eq!("CAP_CHECKPOINT_RESTORE".parse::<Cap>().unwrap().number(), 40);
    }

    #[test]
    fn a_set_survives_json() {
        let json = serde_json::to_string(&CapSet::default()).unwrap();
        assert_eq!(serde_json::from_str::<CapSet>(&json).unwrap(), CapSet::default());
        assert!(serde_json::from_str::<CapSet>(r#"["FLY"]"#).is_err());
    }
}
