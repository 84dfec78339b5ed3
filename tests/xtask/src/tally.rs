//! Counts of tests, read from what `cargo test` and `cargo nextest` print. Must pass every line on unchanged.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::run::{Context, Result, shown};

/// What a run of tests came to.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Ignored ones: the harness's own skips pass, and are told of in another way.
    pub(crate) ignored: usize,
    /// Names of the failed ones.
    pub(crate) failures: Vec<String>,
    /// What panicked, each by its first lines. A long log is often cut in its middle, where these would be.
    pub(crate) said: Said,
    /// The program's own word, which also knows of what didn't compile.
    pub(crate) ok: bool,
}

impl Tally {
    /// Adds another run's.
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.failures.extend(other.failures);
        self.said.lines.extend(other.said.lines);
    }

    fn take(&mut self, line: &str) {
        let line = plain(line);
        self.said.take(&line);
        // nextest shows what a failed test printed, libtest's own lines too, further in.
        let (outer, line) = (line.trim_end(), line.trim());
        if let Some(counts) = outer.strip_prefix("test result: ") {
            self.passed += count(counts, " passed");
            self.failed += count(counts, " failed");
            self.ignored += count(counts, " ignored");
        } else if line.starts_with("Summary [") && line.contains(" run: ") {
            self.passed += count(line, " passed");
            self.failed += count(line, " failed") + count(line, " timed out");
            self.ignored += count(line, " skipped");
        } else if let Some(name) =
            outer.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.note(name);
        } else if ["FAIL [", "TIMEOUT [", "SIGABRT [", "SIGSEGV [", "SIGKILL ["]
            .iter()
            .any(|word| line.starts_with(word))
            && let Some((_, name)) = line.split_once(']')
        {
            self.note(name.trim());
        }
    }

    fn note(&mut self, name: &str) {
        // nextest tells of each failure twice, the second time with its place in the run in front.
        let name = name.rsplit(") ").next().unwrap_or(name);
        if !self.failures.iter().any(|known| known == name) {
            self.failures.push(name.to_owned());
        }
    }
}

/// The first lines of each panic in what tests have printed.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) lines: Vec<String>,
    /// Lines still to be taken of the panic that was met last.
    left: usize,
}

impl Said {
    /// All of that, in one.
    pub(crate) fn of(text: &str) -> Said {
        let mut said = Said::default();
        text.lines().for_each(|line| said.take(line));
        said
    }

    fn take(&mut self, line: &str) {
        const OF_EACH: usize = 4;
        const IN_ALL: usize = 60;
        if line.contains("panicked at ") {
            self.left = OF_EACH;
        }
        if self.left > 0 && self.lines.len() < IN_ALL {
            self.left -= 1;
            self.lines.push(line.trim().chars().take(500).collect());
        }
    }
}

/// Runs it, showing what it prints, and counts.
pub(crate) fn run(command: &mut Command) -> Result<Tally> {
    let (reader, writer) = std::io::pipe().context("a pipe")?;
    let both = writer.try_clone().context("a pipe")?;
    let mut child =
        command.stdin(Stdio::null()).stdout(both).stderr(writer).spawn().context(shown(command))?;
    // The command keeps the writing ends until it is told to use others.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut tally = Tally::default();
    let mut out = std::io::stdout();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("reading the tests' output")?;
        out.write_all(&line).and_then(|()| out.write_all(b"\n")).context("standard output")?;
        tally.take(&String::from_utf8_lossy(&line));
    }
    tally.ok = child.wait().context(shown(command))?.success();
    Ok(tally)
}

/// The number right before `word`, or 0.
fn count(line: &str, word: &str) -> usize {
    let before = line.split_once(word).map(|(before, _)| before).unwrap_or_default();
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

/// Without colours.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = after.split_once('m').map(|(_, after)| after).unwrap_or_default();
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.take(line));
        tally
    }

    #[test]
    fn libtest() {
        let tally = of(&[
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test result: FAILED. 7 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.01s",
        ]);
        assert_eq!((tally.passed, tally.failed, tally.ignored), (7, 1, 2));
        assert_eq!(tally.failures, ["a::c"]);
    }

    #[test]
    fn panics_by_their_first_lines() {
        let said = Said::of("a\nthread 'x' (7) panicked at a.rs:1:2:\nleft: 1\n b\nc\nd\ne\n");
        assert_eq!(said.lines, ["thread 'x' (7) panicked at a.rs:1:2:", "left: 1", "b", "c"]);
    }

    #[test]
    fn nextest_in_colour() {
        let tally = of(&[
            "\x1b[31;1m        FAIL\x1b[0m [   0.004s] (2/3) \x1b[35mvzd-state\x1b[0m a::c",
            "\x1b[31;1m     Summary\x1b[0m [   1.203s] 34 tests run: 32 passed (1 slow), 1 failed, 1 timed out, 2 skipped",
            "        FAIL [   0.004s] (2/3) vzd-state a::c",
            "    test a::c ... FAILED",
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 88 filtered out; finished in 0.76s",
        ]);
        assert_eq!((tally.passed, tally.failed, tally.ignored), (32, 2, 2));
        assert_eq!(tally.failures, ["vzd-state a::c"]);
    }
}
