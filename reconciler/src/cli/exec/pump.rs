//! Carries bytes from one descriptor to another without ever blocking for long: whoever polls asks what
//! to wait for, and takes one step when it is there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;

/// A pipe takes that much at once when it is writable at all (`PIPE_BUF`).
const CHUNK: usize = 4096;
/// What a terminal takes for the end of its input (control-D).
const END_OF_INPUT: u8 = 4;

/// One direction of a conversation.
#[derive(Debug)]
pub struct Pump {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    waiting: Vec<u8>,
    direction: Direction,
    carried: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// To the program; its pipe is closed at the end.
    In,
    /// To the program's terminal: it is told about the end, since closing would hang it up.
    IntoTerminal,
    /// From the program.
    Out,
}

impl Pump {
    fn new(from: OwnedFd, to: OwnedFd, direction: Direction) -> Self {
        Pump { from: Some(from), to: Some(to), waiting: Vec::new(), direction, carried: 0 }
    }

    /// Carries to a program, and closes its pipe at the end.
    pub fn input(from: OwnedFd, to: OwnedFd) -> Self {
        Pump::new(from, to, Direction::In)
    }

    /// Carries to a program's terminal.
    pub fn into_terminal(from: OwnedFd, to: OwnedFd) -> Self {
        Pump::new(from, to, Direction::IntoTerminal)
    }

    /// Carries from a program.
    pub fn output(from: OwnedFd, to: OwnedFd) -> Self {
        Pump::new(from, to, Direction::Out)
    }

    /// Whether it carries from a program.
    pub fn is_output(&self) -> bool {
        self.direction == Direction::Out
    }

    /// What to wait for before the next step; nothing when all is done.
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let to = self.to.as_ref()?;
        if !self.waiting.is_empty() {
            return Some((to.as_fd(), PollFlags::OUT));
        }
        Some((self.from.as_ref()?.as_fd(), PollFlags::IN))
    }

    /// Whether bytes were taken that are not delivered yet.
    pub fn is_loaded(&self) -> bool {
        self.to.is_some() && !self.waiting.is_empty()
    }

    /// Bytes delivered.
    pub fn carried(&self) -> usize {
        self.carried
    }

    /// Reads or writes once, whichever was waited for.
    pub fn step(&mut self) {
        if self.waiting.is_empty() { self.take() } else { self.deliver() }
    }

    fn take(&mut self) {
        let Some(from) = &self.from else { return };
        let mut chunk = [0; CHUNK];
        match rustix::io::read(from, &mut chunk) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            // A terminal whose other side is closed gives EIO.
            Ok(0) | Err(_) => {
                self.from = None;
                if self.direction == Direction::IntoTerminal {
                    self.waiting.push(END_OF_INPUT);
                } else {
                    self.to = None;
                }
            }
            Ok(n) => self.waiting.extend_from_slice(&chunk[..n]),
        }
    }

    fn deliver(&mut self) {
        let Some(to) = &self.to else { return };
        match rustix::io::write(to, &self.waiting) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(n) => {
                self.waiting.drain(..n);
                self.carried += n;
            }
            // Nobody reads any more: the sender gets to know by its own closed pipe.
            Err(_) => {
                self.from = None;
                self.to = None;
                self.waiting.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mut pump: Pump) {
        while pump.interest().is_some() {
            pump.step();
        }
    }

    #[test]
    fn everything_arrives_and_then_the_end() {
        let (from, into) = rustix::pipe::pipe().unwrap();
        let (out, to) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&into, b"hello").unwrap();
        drop(into);
        run(Pump::input(from, to));
        let mut got = [0; 16];
        assert_eq!(rustix::io::read(&out, &mut got).unwrap(), 5);
        assert_eq!(rustix::io::read(&out, &mut got).unwrap(), 0, "closed");
    }

    #[test]
    fn a_terminal_is_told_the_end_and_a_lost_reader_ends_it() {
        let (from, into) = rustix::pipe::pipe().unwrap();
        let (out, to) = rustix::pipe::pipe().unwrap();
        drop(into);
        let mut pump = Pump::into_terminal(from, to);
        pump.step();
        pump.step();
        let mut got = [0; 16];
        assert_eq!(rustix::io::read(&out, &mut got).unwrap(), 1);
        assert_eq!(got[0], END_OF_INPUT);

        let (from, into) = rustix::pipe::pipe().unwrap();
        let (out, to) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&into, b"hello").unwrap();
        drop(out);
        run(Pump::output(from, to));
        assert!(rustix::io::write(&into, b"x").is_err(), "the sender sees it");
    }
}
