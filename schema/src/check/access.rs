//! What a VE may touch of the host, and as whom.

use super::Checker;
use crate::code::Code;
use crate::v1::{AbsPath, Device, Mount, Security, defaults};
use std::collections::BTreeMap;

/// Mounted by vzd itself, and not to be covered.
const KERNEL_DIRS: [&str; 3] = ["/proc", "/sys", "/dev"];

impl Checker<'_> {
    pub(super) fn mounts(&mut self, mounts: &[Mount]) {
        let mut targets = BTreeMap::new();
        for (index, mount) in mounts.iter().enumerate() {
            let (target, path) = (&mount.target, format!("spec.mounts[{index}].target"));
            if target.as_str() == "/" {
                self.bad(Code::BadValue, "nothing can be mounted over the VE's `/`", &path);
            }
            if let Some(dir) = KERNEL_DIRS.iter().find(|dir| target.is_at_or_under(dir)) {
                self.bad(Code::BadValue, format!("`{target}` is in {dir}, which vzd mounts itself"), &path);
            }
            self.once(&mut targets, target, path, |target| format!("two mounts have the target `{target}`"));
        }
    }

    pub(super) fn devices(&mut self, devices: &[Device]) {
        let (mut paths, mut numbers) = (BTreeMap::new(), BTreeMap::new());
        for (index, device) in devices.iter().enumerate() {
            let item = format!("spec.devices[{index}]");
            if device.path.is_none() && device.device.is_none() {
                self.bad(Code::MissingField, "a device needs `path`, `device` or both", &item);
            }
            if let Some(number) = device.device {
                let path = format!("{item}.device");
                if device.r#type.is_none() {
                    let message = format!("the device {number} needs a `type`: char or block");
                    self.bad(Code::MissingField, message, &path);
                }
                if number.minor().is_none() && device.path.is_some() {
                    let message = format!("`{number}` is many devices: they cannot have one path");
                    self.conflict(message, &path, &format!("{item}.path"), "");
                }
                let key = (device.r#type, number);
                self.once(&mut numbers, key, path, |(_, number)| {
                    format!("two devices have the number {number}")
                });
            }
            if let Some(target) = &device.path {
                let path = format!("{item}.path");
                if target.as_str() == "/" || ["/proc", "/sys"].iter().any(|dir| target.is_at_or_under(dir)) {
                    self.bad(Code::BadValue, format!("no device can be at `{target}`"), &path);
                }
                self.once(&mut paths, target, path, |path: &&AbsPath| {
                    format!("two devices have the path `{path}`")
                });
            }
        }
    }

    pub(super) fn security(&mut self, security: &Security) {
        let capabilities = &security.capabilities;
        for (index, capability) in capabilities.add.iter().enumerate() {
            if let Some(dropped) = capabilities.drop.iter().position(|dropped| dropped == capability) {
                self.conflict(
                    format!("{capability} is both given and taken away"),
                    &format!("spec.security.capabilities.drop[{dropped}]"),
                    &format!("spec.security.capabilities.add[{index}]"),
                    "keep it in one of the two lists",
                );
            }
        }
        if let Some(range) = &security.user_namespace {
            let path = "spec.security.userNamespace";
            match range.start {
                Some(start) => {
                    self.id_range(path, start, range.size.unwrap_or(defaults::USER_NAMESPACE_SIZE))
                }
                None => self.bad(Code::MissingField, "`spec.security.userNamespace` needs `start`", path),
            }
        }
    }
}
