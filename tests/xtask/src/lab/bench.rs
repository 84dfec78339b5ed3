//! Benchmarks of disks in a guest: those of quotas, which not every machine's kernel has.
//!
//! All of a guest is slower than a machine, and some of it much more than the rest: what holds are ratios of one run and upper
//! bounds of times. Must not measure anything itself.

use std::os::unix::fs::PermissionsExt;

use super::boot::{Scratch, Way};
use super::tests::{Kind as GuestKind, Test};
use super::{Options, Prepared};
use crate::run::{Context, Result, cargo, fail, run as succeed};

/// What a guest runs.
const SCRIPT: &str = include_str!("bench.sh");
/// In the guest's root beside what tests need.
pub(super) const PACKAGES: &[&str] = &["fio"];

/// Runs these, one after the other, and prints what they say.
pub(super) fn run(names: &[String], options: &Options) -> Result<()> {
    let prepared = Prepared::with(options.kernel, PACKAGES)?;
    succeed(&mut cargo(&["build", "--quiet", "--release", "--package", "vzd", "--package", "vzd-bench"]))?;
    let scratch = Scratch::new()?;
    let script = scratch.0.join("bench.sh");
    std::fs::write(&script, SCRIPT).context(script.display())?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).context(script.display())?;
    let test = |name: &String| Test {
        name: format!("bench::{name}"),
        program: script.clone(),
        exact: name.clone(),
        needs: Vec::new(),
    };
    let tests: Vec<Test> = names.iter().map(test).collect();
    let tests: Vec<&Test> = tests.iter().collect();
    let way = Way { limit: options.limit, side_by_side: 1, benches: true, ..prepared.way() };
    let results = way.run(GuestKind::Plain, &tests)?;
    println!("\n== benchmarks on {}, emulated", prepared.image.version);
    results.outcomes.iter().for_each(|outcome| print!("{}", outcome.output));
    let all_passed = results.outcomes.iter().all(|outcome| outcome.verdict == super::wire::Verdict::Passed);
    if all_passed && results.lost.is_empty() { Ok(()) } else { fail("not every benchmark came to its end") }
}
