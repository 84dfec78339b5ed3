//! Roots of distributions for guests, which have no mirror to make them from: built by vzd's own recipes on this machine,
//! and kept in the cache for as long as the recipes stay the same. One more is at work: with a web server and a database.

use std::path::PathBuf;
use std::process::Command;

use super::image::{cache, hash, kept};
use crate::run::{Context, Result, run, target};

/// What a test declares that boots one.
pub(super) const NEED: &str = "Distribution";

/// Those that tests boot.
const RECIPES: &[&str] = &["debian-12-sysvinit", "debian-13", "debian-13-server"];

/// Makes the one that is at work.
const AT_WORK: &str = include_str!("../../../distribution/at-work.sh");

const TEXT: &str = include_str!("../../../../reconciler/src/template/recipe.rs");

/// The folder of their archives, each named after its recipe.
pub(super) fn folder() -> Result<PathBuf> {
    let folder = cache().join(format!("distributions-{:016x}", hash(&(TEXT, RECIPES, AT_WORK))));
    kept(&folder, "roots of distributions", |new| {
        let state = new.with_extension("state");
        let built = RECIPES.iter().try_for_each(|recipe| {
            let mut vzd = Command::new(target().join("debug/vzd"));
            vzd.args(["template", "build", recipe]);
            for (variable, part) in [("STATE_DIR", ""), ("RUN_DIR", "run"), ("MANIFESTS", "manifests")] {
                vzd.env(format!("VZD_{variable}"), state.join(part));
            }
            run(&mut vzd)?;
            let name = format!("{recipe}.tar.zst");
            let archive = state.join("templates").join(&name);
            std::fs::rename(&archive, new.join(&name)).context(archive.display())
        });
        std::fs::remove_dir_all(&state).context(state.display()).and(built)?;
        run(Command::new("sh").args(["-c", AT_WORK, "sh"]).arg(new.join("at-work.tar")))
    })?;
    Ok(folder)
}
