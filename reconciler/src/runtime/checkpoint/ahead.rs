//! Memory of a VE written ahead, in rounds, while it runs: each holds what has changed since the one before, and the
//! checkpoint itself what has changed since the last, so that the VE stands still for little.
//!
//! The kernel marks what is written to (soft-dirty, Documentation/admin-guide/mm/soft-dirty.rst), and CRIU takes all marks
//! away with each round. So there is one row of rounds for each VE, in its checkpoint's directory and under its lock, and
//! it is of use to whoever began it alone.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::files::make_open;
use super::image::Image;
use super::swrk::{Ask, Request, Swrk};
use super::{dump, log};
use crate::error::{At, SysError, SysResult};
use crate::kernel::mount;
use crate::kernel::ns::{self, Kind};
use crate::kernel::process::SingleThreaded;
use crate::runtime::checkpoint::sum::Sum;
use crate::store::{Writes, atomic};

/// The directory of a round, within its checkpoint's.
const ROUND: &str = "ahead-";
/// How CRIU calls the round before.
pub(super) const PARENT: &str = "parent";
/// What is on record of the rounds.
const RECORD: &str = "ahead.json";
const LOG: &str = "ahead.log";

/// A round that is to be written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AheadSpec {
    /// Who begins, or goes on: nobody else makes use of it.
    pub id: String,
    /// Which round, from 1 on.
    pub round: u32,
    /// The host's pid of its init.
    pub pid: i32,
    /// CRIU.
    pub criu: PathBuf,
    /// The directory of its checkpoint.
    pub checkpoint: PathBuf,
    /// Where it is kept instead, with a link from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<PathBuf>,
    /// Memory is kept compressed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compress: bool,
}

/// The rounds that there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rounds {
    id: String,
    pid: i32,
    /// How many.
    pub rounds: u32,
    /// Their files, which are on disk.
    pub files: BTreeMap<String, Sum>,
}

/// Writes a round of a VE that runs on.
pub fn write(proof: SingleThreaded, spec: &AheadSpec) -> SysResult<()> {
    let image = Image::lock(&spec.checkpoint)?;
    dump::is_up(spec.pid)?;
    let before = match spec.round {
        0 | 1 => {
            image.make(spec.place.as_deref())?;
            Rounds::none(&spec.id, spec.pid)
        }
        _ => Rounds::of(&image, &spec.id, spec.pid).filter(|is| is.rounds + 1 == spec.round).ok_or_else(
            || SysError::refused("write ahead", "VE", "somebody else has begun to write it meanwhile"),
        )?,
    };
    ns::unshare(&[Kind::Mount])?;
    mount::make_all_private()?;
    let written =
        before.next(proof, (&spec.criu, spec.compress), &image).and_then(|rounds| rounds.note(&image));
    written.inspect_err(|_| drop(image.remove()))
}

impl Rounds {
    /// Those that `id` has had written of the VE whose init this is.
    pub(super) fn of(image: &Image, id: &str, pid: i32) -> Option<Rounds> {
        let text = std::fs::read(image.dir().join(RECORD)).ok()?;
        let rounds: Rounds = serde_json::from_slice(&text).ok()?;
        (rounds.id == id && rounds.pid == pid).then_some(rounds)
    }

    /// None yet. Of a VE that is suspended at once nobody needs to be told whose they are.
    pub(super) fn none(id: &str, pid: i32) -> Rounds {
        Rounds { id: id.to_owned(), pid, rounds: 0, files: BTreeMap::new() }
    }

    /// Where the last one is, as CRIU is told.
    pub(super) fn last(&self) -> Option<String> {
        (self.rounds > 0).then(|| directory(self.rounds))
    }

    /// What the last one has, in bytes.
    pub(super) fn last_bytes(&self) -> u64 {
        let last = format!("{}/", directory(self.rounds));
        self.files.iter().filter(|(name, _)| name.starts_with(&last)).map(|(_, sum)| sum.bytes()).sum()
    }

    /// With one more, which CRIU writes, and which is compressed if that is wanted.
    pub(super) fn next(
        mut self,
        proof: SingleThreaded,
        (criu, compress): (&Path, bool),
        image: &Image,
    ) -> SysResult<Rounds> {
        let round = self.rounds + 1;
        let path = image.dir().join(directory(round));
        make_open(&path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).at("open", path.display())?;
        let request = Request {
            ask: Ask::Ahead { pid: self.pid, parent: parent_of(round) },
            images: &dir,
            log: LOG,
            closes_tcp: false,
            external: Vec::new(),
        };
        let criu = Swrk::start(proof, criu, &[image.lock_file().as_raw_fd()])?;
        if let Err(failure) = criu.ask(&request, |_| Ok(())) {
            let cause = log::cause(&path.join(LOG));
            return Err(cause.map_or(failure.error, |why| SysError::refused("write ahead", "VE", why)));
        }
        let _ = std::fs::remove_file(path.join(LOG));
        self.rounds = round;
        self.files.extend(image.sums_of(&directory(round), compress)?);
        Ok(self)
    }

    fn note(&self, image: &Image) -> SysResult<()> {
        let text = serde_json::to_vec(self).map_err(|e| SysError::refused("encode", RECORD, e))?;
        atomic::write(&image.dir().join(RECORD), &text, &Writes::default()).map(drop)
    }
}

/// The directory of a round.
pub(super) fn directory(round: u32) -> String {
    format!("{ROUND}{round}")
}

/// Which round a directory is of.
pub(super) fn round_of(directory: &str) -> Option<u32> {
    let number = directory.strip_prefix(ROUND)?;
    number.parse().ok().filter(|round| *round > 0 && self::directory(*round) == directory)
}

/// What [`PARENT`] leads to in the directory of a round.
pub(super) fn parent_of(round: u32) -> Option<String> {
    (round > 1).then(|| format!("../{}", directory(round - 1)))
}
