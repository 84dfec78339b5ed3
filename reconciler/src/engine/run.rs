//! The controller: a loop around the queue, with workers that do passes.
//!
//! Everything that can happen comes to the loop as a [`Hint`]; none of them says what to do, only what
//! to look at. The loop itself never waits for the kernel or a VE.

use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use vzd_state::ids::VeUid;

use crate::api;
use crate::api::server::{Listener, MetricsAt};
use crate::control::{Control, ControlError, ControlResult, PassStats};
use crate::drivers::{Census, disk};
use crate::engine::crew::{Crew, Job};
use crate::engine::queue::Queue;
use crate::engine::starts::Place;
use crate::engine::{Access, Engine, Subject, clock, inside, refusals};
use crate::kernel::heap;
use crate::settings::Settings;
use crate::store::Hold;
use crate::watch::{Hints, Settle};

/// The directory is read again this often, whatever inotify says, and every VE is looked at.
const RESYNC: Duration = Duration::from_secs(20);

/// Something that happened.
enum Hint {
    /// Something changed in the manifest directory, perhaps.
    Files,
    /// A VE's init ended.
    Exit(VeUid),
    /// Something in a VE ended that it was waited for.
    Look(VeUid),
    /// The keeper is gone.
    KeeperLost,
    /// There is something to look at, and it is noted what.
    Nudged,
    /// A worker is done.
    Done(Subject),
    /// Read and look at everything again.
    Reload,
    /// End the controller; VEs go on running.
    Stop,
}

/// A pass over everything, for its duration and what it wrote.
struct Pass {
    began: Instant,
    writes: u64,
    left: std::collections::BTreeSet<Subject>,
    ves: usize,
}

struct Loop {
    engine: Arc<Engine>,
    queue: Queue<Subject>,
    settle: Settle,
    resync_at: Instant,
    pass: Option<Pass>,
    work: Sender<Job>,
    crew: Crew,
    hints: Receiver<Hint>,
}

/// Runs the controller until it is told to stop.
pub fn run(settings: &Settings, metrics: Option<&MetricsAt>) -> ControlResult<()> {
    // Before any thread exists: all of them inherit the mask, and one takes the signals.
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        mask.add(signal);
    }
    let _ = mask.thread_block();
    heap::prefer_little_memory();
    let engine = Arc::new(Engine::open(settings, Access::Write, Hold::Controller)?);
    let (hint, hints) = channel();
    let (work, jobs) = channel();
    let ended = Mutex::new(hint.clone());
    engine.host.packages.hear(move |uid| {
        let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.send(Hint::Look(uid.clone()));
    });
    let nudged = Mutex::new(hint.clone());
    engine.placing.hear(move || {
        let nudged = nudged.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = nudged.send(Hint::Nudged);
    });
    take_signals(mask, hint.clone());
    watch_keeper(engine.clone(), hint.clone());
    let files = hint.clone();
    let watching = Hints::start(&settings.manifests, move || {
        let _ = files.send(Hint::Files);
    });
    let trouble = watching.as_ref().map_or_else(|e| Some(e.to_string()), Hints::trouble);
    if let Some(trouble) = trouble {
        tracing::warn!(trouble, "changes are noticed only when the directory is read again, every 20 s");
    }
    if let Err(e) = disk::tidy(&engine.host) {
        tracing::warn!(error = %e, "something of an earlier run is left");
    }
    refusals::listen(&engine);
    inside::answer(&engine);
    let done = hint.clone();
    let crew = Crew::start(&engine, jobs, move |subject| done.send(Hint::Done(subject)).is_ok());
    let _api = serve_api(&engine, metrics)?;
    let mut controller = Loop {
        settle: Settle::new(settings.settle_time()),
        resync_at: Instant::now(),
        queue: Queue::default(),
        pass: None,
        engine,
        work,
        crew,
        hints,
    };
    tracing::info!(manifests = %settings.manifests.display(), "controller started");
    while controller.turn() {}
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    controller.engine.host.resolver.stop();
    // Workers hold the engine until the process ends: it is not dropped.
    controller.engine.leave();
    tracing::info!("controller stops; VEs go on running");
    Ok(())
}

