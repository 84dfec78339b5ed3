//! A set of tests through one guest (or a pair), and once more through a new one if that dies. A guest's death is never
//! a test's result: what it had not told by then is run again, and the death is told with the console's last lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::image::Image;
use super::job::Job;
use super::machine::{Event, Machine, Setup};
use super::tests::{Kind, Test};
use super::wire::{Message, Outcome, Verdict};
use crate::guest::Guest;
use crate::run::{Context, Result, target};

/// How a set of tests is to be run.
pub(super) struct Way<'a> {
    pub(super) image: &'a Image,
    pub(super) guest: &'a Guest,
    /// For how long a test may run.
    pub(super) limit: Duration,
    /// For how long a guest that is up may say nothing; it says every few seconds that it lives.
    pub(super) silence: Duration,
    /// When to stop, whatever is left.
    pub(super) until: Option<Instant>,
    /// How many tests run at a time, where their guest is not theirs alone.
    pub(super) side_by_side: u32,
    /// A failure leaves its sandbox, and a shell in the guest.
    pub(super) keep: bool,
    /// They are benchmarks.
    pub(super) benches: bool,
}

/// What came of them.
#[derive(Default)]
pub(super) struct Results {
    pub(super) outcomes: Vec<Outcome>,
    /// Tests that never came to an end, since both guests died.
    pub(super) lost: Vec<String>,
    /// Tests that there was no time for.
    pub(super) unrun: Vec<String>,
    /// What happened to guests.
    pub(super) deaths: Vec<String>,
}

/// Lines of the console that a guest's death is told with.
const LAST_WORDS: usize = 50;

impl Way<'_> {
    /// Runs `tests`, all of one kind.
    pub(super) fn run(&self, kind: Kind, tests: &[&Test]) -> Result<Results> {
        let mut results = Results::default();
        let mut left: Vec<&Test> = tests.to_vec();
        while !left.is_empty() {
            let scratch = Scratch::new()?;
            let booted = self.boot(kind, &left, &scratch.0)?;
            let ended: BTreeSet<&str> = booted.outcomes.iter().map(|outcome| outcome.test.as_str()).collect();
            left.retain(|test| !ended.contains(test.name.as_str()));
            results.outcomes.extend(booted.outcomes);
            if booted.out_of_time {
                results.unrun = left.drain(..).map(|test| test.name.clone()).collect();
            }
            let Some(mut why) = booted.death else { break };
            if let Some(panic) = booted.last_words.lines().find(|line| line.contains("Kernel panic")) {
                why += &format!(" ({})", panic.rsplit("] ").next().unwrap_or_default());
            }
            let during: Vec<&str> = booted.under_way.iter().map(String::as_str).collect();
            let told = format!("a guest {why}, during [{}]", during.join(", "));
            results.deaths.push(format!("{told}\n{}", booted.last_words));
            if results.deaths.len() == 2 {
                println!("DIED  {told}; the second time");
                break;
            }
            println!("DIED  {told}; tried again with another guest\n{}", booted.last_words);
        }
        results.lost = left.iter().map(|test| test.name.clone()).collect();
        Ok(results)
    }

    fn boot(&self, kind: Kind, tests: &[&Test], directory: &Path) -> Result<Booted> {
        let job = directory.join("job.ext4");
        let start = Instant::now();
        let (limit, side_by_side) = (self.limit.as_secs(), self.side_by_side);
        let (guest, keep, benches) = (self.guest, self.keep, self.benches);
        Job { tests, kind, guest, limit, side_by_side, keep, benches }.write(&job)?;
        let prepared = start.elapsed();
        let (send, events) = std::sync::mpsc::channel();
        let count = if kind == Kind::Pair { 2 } else { 1 };
        let mut machines = Vec::new();
        for index in 0..count {
            let mut words = String::new();
            if count == 2 {
                words += "lab.linked ";
            }
            if self.keep {
                words += "lab.shell=failure ";
            }
            let setup = Setup {
                image: self.image,
                job: &job,
                directory,
                index,
                linked: count == 2,
                systemd: kind == Kind::Systemd,
                interactive: self.keep && index == 0,
                words,
            };
            machines.push(Machine::start(&setup, &send)?);
        }
        let mut watch =
            Watch { way: self, kind, guests: vec![Seen::new(); count], booted: Booted::default() };
        watch.until_the_end(&events);
        let mut booted = watch.booted;
        if let Some(seconds) = booted.up_after {
            println!(
                "lab: {} tests in a {kind:?} guest: job packed in {:.1} s, up {seconds:.1} s later, {:.1} s in all",
                tests.len(),
                prepared.as_secs_f64(),
                start.elapsed().as_secs_f64()
            );
        }
        if booted.death.is_some() {
            booted.last_words = last_words(&machines)?;
        } else if self.keep && booted.some_failed {
            machines.iter_mut().take(1).try_for_each(Machine::wait)?;
        }
        Ok(booted)
    }
}

