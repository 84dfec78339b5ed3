//! Users inside a VE.

use super::macros::item;
use super::scalars::{PasswordHash, SshKey, UserName};

item! {
    /// A user inside a VE.
    pub struct User {
        /// The name.
        live name: UserName;
        /// The password as a hash in the form of crypt(5). Default: as it is, and for a new user none.
        live password_hash: Option<PasswordHash>,
        /// Public keys that may log in by ssh, beside those that are there.
        live ssh_keys: Vec<SshKey>,
        /// The user id inside the VE. Default: the next that is free. A user that is there keeps its own.
        live uid: Option<u32>,
        /// Further groups; one that is not there is made.
        live groups: Vec<UserName>,
    }
}
