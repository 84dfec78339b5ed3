//! vzd-bench: speed and cost of vzd beside its peers, in one run on one machine.
//!
//! `cargo xtask bench` builds everything, gives it a directory and a cgroup to work in, and takes both away afterwards.
//! Rounds alternate between the peers, so that a machine that gets slower is slower for all; what is printed are medians
//! and ratios. It must not touch anything outside its directory and cgroup, and must not prefer anybody: each container
//! has the same payload, the same kinds of namespaces and a cgroup of its own.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool whose output is its purpose"
)]

mod benches;
mod cpu;
mod memory;
mod options;
mod payload;
mod peers;
mod place;
mod result;
mod stats;
mod sys;
mod table;
mod tree;

use std::process::ExitCode;

use options::{Asked, Options};
use result::Result;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [benches::sockets::CHILD, one, other] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return match benches::sockets::child([one, other]) {
            Ok(nanos) => {
                println!("{nanos}");
                ExitCode::SUCCESS
            }
            Err(failure) => {
                eprintln!("{failure}");
                ExitCode::FAILURE
            }
        };
    }
    let done = match Options::parse(&words) {
        Ok(Asked::Help) => {
            println!("{}", options::USAGE);
            Ok(())
        }
        Ok(Asked::List) => {
            benches::ALL.iter().for_each(|bench| println!("{:11} {}", bench.name, bench.about));
            Ok(())
        }
        Ok(Asked::Run(options)) => run(&options),
        Err(failure) => Err(failure),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("vzd-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let place = place::Place::prepare()?;
    sys::become_subreaper()?;
    let mut failed = Vec::new();
    for bench in benches::ALL.iter().filter(|bench| options.wants(bench.name)) {
        eprintln!("{}: {}", bench.name, bench.about);
        match (bench.run)(&place, options) {
            Ok(tables) if options.markdown => tables.iter().for_each(|table| print!("{}", table.markdown())),
            Ok(tables) => tables.iter().for_each(|table| print!("{}", table.text())),
            Err(failure) => {
                eprintln!("{}: {failure}", bench.name);
                failed.push(bench.name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { result::fail(format!("failed: {}", failed.join(", "))) }
}
