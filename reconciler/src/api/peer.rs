//! Who may ask: root, whoever runs the controller, and members of the group `vzd`.
//!
//! The socket's mode keeps others out as well; this holds whatever becomes of the mode.

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::net::unix::UCred;

use crate::api::GROUP;

/// Opens the socket to the group if there is one, and to nobody else.
pub fn protect(socket: &Path) -> io::Result<()> {
    let group = Group::from_name(GROUP).map_err(io::Error::from)?;
    let mode = match group {
        Some(group) => {
            chown(socket, None, Some(group.gid.as_raw()))?;
            0o660
        }
        None => 0o600,
    };
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode))
}

/// What somebody may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// Everything: root, or whoever runs the controller.
    Owner,
    /// What is about the host's VEs as their manifests describe them: a member of the group.
    Member,
    /// Nothing.
    Stranger,
}

/// What a process with these credentials may ask. Asks the user database, which may take a while.
pub fn rank(peer: &UCred) -> Rank {
    let uid = Uid::from_raw(peer.uid());
    if uid.is_root() || uid == Uid::effective() {
        return Rank::Owner;
    }
    if is_member(uid, Gid::from_raw(peer.gid())) { Rank::Member } else { Rank::Stranger }
}

fn is_member(uid: Uid, gid: Gid) -> bool {
    let Ok(Some(group)) = Group::from_name(GROUP) else { return false };
    if gid == group.gid {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(uid) else { return false };
    let Ok(name) = std::ffi::CString::new(user.name) else { return false };
    getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group.gid))
}
