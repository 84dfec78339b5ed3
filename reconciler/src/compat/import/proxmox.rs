//! A container's configuration of Proxmox VE (`/etc/pve/lxc/CTID.conf`), key by key; its raw lines are LXC's. Pure.

use serde_json::json;
use vzd_schema::edit::Value;
use vzd_schema::v1::scalars::{BitRate, Percent};

use super::building::{self, Building, Said};
use super::convert::Imported;
use super::lxc::{self, append};

const INTERFACES: &str = "spec.network.interfaces";

/// Of a container with that number, where its file says one; `name` is what it is to be called.
pub fn container(name: Option<&str>, ctid: Option<u32>, text: &str) -> Imported {
    let hostname = text
        .lines()
        .take_while(|line| !line.starts_with('['))
        .find_map(|line| line.strip_prefix("hostname:"));
    let number = ctid.map(|ctid| format!("ct{ctid}"));
    let own = hostname.map(|name| name.trim().split('.').next().unwrap_or_default());
    let mut building = Building::ve(name.or(own).or(number.as_deref()).unwrap_or("imported"));
    if let Some(ctid) = ctid
        && let Err(why) = building.try_put(|draft| {
            draft.set("spec.ctid", Value::word(ctid));
            Ok(())
        })
    {
        building.tell(1, format!("the number {ctid} is not kept: {why}"));
    }
    let (mut notes, mut raw, mut snapshot) = (Vec::new(), Vec::new(), false);
    for (at, line) in text.lines().enumerate() {
        let (number, line) = (at + 1, line.trim_end());
        if let Some(name) = line.strip_prefix('[') {
            let name = name.trim_end_matches(']');
            building.tell(
                number,
                format!("the snapshot `{name}` is not taken over: its lines say how the container was"),
            );
            snapshot = true;
        }
        if snapshot || line.is_empty() {
            continue;
        }
        if let Some(note) = line.strip_prefix('#') {
            notes.push(unescaped(note.trim()));
            continue;
        }
        let split = if line.starts_with("lxc.") { line.split_once([':', '=']) } else { line.split_once(':') };
        match split {
            Some((key, value)) if !key.trim().is_empty() => {
                let said = Said { line: number, key: key.trim(), value: value.trim() };
                if said.key.starts_with("lxc.") {
                    raw.push(said);
                } else {
                    one(&mut building, said);
                }
            }
            _ => building.tell(number, format!("`{line}` is no key: value")),
        }
    }
    lxc::take(&mut building, &raw);
    if !notes.is_empty() {
        let text = notes.join("\n");
        building.set(Said { line: 1, key: "#", value: &text }, "spec.description", Value::Text(text.clone()));
    }
    building.finish()
}

/// Notes are written as in addresses of pages.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match hex.filter(|_| *byte == b'%') {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn one(building: &mut Building, said: Said<'_>) {
    let numbered = |prefix: &str| said.key.strip_prefix(prefix).is_some_and(|at| at.parse::<u32>().is_ok());
    match said.key {
        "hostname" => building.set(said, "spec.hostname", Value::Text(said.value.to_owned())),
        "description" => building.set(said, "spec.description", Value::Text(unescaped(said.value))),
        "cores" => building.set_word(said, "spec.cpu.cpus"),
        "cpulimit" => match scaled(said.value, 10_000) {
            Some(0) => building.set(said, "spec.cpu.cpulimit", Value::word("unlimited")),
            Some(all) => building.set(said, "spec.cpu.cpulimit", Value::word(Percent::from_hundredths(all))),
            None => building.refuse(said, "it is no number of CPUs"),
        },
        // There 100 is the default, of which OpenVZ's is ten times as much.
        "cpuunits" => match said.value.parse::<u64>() {
            Ok(units) => building.set(said, "spec.cpu.cpuunits", Value::word(units.saturating_mul(10))),
            Err(_) => building.refuse(said, "it is no number"),
        },
        "memory" => building.set(said, "spec.memory.ram", Value::word(format!("{}M", said.value))),
        "swap" => building.set(said, "spec.memory.swap", Value::word(format!("{}M", said.value))),
        "nameserver" => {
            building.add_words(said, "spec.network.nameservers", said.value.split([' ', ',', ';']))
        }
        "searchdomain" => {
            building.add_words(said, "spec.network.searchDomains", said.value.split([' ', ',', ';']))
        }
        "onboot" => building.set_truth(said, "spec.onBoot"),
        "timezone" if said.value == "host" => {
            building.refuse(said, "say which one it is: the host's own is not followed")
        }
        "timezone" => building.set(said, "spec.timezone", Value::Text(said.value.to_owned())),
        "startup" | "features" if options(said.value).next().is_none() => {
            building.refuse(said, "it says nothing")
        }
        "startup" => startup(building, said),
        "features" => features(building, said),
        "rootfs" => {
            if let Some(size) = options(said.value).find_map(|(key, value)| (key == "size").then_some(value))
            {
                building.set(said, "spec.disk.diskspace", Value::word(size));
            }
            building
                .refuse(said, "its files stay where they are: mount it, and name it as `template: dir:PATH`");
        }
        "unprivileged" if said.value == "1" => {
            building.refuse(said, "no counterpart is needed: VEs always are")
        }
        _ if numbered("net") => interface(building, said),
        _ if numbered("mp") => mount(building, said),
        _ if numbered("dev") => device(building, said),
        key => building.refuse(said, why_not(key)),
    }
}

