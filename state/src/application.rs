//! What the image of a program says about how to run it: the command that is process 1 where a manifest names none.
//!
//! It is the template's word, not the manifest's: it comes in with the root that was made of the template, and the ledger
//! keeps it with that root. Nothing here may look into a template.

use serde::{Deserialize, Serialize};

/// How the program of an image is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Application {
    /// The command; its first word is looked up in `PATH` if it has no slash.
    pub command: Vec<String>,
    /// Environment, `NAME=value`, over that which every VE has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Working directory, absolute; it is made if it is not there.
    pub dir: String,
    /// Whom it runs as; root if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The signal that asks it to stop; the usual one if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<i32>,
}

/// A user by number, as the VE sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
}
