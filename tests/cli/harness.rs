//! Runs vzd in a directory of its own, with nothing of the caller's environment.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use vzd_tests::{Must, vzd_binary};

/// A directory that a test has to itself.
pub(crate) struct Place {
    dir: TempDir,
}

/// What a command came to.
pub(crate) struct Said {
    /// Exit code.
    pub(crate) code: i32,
    /// Data.
    pub(crate) stdout: String,
    /// Everything else.
    pub(crate) stderr: String,
}

impl Place {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Place { dir: TempDir::new().must("make a directory") }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Puts a file into it.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).must("make a directory");
        }
        std::fs::write(path, text).must("write a file");
    }

    /// Runs vzd in it, with the directories `m`, `s` and `r`.
    pub(crate) fn vzd(&self, words: &[&str]) -> Said {
        self.vzd_reading(words, b"")
    }

    /// Runs vzd in it with this standard input.
    pub(crate) fn vzd_reading(&self, words: &[&str], input: &[u8]) -> Said {
        let dirs = [("VZD_MANIFESTS", "m"), ("VZD_STATE_DIR", "s"), ("VZD_RUN_DIR", "r")];
        run(Command::new(vzd_binary()).args(words).current_dir(self.path()).env_clear().envs(dirs), input)
    }

    /// Runs vzd with an environment that says nothing, for a command that reads no directory.
    pub(crate) fn vzd_alone(&self, words: &[&str]) -> Said {
        run(Command::new(vzd_binary()).args(words).current_dir(self.path()).env_clear(), b"")
    }
}

fn run(command: &mut Command, input: &[u8]) -> Said {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().must("run vzd (`cargo build -p vzd` makes it)");
    // A command that does not read its input may be gone already.
    drop(child.stdin.take().map(|mut stdin| stdin.write_all(input)));
    let output = child.wait_with_output().must("wait for vzd");
    Said {
        code: output.status.code().must("read the exit code"),
        stdout: String::from_utf8(output.stdout).must("read stdout"),
        stderr: String::from_utf8(output.stderr).must("read stderr"),
    }
}

/// All of it, as snapshots have it.
impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "exit: {}", self.code)?;
        writeln!(f, "----- stdout -----\n{}", self.stdout)?;
        write!(f, "----- stderr -----\n{}", self.stderr)
    }
}

/// Compares with a snapshot; the version is left out of it.
macro_rules! same {
    ($name:expr, $said:expr) => {
        insta::with_settings!({
            filters => [(r"vzd \d+\.\d+\.\d+", "vzd [VERSION]")],
            omit_expression => true,
            prepend_module_to_snapshot => false,
        }, { insta::assert_snapshot!($name, $said.to_string()) })
    };
}
pub(crate) use same;
