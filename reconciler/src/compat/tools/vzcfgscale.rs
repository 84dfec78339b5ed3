//! `vzcfgscale`: a container's configuration with its numbers multiplied, for a smaller or larger container.

use super::super::args::{self, flag, value};
use super::super::conf;
use super::super::exit::{Refusal, Tool};
use super::super::params::{Home, by_key};
use super::memory::{Host, whole};
use super::vzcfgvalidate::validate;
use super::{finish, numbers, print};
use crate::cli::output::{harmless, note};

pub(crate) const USAGE: &str = "\
Usage: vzcfgscale [options] <configfile>
    -a factor    scale everything
    -c factor    scale CPU parameters
    -d factor    scale disk quota
    -u factor    scale beancounters
    -n factor    scale network bandwidth
    -o file      write there instead of to standard output
    -r           leave out what belongs to one container: names, addresses, places
    -v           validate the result";

/// What belongs to one container.
const OWN: [&str; 8] = [
    "HOSTNAME",
    "NAMESERVER",
    "SEARCHDOMAIN",
    "OSTEMPLATE",
    "TEMPLATES",
    "VE_ROOT",
    "VE_PRIVATE",
    "IP_ADDRESS",
];
/// The least and most CPU units.
const CPUUNITS: (f64, f64) = (8.0, 500_000.0);

/// Factors by what they scale.
#[derive(Debug, Clone, Copy, Default)]
struct Factors {
    cpu: Option<f64>,
    disk: Option<f64>,
    counters: Option<f64>,
    network: Option<f64>,
}

/// Runs the command line.
pub fn main(words: Vec<String>) -> u8 {
    finish(run(&words))
}

fn run(words: &[String]) -> Tool {
    let known = [
        value("").short('a'),
        value("").short('c'),
        value("").short('d'),
        value("").short('u'),
        value("").short('n'),
        value("").short('o'),
        flag("").short('r'),
        flag("").short('v'),
        flag("help").short('h'),
    ];
    let said = args::parse(&known, words).map_err(|why| Refusal::new(1, format!("{why}\n{USAGE}")))?;
    let [file] = said.words.as_slice() else { return Err(Refusal::new(1, USAGE)) };
    let factor = |option: &str| -> Tool<Option<f64>> {
        let Some(text) = said.last(option) else { return Ok(None) };
        let factor = text.parse::<f64>().ok().filter(|is| is.is_finite() && *is > 0.0);
        factor.map(Some).ok_or_else(|| Refusal::new(1, format!("-{option} {text}: it is no positive number")))
    };
    let all = factor("a")?;
    let factors = Factors {
        cpu: factor("c")?.or(all),
        disk: factor("d")?.or(all),
        counters: factor("u")?.or(all),
        network: factor("n")?.or(all),
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| Refusal::new(1, format!("cannot read {file}: {error}")))?;
    let scaled =
        scale(&text, factors, said.has("r")).map_err(|why| Refusal::new(1, format!("{file}: {why}")))?;
    match said.last("o") {
        Some(to) => std::fs::write(to, &scaled)
            .map_err(|error| Refusal::new(1, format!("cannot write {to}: {error}")))?,
        None => print(&scaled),
    }
    if said.has("v") && validate(&scaled, Host::read()?, &mut |_| false, &mut |line| note(&harmless(line))).1
    {
        return Err(Refusal::new(2, "the result is not valid"));
    }
    Ok(0)
}

/// The text with other numbers; comments and all else stay. A value that is no number of its key is an error.
fn scale(text: &str, factors: Factors, anonymous: bool) -> Result<String, String> {
    let mut scaled = text.to_owned();
    let mut left_out = Vec::new();
    for setting in conf::parse(text).settings {
        if anonymous && OWN.contains(&setting.key.as_str()) {
            left_out.push(setting.line);
            continue;
        }
        let new = of_setting(&setting.key, &setting.value, factors)
            .map_err(|why| format!("line {}: {}=\"{}\": {why}", setting.line, setting.key, setting.value))?;
        if let Some(new) = new {
            scaled = conf::with(&scaled, setting.line, &new);
        }
    }
    let lines = scaled.split_inclusive('\n').enumerate();
    Ok(lines.filter(|(at, _)| !left_out.contains(&(at + 1))).map(|(_, line)| line).collect())
}

