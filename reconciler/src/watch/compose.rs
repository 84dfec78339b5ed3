//! Which documents are in force: what the files say where that is good, alone and together, and else
//! the last version that was.
//!
//! Pure. A document with an error freezes itself; a file that cannot be understood freezes what came
//! from it; of documents that claim one thing, all are frozen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vzd_schema::{Diagnostic, Document, Kind, Set, Span};

use super::content::{Content, Key, key};
use super::read::Refusal;
use super::revision::{FileState, Held, Revision};
use super::view::{Seen, Text, View};

/// Puts a revision together; `before` has the documents that were in force.
pub(super) fn compose(view: &View, before: &[Held]) -> Revision {
    let before = before.iter().filter_map(|held| Some((key(&held.document)?, held))).collect();
    let mut work = Compose { before, items: Vec::new(), revision: Revision::default() };
    work.revision.complete = view.is_complete();
    work.revision.is_empty = view.is_empty();
    work.revision.host_known = true;
    work.revision.look_again = view.look_again;
    work.revision.skipped =
        view.skipped.iter().map(|(path, why)| (path.clone(), (*why).to_owned())).collect();
    for (directory, why) in &view.troubles {
        work.revision.diagnostics.push(problem("the directory", directory, why));
    }
    for seen in &view.files {
        work.file(seen);
    }
    for seen in &view.files {
        work.readable(seen);
    }
    work.unseen();
    work.check();
    work.finish();
    work.revision.digest = view.digest();
    work.revision
}

/// A document as it is wished for.
struct Item {
    key: Key,
    file: Arc<str>,
    /// What the file says, if it is to be had.
    now: Option<Arc<Document>>,
    /// Why that cannot be in force; nothing as long as it can.
    frozen: bool,
    why: Vec<Diagnostic>,
}

struct Compose<'v> {
    before: BTreeMap<Key, &'v Held>,
    items: Vec<Item>,
    revision: Revision,
}

