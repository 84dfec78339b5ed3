//! A shell session played to the reader: each command is shown as one would type it, then run. Must not hide a failure.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{Context, Result, capture, fail, run, shown};

/// Where the commands run and what they see.
pub(crate) struct Session {
    pub(crate) vzd: PathBuf,
    pub(crate) directory: PathBuf,
    /// Set for every command, so that they can be typed without options.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Session {
    /// A heading.
    pub(crate) fn say(&self, text: &str) {
        println!("\n# {text}");
    }

    /// Shows the environment as a shell would be given it.
    pub(crate) fn export(&self) {
        let words: Vec<String> =
            self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        println!("$ export {}", words.join(" "));
    }

    /// Shows a vzd command and runs it.
    pub(crate) fn vzd(&self, arguments: &[&str]) -> Result<()> {
        self.play(&mut self.command(arguments))
    }

    /// Shows any command and runs it in the session's directory.
    pub(crate) fn shell(&self, words: &[&str]) -> Result<()> {
        let (program, arguments) = words.split_first().ok_or(crate::run::Failure("no command".to_owned()))?;
        let mut command = Command::new(program);
        self.play(command.args(arguments).current_dir(&self.directory))
    }

    /// Runs a vzd command without showing it.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String> {
        capture(&mut self.command(arguments))
    }

    /// Starts a vzd command that goes on, with its messages in a file.
    pub(crate) fn start(&self, arguments: &[&str], log: &str) -> Result<Background> {
        let path = self.directory.join(log);
        let file = std::fs::File::create(&path).context(path.display())?;
        let copy = file.try_clone().context(path.display())?;
        let mut command = self.command(arguments);
        println!("$ {} 2>{log} &", shown(&command));
        let child =
            command.stdin(Stdio::null()).stdout(copy).stderr(file).spawn().context(shown(&command))?;
        Ok(Background { child: Some(child), log: path })
    }

    /// Asks until the answer is `wanted`, at most for `limit`, and says how long it took.
    pub(crate) fn until(&self, arguments: &[&str], wanted: &str, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let answer = self.ask(arguments)?;
            if answer.trim() == wanted {
                return Ok(start.elapsed());
            }
            if start.elapsed() > limit {
                return fail(format!(
                    "{} still says {:?}, not {wanted:?}",
                    shown(&self.command(arguments)),
                    answer.trim()
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.vzd);
        command.args(arguments).current_dir(&self.directory).envs(self.environment.iter().cloned());
        command
    }

    fn play(&self, command: &mut Command) -> Result<()> {
        println!("$ {}", shown(command));
        std::io::stdout().flush().context("standard output")?;
        run(command)
    }
}

/// A process in the background; ended when dropped.
pub(crate) struct Background {
    child: Option<Child>,
    log: PathBuf,
}

impl Background {
    /// Fails if it has ended by itself.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => Ok(()),
            Some(Ok(Some(status))) => fail(format!("it ended by itself: {status}\n{}", self.last_words())),
            _ => fail("it doesn't run"),
        }
    }

    /// The end of its messages.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(&mut self, limit: Duration) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // Ours and not waited for yet, so that the number can't be another's.
        run(Command::new("kill").args(["-TERM", &child.id().to_string()]))?;
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait().context("waiting")? {
                return if status.success() {
                    Ok(())
                } else {
                    fail(format!("{status}\n{}", self.last_words()))
                };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().and_then(|()| child.wait()).context("killing")?;
        fail(format!("it did not end within {} s\n{}", limit.as_secs(), self.last_words()))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // On the way out of a failure, which is being told of already.
            drop(child.kill().and_then(|()| child.wait()));
        }
    }
}
