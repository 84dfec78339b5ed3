//! The part of the lab that runs in a guest: each test in a process of its own, told to the host as it ends.
//!
//! Must go on after a test that hangs or leaves things behind, and must never let silence pass for success: the host
//! believes only what is told, and only up to `Done`.

mod one;
mod serve;
mod sweep;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;

use super::wire::{Message, Verdict};
use crate::run::{Context, Failure, Result, fail, run as succeed};

/// What tells the init of a guest that a test failed.
pub(super) const SOME_FAILED: u8 = 3;

const PORT: &str = "/dev/vport0p1";
const JOB: &str = "/lab/job.json";
/// Outlives a reboot: one line a test that needs no further run; `PENDING` names the one that asked for the reboot.
const ENDED: &str = "/var/lib/vzd-lab/ended";
const PENDING: &str = "/var/lib/vzd-lab/pending";

const HEARTBEAT: Duration = Duration::from_secs(5);

/// A test as the job describes it.
struct Task {
    name: String,
    program: String,
    exact: String,
}

/// The way to the host.
struct Host(Mutex<File>);

impl Host {
    fn open() -> Result<Host> {
        Ok(Host(Mutex::new(OpenOptions::new().write(true).open(PORT).context(PORT)?)))
    }

    /// There is nobody else to tell if this fails; the host notices that nothing comes.
    fn tell(&self, message: &Message) {
        if let Ok(mut port) = self.0.lock() {
            drop(port.write_all(message.line().as_bytes()));
        }
    }
}

/// Runs the job's tests; or, on the second of two guests, serves the first.
pub(super) fn run(words: &[&str]) -> Result<u8> {
    let host: &'static Host = Box::leak(Box::new(Host::open()?));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    host.tell(&Message::Hello { kernel: kernel.trim().to_owned() });
    // Ends with this process.
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(HEARTBEAT);
            host.tell(&Message::Alive);
        }
    });
    match words {
        [] => tests(host),
        ["serve"] => serve::run(),
        other => fail(format!("lab-inside: unknown: {}", other.join(" "))),
    }
}

fn tests(host: &Host) -> Result<u8> {
    let text = std::fs::read_to_string(JOB).context(JOB)?;
    let job: Value = serde_json::from_str(&text).context(JOB)?;
    make_links(&job["links"])?;
    one::prepare()?;
    let ended = std::fs::read_to_string(ENDED).unwrap_or_default();
    let pending = std::fs::read_to_string(PENDING).unwrap_or_default();
    let mut tasks: Vec<Task> = job["tests"].as_array().into_iter().flatten().map(task).collect();
    tasks.retain(|task| !ended.lines().any(|name| name == task.name));
    // What asked for the reboot goes on first. Popped from the end.
    tasks.sort_by_key(|task| task.name == pending.trim());
    if pending.is_empty() {
        tasks.reverse();
    }
    let limit = Duration::from_secs(job["limit"].as_u64().unwrap_or(300));
    let side_by_side = job["sideBySide"].as_u64().unwrap_or(1);
    let (queue, failed) = (Mutex::new(tasks), Mutex::new(false));
    std::thread::scope(|scope| {
        for _ in 0..side_by_side {
            scope.spawn(|| {
                let next = || queue.lock().ok().and_then(|mut queue| queue.pop());
                while let Some(task) = next() {
                    host.tell(&Message::Started { test: task.name.clone() });
                    let again = pending.trim() == task.name;
                    match one::run(&task, again, &job["environment"], limit) {
                        one::End::Came(outcome) => {
                            if matches!(outcome.verdict, Verdict::Failed | Verdict::Hung)
                                && let Ok(mut failed) = failed.lock()
                            {
                                *failed = true;
                            }
                            host.tell(&Message::Ended(outcome));
                            note_end(&task.name);
                        }
                        one::End::WantsReboot => reboot(host, &task.name),
                    }
                }
            });
        }
    });
    host.tell(&Message::Done);
    let failed = failed.into_inner().unwrap_or(true);
    let words = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let somebody_looks = failed && words.contains("lab.shell=failure");
    if Path::new("/run/systemd/system").exists() && !somebody_looks {
        succeed(Command::new("systemctl").args(["--no-block", "poweroff"]))?;
    }
    Ok(if failed { SOME_FAILED } else { 0 })
}

fn task(value: &Value) -> Task {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Task { name: text("name"), program: text("program"), exact: text("exact") }
}

fn make_links(links: &Value) -> Result<()> {
    for (path, target) in links.as_object().into_iter().flatten() {
        let path = Path::new(path);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).context(directory.display())?;
        }
        // There already after a reboot.
        drop(std::os::unix::fs::symlink(target.as_str().unwrap_or_default(), path));
    }
    Ok(())
}

/// Only a guest that reboots reads it again.
fn note_end(test: &str) {
    drop(std::fs::create_dir_all("/var/lib/vzd-lab"));
    drop(std::fs::remove_file(PENDING));
    let file = OpenOptions::new().append(true).create(true).open(ENDED);
    drop(file.and_then(|mut file| file.write_all(format!("{test}\n").as_bytes())));
}

/// Asks systemd for a reboot and waits to be ended by it.
fn reboot(host: &Host, test: &str) {
    let note = || -> Result<()> {
        std::fs::create_dir_all("/var/lib/vzd-lab").context(PENDING)?;
        std::fs::write(PENDING, test).context(PENDING)?;
        succeed(&mut Command::new("sync"))?;
        host.tell(&Message::Reboots { test: test.to_owned() });
        succeed(Command::new("systemctl").args(["--no-block", "reboot"]))
    };
    if let Err(Failure(why)) = note() {
        eprintln!("lab: no reboot: {why}");
    }
    loop {
        std::thread::park();
    }
}
