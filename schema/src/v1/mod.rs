//! Version v1 of the format, typed: every kind and every field, in one file a subject.
//!
//! The types say what may be written, not what it does. A field that is `None` (or a list that is
//! empty) was not written; defaults are applied by whoever lowers a manifest, from [`defaults`].
//! Nothing here may look at the host, and nothing here knows where in a file a value stood.

pub mod beancounters;
pub mod carried;
pub mod checkpoint;
pub mod cpu;
pub mod defaults;
pub mod devices;
pub mod disk;
#[cfg(test)]
mod full;
pub mod health;
pub mod host;
pub mod io;
pub mod lifecycle;
pub(crate) mod macros;
pub mod memory;
pub mod metadata;
pub mod namespaces;
pub mod net;
pub mod oci;
pub mod packages;
pub mod profile;
pub mod scalars;
pub mod sparse;
pub mod template;
pub mod users;
pub mod ve;

pub use beancounters::Beancounters;
pub use checkpoint::{Checkpoint, Compression};
pub use cpu::Cpu;
pub use devices::{Device, DeviceType, Mount};
pub use disk::{Disk, DiskBackend, MountOption};
pub use health::{Health, HttpProbe, TcpProbe};
pub use host::{Host, HostNetwork, HostSpec, ManifestPolicy, Peer, Shutdown};
pub use io::{Io, IoPrio};
pub use lifecycle::{DeletionPolicy, RestartPolicy, State, SuspendReconcile, UpdatePolicy};
pub use memory::Memory;
pub use metadata::{ALIAS, ApiVersion, DISABLED, Kind, Metadata, is_alias};
pub use namespaces::{Features, Seccomp, Security, UserNamespace};
pub use net::{
    Direction, Firewall, FirewallRule, HostsEntry, Interface, Network, OrInherit, Protocol, Publish, Rate,
    Route, RoutingRule, Transport, Verdict,
};
pub use oci::{OciImage, OciPlace};
pub use packages::{Packages, Upgrade};
pub use profile::Profile;
pub use scalars::*;
pub use sparse::Sparse;
pub use template::TemplateSource;
pub use users::User;
pub use ve::{Ve, VeSpec};

use serde::Serialize;

/// One document of any kind, typed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Manifest {
    /// A virtual environment.
    Ve(Box<Ve>),
    /// Defaults that VEs name.
    Profile(Box<Profile>),
    /// Host-wide settings.
    Host(Box<Host>),
}

impl Manifest {
    /// What every kind has.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Ve(ve) => &ve.metadata,
            Self::Profile(profile) => &profile.metadata,
            Self::Host(host) => &host.metadata,
        }
    }
}

/// Whether a value is what it is when nothing is written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
