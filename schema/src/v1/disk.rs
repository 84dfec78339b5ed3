//! The disk of a VE: how much, and how it is kept.

use super::macros::{group, words};
use super::scalars::{Count, Duration, Pair, Size};

group! {
    /// Disk of a VE.
    pub struct Disk {
        /// Disk space, `soft:hard`. A bare number is bytes. Default: no limit.
        live diskspace: Option<Pair<Size>>,
        /// Files and directories, `soft:hard`. Default: no limit.
        live diskinodes: Option<Pair<Count>>,
        /// How long the soft limit may be exceeded. Default: 0.
        live quotatime: Option<Duration>,
        /// How many users and groups in the VE may have quotas of their own, set by its root with `setquota` and the like;
        /// 0 is none. It takes `backend: project`.
        restart quotaugidlimit: Option<u32> = 0,
        /// How the limits are kept.
        recreate backend: Option<DiskBackend> = DiskBackend::Auto,
        /// Mount the VE's root read-only.
        live read_only: Option<bool> = false,
        /// Further mount options of the root.
        live mount_options: Vec<String>,
    }
}

words! {
    /// What keeps a VE's disk limits.
    pub enum DiskBackend as "camelCase" {
        /// What the host's file system can do best.
        Auto,
        /// A project quota of ext4 or xfs.
        Project,
        /// A file system of its own, in an image file.
        Image,
        /// A subvolume with a quota group.
        Btrfs,
    }
}
