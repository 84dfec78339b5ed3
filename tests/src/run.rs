//! Running vzd, and what came of it.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use crate::guest::target_dir;
use crate::{Must, within};

/// The vzd that is tested.
pub fn vzd_binary() -> PathBuf {
    std::env::var_os("VZD_BIN").map_or_else(|| target_dir().join("debug/vzd"), PathBuf::from)
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The command as typed.
    pub command: String,
    /// Its exit code; 128 and the signal's number where one ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    pub(crate) fn new(command: &Command, output: Output) -> Ended {
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        Ended {
            command: words.collect::<Vec<_>>().join(" "),
            code: code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command to its end with nothing to read.
    #[track_caller]
    pub fn of(command: &mut Command) -> Ended {
        let output = command.stdin(Stdio::null()).output().must("run a command");
        Ended::new(command, output)
    }

    /// Fails the test unless it ended with 0.
    #[track_caller]
    pub fn ok(self) -> Ended {
        self.ends(0)
    }

    /// Fails the test unless it ended with `code`.
    #[track_caller]
    pub fn ends(self, code: i32) -> Ended {
        assert!(
            self.code == code,
            "`{}` ended with {} instead of {code}\n{}{}",
            self.command,
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Fails the test unless its output (of either kind) holds `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Ended {
        let found = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(found, "`{}` doesn't say {text:?}\n{}{}", self.command, self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .must(format!("read the output of `{}` as JSON: {}{}", self.command, self.stdout, self.stderr))
    }
}

/// The exit code as a shell shows it.
pub(crate) fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A child that doesn't outlive the test.
pub struct Guarded {
    /// The child.
    pub child: Child,
}

impl Guarded {
    /// Starts it.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Guarded {
        Guarded { child: command.spawn().must("start a command") }
    }

    /// Waits for its end, and returns its exit code.
    #[track_caller]
    pub fn wait(&mut self, timeout: Duration) -> i32 {
        let status = within(timeout, "the command ends", || self.child.try_wait().must("wait for a command"));
        code(status)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Not reaped yet, so the number is still its own; one that has ended is no error.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