fn why_not(key: &str) -> &'static str {
    match key {
        "arch" | "ostype" => "no counterpart is needed: it is the template's",
        "unprivileged" => "VEs are always unprivileged: their files have the ids of a range",
        "hookscript" => "action scripts are run at such moments: see the guide of vzctl",
        "tty" | "console" | "cmode" => "no counterpart is needed: a VE has one console",
        "tags" => "`metadata.labels` group VEs",
        "parent" => "it names a snapshot",
        "lock" | "template" | "protection" | "debug" | "entrypoint" | "env" => "it has no counterpart",
        _ if key.starts_with("unused") => "a volume that is not used",
        _ => "the key is not known",
    }
}

/// `a=b,c=d`; what has no name stands for itself.
fn options(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value.split(',').filter(|part| !part.is_empty()).map(|part| part.split_once('=').unwrap_or(("", part)))
}

/// What is said of an option of a line.
fn part<'a>(said: Said<'a>, shown: &'a str, value: &'a str) -> Said<'a> {
    Said { key: shown, value, ..said }
}

/// A number with up to six digits behind its point, times `factor`, rounded down.
fn scaled(text: &str, factor: u64) -> Option<u64> {
    const MILLION: u64 = 1_000_000;
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let rest = rest.get(..rest.len().min(6)).filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))?;
    let millionths =
        whole.parse::<u64>().ok()?.checked_mul(MILLION)? + format!("{rest:0<6}").parse::<u64>().ok()?;
    u64::try_from(u128::from(millionths) * u128::from(factor) / u128::from(MILLION)).ok()
}

fn startup(building: &mut Building, said: Said<'_>) {
    for (key, value) in options(said.value) {
        let shown = format!("startup.{key}");
        let one = part(said, &shown, value);
        match (key, value.parse::<i32>()) {
            // Lower first there, higher first here.
            ("order" | "", Ok(order)) => {
                building.set(one, "spec.bootOrder", Value::word(order.saturating_neg()))
            }
            ("down", Ok(seconds)) => {
                building.set(one, "spec.stopTimeout", Value::word(format!("{seconds}s")))
            }
            ("up", Ok(_)) => building.refuse(one, "starts wait for others by `dependsOn`"),
            _ => building.refuse(one, "it has no counterpart"),
        }
    }
}

fn features(building: &mut Building, said: Said<'_>) {
    for (key, value) in options(said.value) {
        let shown = format!("features.{key}");
        let one = part(said, &shown, value);
        match key {
            "nesting" | "fuse" => building.set_truth(one, &format!("spec.security.features.{key}")),
            "keyctl" | "mknod" | "force_rw_sys" => building.refuse(one, "it has no counterpart"),
            "mount" => building.refuse(one, "file systems of the host are mounted by `mounts`"),
            _ => building.refuse(one, "the feature is not known"),
        }
    }
}

fn interface(building: &mut Building, said: Said<'_>) {
    let get = |wanted: &str| options(said.value).find(|(key, _)| *key == wanted).map(|(_, value)| value);
    let name = get("name").map_or_else(|| said.key.replace("net", "eth"), str::to_owned);
    let item = json!({ "name": name, "bridge": get("bridge") });
    if let Err(why) = building.try_put(|draft| building::push(draft, INTERFACES, item)) {
        return building.refuse(said, why);
    }
    building.keep(said.key);
    for (key, value) in options(said.value) {
        let shown = format!("{}.{key}", said.key);
        let one = part(said, &shown, value);
        let mut change =
            |field: &str, value| building.change_item(one, INTERFACES, &name, |item| item[field] = value);
        let number = value.parse::<u32>().map_or(json!(value), |number| json!(number));
        match (key, value) {
            ("name" | "bridge", _) | ("type", "veth") => {}
            ("ip" | "ip6", "dhcp" | "auto" | "manual") => {
                building
                    .refuse(one, "no counterpart is needed: what runs inside asks for its address itself");
            }
            ("hwaddr", _) => change("mac", json!(value)),
            ("mtu", _) => change("mtu", number),
            ("tag", _) => change("vlan", number),
            ("ip" | "ip6", _) => {
                building.change_item(one, INTERFACES, &name, |item| append(item, "addresses", value));
            }
            ("gw" | "gw6", _) => {
                building.change_item(one, INTERFACES, &name, |item| append(item, "gateway", value))
            }
            // Megabytes there, bits here.
            ("rate", _) => match scaled(value, 8_000_000) {
                Some(bits) => building.change_item(one, INTERFACES, &name, |item| {
                    let rate = BitRate::from_bits(bits).to_string();
                    item["rate"] = json!({ "in": rate, "out": rate });
                }),
                None => building.refuse(one, "it is no number"),
            },
            ("firewall", _) => building.refuse(one, "rules are in other files: `network.firewall`"),
            _ => building.refuse(one, "it has no counterpart"),
        }
    }
}

