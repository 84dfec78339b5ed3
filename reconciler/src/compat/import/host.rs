//! OpenVZ's global configuration, `vz.conf`, to the manifest of the host: what holds for the host as a whole is kept, and of
//! everything else it is told where its place is. Pure.

use vzd_schema::Kind;
use vzd_schema::edit::Value;

use super::building::Building;
use super::convert::Imported;
use crate::compat::conf;
use crate::compat::params::by_key;

/// Keys whose place is another, or that have none.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (&["CONFIGFILE"], "`vzctl create` reads it here; a profile that `defaultProfile` names goes before"),
    (&["TEMPLATE"], "`vzctl create` reads it here; templates of vzd's own: `vzd template add`"),
    (&["VE_ROOT"], "`vzctl mount` reads it here; a VE that runs has its root mounted for itself"),
    (&["VE_PRIVATE"], "vzd keeps disks in its state directory"),
    (&["LOCKDIR", "DUMPDIR", "VEIPDUMPDIR"], "vzd has directories of its own"),
    (
        &["LOGGING", "LOGFILE", "LOG_LEVEL", "VERBOSE", "ACTIONLOGDIR"],
        "`vzctl` reads it here; vzd logs to standard error: VZD_LOG says how much",
    ),
    (&["LOCAL_UID", "LOCAL_GID"], "each VE gets a range of ids of its own, of `subids`"),
    (&["STOP_TIMEOUT"], "`vzctl create` reads it here; `stopTimeout` of VEs, in a profile"),
    (&["DISK_QUOTA", "VE_LAYOUT", "VEFSTYPE", "VEIMAGEFORMAT"], "`disk` of VEs, in a profile"),
    (
        &["VIRTUOZZO", "VZFASTBOOT", "VZWDOG", "IPV6", "MODULES_DISABLED", "SKIP_SYSCTL_SETUP"],
        "nothing here needs it",
    ),
    (&["VE0CPUUNITS"], "vzd sets no limits of the host"),
    (
        &["NEIGHBOUR_DEVS", "SKIP_ARPDETECT", "ERROR_ON_ARPFAIL", "FORCE_ROUTE", "VE_ROUTE_SRC_DEV"],
        "vzd finds out by itself which wires an address is on",
    ),
    (&["IPTABLES_MODULES"], "a VE has the whole packet filter of its own network"),
    (
        &["TRAFFIC_SHAPING", "BANDWIDTH", "TOTALRATE", "RATE", "RATEMPU"],
        "`network.rate` of VEs, in a profile",
    ),
];

/// The host's manifest.
pub fn host(text: &str) -> Imported {
    let conf = conf::parse(text);
    let mut building = Building::new(Kind::Host, "host");
    for (line, message) in conf.problems {
        building.tell(line, message);
    }
    for setting in conf.settings.iter().filter(|setting| !setting.value.is_empty()) {
        let shown = format!("{}=\"{}\"", setting.key, setting.value);
        let field = match setting.key.as_str() {
            "DEF_OSTEMPLATE" => Some(("spec.defaultTemplate", Value::Text(setting.value.clone()))),
            "VE_STOP_MODE" => Some(("spec.shutdown", Value::word(&setting.value))),
            "VE_PARALLEL" => Some(("spec.startParallel", Value::word(&setting.value))),
            _ => None,
        };
        if let Some((field, value)) = field {
            let put = building.try_put(|draft| {
                draft.set(field, value.clone());
                Ok(())
            });
            match put {
                Ok(()) => building.keep(&setting.key),
                Err(why) => building.tell(setting.line, format!("{shown}: {why}")),
            }
            continue;
        }
        let why = ELSEWHERE.iter().find(|(keys, _)| keys.contains(&&*setting.key)).map(|(_, why)| *why);
        let of_containers = || {
            by_key(&setting.key)
                .map(|_| "what holds for all containers is a profile that `defaultProfile` names")
        };
        let why = why.or_else(of_containers).unwrap_or("the key is not known");
        building.tell(setting.line, format!("{shown}: {why}"));
    }
    building.finish()
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn each_key_is_kept_or_told() {
        let text = "# global\nVIRTUOZZO=yes\nDEF_OSTEMPLATE=\"debian-12\"\nVE_PARALLEL=4\nVE_STOP_MODE=suspend\nLOCKDIR=/vz/lock\nNUMPROC=\"5\"\n\
                    MYSTERY=\"1\"\nEMPTY=\"\"\nSTOP_TIMEOUT=120\n";
        let is = host(text);
        assert_eq!(is.kept, ["DEF_OSTEMPLATE", "VE_PARALLEL", "VE_STOP_MODE"]);
        let lines: Vec<_> = is.residue.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 6, 7, 8, 10], "{:?}", is.residue);
        let read = vzd_schema::parse("f", is.text.as_bytes());
        assert!(
            read.diagnostics.is_empty() && is.text.contains("kind: Host"),
            "{}\n{:?}",
            is.text,
            read.diagnostics
        );
        assert!(
            is.text.contains("defaultTemplate: debian-12") && is.text.contains("startParallel: 4"),
            "{}",
            is.text
        );
        // What the format does not take is told.
        let is = host("VE_PARALLEL=\"many\"\n");
        assert!(is.kept.is_empty() && is.residue[0].1.contains("VE_PARALLEL"), "{is:?}");
    }
}
