//! The exit codes of OpenVZ's tools by name (vzerror.h), and why a tool ends with one.

use vzd_schema::Code;

use crate::control::ControlError;

/// It is done.
pub const OK: u8 = 0;
/// A limit could not be set.
pub const SET_UBC: u8 = 1;
/// A share of CPU could not be set.
pub const SET_CPU: u8 = 2;
/// Something that the system refused.
pub const SYSTEM: u8 = 3;
/// It could not be created.
pub const CREATE: u8 = 7;
/// Somebody else has the lock.
pub const LOCKED: u8 = 9;
/// A file that is to be run is not there.
pub const NO_SCRIPT: u8 = 11;
/// The container is not known.
pub const NO_CONFIG: u8 = 14;
/// It cannot be suspended.
pub const SUSPEND: u8 = 16;
/// It cannot be resumed.
pub const RESUME: u8 = 17;
/// The command line is wrong.
pub const SYNTAX: u8 = 20;
/// An option or its value is wrong.
pub const BAD_VALUE: u8 = 21;
/// The container does not run.
pub const NOT_RUNNING: u8 = 31;
/// The container runs.
pub const RUNNING: u8 = 32;
/// The container could not be stopped.
pub const STOP: u8 = 33;
/// An address could not be added.
pub const ADDRESS: u8 = 34;
/// It is not mounted.
pub const NOT_MOUNTED: u8 = 40;
/// It is mounted.
pub const MOUNTED: u8 = 41;
/// There is one already.
pub const EXISTS: u8 = 44;
/// The container has no shell.
pub const NO_SHELL: u8 = 47;
/// It could not be mounted.
pub const MOUNT: u8 = 50;
/// It could not be unmounted.
pub const UMOUNT: u8 = 51;
/// The container could not be deleted.
pub const DELETE: u8 = 52;
/// The quota is off.
pub const QUOTA_ON: u8 = 60;
/// A quota could not be made.
pub const QUOTA_INIT: u8 = 61;
/// A quota could not be set.
pub const QUOTA: u8 = 62;
/// Quotas of the container's own users could not be set.
pub const UGID_QUOTA: u8 = 65;
/// A quota could not be taken off.
pub const QUOTA_OFF: u8 = 66;
/// A host name is wrong.
pub const HOSTNAME: u8 = 70;
/// A name server is wrong.
pub const NAMESERVER: u8 = 72;
/// A search domain is wrong.
pub const SEARCHDOMAIN: u8 = 73;
/// A password could not be set.
pub const PASSWORD: u8 = 74;
/// Another container has the address.
pub const ADDRESS_IN_USE: u8 = 78;
/// An action script failed.
pub const SCRIPT: u8 = 79;
/// A sample configuration is not there.
pub const SAMPLE: u8 = 82;
/// Devices could not be set.
pub const DEVICES: u8 = 86;
/// The template is not there.
pub const NO_TEMPLATE: u8 = 91;
/// An interface could not be given or taken back.
pub const NETDEV: u8 = 104;
/// It is not to be started.
pub const DISABLED: u8 = 105;
/// A sample configuration could not be applied.
pub const APPLYCONFIG: u8 = 109;
/// It could not be reinstalled.
pub const REINSTALL: u8 = 128;
/// An interface could not be set.
pub const VETH: u8 = 130;
/// The name is wrong.
pub const NAME: u8 = 131;
/// The start was waited for in vain.
pub const WAIT: u8 = 133;
/// The manifest could not be saved.
pub const SAVE: u8 = 139;
/// It could not be registered.
pub const REGISTER: u8 = 140;
/// It could not be unregistered.
pub const UNREGISTER: u8 = 142;
/// Input and output could not be limited.
pub const IO: u8 = 148;
/// A snapshot could not be taken.
pub const SNAPSHOT: u8 = 156;
/// A snapshot could not be deleted.
pub const SNAPSHOT_DELETE: u8 = 158;
/// A snapshot could not be switched to.
pub const SNAPSHOT_SWITCH: u8 = 159;
/// A snapshot could not be mounted.
pub const SNAPSHOT_MOUNT: u8 = 160;
/// A snapshot could not be unmounted.
pub const SNAPSHOT_UMOUNT: u8 = 161;
/// Snapshots could not be listed.
pub const SNAPSHOT_LIST: u8 = 167;

/// Why a tool ends, and with what code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The exit code.
    pub exit: u8,
    /// For stderr; nothing where the code says all.
    pub message: String,
}

impl Refusal {
    /// With that code and message.
    pub fn new(exit: u8, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// What vzd said, with that code; but what can come in the way of everything has a code of its own.
    pub fn of(exit: u8, error: &ControlError) -> Self {
        let exit = match error.code.parse() {
            Ok(Code::Locked) => LOCKED,
            Ok(Code::ActionScriptFailed) => SCRIPT,
            _ => exit,
        };
        let help = error.help.iter().map(|help| format!("\n  help: {help}")).collect::<String>();
        Self::new(exit, format!("{} ({}){help}", error.message, error.code))
    }
}

/// What a tool comes to.
pub type Tool<T = u8> = Result<T, Refusal>;
