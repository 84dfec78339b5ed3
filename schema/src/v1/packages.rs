//! Software inside a VE.

use super::macros::{group, words};
use super::scalars::PackageName;

group! {
    /// Packages of the VE's distribution.
    pub struct Packages {
        /// Installed. What is taken out of the list stays, and is not managed any more.
        live present: Vec<PackageName>,
        /// Not installed.
        live absent: Vec<PackageName>,
        /// Which are brought up to date, once a day.
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
