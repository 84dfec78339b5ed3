//! Which key says which field, and in which words. Pure.

use serde_json::Value;
use vzd_schema::v1::scalars::{Duration, Limit, Pages, Size};

use super::{Left, text};

type Said = Result<String, String>;

/// Says everything that there is a key for.
pub(super) fn take_all(left: &mut Left) {
    // The name of the file, what its profile has said is said, and whether it runs is no parameter of anything.
    for field in ["ctid", "profile", "state"] {
        left.take(field);
    }
    counters(left);
    left.say("memory.ram", "PHYSPAGES", pages);
    left.say("memory.swap", "SWAPPAGES", pages);
    left.say("memory.subgroups", "NUMMEMORYSUBGROUPS", plain);
    left.say("cpu.cpuunits", "CPUUNITS", plain);
    left.say("cpu.cpulimit", "CPULIMIT", |value| {
        Ok(none_is_0(&text(value)).trim_end_matches('%').to_owned())
    });
    left.say("cpu.cpus", "CPUS", plain);
    left.say("cpu.cpumask", "CPUMASK", plain);
    left.say("cpu.nodemask", "NODEMASK", plain);
    left.say("disk.diskspace", "DISKSPACE", |value| Ok(in_bytes(&text(value))));
    left.say("disk.diskinodes", "DISKINODES", plain);
    left.say("disk.quotatime", "QUOTATIME", seconds);
    left.say("disk.quotaugidlimit", "QUOTAUGIDLIMIT", plain);
    left.say("disk.mountOptions", "MOUNT_OPTS", |value| Ok(joined(value, ",")));
    left.say("io.ioprio", "IOPRIO", plain);
    left.say("io.iolimit", "IOLIMIT", |value| Ok(none_is_0(&text(value)).to_owned()));
    left.say("io.iopslimit", "IOPSLIMIT", |value| Ok(none_is_0(&text(value)).to_owned()));
    left.say("hostname", "HOSTNAME", plain);
    left.say("network.addresses", "IP_ADDRESS", |value| Ok(joined(value, " ")));
    left.say("network.nameservers", "NAMESERVER", |value| Ok(joined(value, " ")));
    left.say("network.searchDomains", "SEARCHDOMAIN", |value| Ok(joined(value, " ")));
    interfaces(left);
    items(left, "network.devices", "NETDEV", "name", " ", |item| match alone(item, &["name"]) {
        true => Ok(text(&item["name"])),
        false => Err("OpenVZ gives interfaces under their own names".to_owned()),
    });
    features(left);
    capabilities(left);
    devices(left);
    items(left, "mounts", "BINDMOUNT", "target", " ", mount);
    left.say("onBoot", "ONBOOT", |value| Ok(if *value == true { "yes" } else { "no" }.to_owned()));
    left.say("bootOrder", "BOOTORDER", plain);
    left.say("description", "DESCRIPTION", plain);
    left.say("stopTimeout", "STOP_TIMEOUT", seconds);
    left.say("template", "OSTEMPLATE", |value| match text(value) {
        name if name.contains([':', '/']) => Err("OpenVZ knows templates by name alone".to_owned()),
        name => Ok(name),
    });
}

#[expect(clippy::unnecessary_wraps, reason = "one of several ways to say a value, of which others can fail")]
fn plain(value: &Value) -> Said {
    Ok(text(value))
}

fn none_is_0(text: &str) -> &str {
    if text == "unlimited" { "0" } else { text }
}

/// The texts of a list, or the word that stands for one.
fn joined(value: &Value, between: &str) -> String {
    value
        .as_array()
        .map_or_else(|| text(value), |items| items.iter().map(text).collect::<Vec<_>>().join(between))
}

/// A bare number would be KiB.
fn in_bytes(pair: &str) -> String {
    let part = |part: &str| match part.ends_with(|c: char| c.is_ascii_digit()) && part != "0" {
        true => format!("{part}B"),
        false => part.to_owned(),
    };
    pair.split(':').map(part).collect::<Vec<_>>().join(":")
}

fn seconds(value: &Value) -> Said {
    let duration: Duration = text(value).parse().map_err(|wrong| format!("{wrong}"))?;
    match duration.millis() % 1000 {
        0 => Ok((duration.millis() / 1000).to_string()),
        _ => Err("OpenVZ counts whole seconds".to_owned()),
    }
}

