//! Answers VEs that ask for names, IO half: sockets, a thread, other name servers. What an answer is, is decided in
//! `vzd_state::names`.
//!
//! There is a thread only while the host's manifest wants it and a controller runs. Only VEs are answered, each over its
//! own routed link and at the addresses that are theirs to ask: a datagram that came over any other interface, or from
//! an address that is not the VE's at its other end, is none. A VE without such a link is answered within (see there).
//! The table is memory: passes make it anew.

mod bounds;
mod serve;
mod upstream;
mod within;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use vzd_state::ids::{Ctid, VeUid};
use vzd_state::names::{Named, Names, RESOLVER};
use vzd_state::subsystem::network::Inherited;

use crate::control::NamesUse;
use crate::drivers::Running;
use crate::error::{At, SysError, SysResult};
use crate::kernel::net::Netlink;
use crate::settings::Settings;

use bounds::Bounds;
use serve::Sockets;
use upstream::Upstreams;
use within::Within;

/// What became of the resolver.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing has changed.
    AsItWas,
    /// It runs now, and knows nobody.
    Started,
    /// It cannot run, and why.
    Failed(String),
}

/// The resolver of a host.
#[derive(Debug)]
pub struct Resolver {
    wanted: Mutex<Option<bool>>,
    run: Mutex<Run>,
    /// It runs: the table is kept.
    up: AtomicBool,
    names: Mutex<Names>,
    within: Mutex<Within>,
    bounds: Arc<Mutex<Bounds>>,
    upstreams: Upstreams,
    /// There while the host may have the route to the IPv6 address, whoever runs.
    mark: PathBuf,
    counts: Counts,
}

