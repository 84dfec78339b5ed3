//! Splits output into lines without keeping more than a little of it.

use std::io::{BufRead, BufReader, Read};

/// A longer line is shown in pieces.
const LONGEST: usize = 64 * 1024;

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
}
