//! `cargo xtask`: the one door for everything that a developer or CI runs.
//!
//! Each command is one file. It must not hold logic that the product needs: what users run is in `vzd`. Nothing here may
//! touch what it has not made: other people's processes, mounts and cgroups are on this machine too.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool whose output is its purpose"
)]

mod bench;
mod clean;
mod criu;
mod demo;
mod gen_files;
mod guest;
mod lab;
mod leftovers;
mod lxcfs;
mod quickstart;
mod run;
mod setup;
mod tally;
mod test;

use std::process::ExitCode;

use run::{Failure, fail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  quickstart           install what is missing, build, and show VEs running, changing and stopping
  test                 install what is missing, then every test; ends with `N passed, N failed, N skipped`
  ci                   as test, but a skip that isn't allowed fails, and so does anything left on the machine
  setup [bench]        install what is missing (Debian packages), nothing else; `bench` adds the peers
  gen [--check]        write the generated files that are checked in, or say which are out of date
  guest                build the static programs that tests put into VEs; prints their paths
  host-tests [WORD]    only the tests that run vzd or need root, filtered by WORD
  lab [OPTION...]      the same on Debian's own kernel in QEMU; `cargo xtask lab --help`
  bench [OPTION...]    measure vzd against its peers; `cargo xtask bench --help`

VZD_NO_SETUP=1 skips the installing of packages, VZD_NO_LAB=1 leaves the lab out of `test` and `ci`.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        ["quickstart"] => quickstart::run(),
        ["test"] => test::run(test::Mode::from_environment()),
        ["ci"] => test::run(test::Mode::Ci),
        ["setup"] => setup::run(setup::For::Tests),
        ["setup", "bench"] => setup::run(setup::For::Bench),
        ["gen"] => gen_files::run(gen_files::Mode::Write),
        ["gen", "--check"] => gen_files::run(gen_files::Mode::Check),
        ["guest"] => {
            guest::build().map(|guest| println!("{}\n{}", guest.witness.display(), guest.pause.display()))
        }
        ["host-tests"] => test::host_tests(None),
        ["host-tests", filter] => test::host_tests(Some(filter)),
        ["lab", options @ ..] => lab::run(options),
        ["lab-inside", options @ ..] => {
            return match lab::inside(options) {
                Ok(code) => ExitCode::from(code),
                Err(Failure(why)) => failed(&why),
            };
        }
        ["bench", options @ ..] => bench::run(options),
        other => fail(format!("unknown command: {}\n\n{USAGE}", other.join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(why)) => failed(&why),
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("xtask: {why}");
    ExitCode::FAILURE
}
