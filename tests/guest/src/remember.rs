//! `guest remember MEGABYTES FILE`: fills memory with numbers that follow from each other, and goes on checking and changing all
//! of them. Writes how often it has done that to FILE; what is not as it was left, to FILE.torn.

use std::io;

const WORDS: usize = (1 << 20) / 8;

/// The number after this one (xorshift).
fn next(mut word: u64) -> u64 {
    word ^= word << 13;
    word ^= word >> 7;
    word ^= word << 17;
    word
}

/// Checks until something is wrong.
pub fn run(megabytes: usize, name: &str) -> io::Result<i32> {
    let mut memory = vec![0_u64; WORDS * megabytes];
    let mut word = 0x9e37_79b9_7f4a_7c15;
    for place in &mut memory {
        word = next(word);
        *place = word;
    }
    for pass in 1_u64.. {
        let mut expected = memory[0];
        for (at, place) in memory.iter_mut().enumerate() {
            if *place != expected {
                std::fs::write(format!("{name}.torn"), format!("pass {pass}, word {at}\n"))?;
                return Ok(1);
            }
            expected = next(expected);
            *place = expected;
        }
        // Whole at any time.
        std::fs::write(format!("{name}.new"), format!("{pass}\n"))?;
        std::fs::rename(format!("{name}.new"), name)?;
    }
    Ok(0)
}
