//! Grace times that a VE's root has set for its users and groups.
//!
//! The kernel has one grace time of each kind for a whole file system, and by it says when an id's grace ends, at the moment
//! when use passes a soft limit. [`Graces::settle`] moves that end to where the VE's own grace time puts it, and the kernel refuses by
//! that. It is not late while it is done at least once within a grace time. Which ends have been moved, or were set by hand,
//! is on disk before they are, so that none is moved twice.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::UserQuotas;
use crate::error::{At, SysError, SysResult};
use crate::kernel::quota::Quota;
use crate::kernel::quota::users::{self, Info, Kind, VALID_BLOCK_TIME, VALID_INODE_TIME};
use crate::store::{Writes, atomic};

/// The file, in the VE's directory.
const FILE: &str = "user-graces.json";
/// XFS keeps times in steps of so many seconds.
const STEP: u64 = 4;
/// The longest grace time: XFS's times may end in 2106.
const LONGEST: u64 = 1 << 31;
/// A VE without grace times of its own is looked at so often, for such as another process of ours has noted; and one with
/// long ones.
const SELDOM: Duration = Duration::from_secs(20);
/// At most so often.
const OFTEN: Duration = Duration::from_secs(1);

/// One number for space and one for inodes: grace times, or when they end. An end of 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pair {
    space: u64,
    inodes: u64,
}

impl Pair {
    fn of_info(info: &Info) -> Self {
        Self { space: info.space_grace, inodes: info.inodes_grace }
    }

    /// The ends in a quota.
    pub fn of_quota(quota: &Quota) -> Self {
        Self { space: quota.space_time, inodes: quota.inodes_time }
    }

    /// A quota with these ends.
    pub fn on(self, quota: Quota) -> Quota {
        Quota { space_time: self.space, inodes_time: self.inodes, ..quota }
    }
}

/// What is kept of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Own {
    /// The grace times; none for those of the file system.
    grace: Option<Pair>,
    /// Ends that are as they are to be, by the id on the host.
    ends: BTreeMap<u32, Pair>,
}

impl Own {
    /// Where ends are to be that are these now, on a file system with the grace times `of_all`.
    fn moved(&self, id: u32, is: Pair, of_all: Pair) -> Pair {
        let Some(grace) = self.grace else { return is };
        let known = self.ends.get(&id).copied().unwrap_or_default();
        let end = |is: u64, known: u64, of_all: u64, grace: u64| match is {
            0 => 0,
            is if is.abs_diff(known) < STEP => is,
            is => is.saturating_sub(of_all).saturating_add(grace).max(1),
        };
        Pair {
            space: end(is.space, known.space, of_all.space, grace.space),
            inodes: end(is.inodes, known.inodes, of_all.inodes, grace.inodes),
        }
    }
}

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Noted {
    users: Own,
    groups: Own,
}

impl Noted {
    fn of(&self, kind: Kind) -> &Own {
        match kind {
            Kind::User => &self.users,
            Kind::Group => &self.groups,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut Own {
        match kind {
            Kind::User => &mut self.users,
            Kind::Group => &mut self.groups,
        }
    }

    /// How soon ends have to be looked at again.
    fn again_in(&self) -> Duration {
        let graces = [&self.users, &self.groups].into_iter().filter_map(|own| own.grace);
        let shortest = graces.map(|grace| grace.space.min(grace.inodes)).min();
        shortest.map_or(SELDOM, |seconds| Duration::from_secs(seconds / 2).clamp(OFTEN, SELDOM))
    }
}

/// The grace times of a VE.
#[derive(Debug)]
pub struct Graces<'a> {
    /// The VE's directory.
    dir: &'a Path,
    /// The block device of the file system.
    device: &'a CStr,
    /// The VE's ids.
    ids: std::ops::Range<u32>,
}

/// A VE that nobody can see such times of any more has none.
pub fn forget(dir: &Path) -> SysResult<()> {
    atomic::remove(&dir.join(FILE), &Writes::default()).map(drop)
}

impl<'a> Graces<'a> {
    /// Those of the VE that has these quotas.
    pub fn of(quotas: &'a UserQuotas, device: &'a CStr) -> Self {
        Self { dir: &quotas.dir, device, ids: quotas.ids() }
    }

    /// The grace times that the VE's root is told.
    pub fn info(&self, kind: Kind) -> SysResult<Info> {
        let info = self.of_all(kind)?;
        let own = self.read()?.of(kind).grace.unwrap_or(Pair::of_info(&info));
        Ok(Info { space_grace: own.space, inodes_grace: own.inodes, ..info })
    }

