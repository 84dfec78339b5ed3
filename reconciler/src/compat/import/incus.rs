//! An instance of Incus or LXD, as `incus config show --expanded` prints it or `index.yaml` of its backup has it, key by key.
//! Pure.

use serde_json::json;
use vzd_schema::edit::Value;
use vzd_schema::v1::scalars::{Percent, Size};
use vzd_schema::yaml::Entry;
use vzd_schema::{Code, Node, NodeKind, parse};

use super::building::{self, Building, Said, push};
use super::convert::Imported;
use super::lxc::append;

const INTERFACES: &str = "spec.network.interfaces";

/// Of an instance: `name` is what it is to be called, `known` what it is called if nothing else says so.
///
/// # Errors
///
/// It is no YAML, or describes no container; why.
pub fn instance(name: Option<&str>, known: &str, text: &str) -> Result<Imported, String> {
    let parsed = parse("instance", text.as_bytes());
    // That it is no manifest is known.
    const OF_YAML: &[Code] =
        &[Code::DuplicateKey, Code::Syntax, Code::TooMuch, Code::Encoding, Code::YamlFeature];
    if let Some(problem) = parsed.diagnostics.iter().find(|is| OF_YAML.contains(&is.code)) {
        let line = problem.place().map_or(1, |span| span.start.line);
        return Err(format!("line {line}: {}", problem.message));
    }
    let root = &parsed.documents.first().ok_or("it is empty")?.tree;
    let (outer, inner) = found(root);
    let own = inner.entry("name").and_then(|entry| entry.value.text());
    let mut building = Building::ve(name.or(own).unwrap_or(known));
    if inner.entry("type").and_then(|entry| entry.value.text()) == Some("virtual-machine") {
        return Err("it is a virtual machine".to_owned());
    }
    if ["config", "devices", "expanded_config", "expanded_devices"]
        .iter()
        .all(|key| inner.entry(key).is_none())
    {
        return Err("it describes no instance: no `config` and no `devices`".to_owned());
    }
    for (level, entry) in outer {
        tell_all(&mut building, &level, entry, "of a backup only the instance is taken over");
    }
    let mut macs = Vec::new();
    for entry in inner.entries() {
        match &*entry.key.text {
            // What profiles say is in the expanded ones, and so is what is said twice.
            "config" if inner.entry("expanded_config").is_none() => config(&mut building, entry, &mut macs),
            "expanded_config" => config(&mut building, entry, &mut macs),
            "config" | "devices" | "expanded_devices" => {}
            _ => property(&mut building, entry, inner),
        }
    }
    for key in ["expanded_devices", "devices"] {
        if let Some(entry) =
            inner.entry(key).filter(|_| key != "devices" || inner.entry("expanded_devices").is_none())
        {
            devices(&mut building, entry, &mut macs);
        }
    }
    for said in macs {
        building.refuse(said, INTERNAL);
    }
    Ok(building.finish())
}

const INTERNAL: &str = "it is an internal note of Incus";

/// The instance, and what stands around it.
fn found(root: &Node) -> (Vec<(String, &Entry)>, &Node) {
    let (mut outer, mut at, mut level) = (Vec::new(), root, String::new());
    loop {
        // `config.instance` of an index, `instance` of a backup; LXD says `container`.
        let is_map = |entry: &&Entry| matches!(entry.value.kind, NodeKind::Map(_));
        let within = ["instance", "container"].iter().find_map(|key| at.entry(key)).filter(is_map);
        let index = at.entry("config").filter(is_map).filter(|config| {
            ["instance", "container"].iter().any(|key| config.value.entry(key).as_ref().is_some_and(is_map))
        });
        let Some(inner) = within.or(index) else { return (outer, at) };
        outer.extend(
            at.entries()
                .iter()
                .filter(|entry| entry.key.text != inner.key.text)
                .map(|entry| (level.clone(), entry)),
        );
        level = format!("{level}{}.", inner.key.text);
        at = &inner.value;
    }
}

fn line_of(entry: &Entry) -> usize {
    usize::try_from(entry.key.span.start.line).unwrap_or(usize::MAX)
}

/// A key that says something plain.
fn said<'a>(entry: &'a Entry, key: &'a str) -> Option<Said<'a>> {
    let value = match &entry.value.kind {
        NodeKind::Scalar { text, .. } => text,
        NodeKind::Null => "",
        NodeKind::Seq(_) | NodeKind::Map(_) => return None,
    };
    Some(Said { line: line_of(entry), key, value })
}

