//! Whether this process is in a container at all. Must err towards "on the host": every harmless probe relies on it.

use crate::report::{initial_namespaces, namespaces};

/// True unless this process has a pid and a user namespace of its own.
pub(crate) fn on_the_host() -> bool {
    let namespaces = namespaces();
    let initial = initial_namespaces(&namespaces);
    let own = |kind: &str| namespaces.contains_key(kind) && !initial.iter().any(|name| name == kind);
    // The capability checks that probes rely on are made against the user namespace, reboot(2)'s against the pid one.
    !(own("pid") && own("user"))
}
