//! `kind: Host`: settings of the host as a whole, as vz.conf was. Without it, all have safe defaults.

use super::defaults;
use super::macros::{group, item, words};
use super::metadata::{ApiVersion, Metadata};
use super::net::OrInherit;
use super::scalars::{AbsPath, Address, Duration, Endpoint, HostName, IfName, Name, Size, UserName};
use super::template::TemplateSource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::num::NonZeroU32;

/// Settings of the host. There is at most one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Host {
    /// The version of the format.
    pub api_version: ApiVersion,
    /// The kind of document.
    pub kind: HostKind,
    /// Name, labels, notes.
    pub metadata: Metadata,
    /// The settings.
    #[serde(default, skip_serializing_if = "crate::v1::is_default")]
    pub spec: HostSpec,
}

super::profile::kind_word!(
    /// The word `Host`.
    HostKind::Host
);

group! {
    /// What holds for the host as a whole.
    pub struct HostSpec {
        /// Where things are kept.
        none directories: Directories,
        /// The range of host user ids that VEs get theirs from.
        none subids: Option<SubIds>,
        /// The profile of VEs that name none.
        none default_profile: Option<Name>,
        /// The template of VEs that name none.
        none default_template: Option<TemplateSource>,
        /// How many VEs are started at a time. Default: by the number of CPUs.
        none start_parallel: Option<NonZeroU32>,
        /// How long removed VEs are kept, unless they say otherwise.
        #[serde(rename = "quarantineTTL")]
        none quarantine_ttl: Option<Duration> = defaults::QUARANTINE_TTL,
        /// Where lxcfs is mounted, for a /proc that shows the VE's share. Default: found by itself.
        none lxcfs: Option<AbsPath>,
        /// The cgroup under which VEs live.
        none cgroup_root: Option<Name>,
        /// VEs resolve each other by name: a resolver answers those that inherit name servers.
        none dns: Option<bool> = false,
        /// What network settings VEs inherit.
        none network: HostNetwork,
        /// Disk space for VEs with disks in images.
        none pool: Pool,
        /// Addresses at which the controller takes VEs in that other hosts hand over, by TLS: see `vzd pki`.
        none listen: Vec<SocketAddr>,
        /// The hosts among which VEs with `spec.host` move; this one may be among them.
        none peers: Vec<Peer>,
        /// What becomes of VEs that run when the host goes down.
        none shutdown: Option<Shutdown> = Shutdown::Stop,
        /// What becomes of a change made by a command, such as `vzctl set --save`.
        none manifest_policy: Option<ManifestPolicy> = ManifestPolicy::Edit,
        /// Who may own manifests, besides root.
        none user: Option<UserName>,
        /// Who may talk to the controller, besides root.
        none group: Option<UserName> = "vzd",
    }
}

group! {
    /// Directories on the host.
    pub struct Directories {
        /// Templates.
        none templates: Option<AbsPath>,
        /// The disks of VEs.
        none private: Option<AbsPath>,
        /// What is left of removed VEs.
        none quarantine: Option<AbsPath>,
        /// Checkpoints.
        none checkpoints: Option<AbsPath>,
    }
}

item! {
    /// A range of host user and group ids.
    pub struct SubIds {
        /// The first id.
        none start: u32,
        /// How many there are.
        none count: u32;
    }
}

item! {
    /// Another host that VEs move to and from.
    pub struct Peer {
        /// What it is called: the name that `spec.host` of VEs names.
        none name: HostName;
        /// The command that reaches vzd there. Default: `ssh NAME vzd`.
        none via: Option<String>,
        /// Where vzd there listens (its host's `listen`), for hand-overs by TLS instead of a command.
        none address: Option<Endpoint>,
    }
}

group! {
    /// Network settings of the host.
    pub struct HostNetwork {
        /// The name servers that `inherit` means. Default: the host's own.
        none nameservers: Option<OrInherit<Address>> = "inherit",
        /// The search domains that `inherit` means. Default: the host's own.
        none search_domains: Option<OrInherit<HostName>> = "inherit",
        /// The bridge of interfaces that name none.
        none bridge: Option<IfName>,
    }
}

group! {
    /// Disk space set apart for VEs.
    pub struct Pool {
        /// How much.
        none size: Option<Size>,
    }
}

words! {
    /// What becomes of a change that a command makes to a VE that a manifest describes.
    pub enum ManifestPolicy as "camelCase" {
        /// The manifest is edited.
        Edit,
        /// The command is refused; it prints the change as a patch.
        Refuse,
        /// The change is written as a patch to the `patches` of the state directory, for somebody to commit.
        Patch,
    }
}

words! {
    /// What becomes of VEs that run when the host goes down (`vzd stop --all --until-boot`).
    pub enum Shutdown as "camelCase" {
        /// They are stopped, and started anew.
        Stop,
        /// They are written to disk, and go on after the next boot; those for which that cannot be done are stopped.
        Suspend,
    }
}
