//! `vzd console`: attaches to a VE's console.
//!
//! What the console showed last comes first. Control-] detaches; everything else that is typed goes to
//! the VE. Where the output is no terminal, escape sequences and control characters are left out.

mod plain;

use std::io::IsTerminal;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::cli::Context;
use crate::cli::exec::one;
use crate::cli::failure::{Failure, OK, Outcome};
use crate::cli::terminal::{self, Raw, Signals};
use crate::control::Selector;
use crate::error::SysError;
use crate::keeper::Keeper;
use crate::keeper::client::Attached;
use plain::Plain;

/// Control-].
const DETACH: u8 = 0x1d;
/// What the keeper has kept arrives at once.
const LOG_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Options of `vzd console`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VE, by name or ctid
    #[arg(value_name = "VE")]
    ve: String,
    /// Show what was shown last, and end
    #[arg(long)]
    log: bool,
}

impl Args {
    /// To that VE's.
    pub fn of(ve: String) -> Self {
        Self { ve, log: false }
    }
}

/// Attaches until it is detached, or until the VE's console is gone.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    let select = Selector { names: vec![args.ve.clone()], ..Selector::default() };
    let entrance = one(&cx.settings, &select).map_err(|failure| failure.exiting(1))?;
    let signals = Signals::take()?;
    let console = Keeper::new(&cx.settings.run_dir).console(&entrance.uid)?;
    let mut session = Session { console, plain: (!std::io::stdout().is_terminal()).then(Plain::default) };
    if args.log {
        while session.is_ready(LOG_WAIT)? && session.show(cx)? {}
        return Ok(OK);
    }
    let raw = Raw::stdin()?;
    if raw.is_some() {
        cx.out.note(&format!("attached to {}; control-] detaches\r", entrance.name));
        let (rows, columns) = terminal::size();
        session.console.resize(rows, columns)?;
    }
    let end = session.talk(&signals, cx);
    drop(raw);
    let end = end?;
    if std::io::stderr().is_terminal() {
        cx.out.note(&format!("\n{}", end.told(&entrance.name)));
    }
    Ok(OK)
}

/// Why a session is over.
enum End {
    Detached,
    Gone,
}

impl End {
    fn told(&self, name: &str) -> String {
        match self {
            End::Detached => format!("detached from {name}"),
            End::Gone => format!("the console of {name} is gone"),
        }
    }
}

struct Session {
    console: Attached,
    plain: Option<Plain>,
}

impl Session {
    fn is_ready(&self, wait: Timespec) -> Result<bool, Failure> {
        let mut fds = [PollFd::new(&self.console, PollFlags::IN)];
        poll(&mut fds, Some(&wait))?;
        Ok(!fds[0].revents().is_empty())
    }

    /// Shows what has come; tells whether there is more to come.
    fn show(&mut self, cx: &mut Context) -> Result<bool, Failure> {
        let bytes = self.console.read()?;
        match &mut self.plain {
            Some(plain) => cx.out.bytes(&plain.of(&bytes))?,
            None => cx.out.bytes(&bytes)?,
        }
        Ok(!bytes.is_empty() && !cx.out.is_closed())
    }

    fn talk(&mut self, signals: &Signals, cx: &mut Context) -> Result<End, Failure> {
        let stdin = std::io::stdin();
        let mut typing = true;
        loop {
            let (shows, signalled, typed) = {
                let mut fds =
                    vec![PollFd::new(&self.console, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
                if typing {
                    fds.push(PollFd::new(&stdin, PollFlags::IN));
                }
                poll(&mut fds, None)?;
                let is = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
                (is(0), is(1), is(2))
            };
            if shows && !self.show(cx)? {
                return Ok(End::Gone);
            }
            if signalled && !self.heed(signals)? {
                return Ok(End::Detached);
            }
            if typed {
                let mut bytes = [0; 4096];
                let n = rustix::io::read(&stdin, &mut bytes).unwrap_or(0);
                typing = n > 0;
                let typed = &bytes[..n];
                let end = typed.iter().position(|byte| *byte == DETACH).filter(|_| stdin.is_terminal());
                let sent = &typed[..end.unwrap_or(n)];
                if !sent.is_empty() {
                    self.console.write(sent)?;
                }
                if end.is_some() {
                    return Ok(End::Detached);
                }
            }
        }
    }

    /// Follows the size of the window; any other signal detaches.
    fn heed(&self, signals: &Signals) -> Result<bool, Failure> {
        while let Some(signal) = signals.next_one() {
            if signal != libc::SIGWINCH {
                return Ok(false);
            }
            let (rows, columns) = terminal::size();
            self.console.resize(rows, columns)?;
        }
        Ok(true)
    }
}

fn poll(fds: &mut [PollFd<'_>], wait: Option<&Timespec>) -> Result<(), Failure> {
    match rustix::event::poll(fds, wait) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(SysError::new("poll", "console", error).into()),
    }
}
