//! `vzcpucheck`: the sum of all containers' shares of CPU beside the host's power, both in cpuunits.

use super::super::args::{self, flag};
use super::super::exit::{Refusal, Tool};
use super::{control, finish, print};
use crate::control::Selector;

pub(crate) const USAGE: &str = "Usage: vzcpucheck [-v]";

/// Runs the command line.
pub fn main(words: Vec<String>) -> u8 {
    finish(run(&words))
}

fn run(words: &[String]) -> Tool {
    let said = args::parse(&[flag("").short('v')], words)
        .map_err(|why| Refusal::new(2, format!("{why}\n{USAGE}")))?;
    if !said.words.is_empty() {
        return Err(Refusal::new(2, USAGE));
    }
    let ves = control()?.list(&Selector { all: true, ..Selector::default() }, false);
    let ves = ves.map_err(|error| Refusal::of(1, &error))?;
    let running = ves.iter().filter(|ve| ve.status.init_pid.is_some());
    let units: Vec<(String, u64)> = running
        .map(|ve| {
            let ctid =
                ve.status.ctid.map_or_else(|| ve.metadata.name.to_string(), |ctid| ctid.get().to_string());
            (ctid, ve.spec["cpu"]["cpuunits"].as_u64().unwrap_or(1000))
        })
        .collect();
    const PATH: &str = "/proc/cpuinfo";
    let cpuinfo = std::fs::read_to_string(PATH)
        .map_err(|error| Refusal::new(1, format!("cannot read {PATH}: {error}")))?;
    let power = power(&cpuinfo).ok_or_else(|| Refusal::new(1, format!("{PATH} does not say bogomips")))?;
    print(&text(&units, power, said.has("v")));
    Ok(0)
}

/// All CPUs together: 25 for each of their bogomips.
fn power(cpuinfo: &str) -> Option<u64> {
    let value = |line: &str| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case("bogomips").then(|| value.trim().parse::<f64>().ok()).flatten()
    };
    let all: Vec<f64> = cpuinfo.lines().filter_map(value).collect();
    // A sum of a few thousand bogomips a CPU fits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
    (!all.is_empty()).then(|| (all.iter().sum::<f64>() * 25.0) as u64)
}

fn text(units: &[(String, u64)], power: u64, each: bool) -> String {
    let mut text = String::new();
    if each {
        text += &format!("{:<10} {:>10}\n{}\n", "CTID", "CPUUNITS", "-".repeat(21));
        text += &units.iter().map(|(ctid, units)| format!("{ctid:<10} {units:>10}\n")).collect::<String>();
    }
    let sum: u64 = units.iter().map(|(_, units)| units).sum();
    text += &format!("Current CPU utilization: {sum}\nPower of the node: {power}\n");
    if sum > power {
        text += "Warning: hardware node is overcommitted\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_compared_with_bogomips() {
        assert_eq!(power("processor: 0\nbogomips\t: 4000.02\n\nBogoMIPS : 1000.00\n"), Some(125_000));
        assert_eq!(power("processor: 0\n"), None);
        let units = [("101".to_owned(), 1000), ("102".to_owned(), 200_000)];
        assert_eq!(
            text(&units, 125_000, true),
            "CTID         CPUUNITS\n---------------------\n101              1000\n102            200000\n\
             Current CPU utilization: 201000\nPower of the node: 125000\nWarning: hardware node is overcommitted\n"
        );
        assert_eq!(text(&[], 1, false), "Current CPU utilization: 0\nPower of the node: 1\n");
    }
}
