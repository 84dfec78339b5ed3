//! Taking in a VE's own files. What comes is from a VE and may be hostile: every name is one component, is made in a directory that
//! is held open, and nothing is followed.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};

use super::{Bytes, DIRECTORY, Item, Layers, Sink, Traits};
use crate::drivers::Ve;
use crate::drivers::disk::remove;
use crate::error::{At, SysError, SysResult};

/// Takes in a VE's own files, into an upper layer that is empty at first.
#[derive(Debug)]
pub struct Receiver {
    top: OwnedFd,
    /// What that lies on.
    _layers: Option<Layers>,
    within: Vec<Within>,
    /// The file whose content comes.
    file: Option<(File, PathBuf, Traits)>,
    /// Files of several names, by number.
    links: HashMap<u64, PathBuf>,
    /// A whole tree is there.
    done: bool,
    /// One was there before: this is another round.
    again: bool,
}

/// A directory that it is in.
#[derive(Debug)]
struct Within {
    dir: OwnedFd,
    /// Below the top.
    path: PathBuf,
    /// What it is given at the end.
    traits: Traits,
    /// What was named in it, where there is something of an earlier round.
    named: HashSet<Vec<u8>>,
}

impl Within {
    fn itself(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/.", self.dir.as_raw_fd()))
    }
}

impl Receiver {
    /// For a VE whose layers have been made.
    pub fn new(ve: Ve<'_>) -> SysResult<Self> {
        let layers = Layers::open(ve, &ve.host.ve_dir(&ve.entry.uid))?;
        let to = Self::of(&layers.path.join("upper"))?;
        Ok(Self { _layers: Some(layers), ..to })
    }

    pub(super) fn of(upper: &Path) -> SysResult<Self> {
        let top = rustix::fs::open(upper, DIRECTORY, Mode::empty()).at("open", upper.display())?;
        Ok(Self {
            top,
            _layers: None,
            within: Vec::new(),
            file: None,
            links: HashMap::new(),
            done: false,
            again: false,
        })
    }

    /// Whether the whole tree is there.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Writes it all to disk.
    pub fn sync(&self) -> SysResult<()> {
        rustix::fs::syncfs(&self.top).at("write out", "files")
    }

    /// The place of a name in the directory that it is in: to be used at once, and the path that is told of it.
    fn place(&mut self, Bytes(name): &Bytes) -> SysResult<(PathBuf, PathBuf)> {
        let within = self.within.last_mut().ok_or_else(|| misplaced("a name outside of any directory"))?;
        if name.is_empty()
            || name == b"."
            || name == b".."
            || name.iter().any(|byte| matches!(byte, b'/' | 0))
        {
            return Err(misplaced("a name that is none"));
        }
        if self.again {
            within.named.insert(name.clone());
        }
        let name = OsStr::from_bytes(name);
        let here = PathBuf::from(format!("/proc/self/fd/{}", within.dir.as_raw_fd())).join(name);
        Ok((here, within.path.join(name)))
    }

    /// A place for something new: what an earlier round has put there goes.
    fn room(&mut self, name: &Bytes) -> SysResult<(PathBuf, PathBuf)> {
        let (place, path) = self.place(name)?;
        if self.again {
            remove::leftover(&place)?;
        }
        Ok((place, path))
    }

    /// Ends a directory: what was not named any more goes.
    fn leave(&self, within: &Within) -> SysResult<()> {
        if self.again {
            for entry in std::fs::read_dir(within.itself()).at("list", within.path.display())? {
                let name = entry.at("list", within.path.display())?.file_name();
                if !within.named.contains(name.as_bytes()) {
                    remove::leftover(&within.itself().join(name))?;
                }
            }
            within.traits.take_others(&within.itself())?;
        }
        // What is made in it changes its times.
        within.traits.give(&within.itself())
    }
}

const BELOW: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

fn misplaced(why: &str) -> SysError {
    SysError::refused("receive", "files", why)
}

impl Sink for Receiver {
    fn item(&mut self, item: &Item) -> SysResult<()> {
        let begins_again = self.done && matches!(item, Item::Enter(..));
        if self.done && !begins_again || self.file.is_some() != matches!(item, Item::End(_)) {
            return Err(misplaced("an item where none is expected"));
        }
        match item {
            Item::Enter(_, traits) if self.within.is_empty() => {
                if begins_again {
                    (self.done, self.again) = (false, true);
                    self.links.clear();
                    // While the other side has the VE stand still, which takes it a while.
                    self.sync()?;
                }
                let dir = self.top.try_clone().at("open", "upper layer")?;
                let (path, traits) = (PathBuf::new(), traits.clone());
                self.within.push(Within { dir, path, traits, named: HashSet::new() });
                Ok(())
            }
            Item::Enter(name, traits) => {
                let (place, path) = self.place(name)?;
                let is_there = self.again
                    && match std::fs::symlink_metadata(&place) {
                        Ok(is) if is.is_dir() => true,
                        _ => {
                            remove::leftover(&place)?;
                            false
                        }
                    };
                if !is_there {
                    std::fs::create_dir(&place).at("make directory", path.display())?;
                }
                let dir = rustix::fs::open(&place, DIRECTORY, Mode::empty()).at("open", path.display())?;
                let traits = traits.clone();
                self.within.push(Within { dir, path, traits, named: HashSet::new() });
                Ok(())
            }
            Item::Leave => {
                let within = self.within.pop().ok_or_else(|| misplaced("one end too many"))?;
                self.done = self.within.is_empty();
                self.leave(&within)
            }
            Item::Same(name, number) => {
                let (place, path) = self.place(name)?;
                let is = std::fs::symlink_metadata(&place).at("stat", path.display())?;
                if !self.again || is.is_dir() {
                    return Err(misplaced("the same as what was not told"));
                }
                self.links.extend(number.map(|number| (number, path)));
                Ok(())
            }
            Item::File(name, traits, number) => {
                let (place, path) = self.room(name)?;
                let mut options = File::options();
                options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
                let file = options.open(&place).at("make", path.display())?;
                if let Some(number) = number {
                    self.links.insert(*number, path);
                }
                self.file = Some((file, place, traits.clone()));
                Ok(())
            }
            Item::End(size) => {
                let (file, place, traits) = self.file.take().ok_or_else(|| misplaced("no file"))?;
                file.set_len(*size).at("write", place.display())?;
                traits.give(&place)
            }
            Item::Link(name, number) => {
                let (place, path) = self.room(name)?;
                let first = self.links.get(number).ok_or_else(|| misplaced("a link to nothing"))?;
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let first = rustix::fs::openat2(self.top.as_fd(), first, flags, Mode::empty(), BELOW)
                    .at("open", first.display())?;
                rustix::fs::linkat(&first, "", CWD, &place, AtFlags::EMPTY_PATH).at("link", path.display())
            }
            Item::Symlink(name, traits, Bytes(target)) => {
                let (place, path) = self.room(name)?;
                std::os::unix::fs::symlink(OsStr::from_bytes(target), &place).at("link", path.display())?;
                traits.give(&place)
            }
            Item::Node(name, traits, mode, device) => {
                let (place, path) = self.room(name)?;
                let kind = FileType::from_raw_mode(*mode);
                rustix::fs::mknodat(CWD, &place, kind, Mode::empty(), *device)
                    .at("make node", path.display())?;
                traits.give(&place)
            }
        }
    }

    fn data(&mut self, at: u64, bytes: &[u8]) -> SysResult<()> {
        let (file, place, _) = self.file.as_mut().ok_or_else(|| misplaced("content of no file"))?;
        file.write_all_at(bytes, at).at("write", place.display())
    }
}
