//! How a VE is to live: its state, the policies around it, and what it is started with.

use std::collections::BTreeMap;

use vzd_schema::VeSpec;
use vzd_schema::v1::{self, defaults};

use super::{Errors, health, millis};
use crate::caps::CapSet;
use crate::subsystem::lifecycle::{
    ColdSpec, Compression, DeletionPolicy, Desired, RestartPolicy, Seccomp, State, Suspend, UpdatePolicy,
};
use crate::units::Timestamp;

pub(super) fn lower_lifecycle(
    spec: &VeSpec,
    annotations: &BTreeMap<String, String>,
    wrong: &mut Errors,
) -> Desired {
    let state = match spec.state.unwrap_or(defaults::STATE) {
        v1::State::Running => State::Running,
        v1::State::Stopped => State::Stopped,
        v1::State::Paused => State::Paused,
        v1::State::Absent => State::Absent,
        v1::State::Suspended => State::Suspended,
    };
    let depends_on =
        spec.depends_on.iter().filter_map(|name| wrong.check("spec.dependsOn", name.as_str().parse()));
    Desired {
        state,
        depends_on: depends_on.collect(),
        cold: lower_cold(spec),
        restart_policy: match spec.restart_policy.unwrap_or(defaults::RESTART_POLICY) {
            v1::RestartPolicy::Always => RestartPolicy::Always,
            v1::RestartPolicy::OnFailure => RestartPolicy::OnFailure,
            v1::RestartPolicy::Never => RestartPolicy::Never,
        },
        update_policy: match spec.update_policy.unwrap_or(defaults::UPDATE_POLICY) {
            v1::UpdatePolicy::Live => UpdatePolicy::Live,
            v1::UpdatePolicy::Restart => UpdatePolicy::Restart,
        },
        deletion_policy: match spec.deletion_policy.unwrap_or(defaults::DELETION_POLICY) {
            v1::DeletionPolicy::Quarantine => DeletionPolicy::Quarantine,
            v1::DeletionPolicy::Retain => DeletionPolicy::Retain,
            v1::DeletionPolicy::Destroy => DeletionPolicy::Destroy,
        },
        stop_timeout: millis(spec.stop_timeout, defaults::STOP_TIMEOUT),
        start_timeout: millis(spec.start_timeout, defaults::START_TIMEOUT),
        on_boot: spec.on_boot.unwrap_or(defaults::ON_BOOT),
        boot_order: spec.boot_order.unwrap_or(defaults::BOOT_ORDER),
        quarantine_ttl: millis(spec.quarantine_ttl, defaults::QUARANTINE_TTL),
        health: spec.health.as_ref().and_then(health::lower),
        suspend: spec.suspend_reconcile.as_ref().map(|suspend| Suspend {
            reason: suspend.reason.clone().unwrap_or_else(|| "no reason given".to_owned()),
            until: suspend.until.map(|until| Timestamp(until.unix_millis())),
        }),
        checkpoint_directory: spec.checkpoint.directory.as_ref().map(|dir| dir.as_str().to_owned()),
        checkpoint_keeps_tcp: spec.checkpoint.tcp_established != Some(false),
        checkpoint_pre_dump: spec.checkpoint.pre_dump == Some(true),
        checkpoint_compress: match spec.checkpoint.compress {
            Some(v1::Compression::Zstd) => Compression::Zstd,
            Some(v1::Compression::None) | None => Compression::None,
        },
        checkpoint_keeps_running: spec.checkpoint.keep_running == Some(true),
        reconcile_disabled: annotations.get("vzd/reconcile").is_some_and(|is| is == "disabled"),
    }
}

fn lower_cold(spec: &VeSpec) -> ColdSpec {
    let v1::namespaces::Capabilities { add, drop } = &spec.security.capabilities;
    let capabilities = add.iter().copied().fold(CapSet::default(), CapSet::with);
    ColdSpec {
        init: spec
            .init
            .as_ref()
            .map_or_else(|| vec![defaults::INIT.to_owned()], |init| init.words().to_vec()),
        init_given: spec.init.is_some(),
        capabilities: drop.iter().copied().fold(capabilities, CapSet::without),
        seccomp: match &spec.security.seccomp {
            None | Some(v1::Seccomp::Default) => Seccomp::Default,
            Some(v1::Seccomp::File(path)) => Seccomp::File { path: path.as_str().to_owned() },
        },
        nesting: spec.security.features.nesting.unwrap_or(false),
        quota_ids: spec.disk.quotaugidlimit.unwrap_or(0),
        mount_options: spec.disk.mount_options.iter().copied().collect(),
    }
}