fn pages(value: &Value) -> Said {
    let limit: Limit<Size> = text(value).parse().map_err(|wrong| format!("{wrong}"))?;
    match limit {
        Limit::Unlimited => Ok("0:unlimited".to_owned()),
        Limit::At(size) if Pages::of(size).size() == size => Ok(format!("0:{}", Pages::of(size))),
        Limit::At(_) => Err("OpenVZ counts whole pages".to_owned()),
    }
}

/// The counters. RAM and swap are counters too, and said once.
fn counters(left: &mut Left) {
    const ALL: &[(&str, &str)] = &[
        ("kmemsize", "KMEMSIZE"),
        ("lockedpages", "LOCKEDPAGES"),
        ("privvmpages", "PRIVVMPAGES"),
        ("shmpages", "SHMPAGES"),
        ("numproc", "NUMPROC"),
        ("physpages", "PHYSPAGES"),
        ("vmguarpages", "VMGUARPAGES"),
        ("oomguarpages", "OOMGUARPAGES"),
        ("numtcpsock", "NUMTCPSOCK"),
        ("numflock", "NUMFLOCK"),
        ("numpty", "NUMPTY"),
        ("numsiginfo", "NUMSIGINFO"),
        ("tcpsndbuf", "TCPSNDBUF"),
        ("tcprcvbuf", "TCPRCVBUF"),
        ("othersockbuf", "OTHERSOCKBUF"),
        ("dgramrcvbuf", "DGRAMRCVBUF"),
        ("numothersock", "NUMOTHERSOCK"),
        ("dcachesize", "DCACHESIZE"),
        ("numfile", "NUMFILE"),
        ("numiptent", "NUMIPTENT"),
        ("swappages", "SWAPPAGES"),
    ];
    for (name, key) in ALL {
        left.say(&format!("beancounters.{name}"), key, plain);
    }
    for (counter, same) in [("PHYSPAGES", "memory.ram"), ("SWAPPAGES", "memory.swap")] {
        if left.conf.settings.iter().any(|(key, _)| *key == counter) {
            left.take(same);
        }
    }
}

/// Whether nothing but these is said of an item.
fn alone(item: &Value, known: &[&str]) -> bool {
    item.as_object()
        .is_some_and(|item| item.iter().all(|(key, value)| value.is_null() || known.contains(&key.as_str())))
}

/// Says the items of a list that can be said, and tells the others, each by what tells it from the others.
fn items(
    left: &mut Left,
    field: &str,
    key: &'static str,
    id: &str,
    between: &str,
    said: impl Fn(&Value) -> Said,
) {
    let Some(Value::Array(list)) = left.take(field) else { return };
    let mut all = Vec::new();
    for item in &list {
        let one = said(item).and_then(|one| match one.contains(['\n', '\r', '\0']) {
            true => Err("a line of a configuration cannot hold it".to_owned()),
            false => Ok(one),
        });
        match one {
            Ok(one) => all.push(one),
            Err(why) => left.tell(format!("spec.{field}[{}]", text(&item[id])), why),
        }
    }
    if !all.is_empty() {
        left.conf.settings.push((key, all.join(between)));
    }
}

fn interfaces(left: &mut Left) {
    const FIELD: &str = "network.interfaces";
    const KEYS: [(&str, &str); 5] = [
        ("name", "ifname"),
        ("bridge", "bridge"),
        ("mac", "mac"),
        ("hostName", "host_ifname"),
        ("macFilter", "mac_filter"),
    ];
    // What of an interface that can be said cannot: told by itself.
    let said: Vec<Value> =
        left.spec.pointer("/network/interfaces").and_then(Value::as_array).cloned().unwrap_or_default();
    items(left, FIELD, "NETIF", "name", ";", |item| {
        if ["parent", "vlan"].iter().any(|field| !item[*field].is_null()) {
            return Err("OpenVZ has interfaces on bridges alone".to_owned());
        }
        let parts = KEYS.iter().filter(|(field, _)| !item[*field].is_null()).map(|(field, key)| {
            let value = match &item[*field] {
                Value::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
                other => text(other),
            };
            format!("{key}={value}")
        });
        Ok(parts.collect::<Vec<_>>().join(","))
    });
    for item in said.iter().filter(|item| item["parent"].is_null() && item["vlan"].is_null()) {
        let name = text(&item["name"]);
        let rest = item
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| KEYS.iter().all(|(known, _)| known != key));
        for (key, value) in rest {
            super::leaves(&format!("spec.{FIELD}[{name}].{key}"), value, &mut |field| {
                left.conf.residue.push((field.to_owned(), "OpenVZ has no parameter for it".to_owned()));
            });
        }
    }
}

