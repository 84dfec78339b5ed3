//! `vzcfgvalidate`: whether the numbers of a container's configuration fit each other, and what would do instead.
//!
//! The rules about counters are those of manifests ([`vzd_schema::counters`]); here are those about a file as a whole
//! and about the host.

use std::io::BufRead;
use std::path::Path;

use vzd_schema::counters::{Class, Numbers, misfits};

use super::super::args::{self, flag, value};
use super::super::conf::{self, Conf};
use super::super::exit::{Refusal, Tool};
use super::memory::{Host, whole};
use super::{finish, numbers, print};
use crate::cli::output::harmless;
use crate::store::{Writes, atomic};

pub(crate) const USAGE: &str = "\
Usage: vzcfgvalidate [-r | -i] [-v yes|no] <configfile>
    -r    repair
    -i    ask before each repair
    -v    tell what is looked at";

/// Counters that a configuration without VSwap has to say.
const REQUIRED: [&str; 20] = [
    "KMEMSIZE",
    "LOCKEDPAGES",
    "PRIVVMPAGES",
    "SHMPAGES",
    "NUMPROC",
    "PHYSPAGES",
    "VMGUARPAGES",
    "OOMGUARPAGES",
    "NUMTCPSOCK",
    "NUMFLOCK",
    "NUMPTY",
    "NUMSIGINFO",
    "TCPSNDBUF",
    "TCPRCVBUF",
    "OTHERSOCKBUF",
    "DGRAMRCVBUF",
    "NUMOTHERSOCK",
    "DCACHESIZE",
    "NUMFILE",
    "NUMIPTENT",
];
/// Counters of which the barrier may not be above the limit; of others the two are the same, or one has no meaning.
const ORDERED: [&str; 11] = [
    "kmemsize",
    "tcpsndbuf",
    "tcprcvbuf",
    "othersockbuf",
    "dgramrcvbuf",
    "privvmpages",
    "lockedpages",
    "numflock",
    "dcachesize",
    "diskspace",
    "diskinodes",
];
/// A repair may raise what another rule looks at; there is no circle among them longer than that.
const ROUNDS: usize = 16;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Wrong {
    class: Class,
    say: String,
    /// The key, and what it would have to be.
    repair: Option<(&'static str, Numbers)>,
}

/// Runs the command line.
pub fn main(words: Vec<String>) -> u8 {
    finish(run(&words))
}

fn run(words: &[String]) -> Tool {
    let known =
        [flag("").short('r'), flag("").short('i'), value("verbose").short('v'), flag("help").short('h')];
    let said = args::parse(&known, words).map_err(|why| Refusal::new(1, format!("{why}\n{USAGE}")))?;
    let (repair, ask) = (said.has("r"), said.has("i"));
    let verbose = match said.last("verbose") {
        None | Some("no") => false,
        Some("yes") => true,
        Some(_) => return Err(Refusal::new(1, USAGE)),
    };
    let [file] = said.words.as_slice() else { return Err(Refusal::new(1, USAGE)) };
    if said.has("help") || repair && ask {
        return Err(Refusal::new(1, USAGE));
    }
    let cannot =
        |what: &str, error: std::io::Error| Refusal::new(1, format!("cannot {what} {file}: {error}"));
    // The file itself, behind all links.
    let path = std::fs::canonicalize(file).map_err(|error| cannot("find", error))?;
    let old = std::fs::read_to_string(&path).map_err(|error| cannot("read", error))?;
    let host = Host::read()?;
    if verbose {
        tell_numbers(&old);
    }
    let mut agree = |wrong: &Wrong| repair || ask && agrees(wrong);
    let (new, failed) = validate(&old, host, &mut agree, &mut |line| print(&format!("{}\n", harmless(line))));
    if new != old {
        write(&path, &new)?;
        print("Configuration was saved\n");
    }
    print(if failed { "Validation completed: failure\n" } else { "Validation completed: success\n" });
    Ok(if failed { 2 } else { 0 })
}

fn tell_numbers(text: &str) {
    for setting in conf::parse(text).settings {
        if numbers::counter(&setting.key).is_some() {
            print(&format!("{}: {}\n", setting.key, harmless(&setting.value)));
        }
    }
}

/// Asks at the terminal; nothing said is no.
fn agrees(wrong: &Wrong) -> bool {
    let Some((key, to)) = wrong.repair else { return false };
    print(&format!("set {key}=\"{}\" (y/n) [n]? ", numbers::write(to)));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y")
}

fn write(path: &Path, text: &str) -> Tool<()> {
    atomic::replace(path, text.as_bytes(), &Writes::default())
        .map_err(|error| Refusal::new(1, error.to_string()))
}

/// The text with what was to be repaired, and whether anything is left that must not be. Tells all that is wrong.
pub fn validate(
    text: &str,
    host: Host,
    agree: &mut dyn FnMut(&Wrong) -> bool,
    tell: &mut dyn FnMut(&str),
) -> (String, bool) {
    let mut text = text.to_owned();
    let mut told: Vec<Wrong> = Vec::new();
    for _ in 0..ROUNDS {
        let before = text.clone();
        for wrong in problems(&conf::parse(&text), host) {
            if told.contains(&wrong) {
                continue;
            }
            tell(&format!("{:?}: {}", wrong.class, wrong.say));
            if wrong.class != Class::Recommendation
                && wrong.repair.is_some()
                && agree(&wrong)
                && let Some((key, to)) = wrong.repair
            {
                let line = conf::parse(&text).settings.iter().find(|is| is.key == key).map(|is| is.line);
                text = conf::with(&text, line.unwrap_or_default(), &numbers::write(to));
                tell(&format!("{key} is {} now", numbers::write(to)));
                // What else is wrong may not be so any more.
                break;
            }
            told.push(wrong);
        }
        if text == before {
            break;
        }
    }
    let failed = problems(&conf::parse(&text), host).iter().any(|is| is.class != Class::Recommendation);
    (text, failed)
}

/// All that is wrong with a configuration, on a host with that memory.
fn problems(conf: &Conf, host: Host) -> Vec<Wrong> {
    let mut all = Vec::new();
    let mut found = |class, say: String, repair| all.push(Wrong { class, say, repair });
    for (line, why) in &conf.problems {
        found(Class::Recommendation, format!("line {line}: {why}"), None);
    }
    let mut given: Vec<(&'static str, &'static str, Numbers)> = Vec::new();
    for setting in &conf.settings {
        let Some((name, unit)) = numbers::counter(&setting.key) else { continue };
        let Some(key) = super::super::params::by_key(&setting.key).map(|param| param.key) else { continue };
        match numbers::read(&setting.value, unit) {
            Ok(numbers) => given.push((name, key, numbers)),
            Err(why) => found(Class::Error, format!("{}=\"{}\": {why}", setting.key, setting.value), None),
        }
    }
    let pair = |name: &str| given.iter().find(|(is, ..)| *is == name).map(|(.., numbers)| *numbers);
    for (name, key, (barrier, limit)) in given.iter().filter(|(name, ..)| ORDERED.contains(name)) {
        if let Some(limit) = limit.filter(|limit| barrier.is_none_or(|barrier| barrier > *limit)) {
            let say = format!("the barrier of `{name}` is above its limit, {limit}");
            found(Class::Error, say, Some((*key, (*barrier, *barrier))));
        }
    }
    let ram = pair("physpages").and_then(|(_, limit)| limit);
    if let Some(ram) = ram {
        vswap(pair("physpages"), pair("swappages"), ram, host, &mut found);
        return all;
    }
    for key in REQUIRED.iter().filter(|key| conf.get(key).is_none()) {
        found(Class::Error, format!("{key} is not set"), None);
    }
    if let Some((Some(1..) | None, _)) = pair("physpages") {
        let say = "`physpages` has to be 0:unlimited without VSwap".to_owned();
        found(Class::Error, say, Some(("PHYSPAGES", (Some(0), None))));
    }
    let average = conf.get("AVNUMPROC").and_then(|is| is.split(':').next()?.parse().ok());
    let counters = given.iter().map(|(name, _, numbers)| (*name, *numbers)).collect();
    for wrong in misfits(counters, average) {
        let key = given.iter().find(|(name, ..)| *name == wrong.counter).map(|(_, key, _)| *key);
        found(wrong.class, wrong.say, key.map(|key| (key, wrong.repaired)));
    }
    all
}

/// Of a configuration with VSwap two counters are looked at.
fn vswap(
    physpages: Option<Numbers>,
    swappages: Option<Numbers>,
    ram: u64,
    host: Host,
    found: &mut dyn FnMut(Class, String, Option<(&'static str, Numbers)>),
) {
    let pages = |bytes: f64| whole(bytes / 4096.0);
    if swappages.is_none() {
        found(Class::Error, "SWAPPAGES is not set, and PHYSPAGES is limited (VSwap)".to_owned(), None);
    }
    let swap = swappages.and_then(|(_, limit)| limit);
    for (name, key, pair) in [("physpages", "PHYSPAGES", physpages), ("swappages", "SWAPPAGES", swappages)] {
        if let Some((barrier, limit)) = pair.filter(|(barrier, _)| *barrier != Some(0)) {
            let is = numbers::write((barrier, limit));
            let say = format!("the barrier of `{name}` has to be 0, it is {is}");
            found(Class::Error, say, Some((key, (Some(0), limit))));
        }
    }
    for (name, limit, most, what) in
        [("physpages", Some(ram), pages(host.ram), "RAM"), ("swappages", swap, pages(host.swap), "swap")]
    {
        if limit.is_some_and(|limit| limit > most) {
            found(
                Class::Warning,
                format!("the limit of `{name}` is more than all {what} of the host, {most}"),
                None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::HOST;
    use super::*;

    /// OpenVZ's sample `basic`.
    pub const BASIC: &str = "# basic\nKMEMSIZE=\"14372700:14790164\"\nLOCKEDPAGES=\"2048:2048\"\nPRIVVMPAGES=\"65536:69632\"\n\
        SHMPAGES=\"21504:21504\"\nNUMPROC=\"240:240\"\nPHYSPAGES=\"0:unlimited\"\nVMGUARPAGES=\"33792:unlimited\"\n\
        OOMGUARPAGES=\"26112:unlimited\"\nNUMTCPSOCK=\"360:360\"\nNUMFLOCK=\"188:206\"\nNUMPTY=\"16:16\"\n\
        NUMSIGINFO=\"256:256\"\nTCPSNDBUF=\"1720320:2703360\"\nTCPRCVBUF=\"1720320:2703360\"\nOTHERSOCKBUF=\"1126080:2097152\"\n\
        DGRAMRCVBUF=\"262144:262144\"\nNUMOTHERSOCK=\"360:360\"\nDCACHESIZE=\"3409920:3624960\"\nNUMFILE=\"9312:9312\"\n\
        AVNUMPROC=\"180:180\"\nNUMIPTENT=\"128:128\"\nDISKSPACE=\"2G:2.2G\"\nDISKINODES=\"131072:144179\"\n";

    fn told(text: &str, repair: bool) -> (String, bool, Vec<String>) {
        let mut lines = Vec::new();
        let (text, failed) = validate(text, HOST, &mut |_| repair, &mut |line| lines.push(line.to_owned()));
        (text, failed, lines)
    }

    #[test]
    fn openvzs_sample_is_valid() {
        assert_eq!(told(BASIC, false), (BASIC.to_owned(), false, Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_told_and_repaired_in_place() {
        for (old, new, repaired) in [
            ("NUMPROC=\"240:240\"", "NUMPROC=\"200:240\"", "NUMPROC=\"240:240\""),
            (
                "KMEMSIZE=\"14372700:14790164\"",
                "KMEMSIZE=10M:11M  # small",
                "KMEMSIZE=\"10997760:12046336\"  # small",
            ),
            (
                "TCPSNDBUF=\"1720320:2703360\"",
                "TCPSNDBUF=\"1720320:1720320\"",
                "TCPSNDBUF=\"1720320:2641920\"",
            ),
            ("NUMFLOCK=\"188:206\"", "NUMFLOCK=\"206:188\"", "NUMFLOCK=\"206:206\""),
            ("PHYSPAGES=\"0:unlimited\"", "PHYSPAGES=\"5:unlimited\"", "PHYSPAGES=\"0:unlimited\""),
            ("VMGUARPAGES=\"33792:unlimited\"", "VMGUARPAGES=\"33792\"", "VMGUARPAGES=\"33792:unlimited\""),
            ("DISKSPACE=\"2G:2.2G\"", "DISKSPACE=\"3G:2G\"", "DISKSPACE=\"3145728:3145728\""),
        ] {
            let broken = BASIC.replace(old, new);
            let (text, failed, lines) = told(&broken, false);
            assert!(failed && text == broken && !lines.is_empty(), "{new}: {lines:?}");
            let (text, failed, lines) = told(&broken, true);
            assert!(!failed, "{new}: {lines:?}");
            assert_eq!(text, BASIC.replace(old, repaired), "{new}: {lines:?}");
        }
    }

    #[test]
    fn what_cannot_be_repaired_stays_wrong() {
        for (old, new) in [("NUMPROC=\"240:240\"\n", ""), ("NUMPROC=\"240:240\"", "NUMPROC=\"many\"")] {
            assert!(told(&BASIC.replace(old, new), true).1, "{new}");
        }
    }

    #[test]
    fn with_vswap_two_counters_count() {
        let valid = "PHYSPAGES=\"0:256M\"\nSWAPPAGES=\"0:512M\"\nNUMPROC=\"1:2\"\n";
        assert!(!told(valid, false).1);
        assert_eq!(
            told("PHYSPAGES=\"256M\"\nSWAPPAGES=\"0:512M\"\n", true).0,
            "PHYSPAGES=\"0:65536\"\nSWAPPAGES=\"0:512M\"\n"
        );
        for broken in ["PHYSPAGES=\"0:256M\"\n", "PHYSPAGES=\"0:64G\"\nSWAPPAGES=\"0:1G\"\n"] {
            assert!(told(broken, true).1, "{broken}");
        }
    }
}
