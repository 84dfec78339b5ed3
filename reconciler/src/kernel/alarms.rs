//! Hears of refusals by control groups as they happen: tasks that were not made, memory that was not had,
//! processes that were killed for it.
//!
//! The kernel says only that something may have been refused; how often is read from the group. Files of
//! version 2 groups change (inotify), and running out of memory in version 1 raises an eventfd. Refused tasks
//! make no noise in version 1, and before Linux 6.12 only in the group that asked: they are looked at every
//! few seconds. A group that is removed takes its watches with it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::fs::{Mode, OFlags, inotify};

use super::cgroup::{Hierarchy, VeCgroup, refused_tasks};
use crate::error::{At, SysError, SysResult};

/// Groups that are listened to.
#[derive(Debug)]
pub struct Alarms {
    /// Waits for all that makes itself heard; a file descriptor that is closed leaves it.
    heard: OwnedFd,
    inotify: OwnedFd,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// By watch: the ctid.
    files: BTreeMap<i32, u32>,
    /// By ctid: raised when the group is out of memory.
    out_of_memory: BTreeMap<u32, OwnedFd>,
    /// By ctid: a group that has to be looked at, and how often it was refused a task.
    quiet: BTreeMap<u32, (PathBuf, u64)>,
    /// When they are looked at next.
    look_at: Instant,
}

/// Quiet groups are looked at so often.
const LOOK: Duration = Duration::from_secs(5);

/// So many events are fetched at once.
const EVENTS: usize = 64;

const INOTIFY: &str = "inotify";
/// Its mark in the epoll set, where groups have their ctid.
const FILES: u64 = u64::MAX;

impl Alarms {
    /// Listens to nothing yet.
    pub fn new() -> SysResult<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let inotify = inotify::init(flags).at("open", INOTIFY)?;
        let heard = epoll::create(epoll::CreateFlags::CLOEXEC).at("make", "an epoll set")?;
        add(&heard, &inotify, FILES)?;
        let known = Known {
            files: BTreeMap::new(),
            out_of_memory: BTreeMap::new(),
            quiet: BTreeMap::new(),
            look_at: Instant::now() + LOOK,
        };
        Ok(Self { heard, inotify, known: Mutex::new(known) })
    }

    /// Listens to the groups of a VE, until they are removed. What they refuse from now on is heard.
    pub fn listen(&self, group: &VeCgroup<'_>) -> SysResult<()> {
        let mut known = self.known();
        let mut watch = |dir: &Path, file: &str| match inotify::add_watch(
            &self.inotify,
            dir.join(file),
            inotify::WatchFlags::MODIFY,
        ) {
            // A controller of which the kernel has less.
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(SysError::new("watch", dir.join(file).display(), e)),
            Ok(watch) => {
                known.files.insert(watch, group.ctid());
                Ok(())
            }
        };
        let tasks = group.dir_of("pids").ok();
        let (loud, quiet) = match tasks {
            Some((Hierarchy::V2(_), dir)) if dir.join("pids.events.local").exists() => (Some(dir), None),
            other => (None, other.map(|(_, dir)| dir)),
        };
        if let Some(dir) = loud {
            watch(&dir, "pids.events")?;
        }
        match group.dir_of("memory") {
            Ok((Hierarchy::V2(_), dir)) => {
                watch(&dir, "memory.events")?;
                watch(&dir, "memory.swap.events")?;
            }
            Ok((Hierarchy::V1(_), dir)) => {
                let raised = register(&dir)?;
                add(&self.heard, &raised, group.ctid().into())?;
                known.out_of_memory.insert(group.ctid(), raised);
            }
            Err(_) => {}
        }
        if let Some(dir) = quiet {
            let said = refused_tasks(&dir);
            known.quiet.insert(group.ctid(), (dir, said));
        }
        Ok(())
    }

    /// Waits for refusals, or for so long, and tells by ctid whose groups may have refused something.
    pub fn wait(&self, most: Option<Duration>) -> SysResult<Vec<u32>> {
        let look = self.known().look_at.saturating_duration_since(Instant::now());
        let most = most.map_or(look, |most| most.min(look));
        let most = Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: most.subsec_nanos().into(),
        };
        let mut events = Vec::with_capacity(EVENTS);
        match epoll::wait(&self.heard, rustix::buffer::spare_capacity(&mut events), Some(&most)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(SysError::new("wait for", "control groups", e)),
        }
        let mut heard = Vec::new();
        for event in events {
            match u32::try_from(event.data.u64()) {
                Ok(ctid) => {
                    if let Some(raised) = self.known().out_of_memory.get(&ctid) {
                        lower(raised);
                    }
                    heard.push(ctid);
                }
                Err(_) => heard.extend(self.files_that_changed()?),
            }
        }
        heard.extend(self.quiet_groups_that_changed());
        heard.sort_unstable();
        heard.dedup();
        Ok(heard)
    }

    fn files_that_changed(&self) -> SysResult<Vec<u32>> {
        let mut heard = Vec::new();
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(inotify::ReadFlags::IGNORED) => {
                    self.known().files.remove(&event.wd());
                }
                Ok(event) => heard.extend(self.known().files.get(&event.wd()).copied()),
                Err(rustix::io::Errno::AGAIN) => return Ok(heard),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(SysError::new("read", INOTIFY, e)),
            }
        }
    }

    fn quiet_groups_that_changed(&self) -> Vec<u32> {
        let mut known = self.known();
        if Instant::now() < known.look_at {
            return Vec::new();
        }
        known.look_at = Instant::now() + LOOK;
        let changed = |(ctid, (dir, said)): (&u32, &mut (PathBuf, u64))| {
            let now = refused_tasks(dir);
            (std::mem::replace(said, now) != now).then_some(*ctid)
        };
        known.quiet.iter_mut().filter_map(changed).collect()
    }

    /// Lets go of a VE whose groups are gone.
    pub fn forget(&self, ctid: u32) {
        let mut known = self.known();
        known.quiet.remove(&ctid);
        known.out_of_memory.remove(&ctid);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(set: &OwnedFd, fd: &OwnedFd, mark: u64) -> SysResult<()> {
    let mark = epoll::EventData::new_u64(mark);
    epoll::add(set, fd, mark, epoll::EventFlags::IN).at("listen to", "a control group")
}

fn lower(fd: impl AsFd) {
    let _ = rustix::io::read(fd, &mut [0_u8; 8]);
}

/// Has a version 1 group raise a new eventfd when it is out of memory.
fn register(dir: &Path) -> SysResult<OwnedFd> {
    let raised = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).at("make", "an eventfd")?;
    let path = dir.join("memory.oom_control");
    let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at("open", path.display())?;
    let order = format!("{} {}", raised.as_raw_fd(), file.as_raw_fd());
    super::cgroup::write(&dir.join("cgroup.event_control"), &order)?;
    Ok(raised)
}
