//! Roots of real distributions, for tests that boot them: built by vzd's recipe where there is a mirror of Debian, or
//! taken in from the archive of such a build where there is none, as in guests of the lab.

use std::path::PathBuf;

use crate::{Must, Sandbox};

/// The folder of archives by the names of their recipes, where it is given.
pub(crate) fn archives() -> Option<PathBuf> {
    std::env::var_os("VZD_TEST_DISTRIBUTIONS").map(PathBuf::from)
}

impl Sandbox {
    /// Makes a template of a recipe's name. The test needs `Distribution`.
    #[track_caller]
    pub fn distribution(&self, recipe: &str) {
        let Some(folder) = archives() else {
            self.vzd(&["template", "build", recipe]).ok().says("built");
            return;
        };
        let archive = folder.join(format!("{recipe}.tar.zst"));
        let archive = archive.to_str().must("name the archive");
        self.vzd(&["template", "add", recipe, archive]).ok().says("added");
    }
}
