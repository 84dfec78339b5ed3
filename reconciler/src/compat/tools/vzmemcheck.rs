//! `vzmemcheck`: how much of the host's memory its containers have, are promised and may take.

use super::super::args::{self, flag};
use super::super::exit::{Refusal, Tool};
use super::memory::{Host, Share, percent, share};
use super::{control, finish, print};
use crate::control::{Selector, VeCounters};

const HEADER: &str = "\
veid        LowMem  LowMem     RAM MemSwap MemSwap   Alloc   Alloc   Alloc
              util  commit    util    util  commit    util  commit   limit
";

pub(crate) const USAGE: &str =
    "Usage: vzmemcheck [-v] [-A]\n    -v    per container\n    -A    absolute values, in MB";

/// Runs the command line.
pub fn main(words: Vec<String>) -> u8 {
    finish(run(&words))
}

fn run(words: &[String]) -> Tool {
    let said =
        args::parse(&[flag("").short('v'), flag("absolute").short('A'), flag("help").short('h')], words);
    let said = said.map_err(|why| Refusal::new(1, format!("{why}\n{USAGE}")))?;
    if said.has("help") || !said.words.is_empty() {
        return Err(Refusal::new(1, USAGE));
    }
    let ves = control()?.counters(&Selector { all: true, ..Selector::default() });
    let ves = ves.map_err(|error| Refusal::of(1, &error))?;
    print(&text(&ves, Host::read()?, said.has("v"), said.has("absolute")));
    Ok(0)
}

fn text(ves: &[VeCounters], host: Host, each: bool, absolute: bool) -> String {
    let shares: Vec<(u32, Share)> = ves.iter().map(|ve| (ve.ctid, share(ve, host))).collect();
    let line = |name: &str, figures: [f64; 8]| {
        let bases = bases(host);
        let cells = figures.iter().zip(bases).map(|(part, base)| {
            format!(
                "{:>7}",
                match (absolute, part.is_finite()) {
                    (_, false) => "unlim".to_owned(),
                    (true, _) => format!("{:.2}", part * base / 1_048_576.0),
                    (false, _) => percent(*part),
                }
            )
        });
        format!("{name:<10} {}\n", cells.collect::<Vec<_>>().join(" "))
    };
    let mut text = format!("Output values in {}\n{HEADER}", if absolute { "Mbytes" } else { "%" });
    let mut sum = [0.0; 8];
    for (ctid, share) in &shares {
        let figures = share.figures();
        sum.iter_mut().zip(figures).for_each(|(sum, part)| *sum += part);
        if each {
            text += &line(&ctid.to_string(), figures);
        }
    }
    if each {
        text += &format!("{}\n", "-".repeat(74));
    }
    text += &line("Summary:", sum);
    if absolute {
        text += &line("Available:", [1.0; 8]);
    }
    text
}

/// What each figure is a part of.
fn bases(host: Host) -> [f64; 8] {
    let (low, all) = (0.4 * host.ram, host.ram + host.swap);
    [low, low, host.ram, all, all, all, all, all]
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::{HOST, basic};
    use super::*;

    #[test]
    fn the_table_is_openvzs() {
        insta::assert_snapshot!(text(&[basic(), VeCounters { ctid: 102, ..basic() }], HOST, true, false));
        insta::assert_snapshot!(text(&[basic()], HOST, false, true));
    }
}
