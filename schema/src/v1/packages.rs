//! Software inside a VE.

use super::macros::{group, words};

group! {
    /// Packages of the VE's distribution.
    pub struct Packages {
        /// Installed.
        live present: Vec<String>,
        /// Not installed.
        live absent: Vec<String>,
        /// Which are brought up to date.
        live upgrade: Option<Upgrade> = Upgrade::None,
    }
}

words! {
    /// Which packages are brought up to date.
    pub enum Upgrade as "camelCase" {
        /// None.
        None,
        /// Those with security fixes.
        Security,
        /// All.
        All,
    }
}
