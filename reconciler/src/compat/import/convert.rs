//! A configuration to a manifest, key by key: what has a home is written there, and of everything else it is said
//! why not. Pure.

use vzd_schema::Kind;
use vzd_schema::edit::Value;
use vzd_schema::v1::{ALIAS, Name, is_alias};

use super::building::Building;
use crate::compat::conf::{self, Conf};
use crate::compat::params::{Home, Written, by_key, is_reckoned, rate};
use crate::compat::samples::profile_name;

/// What a configuration came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The name of the VE or profile.
    pub name: String,
    /// The manifest: always one without errors.
    pub text: String,
    /// What is in the manifest: keys.
    pub kept: Vec<String>,
    /// What is not, or not as it was: the line, and what about it.
    pub residue: Vec<(usize, String)>,
}

/// Of a container with that number.
pub fn container(ctid: u32, text: &str) -> Imported {
    let conf = conf::parse(text);
    let mut residue = Vec::new();
    let said = conf.settings.iter().find(|is| is.key == "NAME" && !is.value.is_empty());
    // What is no name of a manifest's is one beside the number.
    let name = said.map(|said| said.value.as_str()).filter(|name| name.parse::<Name>().is_ok());
    let name = name.map_or_else(|| ctid.to_string(), str::to_owned);
    let mut building = Building::new(Kind::Ve, &name);
    building.draft().set("spec.ctid", Value::word(ctid));
    building.draft().set("spec.state", Value::word("stopped"));
    match said {
        Some(said) if said.value == name => building.keep("NAME"),
        Some(said) if is_alias(&said.value) => {
            building.draft().set(&format!("metadata.annotations.{ALIAS}"), Value::Text(said.value.clone()));
            building.keep("NAME");
        }
        Some(said) => {
            residue.push((said.line, format!("NAME=\"{}\" is no name here: it is {ctid} now", said.value)))
        }
        None => {}
    }
    convert(Kind::Ve, building, &conf, residue)
}

/// Of a sample with that name.
pub fn profile(name: &str, text: &str) -> Imported {
    let mut residue = Vec::new();
    let lower = profile_name(name);
    if lower != name {
        residue.push((
            1,
            format!("the sample {name} is the profile {lower}: names are small letters, digits and -"),
        ));
    }
    convert(Kind::Profile, Building::new(Kind::Profile, &lower), &conf::parse(text), residue)
}

fn convert(kind: Kind, mut building: Building, conf: &Conf, residue: Vec<(usize, String)>) -> Imported {
    for (line, message) in residue.into_iter().chain(conf.problems.iter().cloned()) {
        building.tell(line, message);
    }
    // What is reckoned from other keys comes after them.
    let is_reckoned = |key: &str| by_key(key).is_some_and(|param| is_reckoned(param.option));
    let (last, first): (Vec<_>, Vec<_>) = conf.settings.iter().partition(|is| is_reckoned(&is.key));
    for setting in first.into_iter().chain(last).filter(|is| is.key != "NAME" || kind == Kind::Profile) {
        let shown = format!("{}=\"{}\"", setting.key, setting.value);
        let Some(param) = by_key(&setting.key) else {
            building.tell(setting.line, format!("{shown}: the key is not known"));
            continue;
        };
        match param.home {
            // They do not apply, and nothing is lost.
            Home::Inside(why) | Home::Needless(why) | Home::Nowhere(why) => {
                building.tell(setting.line, format!("{shown}: it has no counterpart: {why}"));
                continue;
            }
            _ if setting.value.is_empty() => continue,
            _ => {}
        }
        if matches!(&*setting.key, "RATE" | "RATEBOUND")
            && let Err(why) = rate::fits(conf.get("RATE"), conf.get("RATEBOUND"), false)
        {
            building.tell(setting.line, format!("{shown}: {why}"));
            continue;
        }
        let value = clipped(&setting.value);
        if value != setting.value {
            building.tell(setting.line, format!("{shown}: a number is too large, and taken as unlimited"));
        }
        // What the manifest does not take is told and left out, so that all else is kept.
        match building.try_put(|draft| param.put(draft, &value, Written::File)) {
            Ok(()) => building.keep(&setting.key),
            Err(why) => building.tell(setting.line, format!("{shown}: {why}")),
        }
    }
    building.finish()
}

