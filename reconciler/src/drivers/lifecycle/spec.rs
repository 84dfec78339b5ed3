//! What the keeper and those who enter a VE are told of it: its specs. They must not change anything but what is kept
//! beside the VE's root for later entries.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vzd_state::application::Application;
use vzd_state::desired::Desired;
use vzd_state::subsystem::disk::Backend;
use vzd_state::subsystem::lifecycle::Seccomp;
use vzd_state::subsystem::namespaces::wanted_mounts;
use vzd_state::subsystem::network::in_force;

use super::running;
use crate::drivers::{Ve, beancounters, devices, disk, namespaces, network};
use crate::error::{At, SysError, SysResult};
use crate::runtime::enter::Door;
use crate::runtime::spec::{RootSpec, StartSpec};
use crate::store::atomic;

/// What is wanted, but with devices and network as the ledger says that they were set.
pub(super) fn as_recorded(ve: Ve<'_>, want: &Desired) -> Desired {
    let applied = &ve.entry.applied;
    Desired {
        devices: applied.devices.clone().unwrap_or_default(),
        network: applied.network.as_deref().cloned().unwrap_or_default(),
        ..want.clone()
    }
}

/// What the keeper starts the VE with, to be like `want`.
pub(super) fn start_spec(ve: Ve<'_>, want: &Desired, root: RootSpec) -> SysResult<StartSpec> {
    let group = ve.host.cgroup(ve.entry);
    let cold = &want.lifecycle.cold;
    let application = cold.application(ve.entry.application());
    let mounts = wanted_mounts(&want.namespaces, &ve.host.caps());
    Ok(StartSpec {
        uid: ve.entry.uid.as_str().to_owned(),
        id_base: ve.entry.ids.start,
        id_count: ve.entry.ids.count,
        hostname: want.namespaces.hostname.clone(),
        domainname: want.namespaces.domainname.clone(),
        timezone: want.namespaces.timezone.clone(),
        locale: want.namespaces.locale.clone(),
        init: cold.command(ve.entry.application()).to_vec(),
        env: environment(application),
        dir: application.map(|is| PathBuf::from(&is.dir)),
        user: application.and_then(|is| is.user.clone()),
        cgroup_delegated: group.delegated_dir(),
        cgroup_v1: group.v1_dirs().collect(),
        root,
        shown: beancounters::show_inside(ve)?,
        mounts: mounts.iter().map(|(target, mount)| namespaces::mount_spec(target, mount)).collect(),
        devices: want
            .devices
            .nodes
            .iter()
            .map(|(path, node)| devices::node_spec(path, node))
            .collect::<SysResult<_>>()?,
        venet: network::venet_spec(ve, &want.network),
        bridged: network::bridged_specs(ve, &want.network),
        macvlans: network::macvlan_specs(ve, &want.network),
        handed: None,
        neighbours: BTreeMap::new(),
        sysctls: want.network.sysctls.clone().into_iter().collect(),
        shapes: network::shapes(ve, &want.network),
        firewall: in_force(&want.network, ve.entry.firewall_trial.as_deref()).cloned(),
        routes: want.network.routes.iter().cloned().collect(),
        rules: want.network.rules.iter().cloned().collect(),
        files: network::files(ve, &want.network),
        capabilities: cold.capabilities.bits(),
        seccomp_profile: keep_profile(ve, &cold.seccomp)?,
        own_attributes: has_own_attributes(ve),
        checkpoint: None,
        scripts: None,
        nesting: cold.nesting,
    })
}

/// Has systemd not watch the pressure on its own memory (https://systemd.io/MEMORY_PRESSURE): no checkpoint keeps such a watch.
const UNWATCHED: &str = "MEMORY_PRESSURE_WATCH=/dev/null";

/// The environment of PID 1: what every VE has, and over it what the image of its program says.
fn environment(application: Option<&Application>) -> Vec<String> {
    let every = [
        "container=vzd",
        "TERM=linux",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        UNWATCHED,
    ];
    let own = application.map_or(&[][..], |is| &is.env);
    let name = |pair: &str| pair.split_once('=').map_or(pair.len(), |(name, _)| name.len() + 1);
    let is_said = |pair: &&str| own.iter().any(|own| own.starts_with(&pair[..name(pair)]));
    every.into_iter().filter(|pair| !is_said(pair)).map(str::to_owned).chain(own.iter().cloned()).collect()
}

/// Beside the VE's root: the text of the seccomp profile that its last start was given.
const PROFILE: &str = "seccomp";

/// Reads the profile for a start, and keeps it: the file may be another one when the VE is entered.
fn keep_profile(ve: Ve<'_>, seccomp: &Seccomp) -> SysResult<Option<String>> {
    let Seccomp::File { path } = seccomp else { return Ok(None) };
    let text = std::fs::read_to_string(path).at("read", path)?;
    let kept = ve.host.ve_dir(&ve.entry.uid).join(PROFILE);
    atomic::write(&kept, text.as_bytes(), &ve.host.writes)?;
    Ok(Some(text))
}

/// The profile that the present run was started with.
fn kept_profile(ve: Ve<'_>, seccomp: &Seccomp) -> SysResult<Option<String>> {
    let Seccomp::File { .. } = seccomp else { return Ok(None) };
    let kept = ve.host.ve_dir(&ve.entry.uid).join(PROFILE);
    std::fs::read_to_string(&kept).map(Some).at("read", kept.display())
}

/// How to enter the VE: with what its present run was started with.
pub fn door(ve: Ve<'_>) -> SysResult<Door> {
    let running = running(ve)?;
    let group = ve.host.cgroup(ve.entry);
    let cold = ve.entry.run.as_ref().map(|run| &run.cold);
    let cold = cold.ok_or_else(|| {
        SysError::refused("enter", format_args!("VE {}", ve.entry.name), "its start is not on record yet")
    })?;
    Ok(Door {
        pid: running.pid,
        cgroup_exec: group.exec_dir(),
        cgroup_v1: group.v1_dirs().collect(),
        capabilities: cold.capabilities.bits(),
        seccomp_profile: kept_profile(ve, &cold.seccomp)?,
        own_attributes: has_own_attributes(ve),
        users: disk::users(ve, cold)?,
    })
}

/// Whether attributes of the VE's files mean something on a file system of its own only: elsewhere they tell whose
/// limits a file counts against.
fn has_own_attributes(ve: Ve<'_>) -> bool {
    ve.entry.disk.as_ref().is_some_and(|disk| disk.backend == Backend::Image)
}
