//! The screen of `vzd top`: drawn whole at each look and each key, without a library, since what a
//! controller's program does not hold costs no memory.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::rates::{Sort, rows};
use super::{Look, table};
use crate::cli::failure::Failure;
use crate::cli::terminal::{self, Raw, Signals};
use crate::control::{VeState, VeUsage};

const HELP: &str = "c cpu  m memory  i io  p processes  f failures  n name  r reverse  j/k scroll  q quit";

/// The other screen of the terminal, without a cursor, for as long as this lives.
struct Screen;

impl Screen {
    fn new() -> Self {
        write("\x1b[?1049h\x1b[?25l");
        Screen
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write("\x1b[?25h\x1b[?1049l");
    }
}

/// A terminal that is gone sends a hang-up, too.
fn write(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    drop(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

struct View {
    before: Vec<VeUsage>,
    now: Vec<VeUsage>,
    sort: Sort,
    reverse: bool,
    first: usize,
}

/// Shows until the user has seen enough; tells whether there is a terminal to show it on and to be told on.
pub fn run(look: &Look, every: Duration, sort: Sort) -> Result<bool, Failure> {
    // Asked before the screen is taken, so that what is wrong is read.
    let before = look.take()?;
    let signals = Signals::take()?;
    let Some(_raw) = Raw::stdin()? else { return Ok(false) };
    let _screen = Screen::new();
    let mut view = View { now: before.clone(), before, sort, reverse: false, first: 0 };
    // The first rates are there soon.
    let mut next = Instant::now() + every.min(Duration::from_millis(500));
    loop {
        view.draw();
        match view.wait(&signals, next)? {
            Next::Look => {
                view.before = std::mem::replace(&mut view.now, look.take()?);
                next = Instant::now() + every;
            }
            Next::Draw => {}
            Next::End => return Ok(true),
        }
    }
}

enum Next {
    Look,
    Draw,
    End,
}

impl View {
    fn wait(&mut self, signals: &Signals, until: Instant) -> Result<Next, Failure> {
        let stdin = std::io::stdin();
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Next::Look);
        }
        let mut fds = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        let left = Timespec::try_from(left).unwrap_or_default();
        match rustix::event::poll(&mut fds, Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::new("cannot wait for a key").because(error)),
        }
        let [typed, signalled] = fds.map(|fd| !fd.revents().is_empty());
        if signalled {
            while let Some(signal) = signals.next_one() {
                if signal != libc::SIGWINCH {
                    return Ok(Next::End);
                }
            }
        }
        if typed {
            let mut keys = [0; 64];
            let n = rustix::io::read(&stdin, &mut keys).unwrap_or(0);
            return Ok(if n == 0 || !self.heed(&keys[..n]) { Next::End } else { Next::Draw });
        }
        Ok(if signalled { Next::Draw } else { Next::Look })
    }

    /// Does what keys say; tells whether to go on.
    fn heed(&mut self, keys: &[u8]) -> bool {
        match keys {
            b"\x1b[A" => self.first = self.first.saturating_sub(1),
            b"\x1b[B" => self.first += 1,
            _ => {
                for key in keys {
                    match key {
                        b'q' | 3 => return false,
                        b'c' => self.sort = Sort::Cpu,
                        b'm' => self.sort = Sort::Memory,
                        b'i' => self.sort = Sort::Io,
                        b'p' => self.sort = Sort::Processes,
                        b'f' => self.sort = Sort::Failures,
                        b'n' => self.sort = Sort::Name,
                        b'r' => self.reverse = !self.reverse,
                        b'k' => self.first = self.first.saturating_sub(1),
                        b'j' => self.first += 1,
                        _ => {}
                    }
                }
            }
        }
        true
    }

    fn draw(&mut self) {
        let (height, width) = terminal::size();
        let (height, width) = (usize::from(height), usize::from(width));
        let rows = rows(&self.before, &self.now, self.sort, self.reverse);
        let running = rows.iter().filter(|row| row.state == VeState::Running).count();
        let cpu: f64 = rows.iter().filter_map(|row| row.cpu_percent).sum();
        let summary = format!("{} VEs, {running} running, {cpu:.1}% CPU    {HELP}", rows.len());
        // Two lines above the rows.
        let room = height.saturating_sub(2).max(1);
        self.first = self.first.min(rows.len().saturating_sub(room));
        let text = table(&rows).render("", false);
        let mut lines = text.lines();
        let heading = lines.next().unwrap_or_default();
        let cut = |line: &str| line.chars().take(width).collect::<String>();
        let mut screen = format!("\x1b[H{}\x1b[K\r\n\x1b[7m{}\x1b[0m\x1b[K", cut(&summary), cut(heading));
        for line in lines.skip(self.first).take(room) {
            screen += &format!("\r\n{}\x1b[K", cut(line));
        }
        write(&(screen + "\x1b[J"));
    }
}