/// Tells each key, and each below it.
fn tell_all(building: &mut Building, above: &str, entry: &Entry, why: &str) {
    let key = format!("{above}{}", entry.key.text);
    match said(entry, &key) {
        Some(said) => building.refuse(said, why),
        None if entry.value.entries().is_empty() => building.tell(line_of(entry), format!("{key}: {why}")),
        None => {
            entry.value.entries().iter().for_each(|entry| tell_all(building, &format!("{key}."), entry, why))
        }
    }
}

fn property(building: &mut Building, entry: &Entry, inner: &Node) {
    let key = &*entry.key.text;
    let Some(said) = said(entry, key) else {
        let why = match key {
            "profiles" if inner.entry("expanded_config").is_some() => {
                "no counterpart is needed: what they say is said here"
            }
            "profiles" => "what they say is here only if it was printed with --expanded",
            _ => "it has no counterpart",
        };
        return tell_all(building, "", entry, why);
    };
    match (key, said.value) {
        ("name", _) => building.keep(key),
        ("description", "") | ("ephemeral" | "stateful", "false") | ("type", "container") => {
            building.keep(key)
        }
        ("description", text) => building.set(said, "spec.description", Value::Text(text.to_owned())),
        ("architecture", _) => building.refuse(said, "no counterpart is needed: it is the template's"),
        ("ephemeral", _) => building.refuse(said, "a VE goes when its manifest says so: `state: absent`"),
        _ => building.refuse(said, "it is a state, and no setting"),
    }
}

fn config<'a>(building: &mut Building, entry: &'a Entry, macs: &mut Vec<Said<'a>>) {
    for entry in entry.value.entries() {
        let key = &*entry.key.text;
        match said(entry, key) {
            // These belong to devices, of which more is known later.
            Some(said) if key.starts_with("volatile.") && key.ends_with(".hwaddr") => macs.push(said),
            Some(said) => option(building, said),
            None => tell_all(building, "config.", entry, "it is no text"),
        }
    }
}

fn option(building: &mut Building, said: Said<'_>) {
    match said.key {
        "boot.autostart" => building.set_truth(said, "spec.onBoot"),
        "boot.autostart.priority" => building.set_word(said, "spec.bootOrder"),
        "boot.host_shutdown_timeout" => {
            building.set(said, "spec.stopTimeout", Value::word(format!("{}s", said.value)))
        }
        "limits.cpu" if said.value.contains(['-', ',']) => building.set_word(said, "spec.cpu.cpumask"),
        "limits.cpu" => building.set_word(said, "spec.cpu.cpus"),
        "limits.cpu.allowance" => allowance(building, said),
        "limits.memory" => size(building, said, "spec.memory.ram"),
        "limits.memory.swap" => match said.value {
            "true" => building.refuse(said, "no counterpart is needed: `memory.swap` says how much"),
            "false" => building.set(said, "spec.memory.swap", Value::word(0)),
            _ => size(building, said, "spec.memory.swap"),
        },
        "limits.processes" => building.set_word(said, "spec.beancounters.numproc"),
        "security.nesting" => building.set_truth(said, "spec.security.features.nesting"),
        "security.privileged" if said.value == "false" => building.keep(said.key),
        key if key.starts_with("linux.sysctl.net.") => {
            let name = key.trim_start_matches("linux.sysctl.");
            building.set(said, &format!("spec.network.sysctls.{name}"), Value::Text(said.value.to_owned()));
        }
        key => building.refuse(said, why_not(key)),
    }
}

fn why_not(key: &str) -> &'static str {
    const REASONS: &[(&str, &str)] = &[
        ("image.", "it is a note about the image"),
        ("volatile.", INTERNAL),
        ("user.", "notes are `metadata.annotations`"),
        ("environment.", "the environment of an init is fixed"),
        ("cloud-init.", "no data are given to what runs inside"),
        ("snapshots.", "snapshots are taken by `vzd snapshot`"),
        ("security.idmap.", "no counterpart is needed: each VE gets a range of ids of its own"),
        ("security.privileged", "VEs are always unprivileged"),
        ("raw.lxc", "import it as a file of LXC, and put both together"),
        ("raw.", "it has no counterpart"),
        ("limits.", "such a limit has no counterpart"),
        ("linux.sysctl.", "only settings of the network are a VE's own"),
        ("linux.kernel_modules", "modules are the host's matter"),
    ];
    let found = REASONS.iter().find(|(known, _)| key.starts_with(known));
    found.map_or("it has no counterpart", |(_, why)| why)
}

/// `25ms/100ms` is a limit; `50%` a share among those that want more than there is.
fn allowance(building: &mut Building, said: Said<'_>) {
    let millis = |text: &str| text.trim().trim_end_matches("ms").parse::<u64>().ok();
    let percent = said.value.split_once('/').and_then(|(part, whole)| {
        let (part, whole) = (millis(part)?, millis(whole).filter(|whole| *whole > 0)?);
        Some(Percent::from_hundredths(part.checked_mul(10_000)? / whole).to_string())
    });
    match percent {
        Some(percent) => building.set(said, "spec.cpu.cpulimit", Value::word(percent)),
        None => building.refuse(said, "a share is `cpu.cpuunits`"),
    }
}

