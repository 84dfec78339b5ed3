//! Which directories have to be watched to hear of every change to the manifests.
//!
//! That is every directory of the tree; and for each symlink on the way to one, or to a file in it, the
//! directory that the link lies in, since a link that is pointed elsewhere tells nothing to those who
//! watch its target. Of what is missing, it is the nearest directory that is there.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::list::MOST_DEPTH;
use super::names;

/// Symlinks followed for one path, as the kernel does.
const MOST_LINKS: usize = 40;
/// Directories watched. What is beyond is found by the periodic rescan.
const MOST_DIRECTORIES: usize = 4096;

/// What is of interest in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Names {
    /// Everything that may be a manifest, and these: hidden symlinks that lead to one.
    Manifests(BTreeSet<OsString>),
    /// Only these: it is on the way to the manifests, or holds files that symlinks lead to.
    Only(BTreeSet<OsString>),
}

impl Names {
    fn concern(&self, name: &OsStr) -> bool {
        match self {
            Names::Manifests(also) => {
                also.contains(name) || name.to_str().is_none_or(|name| names::leftover(name).is_none())
            }
            Names::Only(names) => names.contains(name),
        }
    }
}

/// The directories to watch, by their paths without symlinks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Ways {
    directories: BTreeMap<PathBuf, (Names, (u64, u64))>,
}

impl Ways {
    /// The ways to a manifest directory and within it.
    pub(super) fn to(dir: &Path) -> Self {
        let mut ways = Self::default();
        if let Some(root) = ways.follow(dir) {
            ways.tree(&root, 0, &mut HashSet::new());
        }
        ways.directories.retain(|path, (_, identity)| match std::fs::metadata(path) {
            Ok(is) => {
                *identity = (is.dev(), is.ino());
                is.is_dir()
            }
            Err(_) => false,
        });
        ways
    }

    /// The directories.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.keys().map(PathBuf::as_path)
    }

    /// Whether the same directories are to be watched, whatever for.
    pub(super) fn same_directories(&self, other: &Self) -> bool {
        let identities = |ways: &Self| -> Vec<(PathBuf, (u64, u64))> {
            ways.directories.iter().map(|(path, (_, identity))| (path.clone(), *identity)).collect()
        };
        identities(self) == identities(other)
    }

    /// Whether a change of that path is of interest.
    pub(super) fn concern(&self, path: &Path) -> bool {
        if self.directories.contains_key(path) {
            return true;
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return false };
        self.directories.get(parent).is_some_and(|(names, _)| names.concern(name))
    }

    /// Whether it is one of the directories itself.
    pub(super) fn contain(&self, path: &Path) -> bool {
        self.directories.contains_key(path)
    }

    /// Follows a path to what it names in the end, if that is there, and notes where it may be bent.
    fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        let mut ahead: VecDeque<OsString> = parts(path);
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = ahead.pop_front() {
            if part == "/" {
                here = PathBuf::from("/");
                continue;
            }
            if part == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&part);
            match std::fs::symlink_metadata(&next) {
                Ok(is) if is.is_symlink() => {
                    self.note(&here, &part);
                    links += 1;
                    let target = std::fs::read_link(&next).ok().filter(|_| links <= MOST_LINKS)?;
                    for part in parts(&target).into_iter().rev() {
                        ahead.push_front(part);
                    }
                }
                Ok(_) => here = next,
                Err(_) => {
                    self.note(&here, &part);
                    return None;
                }
            }
        }
        Some(here)
    }

    fn note(&mut self, directory: &Path, name: &OsStr) {
        let entry = self.directories.entry(directory.to_owned());
        let (Names::Only(names) | Names::Manifests(names), _) =
            entry.or_insert_with(|| (Names::Only(BTreeSet::new()), (0, 0)));
        names.insert(name.to_owned());
    }

    /// Notes a directory of manifests and those below it.
    fn tree(&mut self, dir: &Path, depth: usize, seen: &mut HashSet<PathBuf>) {
        if depth > MOST_DEPTH || seen.len() >= MOST_DIRECTORIES || !seen.insert(dir.to_owned()) {
            return;
        }
        let noted = match self.directories.remove(dir) {
            Some((Names::Only(names) | Names::Manifests(names), _)) => names,
            None => BTreeSet::new(),
        };
        self.directories.insert(dir.to_owned(), (Names::Manifests(noted), (0, 0)));
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| names::leftover(name).is_none()) else { continue };
            let kind = entry.file_type();
            if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
                self.tree(&dir.join(name), depth + 1, seen);
            } else if kind.is_ok_and(|kind| kind.is_symlink()) {
                self.link(&dir.join(name), depth, seen);
            }
        }
    }

    /// Notes where a symlink in a directory of manifests leads.
    fn link(&mut self, link: &Path, depth: usize, seen: &mut HashSet<PathBuf>) {
        let target: io::Result<Metadata> = std::fs::metadata(link);
        let is_directory = target.is_ok_and(|target| target.is_dir());
        if !is_directory && !link.to_str().is_some_and(names::is_manifest) {
            return;
        }
        let Some(end) = self.follow(link) else { return };
        if is_directory {
            self.tree(&end, depth + 1, seen);
        } else if let (Some(parent), Some(name)) = (end.parent(), end.file_name()) {
            self.note(parent, name);
        }
    }
}

/// The parts of a path: `/` first if it is absolute, then names and `..`.
fn parts(path: &Path) -> VecDeque<OsString> {
    let word = |component: Component<'_>| match component {
        Component::CurDir | Component::Prefix(_) => None,
        Component::RootDir | Component::ParentDir | Component::Normal(_) => {
            Some(component.as_os_str().to_owned())
        }
    };
    path.components().filter_map(word).collect()
}
