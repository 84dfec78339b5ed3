//! Why a command ends without success: what is printed, and the exit code.
//!
//! Texts are lower case without a full stop. Every code of behaviour.md's table is named here.

use std::error::Error;

use vzd_schema::Code;
use vzd_schema::render::harmless;

use crate::cli::output::{Paint, note};
use crate::control::ControlError;
use crate::error::SysError;

/// It is done.
pub const OK: u8 = 0;
/// It could not be done.
pub const FAILED: u8 = 1;
/// The command was used wrongly.
pub const USAGE: u8 = 64;
/// A manifest has errors.
pub const BAD_MANIFEST: u8 = 65;
/// What was waited for did not come.
pub const TIMEOUT: u8 = 124;
/// `exec` could not enter the VE (as of `env`, `docker` and others).
pub const NOT_ENTERED: u8 = 125;
/// The program in the VE cannot be executed, as shells say it.
pub const NOT_EXECUTABLE: u8 = 126;
/// The program in the VE does not exist, as shells say it.
pub const NOT_FOUND: u8 = 127;

/// What a command comes to: its exit code, or why it ends early.
pub type Outcome = Result<u8, Failure>;

/// Why a command ends early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: u8,
    /// Code of the kind of error, `VZ0307`.
    pub code: Option<String>,
    /// What went wrong.
    pub message: String,
    /// What led to it, outermost first.
    pub causes: Vec<String>,
    /// What can be done about it.
    pub help: Vec<String>,
}

impl Failure {
    /// Something that could not be done.
    pub fn new(message: impl Into<String>) -> Self {
        Failure { exit: FAILED, code: None, message: message.into(), causes: Vec::new(), help: Vec::new() }
    }

    /// A command that was used wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { exit: USAGE, ..Failure::new(message) }.coded(Code::Usage)
    }

    /// Says which kind of error it is.
    #[must_use]
    pub fn coded(self, code: Code) -> Self {
        Failure { code: Some(code.to_string()), ..self }
    }

    /// Ends with another exit code.
    #[must_use]
    pub fn exiting(self, exit: u8) -> Self {
        Failure { exit, ..self }
    }

    /// Adds what can be done about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Adds what led to it, with everything that led to that.
    #[must_use]
    pub fn because(mut self, cause: impl Error) -> Self {
        let mut next: Option<&dyn Error> = Some(&cause);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Prints it on stderr.
    pub fn print(&self, colour: bool) {
        note(&self.render(colour));
    }

    fn render(&self, colour: bool) -> String {
        let title = match &self.code {
            Some(code) => format!("error[{code}]"),
            None => "error".to_owned(),
        };
        let title = Paint::Bad.text(colour, &title);
        let mut text = format!("{title}: {}", harmless(&self.message));
        for cause in &self.causes {
            text.push_str(&format!("\n  caused by: {}", harmless(cause)));
        }
        for help in &self.help {
            text.push_str(&format!("\n  {}: {}", Paint::Good.text(colour, "help"), harmless(help)));
        }
        text
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let ControlError { code, message, help } = error;
        let code = (!code.is_empty()).then_some(code);
        Failure { code, help: help.into_iter().collect(), ..Failure::new(message) }
    }
}

impl From<SysError> for Failure {
    fn from(error: SysError) -> Self {
        let help = match error.errno {
            libc::EPERM | libc::EACCES if !nix::unistd::geteuid().is_root() => {
                vec!["this needs root".to_owned()]
            }
            _ => Vec::new(),
        };
        Failure { help, ..Failure::new(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_code_its_causes_and_a_cure() {
        let cause = std::io::Error::from_raw_os_error(libc::ENOENT);
        let failure =
            Failure::new("VE `web` is not\nrunning").coded(Code::NoSuchVe).because(cause).help("start it");
        assert_eq!(
            failure.render(false),
            "error[VZ0307]: VE `web` is not\\nrunning\n  caused by: No such file or directory (os error 2)\n  \
             help: start it"
        );
        assert_eq!(Failure::usage("no").exit, 64);
    }
}
