//! Hears of refusals by control groups as they happen: tasks that were not made, memory that was not had,
//! processes that were killed for it.
//!
//! The kernel says only that something may have been refused; how often is read from the group. Files of
//! version 2 groups change (inotify), and running out of memory in version 1 raises an eventfd. The version
//! 1 `pids.events` makes no noise: it is looked at every few seconds. A group that is removed takes its
//! watches with it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{Mode, OFlags, inotify};

use super::cgroup::{Hierarchy, VeCgroup};
use crate::error::{At, SysError, SysResult};

/// Groups that are listened to.
#[derive(Debug)]
pub struct Alarms {
    inotify: OwnedFd,
    /// Raised when the list of what is listened to has changed.
    changed: OwnedFd,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By watch: the ctid.
    files: BTreeMap<i32, u32>,
    /// By ctid: raised when the group is out of memory.
    out_of_memory: BTreeMap<u32, OwnedFd>,
    /// By ctid: a file that has to be looked at, and what it said last.
    quiet: BTreeMap<u32, (OwnedFd, Vec<u8>)>,
}

/// Quiet files are looked at so often.
const LOOK: Duration = Duration::from_secs(5);

const INOTIFY: &str = "inotify";

impl Alarms {
    /// Listens to nothing yet.
    pub fn new() -> SysResult<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let inotify = inotify::init(flags).at("open", INOTIFY)?;
        Ok(Self { inotify, changed: new_eventfd()?, known: Mutex::default() })
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
        let pids = group.dir_of("pids");
        if let Ok((Hierarchy::V2(_), dir)) = &pids {
            watch(dir, "pids.events")?;
        }
        match group.dir_of("memory") {
            Ok((Hierarchy::V2(_), dir)) => {
                watch(&dir, "memory.events")?;
                watch(&dir, "memory.swap.events")?;
            }
            Ok((Hierarchy::V1(_), dir)) => {
                known.out_of_memory.insert(group.ctid(), register(&dir)?);
                raise(&self.changed);
            }
            Err(_) => {}
        }
        if let Ok((Hierarchy::V1(_), dir)) = pids {
            let path = dir.join("pids.events");
            let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .at("open", path.display())?;
            let said = content(&file);
            known.quiet.insert(group.ctid(), (file, said));
            raise(&self.changed);
        }
        Ok(())
    }

    /// Waits for refusals, or for so long, and tells by ctid whose groups may have refused something.
    pub fn wait(&self, most: Option<Duration>) -> SysResult<Vec<u32>> {
        let raised: Vec<(u32, OwnedFd)> = {
            let known = self.known();
            let clone = |(ctid, fd): (&u32, &OwnedFd)| Some((*ctid, fd.try_clone().ok()?));
            known.out_of_memory.iter().filter_map(clone).collect()
        };
        let mut fds =
            vec![PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.changed, PollFlags::IN)];
        fds.extend(raised.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)));
        let look = (!self.known().quiet.is_empty()).then_some(LOOK);
        let most = most.into_iter().chain(look).min().map(|most| Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: most.subsec_nanos().into(),
        });
        match poll(&mut fds, most.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(SysError::new("poll", "control groups", e)),
        }
        let is_raised = |fd: &PollFd<'_>| fd.revents().intersects(PollFlags::IN);
        let out_of_memory: Vec<bool> = fds[2..].iter().map(is_raised).collect();
        if is_raised(&fds[1]) {
            lower(&self.changed);
        }
        let mut heard = self.files_that_changed()?;
        for ((ctid, fd), _) in raised.iter().zip(out_of_memory).filter(|(_, raised)| *raised) {
            lower(fd);
            heard.push(*ctid);
        }
        for (ctid, (file, said)) in &mut self.known().quiet {
            let now = content(&*file);
            if now != *said {
                *said = now;
                heard.push(*ctid);
            }
        }
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

    /// Lets go of a VE whose groups are gone.
    pub fn forget(&self, ctid: u32) {
        let mut known = self.known();
        known.quiet.remove(&ctid);
        if known.out_of_memory.remove(&ctid).is_some() {
            raise(&self.changed);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_eventfd() -> SysResult<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).at("make", "an eventfd")
}

fn raise(fd: impl AsFd) {
    // It is full only if nobody listens.
    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
}

fn lower(fd: impl AsFd) {
    let _ = rustix::io::read(fd, &mut [0_u8; 8]);
}

/// What a small file says; nothing if its group is gone.
fn content(file: impl AsFd) -> Vec<u8> {
    let mut buffer = [0_u8; 256];
    let length = rustix::io::pread(file, &mut buffer, 0).unwrap_or(0);
    buffer[..length].to_vec()
}

/// Has a version 1 group raise a new eventfd when it is out of memory.
fn register(dir: &Path) -> SysResult<OwnedFd> {
    let raised = new_eventfd()?;
    let path = dir.join("memory.oom_control");
    let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at("open", path.display())?;
    let order = format!("{} {}", raised.as_raw_fd(), file.as_raw_fd());
    super::cgroup::write(&dir.join("cgroup.event_control"), &order)?;
    Ok(raised)
}
