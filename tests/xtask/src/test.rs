//! `cargo xtask test` and `ci`: every check there is, one after the other, and one summary at the end.
//!
//! Must run the later stages even when an earlier one fails: one run tells all. Must not hide a skip.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;
use std::time::{Duration, Instant, SystemTime};

use crate::lxcfs::Lxcfs;
use crate::run::{Failure, Result, cargo, fail, run as succeed, target};
use crate::tally::Tally;
use crate::{gen_files, guest, lab, leftovers, setup, tally};

/// How strict to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// On a developer's machine: what it can't do is skipped, and listed.
    Developer,
    /// Nothing is skipped but what the harness allows for this kind of kernel, and nothing may be left behind.
    Ci,
}

impl Mode {
    /// CI services set this variable.
    pub(crate) fn from_environment() -> Mode {
        match std::env::var("CI") {
            Ok(value) if !matches!(value.as_str(), "" | "0" | "false") => Mode::Ci,
            _ => Mode::Developer,
        }
    }
}

/// Everything.
pub(crate) fn run(mode: Mode) -> Result<()> {
    let start = Instant::now();
    setup::run(setup::For::Tests)?;
    let before = leftovers::look();
    let mut summary = Summary::default();
    summary.stage("format", || succeed(&mut cargo(&["fmt", "--all", "--check"])));
    summary.stage("lint", || {
        succeed(&mut cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    summary.stage("generated files", || gen_files::run(gen_files::Mode::Check));
    summary.tests("unit tests", || {
        let mut tally = tally::run(&mut tests(&["--workspace", "--exclude", "vzd-tests"]))?;
        // nextest leaves out the examples in the documentation.
        if nextest() {
            let documentation =
                ["test", "--quiet", "--doc", "--package", "vzd-schema", "--package", "vzd-state"];
            let examples = tally::run(&mut cargo(&documentation))?;
            tally.ok &= examples.ok;
            tally.add(examples);
        }
        Ok(tally)
    });
    let skips = Skips::new();
    let ran_here = summary.tests("host tests", || host(mode, &skips, None));
    let mut skipped = skips.read();
    if std::env::var_os("VZD_NO_LAB").is_none() {
        let left = CI_END.saturating_sub(start.elapsed()).max(CI_LAB_LEAST);
        summary.lab(mode, left, ran_here.then_some(skipped.as_slice()));
        skipped.append(&mut summary.lab_skips);
    }
    summary.left = leftovers::look().since(&before);
    summary.print(mode, &skipped)
}

/// When CI's lab ends, counted from the start of everything: CI has 45 minutes, and xtask itself is built before.
const CI_END: Duration = Duration::from_secs(44 * 60);
/// For so long the lab goes on however long the rest took: what can run nowhere else comes first, and has to.
const CI_LAB_LEAST: Duration = Duration::from_secs(15 * 60);

/// Only the tests of vzd-tests.
pub(crate) fn host_tests(filter: Option<&str>) -> Result<()> {
    setup::run(setup::For::Tests)?;
    let mut summary = Summary::default();
    let skips = Skips::new();
    let mode = Mode::from_environment();
    summary.tests("host tests", || host(mode, &skips, filter));
    summary.print(mode, &skips.read())
}

fn host(mode: Mode, skips: &Skips, filter: Option<&str>) -> Result<Tally> {
    let guest = guest::build()?;
    succeed(&mut cargo(&["build", "--quiet", "--package", "vzd"]))?;
    let mut command = tests(&["--package", "vzd-tests"]);
    command.args(filter);
    if nextest() {
        command.args(["--test-threads", &(available_parallelism().map_or(1, NonZero::get) + 1).to_string()]);
    }
    command.env("VZD_BIN", target().join("debug/vzd"));
    command.env("VZD_GUEST", guest.witness).env("VZD_GUEST_PAUSE", guest.pause);
    command.env("VZD_TEST_SKIPS", &skips.file);
    if mode == Mode::Ci {
        command.env("VZD_TEST_MUST_RUN", "1");
    }
    let _views_of_proc = Lxcfs::start();
    tally::run(&mut command)
}

/// nextest if it is there, since it gives each test a process of its own; else cargo's own runner.
fn tests(arguments: &[&str]) -> Command {
    let mut command = match nextest() {
        true => cargo(&["nextest", "run", "--no-fail-fast", "--no-tests=pass"]),
        false => cargo(&["test", "--no-fail-fast"]),
    };
    command.args(arguments);
    command
}

fn nextest() -> bool {
    let version = cargo(&["nextest", "--version"]).output();
    version.is_ok_and(|output| output.status.success())
}

/// Where the harness writes a line for each test that found its machine lacking: test, need and reason between tabs.
struct Skips {
    file: PathBuf,
}

impl Skips {
    fn new() -> Skips {
        let file = target().join(format!("skipped-{}", std::process::id()));
        // Nothing is there but after a crash of a process of the same number.
        drop(std::fs::remove_file(&file));
        Skips { file }
    }

    fn read(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(|line| line.replace('\t', ": ")).collect();
        lines.sort();
        lines.dedup();
        lines
    }
}

impl Drop for Skips {
    fn drop(&mut self) {
        drop(std::fs::remove_file(Path::new(&self.file)));
    }
}

/// Which day it is.
fn today() -> usize {
    const DAY: u64 = 24 * 60 * 60;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    usize::try_from(since.as_secs() / DAY).unwrap_or(0)
}

#[derive(Default)]
struct Summary {
    lines: Vec<String>,
    total: Tally,
    failed_stages: usize,
    lab_skips: Vec<String>,
    left: Vec<String>,
}

impl Summary {
    fn stage(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        println!("\n== {name}");
        let start = Instant::now();
        let result = work();
        self.note(name, start.elapsed(), result, "");
    }

    /// Tells whether the tests ran at all.
    fn tests(&mut self, name: &str, work: impl FnOnce() -> Result<Tally>) -> bool {
        println!("\n== {name}");
        let start = Instant::now();
        let done = work();
        let ran = done.is_ok();
        match done {
            Ok(tally) => {
                let counts =
                    format!("{} passed, {} failed, {} ignored", tally.passed, tally.failed, tally.ignored);
                let result = match (tally.ok, tally.failures.as_slice()) {
                    (true, _) => Ok(()),
                    (false, []) => fail("did not run to its end"),
                    (false, names) => fail(names.join("\n      ")),
                };
                self.note(name, start.elapsed(), result, &counts);
                self.total.add(tally);
            }
            Err(failure) => self.note(name, start.elapsed(), Err(failure), ""),
        }
        ran
    }

    /// The root tests on Debian's kernel, those first that have not run here. `skips` are those of the run here;
    /// `left` is the time that CI has.
    fn lab(&mut self, mode: Mode, left: Duration, skips: Option<&[String]>) {
        let mut all = Vec::new();
        let mut report = None;
        self.tests("lab", || {
            all = lab::list()?;
            let here = lab::Places::new(&all, skips, None);
            let mut order: Vec<&lab::Test> = all.iter().collect();
            let firsts = lab::firsts(&all, today());
            order.sort_by_key(|test| (here.here(test), !firsts.contains(&test.name), test.repeats()));
            let done = lab::stage(&order, (mode == Mode::Ci).then_some(left))?;
            let failures = done.failures();
            let tally = Tally {
                passed: done.passed(),
                failed: failures.len(),
                ok: failures.is_empty(),
                failures,
                said: done.said(),
                ..Tally::default()
            };
            report = Some(done);
            Ok(tally)
        });
        let Some(report) = report else { return };
        self.lab_skips = report.skips();
        // The lab doesn't count them as passed, which is what is taken off for each skip.
        self.total.passed += self.lab_skips.len();
        self.lines.extend(report.deaths().iter().map(|death| format!("died lab: {death}")));
        if !report.unrun().is_empty() {
            let late = report.unrun().len();
            self.lines.push(format!(
                "late lab: no time for {late} tests, which are not under `ran here, lab` above"
            ));
        }
        let places = lab::Places::new(&all, skips, Some(&report));
        places.print();
        for test in places.nowhere() {
            self.lines.push(format!("FAIL {test}: ran neither here nor in the lab"));
            // A developer's machine may lack what CI's has.
            self.failed_stages += usize::from(mode == Mode::Ci);
        }
    }

    fn note(&mut self, name: &str, took: Duration, result: Result<()>, counts: &str) {
        let word = if result.is_ok() { "ok  " } else { "FAIL" };
        self.lines
            .push(format!("{word} {name:16} {:6.1} s  {counts}", took.as_secs_f64()).trim_end().to_owned());
        if let Err(Failure(why)) = result {
            self.failed_stages += 1;
            self.lines.push(format!("      {why}"));
        }
    }

    fn print(mut self, mode: Mode, skips: &[String]) -> Result<()> {
        println!("\n== summary");
        for line in &self.lines {
            println!("{line}");
        }
        for skip in skips {
            println!("skip {skip}");
        }
        for thing in &self.left {
            println!("left {thing}");
        }
        if mode == Mode::Ci && !self.left.is_empty() {
            self.failed_stages += 1;
        }
        // A test that skips itself returns without failing, so that the runner counts it as passed.
        let passed = self.total.passed.saturating_sub(skips.len());
        // A stage that is no test, or that failed before any of its tests did, has to show in the counts too.
        let failed = self.total.failed.max(self.failed_stages);
        if failed > 0 && !self.total.said.lines.is_empty() {
            println!("\n== what failed tests said");
            self.total.said.lines.iter().for_each(|line| println!("{line}"));
        }
        println!("\n{passed} passed, {failed} failed, {} skipped", skips.len() + self.total.ignored);
        if failed == 0 { Ok(()) } else { fail("not everything passed; the summary above says what") }
    }
}
