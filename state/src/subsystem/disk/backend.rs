//! What can keep a VE's own files, and what each can do.

use serde::{Deserialize, Serialize};

use super::Resource;
use crate::capability::Capabilities;

/// What keeps a VE's own files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Backend {
    /// A directory of the host's file system, without limits.
    #[default]
    Directory,
    /// A directory with a quota of its project, on the host's file system or in the pool.
    Project,
    /// A file system of its own, in an image file.
    Image,
    /// A subvolume of the host's btrfs with a quota group.
    Btrfs,
}

impl Backend {
    /// Why this host can't do it.
    pub fn missing(self, caps: &Capabilities) -> Option<&str> {
        match self {
            Self::Directory => None,
            Self::Project => caps.disk_project.missing(),
            Self::Image => caps.disk_image.missing(),
            Self::Btrfs => caps.disk_btrfs.missing(),
        }
    }

    /// Whether it keeps limits of a resource, and counts it.
    pub fn limits(self, resource: Resource) -> bool {
        match self {
            Self::Directory => false,
            Self::Project | Self::Image => true,
            Self::Btrfs => resource == Resource::Space,
        }
    }

    /// Whether it can have quotas of a VE's own users and groups.
    pub fn keeps_users(self) -> bool {
        self == Self::Project
    }

    /// The word in manifests, which have none for a directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Project => "project",
            Self::Image => "image",
            Self::Btrfs => "btrfs",
        }
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