/// What one boot came to.
#[derive(Default)]
struct Booted {
    outcomes: Vec<Outcome>,
    under_way: BTreeSet<String>,
    some_failed: bool,
    out_of_time: bool,
    up_after: Option<f64>,
    /// How it ended, if not as it should.
    death: Option<String>,
    last_words: String,
}

#[derive(Clone)]
struct Seen {
    is_up: bool,
    last: Instant,
}

impl Seen {
    fn new() -> Seen {
        Seen { is_up: false, last: Instant::now() }
    }
}

struct Watch<'a> {
    way: &'a Way<'a>,
    kind: Kind,
    guests: Vec<Seen>,
    booted: Booted,
}

impl Watch<'_> {
    /// Takes what is told until all tests have ended or a guest has died.
    fn until_the_end(&mut self, events: &Receiver<(usize, Event)>) {
        let start = Instant::now();
        loop {
            match events.recv_timeout(Duration::from_secs(1)) {
                Ok((index, event)) => {
                    self.guests[index].last = Instant::now();
                    match event {
                        Event::Said(Message::Done) => return,
                        Event::Said(message) => self.take(index, message, start),
                        Event::Gone(said) => {
                            let said = if said.is_empty() { said } else { format!(": {}", said.trim_end()) };
                            self.booted.death = Some(format!("ended before its tests did{said}"));
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.booted.death = Some("can't be heard".to_owned()),
            }
            // With a shell on the console, somebody is there to judge.
            if let Some(silent) =
                self.guests.iter().find_map(|seen| self.silent(seen)).filter(|_| !self.way.keep)
            {
                self.booted.death = Some(silent);
            }
            self.booted.out_of_time = self.way.until.is_some_and(|until| Instant::now() > until);
            if self.booted.death.is_some() || self.booted.out_of_time {
                return;
            }
        }
    }

    fn silent(&self, seen: &Seen) -> Option<String> {
        let boot = Duration::from_secs(if self.kind == Kind::Systemd { 420 } else { 180 });
        let (limit, when) = if seen.is_up { (self.way.silence, "") } else { (boot, " while it booted") };
        (seen.last.elapsed() > limit).then(|| format!("was silent for {} s{when}", limit.as_secs()))
    }

    fn take(&mut self, index: usize, message: Message, start: Instant) {
        match message {
            Message::Hello { .. } if self.guests[index].is_up => {
                self.booted.death = Some("rebooted by itself".to_owned());
            }
            Message::Hello { .. } => {
                self.guests[index].is_up = true;
                if self.kind == Kind::Systemd && self.booted.up_after.is_some() {
                    println!("      {:7.1} s  it is up again", start.elapsed().as_secs_f64());
                }
                self.booted.up_after.get_or_insert(start.elapsed().as_secs_f64());
            }
            Message::Started { test } => drop(self.booted.under_way.insert(test)),
            Message::Reboots { test } => {
                println!("      {:7.1} s  {test}: reboots the guest", start.elapsed().as_secs_f64());
                self.guests[index].is_up = false;
                self.booted.under_way.remove(&test);
            }
            Message::Ended(outcome) => {
                self.booted.under_way.remove(&outcome.test);
                self.booted.some_failed |= matches!(outcome.verdict, Verdict::Failed | Verdict::Hung);
                show(&outcome);
                self.booted.outcomes.push(outcome);
            }
            Message::Alive | Message::Done => {}
        }
    }
}

fn show(outcome: &Outcome) {
    let (word, more) = match &outcome.verdict {
        Verdict::Passed => ("ok  ", String::new()),
        Verdict::Failed => ("FAIL", String::new()),
        Verdict::Hung => ("HUNG", String::new()),
        Verdict::Skipped { why } => ("skip", format!(": {why}")),
    };
    println!("{word}  {:7.1} s  {}{more}", outcome.seconds, outcome.test);
    if matches!(outcome.verdict, Verdict::Failed | Verdict::Hung) {
        for line in outcome.output.lines() {
            println!("      | {line}");
        }
    }
}

/// The ends of the consoles' logs, which are kept whole in the target directory.
fn last_words(machines: &[Machine]) -> Result<String> {
    let kept = target().join("lab");
    std::fs::create_dir_all(&kept).context(kept.display())?;
    let mut text = String::new();
    for (index, machine) in machines.iter().enumerate() {
        let log = String::from_utf8_lossy(&std::fs::read(&machine.console).unwrap_or_default()).into_owned();
        let boot = machine.console.parent().and_then(Path::file_name).unwrap_or_default();
        let file = kept.join(format!("{}-console-{index}.log", boot.display()));
        std::fs::write(&file, &log).context(file.display())?;
        let lines: Vec<&str> = log.lines().map(str::trim_end).collect();
        text += &format!("      ---- console of guest {index}, whole in {}\n", file.display());
        for line in &lines[lines.len().saturating_sub(LAST_WORDS)..] {
            text += &format!("      | {line}\n");
        }
    }
    Ok(text)
}

/// A directory for one boot; short, since sockets' paths have to be.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Scratch> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if number == 0 {
            sweep(&std::env::temp_dir());
        }
        let directory = std::env::temp_dir().join(format!("vzd-lab-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).context(directory.display())?;
        Ok(Scratch(directory))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Takes away what earlier labs that were killed have left: their guests have died with them, their directories have not.
fn sweep(temporary: &Path) {
    for entry in std::fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(owner);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

/// The process whose directory this is, by its name.
fn owner(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_prefix("vzd-lab-")?.split_once('-')?;
    number.parse::<u32>().ok().and(pid.parse().ok())
}

/// Tests by kind of guest, each kind in the order of the list.
pub(super) fn by_kind<'a>(tests: &[&'a Test]) -> BTreeMap<Kind, Vec<&'a Test>> {
    let mut kinds: BTreeMap<Kind, Vec<&Test>> = BTreeMap::new();
    for test in tests {
        kinds.entry(test.kind()).or_default().push(test);
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_lab_left_is_swept_and_nothing_else() {
        let place = std::env::temp_dir().join(format!("vzd-sweep-{}", std::process::id()));
        // No process has the number 0.
        let mine = format!("vzd-lab-{}-1", std::process::id());
        for name in ["vzd-lab-0-3", mine.as_str(), "vzd-lab-0", "vzd-lab-0-x", "else"] {
            std::fs::create_dir_all(place.join(name).join("below")).unwrap();
        }
        sweep(&place);
        let mut left: Vec<_> = std::fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut wanted = vec!["else", "vzd-lab-0", "vzd-lab-0-x", mine.as_str()];
        wanted.sort_unstable();
        assert_eq!(left, wanted);
        std::fs::remove_dir_all(&place).unwrap();
    }
}
