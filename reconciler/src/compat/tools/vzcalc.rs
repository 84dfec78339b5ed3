//! `vzcalc`: which part of the host's resources one container takes.

use vzd_state::subsystem::beancounters::{Counter, UNLIMITED};

use super::super::args::{self, flag};
use super::super::exit::{Refusal, Tool};
use super::memory::{Host, percent, share};
use super::{control, finish, print};
use crate::control::{Selector, VeCounters};

pub(crate) const USAGE: &str = "Usage: vzcalc [-v] <CTID|NAME>";

/// Runs the command line.
pub fn main(words: Vec<String>) -> u8 {
    finish(run(&words))
}

fn run(words: &[String]) -> Tool {
    let said = args::parse(&[flag("").short('v'), flag("help").short('h')], words);
    let said = said.map_err(|why| Refusal::new(1, format!("{why}\n{USAGE}")))?;
    let [id] = said.words.as_slice() else { return Err(Refusal::new(1, USAGE)) };
    let select = Selector { names: vec![id.clone()], ..Selector::default() };
    let ves = control()?.counters(&select).map_err(|error| Refusal::of(1, &error))?;
    let ve = ves.first().ok_or_else(|| Refusal::new(1, format!("Container {id} is not running")))?;
    print(&text(ve, Host::read()?, threads_max()?, said.has("v")));
    Ok(0)
}

fn text(ve: &VeCounters, host: Host, threads: f64, verbose: bool) -> String {
    let share = share(ve, host);
    let numproc = ve.counters.iter().find(|view| view.name == Counter::Numproc);
    let processes = |number: Option<u64>| match number {
        Some(UNLIMITED..) | None => f64::INFINITY,
        Some(number) => number as f64 / threads,
    };
    let (held, most) = (numproc.and_then(|view| view.held), numproc.map(|view| view.limit));
    let line = |name: &str, parts: [Option<f64>; 3]| {
        let cells = parts.map(|part| format!("{:>12}", part.map_or_else(|| "n/a".to_owned(), percent)));
        format!("{name:<12}{}\n", cells.concat())
    };
    let mut text = format!("{:<12}{:>12}{:>12}{:>12}\n", "Resource", "Current(%)", "Promised(%)", "Max(%)");
    if verbose {
        text += &line("Low Mem", [Some(share.low_used), Some(share.low_promised), Some(share.low_promised)]);
        text += &line("Total RAM", [Some(share.ram_used), None, None]);
        text += &line("Mem + Swap", [Some(share.memory_used), Some(share.memory_promised), None]);
        text += &line(
            "Alloc. Mem",
            [Some(share.allocated), Some(share.allocated_promised), Some(share.most_of_ram)],
        );
        text += &line("Num. Proc", [Some(processes(held.or(Some(0)))), None, Some(processes(most))]);
        text += &format!("{}\n", "-".repeat(48));
    }
    let highest = |parts: &[f64]| parts.iter().copied().fold(0.0, f64::max);
    text += &line(
        "Memory",
        [
            Some(highest(&[share.low_used, share.ram_used, share.memory_used, share.allocated])),
            Some(highest(&[share.low_promised, share.memory_promised, share.allocated_promised])),
            Some(highest(&[share.low_promised, share.most_of_ram])),
        ],
    );
    text
}

/// How many tasks the host's kernel allows.
fn threads_max() -> Tool<f64> {
    const PATH: &str = "/proc/sys/kernel/threads-max";
    let text = std::fs::read_to_string(PATH)
        .map_err(|error| Refusal::new(1, format!("cannot read {PATH}: {error}")))?;
    text.trim().parse().map_err(|_| Refusal::new(1, format!("{PATH} holds no number")))
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::{HOST, basic};
    use super::*;

    #[test]
    fn the_table_is_openvzs() {
        insta::assert_snapshot!(text(&basic(), HOST, 16_000.0, true));
        insta::assert_snapshot!(text(&basic(), HOST, 16_000.0, false));
    }
}
