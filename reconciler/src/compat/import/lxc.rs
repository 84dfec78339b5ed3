//! A configuration of LXC (`config` in a container's directory, and the raw lines of Proxmox), key by key. The names of
//! version 2 and 3 are taken as those of later ones. Pure.

use std::collections::BTreeMap;

use serde_json::json;
use vzd_schema::edit::Value;
use vzd_schema::v1::scalars::{Percent, Size};

use super::building::{self, Building, Said, push};
use super::convert::Imported;

const INTERFACES: &str = "spec.network.interfaces";

/// Of a container: `name` is what it is to be called, `known` what it is called if nothing else says so.
pub fn container(name: Option<&str>, known: &str, text: &str) -> Imported {
    let lines: Vec<_> = lines(text).collect();
    let own =
        lines.iter().filter_map(|line| line.as_ref().ok()).find(|said| modern(said.key) == "lxc.uts.name");
    let own = own.and_then(|said| said.value.split('.').next());
    let mut building = Building::ve(name.or(own).unwrap_or(known));
    let mut said = Vec::new();
    for line in lines {
        match line {
            Ok(one) => said.push(one),
            Err((line, text)) => building.tell(line, format!("`{text}` is no key = value")),
        }
    }
    take(&mut building, &said);
    building.finish()
}

/// Lines of `key = value`; what is none comes with its number.
fn lines(text: &str) -> impl Iterator<Item = Result<Said<'_>, (usize, &str)>> {
    text.lines().enumerate().filter_map(|(at, line)| {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return None;
        }
        Some(match trimmed.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok(Said { line: at + 1, key: key.trim(), value: value.trim().trim_matches('"') })
            }
            _ => Err((at + 1, trimmed)),
        })
    })
}

/// The present name of a key.
fn modern(key: &str) -> &str {
    const OLD: &[(&str, &str)] = &[
        ("lxc.utsname", "lxc.uts.name"),
        ("lxc.rootfs", "lxc.rootfs.path"),
        ("lxc.id_map", "lxc.idmap"),
        ("lxc.init_cmd", "lxc.init.cmd"),
        ("lxc.pts", "lxc.pty.max"),
        ("lxc.tty", "lxc.tty.max"),
        ("lxc.mount", "lxc.mount.fstab"),
        ("lxc.aa_profile", "lxc.apparmor.profile"),
        ("lxc.se_context", "lxc.selinux.context"),
        ("lxc.seccomp", "lxc.seccomp.profile"),
        ("lxc.console", "lxc.console.path"),
        ("lxc.haltsignal", "lxc.signal.halt"),
        ("lxc.rebootsignal", "lxc.signal.reboot"),
        ("lxc.stopsignal", "lxc.signal.stop"),
    ];
    OLD.iter().find(|(old, _)| *old == key).map_or(key, |(_, new)| new)
}

