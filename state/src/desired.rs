//! What the manifests want of one VE, with every default filled in. `lower` makes it from a manifest.
//!
//! It holds no trace of how the manifest was spelled, only where each field was said.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vzd_schema::v1::HostName;

use crate::digest::SpecDigest;
use crate::ids::{Ctid, VeName};
use crate::subsystem::{
    beancounters, cgroup, devices, disk, lifecycle, namespaces, network, packages, users,
};

/// A place in a manifest file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceRef {
    /// Path of the file; shared by all places in it.
    pub file: Arc<str>,
    /// Line in it, from 1.
    pub line: u32,
}

impl fmt::Display for SourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Who says a field, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldSource {
    /// The place.
    pub place: SourceRef,
    /// A profile or the host says it, not the VE's own manifest.
    #[serde(default)]
    pub inherited: bool,
}

/// Where fields are said, by their path. In one piece and no larger than it must be: there is one for each VE known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, FieldSource>", into = "BTreeMap<String, FieldSource>")]
pub struct Places(Box<[(Box<str>, FieldSource)]>);

impl Places {
    /// Where a field is said, if it is.
    pub fn get(&self, field: &str) -> Option<&FieldSource> {
        let at = self.0.binary_search_by(|(path, _)| (**path).cmp(field)).ok()?;
        Some(&self.0[at].1)
    }
}

impl From<BTreeMap<String, FieldSource>> for Places {
    fn from(sorted: BTreeMap<String, FieldSource>) -> Self {
        Self(sorted.into_iter().map(|(path, source)| (path.into(), source)).collect())
    }
}

impl From<Places> for BTreeMap<String, FieldSource> {
    fn from(places: Places) -> Self {
        places.0.into_iter().map(|(path, source)| (path.into(), source)).collect()
    }
}

/// Everything that is wanted of one VE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The VE's name.
    pub name: VeName,
    /// The ctid that the manifest fixes; none lets vzd choose.
    pub ctid: Option<Ctid>,
    /// Where the manifest lies.
    pub source: SourceRef,
    /// Labels, for selectors.
    pub labels: BTreeMap<String, String>,
    /// Annotations, for notes and switches.
    pub annotations: BTreeMap<String, String>,
    /// The host that it is to be on; none leaves it where it is.
    pub host: Option<HostName>,
    /// A line about the VE.
    pub description: Option<String>,
    /// The spec as resolved, kept in the ledger as the last good one and shared with it.
    pub spec: Arc<Value>,
    /// Digest of `spec`.
    pub digest: SpecDigest,
    /// Where fields are said, by their path; a field that is not here has its default.
    pub fields: Places,
    /// Whether and how it runs.
    pub lifecycle: lifecycle::Desired,
    /// Its control group.
    pub cgroup: cgroup::Desired,
    /// Its beancounters.
    pub beancounters: beancounters::Desired,
    /// Its root file system.
    pub disk: disk::Desired,
    /// What it sees of its own.
    pub namespaces: namespaces::Desired,
    /// Its devices.
    pub devices: devices::Desired,
    /// Its network.
    pub network: network::Desired,
    /// Users inside it.
    pub users: users::Desired,
    /// Software inside it.
    pub packages: packages::Desired,
}

impl Desired {
    /// Where a field is said: the place of the field itself or of the nearest one around it.
    pub fn source_of(&self, field: &str) -> Option<&SourceRef> {
        self.field_source(field).map(|source| &source.place)
    }

    /// Whether a field is said by a profile or the host.
    pub fn is_inherited(&self, field: &str) -> bool {
        self.field_source(field).is_some_and(|source| source.inherited)
    }

    fn field_source(&self, field: &str) -> Option<&FieldSource> {
        let mut path = field;
        loop {
            if let Some(source) = self.fields.get(path) {
                return Some(source);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}