    /// Sets of the grace times what `info.valid` names. Those that have begun end as they would have. Refused are such as no
    /// file system could keep.
    pub fn set_info(&self, kind: Kind, info: &Info) -> SysResult<()> {
        let of_all = Pair::of_info(&self.of_all(kind)?);
        self.change(|noted| {
            self.settle_by(noted)?;
            let own = noted.of_mut(kind);
            let mut grace = own.grace.unwrap_or(of_all);
            for (named, of, to) in [
                (users::VALID_SPACE_GRACE, &mut grace.space, info.space_grace),
                (users::VALID_INODES_GRACE, &mut grace.inodes, info.inodes_grace),
            ] {
                if info.valid & named != 0 {
                    *of = to;
                }
            }
            if grace.space.max(grace.inodes) > LONGEST {
                return Err(SysError::refused("set", "grace time", "it is too long"));
            }
            own.grace = Some(grace);
            own.ends = self.ends(kind)?;
            Ok(())
        })
    }

    /// The grace times that the VE's root has set, if it has.
    pub fn own(&self, kind: Kind) -> SysResult<Option<Pair>> {
        Ok(self.read()?.of(kind).grace)
    }

    /// Notes grace times, and that ends are as they are to be.
    pub fn put_back(&self, kind: Kind, grace: Option<Pair>) -> SysResult<()> {
        let ends = grace.map(|_| self.ends(kind)).transpose()?.unwrap_or_default();
        self.change(|noted| {
            *noted.of_mut(kind) = Own { grace, ends };
            Ok(())
        })
    }

    /// The quota as it is, or will be as soon as its ends have been looked at.
    pub fn told(&self, kind: Kind, quota: Quota) -> SysResult<Quota> {
        let ends = Pair::of_quota(&quota);
        if ends == Pair::default() {
            return Ok(quota);
        }
        let moved = self.read()?.of(kind).moved(quota.id, ends, Pair::of_info(&self.of_all(kind)?));
        Ok(moved.on(quota))
    }

    /// Sets what of an id's quota its `valid` names. Ends that are named stay as they are set.
    pub fn set(&self, kind: Kind, id: u32, quota: Quota) -> SysResult<()> {
        self.change(|noted| {
            self.settle_by(noted)?;
            users::set(self.device, kind, id, quota).at("set", "quota")?;
            if noted.of(kind).grace.is_none() {
                return Ok(());
            }
            let is = Pair::of_quota(&users::get(self.device, kind, id).at("read", "quota")?);
            let known = noted.of_mut(kind).ends.entry(id).or_default();
            if quota.valid & VALID_BLOCK_TIME != 0 {
                known.space = is.space;
            }
            if quota.valid & VALID_INODE_TIME != 0 {
                known.inodes = is.inodes;
            }
            // With a limit the kernel may have set an end anew.
            self.settle_by(noted)
        })
    }

    /// Moves ends to where they are to be. Tells how soon that is to be done again.
    pub fn settle(&self) -> SysResult<Duration> {
        let noted = self.read()?;
        if noted == Noted::default() {
            return Ok(noted.again_in());
        }
        self.change(|noted| self.settle_by(noted).map(|()| noted.again_in()))
    }

    fn settle_by(&self, noted: &mut Noted) -> SysResult<()> {
        let mut moved = Vec::new();
        for kind in Kind::ALL {
            if noted.of(kind).grace.is_none() {
                continue;
            }
            let of_all = Pair::of_info(&self.of_all(kind)?);
            let mut ends = self.ends(kind)?;
            for (id, end) in &mut ends {
                let is = std::mem::replace(end, noted.of(kind).moved(*id, *end, of_all));
                let named = |differ: bool, flag: u32| if differ { flag } else { 0 };
                let valid = named(is.space != end.space, VALID_BLOCK_TIME)
                    | named(is.inodes != end.inodes, VALID_INODE_TIME);
                let quota = end.on(Quota { valid, ..Quota::default() });
                moved.extend((valid != 0).then_some((kind, *id, quota)));
            }
            noted.of_mut(kind).ends = ends;
        }
        self.write(noted)?;
        moved
            .into_iter()
            .try_for_each(|(kind, id, quota)| users::set(self.device, kind, id, quota).at("set", "grace"))
    }