#[derive(Debug, Default)]
enum Run {
    /// It was not looked at whether an earlier vzd has left anything.
    #[default]
    Unknown,
    Off,
    On {
        stop: oneshot::Sender<()>,
        thread: JoinHandle<()>,
    },
    Failed {
        why: String,
        again: bool,
    },
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    forwarded: AtomicU64,
    refused: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Resolver {
    /// One that does not run.
    pub fn new(settings: &Settings) -> Self {
        Resolver {
            wanted: Mutex::default(),
            run: Mutex::default(),
            up: AtomicBool::new(false),
            names: Mutex::default(),
            within: Mutex::default(),
            bounds: Arc::default(),
            upstreams: Upstreams::new(settings.resolv_conf.clone()),
            mark: settings.run_dir.join("resolver"),
            counts: Counts::default(),
        }
    }

    /// Notes whether it is wanted, and what VEs inherit, if that is known; tells whether that is news.
    pub fn wish(&self, wanted: Option<bool>, inherited: Option<Inherited>) -> bool {
        let before = std::mem::replace(&mut *lock(&self.wanted), wanted);
        let is_news = self.upstreams.give(inherited);
        is_news || before.unwrap_or(false) != wanted.unwrap_or(false)
    }

    /// What the host's manifest says that VEs inherit, if that is known.
    pub fn inherited(&self) -> Option<Inherited> {
        self.upstreams.given()
    }

    /// Whether it is wanted, if that is known.
    pub fn is_wanted(&self) -> Option<bool> {
        *lock(&self.wanted)
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    /// Why it does not run, if it should.
    pub fn failure(&self) -> Option<String> {
        match &*lock(&self.run) {
            Run::Failed { why, .. } => Some(why.clone()),
            Run::Unknown | Run::Off | Run::On { .. } => None,
        }
    }

    /// What it did since the controller was started, if it runs.
    pub fn use_of(&self) -> Option<NamesUse> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { answered, forwarded, refused } = &self.counts;
        self.runs().then(|| NamesUse {
            names: lock(&self.names).len(),
            answered: read(answered),
            forwarded: read(forwarded),
            refused: read(refused),
        })
    }

    /// Puts a VE in the place of what was known of it; none takes it out.
    pub fn set(&self, uid: &VeUid, named: Option<Named>) {
        if named.is_none() {
            lock(&self.within).end(uid);
        }
        let mut names = lock(&self.names);
        // Under the lock: whoever ends it empties the table afterwards.
        if self.runs() {
            names.set(uid, named);
        }
    }

    /// Has a running VE answered at its own loopback, or no longer.
    pub fn answer_within(
        self: &Arc<Self>,
        (uid, ctid): (&VeUid, Ctid),
        running: Option<&Running>,
    ) -> SysResult<()> {
        let mut within = lock(&self.within);
        match running.filter(|_| self.runs()) {
            Some(running) => within.begin(self, (uid, ctid.get()), running),
            None => {
                within.end(uid);
                Ok(())
            }
        }
    }

    /// Has what failed tried again.
    pub fn try_again(&self) {
        if let Run::Failed { again, .. } = &mut *lock(&self.run) {
            *again = true;
        }
    }

    /// Starts it or ends it, as is wanted; for the controller.
    pub fn keep(self: &Arc<Self>) -> Kept {
        let wanted = self.is_wanted();
        let mut run = lock(&self.run);
        let ended = match &*run {
            Run::On { thread, .. } => thread.is_finished(),
            _ => false,
        };
        match (wanted, &*run) {
            (Some(true), Run::On { .. }) if ended => {
                self.end(&mut run);
                self.failed(&mut run, "its thread ended".to_owned())
            }
            (Some(true), Run::Unknown | Run::Off | Run::Failed { again: true, .. }) => match self.start() {
                Ok(on) => {
                    *run = on;
                    Kept::Started
                }
                Err(e) => self.failed(&mut run, e.to_string()),
            },
            (Some(false), Run::Unknown | Run::On { .. } | Run::Failed { .. }) => {
                self.end(&mut run);
                Kept::AsItWas
            }
            (Some(true), Run::On { .. } | Run::Failed { .. }) | (Some(false), Run::Off) | (None, _) => {
                Kept::AsItWas
            }
        }
    }

    /// Ends it, if it runs: nothing of it stays.
    pub fn stop(&self) {
        let mut run = lock(&self.run);
        if matches!(*run, Run::On { .. }) {
            self.end(&mut run);
        }
    }

    fn failed(&self, run: &mut Run, why: String) -> Kept {
        *run = Run::Failed { why: why.clone(), again: false };
        Kept::Failed(why)
    }

    fn start(self: &Arc<Self>) -> SysResult<Run> {
        // Whoever has the sockets has the route: another vzd on this host does not get so far.
        let sockets = Sockets::open(ipv6())?;
        if ipv6() {
            std::fs::write(&self.mark, "").at("write", self.mark.display())?;
            Netlink::open()?.take_as_own(RESOLVER[1])?;
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.at("start", "the resolver")?;
        let (stop, stopped) = oneshot::channel();
        *lock(&self.within) = Within::new(&runtime);
        self.up.store(true, Ordering::SeqCst);
        let resolver = self.clone();
        let thread = std::thread::Builder::new().name("names".to_owned()).stack_size(512 * 1024);
        match thread.spawn(move || serve::run(&resolver, &runtime, sockets, stopped)) {
            Ok(thread) => Ok(Run::On { stop, thread }),
            Err(e) => {
                self.up.store(false, Ordering::SeqCst);
                *lock(&self.within) = Within::default();
                Err(SysError::new("start", "the thread of the resolver", e))
            }
        }
    }

    fn end(&self, run: &mut Run) {
        self.up.store(false, Ordering::SeqCst);
        *lock(&self.names) = Names::default();
        *lock(&self.within) = Within::default();
        if let Run::On { stop, thread } = std::mem::replace(run, Run::Off) {
            drop(stop);
            drop(thread.join());
        }
        if self.mark.exists()
            && let Err(e) = self.give_up_route()
        {
            tracing::warn!(error = %e, "something of the resolver is left");
        }
    }

    fn give_up_route(&self) -> SysResult<()> {
        Netlink::open()?.take_no_more(RESOLVER[1])?;
        std::fs::remove_file(&self.mark).at("remove", self.mark.display())
    }
}

fn ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}
