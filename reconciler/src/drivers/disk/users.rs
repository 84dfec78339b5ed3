//! Quotas of a VE's own users: which there are, and what is set for them.

use vzd_state::subsystem::lifecycle::ColdSpec;

use super::backend;
use super::project::Project;
use crate::drivers::Ve;
use crate::error::SysResult;
use crate::runtime::quotas::{Kept, UserQuotas};

/// The quotas of users that a running VE was started with.
pub fn users(ve: Ve<'_>, cold: &ColdSpec) -> SysResult<Option<UserQuotas>> {
    if cold.quota_ids == 0 || !backend(ve).keeps_users() {
        return Ok(None);
    }
    Project::running(ve, &ve.host.ve_dir(&ve.entry.uid))?.users(ve, cold.quota_ids).map(Some)
}

/// What the root of a VE that does not run has set for its users and groups, to go with its files.
pub fn kept_users(ve: Ve<'_>, cold: &ColdSpec) -> SysResult<Option<Kept>> {
    with_stopped_users(ve, cold, Kept::of)
}

/// Has such a VE find that again, on another file system.
pub fn put_users_back(ve: Ve<'_>, cold: &ColdSpec, kept: Kept) -> SysResult<()> {
    with_stopped_users(ve, cold, |quotas| kept.put_back(quotas)).map(drop)
}

fn with_stopped_users<T>(
    ve: Ve<'_>,
    cold: &ColdSpec,
    work: impl FnOnce(&UserQuotas) -> SysResult<T>,
) -> SysResult<Option<T>> {
    if cold.quota_ids == 0 || !backend(ve).keeps_users() {
        return Ok(None);
    }
    // The pool is mounted for as long as it is open.
    let project = Project::open(ve, &ve.host.ve_dir(&ve.entry.uid))?;
    work(&project.users(ve, cold.quota_ids)?).map(Some)
}