/// Takes over what these lines say.
pub(super) fn take(building: &mut Building, lines: &[Said<'_>]) {
    let shifted = lines.iter().any(|said| modern(said.key) == "lxc.idmap");
    let mut nets: BTreeMap<usize, Vec<Said<'_>>> = BTreeMap::new();
    let mut groups = Vec::new();
    // Of version 2, in which each type begins the next interface.
    let mut next = None;
    for said in lines {
        if said.key == "lxc.network.type" {
            next = Some(next.map_or(0, |at: usize| at + 1));
        }
        let old = said.key.strip_prefix("lxc.network.").and_then(|key| Some((next?, old_net_key(key))));
        let new = said.key.strip_prefix("lxc.net.").and_then(|rest| rest.split_once('.'));
        let of_net = old.or_else(|| new.and_then(|(at, key)| Some((at.parse().ok()?, key))));
        if let Some((at, key)) = of_net {
            nets.entry(at).or_default().push(Said { key, ..*said });
            continue;
        }
        match group_key(said.key) {
            Some(key) => groups.push((*said, key)),
            None => one(building, *said, shifted),
        }
    }
    for (at, net) in &nets {
        interface(building, *at, net);
    }
    limits(building, &groups);
}

fn old_net_key(key: &str) -> &str {
    match key {
        "ipv4" => "ipv4.address",
        "ipv6" => "ipv6.address",
        other => other,
    }
}

fn one(building: &mut Building, said: Said<'_>, shifted: bool) {
    let key = modern(said.key);
    match key {
        "lxc.uts.name" => building.set(said, "spec.hostname", Value::Text(said.value.to_owned())),
        "lxc.rootfs.path" => match said.value.strip_prefix("dir:").unwrap_or(said.value) {
            _ if shifted => {
                building.refuse(said, "its files have the ids of lxc.idmap: a template has plain ones")
            }
            path if path.starts_with('/') => {
                building.set(said, "spec.template", Value::Text(format!("dir:{path}")))
            }
            _ => building
                .refuse(said, "a root that is no directory has to be mounted first: `template: dir:PATH`"),
        },
        "lxc.mount.entry" => mount(building, said),
        "lxc.start.auto" => building.set_truth(said, "spec.onBoot"),
        // Lower first there, higher first here.
        "lxc.start.order" => match said.value.parse::<i32>() {
            Ok(order) => building.set(said, "spec.bootOrder", Value::word(order.saturating_neg())),
            Err(_) => building.refuse(said, "it is no number"),
        },
        "lxc.init.cmd" => building.add_words(said, "spec.init", said.value.split_whitespace()),
        "lxc.pty.max" => building.set_word(said, "spec.beancounters.numpty"),
        "lxc.cap.drop" if said.value.is_empty() => building.refuse(said, "it says nothing"),
        "lxc.cap.drop" => {
            for name in said.value.split_whitespace() {
                let one = Said { value: name, ..said };
                building.add_words(one, "spec.security.capabilities.drop", std::iter::once(name));
            }
        }
        _ if key.starts_with("lxc.sysctl.net.") => {
            let name = key.trim_start_matches("lxc.sysctl.");
            building.set(said, &format!("spec.network.sysctls.{name}"), Value::Text(said.value.to_owned()));
        }
        _ => building.refuse(said, why_not(key)),
    }
}

/// Why there is nothing like it.
fn why_not(key: &str) -> &'static str {
    const REASONS: &[(&str, &str)] = &[
        ("lxc.arch", "no counterpart is needed: it is the template's"),
        ("lxc.idmap", "no counterpart is needed: each VE gets a range of ids of its own"),
        ("lxc.mount.auto", "no counterpart is needed: each VE has /proc, /sys and control groups of its own"),
        ("lxc.mount.fstab", "that file is not read: its lines can be `lxc.mount.entry`"),
        ("lxc.include", "that file is not read: import it too, or put its lines here"),
        (
            "lxc.apparmor.",
            "VEs have no profile of AppArmor: namespaces, capabilities and a filter confine them",
        ),
        (
            "lxc.selinux.",
            "VEs have no context of SELinux: namespaces, capabilities and a filter confine them",
        ),
        ("lxc.seccomp.", "profiles are written otherwise: `security.seccomp`"),
        ("lxc.cap.keep", "say what is to be added or dropped: `security.capabilities`"),
        ("lxc.hook.", "action scripts are run at such moments: see the guide of vzctl"),
        ("lxc.environment", "the environment of an init is fixed"),
        ("lxc.log.", "no counterpart is needed: `vzd events` and the controller's log tell it"),
        ("lxc.tty.", "no counterpart is needed: a VE has one console, and as many terminals as it opens"),
        ("lxc.console.", "no counterpart is needed: `vzd console`"),
        ("lxc.autodev", "no counterpart is needed: each VE has a /dev of its own"),
        ("lxc.signal.", "no counterpart is needed: inits are asked in their own language"),
        ("lxc.start.delay", "starts wait for others by `dependsOn`"),
        ("lxc.group", "`metadata.labels` group VEs"),
        ("lxc.sysctl.", "only settings of the network are a VE's own"),
        ("lxc.prlimit.", "beancounters limit VEs as a whole"),
        ("lxc.rootfs.", "a root is mounted as `disk` says"),
    ];
    let found =
        REASONS.iter().find(|(known, _)| key == *known || known.ends_with('.') && key.starts_with(known));
    found.map_or("it has no counterpart", |(_, why)| why)
}

