//! The event log: one line of JSON an event, with numbers that go on over restarts.
//!
//! An event that repeats an earlier one is written again with the new count and a new number, and takes
//! its place. Nothing is synced: who loses power loses the last events, and nothing else. A line that
//! cannot be read is passed over.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vzd_state::event::{Event, fold};

use super::atomic;
use super::writes::Writes;
use crate::control::LoggedEvent;
use crate::error::{At, SysError, SysResult};

/// Events kept.
const MOST_EVENTS: usize = 2000;
/// Bytes of the file after which it is written anew, with the latest events in half of that.
const MOST_BYTES: u64 = 4 << 20;

/// Nobody waits longer than that at a time.
const MOST_WAIT: Duration = Duration::from_secs(3600);

/// The event log of one controller.
#[derive(Debug)]
pub struct EventLog {
    log: Mutex<Log>,
    added: Condvar,
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    writes: Writes,
    most_bytes: u64,
    /// By number.
    events: VecDeque<LoggedEvent>,
    last: u64,
    /// Open for appending since the first event that was added here, and its size.
    file: Option<(File, u64)>,
    /// The last write failed, which was told.
    failing: bool,
}

impl EventLog {
    /// Reads the log, which need not be there. Changes nothing.
    pub fn open(path: &Path, writes: Writes) -> SysResult<Self> {
        Self::open_with(path, writes, MOST_BYTES)
    }

    fn open_with(path: &Path, writes: Writes, most_bytes: u64) -> SysResult<Self> {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(SysError::new("read", path.display(), e));
            }
            _ => {}
        }
        let events = VecDeque::new();
        let mut log =
            Log { path: path.to_owned(), writes, most_bytes, events, last: 0, file: None, failing: false };
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Ok(event) = serde_json::from_slice::<LoggedEvent>(line) {
                log.put(event);
            }
        }
        Ok(Self { log: Mutex::new(log), added: Condvar::new() })
    }

    /// Adds an event, and wakes who waits for one. That it cannot be written is logged: what happened
    /// has happened all the same.
    pub fn add(&self, event: Event) -> LoggedEvent {
        let logged = self.lock().add(event);
        self.added.notify_all();
        logged
    }

    /// The events after a number, of one VE or of all. If there are none, waits for one that long.
    ///
    /// A number that was never given out (the log was removed) stands for the beginning.
    pub fn query(&self, after: Option<u64>, ve: Option<&str>, wait: Duration) -> Vec<LoggedEvent> {
        let until = Instant::now() + wait.min(MOST_WAIT);
        let mut log = self.lock();
        let after = after.filter(|after| *after <= log.last).unwrap_or(0);
        loop {
            let events = log.after(after, ve);
            let left = until.saturating_duration_since(Instant::now());
            if !events.is_empty() || left.is_zero() {
                return events;
            }
            log = self.added.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn add(&mut self, event: Event) -> LoggedEvent {
        let event = match self.events.iter().rev().find_map(|known| folded(&known.event, &event)) {
            Some(folded) => folded,
            None => event,
        };
        let logged = LoggedEvent { seq: self.last + 1, event };
        self.put(logged.clone());
        let written = self.write(&logged);
        if let (Err(error), false) = (&written, self.failing) {
            tracing::warn!(%error, "events are not being written down");
        }
        self.failing = written.is_err();
        logged
    }

    /// Puts an event at the end, in place of the one that it continues.
    fn put(&mut self, logged: LoggedEvent) {
        let continued = |known: &LoggedEvent| {
            let (known, event) = (&known.event, &logged.event);
            known.first_time == event.first_time
                && known.ve == event.ve
                && known.reason == event.reason
                && known.is_about_the_same(event)
                && known.r#type == event.r#type
                && known.cause == event.cause
                && known.count < event.count
        };
        if logged.event.count > 1
            && let Some(at) = self.events.iter().rposition(continued)
        {
            self.events.remove(at);
        }
        self.last = self.last.max(logged.seq);
        self.events.push_back(logged);
        if self.events.len() > MOST_EVENTS {
            self.events.pop_front();
        }
    }

    fn after(&self, after: u64, ve: Option<&str>) -> Vec<LoggedEvent> {
        let of_ve =
            |event: &Event| ve.is_none_or(|ve| event.ve.as_ref().is_some_and(|name| name.as_str() == ve));
        let new = self.events.iter().filter(|logged| logged.seq > after && of_ve(&logged.event));
        new.cloned().collect()
    }

    fn write(&mut self, logged: &LoggedEvent) -> SysResult<()> {
        let line = line(logged)?;
        self.writes.disk();
        let (mut file, size) = match self.file.take() {
            Some(open) => open,
            None => self.open_file()?,
        };
        file.write_all(&line).at("write", self.path.display())?;
        let size = size + u64::try_from(line.len()).unwrap_or(0);
        if size <= self.most_bytes {
            self.file = Some((file, size));
            return Ok(());
        }
        self.write_anew()
    }

    fn open_file(&self) -> SysResult<(File, u64)> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(&self.path).at("open", self.path.display())?;
        let end = || -> std::io::Result<u64> {
            let size = file.seek(SeekFrom::End(0))?;
            if size == 0 {
                return Ok(0);
            }
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last == *b"\n" {
                return Ok(size);
            }
            // A writer was killed in the middle of a line: the next one begins a new one.
            file.write_all(b"\n")?;
            Ok(size + 1)
        };
        let size = { end }().at("read", self.path.display())?;
        Ok((file, size))
    }

    /// Writes the latest events to a new file.
    fn write_anew(&mut self) -> SysResult<()> {
        let mut lines = VecDeque::new();
        let mut size = 0;
        for logged in self.events.iter().rev() {
            let line = line(logged)?;
            size += u64::try_from(line.len()).unwrap_or(0);
            if size > self.most_bytes / 2 && !lines.is_empty() {
                break;
            }
            lines.push_front(line);
        }
        self.events.drain(..self.events.len() - lines.len());
        let bytes: Vec<u8> = lines.into_iter().flatten().collect();
        atomic::write(&self.path, &bytes, &self.writes).map(drop)
    }
}

