//! What came of all tests of a run, for the summary. Must not count a guest's death as anything but a failure, nor hide
//! one that a second guest made good.

use super::boot::Results;
use super::wire::{Outcome, Verdict};
use crate::tally::Said;

/// Results by test.
#[derive(Default)]
pub(crate) struct Report {
    kernel: String,
    outcomes: Vec<Outcome>,
    lost: Vec<String>,
    unrun: Vec<String>,
    deaths: Vec<String>,
}

impl Report {
    /// One of a run on this kernel.
    pub(super) fn new(kernel: &str) -> Report {
        Report { kernel: kernel.to_owned(), ..Report::default() }
    }

    /// Adds what one set of tests came to.
    pub(super) fn add(&mut self, results: Results) {
        self.outcomes.extend(results.outcomes);
        self.lost.extend(results.lost);
        self.unrun.extend(results.unrun);
        self.deaths.extend(results.deaths);
    }

    fn with(&self, wanted: impl Fn(&Verdict) -> bool) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(move |outcome| wanted(&outcome.verdict))
    }

    /// How many passed.
    pub(crate) fn passed(&self) -> usize {
        self.with(|verdict| *verdict == Verdict::Passed).count()
    }

    /// Each that did not, with the word for it.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failed = self.with(|verdict| *verdict == Verdict::Failed).map(|one| format!("lab: {}", one.test));
        let hung =
            self.with(|verdict| *verdict == Verdict::Hung).map(|one| format!("lab: {} (hung)", one.test));
        let lost = self.lost.iter().map(|test| format!("lab: {test} (infrastructure: the guests died)"));
        failed.chain(hung).chain(lost).collect()
    }

    /// What those that failed said, as far as it was a panic.
    pub(crate) fn said(&self) -> Said {
        let failed = self.with(|verdict| matches!(verdict, Verdict::Failed | Verdict::Hung));
        Said::of(&failed.map(|one| one.output.as_str()).collect::<Vec<_>>().join("\n"))
    }

    /// Each that the guest lacked something for, with what.
    pub(crate) fn skips(&self) -> Vec<String> {
        let skip = |one: &Outcome| match &one.verdict {
            Verdict::Skipped { why } => Some(format!("lab: {}: {why}", one.test)),
            _ => None,
        };
        self.outcomes.iter().filter_map(skip).collect()
    }

    /// Each that there was no time for.
    pub(crate) fn unrun(&self) -> &[String] {
        &self.unrun
    }

    /// Each guest that died, by the first line of what is known of it.
    pub(crate) fn deaths(&self) -> Vec<String> {
        let first = |text: &String| text.lines().next().unwrap_or_default().to_owned();
        self.deaths.iter().map(first).collect()
    }

    /// Whether a test came to an end of its own there.
    pub(crate) fn ran(&self, test: &str) -> bool {
        self.with(|verdict| !matches!(verdict, Verdict::Skipped { .. })).any(|outcome| outcome.test == test)
    }

    /// The summary.
    pub(super) fn print(&self) {
        println!("\n== lab on {}", self.kernel);
        let mut slowest: Vec<&Outcome> = self.outcomes.iter().collect();
        slowest.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        for outcome in slowest.iter().take(5).filter(|outcome| outcome.seconds > 30.0) {
            println!("slow {:6.1} s  {}", outcome.seconds, outcome.test);
        }
        self.skips().iter().for_each(|line| println!("skip {line}"));
        self.deaths().iter().for_each(|line| println!("died {line}"));
        self.failures().iter().for_each(|line| println!("FAIL {line}"));
    }
}
