//! Tells on a terminal that something takes a while, and for how long already. Elsewhere it says nothing.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