/// `source target bind options 0 0`, with the target below the root.
fn mount(building: &mut Building, said: Said<'_>) {
    const PLAIN: &[&str] =
        &["bind", "ro", "rw", "nosuid", "noexec", "nodev", "suid", "exec", "dev", "defaults"];
    let words: Vec<_> = said.value.split_whitespace().collect();
    let (Some(source), Some(target), Some(options)) = (words.first(), words.get(1), words.get(3)) else {
        return building.refuse(said, "it is no line of an fstab");
    };
    let options = options.split(',');
    if !options.clone().any(|option| option == "bind") || !source.starts_with('/') {
        return building.refuse(said, "only what is mounted on the host can be mounted in a VE (bind)");
    }
    // The last of these is what lxc makes the mount point by: vzd makes one anyway.
    let odd = options.clone().find(|option| !PLAIN.contains(option) && !option.starts_with("create="));
    if let Some(odd) = odd {
        building.tell(said.line, format!("{} = {}: `{odd}` has no counterpart", said.key, said.value));
    }
    let target = format!("/{}", target.trim_start_matches('/'));
    building.add_item(said, "spec.mounts", building::mount(source, &target, options));
}

/// One interface with all that is said of it.
fn interface(building: &mut Building, at: usize, lines: &[Said<'_>]) {
    let get = |key: &str| lines.iter().find(|said| said.key == key).map(|said| said.value);
    let numbered = |said: &Said<'_>| format!("lxc.net.{at}.{}", said.key);
    let name = get("name").map_or_else(|| format!("eth{at}"), str::to_owned);
    let link = get("link");
    let (refusal, first) = match get("type") {
        Some("veth") => (None, json!({ "name": name, "bridge": link })),
        Some("macvlan") => (None, json!({ "name": name, "parent": link })),
        Some("phys") => (None, json!({ "name": link, "rename": (link != Some(&name)).then_some(&name) })),
        Some("empty") => (Some("no counterpart is needed: a VE has a network of its own"), json!(null)),
        Some("none") => (Some("a VE never shares the host's network"), json!(null)),
        _ => (Some("interfaces of this type have no counterpart"), json!(null)),
    };
    let phys = get("type") == Some("phys");
    let list = if phys { "spec.network.devices" } else { INTERFACES };
    let put = match refusal {
        Some(why) => Err(why.to_owned()),
        None => building.try_put(|draft| push(draft, list, first)),
    };
    for said in lines {
        let key = numbered(said);
        let shown = Said { key: &key, ..*said };
        if let Err(why) = &put {
            building.refuse(shown, why);
            continue;
        }
        let mut change =
            |field: &str, value| building.change_item(shown, INTERFACES, &name, |item| item[field] = value);
        match said.key {
            "type" | "link" | "name" => building.keep(&key),
            "flags" => building.refuse(shown, "no counterpart is needed: interfaces are up"),
            _ if phys => building.refuse(shown, "an interface of the host's comes as it is"),
            "hwaddr" => change("mac", json!(said.value)),
            "mtu" => change("mtu", said.value.parse::<u32>().map_or(json!(said.value), |mtu| json!(mtu))),
            "veth.pair" => change("hostName", json!(said.value)),
            "ipv4.address" | "ipv6.address" => {
                // What follows an address is its broadcast address.
                let address = said.value.split_whitespace().next().unwrap_or_default().to_owned();
                building.change_item(shown, INTERFACES, &name, |item| append(item, "addresses", &address));
            }
            "ipv4.gateway" | "ipv6.gateway" if said.value != "auto" => {
                building.change_item(shown, INTERFACES, &name, |item| append(item, "gateway", said.value));
            }
            _ => building.refuse(shown, "it has no counterpart"),
        }
    }
}

/// Adds a text to a list of an item.
pub(super) fn append(item: &mut serde_json::Value, field: &str, text: &str) {
    match item[field].as_array_mut() {
        Some(list) => list.push(json!(text)),
        None => item[field] = json!([text]),
    }
}

/// The file of a control group, whichever version's.
fn group_key(key: &str) -> Option<&str> {
    key.strip_prefix("lxc.cgroup2.").or_else(|| key.strip_prefix("lxc.cgroup."))
}

fn limits(building: &mut Building, lines: &[(Said<'_>, &str)]) {
    let get = |name: &str| lines.iter().rev().find(|(_, key)| *key == name).map(|(said, _)| said.value);
    for (said, key) in lines {
        let said = *said;
        match *key {
            "memory.limit_in_bytes" | "memory.max" => {
                building.set(said, "spec.memory.ram", limit(said.value))
            }
            "memory.swap.max" => building.set(said, "spec.memory.swap", limit(said.value)),
            "memory.memsw.limit_in_bytes" => {
                let bytes = |text: &str| text.parse::<Size>().ok().map(|size| size.bytes());
                let swap = get("memory.limit_in_bytes").and_then(bytes).zip(bytes(said.value));
                match swap.and_then(|(ram, both)| both.checked_sub(ram)) {
                    Some(swap) => building.set(said, "spec.memory.swap", Value::word(swap)),
                    None => building.refuse(said, "swap is what it has above memory.limit_in_bytes"),
                }
            }
            "memory.low" | "memory.min" => building.set_word(said, "spec.memory.guarantee"),
            "cpu.shares" => cpuunits(building, said, |shares| shares.saturating_mul(1000).div_ceil(1024)),
            "cpu.weight" => cpuunits(building, said, |weight| weight.saturating_mul(10)),
            "cpu.max" => {
                let mut words = said.value.split_whitespace();
                quota(building, said, words.next(), words.next());
            }
            "cpu.cfs_quota_us" => quota(building, said, Some(said.value), get("cpu.cfs_period_us")),
            "cpu.cfs_period_us" if get("cpu.cfs_quota_us").is_some() => building.keep(said.key),
            "cpuset.cpus" => building.set_word(said, "spec.cpu.cpumask"),
            "cpuset.mems" => building.set_word(said, "spec.cpu.nodemask"),
            "pids.max" => building.set(said, "spec.beancounters.numproc", limit(said.value)),
            "devices.deny" => {
                building.refuse(said, "no counterpart is needed: what is not allowed is denied")
            }
            "devices.allow" => device(building, said),
            _ => building.refuse(said, "it has no counterpart"),
        }
    }
}

fn limit(text: &str) -> Value {
    Value::word(if matches!(text, "max" | "-1") { "unlimited" } else { text })
}

fn cpuunits(building: &mut Building, said: Said<'_>, units: impl Fn(u64) -> u64) {
    match said.value.parse() {
        Ok(value) => building.set(said, "spec.cpu.cpuunits", Value::word(units(value))),
        Err(_) => building.refuse(said, "it is no number"),
    }
}

/// So much of each period, as percent of one CPU.
fn quota(building: &mut Building, said: Said<'_>, quota: Option<&str>, period: Option<&str>) {
    let period = period.unwrap_or("100000").parse::<u64>().ok().filter(|period| *period > 0);
    let percent = match (quota, period) {
        (Some("max" | "-1"), _) => Some("unlimited".to_owned()),
        (Some(quota), Some(period)) => {
            // To a hundredth of a percent.
            let hundredths =
                quota.parse::<u64>().ok().and_then(|quota| Some(quota.checked_mul(10_000)? / period));
            hundredths.map(|all| Percent::from_hundredths(all).to_string())
        }
        _ => None,
    };
    match percent {
        Some(percent) => building.set(said, "spec.cpu.cpulimit", Value::word(percent)),
        None => building.refuse(said, "it is no quota and period"),
    }
}

/// `c 10:200 rwm`.
fn device(building: &mut Building, said: Said<'_>) {
    let words: Vec<_> = said.value.split_whitespace().collect();
    let [kind @ ("b" | "c"), number, rights] = words[..] else {
        return building.refuse(said, "it names no device: b or c, major:minor, and rights");
    };
    let kind = if kind == "b" { "block" } else { "char" };
    building.add_item(said, "spec.devices", json!({ "type": kind, "device": number, "permissions": rights }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_of_lxc_comes_over() {
        let is = container(
            None,
            "c1",
            "# made by lxc\nlxc.include = /usr/share/lxc/config/common.conf\nlxc.arch = amd64\nlxc.uts.name = web.example.net\n\
             lxc.rootfs.path = dir:/var/lib/lxc/c1/rootfs\nlxc.apparmor.profile = generated\nlxc.net.0.type = veth\nlxc.net.0.link = lxcbr0\n\
             lxc.net.0.flags = up\nlxc.net.0.hwaddr = 00:16:3e:01:02:03\nlxc.net.0.ipv4.address = 10.0.3.5/24 10.0.3.255\n\
             lxc.net.0.ipv4.gateway = 10.0.3.1\nlxc.mount.entry = /srv/data mnt/data none bind,ro,create=dir,optional 0 0\n\
             lxc.cgroup2.memory.max = 512M\nlxc.cgroup2.cpu.max = 50000 100000\nlxc.cgroup2.devices.allow = c 10:200 rwm\nlxc.start.auto = 1\n\
             lxc.cap.drop = sys_time nonsense\nnonsense\n",
        );
        assert_eq!(
            is.text,
            "apiVersion: vzd/v1\nkind: VE\nmetadata:\n  name: web\nspec:\n  state: stopped\n  hostname: web.example.net\n  \
             template: dir:/var/lib/lxc/c1/rootfs\n  mounts:\n    \
             - {source: /srv/data, target: /mnt/data, readOnly: true, nosuid: false, nodev: false}\n  onBoot: true\n  security:\n    \
             capabilities:\n      drop: [sys_time]\n  network:\n    interfaces:\n      \
             - {name: eth0, bridge: lxcbr0, mac: \"00:16:3e:01:02:03\", addresses: [10.0.3.5/24], gateway: [\"10.0.3.1\"]}\n  memory:\n    \
             ram: 512M\n  cpu:\n    cpulimit: 50%\n  devices:\n    - {type: char, device: \"10:200\", permissions: rwm}\n"
        );
        let told: Vec<_> = is.residue.iter().map(|(line, _)| *line).collect();
        assert_eq!(told, [2, 3, 6, 9, 13, 18, 19], "{:?}", is.residue);
    }

    #[test]
    fn names_of_version_2_are_known() {
        let is = container(
            None,
            "Old_One",
            "lxc.id_map = u 0 100000 65536\nlxc.rootfs = /var/lib/lxc/old/rootfs\nlxc.network.type = veth\nlxc.network.link = br0\n\
             lxc.network.type = phys\nlxc.network.link = eno3\nlxc.network.name = lan0\nlxc.cgroup.cpu.shares = 512\n\
             lxc.cgroup.memory.limit_in_bytes = 1G\nlxc.cgroup.memory.memsw.limit_in_bytes = 3G\n",
        );
        for said in [
            "name: old-one\n",
            "bridge: br0",
            "name: eno3",
            "rename: lan0",
            "cpuunits: 500",
            "swap: 2147483648",
        ] {
            assert!(is.text.contains(said), "{said}: {}", is.text);
        }
        let told: Vec<_> = is.residue.iter().map(|(line, _)| *line).collect();
        assert_eq!(told, [1, 1, 2]);
    }
}
