//! What a VE needs that its host lacks. Such a VE is not started, nor stopped to be started anew.
//!
//! The diffs say the same of single changes of a running VE.

use crate::capability::{Capabilities, Feature};
use crate::desired::Desired;
use crate::subsystem::disk;
use crate::subsystem::lifecycle::{Seccomp, State};
use crate::subsystem::network::Translation;

/// A field that this host cannot carry out (VZ0201).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Infeasible {
    /// Path of the field.
    pub field: String,
    /// What is missing.
    pub why: String,
}

/// Every field of a VE that this host cannot carry out.
pub fn infeasible(want: &Desired, caps: &Capabilities) -> Vec<Infeasible> {
    let nodes = want.devices.nodes.keys().map(String::as_str);
    let has_node = |path: &str| nodes.clone().any(|is| is == path);
    let has_macvlan = want.network.interfaces.values().any(|interface| interface.parent().is_some());
    let has_vlan = want.network.interfaces.values().any(|interface| interface.vlan.is_some());
    let translations = &want.network.translations;
    let masquerades = translations.iter().any(|one| matches!(one, Translation::Masquerade { .. }));
    let publishes = translations.iter().any(|one| matches!(one, Translation::Publish { .. }));
    let needs: [(bool, &str, &Feature); 18] = [
        (true, "spec.security.userNamespace", &caps.user_namespaces),
        (true, "spec.template", &caps.overlay_idmap),
        (want.lifecycle.cold.seccomp == Seccomp::Default, "spec.security.seccomp", &caps.seccomp),
        (want.lifecycle.state == State::Paused, "spec.state", &caps.freezer),
        (want.lifecycle.state == State::Suspended, "spec.state", &caps.checkpoint),
        (want.lifecycle.checkpoint_pre_dump, "spec.checkpoint.preDump", &caps.memory_marks),
        (!want.devices.rules.is_empty(), "spec.devices", &caps.bpf_device),
        (has_node("/dev/net/tun"), "spec.security.features.tun", &caps.tun),
        (has_node("/dev/fuse"), "spec.security.features.fuse", &caps.fuse),
        (want.network.has_pairs(), "spec.network", &caps.venet),
        (has_macvlan, "spec.network.interfaces", &caps.macvlan),
        (has_vlan, "spec.network.interfaces", &caps.bridge_vlans),
        (masquerades, "spec.network.masquerade", &caps.firewall),
        (publishes, "spec.network.publish", &caps.firewall),
        (want.network.firewall.is_some(), "spec.network.firewall", &caps.firewall),
        (!want.network.rules.is_empty(), "spec.network.rules", &caps.routing_rules),
        (want.lifecycle.cold.quota_ids > 0, disk::USERS, &caps.disk_users),
        (want.network.has_rates(), "spec.network.rate", &caps.shaping),
    ];
    let mounts = want
        .namespaces
        .mounts
        .iter()
        .filter(|(_, mount)| mount.idmap)
        .map(|(target, _)| (true, format!("spec.mounts[{target}]"), &caps.idmapped_mounts));
    let limits = want.cgroup.limits.wanted(caps, 0).into_iter();
    let limits = limits
        .filter_map(|wanted| Some(Infeasible { field: wanted.field.to_owned(), why: wanted.value.err()? }));
    needs
        .into_iter()
        .map(|(needed, field, feature)| (needed, field.to_owned(), feature))
        .chain(mounts)
        .filter(|(needed, ..)| *needed)
        .filter_map(|(_, field, feature)| {
            feature.missing().map(|why| Infeasible { field, why: why.to_owned() })
        })
        .chain(limits)
        .collect()
}