/// `512MiB`, `1GB`: bytes, whatever the unit.
fn bytes(text: &str) -> Option<u64> {
    const UNITS: &[(&str, u64)] = &[
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1000),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
        ("", 1),
    ];
    let (unit, factor) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
    text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(*factor)
}

fn size(building: &mut Building, said: Said<'_>, field: &str) {
    match bytes(said.value) {
        // As it would be written here.
        Some(bytes) => {
            building.set(said, field, Value::word(Size::from_bytes(bytes)));
        }
        None => building.refuse(said, "it is no size"),
    }
}

fn devices<'a>(building: &mut Building, entry: &'a Entry, macs: &mut Vec<Said<'a>>) {
    for device in entry.value.entries() {
        let name = &*device.key.text;
        let get = |key: &str| device.value.entry(key).and_then(|entry| entry.value.text());
        match get("type") {
            Some("nic") => {
                let own = format!("volatile.{name}.hwaddr");
                let mac = macs.iter().position(|said| said.key == own).map(|at| macs.remove(at));
                interface(building, device, mac);
            }
            Some("disk") => disk(building, device),
            Some(kind @ ("unix-char" | "unix-block")) => node(building, device, kind),
            _ => tell_all(building, "devices.", device, "devices of this type have no counterpart"),
        }
    }
}

