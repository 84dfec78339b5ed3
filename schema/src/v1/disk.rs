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
        /// Options of the mount that the VE has of its root. They are fixed by its start, so that its own root cannot undo
        /// them.
        restart mount_options: Vec<MountOption>,
    }
}

words! {
    /// An option of the mount of a VE's root. `noexec` is none: nothing of the VE could run, not even its init.
    pub enum MountOption as "lowercase" {
        /// Reading leaves times of access as they are.
        Noatime,
        /// Reading renews a time of access that is a day old or older than the last change. That is so without any option.
        Relatime,
        /// Every reading renews the time of access.
        Strictatime,
        /// Reading directories leaves their times of access as they are.
        Nodiratime,
        /// Set-user-id bits have no effect: nobody in the VE becomes root by `su` or `sudo`.
        Nosuid,
        /// Device nodes do not open. That is so without any option.
        Nodev,
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
