//! The watcher on real directories: what writers do to them, and what must come of it.

mod freeze;
mod hints;
mod scan;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::{Revision, Scanner, Trust};

const TRUST: Trust = Trust::Owners { also: None };

/// A manifest of a VE with a template and nothing else.
fn ve(name: &str) -> String {
    format!("apiVersion: vzd/v1\nkind: VE\nmetadata: {{name: {name}}}\nspec: {{template: tiny}}\n")
}

/// One with a description, so that versions can be told apart.
fn ve_with(name: &str, description: &str) -> String {
    format!(
        "apiVersion: vzd/v1\nkind: VE\nmetadata: {{name: {name}}}\nspec: {{template: tiny, description: {description}}}\n"
    )
}

/// One with an error in its spec.
fn ve_with_error(name: &str) -> String {
    format!("apiVersion: vzd/v1\nkind: VE\nmetadata: {{name: {name}}}\nspec: {{template: tiny, no: such}}\n")
}

struct Lab {
    temp: TempDir,
    dir: PathBuf,
}

impl Lab {
    /// An empty manifest directory.
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("manifests");
        std::fs::create_dir(&dir).unwrap();
        Self { temp, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        write(&self.path(name), text);
        self.path(name)
    }

    /// As careful tools write.
    fn replace(&self, name: &str, text: &str) {
        let temporary = self.path(&format!(".{name}.tmp"));
        write(&temporary, text);
        std::fs::rename(temporary, self.path(name)).unwrap();
    }

    fn scanner(&self) -> Scanner {
        Scanner::new(&self.dir, TRUST)
    }
}

/// Writes in place, whatever the umask is.
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
}

/// The names of the VEs in force.
fn names(revision: &Revision) -> Vec<&str> {
    let names: BTreeSet<&str> = revision.ves().filter_map(|held| held.document.name.as_deref()).collect();
    names.into_iter().collect()
}

fn description(revision: &Revision, name: &str) -> Option<String> {
    revision.ve(name)?.document.ve()?.spec.description.as_ref().map(ToString::to_string)
}

fn is_kept(revision: &Revision, name: &str) -> bool {
    revision.ve(name).is_some_and(|held| held.kept.is_some())
}

/// What became of a file of the lab, in words.
fn state(revision: &Arc<Revision>, path: &Path) -> String {
    revision.files.get(path.to_str().unwrap()).map_or("none".to_owned(), |state| match state {
        super::FileState::Good => "good".to_owned(),
        super::FileState::Kept { why } => format!("kept: {why}"),
        super::FileState::Unknown { why } => format!("unknown: {why}"),
    })
}
