//! Says that the manifests may have changed, and nothing more.
//!
//! inotify, as a bare wake-up. A directory that is replaced takes its watch with it, and a symlink never
//! had one, so after every change of names the ways are looked at anew; if they have changed, all is
//! watched afresh by a second instance before the first is let go. Reading files is no change: notify
//! also tells of opened files, and whoever followed that would wake himself.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::ways::Ways;
use crate::error::{At, SysResult};

/// The ways are looked at again so often, for what inotify does not tell: a renamed ancestor, a mount.
const RECHECK: Duration = Duration::from_secs(10);
/// They are looked at no oftener than that while names keep changing.
const REST: Duration = Duration::from_millis(100);

/// Watches a manifest directory until it is dropped.
#[derive(Debug)]
pub struct Hints {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Hints {
    /// Calls `hint` soon after something in the directory, or on the way to it, may have changed; now
    /// and then without a reason. The directory need not be there. `hint` is called from threads that
    /// watch, and should do no more than wake someone.
    pub fn start(dir: &Path, hint: impl Fn() + Send + Sync + 'static) -> SysResult<Self> {
        let dir = std::path::absolute(dir).at("find", dir.display())?;
        let signal = Arc::new(Signal { hint: Box::new(hint), state: Mutex::default(), told: Condvar::new() });
        let mut watch = Watch { dir, signal: Arc::clone(&signal), armed: None };
        // What changes after this returns is told.
        watch.arm(true);
        let run = move || watch.run();
        let thread = std::thread::Builder::new().name("hints".to_owned()).spawn(run);
        Ok(Self { signal, thread: Some(thread.at("start", "the thread for hints")?) })
    }

    /// Why not everything is watched at the moment, if it is not: then changes are found by rescans only.
    pub fn trouble(&self) -> Option<String> {
        self.signal.lock().trouble.clone()
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.signal.tell(|state| state.stop = true);
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked is gone, which is what is wanted.
            let _ = thread.join();
        }
    }
}

/// What the threads tell each other, and everybody else.
struct Signal {
    hint: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State>,
    told: Condvar,
}

impl std::fmt::Debug for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signal").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    /// What is watched now, to judge events by.
    ways: Arc<Ways>,
    /// There may be another way now: a directory or a symlink has come, or a directory has gone.
    moved: bool,
    /// A watched directory is another one now, or events were lost.
    lost: bool,
    stop: bool,
    trouble: Option<String>,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.told.notify_all();
    }

    /// What an event means. Runs in notify's thread.
    fn event(&self, event: notify::Result<Event>) {
        let Some(event) = event.ok().filter(|event| !event.need_rescan()) else {
            self.tell(|state| (state.moved, state.lost) = (true, true));
            return (self.hint)();
        };
        // Both ends of a rename are told of one by one before.
        let told = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        if matches!(event.kind, EventKind::Access(_)) || event.kind == told {
            return;
        }
        let ways = Arc::clone(&self.lock().ways);
        if !event.paths.iter().any(|path| ways.concern(path)) {
            return;
        }
        let only_text =
            matches!(event.kind, EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)));
        if !only_text {
            let lost = event.paths.iter().any(|path| ways.contain(path));
            // What is gone needs no new watch, and neither does a plain file.
            let leads_on = |path: &PathBuf| path.symlink_metadata().is_ok_and(|is| !is.is_file());
            if lost || event.paths.iter().any(leads_on) {
                self.tell(|state| (state.moved, state.lost) = (true, state.lost | lost));
            }
        }
        (self.hint)();
    }

    /// Waits until there is something to do, or the time is up.
    fn wait(&self, until: Instant, rested: Instant) -> State {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let ready = state.stop || (state.moved && now >= rested) || now >= until;
            if ready {
                let taken = State { ways: Arc::clone(&state.ways), trouble: None, ..*state };
                if now >= rested {
                    (state.moved, state.lost) = (false, false);
                }
                return taken;
            }
            let next = if state.moved { rested.min(until) } else { until };
            let wait = self.told.wait_timeout(state, next.saturating_duration_since(now));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

struct Watch {
    dir: PathBuf,
    signal: Arc<Signal>,
    armed: Option<RecommendedWatcher>,
}

impl Watch {
    fn run(&mut self) {
        let mut rested = Instant::now();
        let mut recheck = rested + RECHECK;
        loop {
            let state = self.signal.wait(recheck, rested);
            if state.stop {
                return;
            }
            let now = Instant::now();
            let due = now >= recheck;
            if due || (state.moved && now >= rested) {
                // What has changed before the watch was in place is found by one more scan.
                if self.arm(state.lost) {
                    (self.signal.hint)();
                }
                rested = Instant::now() + REST;
                recheck = rested + RECHECK;
            }
        }
    }

    /// Watches what is to be watched now; tells whether that is something else than before.
    fn arm(&mut self, lost: bool) -> bool {
        let ways = Ways::to(&self.dir);
        let (known, whole) = {
            let state = self.signal.lock();
            (Arc::clone(&state.ways), self.armed.is_some() && state.trouble.is_none())
        };
        if !lost && whole && ways.same_directories(&known) {
            let changed = ways != *known;
            self.signal.lock().ways = Arc::new(ways);
            return changed;
        }
        let signal = Arc::clone(&self.signal);
        let ways = Arc::new(ways);
        let watcher = notify::recommended_watcher(move |event| signal.event(event));
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(e) => {
                let trouble = format!("inotify cannot be used: {e}");
                self.signal.lock().trouble = Some(trouble);
                return false;
            }
        };
        // Before the first watch, so that its events are judged rightly.
        self.signal.lock().ways = Arc::clone(&ways);
        let mut trouble = None;
        for directory in ways.directories() {
            if let Err(e) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                trouble = Some(format!("{} is not watched: {e}", directory.display()));
            }
        }
        self.armed = Some(watcher);
        // What was exchanged while it was being watched is watched at the next look, which is soon.
        let moved_on = !Ways::to(&self.dir).same_directories(&ways);
        let mut state = self.signal.lock();
        state.trouble = trouble;
        if moved_on {
            (state.moved, state.lost) = (true, true);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's queue overflows while notify's thread is held up: a directory that was made then has
    /// to be found and watched all the same.
    #[test]
    fn what_a_full_queue_has_lost_is_found() {
        const SOON: Duration = Duration::from_secs(10);
        let dir = tempfile::tempdir().unwrap();
        let (tell, heard) = std::sync::mpsc::channel();
        let hints = Hints::start(dir.path(), move || tell.send(()).unwrap_or_default()).unwrap();
        let queue = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let queue: usize = queue.trim().parse().unwrap();
        let held_up = hints.signal.lock();
        let file = dir.path().join("web.yaml");
        for i in 0..queue / 3 + 1000 {
            // Opened, written, closed; differently each time, or the kernel folds them.
            std::fs::write(&file, i.to_string()).unwrap();
        }
        let sub = dir.path().join("sub");
        std::fs::create_dir(&sub).unwrap();
        drop(held_up);
        let end = Instant::now() + SOON;
        while !hints.signal.lock().ways.contain(&sub) {
            assert!(Instant::now() < end, "the directory is not watched");
            heard.recv_timeout(SOON).unwrap();
        }
        while heard.recv_timeout(Duration::from_millis(300)).is_ok() {}
        std::fs::write(sub.join("web.yaml"), "").unwrap();
        heard.recv_timeout(SOON).unwrap();
    }
}
