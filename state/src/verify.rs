//! Whether a VE is as it is wanted, from a fresh look at it.
//!
//! Verifying knows nothing of what was done: it compares what is wanted with what is seen, so that it
//! finds a step that reported success and had no effect.

use crate::desired::Desired;
use crate::observed::Observed;
use crate::plan::{Power, target};
use crate::subsystem::{Cx, Mismatch, Subsystem};
use crate::subsystem::{
    beancounters, cgroup, devices, disk, lifecycle, namespaces, network, packages, users,
};

/// What of the VE is not as wanted, whatever the reason. Fields that wait for a restart are among it,
/// with their disruption; a VE that is rightly stopped is not looked into.
pub fn verify(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Vec<Mismatch> {
    let Desired {
        name: _,
        ctid: _,
        source: _,
        labels: _,
        annotations: _,
        host: _,
        description: _,
        spec: _,
        digest: _,
        fields: _,
        lifecycle: lifecycle_want,
        cgroup: cgroup_want,
        beancounters: counters_want,
        disk: disk_want,
        namespaces: namespaces_want,
        devices: devices_want,
        network: network_want,
        users: users_want,
        packages: packages_want,
    } = want;
    let Observed {
        lifecycle,
        cgroup,
        beancounters: counters,
        disk,
        namespaces,
        devices,
        network,
        users,
        packages,
    } = have;
    let power = target(want, cx.entry).power;
    let mut wrong = Vec::new();
    match power {
        Power::Absent => {
            wrong.extend(not_stopped(power, have));
            if cx.entry.is_some() {
                wrong.push(not_gone("the ledger still has an entry"));
            }
            return wrong;
        }
        Power::Stopped | Power::Suspended => wrong.extend(not_stopped(power, have)),
        Power::Running | Power::Paused => {
            let frozen = power == Power::Paused;
            let group = cgroup::Desired { frozen, ..cgroup_want.clone() };
            wrong.extend(lifecycle::Lifecycle::satisfied(lifecycle_want, lifecycle, cx));
            wrong.extend(cgroup::Cgroup::satisfied(&group, cgroup, cx));
            wrong.extend(beancounters::Beancounters::satisfied(counters_want, counters, cx));
            wrong.extend(namespaces::Namespaces::satisfied(namespaces_want, namespaces, cx));
            wrong.extend(devices::Devices::satisfied(devices_want, devices, cx));
            wrong.extend(network::Network::satisfied(network_want, network, cx));
            wrong.extend(users::Users::satisfied(users_want, users, cx));
            // One that is held still is not asked.
            if !frozen {
                wrong.extend(packages::Packages::satisfied(packages_want, packages, cx));
            }
        }
    }
    wrong.extend(disk::Disk::satisfied(disk_want, disk, cx));
    wrong
}

fn not_stopped(power: Power, have: &Observed) -> Option<Mismatch> {
    (!have.stopped()).then(|| {
        let (want, run) = (crate::subsystem::json(&power), crate::subsystem::json(&have.lifecycle.run));
        Mismatch::new("spec.state", want, run, crate::disruption::Disruption::Live)
    })
}

fn not_gone(why: &str) -> Mismatch {
    Mismatch::new("spec.state", "absent".into(), why.into(), crate::disruption::Disruption::Live)
}
