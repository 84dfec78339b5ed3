//! What every document has: version, kind, name, labels.

use super::macros::{item, words};
use super::scalars::{LabelKey, LabelValue, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The version of the format.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ApiVersion {
    /// This version.
    #[default]
    #[serde(rename = "vzd/v1")]
    V1,
}

words! {
    /// What a document describes.
    pub enum Kind as "PascalCase" {
        /// A virtual environment.
        #[serde(rename = "VE")]
        Ve,
        /// Defaults that VEs name in `spec.profile`.
        Profile,
        /// Host-wide settings.
        Host,
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Ve, Self::Profile, Self::Host];

    /// The word that is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ve => "VE",
            Self::Profile => "Profile",
            Self::Host => "Host",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

item! {
    /// Who a document is about.
    pub struct Metadata {
        /// The name: a DNS label. It is the identity of a VE; another name is another VE.
        none name: Name;
        /// Words to select VEs by, such as `role: web`.
        live labels: BTreeMap<LabelKey, LabelValue>,
        /// Notes. `vzd/reconcile: disabled` pauses the care for this VE; `vzd/name` is another name that commands know it by; `vzd/disabled: yes` has `vzctl start` refuse it.
        live annotations: BTreeMap<LabelKey, String>,
    }
}

/// The annotation that is another name of a VE's, beside the one that is its identity: what OpenVZ called a name.
pub const ALIAS: &str = "vzd/name";

/// The annotation that has `vzctl start` refuse a VE: `yes`.
pub const DISABLED: &str = "vzd/disabled";

/// Whether a text can be such a name. A number is a ctid.
pub fn is_alias(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || " -+_.".contains(c);
    (1..=63).contains(&text.len())
        && text.chars().all(plain)
        && text.trim() == text
        && !text.starts_with('-')
        && !text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Metadata {
    /// Metadata with nothing but a name.
    pub fn named(name: Name) -> Self {
        Self { name, labels: BTreeMap::new(), annotations: BTreeMap::new() }
    }
}
