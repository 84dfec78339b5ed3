//! Devices: nodes in a VE's /dev, and who may do what with which device.

use std::collections::BTreeSet;

use vzd_schema::VeSpec;
use vzd_schema::v1;

use super::{Errors, FindDevice};
use crate::subsystem::devices::{self, Access, DeviceKind, Rule};

pub(super) fn lower_devices(
    spec: &VeSpec,
    find_device: FindDevice<'_>,
    wrong: &mut Errors,
) -> devices::Desired {
    let mut wanted = devices::Desired::default();
    for (on, path, minor) in
        [(spec.security.features.tun, "/dev/net/tun", 200), (spec.security.features.fuse, "/dev/fuse", 229)]
    {
        if on == Some(true) {
            let node =
                devices::Node { kind: DeviceKind::Char, major: 10, minor, mode: 0o666, uid: 0, gid: 0 };
            wanted.nodes.insert(path.to_owned(), node);
            allow(&mut wanted.rules, node.kind, node.major, Some(minor), Access::ALL);
        }
    }
    for (i, device) in spec.devices.iter().enumerate() {
        if let Err(why) = lower_device(device, find_device, &mut wanted) {
            wrong.add(format!("spec.devices[{i}]"), why);
        }
    }
    wanted
}

fn lower_device(
    device: &v1::Device,
    find_device: FindDevice<'_>,
    wanted: &mut devices::Desired,
) -> Result<(), &'static str> {
    let v1::Device { path, r#type, device: number, permissions, mode, uid, gid } = device;
    let on_host = path.as_ref().and_then(|path| find_device(path.as_str()));
    let kind = match (r#type, on_host) {
        (Some(v1::DeviceType::Char), _) => DeviceKind::Char,
        (Some(v1::DeviceType::Block), _) => DeviceKind::Block,
        (None, Some((kind, ..))) => kind,
        (None, None) => return Err("the host has no device node there; give `type` and `device`"),
    };
    let (major, minor) = match (number, on_host) {
        (Some(number), _) => (number.major(), number.minor()),
        (None, Some((_, major, minor))) => (major, Some(minor)),
        (None, None) => return Err("the host has no device node there; give `device`"),
    };
    let access = permissions.map_or(Access { read: true, write: true, mknod: false }, |is| Access {
        read: is.read,
        write: is.write,
        mknod: is.mknod,
    });
    allow(&mut wanted.rules, kind, major, minor, access);
    if let Some(path) = path {
        let minor = minor.ok_or("a device node needs a minor number")?;
        let mode = mode.map_or(0o600, |mode| u32::from(mode.bits()));
        let node = devices::Node { kind, major, minor, mode, uid: uid.unwrap_or(0), gid: gid.unwrap_or(0) };
        wanted.nodes.insert(path.as_str().to_owned(), node);
    }
    Ok(())
}

fn allow(rules: &mut BTreeSet<Rule>, kind: DeviceKind, major: u32, minor: Option<u32>, access: Access) {
    rules.insert(Rule { kind, major: Some(major), minor, access });
}