fn of_setting(key: &str, value: &str, factors: Factors) -> Result<Option<String>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    if let Some((_, unit)) = numbers::counter(key) {
        let of_disk = matches!(key, "DISKSPACE" | "DISKINODES");
        let Some(factor) = (if of_disk { factors.disk } else { factors.counters }) else { return Ok(None) };
        let (barrier, limit) = numbers::read(value, unit)?;
        return Ok(Some(numbers::write((
            barrier.map(|is| times(is, factor)),
            limit.map(|is| times(is, factor)),
        ))));
    }
    match (key, by_key(key).map(|param| param.home)) {
        ("AVNUMPROC", _) => {
            let Some(factor) = factors.counters else { return Ok(None) };
            let (barrier, limit) = numbers::read(value, numbers::Unit::Items)?;
            Ok(Some(numbers::write((barrier.map(|is| times(is, factor)), limit.map(|is| times(is, factor))))))
        }
        ("CPUUNITS", _) | (_, Some(Home::Word("spec.cpu.cpuunits"))) => {
            let Some(factor) = factors.cpu else { return Ok(None) };
            let units = (number(value)? * factor).clamp(CPUUNITS.0, CPUUNITS.1);
            Ok(Some(format!("{}", units.floor())))
        }
        ("CPULIMIT", _) => {
            let Some(factor) = factors.cpu else { return Ok(None) };
            let sign = if value.ends_with('%') { "%" } else { "" };
            Ok(Some(format!("{}{sign}", (number(value.trim_end_matches('%'))? * factor).floor())))
        }
        ("RATE", _) => {
            let Some(factor) = factors.network else { return Ok(None) };
            let rates = value.split_whitespace().map(|rate| {
                let (device, kbit) = rate.rsplit_once(':').ok_or("it is no device:class:Kbit")?;
                Ok(format!("{device}:{}", (number(kbit)? * factor).floor()))
            });
            rates.collect::<Result<Vec<_>, String>>().map(|rates| Some(rates.join(" ")))
        }
        _ => Ok(None),
    }
}

fn number(text: &str) -> Result<f64, String> {
    text.parse::<u32>().map(f64::from).map_err(|_| format!("`{text}` is no number"))
}

/// Down to a whole number, and never so high that it would mean no limit.
fn times(number: u64, factor: f64) -> u64 {
    whole(number as f64 * factor).min(i64::MAX as u64 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# mine\nKMEMSIZE=\"1000:2000\"  # note\nPHYSPAGES=\"0:256M\"\nVMGUARPAGES=\"100:unlimited\"\nAVNUMPROC=\"10:10\"\n\
        DISKSPACE=\"1G:2G\"\nCPUUNITS=\"1000\"\nCPULIMIT=\"50\"\nRATE=\"eth0:1:800\"\nHOSTNAME=\"a\"\nIP_ADDRESS=\"10.0.0.1\"\nFOO=\"7\"\n";

    #[test]
    fn each_group_has_its_factor() {
        let twice = Some(2.0);
        let all = Factors { cpu: twice, disk: twice, counters: twice, network: twice };
        assert_eq!(
            scale(TEXT, all, true).unwrap(),
            "# mine\nKMEMSIZE=\"2000:4000\"  # note\nPHYSPAGES=\"0:131072\"\nVMGUARPAGES=\"200:unlimited\"\nAVNUMPROC=\"20:20\"\n\
             DISKSPACE=\"2097152:4194304\"\nCPUUNITS=\"2000\"\nCPULIMIT=\"100\"\nRATE=\"eth0:1:1600\"\nFOO=\"7\"\n"
        );
        let disk = Factors { disk: Some(0.5), ..Factors::default() };
        assert_eq!(scale(TEXT, disk, false).unwrap(), TEXT.replace("1G:2G", "524288:1048576"));
        assert_eq!(scale(TEXT, Factors::default(), false).unwrap(), TEXT);
        let huge = Factors { cpu: Some(1e9), counters: Some(1e30), ..Factors::default() };
        let scaled = scale(TEXT, huge, false).unwrap();
        assert!(
            scaled.contains("CPUUNITS=\"500000\"") && scaled.contains("KMEMSIZE=\"9223372036854775806:"),
            "{scaled}"
        );
        assert!(scale("NUMPROC=\"many\"\n", all, false).unwrap_err().starts_with("line 1: NUMPROC=\"many\""));
    }
}
