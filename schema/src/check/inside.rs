//! What is inside a VE: no two users of one name or id, no package both installed and not, options of its root that go
//! together.

use super::Checker;
use crate::code::Code;
use crate::v1::{MountOption, VeSpec, defaults};
use std::collections::BTreeMap;

impl Checker<'_> {
    fn packages(&mut self, spec: &VeSpec) {
        let mut seen = BTreeMap::new();
        for (list, names) in [("present", &spec.packages.present), ("absent", &spec.packages.absent)] {
            for (index, name) in names.iter().enumerate() {
                let path = format!("spec.packages.{list}[{index}]");
                self.once(&mut seen, name, path, |name| format!("the package `{name}` is named twice"));
            }
        }
    }

    fn mount_options(&mut self, spec: &VeSpec) {
        use MountOption::{Noatime, Nodev, Nodiratime, Nosuid, Relatime, Strictatime};
        let path = |index: usize| format!("spec.disk.mountOptions[{index}]");
        let (mut seen, mut atime) = (BTreeMap::new(), None);
        for (index, option) in spec.disk.mount_options.iter().enumerate() {
            self.once(&mut seen, *option, path(index), |_| "the option is given twice".to_owned());
            match (option, atime) {
                (Noatime | Relatime | Strictatime, None) => atime = Some((index, option)),
                (Noatime | Relatime | Strictatime, Some((first, other))) if option != other => self.conflict(
                    "times of access are kept in one way",
                    &path(index),
                    &path(first),
                    "keep one of noatime, relatime and strictatime",
                ),
                (Noatime | Relatime | Strictatime | Nodiratime | Nosuid | Nodev, _) => {}
            }
        }
    }

    pub(super) fn inside(&mut self, spec: &VeSpec) {
        self.packages(spec);
        self.mount_options(spec);
        let range = spec.security.user_namespace.as_ref().and_then(|range| range.size);
        let ids = range.unwrap_or(defaults::USER_NAMESPACE_SIZE);
        let (mut names, mut uids) = (BTreeMap::new(), BTreeMap::new());
        for (index, user) in spec.users.iter().enumerate() {
            let item = format!("spec.users[{index}]");
            let root = user.name.as_str() == "root";
            if let Some(uid) = user.uid {
                let path = format!("{item}.uid");
                if uid >= ids {
                    self.bad(Code::BadValue, format!("uid {uid} is not in the VE: it has {ids} ids"), &path);
                } else if (uid == 0) != root {
                    self.bad(Code::BadValue, "uid 0 is root's, and root's uid is 0", &path);
                }
                self.once(&mut uids, uid, path, |uid| format!("two users have the uid {uid}"));
            }
            self.once(&mut names, &user.name, format!("{item}.name"), |name| {
                format!("two users have the name `{name}`")
            });
        }
    }
}
