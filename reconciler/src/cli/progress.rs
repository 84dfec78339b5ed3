//! Tells on a terminal that something takes a while, and for how long already. Elsewhere it says nothing.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::template::{Reached, Tally};

/// What is over sooner needs no word.
const PATIENCE: Duration = Duration::from_millis(800);
const TICK: Duration = Duration::from_millis(500);

/// A line on stderr that lives as long as this.
#[derive(Debug)]
pub struct Progress {
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Something begins.
    pub fn start(doing: &'static str) -> Self {
        Self::showing(move || doing.to_owned())
    }

    /// A template is made; `doing` until there is more to tell.
    pub fn of(doing: &'static str, tally: Tally) -> Self {
        Self::showing(move || tally.reached().map_or_else(|| doing.to_owned(), |reached| shown(&reached)))
    }

    /// Something begins of which `doing` tells, each time anew, where it is.
    pub fn showing(doing: impl Fn() -> String + Send + 'static) -> Self {
        if !std::io::stderr().is_terminal() {
            return Progress { ticker: None };
        }
        let (over, is_over) = channel();
        let ticker = std::thread::spawn(move || {
            let began = Instant::now();
            let mut wait = PATIENCE;
            let mut said = false;
            while is_over.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                say(&format!("\r\x1b[K{}, {} s", doing(), began.elapsed().as_secs()));
                said = true;
                wait = TICK;
            }
            if said {
                say("\r\x1b[K");
            }
        });
        Progress { ticker: Some((over, ticker)) }
    }
}

/// What a template's maker tells, as a bar if it is known how much there is to do.
fn shown(reached: &Reached) -> String {
    const MB: u64 = 1_000_000;
    const WIDE: usize = 24;
    let Reached { doing, done, of } = reached;
    match of {
        Some(of) if *of > 0 => {
            let done = (*done).min(*of);
            let parts = |whole: u64| u64::try_from(u128::from(done) * u128::from(whole) / u128::from(*of));
            let full = parts(WIDE as u64).ok().and_then(|full| usize::try_from(full).ok()).unwrap_or(WIDE);
            let bar = format!("{}{}", "=".repeat(full), " ".repeat(WIDE - full));
            let percent = parts(100).unwrap_or(100);
            format!("{doing} [{bar}] {percent} %, {} of {} MB", done / MB, of.div_ceil(MB))
        }
        _ if *done < MB => doing.clone(),
        _ => format!("{doing}, {} MB", done / MB),
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((over, ticker)) = self.ticker.take() {
            drop(over);
            // A line that could not be taken back harms nobody.
            let _ = ticker.join();
        }
    }
}

fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_it_is_far() {
        let at = |done, of| shown(&Reached { doing: "unpacking".to_owned(), done, of });
        assert_eq!(
            at(30_000_000, Some(120_000_000)),
            "unpacking [======                  ] 25 %, 30 of 120 MB"
        );
        // A file that has grown meanwhile, and one of nothing.
        assert_eq!(at(9_000_000, Some(8_000_000)), "unpacking [========================] 100 %, 8 of 8 MB");
        assert_eq!(at(0, Some(0)), "unpacking");
        assert_eq!(at(5_000_000, None), "unpacking, 5 MB");
    }
}
