//! The list of contents of a checkpoint: whose it is, what it takes to bring it back, and each file of it with its length and
//! digest. It comes from elsewhere too: no name in it may lead out of the directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vzd_state::units::Timestamp;

use super::files::{is_plain, parse};
use super::groups::Group;
use super::nodes::DevEntry;
use super::packed::{self, is_packed};
use super::sum::Sum;
use crate::error::{At, SysError, SysResult};
use crate::runtime::quotas::Kept;

/// What this version reads: all that any before has written, too, since a VE may be suspended while vzd is renewed.
pub(super) const FORMAT: u32 = 5;
/// The list of contents.
pub(super) const LIST: &str = "checkpoint.json";
/// More is no list of contents.
pub(super) const LARGEST_LIST: u64 = 4 << 20;

/// The list of contents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contents {
    /// Format of the checkpoint.
    pub format: u32,
    /// The VE.
    pub uid: String,
    /// First id of its range.
    pub id_base: u32,
    /// Ids in its range.
    pub id_count: u32,
    /// When it was made.
    pub at: Timestamp,
    /// The kernel it was made on.
    pub kernel: String,
    /// CRIU's name of the console.
    pub tty: String,
    /// Mounts of the host's by their path in the VE, and CRIU's names of them.
    pub mounts: BTreeMap<String, String>,
    /// What the VE had in its /dev.
    pub dev: Vec<DevEntry>,
    /// The groups it was in, by controller.
    #[serde(default)]
    pub groups: BTreeMap<String, String>,
    /// Groups that it has made within its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups_inside: Vec<Group>,
    /// Quotas of the VE's own users, if it had the right to set any.
    #[serde(default)]
    pub users: Option<Kept>,
    /// Established TCP connections are not in it: they are closed when the VE goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closes_tcp: bool,
    /// In how many rounds memory was written ahead.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ahead: u32,
    /// CRIU's files.
    pub files: BTreeMap<String, Sum>,
}

impl Contents {
    /// The first format that knows all that is in it.
    pub(super) fn needs(&self) -> u32 {
        match self.groups_inside.is_empty() {
            _ if self.files.keys().any(|name| is_packed(name)) => FORMAT,
            false => 4,
            true if self.ahead > 0 => 3,
            true => 2,
        }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The list in a checkpoint's directory, if there is one.
pub(super) fn read(dir: &Path) -> SysResult<Contents> {
    let path = dir.join(LIST);
    let mut text = Vec::new();
    let file = File::open(&path).at("open", path.display())?;
    file.take(LARGEST_LIST).read_to_end(&mut text).at("read", path.display())?;
    serde_json::from_slice(&text).map_err(|e| SysError::refused("read", path.display(), e))
}

/// The list, if all names in it are of files of the checkpoint's.
pub(super) fn sound(dir: &Path) -> SysResult<Contents> {
    let contents = read(dir)?;
    // A compressed one is known as such, and nothing else is where it is written out.
    let is_right = |name: &str, sum: &Sum| match packed::plain(name) {
        Some(plain) => sum.plain().is_some() && !contents.files.contains_key(plain),
        None => sum.plain().is_none(),
    };
    let is_wrong = |(name, sum): &(&String, &Sum)| parse(name).is_none() || !is_right(name, sum);
    let mut files = contents.files.iter().filter(is_wrong).map(|(name, _)| name);
    let mut mounts = contents.mounts.values().filter(|name| !is_plain(name));
    if let Some(group) = contents.groups_inside.iter().find(|group| !group.is_sound()) {
        let why = format_args!("{group:?} is none that a VE makes within its own").to_string();
        return Err(SysError::refused("use", dir.display(), why));
    }
    match files.next().or(mounts.next()) {
        Some(name) => {
            Err(SysError::refused("use", dir.display(), format_args!("{name:?} is no name of a file in it")))
        }
        None => Ok(contents),
    }
}
