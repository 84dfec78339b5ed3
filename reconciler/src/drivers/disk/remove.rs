//! Every way in which a VE's root or a snapshot is thrown away, and no other: the whole of its directory, after a
//! rename, so that one that is half gone is never taken for a whole one.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use vzd_state::ids::VeName;
use vzd_state::subsystem::disk::Backend;

use super::pool::Pool;
use super::project;
use crate::drivers::{Effect, StepError, Ve};
use crate::engine::fault;
use crate::error::{At, SysError, SysResult};
use crate::host::Host;

/// What is being removed has this before its name.
const TRASH: &str = ".trash-";

/// Throws the root away.
pub fn destroy(ve: Ve<'_>) -> SysResult<Effect> {
    let (ves, uid) = (ve.host.settings.ves_dir(), ve.entry.uid.as_str());
    if ve.entry.disk.as_ref().is_none_or(|disk| disk.backend != Backend::Project) {
        return destroy_dir(&ves, uid);
    }
    // The pool first: while the VE's directory is there, its root is on record.
    if Pool::exists(&ve.host.settings) {
        let pool = Pool::open(ve.host)?;
        destroy_dir(&pool.path(), uid)?;
        project::forget(&pool, Some(&pool.device()), ve.entry.ids)?;
        fault::point();
    }
    let effect = destroy_dir(&ves, uid)?;
    let host = std::fs::File::open(&ves).at("open", ves.display())?;
    project::forget(host, None, ve.entry.ids)?;
    Ok(effect)
}

/// Throws a snapshot away, of those in `snapshots`.
pub fn snapshot(snapshots: &Path, name: &VeName) -> SysResult<()> {
    destroy_dir(snapshots, name.as_str()).map(drop)
}

/// Removes what has not become a root or snapshot, or is none any more: a file, or a directory and all in it.
pub fn leftover(path: &Path) -> SysResult<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(is) if is.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(SysError::new("remove", path.display(), e)),
        _ => Ok(()),
    }
}

fn destroy_dir(ves: &Path, uid: &str) -> SysResult<Effect> {
    let (dir, trash) = (ves.join(uid), ves.join(format!("{TRASH}{uid}")));
    let renamed = match std::fs::rename(&dir, &trash) {
        // What an earlier removal that was killed has left.
        Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => {
            std::fs::remove_dir_all(&trash).at("remove", trash.display())?;
            std::fs::rename(&dir, &trash)
        }
        other => other,
    };
    let was = match renamed {
        Ok(()) => Effect::Changed,
        Err(e) if e.kind() == ErrorKind::NotFound => Effect::AlreadySo,
        Err(e) => return Err(SysError::new("rename", dir.display(), e)),
    };
    match std::fs::remove_dir_all(&trash) {
        Ok(()) => Ok(Effect::Changed),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(was),
        Err(e) => Err(SysError::new("remove", trash.display(), e)),
    }
}

/// Finishes removals that were cut short, and removes templates that no root is made of any more.
pub fn tidy(host: &Host) -> Result<(), StepError> {
    if Pool::exists(&host.settings) {
        empty_trash(&Pool::open(host)?.path())?;
    }
    let used = tidy_dir(&host.settings.ves_dir())?;
    host.templates()?.remove_unused(&used)?;
    Ok(())
}

/// Removes what was on its way out.
fn empty_trash(dir: &Path) -> SysResult<()> {
    for entry in std::fs::read_dir(dir).at("list", dir.display())? {
        let entry = entry.at("list", dir.display())?;
        if entry.file_name().to_string_lossy().starts_with(TRASH) {
            std::fs::remove_dir_all(entry.path()).at("remove", entry.path().display())?;
        }
    }
    Ok(())
}

/// Removes what was on its way out, and tells which templates the rest is made of.
fn tidy_dir(ves: &Path) -> SysResult<BTreeSet<std::path::PathBuf>> {
    empty_trash(ves)?;
    let mut used = BTreeSet::new();
    for entry in std::fs::read_dir(ves).at("list", ves.display())? {
        let entry = entry.at("list", ves.display())?;
        let link = entry.path().join("lower");
        match std::fs::read_link(&link) {
            Ok(template) => drop(used.insert(template)),
            // A root that was not finished, or a file of somebody else's.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            // Not knowing what it is made of is no leave to remove that.
            Err(e) => return Err(SysError::new("read", link.display(), e)),
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(ves: &Path, uid: &str) {
        std::fs::create_dir_all(ves.join(uid).join("upper")).unwrap();
        std::fs::write(ves.join(uid).join("upper/data"), uid).unwrap();
        std::os::unix::fs::symlink("/template", ves.join(uid).join("lower")).unwrap();
    }

    fn names(ves: &Path) -> BTreeSet<String> {
        let entries = std::fs::read_dir(ves).unwrap().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn one_root_goes_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let ves = dir.path();
        ["a", "ab", "b"].iter().for_each(|uid| root(ves, uid));
        assert_eq!(destroy_dir(ves, "a").unwrap(), Effect::Changed);
        assert_eq!(destroy_dir(ves, "a").unwrap(), Effect::AlreadySo);
        assert_eq!(names(ves), ["ab", "b"].map(str::to_owned).into());
        assert_eq!(std::fs::read_to_string(ves.join("ab/upper/data")).unwrap(), "ab");
    }

    #[test]
    fn a_removal_that_was_cut_short_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let ves = dir.path();
        ["a", ".trash-a", ".trash-b", "c"].iter().for_each(|uid| root(ves, uid));
        assert_eq!(destroy_dir(ves, "a").unwrap(), Effect::Changed);
        assert_eq!(names(ves), [".trash-b", "c"].map(str::to_owned).into());
        assert_eq!(tidy_dir(ves).unwrap(), BTreeSet::from(["/template".into()]));
        assert_eq!(names(ves), ["c"].map(str::to_owned).into());
    }

    #[test]
    fn no_template_goes_while_one_root_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        root(dir.path(), "a");
        std::fs::create_dir_all(dir.path().join("unfinished")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(tidy_dir(dir.path()).unwrap(), BTreeSet::from(["/template".into()]));
        // What is there is no link.
        std::fs::create_dir_all(dir.path().join("b/lower")).unwrap();
        tidy_dir(dir.path()).unwrap_err();
    }

    #[test]
    fn a_link_out_of_a_root_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (ves, outside) = (dir.path().join("ves"), dir.path().join("outside"));
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("precious"), "").unwrap();
        root(&ves, "a");
        std::os::unix::fs::symlink(&outside, ves.join("a/upper/link")).unwrap();
        destroy_dir(&ves, "a").unwrap();
        assert!(outside.join("precious").exists());
    }
}
