//! Where each test ran: here, in the lab, or both. Must call a test that ran nowhere by that name, however it came to
//! that: a test that nothing runs proves nothing.
//!
//! What is said of quotas of projects is tested on each file system that keeps them, in the lab alone. Of such a family one has to
//! run; on a machine so slow that there is no time for the others, they are *late*, and named.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::tests::Test;

/// Where one test ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Nowhere,
    Late,
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
        let mut places: BTreeMap<String, Place> =
            tests.iter().map(|test| (test.name.clone(), place(test))).collect();
        let ran = places.iter().filter(|(_, place)| **place != Place::Nowhere);
        let families: BTreeSet<String> = ran.map(|(test, _)| family(test)).collect();
        for (test, place) in &mut places {
            if *place == Place::Nowhere && families.contains(&family(test)) {
                *place = Place::Late;
            }
        }
        Places(places)
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
                Place::Late => "late",
                Place::Nowhere => "NOWHERE",
            };
            println!("ran {word:10} {test}");
        }
    }

    /// Tests that ran in neither, of whose family none did.
    pub(crate) fn nowhere(&self) -> Vec<&str> {
        let none = self.0.iter().filter(|(_, place)| **place == Place::Nowhere);
        none.map(|(test, _)| test.as_str()).collect()
    }
}

/// The file systems that keep quotas of projects, as tests are called for them.
const KEEP_PROJECTS: [&str; 4] = ["on_ext4", "on_pool", "in_the_pool", "on_xfs"];

/// One name for tests that are the same but for those.
fn family(test: &str) -> String {
    let of = |part: &str| KEEP_PROJECTS.iter().find_map(|fs| part.strip_suffix(fs)).map(str::to_owned);
    let part = |part: &str| of(part).map_or_else(|| part.to_owned(), |rest| rest + "on_projects");
    test.split("::").map(part).collect::<Vec<_>>().join("::")
}

/// The test of each family that comes first on a day, another one each day.
pub(crate) fn firsts(tests: &[Test], day: usize) -> BTreeSet<String> {
    let mut families: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for test in tests {
        families.entry(family(&test.name)).or_default().push(&test.name);
    }
    let first = |tests: &Vec<&str>| tests.get(day % tests.len()).map(|test| (*test).to_owned());
    families.values().filter_map(first).collect()
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
        // Of a family one is enough, but of that family.
        let tests = ["host::a::both", "host::on_ext4::both", "host::a::on_xfs::all", "host::a::on_pool::all"]
            .map(test);
        let mut report = Report::default();
        report.add(Results {
            outcomes: vec![outcome("host::a::on_xfs::all", Verdict::Passed)],
            ..Results::default()
        });
        let nothing_here =
            tests.iter().map(|test| format!("{}: none: no", &test.name[6..])).collect::<Vec<_>>();
        let places = Places::new(&tests, Some(&nothing_here), Some(&report));
        assert_eq!(places.nowhere(), ["host::a::both", "host::on_ext4::both"]);
        assert_eq!(places.0["host::a::on_pool::all"], Place::Late);
        let days = [0, 1].map(|day| firsts(&tests, day));
        assert!(days.iter().all(|firsts| firsts.len() == 3 && firsts.contains("host::a::both")));
        assert_ne!(days[0], days[1]);
    }

    #[test]
    fn without_a_run_here_only_the_labs_counts() {
        assert_eq!(Places::new(&["a", "b"].map(test), None, Some(&Report::default())).nowhere().len(), 2);
    }
}
