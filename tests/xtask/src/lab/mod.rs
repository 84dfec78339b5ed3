//! `cargo xtask lab`: the tests that need root, once more as root on Debian's own kernel, in QEMU.
//!
//! Must not install anything but the packages that `setup` names, must write only to its cache and the target
//! directory, and must leave no qemu behind. docs/testing.md tells how to use it, docs/adr/0011-lab.md why it is so.

mod apt;
mod bench;
mod boot;
mod cpio;
mod distributions;
mod image;
mod inside;
mod job;
mod machine;
mod places;
mod report;
mod self_test;
mod tests;
mod wire;

use std::time::{Duration, Instant};

pub(crate) use apt::Apt;
pub(crate) use image::cache;
pub(crate) use places::{Places, firsts};
pub(crate) use report::Report;
pub(crate) use tests::{Test, list};

use boot::{Scratch, Way, by_kind};
use image::{Image, Kernel};
use job::Job;
use machine::{Machine, Setup};
use tests::Kind;

use crate::run::{Result, cargo, fail, is_root, run as succeed};
use crate::{guest, setup};

/// For how long a test may run in a guest.
const LIMIT: Duration = Duration::from_secs(900);
/// For how long a guest may say nothing.
const SILENCE: Duration = Duration::from_secs(90);

const USAGE: &str = "\
usage: cargo xtask lab [OPTION...] [WORD...]

Runs the tests whose names hold one of the words, or all, on a Debian kernel in QEMU.

  --kernel 6.12|6.1    which kernel; 6.12 if not given
  --vms 1|2            only tests that need one guest, or only those that need two on one link
  --systemd            only tests that need systemd; with --shell, a guest with systemd
  --shell              no tests, but a root shell in a guest with everything in it (in the first, with --vms 2)
  --keep               a failed test's sandbox stays, and a shell in the guest comes when all have ended
  --limit SECONDS      a test that runs for longer is taken for hung; 900 if not given
  --bench NAME         no tests, but this benchmark of `cargo xtask bench`, of disks with quotas; may be given several times
  --list               tells which tests there are, what they need, and where they run
  --self-test          tests the lab itself, with tests that fail, hang, and kill the guest on purpose

VZD_LAB_CACHE says where kernels, qemu and root file systems are kept (~/.cache/vzd-lab). VZD_LAB_KVM=1 uses the
processor's own virtualization, where there is any.";

/// The command line.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let Some(options) = Options::read(words)? else {
        println!("{USAGE}");
        return Ok(());
    };
    if options.shell {
        return shell(&options);
    }
    if options.self_test {
        return self_test::run(&Prepared::new(options.kernel)?);
    }
    if !options.benches.is_empty() {
        return bench::run(&options.benches, &options);
    }
    let all = list()?;
    let chosen: Vec<&Test> = all.iter().filter(|test| options.takes(test)).collect();
    if chosen.is_empty() {
        return fail("no test of the lab has any of these words in its name: see `cargo xtask lab --list`");
    }
    if options.list {
        for test in chosen {
            println!("{:8} {}  [{}]", format!("{:?}", test.kind()), test.name, test.needs.join(", "));
        }
        return Ok(());
    }
    let report = run_tests(&chosen, &options)?;
    report.print();
    let failed = report.failures().len();
    let counts = format!("{} passed, {failed} failed, {} skipped", report.passed(), report.skips().len());
    println!("\n{counts}");
    if failed == 0 { Ok(()) } else { fail("not everything passed in the lab; the summary above says what") }
}

/// A part of `cargo xtask test`: the tests of the lab itself, then these in their order within each kind of guest, until
/// `budget` is used up.
pub(crate) fn stage(tests: &[&Test], budget: Option<Duration>) -> Result<Report> {
    let until = budget.map(|budget| Instant::now() + budget);
    self_test::run(&Prepared::new(Kernel::V6_12)?)?;
    run_tests(tests, &Options { until, ..Options::default() })
}

/// The program's part in the guest.
pub(crate) fn inside(words: &[&str]) -> Result<u8> {
    inside::run(words)
}

