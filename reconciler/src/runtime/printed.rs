//! What a program prints while its end is awaited, kept up to a bound, and how its failure is told briefly. Nothing of it is
//! believed: it is text for people.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;

use crate::error::{At, SysError, SysResult};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::WaitStatus;

/// The most bytes that are kept of what a program prints.
pub const CAPTURED: usize = 64 * 1024;

/// The reading end of a pipe that is a program's output.
#[derive(Debug)]
pub struct Printed {
    output: OwnedFd,
    text: Vec<u8>,
    open: bool,
}

impl Printed {
    /// A pipe: what is read, and the end that the program gets.
    pub fn pipe() -> SysResult<(Self, OwnedFd)> {
        let (output, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).at("make", "pipe")?;
        rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK).at("set", "pipe")?;
        Ok((Printed { output, text: Vec::new(), open: true }, input))
    }

    /// Reads until the program has ended, at most for `timeout`; tells whether it has. What it leaves behind may hold the
    /// pipe on: nobody waits for that.
    pub fn await_end(&mut self, program: &Pidfd, timeout: Duration) -> SysResult<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = program.wait_or_readable(self.open.then(|| self.output.as_fd()), left)?;
            self.open = self.open && self.drain()?;
            if ended || left.is_zero() {
                return Ok(ended);
            }
        }
    }

    /// Reads what is there, and keeps as much as may be kept. Tells whether more may come. Who writes without end is read
    /// from no longer than that.
    fn drain(&mut self) -> SysResult<bool> {
        let mut piece = [0; 4096];
        for _ in 0..2 * CAPTURED / piece.len() {
            match rustix::io::read(&self.output, &mut piece) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    let room = CAPTURED.saturating_sub(self.text.len());
                    self.text.extend_from_slice(&piece[..n.min(room)]);
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(SysError::new("read", "pipe", e)),
            }
        }
        Ok(true)
    }

    /// What was kept.
    pub fn into_text(self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// Why a program (`what` it is, in words) did not end well: the last of what it printed, or how it ended. `None` for its
/// status is that it was ended for time. Nothing where it ended well.
pub fn failure(what: &str, status: Option<WaitStatus>, printed: &str) -> Option<String> {
    const LINES: usize = 4;
    const MOST: usize = 160;
    let ended = match status {
        Some(WaitStatus::Exited(0)) => return None,
        Some(WaitStatus::Exited(code)) => format!("{what} exited with {code}"),
        Some(WaitStatus::Signaled(signal)) => format!("signal {signal} ended {what}"),
        Some(WaitStatus::Unknown) => format!("{what} ended, nobody knows how"),
        None => return Some(format!("{what} did not end in time")),
    };
    let lines: Vec<_> = printed.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let plain = |line: &&str| line.chars().filter(|c| !c.is_control()).take(MOST).collect::<String>();
    let last: Vec<_> = lines.iter().rev().take(LINES).rev().map(plain).collect();
    Some(if last.is_empty() { ended } else { last.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_prints_is_told_briefly() {
        let printed = format!("a\n\nb\nc\n{}\n\x1b[1mE: last\n", "x".repeat(10_000));
        let told = failure("it", Some(WaitStatus::Exited(1)), &printed).unwrap();
        assert!(told.starts_with("b; c; xxx") && told.ends_with("x; [1mE: last"), "{told}");
        assert!(told.len() < 400);
        assert_eq!(failure("it", Some(WaitStatus::Exited(3)), "\n").unwrap(), "it exited with 3");
        assert_eq!(failure("it", Some(WaitStatus::Exited(0)), "x"), None);
        assert_eq!(failure("it", None, "x").unwrap(), "it did not end in time");
    }
}
