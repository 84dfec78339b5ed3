//! The lab tested by tests that do wrong on purpose: each has to be reported as what it is. Must be the only user of the
//! program `broken`.

use std::time::Duration;

use super::Prepared;
use super::boot::{Results, Way};
use super::tests::{Kind, Test, broken};
use super::wire::Verdict;
use crate::run::{Result, fail};

/// Runs them all and compares.
pub(super) fn run(prepared: &Prepared) -> Result<()> {
    let tests = broken()?;
    let chosen = |names: &[&str]| -> Vec<&Test> {
        names.iter().filter_map(|name| tests.iter().find(|test| test.exact == *name)).collect()
    };
    // One after the other, so that the last one finds what the others left.
    let (limit, silence) = (Duration::from_secs(20), Duration::from_secs(15));
    let way = Way { limit, silence, side_by_side: 1, ..prepared.way() };
    println!("lab: what fails, hangs and dies from here on does so on purpose");
    let mut wrong =
        ordinary(&way.run(Kind::Plain, &chosen(&["passes", "fails", "hangs", "skips", "goes_on"]))?);
    for name in ["panics_the_kernel", "silences_the_guest"] {
        let results = way.run(Kind::Plain, &chosen(&[name]))?;
        wrong.extend(deadly(name, &results));
    }
    match wrong.as_slice() {
        [] => {
            println!("lab: each was reported as what it is\n");
            Ok(())
        }
        wrong => fail(format!("the lab misjudges:\n      {}", wrong.join("\n      "))),
    }
}

fn ordinary(results: &Results) -> Vec<String> {
    let mut wrong = results.deaths.clone();
    let mut expect = |name: &str, said: &str, so: &dyn Fn(&Verdict) -> bool| {
        let found = results.outcomes.iter().find(|outcome| outcome.test == format!("broken::{name}"));
        if !found.is_some_and(|outcome| so(&outcome.verdict) && outcome.output.contains(said)) {
            wrong.push(format!("{name}: {found:?}"));
        }
    };
    expect("passes", "", &|verdict| *verdict == Verdict::Passed);
    expect("fails", "broken on purpose", &|verdict| *verdict == Verdict::Failed);
    // Its own words, those of what it started, and where it hangs.
    expect("hangs", "sleep", &|verdict| *verdict == Verdict::Hung);
    expect("skips", "", &|verdict| matches!(verdict, Verdict::Skipped { why } if why.contains("Broken")));
    // It looks for what the others left.
    expect("goes_on", "", &|verdict| *verdict == Verdict::Passed);
    wrong
}

/// Tried twice, told twice, and never taken for a result.
fn deadly(name: &str, results: &Results) -> Vec<String> {
    let says = if name == "panics_the_kernel" { "Kernel panic" } else { "was silent" };
    let told = results.deaths.iter().filter(|death| death.contains(says) && death.contains(name)).count();
    let fine = told == 2 && results.outcomes.is_empty() && results.lost == [format!("broken::{name}")];
    if fine { Vec::new() } else { vec![format!("{name}: {:?} {:?}", results.outcomes, results.deaths)] }
}
