//! Quotas and grace times of a VE's users and groups, to be had again on a file system that does not have them: they go with
//! a checkpoint to wherever the VE is resumed.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

use super::UserQuotas;
use super::graces::{Graces, Pair};
use crate::error::{At, SysError, SysResult};
use crate::kernel::quota::Quota;
use crate::kernel::quota::users::{self, Kind};

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kept {
    users: OfKind,
    groups: OfKind,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OfKind {
    /// None for those of the file system.
    grace: Option<Pair>,
    /// By the id that it has in the VE.
    quotas: BTreeMap<u32, Limits>,
}

/// Limits, and when grace ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limits {
    /// Soft and hard, in KiB.
    space: (u64, u64),
    /// Soft and hard.
    inodes: (u64, u64),
    ends: Pair,
}

impl Limits {
    fn of(quota: &Quota) -> Self {
        Self {
            space: (quota.space_soft, quota.space_hard),
            inodes: (quota.inodes_soft, quota.inodes_hard),
            ends: Pair::of_quota(quota),
        }
    }

    fn quota(&self) -> Quota {
        Quota {
            space_soft: self.space.0,
            space_hard: self.space.1,
            inodes_soft: self.inodes.0,
            inodes_hard: self.inodes.1,
            valid: users::SETTABLE,
            ..self.ends.on(Quota::default())
        }
    }
}

impl Kept {
    /// What a VE has now.
    pub fn of(quotas: &UserQuotas) -> SysResult<Self> {
        let device = device(quotas)?;
        let graces = Graces::of(quotas, &device);
        graces.settle()?;
        let mut kept = Self::default();
        for kind in Kind::ALL {
            let of = kept.of_kind(kind);
            of.grace = graces.own(kind)?;
            for quota in users::each(&device, kind, quotas.ids()) {
                let quota = quota.at("read", "quotas")?;
                if quota.limits() {
                    of.quotas.insert(quota.id - quotas.base, Limits::of(&quota));
                }
            }
        }
        Ok(kept)
    }

    /// Has a VE, none of whose processes runs, have them again.
    pub fn put_back(mut self, quotas: &UserQuotas) -> SysResult<()> {
        let device = device(quotas)?;
        for kind in Kind::ALL {
            let of = std::mem::take(self.of_kind(kind));
            for (id, limits) in of.quotas.range(..quotas.count) {
                let id = quotas.base + id;
                if Limits::of(&users::get(&device, kind, id).at("read", "quota")?) != *limits {
                    users::set(&device, kind, id, limits.quota()).at("set", "quota")?;
                }
            }
            Graces::of(quotas, &device).put_back(kind, of.grace)?;
        }
        Ok(())
    }

    fn of_kind(&mut self, kind: Kind) -> &mut OfKind {
        match kind {
            Kind::User => &mut self.users,
            Kind::Group => &mut self.groups,
        }
    }
}

fn device(quotas: &UserQuotas) -> SysResult<CString> {
    CString::new(quotas.device.as_os_str().as_bytes())
        .map_err(|e| SysError::refused("use", quotas.device.display(), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_put_back_as_they_were() {
        let quota =
            Quota { space_hard: 9, inodes_soft: 7, inodes_time: 5, space_used: 3, ..Quota::default() };
        let limits = Limits::of(&quota);
        assert_eq!(limits.quota(), Quota { valid: users::SETTABLE, space_used: 0, ..quota });
        assert_eq!(Limits::of(&limits.quota()), limits);
    }
}
