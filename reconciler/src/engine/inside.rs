//! What VEs are shown of themselves: the text of /proc/user_beancounters in each, at
//! /dev/vzd/user_beancounters.
//!
//! Nobody counts unless somebody reads: whoever opens the file waits until it has been written anew
//! ([`Gate`]), unless that was a moment ago. Where the kernel has no such gate, and while no controller
//! runs, the text is as old as the last look. The host never reads what is in a VE for this: a VE that
//! mounts something over it fools itself.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use vzd_state::ids::{VeName, VeUid};
use vzd_state::ledger::Entry;

use crate::control::{Control, Selector, VeCounters};
use crate::drivers::beancounters::SHOWN;
use crate::engine::view::Leave;
use crate::engine::{Engine, Subject};
use crate::error::{At, SysResult};
use crate::kernel::fanotify::Gate;
use crate::user_beancounters::user_beancounters;

/// A VE that reads its counters all the time makes the host count no oftener.
const FRESH: Duration = Duration::from_millis(200);

/// The files of VEs that run, by inode number.
#[derive(Debug, Default)]
pub(super) struct Inside {
    gate: OnceLock<Gate>,
    /// The file of the host's, of all VEs.
    host: OnceLock<Whole>,
    files: Mutex<BTreeMap<u64, Shown>>,
}

#[derive(Debug, Clone)]
struct Shown {
    uid: VeUid,
    name: VeName,
    /// Kept open: opening it would wait for ourselves.
    file: Arc<File>,
    written: Option<Instant>,
}

/// The counters of all VEs.
#[derive(Debug)]
struct Whole {
    inode: u64,
    file: File,
    written: Mutex<Option<Instant>>,
}

/// Answers VEs that read, in a thread of its own, for as long as the process lives.
pub(super) fn answer(engine: &Arc<Engine>) {
    let engine = engine.clone();
    let started = Gate::new().map_err(|e| e.to_string()).and_then(|gate| {
        match engine.show_all(&gate) {
            Ok(whole) => drop(engine.inside.host.set(whole)),
            Err(error) => tracing::warn!(%error, "the host has no file of all counters"),
        }
        drop(engine.inside.gate.set(gate));
        let thread = std::thread::Builder::new().name("inside".into()).stack_size(512 * 1024);
        thread.spawn(move || engine.answer_readers()).map_err(|e| e.to_string())
    });
    if let Err(error) = started {
        tracing::warn!(error, "what VEs read of their counters is up to 20 s old");
    }
}

impl Engine {
    /// From now on a VE that runs reads what is so.
    pub(super) fn show(&self, entry: &Entry) -> SysResult<()> {
        let path = self.host.settings.shown_dir(&entry.uid).join(SHOWN);
        let mut files = self.shown();
        if let Some(shown) = files.values_mut().find(|shown| shown.uid == entry.uid) {
            shown.name = entry.name.clone();
            shown.written = None;
            return Ok(());
        }
        let file = match OpenOptions::new().write(true).open(&path) {
            // It was started by a vzd that did not show any.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => Arc::new(other.at("open", path.display())?),
        };
        let inode = file.metadata().at("stat", path.display())?.ino();
        if let Some(gate) = self.inside.gate.get() {
            gate.mark(&path)?;
        }
        let shown = Shown { uid: entry.uid.clone(), name: entry.name.clone(), file, written: None };
        files.insert(inode, shown);
        Ok(())
    }

    /// Makes the host's own file, for root.
    fn show_all(&self, gate: &Gate) -> SysResult<Whole> {
        let path = self.host.settings.user_beancounters();
        let mut options = OpenOptions::new();
        let file = options.create(true).write(true).truncate(true).mode(0o400).open(&path);
        let file = file.at("open", path.display())?;
        let inode = file.metadata().at("stat", path.display())?.ino();
        gate.mark(&path)?;
        Ok(Whole { inode, file, written: Mutex::default() })
    }

    /// Counts all for somebody who is about to read that file, unless that was done a moment ago.
    fn write_all(&self, whole: &Whole) {
        let mut written = whole.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let done = self.counters(&Selector::default()).map_err(|e| e.message).and_then(|all| {
            let text = user_beancounters(&all);
            let write = whole.file.write_all_at(text.as_bytes(), 0);
            write.and_then(|()| whole.file.set_len(text.len() as u64)).map_err(|e| e.to_string())
        });
        match done {
            Ok(()) => *written = Some(Instant::now()),
            Err(error) => tracing::warn!(error, "the host's file of all counters is not up to date"),
        }
    }

    fn answer_readers(&self) {
        let Some(gate) = self.inside.gate.get() else { return };
        loop {
            let openers = match gate.next() {
                Ok(openers) => openers,
                Err(e) => {
                    tracing::warn!(error = %e, "what VEs read of their counters is no longer up to date");
                    return;
                }
            };
            for opener in openers {
                let inode = opener.inode();
                if let Some(whole) = self.inside.host.get().filter(|whole| Some(whole.inode) == inode) {
                    self.write_all(whole);
                    continue;
                }
                let shown = inode.and_then(|inode| self.shown().get(&inode).cloned());
                let stale = |shown: &Shown| shown.written.is_none_or(|at| at.elapsed() >= FRESH);
                if let Some(shown) = shown.filter(stale)
                    && let Some(view) = self.view(&Subject::Name(shown.name.clone()), Leave::default())
                    && let Some(counters) = self.count(&view)
                {
                    self.write_shown(&shown, &counters);
                }
            }
        }
    }

    /// Shows what was counted, where nobody is asked when it is read.
    pub(super) fn show_unasked(&self, uid: &VeUid, counters: &VeCounters) {
        if !self.shows_when_asked() {
            let shown = self.shown().values().find(|shown| shown.uid == *uid).cloned();
            shown.into_iter().for_each(|shown| self.write_shown(&shown, counters));
        }
    }

    /// Whether the text is written when somebody reads it.
    pub(super) fn shows_when_asked(&self) -> bool {
        self.inside.gate.get().is_some()
    }

    fn write_shown(&self, shown: &Shown, counters: &VeCounters) {
        // Always of the same length: a reader in between sees whole lines.
        let text = user_beancounters(std::slice::from_ref(counters));
        if let Err(error) = shown.file.write_all_at(text.as_bytes(), 0) {
            tracing::warn!(ve = %shown.name, %error, "what it reads of its counters is not up to date");
        }
        let mut files = self.shown();
        if let Some(shown) = files.values_mut().find(|is| is.uid == shown.uid) {
            shown.written = Some(Instant::now());
        }
    }

    /// Forgets a VE that is gone.
    pub(super) fn forget_shown(&self, uid: &VeUid) {
        self.shown().retain(|_, shown| shown.uid != *uid);
        // One that never ran has none.
        drop(std::fs::remove_dir_all(self.host.settings.shown_dir(uid)));
    }

    fn shown(&self) -> MutexGuard<'_, BTreeMap<u64, Shown>> {
        self.inside.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
