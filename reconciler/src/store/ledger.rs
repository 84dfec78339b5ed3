//! The ledger's entries on disk: one file a VE, called by its uid.
//!
//! A record that cannot be read is never touched, and its VE's ids are told as far as they can be made
//! out, so that nobody else gets them. What an entry means is in `vzd_state::ledger`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde_json::Value;
use vzd_schema::Code;
use vzd_state::ids::{Ctid, IdRange, VeName, VeUid};
use vzd_state::ledger::Entry;

use super::atomic::{self, Written};
use super::writes::Writes;
use crate::error::{At, SysError, SysResult};

const ENDING: &str = ".json";

/// The records of one controller.
#[derive(Debug)]
pub struct LedgerStore {
    dir: PathBuf,
    writes: Writes,
    /// Records that nobody here understands.
    closed: BTreeSet<PathBuf>,
    /// Whether the directory is there and swept. Only who writes may do that.
    ready: Mutex<bool>,
}

/// A record that cannot be read, with what can be made out of it. It stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The record.
    pub path: PathBuf,
    /// Why it cannot be read.
    pub why: String,
    /// The VE, by the name of the file.
    pub uid: Option<VeUid>,
    /// Its name.
    pub name: Option<VeName>,
    /// Its ctid, which nobody else may get.
    pub ctid: Option<Ctid>,
    /// Its range of ids, which nobody else may get.
    pub ids: Option<IdRange>,
}

impl Unreadable {
    /// The code that this is told with.
    pub fn code(&self) -> Code {
        Code::RecordUnreadable
    }

    fn new(path: PathBuf, text: &str, why: String) -> Self {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let uid = uid_of(&path);
        let (name, ctid, ids) = (field(&value, "name"), field(&value, "ctid"), field(&value, "ids"));
        Self { path, why, uid, name, ctid, ids }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the record {}", self.path.display())?;
        if let Some(name) = &self.name {
            write!(f, " of VE {name}")?;
        }
        write!(f, " cannot be read: {}", self.why)
    }
}

impl LedgerStore {
    /// Reads all records of a directory, which need not be there. Changes nothing.
    pub fn open(dir: &Path, writes: Writes) -> SysResult<(Self, Vec<Entry>, Vec<Unreadable>)> {
        let (mut entries, mut unreadable) = (Vec::new(), Vec::new());
        for path in records(dir)? {
            match read(&path) {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => {}
                Err(record) => unreadable.push(record),
            }
        }
        let closed = unreadable.iter().map(|record| record.path.clone()).collect();
        let store = Self { dir: dir.to_owned(), writes, closed, ready: Mutex::new(false) };
        Ok((store, entries, unreadable))
    }

    /// Writes an entry down, durably, unless its record says just that.
    pub fn save(&self, entry: &Entry) -> SysResult<Written> {
        let path = self.path_of(&entry.uid)?;
        self.make_ready()?;
        atomic::write(&path, format!("{}\n", entry.to_json()).as_bytes(), &self.writes)
    }

    /// The same for what another host is told of next: not even a power cut may bring back what was before.
    pub fn save_for_good(&self, entry: &Entry) -> SysResult<()> {
        self.save(entry)?;
        atomic::sync(&self.dir)
    }

    /// Removes the record of a VE, if there is one.
    pub fn remove(&self, uid: &VeUid) -> SysResult<Written> {
        let path = self.path_of(uid)?;
        self.make_ready()?;
        atomic::remove(&path, &self.writes)
    }

    fn path_of(&self, uid: &VeUid) -> SysResult<PathBuf> {
        let path = self.dir.join(format!("{uid}{ENDING}"));
        if self.closed.contains(&path) {
            let why = "it is a record that this vzd cannot read";
            return Err(SysError::refused("change", path.display(), why));
        }
        Ok(path)
    }

    fn make_ready(&self) -> SysResult<()> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if !*ready {
            let made = DirBuilder::new().mode(0o700).create(&self.dir);
            match made {
                Ok(()) => {
                    self.writes.disk();
                    atomic::sync(self.dir.parent().unwrap_or(Path::new("/")))?;
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(SysError::new("make directory", self.dir.display(), e)),
            }
            atomic::sweep(&self.dir, &self.writes)?;
            *ready = true;
        }
        Ok(())
    }
}

/// The records in a directory, sorted.
fn records(dir: &Path) -> SysResult<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(SysError::new("list", dir.display(), e)),
    };
    let mut records = Vec::new();
    for entry in entries {
        let path = entry.at("list", dir.display())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(ENDING) && !name.starts_with('.') {
            records.push(path);
        }
    }
    records.sort();
    Ok(records)
}

/// Reads one record; there is none if it was removed meanwhile.
fn read(path: &Path) -> Result<Option<Entry>, Unreadable> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Unreadable::new(path.to_owned(), "", e.to_string())),
    };
    let unreadable = |why: String| Unreadable::new(path.to_owned(), &text, why);
    let entry = Entry::from_json(&text).map_err(|e| unreadable(e.to_string()))?;
    if uid_of(path).as_ref() != Some(&entry.uid) {
        return Err(unreadable(format!("it is the record of another VE, {}", entry.uid)));
    }
    Ok(Some(entry))
}