/// The two events as one, if the second repeats the first.
fn folded(known: &Event, event: &Event) -> Option<Event> {
    if known.ve != event.ve || known.reason != event.reason || !known.is_about_the_same(event) {
        return None;
    }
    let mut log = vec![known.clone()];
    fold(&mut log, event.clone(), 2);
    if log.len() == 1 { log.pop() } else { None }
}

fn line(logged: &LoggedEvent) -> SysResult<Vec<u8>> {
    let mut line = serde_json::to_vec(logged).map_err(|e| SysError::refused("write", "an event", e))?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vzd_state::event::EventType;
    use vzd_state::units::Timestamp;

    fn event(seconds: i64, ve: &str, message: &str) -> Event {
        let name = ve.parse().ok();
        Event::new(Timestamp(seconds * 1000), name, EventType::Normal, "Test", message.to_owned())
    }

    fn open(path: &Path) -> EventLog {
        EventLog::open(path, Writes::default()).unwrap()
    }

    fn all(log: &EventLog) -> Vec<(u64, String, u64)> {
        let events = log.query(None, None, Duration::ZERO);
        events.into_iter().map(|is| (is.seq, is.event.message, is.event.count)).collect()
    }

    fn is(seq: u64, message: &str, count: u64) -> (u64, String, u64) {
        (seq, message.to_owned(), count)
    }

    #[test]
    fn events_and_their_numbers_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let log = open(&path);
        assert!(all(&log).is_empty() && !path.exists());
        for (seconds, message) in [(0, "again"), (1, "other"), (2, "again"), (3, "again")] {
            log.add(event(seconds, "web", message));
        }
        let folded = [is(2, "other", 1), is(4, "again", 3)];
        assert_eq!(all(&log), folded);
        let log = open(&path);
        assert_eq!(all(&log), folded);
        assert_eq!(log.add(event(4, "web", "again")).event.to_string(), "Test: again (x4 over 4s)");
        assert_eq!(log.add(event(7200, "web", "again")).seq, 6);
        assert_eq!(all(&open(&path)), [is(2, "other", 1), is(5, "again", 4), is(6, "again", 1)]);
    }

    #[test]
    fn what_a_killed_writer_left_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        open(&path).add(event(0, "web", "one"));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{}", &text[..20])).unwrap();
        let log = open(&path);
        assert_eq!(all(&log), [is(1, "one", 1)]);
        log.add(event(1, "web", "two"));
        assert_eq!(all(&open(&path)), [is(1, "one", 1), is(2, "two", 1)]);
    }

    #[test]
    fn a_log_that_grows_keeps_the_latest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let log = EventLog::open_with(&path, Writes::default(), 4000).unwrap();
        for i in 0..200 {
            log.add(event(i, "web", &i.to_string()));
            assert!(std::fs::metadata(&path).unwrap().len() <= 4000);
        }
        let kept = all(&log);
        assert_eq!(kept.last(), Some(&is(200, "199", 1)));
        assert!((8..40).contains(&kept.len()), "{}", kept.len());
        assert_eq!(all(&open(&path)), kept);
    }

    #[test]
    fn followers_get_what_is_new_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let log = open(&dir.path().join("events.jsonl"));
        log.add(event(0, "web", "one"));
        log.add(event(0, "db", "two"));
        let of = |after, ve, wait| -> Vec<u64> {
            log.query(after, ve, wait).into_iter().map(|logged| logged.seq).collect()
        };
        let (now, long) = (Duration::ZERO, Duration::from_secs(30));
        assert_eq!(of(None, None, long), [1, 2]);
        assert_eq!(of(Some(1), None, long), [2]);
        assert_eq!(of(None, Some("web"), long), [1]);
        assert_eq!(of(Some(2), None, now), [] as [u64; 0]);
        assert_eq!(of(Some(900), None, now), [1, 2], "the log is another one");
        std::thread::scope(|scope| {
            let follower = scope.spawn(|| of(Some(2), Some("web"), long));
            log.add(event(1, "db", "three"));
            log.add(event(1, "web", "four"));
            assert_eq!(follower.join().unwrap(), [4]);
        });
    }

    #[test]
    fn events_that_cannot_be_written_are_not_lost_on_those_who_ask() {
        let dir = tempfile::tempdir().unwrap();
        let log = open(&dir.path().join("no/events.jsonl"));
        log.add(event(0, "web", "one"));
        std::fs::create_dir(dir.path().join("no")).unwrap();
        log.add(event(0, "web", "two"));
        assert_eq!(all(&log).len(), 2);
        assert_eq!(all(&open(&dir.path().join("no/events.jsonl"))), [is(2, "two", 1)]);
    }
}
