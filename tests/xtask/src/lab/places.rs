//! Where each test ran: here, in the lab, or both. Must call a test that ran nowhere by that name, however it came to
//! that: a test that nothing runs proves nothing.

use std::collections::BTreeMap;

use super::Report;
use super::tests::Test;

/// Where one test ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Nowhere,
    Here,
    Lab,
    Both,
}

/// Every test with its place.
pub(crate) struct Places(BTreeMap<String, Place>);

impl Places {
    /// From the skips of the run on this machine (`test: need: why`) and the lab's report, if there was such a run.
    pub(crate) fn new(tests: &[Test], skips: Option<&[String]>, lab: Option<&Report>) -> Places {
        let here = |test: &Test| {
            let Some(name) = test.name.strip_prefix("host::") else { return false };
            let skipped = |line: &String| line.split(": ").next() == Some(name);
            skips.is_some_and(|skips| !skips.iter().any(skipped))
        };
        let place = |test: &Test| match (here(test), lab.is_some_and(|report| report.ran(&test.name))) {
            (true, true) => Place::Both,
            (true, false) => Place::Here,
            (false, true) => Place::Lab,
            (false, false) => Place::Nowhere,
        };
        Places(tests.iter().map(|test| (test.name.clone(), place(test))).collect())
    }

    /// Whether it ran on this machine.
    pub(crate) fn here(&self, test: &Test) -> bool {
        matches!(self.0.get(&test.name), Some(Place::Here | Place::Both))
    }

    /// One line a test.
    pub(crate) fn print(&self) {
        for (test, place) in &self.0 {
            let word = match place {
                Place::Both => "here, lab",
                Place::Here => "here",
                Place::Lab => "lab",
                Place::Nowhere => "NOWHERE",
            };
            println!("ran {word:10} {test}");
        }
    }

    /// Tests that ran in neither.
    pub(crate) fn nowhere(&self) -> Vec<&str> {
        let none = self.0.iter().filter(|(_, place)| **place == Place::Nowhere);
        none.map(|(test, _)| test.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::boot::Results;
    use super::super::wire::{Outcome, Verdict};
    use super::*;

    fn test(name: &str) -> Test {
        Test { name: name.to_owned(), program: "".into(), exact: String::new(), needs: Vec::new() }
    }

    #[test]
    fn a_skip_is_no_run() {
        let outcome = |name: &str, verdict| Outcome {
            test: name.to_owned(),
            verdict,
            seconds: 0.0,
            output: String::new(),
        };
        let mut report = Report::default();
        report.add(Results {
            outcomes: vec![
                outcome("host::a::both", Verdict::Passed),
                outcome("host::a::skipped", Verdict::Skipped { why: "BpfLsm: no".into() }),
                outcome("lab::a::lab", Verdict::Failed),
            ],
            ..Results::default()
        });
        let tests =
            ["host::a::both", "host::a::here", "host::a::skipped", "lab::a::lab", "lab::a::none"].map(test);
        let skips = ["a::skipped: BpfLsm: no".to_owned()];
        let places = Places::new(&tests, Some(&skips), Some(&report));
        let found: Vec<_> = places.0.values().copied().collect();
        assert_eq!(found, [Place::Both, Place::Here, Place::Nowhere, Place::Lab, Place::Nowhere]);
        assert_eq!(places.nowhere(), ["host::a::skipped", "lab::a::none"]);
        // Without a run here, only the lab's counts.
        assert_eq!(Places::new(&tests, None, Some(&report)).nowhere().len(), 3);
    }
}