fn uid_of(path: &Path) -> Option<VeUid> {
    path.file_name()?.to_str()?.strip_suffix(ENDING)?.parse().ok()
}

fn field<T: DeserializeOwned>(value: &Value, key: &str) -> Option<T> {
    T::deserialize(value.get(key)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use vzd_state::desired::SourceRef;
    use vzd_state::digest::SpecDigest;
    use vzd_state::ledger::{Applied, FORMAT, Standing};

    fn entry(bits: u128) -> Entry {
        let uid = VeUid::from_bits(bits);
        let spec = serde_json::json!({"template": "tiny"});
        Entry {
            format: FORMAT,
            name: format!("ve-{bits}").parse().unwrap(),
            uid,
            ctid: Ctid::try_from(101 + u32::try_from(bits).unwrap()).unwrap(),
            ids: IdRange { start: 1_000_000, count: IdRange::BLOCK },
            generation: 1,
            digest: SpecDigest::of(&spec),
            spec: spec.into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            source: SourceRef::default(),
            pinned: false,
            applied: Applied::default(),
            disk: None,
            run: None,
            suspension: None,
            firewall_trial: None,
            run_override: None,
            bare: false,
            last_exit: None,
            backoff: None,
            restarts: 0,
            handover: None,
            stale_host: None,
            standing: Standing::Active,
        }
    }

    fn open(dir: &Path) -> (LedgerStore, Vec<Entry>, Vec<Unreadable>) {
        LedgerStore::open(dir, Writes::default()).unwrap()
    }

    #[test]
    fn what_is_saved_is_there_after_a_restart() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("ledger");
        let (store, entries, unreadable) = open(&dir);
        assert!(entries.is_empty() && unreadable.is_empty() && !dir.exists());
        for bits in [2, 1] {
            assert_eq!(store.save(&entry(bits)), Ok(Written::Changed));
        }
        let written = store.writes.total();
        assert_eq!(store.save(&entry(2)), Ok(Written::AlreadySo));
        assert_eq!(store.writes.total(), written, "nothing to do writes nothing");
        assert_eq!(open(&dir).1, [entry(1), entry(2)]);
        assert_eq!(store.remove(&entry(1).uid), Ok(Written::Changed));
        assert_eq!(store.remove(&entry(1).uid), Ok(Written::AlreadySo));
        assert_eq!(open(&dir).1, [entry(2)]);
    }

    #[test]
    fn a_killed_writer_leaves_the_old_record() {
        let dir = tempfile::tempdir().unwrap();
        let (store, ..) = open(dir.path());
        store.save(&entry(1)).unwrap();
        let half = dir.path().join(format!(".{}.json.4711-0.tmp", entry(1).uid));
        std::fs::write(&half, &entry(1).to_json()[..100]).unwrap();
        let (store, entries, unreadable) = open(dir.path());
        assert_eq!((entries.as_slice(), unreadable.len()), ([entry(1)].as_slice(), 0));
        assert!(half.exists(), "another may be writing it");
        store.save(&Entry { restarts: 1, ..entry(1) }).unwrap();
        assert!(!half.exists());
    }

    #[test]
    fn records_that_cannot_be_read_are_kept_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = |bits: u128| dir.path().join(format!("{}.json", VeUid::from_bits(bits)));
        let newer = entry(1).to_json().replace("\"format\":1", "\"format\":99,\"more\":true");
        let texts = [
            (1, newer),
            (2, entry(2).to_json()[..200].to_owned()),
            (3, entry(4).to_json()),
            (5, String::new()),
        ];
        for (bits, text) in &texts {
            std::fs::write(path(*bits), text).unwrap();
        }
        std::fs::write(dir.path().join("notes.json"), "{}").unwrap();
        let (store, entries, unreadable) = open(dir.path());
        assert!(entries.is_empty());
        let [first, second, third, fifth, notes] = unreadable.as_slice() else { panic!("{unreadable:?}") };
        assert!(first.to_string().contains("VE ve-1 cannot be read: the ledger has format 99"), "{first}");
        assert_eq!((first.ctid, first.ids), (Some(entry(1).ctid), Some(entry(1).ids)));
        assert_eq!(first.code(), Code::RecordUnreadable);
        assert_eq!((second.uid.clone(), second.ctid), (Some(VeUid::from_bits(2)), None));
        assert!(third.why.contains("another VE"));
        assert_eq!((third.ctid, fifth.ctid), (Some(entry(4).ctid), None));
        assert_eq!(notes.uid, None);
        for (bits, text) in &texts {
            let uid = VeUid::from_bits(*bits);
            assert!(store.save(&Entry { uid: uid.clone(), ..entry(9) }).is_err());
            assert!(store.remove(&uid).is_err());
            assert_eq!(std::fs::read_to_string(path(*bits)).unwrap(), *text);
        }
    }
}