/// Takes over what is said of a device: what `each` leaves (gives back) is told.
fn each_option(
    building: &mut Building,
    device: &Entry,
    known: &[&str],
    mut each: impl FnMut(&mut Building, &str, Said<'_>) -> bool,
) {
    for entry in device.value.entries() {
        let option = &*entry.key.text;
        let shown = format!("devices.{}.{option}", device.key.text);
        match said(entry, &shown) {
            Some(said) if known.contains(&option) => building.keep(said.key),
            Some(said) => {
                if !each(building, option, said) {
                    building.refuse(said, "it has no counterpart");
                }
            }
            None => tell_all(building, &format!("devices.{}.", device.key.text), entry, "it is no text"),
        }
    }
}

fn interface(building: &mut Building, device: &Entry, mac: Option<Said<'_>>) {
    let get = |key: &str| device.value.entry(key).and_then(|entry| entry.value.text());
    let name = get("name").unwrap_or(&device.key.text).to_owned();
    let item = match (get("nictype"), get("network"), get("parent")) {
        (None | Some("bridged"), Some(bridge), _) | (Some("bridged"), None, Some(bridge)) => {
            json!({ "name": name, "bridge": bridge })
        }
        (Some("macvlan"), _, Some(parent)) => json!({ "name": name, "parent": parent }),
        _ => return tell_all(building, "devices.", device, "interfaces of this type have no counterpart"),
    };
    if let Err(why) = building.try_put(|draft| push(draft, INTERFACES, item)) {
        return tell_all(building, "devices.", device, &why);
    }
    let known = ["type", "name", "nictype", "network", "parent"];
    each_option(building, device, &known, |building, option, said| {
        let number = || said.value.parse::<u32>().map_or(json!(said.value), |number| json!(number));
        let value = match option {
            "hwaddr" => ("mac", json!(said.value)),
            "host_name" => ("hostName", json!(said.value)),
            "mtu" => ("mtu", number()),
            "vlan" => ("vlan", number()),
            "limits.ingress" | "limits.egress" => {
                let way = if option == "limits.ingress" { "in" } else { "out" };
                let rate = said.value.trim_end_matches("bit").to_owned();
                building.change_item(said, INTERFACES, &name, |item| item["rate"][way] = json!(rate));
                return true;
            }
            "ipv4.gateway" | "ipv6.gateway" if said.value.parse::<std::net::IpAddr>().is_ok() => {
                building.change_item(said, INTERFACES, &name, |item| append(item, "gateway", said.value));
                return true;
            }
            _ => return false,
        };
        building.change_item(said, INTERFACES, &name, |item| item[value.0] = value.1);
        true
    });
    if let Some(said) = mac {
        building.change_item(said, INTERFACES, &name, |item| item["mac"] = json!(said.value));
    }
}

fn disk(building: &mut Building, device: &Entry) {
    let get = |key: &str| device.value.entry(key).and_then(|entry| entry.value.text());
    let is = |key: &str| get(key) == Some("true");
    if get("path") == Some("/") {
        return each_option(building, device, &["type", "path"], |building, option, said| {
            match option {
                "size" => size(building, said, "spec.disk.diskspace"),
                "pool" => building.refuse(
                    said,
                    "its files stay where they are: mount it, and name it as `template: dir:PATH`",
                ),
                _ => return false,
            }
            true
        });
    }
    let (Some(source), Some(target)) = (get("source").filter(|source| source.starts_with('/')), get("path"))
    else {
        return tell_all(
            building,
            "devices.",
            device,
            "a volume has to be mounted on the host first: `mounts`",
        );
    };
    let mut item = building::mount(source, target, if is("readonly") { "ro" } else { "" }.split(','));
    if is("shift") {
        item["idmap"] = json!(true);
    }
    if let Err(why) = building.try_put(|draft| push(draft, "spec.mounts", item)) {
        return tell_all(building, "devices.", device, &why);
    }
    each_option(building, device, &["type", "source", "path", "readonly", "shift"], |_, _, _| false);
}

fn node(building: &mut Building, device: &Entry, kind: &str) {
    let get = |key: &str| device.value.entry(key).and_then(|entry| entry.value.text());
    let mut item = json!({
        "path": get("path").or(get("source")),
        "type": if kind == "unix-block" { "block" } else { "char" },
        "mode": get("mode"),
    });
    for key in ["uid", "gid"] {
        item[key] =
            get(key).map_or(json!(null), |text| text.parse::<u32>().map_or(json!(text), |id| json!(id)));
    }
    if let (Some(major), Some(minor)) = (get("major"), get("minor")) {
        item["device"] = json!(format!("{major}:{minor}"));
    }
    if let Err(why) = building.try_put(|draft| push(draft, "spec.devices", item)) {
        return tell_all(building, "devices.", device, &why);
    }
    let known = ["type", "path", "source", "mode", "uid", "gid", "major", "minor"];
    each_option(building, device, &known, |_, _, _| false);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "architecture: x86_64\nconfig:\n  boot.autostart: \"true\"\n  image.os: Debian\n  limits.cpu: \"2\"\n  \
        limits.cpu.allowance: 25ms/100ms\n  limits.memory: 512MiB\n  security.nesting: \"true\"\n  volatile.eth0.hwaddr: 00:16:3e:00:00:01\n  \
        volatile.uuid: 1f\ndevices:\n  data:\n    path: /data\n    readonly: \"true\"\n    source: /srv/data\n    type: disk\n  eth0:\n    \
        name: eth0\n    network: incusbr0\n    type: nic\n    limits.ingress: 10Mbit\n  gpu: {type: gpu}\n  root:\n    path: /\n    pool: default\n    \
        size: 10GiB\n    type: disk\nephemeral: false\nprofiles:\n- default\nstateful: false\ndescription: a note\n";

    #[test]
    fn an_instance_comes_over() {
        let is = instance(Some("c1"), "x", SHOWN).unwrap();
        assert_eq!(
            is.text,
            "apiVersion: vzd/v1\nkind: VE\nmetadata:\n  name: c1\nspec:\n  state: stopped\n  onBoot: true\n  cpu:\n    cpus: 2\n    \
             cpulimit: 25%\n  memory:\n    ram: 512M\n  security:\n    features:\n      nesting: true\n  description: a note\n  mounts:\n    \
             - {source: /srv/data, target: /data, readOnly: true, nosuid: false, nodev: false}\n  network:\n    interfaces:\n      \
             - {name: eth0, bridge: incusbr0, rate: {in: 10M}, mac: \"00:16:3e:00:00:01\"}\n  disk:\n    diskspace: 10G\n"
        );
        let told: Vec<_> = is.residue.iter().map(|(line, _)| *line).collect();
        assert_eq!(told, [1, 4, 10, 22, 25, 29], "{:#?}", is.residue);
    }

    #[test]
    fn an_index_of_a_backup_holds_one() {
        let index = "name: c7\nbackend: dir\nconfig:\n  instance:\n    name: c7\n    type: container\n    config: {limits.processes: \"5\"}\n    \
            expanded_config: {limits.processes: \"7\"}\n    expanded_devices: {}\n    status: Stopped\n  pool: {name: default}\n";
        let is = instance(None, "x", index).unwrap();
        assert!(is.text.contains("name: c7\n") && is.text.contains("numproc: 7\n"), "{}", is.text);
        let told: Vec<_> = is.residue.iter().map(|(line, _)| *line).collect();
        assert_eq!(told, [1, 2, 10, 11], "{:#?}", is.residue);
        for (text, why) in [
            ("a: [", "line 1"),
            ("", "empty"),
            ("x: 1\n", "describes no instance"),
            ("config: {}\ntype: virtual-machine\n", "virtual machine"),
        ] {
            assert!(instance(None, "x", text).unwrap_err().contains(why), "{text}");
        }
    }
}
