//! What a VE may do and how it is set apart: capabilities, features, seccomp, user ids.

use super::defaults;
use super::macros::group;
use super::scalars::{AbsPath, Capability, ScalarError, text_scalar};
use std::fmt;
use std::str::FromStr;

group! {
    /// Rights of a VE.
    pub struct Security {
        /// Capabilities, as changes to the default set.
        restart capabilities: Capabilities,
        /// Kernel features that are off unless asked for.
        live features: Features,
        /// Which system calls are refused: `default`, or the path of a profile on the host.
        restart seccomp: Option<Seccomp> = "default",
        /// Which host user ids the VE's users are. Default: a range of its own, picked by vzd.
        recreate user_namespace: Option<UserNamespace>,
    }
}

group! {
    /// Changes to the default set of capabilities.
    pub struct Capabilities {
        /// Give these.
        restart add: Vec<Capability>,
        /// Take these away.
        restart drop: Vec<Capability>,
    }
}

group! {
    /// Kernel features of a VE; all are off by default.
    pub struct Features {
        /// Bridge interfaces inside the VE.
        live bridge: Option<bool> = false,
        /// File systems in user space: /dev/fuse.
        live fuse: Option<bool> = false,
        /// GRE tunnels.
        live ipgre: Option<bool> = false,
        /// IP in IP tunnels.
        live ipip: Option<bool> = false,
        /// Containers inside the VE.
        restart nesting: Option<bool> = false,
        /// Mounting NFS.
        live nfs: Option<bool> = false,
        /// Serving NFS.
        live nfsd: Option<bool> = false,
        /// Point to point links: /dev/ppp.
        live ppp: Option<bool> = false,
        /// IPv6 in IPv4 tunnels.
        live sit: Option<bool> = false,
        /// Network tunnels by programs: /dev/net/tun.
        live tun: Option<bool> = false,
    }
}

group! {
    /// A fixed range of host user and group ids.
    pub struct UserNamespace {
        /// The host id that is the VE's root.
        recreate start: Option<u32>,
        /// How many ids there are.
        recreate size: Option<u32> = defaults::USER_NAMESPACE_SIZE,
    }
}

/// A seccomp profile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seccomp {
    /// The one that comes with vzd.
    Default,
    /// One in a file on the host.
    File(AbsPath),
}

impl FromStr for Seccomp {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        match text {
            "default" => Ok(Self::Default),
            _ if text.starts_with('/') => text.parse().map(Self::File),
            _ => {
                Err(ScalarError::not(text, "a seccomp profile", "give `default` or the absolute path of one"))
            }
        }
    }
}

impl fmt::Display for Seccomp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.fmt(f),
        }
    }
}

text_scalar!(Seccomp, "`default` or the path of a seccomp profile", {
    "type": "string", "pattern": "^(default|/.*)$"
});
