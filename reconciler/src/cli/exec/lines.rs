//! The output of a child, line by line, without keeping more than a little of it and without waiting for
//! what outlives the child.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A longer line is shown in pieces.
const LONGEST: usize = 64 * 1024;
/// Once the child has ended, output that does not come within that is not waited for.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Once the child has ended, what others go on writing is not read beyond this many bytes.
const REST: usize = 1 << 20;

/// A child's output, which ends with the child though a process of its own may still hold the pipe.
#[derive(Debug)]
pub struct Output<'a, R> {
    from: R,
    ended: &'a AtomicBool,
    rest: usize,
}

impl<'a, R> Output<'a, R> {
    /// The output `from` of the child that `ended` tells about.
    pub fn new(from: R, ended: &'a AtomicBool) -> Self {
        Output { from, ended, rest: REST }
    }
}

impl<R: Read + AsFd> Read for Output<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let ended = self.ended.load(Ordering::Acquire);
            let ready = poll(&mut [PollFd::new(&self.from, PollFlags::IN)], Some(&GLANCE)).unwrap_or(0) > 0;
            if ready && self.rest > 0 {
                let n = self.from.read(buffer)?;
                self.rest = if ended { self.rest.saturating_sub(n) } else { self.rest };
                return Ok(n);
            }
            if ended {
                return Ok(0);
            }
        }
    }
}

/// Lines of a stream.
#[derive(Debug)]
pub struct Lines<R> {
    from: BufReader<R>,
}

impl<R: Read> Lines<R> {
    /// The lines of this stream.
    pub fn new(from: R) -> Self {
        Lines { from: BufReader::with_capacity(LONGEST, from) }
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = Vec<u8>;

    /// The next line without its end, or a piece of a very long one. A stream that fails ends.
    fn next(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        let most = u64::try_from(LONGEST).unwrap_or(u64::MAX);
        self.from.by_ref().take(most).read_until(b'\n', &mut line).ok()?;
        if line.is_empty() {
            return None;
        }
        if line.ends_with(b"\n") {
            line.pop();
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_or_without_a_newline_and_long_ones_are_cut() {
        let lines: Vec<_> = Lines::new(&b"a\n\nb"[..]).collect();
        assert_eq!(lines, [b"a".to_vec(), Vec::new(), b"b".to_vec()]);
        let long = vec![b'x'; LONGEST + 10];
        let lengths: Vec<_> = Lines::new(&long[..]).map(|line| line.len()).collect();
        assert_eq!(lengths, [LONGEST, 10]);
    }

    #[test]
    fn output_ends_with_the_child_though_someone_holds_the_pipe() {
        let (from, held) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&held, b"last words\n").unwrap();
        let ended = AtomicBool::new(true);
        let lines: Vec<_> = Lines::new(Output::new(std::fs::File::from(from), &ended)).collect();
        assert_eq!(lines, [b"last words".to_vec()]);
    }
}
