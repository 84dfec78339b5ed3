//! What of the host a VE may touch: devices, and mounted directories and files.

use super::defaults;
use super::macros::{group, item, words};
use super::scalars::{AbsPath, Access, DeviceNumber, FileMode};

group! {
    /// A device that a VE may use: by its path, by its number, or both.
    pub struct Device {
        /// Where the device is in the VE. Without `device`, the host's device of that path is meant;
        /// without `path`, the VE may use the number but finds no device node.
        live path: Option<AbsPath>,
        /// Character or block device. Default: what the host's device is.
        live r#type: Option<DeviceType>,
        /// The device's number, `major:minor`; `major:*` is every device of a driver.
        live device: Option<DeviceNumber>,
        /// What the VE may do with it: `r`ead, `w`rite, `m`knod.
        live permissions: Option<Access> = defaults::DEVICE_PERMISSIONS,
        /// Permission bits of the device node.
        live mode: Option<FileMode> = defaults::DEVICE_MODE,
        /// Owner of the device node, as a user id inside the VE.
        live uid: Option<u32> = 0,
        /// Group of the device node, as a group id inside the VE.
        live gid: Option<u32> = 0,
    }
}

words! {
    /// The two types of device.
    pub enum DeviceType as "camelCase" {
        /// A character device: terminals, serial ports, tun.
        Char,
        /// A block device: disks and partitions.
        Block,
    }
}

item! {
    /// A directory or file of the host that a VE sees as its own.
    pub struct Mount {
        /// The directory or file on the host.
        live source: AbsPath,
        /// Where the VE sees it.
        live target: AbsPath;
        /// The VE may not write there.
        live read_only: Option<bool> = false,
        /// Set-user-id programs there gain nothing.
        live nosuid: Option<bool> = true,
        /// Programs there cannot be run.
        live noexec: Option<bool> = false,
        /// Device nodes there are not devices.
        live nodev: Option<bool> = true,
        /// Show the host's owners as the VE's: what root owns on the host, the VE's root owns.
        live idmap: Option<bool> = false,
    }
}
