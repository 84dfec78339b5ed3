//! `guest remember MEGABYTES FILE [A_SECOND]`: fills memory with numbers that follow from each other, and goes on checking and
//! changing all of them; or only so many megabytes a second, one after the other. Writes how often it has done that to FILE;
//! what is not as it was left, to FILE.torn.
//!
//! Such numbers cannot be compressed. `guest remember-text` has every other page hold words in their place, one of a thousand for
//! each number, as a program's memory is partly of text.

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

/// Numbers in a page.
const A_PAGE: usize = 4096 / 8;
const SYLLABLES: [&[u8; 2]; 10] = [b"ka", b"re", b"mo", b"ti", b"su", b"na", b"le", b"pi", b"vo", b"da"];

/// A word of three syllables, with what follows it.
fn word(number: u64) -> u64 {
    let syllable = |by: u64| SYLLABLES[(number / by % 10) as usize];
    let ([a, b], [c, d], [e, f]) = (syllable(1), syllable(10), syllable(100));
    u64::from_ne_bytes([*a, *b, *c, *d, *e, *f, b' ', b' '])
}

/// What a megabyte is to hold that begins with this number; half of it text, or none.
fn content(first: u64, text: bool) -> impl Iterator<Item = u64> {
    let numbers = std::iter::successors(Some(first), |number| Some(next(*number))).take(WORDS);
    let is_text = move |at: usize| text && at / A_PAGE % 2 == 1;
    numbers.enumerate().map(move |(at, number)| if is_text(at) { word(number) } else { number })
}

/// A megabyte, and the number that it begins with.
struct Block {
    first: u64,
    text: bool,
    words: Vec<u64>,
}

impl Block {
    fn new(first: u64, text: bool) -> Self {
        Block { first, text, words: content(first, text).collect() }
    }

    fn is_whole(&self) -> bool {
        self.words.iter().copied().eq(content(self.first, self.text))
    }

    fn change(&mut self) {
        self.first = next(self.first);
        self.words.iter_mut().zip(content(self.first, self.text)).for_each(|(word, is)| *word = is);
    }
}

/// Checks until something is wrong.
pub fn run(megabytes: usize, text: bool, name: &str, a_second: Option<u32>) -> io::Result<i32> {
    let block = |n: u64| Block::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), text);
    let mut blocks: Vec<_> = (1_u64..).map(block).take(megabytes).collect();
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
