//! The caller's terminal and signals: raw mode that is always undone, window sizes, and signals that are
//! read instead of being suffered.

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::termios::{OptionalActions, Termios};

use crate::error::{At, SysResult};

/// Size of a terminal that nobody can tell, rows and columns.
const USUAL_SIZE: (u16, u16) = (24, 80);

/// Standard input in raw mode, for as long as this lives: through errors and panics, and through signals
/// too, since those are read from [`Signals`].
#[derive(Debug)]
pub struct Raw {
    terminal: OwnedFd,
    saved: Termios,
}

impl Raw {
    /// Puts standard input into raw mode, if it is a terminal.
    pub fn stdin() -> SysResult<Option<Self>> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let terminal = stdin.as_fd().try_clone_to_owned().at("duplicate", "stdin")?;
        let saved = rustix::termios::tcgetattr(&terminal).at("read mode of", "terminal")?;
        let mut raw = saved.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Drain, &raw).at("set mode of", "terminal")?;
        Ok(Some(Raw { terminal, saved }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.saved);
    }
}

/// Rows and columns of the caller's terminal.
pub fn size() -> (u16, u16) {
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    [stdout.as_fd(), stdin.as_fd()]
        .into_iter()
        .filter_map(|fd| rustix::termios::tcgetwinsize(fd).ok())
        .map(|size| (size.ws_row, size.ws_col))
        .find(|(rows, columns)| *rows > 0 && *columns > 0)
        .unwrap_or(USUAL_SIZE)
}

/// The type of the caller's terminal, for `TERM` inside a VE.
pub fn kind() -> String {
    let term = std::env::var("TERM").unwrap_or_default();
    let sane = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    if !term.is_empty() && term.len() <= 64 && term.chars().all(sane) { term } else { "linux".to_owned() }
}

/// Signals that end a program, or tell that the window has another size.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks them in this thread, and in those it starts, and reads them from now on.
    pub fn take() -> SysResult<Self> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGWINCH] {
            mask.add(signal);
        }
        mask.thread_block().at("block", "signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Signals(SignalFd::with_flags(&mask, flags).at("make", "signal descriptor")?))
    }

    /// The next one, if one came.
    pub fn next_one(&self) -> Option<i32> {
        let signal = self.0.read_signal().ok()??;
        i32::try_from(signal.ssi_signo).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