fn mount(building: &mut Building, said: Said<'_>) {
    let get = |wanted: &str| options(said.value).find(|(key, _)| *key == wanted).map(|(_, value)| value);
    let source = get("").or_else(|| get("volume")).unwrap_or_default();
    let Some(target) = get("mp").filter(|_| source.starts_with('/')) else {
        return building.refuse(said, "a volume has to be mounted on the host first: `mounts`");
    };
    let mut own: Vec<&str> = get("mountoptions").into_iter().flat_map(|all| all.split(';')).collect();
    if get("ro") == Some("1") {
        own.push("ro");
    }
    building.add_item(said, "spec.mounts", building::mount(source, target, own.iter().copied()));
    for (key, value) in options(said.value) {
        if !matches!(key, "" | "volume" | "mp" | "ro" | "mountoptions") {
            let shown = format!("{}.{key}", said.key);
            building.refuse(part(said, &shown, value), "it has no counterpart");
        }
    }
}

fn device(building: &mut Building, said: Said<'_>) {
    let mut item = json!({});
    for (key, value) in options(said.value) {
        let number = || value.parse::<u32>().map_or(json!(value), |number| json!(number));
        match key {
            "" | "path" => item["path"] = json!(value),
            "mode" => item["mode"] = json!(value),
            "uid" | "gid" => item[key] = number(),
            "deny-write" if value == "1" => item["permissions"] = json!("rm"),
            _ => building.refuse(part(said, key, value), "it has no counterpart"),
        }
    }
    building.add_item(said, "spec.devices", item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_of_proxmox_comes_over() {
        let is = container(
            None,
            Some(105),
            "#a note%3A 100%25\narch: amd64\ncores: 2\ncpulimit: 1.5\ncpuunits: 200\nfeatures: nesting=1,keyctl=1\nhostname: web\nmemory: 512\n\
             mp0: /srv/data,mp=/data,ro=1,backup=0\nmp1: local-lvm:vm-105-disk-1,mp=/var,size=4G\nnameserver: 10.0.0.1 10.0.0.2\n\
             net0: name=eth0,bridge=vmbr0,firewall=1,gw=10.0.0.1,hwaddr=BC:24:11:00:00:01,ip=10.0.0.5/24,ip6=auto,rate=2,tag=7,type=veth\n\
             onboot: 1\nostype: debian\nrootfs: local-lvm:vm-105-disk-0,size=8G\nstartup: order=3,down=60\nswap: 256\nunprivileged: 1\n\
             dev0: /dev/fuse,mode=0666\nlxc.cgroup2.pids.max: 300\n\n[before]\nmemory: 256\nsnaptime: 1700000000\n",
        );
        assert_eq!(
            is.text,
            "apiVersion: vzd/v1\nkind: VE\nmetadata:\n  name: web\nspec:\n  state: stopped\n  ctid: 105\n  cpu:\n    cpus: 2\n    \
             cpulimit: 150%\n    cpuunits: 2000\n  security:\n    features:\n      nesting: true\n  hostname: web\n  memory:\n    ram: 512M\n    \
             swap: 256M\n  mounts:\n    - {source: /srv/data, target: /data, readOnly: true, nosuid: false, nodev: false}\n  network:\n    \
             nameservers: [\"10.0.0.1\", \"10.0.0.2\"]\n    interfaces:\n      - {name: eth0, bridge: vmbr0, gateway: [\"10.0.0.1\"], \
             mac: BC:24:11:00:00:01, addresses: [10.0.0.5/24], rate: {in: 16M, out: 16M}, vlan: 7}\n  onBoot: true\n  disk:\n    diskspace: 8G\n  \
             bootOrder: -3\n  stopTimeout: 60s\n  devices:\n    - {path: /dev/fuse, mode: \"0666\"}\n  beancounters:\n    numproc: 300\n  \
             description: \"a note: 100%\"\n"
        );
        let told: Vec<_> = is.residue.iter().map(|(line, _)| *line).collect();
        assert_eq!(told, [2, 6, 9, 10, 12, 12, 14, 15, 18, 22], "{:#?}", is.residue);
    }

    #[test]
    fn a_number_that_is_none_here_is_told() {
        let is = container(None, Some(100), "");
        assert!(is.text.contains("name: ct100\n") && !is.text.contains("ctid"), "{}", is.text);
        assert_eq!(is.residue.len(), 1);
    }
}