fn run_tests(tests: &[&Test], options: &Options) -> Result<Report> {
    let prepared = Prepared::new(options.kernel)?;
    let way = Way { limit: options.limit, keep: options.keep, until: options.until, ..prepared.way() };
    let mut report = Report::new(&prepared.image.version);
    let mut kinds = by_kind(tests);
    let plain = kinds.remove(&Kind::Plain);
    // Those of the others have their guests to themselves, one at a time, and wait for much: they can do so beside each other.
    std::thread::scope(|scope| {
        let run = |(kind, tests): (Kind, Vec<&Test>)| way.run(kind, &tests);
        let others: Vec<_> = kinds.into_iter().map(|of| scope.spawn(move || run(of))).collect();
        for other in others {
            report.add(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(())
    })?;
    if let Some(tests) = plain {
        report.add(way.run(Kind::Plain, &tests)?);
    }
    Ok(report)
}

/// What has to be there before a guest can start.
struct Prepared {
    image: Image,
    guest: guest::Guest,
}

impl Prepared {
    fn new(kernel: Kernel) -> Result<Prepared> {
        Prepared::with(kernel, &[])
    }

    /// With more Debian packages in the guest.
    fn with(kernel: Kernel, packages: &[&str]) -> Result<Prepared> {
        if !cfg!(target_arch = "x86_64") {
            return fail("the lab's guests are x86-64 only");
        }
        setup::run(setup::For::Tests)?;
        let image = Image::get(kernel, packages)?;
        succeed(&mut cargo(&["build", "--quiet", "--package", "vzd"]))?;
        Ok(Prepared { image, guest: guest::build()? })
    }

    fn way(&self) -> Way<'_> {
        Way {
            image: &self.image,
            guest: &self.guest,
            limit: LIMIT,
            silence: SILENCE,
            side_by_side: 2,
            keep: false,
            benches: false,
            until: None,
        }
    }
}

fn shell(options: &Options) -> Result<()> {
    let prepared = Prepared::new(options.kernel)?;
    let all = list()?;
    let everything: Vec<&Test> = all.iter().collect();
    let count = options.vms.unwrap_or(1);
    let kind = match (options.systemd, count) {
        (true, _) => Kind::Systemd,
        (_, 2) => Kind::Pair,
        _ => Kind::Plain,
    };
    let scratch = Scratch::new()?;
    let file = scratch.0.join("job.ext4");
    let limit = options.limit.as_secs();
    let guest = &prepared.guest;
    Job { tests: &everything, kind, guest, limit, side_by_side: 1, keep: true, benches: false }
        .write(&file)?;
    // What the guest says is said to nobody.
    let (send, _events) = std::sync::mpsc::channel();
    let start = |index: usize| {
        let setup = Setup {
            image: &prepared.image,
            job: &file,
            directory: &scratch.0,
            index,
            linked: count == 2,
            systemd: options.systemd,
            interactive: index == 0,
            words: format!("lab.shell=only {}", if count == 2 { "lab.linked" } else { "" }),
        };
        Machine::start(&setup, &send)
    };
    let _other = if count == 2 { Some(start(1)?) } else { None };
    start(0)?.wait()
}

struct Options {
    kernel: Kernel,
    vms: Option<u8>,
    systemd: bool,
    shell: bool,
    keep: bool,
    list: bool,
    self_test: bool,
    benches: Vec<String>,
    limit: Duration,
    /// When to stop, whatever is left.
    until: Option<Instant>,
    words: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            kernel: Kernel::V6_12,
            vms: None,
            systemd: false,
            shell: false,
            keep: false,
            list: false,
            self_test: false,
            benches: Vec::new(),
            limit: LIMIT,
            until: None,
            words: Vec::new(),
        }
    }
}

impl Options {
    /// None if help is asked for.
    fn read(words: &[&str]) -> Result<Option<Options>> {
        let mut options = Options::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            match word {
                "--help" | "-h" => return Ok(None),
                "--systemd" => options.systemd = true,
                "--shell" => options.shell = true,
                "--keep" => options.keep = true,
                "--list" => options.list = true,
                "--self-test" => options.self_test = true,
                "--kernel" | "--vms" | "--limit" | "--bench" => {
                    let value = words.next().unwrap_or_default();
                    if !options.set(word, value) {
                        return fail(format!("{word} {value}: not known\n\n{USAGE}"));
                    }
                }
                option if option.starts_with('-') => return fail(format!("{option}: not known\n\n{USAGE}")),
                filter => options.words.push(filter.to_owned()),
            }
        }
        if !is_root() && !options.list {
            return fail("the lab makes a root file system: run it as root");
        }
        Ok(Some(options))
    }

    fn set(&mut self, option: &str, value: &str) -> bool {
        match option {
            "--kernel" => Kernel::named(value).map(|kernel| self.kernel = kernel).is_some(),
            "--vms" => {
                self.vms = value.parse().ok().filter(|count| matches!(count, 1 | 2));
                self.vms.is_some()
            }
            "--bench" => {
                self.benches.push(value.to_owned());
                !value.is_empty()
            }
            _ => value.parse().map(|seconds| self.limit = Duration::from_secs(seconds)).is_ok(),
        }
    }

    fn takes(&self, test: &Test) -> bool {
        let fits = match self.vms {
            Some(2) => test.kind() == Kind::Pair,
            Some(_) => test.kind() != Kind::Pair,
            None => true,
        };
        let of_kind = !self.systemd || test.kind() == Kind::Systemd;
        fits && of_kind && (self.words.is_empty() || self.words.iter().any(|word| test.name.contains(word)))
    }
}

#[cfg(test)]
mod options_tests {
    use super::*;

    #[test]
    fn words_are_filters_and_the_rest_options() {
        let mut options = Options::default();
        assert!(options.set("--kernel", "6.1") && options.set("--vms", "2"));
        assert!(!options.set("--kernel", "7.2") && !options.set("--vms", "3"));
        assert_eq!((options.kernel, options.vms), (Kernel::V6_1, None));
    }
}
