//! Users inside a VE.

use super::macros::item;
use super::scalars::UserName;

item! {
    /// A user inside a VE.
    pub struct User {
        /// The name.
        live name: UserName;
        /// The password as a hash in the form of crypt(5). Default: no password.
        live password_hash: Option<String>,
        /// Public keys that may log in by ssh.
        live ssh_keys: Vec<String>,
        /// The user id inside the VE.
        live uid: Option<u32>,
        /// Further groups.
        live groups: Vec<UserName>,
    }
}
