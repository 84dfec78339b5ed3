//! The defaults that the format itself fixes, in one place: the JSON Schema, `explain` and whoever
//! lowers a manifest read them here. A default that depends on the host is not here.

use super::lifecycle::{DeletionPolicy, RestartPolicy, State, UpdatePolicy};
use super::scalars::{CpuUnits, Duration};

/// `spec.state`.
pub const STATE: State = State::Running;
/// `spec.onBoot`.
pub const ON_BOOT: bool = true;
/// `spec.bootOrder`.
pub const BOOT_ORDER: i32 = 0;
/// `spec.stopTimeout`.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// `spec.startTimeout`.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// `spec.restartPolicy`.
pub const RESTART_POLICY: RestartPolicy = RestartPolicy::OnFailure;
/// `spec.updatePolicy`.
pub const UPDATE_POLICY: UpdatePolicy = UpdatePolicy::Live;
/// `spec.deletionPolicy`.
pub const DELETION_POLICY: DeletionPolicy = DeletionPolicy::Quarantine;
/// `spec.quarantineTTL`, of a VE and of the host.
pub const QUARANTINE_TTL: Duration = Duration::from_secs(7 * 86_400);
/// `spec.init`.
pub const INIT: &str = "/sbin/init";
/// `spec.cpu.cpuunits`.
pub const CPU_UNITS: CpuUnits = CpuUnits::DEFAULT;
/// `spec.io.ioprio`.
pub const IO_PRIO: u8 = 4;
/// `spec.security.userNamespace.size`.
pub const USER_NAMESPACE_SIZE: u32 = 65_536;
/// `spec.devices[].permissions`.
pub const DEVICE_PERMISSIONS: &str = "rw";
/// `spec.devices[].mode`.
pub const DEVICE_MODE: &str = "0600";
/// `spec.health.interval`.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(10);
/// `spec.health.timeout`.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// `spec.health.initialDelay`.
pub const HEALTH_INITIAL_DELAY: Duration = Duration::from_secs(0);
/// `spec.health.successThreshold`.
pub const HEALTH_SUCCESS_THRESHOLD: u32 = 1;
/// `spec.health.failureThreshold`.
pub const HEALTH_FAILURE_THRESHOLD: u32 = 3;
/// First host id of the range that VEs' user ids are taken from.
pub const SUBIDS_START: u32 = 1_000_000_000;
/// Size of that range.
pub const SUBIDS_COUNT: u32 = 1_000_000_000;
