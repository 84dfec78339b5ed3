//! A checkpoint on disk: a directory for root alone, with CRIU's files and a list of contents.
//!
//! The list is written last and taken away first: while it is there, the checkpoint is whole, and nothing has run from
//! it yet. Every file is in it with its length and digest, and with what VE and which ids it is of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use vzd_state::subsystem::lifecycle::Checkpoint;

use super::ahead::{self, PARENT};
use super::contents::{Contents, FORMAT, LIST, read, sound};
use super::files::{images, is_pages, list, make_open, mode_of, parse};
use super::packed::{self, is_packed};
use super::received::Received;
use super::sum::{Sum, sums};
use crate::error::{At, SysError, SysResult};
use crate::store::{Writes, atomic};

/// The same of a checkpoint that a VE has been resumed from.
const USED: &str = "checkpoint.used";
/// Beside the directory: held by who works on it, CRIU included.
const LOCK: &str = "checkpoint.lock";
/// The directory of a checkpoint, of which nobody else makes any use meanwhile.
#[derive(Debug)]
pub struct Image {
    dir: PathBuf,
    lock: File,
}

impl Image {
    /// Waits until nobody else works on it. Nothing need be there.
    pub fn lock(dir: &Path) -> SysResult<Image> {
        let path = dir.with_file_name(LOCK);
        let lock = File::create(&path).at("create", path.display())?;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::LockExclusive) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other.at("lock", path.display())?,
            }
        }
        Ok(Image { dir: dir.to_owned(), lock })
    }

    /// The lock, which CRIU is to hold too.
    pub fn lock_file(&self) -> &File {
        &self.lock
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes an empty one; if `place` is given, there, with a link to it.
    pub fn make(&self, place: Option<&Path>) -> SysResult<()> {
        self.remove()?;
        let Some(place) = place else { return make_private(&self.dir) };
        // Nobody else gets as far as its files, which are open to others while it is resumed.
        let private = place.parent().unwrap_or(place);
        match std::fs::symlink_metadata(private) {
            Ok(is) if is.is_dir() && is.uid() == 0 && is.mode() & 0o077 == 0 => {}
            Ok(_) => {
                let why = "it is there already, and is no directory of root's alone";
                return Err(SysError::refused("use", private.display(), why));
            }
            Err(_) => make_private(private)?,
        }
        remove_all(place)?;
        make_private(place)?;
        std::os::unix::fs::symlink(place, &self.dir).at("link", self.dir.display())
    }

    /// Throws it away, the list first. It holds no mounts: CRIU works in a mount namespace of its own.
    pub fn remove(&self) -> SysResult<()> {
        self.invalidate()?;
        match std::fs::read_link(&self.dir) {
            Ok(place) => {
                remove_all(&place)?;
                // As far as nothing else is in there.
                let _ = place.parent().map(std::fs::remove_dir);
                std::fs::remove_file(&self.dir).at("remove", self.dir.display())
            }
            Err(_) => remove_all(&self.dir),
        }
    }

    /// Nothing can be resumed from it any more.
    pub fn invalidate(&self) -> SysResult<()> {
        let list = self.dir.join(LIST);
        match std::fs::remove_file(&list) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(SysError::new("remove", list.display(), e))
            }
            Err(_) => Ok(()),
            Ok(()) => atomic::sync(&self.dir),
        }
    }

    /// Makes it whole, and durable: fills in the sums of all files that it has none of yet, and writes the list. `compress`: memory
    /// is kept compressed, which takes the longest.
    pub fn seal(&self, mut contents: Contents, compress: bool) -> SysResult<()> {
        contents.files.extend(sums(list(&self.dir)?, compress)?);
        contents.format = contents.needs();
        let text = serde_json::to_vec(&contents).map_err(|e| SysError::refused("encode", LIST, e))?;
        atomic::write(&self.dir.join(LIST), &text, &Writes::default())?;
        match self.dir.parent() {
            Some(parent) => atomic::sync(parent),
            None => Ok(()),
        }
    }

    /// Makes it the same as a whole one in `from`, which stays: its files have two names.
    pub fn link(&self, from: &Image) -> SysResult<()> {
        self.make(None)?;
        for (name, path, _) in from.parts()? {
            let here = self.dir.join(&name);
            if name == LIST {
                atomic::sync(&self.dir)?;
                let text = std::fs::read(&path).at("read", path.display())?;
                atomic::write(&here, &text, &Writes::default())?;
            } else {
                std::fs::hard_link(&path, &here).at("link", here.display())?;
            }
        }
        self.dir.parent().map_or(Ok(()), atomic::sync)
    }

    /// The sums of what is in the directory of a round that was written ahead, each of which is on disk then, as by [`Self::seal`].
    pub(super) fn sums_of(&self, round: &str, compress: bool) -> SysResult<BTreeMap<String, Sum>> {
        let files = list(&self.dir.join(round))?.into_iter();
        sums(files.map(|(name, path)| (format!("{round}/{name}"), path)).collect(), compress)
    }

    /// The files of a round that was written ahead, by name with their paths and permissions.
    pub fn parts_ahead(&self, round: u32) -> SysResult<Vec<(String, PathBuf, u32)>> {
        let round = ahead::directory(round);
        let files = list(&self.dir.join(&round))?.into_iter();
        files
            .map(|(name, path)| Ok((format!("{round}/{name}"), mode_of(&path)?, path)))
            .map(|part| part.map(|(name, mode, path)| (name, path, mode)))
            .collect()
    }

    /// Makes a file of it that comes from elsewhere; in a round's directory, as it may be named. Says where it is.
    pub fn make_part(&self, name: &str, mode: u32) -> SysResult<(File, PathBuf)> {
        let no_name = || SysError::refused("receive", format_args!("file {name:?}"), "it has no good name");
        let (round, file) = parse(name).ok_or_else(no_name)?;
        let mut dir = self.dir.clone();
        if let Some((directory, round)) = round {
            dir.push(directory);
            if !dir.exists() {
                make_open(&dir)?;
                if let Some(parent) = ahead::parent_of(round) {
                    std::os::unix::fs::symlink(parent, dir.join(PARENT)).at("link", dir.display())?;
                }
            }
        }
        let path = dir.join(file);
        let new = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let new = new.at("make", path.display())?;
        let mode = std::fs::Permissions::from_mode(mode & 0o777);
        new.set_permissions(mode).at("chmod", path.display())?;
        Ok((new, path))
    }

    /// Has CRIU find the rounds that have come, as it leaves them. Those that the list knows nothing of came to nothing, and are
    /// removed: the source had to begin anew.
    pub fn tie(&self) -> SysResult<()> {
        let contents = sound(&self.dir)?;
        let rounds = (contents.ahead.saturating_add(1)..).map(|round| self.dir.join(ahead::directory(round)));
        rounds.take_while(|dir| dir.exists()).try_for_each(|dir| remove_all(&dir))?;
        match contents.ahead {
            0 => Ok(()),
            rounds => {
                let link = self.dir.join(PARENT);
                std::os::unix::fs::symlink(ahead::directory(rounds), &link).at("link", link.display())
            }
        }
    }

    /// Removes what was written ahead of a checkpoint that has not come to be.
    pub fn forget_ahead(&self) -> SysResult<()> {
        if is_ahead(&self.dir) && look(&self.dir).is_err() { self.remove() } else { Ok(()) }
    }

    /// The names of CRIU's files.
    pub fn names(&self) -> SysResult<BTreeSet<String>> {
        Ok(sound(&self.dir)?.files.into_keys().collect())
    }

    /// Its files, the list last, by name with their paths and permissions.
    pub fn parts(&self) -> SysResult<Vec<(String, PathBuf, u32)>> {
        let contents = sound(&self.dir)?;
        let part = |name: &str| {
            let path = self.dir.join(name);
            let mode = mode_of(&path)?;
            Ok((name.to_owned(), path, mode))
        };
        contents.files.keys().map(String::as_str).chain([LIST]).map(part).collect()
    }

    /// Reads the list, and refuses a checkpoint that is not this VE's or not as it was written.
    pub fn check(&self, uid: &str, ids: (u32, u32)) -> SysResult<Contents> {
        let contents = self.check_all_but_pages(uid, ids)?;
        self.check_pages(&contents)?;
        self.compare(&contents, is_packed)?;
        Ok(contents)
    }

    /// The same, but for what was in memory: nobody reads anything into that but the VE's own programs.
    pub fn check_all_but_pages(&self, uid: &str, ids: (u32, u32)) -> SysResult<Contents> {
        let contents = sound(&self.dir)?;
        if !(1..=FORMAT).contains(&contents.format) {
            let format = contents.format;
            return Err(self.refuse(format!("it is of format {format}, and this vzd reads 1 to {FORMAT}")));
        }
        if contents.uid != uid || (contents.id_base, contents.id_count) != ids {
            let (uid, base) = (&contents.uid, contents.id_base);
            return Err(self.refuse(format!("it is of VE {uid} with ids from {base}")));
        }
        let found = images(&self.dir)?;
        self.check_links(contents.ahead)?;
        let known = |name: &String| {
            // One that was written out for a resume that came to nothing.
            contents.files.contains_key(name) || contents.files.contains_key(&packed::packed(name))
        };
        if let Some(name) = found.keys().find(|name| !known(name)) {
            return Err(self.refuse(format!("file {name} does not belong to it")));
        }
        if let Some(name) = contents.files.keys().find(|name| !found.contains_key(*name)) {
            return Err(self.refuse(format!("its file {name} is missing")));
        }
        self.compare(&contents, |name| !is_pages(name))?;
        Ok(contents)
    }

    /// Refuses it if memory is not as it was written. What has just come as it was sent is not read once more; nor is what is
    /// compressed, which is looked at as it is written out.
    pub fn check_pages(&self, contents: &Contents) -> SysResult<()> {
        let received = Received::of(&self.dir);
        self.compare(contents, |name| is_pages(name) && !is_packed(name) && !received.knows(&self.dir, name))
    }

    /// CRIU follows them: they have to lead where they did.
    fn check_links(&self, rounds: u32) -> SysResult<()> {
        let last = (rounds > 0).then(|| ahead::directory(rounds));
        let links =
            (1..=rounds).map(|round| (self.dir.join(ahead::directory(round)), ahead::parent_of(round)));
        for (dir, leads_to) in links.chain([(self.dir.clone(), last)]) {
            let link = dir.join(PARENT);
            let found = std::fs::read_link(&link).ok();
            if found != leads_to.map(PathBuf::from) || link.exists() != found.is_some() {
                return Err(self.refuse(format!("{} does not lead to the round before", link.display())));
            }
        }
        Ok(())
    }

    fn compare(&self, contents: &Contents, which: impl Fn(&str) -> bool) -> SysResult<()> {
        for (name, sum) in contents.files.iter().filter(|(name, _)| which(name)) {
            if !sum.is_of(&self.dir.join(name))? {
                return Err(is_torn(&self.dir, name));
            }
        }
        Ok(())
    }

    fn refuse(&self, why: String) -> SysError {
        refuse(&self.dir, why)
    }

    /// Lets processes in the VE's user namespace open its files, which CRIU has them do, or nobody but root. Nobody else
    /// gets as far as the directory.
    pub fn let_in(&self, others: bool) -> SysResult<()> {
        let mode = std::fs::Permissions::from_mode(if others { 0o711 } else { 0o700 });
        std::fs::set_permissions(&self.dir, mode).at("chmod", self.dir.display())
    }

    /// From now on a VE may have run from it.
    pub fn use_up(&self) -> SysResult<()> {
        self.rename(LIST, USED)
    }

    /// Nothing has run from it after all.
    pub fn take_back(&self) -> SysResult<()> {
        self.rename(USED, LIST)
    }

    fn rename(&self, from: &str, to: &str) -> SysResult<()> {
        let path = self.dir.join(from);
        std::fs::rename(&path, self.dir.join(to)).at("rename", path.display())?;
        atomic::sync(&self.dir)
    }
}

fn refuse(dir: &Path, why: String) -> SysError {
    SysError::refused("use", format_args!("checkpoint {}", dir.display()), why)
}

pub(super) fn is_torn(dir: &Path, name: &str) -> SysError {
    refuse(dir, format!("its file {name} is not as it was written"))
}

fn make_private(dir: &Path) -> SysResult<()> {
    std::fs::DirBuilder::new().mode(0o700).create(dir).at("make directory", dir.display())
}

fn remove_all(dir: &Path) -> SysResult<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(SysError::new("remove", dir.display(), e)),
        _ => Ok(()),
    }
}

/// What can be seen of a checkpoint without reading it all.
pub fn look(dir: &Path) -> SysResult<Checkpoint> {
    let contents = read(dir)?;
    Ok(Checkpoint { at: contents.at, bytes: contents.files.values().map(Sum::bytes).sum() })
}

/// Whether there is something in a checkpoint's directory that was written ahead.
pub fn is_ahead(dir: &Path) -> bool {
    dir.join(ahead::directory(1)).exists()
}

#[cfg(test)]
pub(super) mod tests;
