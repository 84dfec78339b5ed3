//! One pass over the manifest directory: lists it, reads what has changed, and parses only that.
//!
//! The directory's path is resolved once and everything is read relative to it; if the tree has become
//! another one meanwhile (a flipped symlink, a renamed file), the pass is made again. So a revision is
//! one state of the tree, never half of two.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::compose::compose;
use super::content::{self, Content};
use super::list::{self, Found, Listing};
use super::read::{self, Refusal, Stamp, Trust};
use super::revision::Revision;
use super::view::{Seen, Text, View};

/// Passes over a tree that keeps changing.
const PASSES: usize = 4;
/// A file that was written to in place and has lost documents is believed only after so much quiet.
const GRACE: Duration = Duration::from_secs(1);

/// What a scan had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Manifest files.
    pub files: usize,
    /// Files that were read.
    pub read: usize,
    /// Files that were parsed.
    pub parsed: usize,
}

/// What is known of a file from earlier scans.
#[derive(Debug)]
struct Record {
    file: Arc<str>,
    /// The last text that was taken, and what the file was then.
    content: Option<(Arc<Content>, Stamp)>,
    /// Whether `content` is certainly the text as long as the stamp is the same.
    settled: bool,
    /// Whether a version was understood.
    known: bool,
}

/// Reads one manifest directory again and again.
#[derive(Debug)]
pub struct Scanner {
    dir: PathBuf,
    trust: Trust,
    records: HashMap<String, Record>,
    view: View,
    revision: Arc<Revision>,
    work: Work,
}

impl Scanner {
    /// Of that directory, which need not be there.
    pub fn new(dir: &Path, trust: Trust) -> Self {
        Self {
            dir: dir.to_owned(),
            trust,
            records: HashMap::new(),
            view: View::default(),
            revision: Arc::default(),
            work: Work::default(),
        }
    }

    /// Changes whose files are read.
    pub fn set_trust(&mut self, trust: Trust) {
        self.trust = trust;
    }

    /// What the last scan had to do.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Reads the directory. If nothing has changed, it is the same `Arc` as before.
    pub fn scan(&mut self) -> Arc<Revision> {
        self.work = Work::default();
        let view = self.view();
        if view.is_complete() && self.records.len() > view.files.len() {
            let there: HashSet<&str> = view.files.iter().map(|seen| &*seen.file).collect();
            self.records.retain(|_, record| there.contains(&*record.file));
        }
        if view != self.view || self.revision.digest.is_empty() {
            self.revision = Arc::new(compose(&view, &self.revision.documents));
            self.view = view;
        }
        Arc::clone(&self.revision)
    }

    fn view(&mut self) -> View {
        let mut view = View::default();
        for _ in 0..PASSES {
            let steady;
            (view, steady) = self.pass();
            if steady {
                return view;
            }
        }
        view.troubles.push((self.shown(""), Refusal::Moving));
        view.look_again = Some(GRACE);
        view
    }

    /// One pass, and whether the tree has stayed the same meanwhile.
    fn pass(&mut self) -> (View, bool) {
        let mut view = View::default();
        let opened = list::open(rustix::fs::CWD, self.dir.as_path(), true);
        let root = match opened.and_then(|root| Ok((read::stamp(&root)?.identity(), root))) {
            Ok(root) => root,
            Err(why) => {
                view.troubles.push((self.shown(""), why));
                return (view, true);
            }
        };
        let (identity, root) = root;
        let listing = Listing::of(root.as_fd(), self.trust);
        for found in &listing.files {
            self.file(root.as_fd(), found, &mut view);
        }
        let now = rustix::fs::stat(&self.dir).map(|stat| Stamp::of(&stat).identity());
        let steady = now == Ok(identity) && Listing::of(root.as_fd(), self.trust).same_files(&listing);
        for (path, why) in listing.skipped {
            view.skipped.insert(self.shown(&path).to_string(), why);
        }
        view.troubles = listing.troubles.into_iter().map(|(path, why)| (self.shown(&path), why)).collect();
        if view.files.is_empty() && view.troubles.is_empty() {
            view.troubles.push((self.shown(""), Refusal::NoManifests));
        }
        self.work.files = view.files.len();
        (view, steady)
    }

    fn file(&mut self, root: BorrowedFd<'_>, found: &Found, view: &mut View) {
        if !self.records.contains_key(&found.path) {
            let file = self.shown(&found.path);
            let record = Record { file, content: None, settled: false, known: false };
            self.records.insert(found.path.clone(), record);
        }
        let Some(record) = self.records.get_mut(&found.path) else { return };
        let refused = match record.renew(root, found, self.trust, &mut self.work) {
            Ok(()) => None,
            Err(Refusal::NotRegular(_)) if !record.known => {
                view.skipped.insert(record.file.to_string(), "not a regular file");
                self.records.remove(&found.path);
                return;
            }
            Err(why) => Some(why),
        };
        let text = match (refused, &record.content) {
            (None, Some((content, _))) => Text::Read(Arc::clone(content)),
            (refused, content) => {
                let why = refused.unwrap_or(Refusal::Moving);
                // Between a writer's truncation and its text a file is empty: what is gone elsewhere may come to be here.
                let is_new = found.stamp.is_ok_and(|stamp| stamp.age(SystemTime::now()) < GRACE);
                let filling = why == Refusal::Blank && is_new;
                if filling || matches!(why, Refusal::Moving | Refusal::BeingWritten) {
                    view.look_again = Some(GRACE);
                }
                let same = |stamp: &Stamp| found.stamp.is_ok_and(|now| now.same_text(stamp));
                let is_old = content.as_ref().is_some_and(|(_, stamp)| same(stamp));
                Text::Refused { may_be_new: filling || !is_old && !why.holds_nothing(), why }
            }
        };
        view.files.push(Seen { file: Arc::clone(&record.file), known: record.known, text });
    }

    /// What diagnostics call a path in the directory.
    fn shown(&self, path: &str) -> Arc<str> {
        let joined = if path.is_empty() { self.dir.clone() } else { self.dir.join(path) };
        joined.to_string_lossy().into()
    }
}

impl Record {
    /// Makes `content` what the file holds now, or says why it stays what it was.
    fn renew(
        &mut self,
        root: BorrowedFd<'_>,
        found: &Found,
        trust: Trust,
        work: &mut Work,
    ) -> Result<(), Refusal> {
        let listed = found.stamp.map_err(|e| Refusal::failed("stat it", e))?;
        if let Some(why) = listed.refusal(trust) {
            return Err(why);
        }
        if self.settled && self.content.as_ref().is_some_and(|(_, stamp)| *stamp == listed) {
            return Ok(());
        }
        work.read += 1;
        let now = SystemTime::now();
        let (bytes, stamp) = read::read(root, found, &listed, trust)?;
        if content::is_blank(&bytes) {
            return Err(Refusal::Blank);
        }
        let hash = content::hash(&bytes);
        let content = match &self.content {
            Some((content, _)) if content.hash == hash => Arc::clone(content),
            before => {
                work.parsed += 1;
                let content = Content::parse(&self.file, &bytes, hash);
                if let Some((before, was)) = before
                    && was.identity() == stamp.identity()
                    && stamp.age(now) < GRACE
                    && content.lacks_some_of(before)
                {
                    return Err(Refusal::BeingWritten);
                }
                Arc::new(content)
            }
        };
        self.known |= content.whole;
        self.settled = stamp.settled(now);
        self.content = Some((content, stamp));
        Ok(())
    }
}