/// What is off is off without a word.
fn features(left: &mut Left) {
    const KNOWN: &[&str] = &["bridge", "fuse", "ipgre", "ipip", "nfs", "nfsd", "ppp", "sit", "tun"];
    let taken: Vec<_> = KNOWN
        .iter()
        .filter(|name| left.take(&format!("security.features.{name}")) == Some(Value::Bool(true)))
        .collect();
    if left.spec.pointer("/security/features/nesting") == Some(&Value::Bool(false)) {
        left.take("security.features.nesting");
    }
    if !taken.is_empty() {
        let all: Vec<_> = taken.iter().map(|name| format!("{name}:on")).collect();
        left.conf.settings.push(("FEATURES", all.join(" ")));
    }
    if let Some(nesting) = left.take("security.features.nesting") {
        left.tell(
            "spec.security.features.nesting".to_owned(),
            format!("OpenVZ has no parameter for it ({nesting})"),
        );
    }
}

fn capabilities(left: &mut Left) {
    let mut all = Vec::new();
    for (field, word) in [("add", "on"), ("drop", "off")] {
        let list = left.take(&format!("security.capabilities.{field}"));
        for name in list.iter().flat_map(|list| list.as_array().into_iter().flatten()) {
            let name = text(name).to_lowercase();
            all.push(format!("{}:{word}", name.trim_start_matches("cap_")));
        }
    }
    if !all.is_empty() {
        left.conf.settings.push(("CAPABILITY", all.join(" ")));
    }
}

/// By number, or by the name of the node. Rights are to read and to write: there is no letter for making nodes.
fn devices(left: &mut Left) {
    let Some(Value::Array(list)) = left.take("devices") else { return };
    let rights = |item: &Value| {
        let rights = text(&item["permissions"]);
        (!rights.is_empty() && rights.bytes().all(|right| b"rw".contains(&right))).then_some(rights)
    };
    let (mut numbers, mut nodes) = (Vec::new(), Vec::new());
    for item in &list {
        let path = item["path"].as_str();
        let said = rights(item).and_then(|rights| match path {
            Some(path) if alone(item, &["path", "permissions"]) => {
                nodes.push(format!("{}:{rights}", path.strip_prefix("/dev/")?));
                Some(())
            }
            None if alone(item, &["type", "device", "permissions"]) => {
                let kind = if item["type"] == "block" { "b" } else { "c" };
                numbers.push(format!("{kind}:{}:{rights}", text(&item["device"]).replace('*', "all")));
                Some(())
            }
            _ => None,
        });
        if said.is_none() {
            let name = path.map_or_else(|| text(&item["device"]), str::to_owned);
            let why = "OpenVZ says a number or a name below /dev, with rights to read and write alone";
            left.tell(format!("spec.devices[{name}]"), why);
        }
    }
    for (key, all) in [("DEVICES", numbers), ("DEVNODES", nodes)] {
        if !all.is_empty() {
            left.conf.settings.push((key, all.join(" ")));
        }
    }
}

/// What a manifest has without a word, OpenVZ says.
fn mount(item: &Value) -> Said {
    let is = |field: &str, default: bool| item[field].as_bool().unwrap_or(default);
    let (source, target) = (text(&item["source"]), text(&item["target"]));
    if is("readOnly", false) || is("idmap", false) || !is("nosuid", true) || !is("nodev", true) {
        return Err("OpenVZ can say nosuid, nodev and noexec of a mount, and nothing else".to_owned());
    }
    if [&source, &target].iter().any(|path| path.contains([' ', '\t', ':', ','])) {
        return Err("OpenVZ has no way to write such a path".to_owned());
    }
    Ok(format!("{source}:{target},nosuid,nodev{}", if is("noexec", false) { ",noexec" } else { "" }))
}