/// Numbers beyond what the kernel knew are "unlimited", as vzctl clips them.
fn clipped(value: &str) -> String {
    let part = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) && part.len() > 18 {
        true if part.parse::<i64>().is_err() => "unlimited".to_owned(),
        _ => part.to_owned(),
    };
    value.split(':').map(part).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::building::errors;
    use super::*;

    #[test]
    fn each_key_is_kept_or_told() {
        let text = "ONBOOT=\"yes\"\nPHYSPAGES=\"0:512M\"\nSWAPPAGES=\"0:1G\"\nDISKSPACE=\"2097152:2306867\"\nCPUUNITS=\"1000\"\n\
            HOSTNAME=\"web.example.net\"\nIP_ADDRESS=\"10.0.0.1 fd00::1\"\nNETFILTER=\"stateless\"\nIOLIMIT=\"10485760\"\n\
            VE_ROOT=\"/vz/root/$VEID\"\nNONSENSE=\"1\"\nNUMPROC=\"many\"\nCPULIMIT=\"50\"\nNAME=\"Web 01\"\n";
        let is = container(101, text);
        assert_eq!(
            is.text,
            "apiVersion: vzd/v1\nkind: VE\nmetadata:\n  name: \"101\"\n  annotations:\n    vzd/name: Web 01\nspec:\n  ctid: 101\n  state: stopped\n  onBoot: true\n  \
             beancounters:\n    physpages: \"0:131072\"\n    swappages: \"0:262144\"\n  disk:\n    diskspace: 2G:2306867K\n  cpu:\n    \
             cpuunits: 1000\n    cpulimit: 50%\n  hostname: web.example.net\n  network:\n    addresses: [\"10.0.0.1\", \"fd00::1\"]\n  \
             io:\n    iolimit: 10M\n"
        );
        let lines: Vec<_> = is.residue.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [8, 10, 11, 12], "{:?}", is.residue);
    }

    #[test]
    fn openvzs_samples_are_profiles() {
        let sample = "PHYSPAGES=\"0:256M\"\nSWAPPAGES=\"0:512M\"\nDISKSPACE=\"2G:2.2G\"\nDISKINODES=\"131072:144179\"\nQUOTATIME=\"0\"\nCPUUNITS=\"1000\"\nNETFILTER=\"stateless\"\n";
        let is = profile("vswap-256m", sample);
        assert_eq!((is.kept.len(), is.residue.len()), (6, 1), "{is:?}");
        assert!(is.text.contains("kind: Profile") && errors(&is.text).is_empty());
    }

    /// A generator that needs no crate: the same three hundred files each time.
    pub fn generated(seed: u64) -> String {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % n as u64).unwrap()
        };
        let keys: Vec<&str> = crate::compat::params::PARAMS
            .iter()
            .map(|param| param.key)
            .filter(|key| !key.is_empty())
            .collect();
        let values = [
            "1",
            "0",
            "yes",
            "no",
            "100:200",
            "200:100",
            "unlimited",
            "0:unlimited",
            "9223372036854775807",
            "99999999999999999999",
            "2.2G",
            "2G:2.2G",
            "-1",
            "",
            "a b c",
            "10.0.0.1",
            "10.0.0.1/255.255.255.0 fd00::1",
            "0.0.0.0",
            "nfs:on tun:on",
            "ifname=eth0,bridge=br0,mac=02:00:00:00:00:01;",
            "c:10:229:rw",
            "net/tun:rw",
            "net_admin:on",
            "inherit",
            "\\",
            "\u{0}",
            "\u{1b}[31m",
            "äöü",
            "$VEID",
            "/vz/root/$VEID",
            "50%",
            "0-3",
            "all",
            "full",
            "x:y:z",
            "1:2:3",
            ":",
            ",",
            ";",
            "=",
            "debian-12",
            "web.example.net",
            "12m",
            "7",
            "ploop",
            "{a: b}",
            "[1, 2]",
            "*x",
            "&x",
            "- a",
            "# b",
            "'",
            "18446744073709551616:1",
        ];
        let mut text = String::new();
        for _ in 0..next(40) {
            let (key, value) = (keys[next(keys.len())], values[next(values.len())]);
            text += &match next(12) {
                0 => format!("# {key}\n"),
                1 => format!("{key}={value}\n"),
                2 => format!("{key}=\"{value}\n"),
                3 => format!("{key} {value}\n"),
                4 => format!("X{key}=\"{value}\"\n"),
                _ => format!("{key}=\"{value}\"\n"),
            };
        }
        text
    }

    #[test]
    fn three_hundred_files_lose_nothing_silently() {
        for seed in 1..=300 {
            let text = generated(seed);
            let is = container(101, &text);
            assert!(errors(&is.text).is_empty(), "{text}\n{}\n{:?}", is.text, errors(&is.text));
            let told: Vec<usize> = is.residue.iter().map(|(line, _)| *line).collect();
            for (at, line) in text.lines().enumerate() {
                let line = line.trim();
                let empty = |value: &str| value.trim_matches('"').is_empty();
                let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
                    assert!(
                        line.is_empty() || line.starts_with('#') || told.contains(&(at + 1)),
                        "{text}\n{is:#?}"
                    );
                    continue;
                };
                // Said before in the same words.
                let again = text.lines().take(at).any(|earlier| {
                    let before = earlier.trim().split_once('=');
                    before.is_some_and(|(k, v)| k == key && v.trim_matches('"') == value.trim_matches('"'))
                });
                let kept = again || is.kept.iter().any(|known| known == key);
                assert!(kept || told.contains(&(at + 1)) || empty(value), "line {}: {text}\n{is:#?}", at + 1);
            }
        }
    }
}
