//! How containers that have a network are connected: the bridge, their addresses, and what stands for a CNI plugin.
//!
//! Must give each peer's container the same: one interface, one address, a default route, and nothing else.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::result::{Context, Result};

/// The bridge on the host.
pub(crate) const BRIDGE: &str = "bench0";
/// The host's address on it, and how long its prefix is.
pub(crate) const GATEWAY: &str = "10.77.255.254";
pub(crate) const PREFIX: u8 = 16;

/// What a VE's manifest says of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Nothing.
    None,
    /// An address that the host routes.
    Routed,
    /// An interface on the bridge.
    Bridged,
}

impl Wire {
    /// The lines of the manifest.
    pub(crate) fn lines(self, id: usize) -> String {
        let address = address(id);
        match self {
            Self::None => String::new(),
            Self::Routed => format!("  network: {{addresses: [{}]}}\n", routed(id)),
            Self::Bridged => format!(
                "  network:\n    interfaces:\n      - {{name: eth0, bridge: {BRIDGE}, \
                 addresses: [{address}/{PREFIX}], gateway: [{GATEWAY}]}}\n"
            ),
        }
    }
}

/// A container's address on the bridge.
pub(crate) fn address(id: usize) -> String {
    format!("10.77.{}.{}", id / 200, id % 200 + 10)
}

/// Likewise where the host routes it.
pub(crate) fn routed(id: usize) -> String {
    format!("10.78.{}.{}", id / 200, id % 200 + 10)
}

/// What CNI's bridge plugin does, with fewer processes: called as a hook with the address, and the container's state on its
/// standard input.
pub(super) fn write_hook(directory: &Path) -> Result<PathBuf> {
    let path = directory.join("connect");
    let text = format!(
        r#"#!/bin/sh -e
state=$(cat)
pid=${{state##*\"pid\":}}
pid=${{pid%%[!0-9 ]*}}
pid=$((pid))
ip -batch - <<END
link add v$pid mtu 1500 type veth peer name eth0 netns $pid
link set v$pid master {BRIDGE} up
END
exec nsenter --net=/proc/$pid/ns/net ip -batch - <<END
addr add $1/{PREFIX} dev eth0
link set eth0 up
link set lo up
route add default via {GATEWAY}
END
"#
    );
    std::fs::write(&path, text).context(path.display())?;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, mode).context(path.display())?;
    Ok(path)
}