impl Compose<'_> {
    fn file(&mut self, seen: &Seen) {
        let file = &seen.file;
        let refused = |why: String| {
            if seen.known { FileState::Kept { why } } else { FileState::Unknown { why } }
        };
        let state = match &seen.text {
            Text::Read(content) => {
                self.revision.texts.insert(Arc::clone(file), content.hash);
                self.revision.diagnostics.extend(content.diagnostics.iter().cloned());
                if content.whole {
                    self.documents(file, content);
                    FileState::Good
                } else {
                    self.revision.mentioned.extend(content.mentions.iter().cloned());
                    self.revision.host_known &= seen.known || !content.may_hold_host();
                    self.carry_on(file, &content.diagnostics);
                    refused("it has errors that hide what it holds".to_owned())
                }
            }
            Text::Refused { why, may_be_new } => {
                let problem = problem("the file", file, why);
                self.carry_on(file, std::slice::from_ref(&problem));
                self.revision.diagnostics.push(problem);
                self.revision.host_known &= seen.known || !may_be_new || why.holds_nothing();
                refused(why.to_string())
            }
        };
        self.revision.files.insert(Arc::clone(file), state);
    }

    /// The documents of a file that is understood.
    fn documents(&mut self, file: &Arc<str>, content: &Content) {
        for document in &content.documents {
            let Some(key) = key(document) else { continue };
            let why: Vec<Diagnostic> = match document.manifest {
                Some(_) => Vec::new(),
                None => concerning(document, &content.diagnostics),
            };
            let frozen = document.manifest.is_none();
            let now = Some(Arc::clone(document));
            self.items.push(Item { key, file: Arc::clone(file), now, frozen, why });
        }
    }

    /// What came from a file that is not understood now.
    fn carry_on(&mut self, file: &Arc<str>, why: &[Diagnostic]) {
        let theirs = self.before.iter().filter(|(_, held)| held.file == *file);
        self.items.extend(theirs.map(|(key, held)| Item {
            key: key.clone(),
            file: Arc::clone(&held.file),
            now: None,
            frozen: true,
            why: why.to_vec(),
        }));
    }

    /// What can be told by name in a file that is not understood, and is nowhere else.
    fn readable(&mut self, seen: &Seen) {
        let Text::Read(content) = &seen.text else { return };
        for key in content.documents.iter().filter(|_| !content.whole).filter_map(|document| key(document)) {
            if !self.items.iter().any(|item| item.key == key) {
                let (file, why) = (Arc::clone(&seen.file), content.diagnostics.clone());
                self.items.push(Item { key, file, now: None, frozen: true, why });
            }
        }
    }

    /// What was in force and is not to be seen, while not everything is.
    fn unseen(&mut self) {
        if self.revision.complete {
            return;
        }
        let seen: BTreeSet<&Key> = self.items.iter().map(|item| &item.key).collect();
        let unseen = self.before.iter().filter(|(key, _)| !seen.contains(key));
        let items: Vec<Item> = unseen
            .map(|(key, held)| Item {
                key: key.clone(),
                file: Arc::clone(&held.file),
                now: None,
                frozen: true,
                why: self.revision.diagnostics.iter().filter(|is| is.is_error()).take(1).cloned().collect(),
            })
            .collect();
        self.items.extend(items);
    }

    /// Freezes what cannot be in force together, until nothing more is frozen by it.
    fn check(&mut self) {
        loop {
            let problems = Set::new(self.in_force().map(|(document, _)| &**document)).check();
            let mut froze = false;
            for item in self.items.iter_mut().filter(|item| !item.frozen) {
                let Some(now) = &item.now else { continue };
                let errors = problems.iter().filter(|problem| problem.is_error() && concerns(problem, now));
                item.why.extend(errors.cloned());
                item.frozen = !item.why.is_empty();
                froze |= item.frozen;
            }
            for problem in problems {
                if !self.revision.diagnostics.contains(&problem) {
                    self.revision.diagnostics.push(problem);
                }
            }
            if !froze {
                return;
            }
        }
    }

    /// Each document in force with its item: once, if two items come to one that was before.
    fn in_force(&self) -> impl Iterator<Item = (&Arc<Document>, &Item)> {
        let mut again = BTreeSet::new();
        self.items.iter().filter_map(move |item| {
            if !item.frozen {
                return Some((item.now.as_ref()?, item));
            }
            let held = self.before.get(&item.key)?;
            again.insert(&item.key).then_some((&held.document, item))
        })
    }

    fn finish(&mut self) {
        let documents = self.in_force().map(|(document, item)| Held {
            document: Arc::clone(document),
            file: Arc::clone(&item.file),
            kept: item.frozen.then(|| item.why.clone().into()),
        });
        let documents = documents.collect();
        let items = std::mem::take(&mut self.items);
        for item in items {
            if !item.frozen || self.before.contains_key(&item.key) {
                continue;
            }
            let (kind, name) = item.key;
            match kind {
                Kind::Ve => self.revision.broken.entry(name).or_default().extend(item.why),
                Kind::Host => self.revision.host_known = false,
                Kind::Profile => {}
            }
            self.revision.unusable.extend(item.now.filter(|document| document.manifest.is_none()));
        }
        self.revision.documents = documents;
    }
}

/// Whether a diagnostic points into that very version of a document: a place in another version of the
/// file is another place.
fn concerns(diagnostic: &Diagnostic, document: &Document) -> bool {
    let own = &document.span;
    let within =
        |span: &Span| Arc::ptr_eq(&span.file, &own.file) && own.start <= span.start && span.start <= own.end;
    diagnostic.primary.iter().chain(&diagnostic.secondary).any(|label| within(&label.span))
}

fn concerning(document: &Document, diagnostics: &[Diagnostic]) -> Vec<Diagnostic> {
    let errors = || diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
    let own: Vec<Diagnostic> = errors().filter(|error| concerns(error, document)).cloned().collect();
    // Errors of a file without end are not all told.
    if own.is_empty() { errors().take(1).cloned().collect() } else { own }
}

fn problem(what: &str, path: &Arc<str>, why: &Refusal) -> Diagnostic {
    let error = Diagnostic::error(why.code(), format!("{what} is not used: {why}"));
    let error = error.at(&Span::start_of(path), "");
    match why.help() {
        Some(help) => error.help(help),
        None => error,
    }
}
