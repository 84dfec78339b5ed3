//! One test, run in a control group and a process of its own until it ends or its time is up. Must end all that it
//! started, and say what the kernel logged meanwhile if it went wrong.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Task, sweep};
use crate::lab::wire::{Outcome, Verdict};
use crate::run::{Context, Result};

/// What a test exits with that wants to be run again after a reboot.
const WANTS_REBOOT: i32 = 75;
/// Where the tests' groups are; vzd's own are beside it.
const GROUPS: &str = "/sys/fs/cgroup/lab";
/// What is told of a test's output at most: its end.
const MOST_OUTPUT: usize = 200_000;

/// How it went.
pub(super) enum End {
    Came(Outcome),
    WantsReboot,
}

/// Once, before any test.
pub(super) fn prepare() -> Result<()> {
    std::fs::create_dir_all(GROUPS).context(GROUPS)?;
    std::fs::create_dir_all("/run/lab").context("/run/lab")
}

/// Runs it. `again` says that it has asked for a reboot, which has been.
pub(super) fn run(task: &Task, again: bool, environment: &Value, limit: Duration) -> End {
    let start = Instant::now();
    let ended = |verdict, output| {
        let seconds = start.elapsed().as_secs_f64();
        End::Came(Outcome { test: task.name.clone(), verdict, seconds, output })
    };
    match attempt(task, again, environment, limit) {
        Ok((Code::Exit(WANTS_REBOOT), ..)) => End::WantsReboot,
        Ok((Code::Exit(0), skipped, output)) if skipped.is_empty() => ended(Verdict::Passed, output),
        Ok((Code::Exit(0), why, output)) => ended(Verdict::Skipped { why }, output),
        Ok((Code::Hung, _, output)) => ended(Verdict::Hung, output),
        Ok((code, _, output)) => ended(Verdict::Failed, format!("{output}\nended with {code:?}\n")),
        Err(failure) => ended(Verdict::Failed, format!("the lab could not run it: {failure}")),
    }
}

#[derive(Debug)]
enum Code {
    Exit(i32),
    Signal,
    Hung,
}

/// Its end, its skips and its output.
fn attempt(task: &Task, again: bool, environment: &Value, limit: Duration) -> Result<(Code, String, String)> {
    let id = task.name.replace("::", ".");
    let group = PathBuf::from(GROUPS).join(&id);
    std::fs::create_dir_all(&group).context(group.display())?;
    let run = |ending: &str| PathBuf::from(format!("/run/lab/{id}.{ending}"));
    let (out, skips) = (run("out"), run("skips"));
    let file = File::create(&out).context(out.display())?;
    let mut log = KernelLog::now();
    let mut command = Command::new("/bin/sh");
    // In its group before it is the test, so that nothing of it can be elsewhere.
    command.args(["-c", "echo $$ > \"$0\"; exec \"$@\""]).arg(group.join("cgroup.procs"));
    command.args([&task.program, &task.exact, "--exact", "--nocapture"]).env_clear();
    for (name, value) in environment.as_object().into_iter().flatten() {
        command.env(name, value.as_str().unwrap_or_default());
    }
    command.env("VZD_TEST_SKIPS", &skips).env("VZD_LAB_BOOT", if again { "2" } else { "1" });
    let copy = file.try_clone().context(out.display())?;
    command.current_dir("/root").stdin(Stdio::null()).stdout(copy).stderr(file);
    let mut child = command.spawn().context(&task.name)?;
    let pid = child.id();
    let (send, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(send.send(child.wait())));
    let mut more = String::new();
    let code = match end.recv_timeout(limit) {
        Ok(status) => match status.context(&task.name)?.code() {
            Some(code) => Code::Exit(code),
            None => Code::Signal,
        },
        Err(RecvTimeoutError::Disconnected) => Code::Signal,
        Err(RecvTimeoutError::Timeout) => {
            more = sweep::state_of(&group, pid);
            Code::Hung
        }
    };
    let keeps = environment["VZD_TEST_KEEP"].is_string();
    // What wants a reboot wants its things to be there until then.
    if !matches!(code, Code::Exit(WANTS_REBOOT)) && (!keeps || matches!(code, Code::Exit(0))) {
        for left in sweep::clear(&group, pid) {
            more += &format!("lab: could not be cleared: {left}\n");
        }
    }
    let mut output = tail(&out) + &more;
    if !matches!(code, Code::Exit(0)) {
        output += &log.since();
    }
    let skipped = std::fs::read_to_string(&skips).unwrap_or_default();
    let why: Vec<String> =
        skipped.lines().map(|line| line.split('\t').skip(1).collect::<Vec<_>>().join(": ")).collect();
    drop((std::fs::remove_file(&skips), std::fs::remove_file(&out)));
    Ok((code, why.join("; "), output))
}

fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(MOST_OUTPUT)..]).into_owned()
}

/// The kernel's log from a moment on.
struct KernelLog(Option<File>);

impl KernelLog {
    fn now() -> KernelLog {
        let mut options = File::options();
        let file = options.read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok();
        KernelLog(file.and_then(|mut file| file.seek(SeekFrom::End(0)).ok().map(|_| file)))
    }

    fn since(&mut self) -> String {
        let mut text = String::new();
        let Some(file) = &mut self.0 else { return text };
        let mut record = [0; 8192];
        loop {
            match file.read(&mut record) {
                Ok(length) if length > 0 => {
                    let record = String::from_utf8_lossy(&record[..length]);
                    let said = record.split_once(';').map_or("", |(_, said)| said);
                    text += &format!("kernel: {}\n", said.lines().next().unwrap_or_default());
                }
                // Overwritten by newer ones.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                _ => return text,
            }
        }
    }
}
