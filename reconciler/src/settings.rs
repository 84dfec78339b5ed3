//! Where vzd keeps its things: the common flags and environment of every command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::User;
use vzd_state::ids::{VeName, VeUid};
use vzd_state::placement::HostName;

/// Directories and names. Two controllers with different ones do not see each other.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Settings {
    /// Directory of manifests.
    #[arg(
        long,
        global = true,
        env = "VZD_MANIFESTS",
        default_value = "/etc/vzd/manifests",
        value_name = "DIR"
    )]
    pub manifests: PathBuf,
    /// A user who may own manifests and their directory, besides root.
    #[arg(long, global = true, env = "VZD_MANIFEST_USER", value_name = "USER", value_parser = user_id)]
    pub manifest_user: Option<u32>,
    /// Directory of records, templates and VEs' own files.
    #[arg(long, global = true, env = "VZD_STATE_DIR", default_value = "/var/lib/vzd", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Directory of sockets and locks; emptied by a reboot.
    #[arg(long, global = true, env = "VZD_RUN_DIR", default_value = "/run/vzd", value_name = "DIR")]
    pub run_dir: PathBuf,
    /// Subtree of every control group hierarchy that VEs live in.
    #[arg(long, global = true, env = "VZD_CGROUP_ROOT", default_value = "vzd", value_name = "NAME")]
    pub cgroup_root: String,
    /// CRIU, which writes VEs to disk and resumes them.
    #[arg(long, global = true, env = "VZD_CRIU", default_value = "/usr/sbin/criu", value_name = "FILE")]
    pub criu: PathBuf,
    /// Directory of OpenVZ's action scripts.
    #[arg(long, global = true, env = "VZD_SCRIPTS", default_value = "/etc/vz/conf", value_name = "DIR")]
    pub scripts: PathBuf,
    /// Directory of the certificates by which hosts know each other.
    #[arg(long, global = true, env = "VZD_PKI", default_value = "/etc/vzd/pki", value_name = "DIR")]
    pub pki: PathBuf,
    /// Where the host looks names up, as resolv.conf(5) says it.
    #[arg(
        long,
        global = true,
        env = "VZD_RESOLV_CONF",
        default_value = "/etc/resolv.conf",
        value_name = "FILE"
    )]
    pub resolv_conf: PathBuf,
    /// What this host is called, where VEs are to be on hosts. Default: its node name, as `uname -n` tells it.
    #[arg(long, global = true, env = "VZD_HOST", value_name = "NAME")]
    pub host_name: Option<HostName>,
    /// Quiet time after the last change in the directory before it is read, in milliseconds.
    #[arg(long, global = true, env = "VZD_SETTLE", default_value_t = 50, value_name = "MS")]
    pub settle: u64,
}

/// The number of a user, by that or by name.
fn user_id(user: &str) -> Result<u32, String> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    match User::from_name(user) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err("there is no such user on this host".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

impl Settings {
    /// What this host is called; nothing if its node name is no name.
    pub fn own_name(&self) -> Option<HostName> {
        self.host_name.clone().or_else(|| rustix::system::uname().nodename().to_string_lossy().parse().ok())
    }

    /// The same settings for another vzd, in its environment.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, OsString)> {
        let own = self.own_name().map(|own| ("VZD_HOST", own.to_string().into()));
        let user = self.manifest_user.map(|user| ("VZD_MANIFEST_USER", user.to_string().into()));
        let others: [(&'static str, OsString); 9] = [
            ("VZD_MANIFESTS", self.manifests.clone().into()),
            ("VZD_STATE_DIR", self.state_dir.clone().into()),
            ("VZD_RUN_DIR", self.run_dir.clone().into()),
            ("VZD_CGROUP_ROOT", self.cgroup_root.clone().into()),
            ("VZD_CRIU", self.criu.clone().into()),
            ("VZD_SCRIPTS", self.scripts.clone().into()),
            ("VZD_PKI", self.pki.clone().into()),
            ("VZD_RESOLV_CONF", self.resolv_conf.clone().into()),
            ("VZD_SETTLE", self.settle.to_string().into()),
        ];
        others.into_iter().chain(own).chain(user)
    }

    /// The controller's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("vzd.sock")
    }

    /// Held by whoever changes things: the controller, or a command when there is none.
    pub fn host_lock(&self) -> PathBuf {
        self.state_dir.join("lock")
    }

    /// Ledger entries, one file a VE.
    pub fn ledger_dir(&self) -> PathBuf {
        self.state_dir.join("ledger")
    }

    /// The boot in which the host stopped its VEs, if they have not been told of the next one yet.
    pub fn host_stop(&self) -> PathBuf {
        self.state_dir.join("host-stop")
    }

    /// How many VEs have arrived from other hosts.
    pub fn arrivals(&self) -> PathBuf {
        self.state_dir.join("arrivals")
    }

    /// The event log.
    pub fn events_file(&self) -> PathBuf {
        self.state_dir.join("events.jsonl")
    }

    /// The most that was seen of counters, one file a VE; gone with the host's boot, as the VEs are.
    pub fn peaks_dir(&self) -> PathBuf {
        self.run_dir.join("peaks")
    }

    /// What VEs are shown of themselves, a directory a VE.
    pub fn shown_dir(&self, uid: &VeUid) -> PathBuf {
        self.run_dir.join("shown").join(uid.as_str())
    }

    /// What all VEs hold of each counter, as OpenVZ's /proc/user_beancounters; written when somebody reads it.
    pub fn user_beancounters(&self) -> PathBuf {
        self.run_dir.join("user_beancounters")
    }

    /// Templates.
    pub fn templates_dir(&self) -> PathBuf {
        self.state_dir.join("templates")
    }

    /// Archives of snapshots.
    pub fn exports_dir(&self) -> PathBuf {
        self.state_dir.join("exports")
    }

    /// The archive of a VE's snapshot.
    pub fn export(&self, ve: &VeName, snapshot: &VeName) -> PathBuf {
        self.exports_dir().join(format!("{ve}.{snapshot}.tar.zst"))
    }

    /// Files of VEs, by uid.
    pub fn ves_dir(&self) -> PathBuf {
        self.state_dir.join("ves")
    }

    /// An empty directory that each VE's tree is put together on, in a mount namespace of its own.
    pub fn staging_dir(&self) -> PathBuf {
        self.run_dir.join("staging")
    }

    /// Where the root of a VE that is down is mounted, if its administrator says no other place.
    pub fn root_dir(&self, ctid: &str) -> PathBuf {
        self.run_dir.join("root").join(ctid)
    }

    /// What action scripts read about VEs, as OpenVZ's configurations.
    pub fn confs_dir(&self) -> PathBuf {
        self.run_dir.join("conf")
    }

    /// The settle time.
    pub fn settle_time(&self) -> Duration {
        Duration::from_millis(self.settle)
    }
}