impl Loop {
    /// One turn: what is due, what has happened. Tells whether to go on.
    fn turn(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.resync_at {
            self.resync(now);
        } else if self.settle.take(now) {
            let changed = self.engine.rescan();
            self.look_at(changed, now);
            self.look_again(now);
        }
        let nudged = std::mem::take(&mut self.engine.shared().nudged);
        self.look_at(nudged, now);
        self.engine.keep_resolver();
        self.engine.keep_listening();
        self.hand_out(now, None);
        let wakes = [Some(self.resync_at), self.settle.due(), self.queue.next_due()];
        let until = wakes.into_iter().flatten().min().unwrap_or(self.resync_at);
        let watchdog = self.crew.keep_up().unwrap_or(Duration::from_secs(5));
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        let wait = until.saturating_duration_since(Instant::now()).min(watchdog);
        match self.hints.recv_timeout(wait) {
            // All that has happened until now is answered by one look.
            Ok(hint) => self.heed(hint) && self.heed_pending(),
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    fn heed_pending(&mut self) -> bool {
        while let Ok(hint) = self.hints.try_recv() {
            if !self.heed(hint) {
                return false;
            }
        }
        true
    }

    fn heed(&mut self, hint: Hint) -> bool {
        let now = Instant::now();
        match hint {
            Hint::Files => self.settle.hint(now),
            Hint::Exit(uid) | Hint::Look(uid) => {
                let subject = self.engine.shared().ledger.get(&uid).map(|e| Subject::Name(e.name.clone()));
                self.look_at(subject, now);
            }
            Hint::KeeperLost | Hint::Reload => self.resync_at = now,
            Hint::Nudged => {}
            Hint::Done(subject) => self.done(&subject),
            Hint::Stop => return false,
        }
        true
    }

    /// Reads the directory and looks at everything.
    fn resync(&mut self, now: Instant) {
        let writes = self.engine.host.writes.total();
        self.settle.take(now);
        self.engine.host.resolver.try_again();
        self.engine.rescan();
        self.engine.mind_certificates();
        self.look_again(now);
        let subjects = self.engine.subjects();
        self.resync_at = now + RESYNC;
        let ves = subjects.len();
        let left = subjects.iter().cloned().collect();
        self.pass = Some(Pass { began: now, writes, left, ves });
        self.look_at(subjects, now);
        // One look at what runs serves them all.
        let census = Arc::new(Census::take(&self.engine.host));
        self.hand_out(now, Some(census));
        self.end_pass();
        self.sample();
    }

    /// Counts what VEs hold, in a thread of its own; not while an earlier one is still at it.
    fn sample(&self) {
        let engine = self.engine.clone();
        let sampling = move || {
            if let Ok(_one_at_a_time) = engine.sampling.try_lock() {
                engine.sample();
            }
        };
        drop(std::thread::Builder::new().name("counters".into()).spawn(sampling));
    }

    /// A file that was caught in the middle of a change is read again soon.
    fn look_again(&mut self, now: Instant) {
        if let Some(delay) = self.engine.shared().wishes.revision.look_again {
            self.settle.hint(now + delay);
        }
    }

    fn look_at(&mut self, subjects: impl IntoIterator<Item = Subject>, at: Instant) {
        for subject in subjects {
            let priority = self.engine.priority(&subject);
            self.queue.add(subject, at, priority);
        }
    }

    fn hand_out(&mut self, now: Instant, census: Option<Arc<Census>>) {
        while let Some(subject) = self.queue.take(now) {
            let _ = self.work.send((subject, census.clone()));
        }
    }

    fn done(&mut self, subject: &Subject) {
        self.queue.done(subject);
        if let Subject::Name(name) = subject {
            self.engine.pursue(name);
        }
        let wake = self.engine.shared().published.get(subject).and_then(|is| is.next_wake());
        if let Some(wake) = wake {
            self.look_at([subject.clone()], clock::instant_of(wake));
        }
        if let Some(pass) = &mut self.pass {
            pass.left.remove(subject);
        }
        self.end_pass();
    }

    /// Notes what a pass over everything took, once its last subject is done.
    fn end_pass(&mut self) {
        let Some(pass) = self.pass.take_if(|pass| pass.left.is_empty()) else { return };
        let duration_us = u64::try_from(pass.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let writes = self.engine.host.writes.total() - pass.writes;
        let mut shared = self.engine.shared();
        let count = shared.last_pass.as_ref().map_or(0, |last| last.count) + 1;
        shared.last_pass = Some(PassStats { duration_us, ves: pass.ves, writes, count });
        drop(shared);
        if count == 1 {
            // Whoever waits for the unit finds its VEs as far as one pass brings them.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        }
        heap::give_memory_back();
    }
}

impl Engine {
    /// The subject's place in the line of those that start.
    pub(super) fn line_up(&self, subject: &Subject) -> Option<Place<'_>> {
        match subject {
            Subject::Name(name) => Some(self.starts.line_up(name.clone(), self.priority(subject))),
            Subject::Quarantined(_) => None,
        }
    }

    /// Removals first, then by boot order.
    fn priority(&self, subject: &Subject) -> i64 {
        match subject {
            Subject::Quarantined(_) => i64::MIN,
            Subject::Name(name) => self
                .shared()
                .wishes
                .want
                .get(name)
                .map_or(i64::MAX, |want| i64::from(want.lifecycle.boot_order)),
        }
    }
}

fn take_signals(mask: SigSet, hint: Sender<Hint>) {
    spawn("signals", move || {
        loop {
            let said = match mask.wait() {
                Ok(Signal::SIGHUP) => Hint::Reload,
                Ok(_) => Hint::Stop,
                Err(_) => continue,
            };
            if hint.send(said).is_err() {
                return;
            }
        }
    });
}

/// Hears of exits from the keeper; when that is lost, everything is looked at again, which hands what
/// runs to a new one.
fn watch_keeper(engine: Arc<Engine>, hint: Sender<Hint>) {
    spawn("keeper", move || {
        loop {
            match engine.host.keeper.watch() {
                Ok(exits) => {
                    if hint.send(Hint::KeeperLost).is_err() {
                        return;
                    }
                    while let Ok(Some(exited)) = exits.next_exit() {
                        let Ok(uid) = exited.uid.parse() else { continue };
                        if hint.send(Hint::Exit(uid)).is_err() {
                            return;
                        }
                    }
                    tracing::warn!("the keeper ended; consoles of running VEs are lost");
                }
                Err(e) => {
                    tracing::error!(error = %e, "the keeper cannot be reached");
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
    });
}

fn serve_api(engine: &Arc<Engine>, metrics: Option<&MetricsAt>) -> ControlResult<api::server::Serving> {
    let path = engine.host.settings.socket();
    let failed = |e: &dyn std::fmt::Display| ControlError {
        code: "VZ0403".to_owned(),
        message: format!("cannot serve on {}: {e}", path.display()),
        help: None,
    };
    // The host lock is ours: whatever lies there is left by a controller that is gone.
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(&e)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(|e| failed(&e))?;
    let control: Arc<dyn Control> = engine.clone();
    let metrics = metrics.map(|at| {
        Listener::for_metrics(at).map_err(|e| ControlError {
            code: "VZ0403".to_owned(),
            message: format!("cannot serve metrics at {at}: {e}"),
            help: None,
        })
    });
    api::server::serve(listener, metrics.transpose()?, control).map_err(|e| failed(&e))
}

/// Starts a thread; tells whether it could.
pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> bool {
    let spawned = std::thread::Builder::new().name(name.to_owned()).stack_size(512 * 1024).spawn(body);
    spawned.inspect_err(|e| tracing::error!(error = %e, name, "a thread cannot be started")).is_ok()
}