    /// When grace ends, of all ids for which it runs.
    fn ends(&self, kind: Kind) -> SysResult<BTreeMap<u32, Pair>> {
        let mut ends = BTreeMap::new();
        for quota in users::each(self.device, kind, self.ids.clone()) {
            let quota = quota.at("read", "quotas")?;
            let pair = Pair::of_quota(&quota);
            if pair != Pair::default() {
                ends.insert(quota.id, pair);
            }
        }
        Ok(ends)
    }

    fn of_all(&self, kind: Kind) -> SysResult<Info> {
        users::info(self.device, kind).at("read", "grace times")
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    fn read(&self) -> SysResult<Noted> {
        let path = self.path();
        match std::fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map_err(|e| SysError::refused("read", path.display(), e))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Noted::default()),
            Err(e) => Err(SysError::new("read", path.display(), e)),
        }
    }

    fn write(&self, noted: &Noted) -> SysResult<()> {
        if *noted == Noted::default() {
            return forget(self.dir);
        }
        let path = self.path();
        let text = serde_json::to_vec(noted).map_err(|e| SysError::refused("encode", path.display(), e))?;
        atomic::write(&path, &text, &Writes::default()).map(drop)
    }

    /// Changes what is noted; nobody else does meanwhile.
    fn change<T>(&self, change: impl FnOnce(&mut Noted) -> SysResult<T>) -> SysResult<T> {
        let dir = File::open(self.dir).at("open", self.dir.display())?;
        rustix::fs::flock(&dir, FlockOperation::LockExclusive).at("lock", self.dir.display())?;
        let mut noted = self.read()?;
        let changed = change(&mut noted)?;
        self.write(&noted)?;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: u64 = 604_800;
    const OF_ALL: Pair = Pair { space: WEEK, inodes: WEEK };

    fn own(known: Pair) -> Own {
        Own { grace: Some(Pair { space: 60, inodes: 2 * WEEK }), ends: [(7, known)].into() }
    }

    #[test]
    fn an_end_is_moved_once() {
        let passed = 1_800_000_000;
        let is = Pair { space: passed + WEEK, inodes: passed + WEEK };
        let moved = own(Pair::default()).moved(7, is, OF_ALL);
        assert_eq!(moved, Pair { space: passed + 60, inodes: passed + 2 * WEEK });
        assert_eq!(own(moved).moved(7, moved, OF_ALL), moved);
        // As XFS rounds them.
        let rounded = Pair { space: moved.space + 3, inodes: moved.inodes + 1 };
        assert_eq!(own(moved).moved(7, rounded, OF_ALL), rounded);
        // Another's is not known by it, nor one that began anew.
        assert_eq!(own(moved).moved(8, moved, OF_ALL).space, moved.space - WEEK + 60);
        let anew = Pair { space: passed + 100 + WEEK, ..moved };
        assert_eq!(own(moved).moved(7, anew, OF_ALL).space, passed + 160);
    }

    #[test]
    fn what_has_no_end_gets_none() {
        assert_eq!(own(Pair::default()).moved(7, Pair::default(), OF_ALL), Pair::default());
        let is = Pair { space: 5, inodes: 9 };
        assert_eq!(Own::default().moved(7, is, OF_ALL), is);
        // Before there was time, there is an end all the same.
        assert_eq!(Own { grace: Some(Pair::default()), ..Own::default() }.moved(7, is, OF_ALL).space, 1);
    }

    #[test]
    fn short_ones_are_looked_at_often() {
        let seconds = |space| {
            let grace = Some(Pair { space, inodes: WEEK });
            Noted { groups: Own { grace, ..Own::default() }, ..Noted::default() }.again_in().as_secs()
        };
        assert_eq!([0, 10, 600].map(seconds), [1, 5, 20]);
        assert_eq!(Noted::default().again_in(), SELDOM);
    }

    #[test]
    fn what_is_noted_is_read_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let graces = Graces { dir: dir.path(), device: c"/dev/null", ids: 0..9 };
        assert_eq!(graces.read().unwrap(), Noted::default());
        let noted = Noted { users: own(OF_ALL), ..Noted::default() };
        graces.write(&noted).unwrap();
        assert_eq!(graces.read().unwrap(), noted);
        std::fs::write(graces.path(), "{").unwrap();
        assert!(graces.read().unwrap_err().to_string().contains(FILE));
        forget(dir.path()).unwrap();
        forget(dir.path()).unwrap();
        assert_eq!(graces.settle().unwrap(), SELDOM);
    }
}
