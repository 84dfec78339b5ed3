//! `guest remember MEGABYTES FILE [A_SECOND]`: fills memory with numbers that follow from each other, and goes on checking and
//! changing all of them; or only so many megabytes a second, one after the other. Writes how often it has done that to FILE;
//! what is not as it was left, to FILE.torn.

use std::io;
use std::time::{Duration, Instant};

const WORDS: usize = (1 << 20) / 8;
/// Where one megabyte is changed at a time, so many others are looked at.
const LOOKED_AT: usize = 3;

/// The number after this one (xorshift).
fn next(mut word: u64) -> u64 {
    word ^= word << 13;
    word ^= word >> 7;
    word ^= word << 17;
    word
}

/// A megabyte, and the number that it begins with.
struct Block {
    first: u64,
    words: Vec<u64>,
}

impl Block {
    fn new(first: u64) -> Self {
        let words = std::iter::successors(Some(first), |word| Some(next(*word))).take(WORDS).collect();
        Block { first, words }
    }

    fn is_whole(&self) -> bool {
        let mut expected = self.first;
        self.words.iter().all(|word| {
            let is = *word == expected;
            expected = next(expected);
            is
        })
    }

    fn change(&mut self) {
        self.first = next(self.first);
        self.words.iter_mut().for_each(|word| *word = next(*word));
    }
}

/// Checks until something is wrong.
pub fn run(megabytes: usize, name: &str, a_second: Option<u32>) -> io::Result<i32> {
    let mut blocks: Vec<_> =
        (1_u64..).map(|n| Block::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).take(megabytes).collect();
    let (changed, looked_at) = if a_second.is_some() { (1, LOOKED_AT) } else { (megabytes, 0) };
    let (mut change, mut look, began) = (0, 0, Instant::now());
    for pass in 1_u32.. {
        let looks = (look..look + looked_at).chain(change..change + changed).map(|at| at % megabytes);
        for at in looks {
            if !blocks[at].is_whole() {
                std::fs::write(format!("{name}.torn"), format!("pass {pass}, block {at}\n"))?;
                return Ok(1);
            }
        }
        (change..change + changed).for_each(|at| blocks[at % megabytes].change());
        (change, look) = (change + changed, look + looked_at);
        // Whole at any time.
        std::fs::write(format!("{name}.new"), format!("{pass}\n"))?;
        std::fs::rename(format!("{name}.new"), name)?;
        if let Some(a_second) = a_second {
            std::thread::sleep((Duration::from_secs(1) * pass / a_second).saturating_sub(began.elapsed()));
        }
    }
    Ok(0)
}
