//! The class that the schema says a change of a field has is the one that the planner finds.

use std::collections::BTreeSet;

use serde_json::Value;
use vzd_schema::{UpdateClass, update_class};
use vzd_state::disruption::Disruption;
use vzd_state::ids::VeUid;
use vzd_state::plan::Wish;

use crate::common::{apply, host, manifest};

const PAST: &str = "2020-01-01T00:00:00Z";

/// A field, a spec, and the spec with nothing changed but that field.
fn cases() -> Vec<(&'static str, String, String)> {
    let plain = "template: debian-12".to_owned();
    let with = |more: &str| format!("template: debian-12, {more}");
    let set = |field: &'static str, value: &str| {
        let name = field.strip_prefix("spec.").unwrap();
        let written = match name.split_once('.') {
            Some((group, name)) => format!("{group}: {{{name}: {value}}}"),
            None => format!("{name}: {value}"),
        };
        (field, plain.clone(), with(&written))
    };
    let swap = |field, was: &str, is: &str| (field, with(was), with(is));
    let mount = |field, more: &str| {
        let item = "source: /a, target: /b";
        swap(field, &format!("mounts: [{{{item}}}]"), &format!("mounts: [{{{item}, {more}}}]"))
    };
    let device = |field, more: &str| {
        let item = "path: /dev/x, type: char, device: '10:1'";
        swap(field, &format!("devices: [{{{item}}}]"), &format!("devices: [{{{item}, {more}}}]"))
    };
    let user = |field, more: &str| swap(field, "memory: {}", &format!("users: [{{name: a, {more}}}]"));
    let health =
        |field, more: &str| swap(field, "health: {exec: [/a]}", &format!("health: {{exec: [/a], {more}}}"));
    let interface = |field, was: &str, is: &str| {
        let of = |one: &str| format!("network: {{interfaces: [{{{one}}}]}}");
        swap(field, &of(was), &of(is))
    };
    let added = |field, more: &str| {
        interface(field, "name: eth0, bridge: br0", &format!("name: eth0, bridge: br0, {more}"))
    };
    let rule = |field, is: &str| {
        let of = |one: &str| format!("network: {{firewall: {{rules: [{{{one}}}]}}}}");
        swap(field, &of("action: drop, protocol: tcp"), &of(is))
    };
    let published = |field, is: &str| {
        let of = |one: &str| format!("network: {{addresses: [10.1.0.5], publish: [{{{one}}}]}}");
        swap(field, &of("host: 80, ve: 80"), &of(is))
    };
    let route = |field, is: &str| {
        let of = |one: &str| format!("network: {{routes: [{{{one}}}]}}");
        swap(field, &of("to: 10.7.0.0/16, via: 10.1.0.1"), &of(is))
    };
    let routed = |field, is: &str| {
        let of = |one: &str| format!("network: {{rules: [{{{one}}}]}}");
        swap(field, &of("priority: 7, table: 7, from: 10.0.0.0/8"), &of(is))
    };
    let security = |field, more: &str| (field, plain.clone(), with(&format!("security: {{{more}}}")));
    vec![
        swap("spec.ctid", "ctid: 200", "ctid: 201"),
        set("spec.profile", "basic"),
        set("spec.state", "paused"),
        set("spec.host", "b"),
        set("spec.description", "words"),
        set("spec.onBoot", "false"),
        set("spec.bootOrder", "7"),
        set("spec.stopTimeout", "7s"),
        set("spec.startTimeout", "7s"),
        set("spec.restartPolicy", "Never"),
        set("spec.updatePolicy", "Restart"),
        set("spec.deletionPolicy", "Retain"),
        set("spec.quarantineTTL", "1d"),
        ("spec.template", plain.clone(), "template: debian-13".to_owned()),
        set("spec.init", "[/bin/init]"),
        set("spec.hostname", "other"),
        set("spec.domainname", "lan"),
        set("spec.timezone", "Europe/Berlin"),
        set("spec.locale", "de_DE.UTF-8"),
        set("spec.cpu.cpuunits", "2000"),
        set("spec.cpu.cpulimit", "50%"),
        set("spec.cpu.cpus", "1"),
        set("spec.cpu.cpumask", "'0'"),
        set("spec.cpu.nodemask", "'1'"),
        set("spec.memory.ram", "64M"),
        set("spec.memory.swap", "64M"),
        set("spec.memory.guarantee", "64M"),
        set("spec.memory.subgroups", "64"),
        set("spec.io.ioprio", "7"),
        set("spec.io.iolimit", "1M"),
        set("spec.io.iopslimit", "100"),
        set("spec.beancounters.kmemsize", "100"),
        set("spec.beancounters.lockedpages", "100"),
        set("spec.beancounters.privvmpages", "100"),
        set("spec.beancounters.shmpages", "100"),
        set("spec.beancounters.numproc", "100"),
        set("spec.beancounters.vmguarpages", "'100:unlimited'"),
        set("spec.beancounters.oomguarpages", "'100:unlimited'"),
        set("spec.beancounters.numtcpsock", "100"),
        set("spec.beancounters.numflock", "100"),
        set("spec.beancounters.numpty", "100"),
        set("spec.beancounters.numsiginfo", "100"),
        set("spec.beancounters.tcpsndbuf", "200000"),
        set("spec.beancounters.tcprcvbuf", "200000"),
        set("spec.beancounters.othersockbuf", "200000"),
        set("spec.beancounters.dgramrcvbuf", "200000"),
        set("spec.beancounters.numothersock", "100"),
        set("spec.beancounters.dcachesize", "100"),
        set("spec.beancounters.numfile", "100"),
        set("spec.beancounters.numiptent", "100"),
        set("spec.beancounters.physpages", "'0:100'"),
        set("spec.beancounters.swappages", "'0:100'"),
        swap("spec.disk.diskspace", "disk: {diskspace: 1G}", "disk: {diskspace: 2G}"),
        swap("spec.disk.diskinodes", "disk: {diskinodes: 100}", "disk: {diskinodes: 50}"),
        swap("spec.disk.quotatime", "disk: {diskspace: 1G}", "disk: {diskspace: 1G, quotatime: 1d}"),
        swap(
            "spec.disk.quotaugidlimit",
            "disk: {backend: project}",
            "disk: {backend: project, quotaugidlimit: 10}",
        ),
        swap("spec.disk.mountOptions", "memory: {}", "disk: {mountOptions: [noatime]}"),
        swap("spec.disk.readOnly", "memory: {}", "disk: {readOnly: true}"),
        swap("spec.disk.backend", "memory: {}", "disk: {backend: image}"),
        swap(
            "spec.devices[].path",
            "devices: [{path: /dev/x, type: char, device: '10:1'}]",
            "devices: [{path: /dev/y, type: char, device: '10:1'}]",
        ),
        swap(
            "spec.devices[].type",
            "devices: [{path: /dev/x, type: char, device: '10:1'}]",
            "devices: [{path: /dev/x, type: block, device: '10:1'}]",
        ),
        swap(
            "spec.devices[].device",
            "devices: [{path: /dev/x, type: char, device: '10:1'}]",
            "devices: [{path: /dev/x, type: char, device: '10:2'}]",
        ),
        device("spec.devices[].permissions", "permissions: r"),
        device("spec.devices[].mode", "mode: '0640'"),
        device("spec.devices[].uid", "uid: 5"),
        device("spec.devices[].gid", "gid: 5"),
        swap(
            "spec.mounts[].source",
            "mounts: [{source: /a, target: /b}]",
            "mounts: [{source: /c, target: /b}]",
        ),
        swap(
            "spec.mounts[].target",
            "mounts: [{source: /a, target: /b}]",
            "mounts: [{source: /a, target: /c}]",
        ),
        mount("spec.mounts[].readOnly", "readOnly: true"),
        mount("spec.mounts[].nosuid", "nosuid: false"),
        mount("spec.mounts[].noexec", "noexec: true"),
        mount("spec.mounts[].nodev", "nodev: false"),
        mount("spec.mounts[].idmap", "idmap: true"),
        set("spec.network.addresses", "[10.1.0.5]"),
        set("spec.network.nameservers", "[10.1.0.1]"),
        set("spec.network.searchDomains", "[example.net]"),
        swap(
            "spec.network.hosts[].address",
            "network: {hosts: [{address: 10.1.0.1, names: [a]}]}",
            "network: {hosts: [{address: 10.1.0.2, names: [a]}]}",
        ),
        swap(
            "spec.network.hosts[].names",
            "network: {hosts: [{address: 10.1.0.1, names: [a]}]}",
            "network: {hosts: [{address: 10.1.0.1, names: [a, b]}]}",
        ),
        swap(
            "spec.network.rate.in",
            "network: {addresses: [10.1.0.5]}",
            "network: {addresses: [10.1.0.5], rate: {in: 10M}}",
        ),
        swap(
            "spec.network.rate.out",
            "network: {addresses: [10.1.0.5]}",
            "network: {addresses: [10.1.0.5], rate: {out: 10M}}",
        ),
        swap(
            "spec.network.firewall.policy",
            "network: {firewall: {policy: accept}}",
            "network: {firewall: {policy: drop}}",
        ),
        swap(
            "spec.network.firewall.nftables",
            "network: {firewall: {nftables: 'set a { type mark; }'}}",
            "network: {firewall: {nftables: 'set b { type mark; }'}}",
        ),
        swap(
            "spec.network.firewall.confirm",
            "network: {firewall: {policy: drop}}",
            "network: {firewall: {policy: drop, confirm: 30s}}",
        ),
        rule("spec.network.firewall.rules[].action", "action: accept, protocol: tcp"),
        rule("spec.network.firewall.rules[].direction", "action: drop, protocol: tcp, direction: out"),
        rule("spec.network.firewall.rules[].protocol", "action: drop, protocol: udp"),
        rule("spec.network.firewall.rules[].ports", "action: drop, protocol: tcp, ports: [7]"),
        rule("spec.network.firewall.rules[].from", "action: drop, protocol: tcp, from: [10.0.0.0/8]"),
        rule("spec.network.firewall.rules[].to", "action: drop, protocol: tcp, to: [10.0.0.0/8]"),
        route("spec.network.routes[].to", "to: 10.8.0.0/16, via: 10.1.0.1"),
        route("spec.network.routes[].via", "to: 10.7.0.0/16, via: 10.1.0.2"),
        route("spec.network.routes[].dev", "to: 10.7.0.0/16, via: 10.1.0.1, dev: venet0"),
        route("spec.network.routes[].metric", "to: 10.7.0.0/16, via: 10.1.0.1, metric: 7"),
        route("spec.network.routes[].table", "to: 10.7.0.0/16, via: 10.1.0.1, table: 7"),
        routed("spec.network.rules[].priority", "priority: 8, table: 7, from: 10.0.0.0/8"),
        routed("spec.network.rules[].table", "priority: 7, table: 8, from: 10.0.0.0/8"),
        routed("spec.network.rules[].from", "priority: 7, table: 7, from: 10.0.0.0/9"),
        routed("spec.network.rules[].to", "priority: 7, table: 7, from: 10.0.0.0/8, to: 10.9.0.0/16"),
        routed("spec.network.rules[].iif", "priority: 7, table: 7, from: 10.0.0.0/8, iif: eth0"),
        routed("spec.network.rules[].fwmark", "priority: 7, table: 7, from: 10.0.0.0/8, fwmark: 7"),
        set("spec.network.sysctls", "{net.ipv4.ip_forward: 1}"),
        interface("spec.network.interfaces[].name", "name: eth0, bridge: br0", "name: eth1, bridge: br0"),
        interface("spec.network.interfaces[].bridge", "name: eth0, bridge: br0", "name: eth0, bridge: br1"),
        interface("spec.network.interfaces[].parent", "name: eth0, parent: eno1", "name: eth0, parent: eno2"),
        added("spec.network.interfaces[].mac", "mac: '02:00:00:00:00:01'"),
        added("spec.network.interfaces[].hostName", "hostName: veth7"),
        added("spec.network.interfaces[].addresses", "addresses: [10.1.0.5/24]"),
        added("spec.network.interfaces[].gateway", "gateway: [10.1.0.1]"),
        added("spec.network.interfaces[].vlan", "vlan: 7"),
        added("spec.network.interfaces[].mtu", "mtu: 1400"),
        added("spec.network.interfaces[].macFilter", "macFilter: false"),
        added("spec.network.interfaces[].rate.in", "rate: {in: 10M}"),
        added("spec.network.interfaces[].rate.out", "rate: {out: 10M}"),
        swap(
            "spec.network.devices[].name",
            "network: {devices: [{name: eno3}]}",
            "network: {devices: [{name: eno4}]}",
        ),
        swap(
            "spec.network.devices[].rename",
            "network: {devices: [{name: eno3}]}",
            "network: {devices: [{name: eno3, rename: lan}]}",
        ),
        swap(
            "spec.network.masquerade",
            "network: {addresses: [10.1.0.5]}",
            "network: {addresses: [10.1.0.5], masquerade: true}",
        ),
        published("spec.network.publish[].host", "host: 81, ve: 80"),
        published("spec.network.publish[].ve", "host: 80, ve: 81"),
        published("spec.network.publish[].protocol", "host: 80, ve: 80, protocol: udp"),
        published("spec.network.publish[].address", "host: 80, ve: 80, address: 192.0.2.1"),
        security("spec.security.capabilities.add", "capabilities: {add: [SYS_TIME]}"),
        security("spec.security.capabilities.drop", "capabilities: {drop: [NET_RAW]}"),
        security("spec.security.features.fuse", "features: {fuse: true}"),
        security("spec.security.features.nesting", "features: {nesting: true}"),
        security("spec.security.features.tun", "features: {tun: true}"),
        security("spec.security.seccomp", "seccomp: /etc/seccomp.json"),
        swap(
            "spec.security.userNamespace.start",
            "security: {userNamespace: {start: 2000000000}}",
            "security: {userNamespace: {start: 2000100000}}",
        ),
        swap(
            "spec.security.userNamespace.size",
            "security: {userNamespace: {start: 2000000000}}",
            "security: {userNamespace: {start: 2000000000, size: 131072}}",
        ),
        set("spec.packages.present", "[nginx]"),
        swap("spec.packages.absent", "memory: {}", "packages: {absent: [telnetd]}"),
        set("spec.packages.upgrade", "all"),
        user("spec.users[].passwordHash", "passwordHash: '*'"),
        user("spec.users[].sshKeys", "sshKeys: [ssh-rsa AAAA]"),
        user("spec.users[].uid", "uid: 2000"),
        user("spec.users[].groups", "groups: [adm]"),
        swap("spec.users[].name", "users: [{name: a}]", "users: [{name: b}]"),
        swap("spec.health.exec", "health: {exec: [/a]}", "health: {exec: [/b]}"),
        swap("spec.health.tcp.port", "health: {tcp: {port: 80}}", "health: {tcp: {port: 81}}"),
        swap("spec.health.http.port", "health: {http: {port: 80}}", "health: {http: {port: 81}}"),
        swap("spec.health.http.path", "health: {http: {port: 80}}", "health: {http: {port: 80, path: /a}}"),
        health("spec.health.interval", "interval: 7s"),
        health("spec.health.timeout", "timeout: 7s"),
        health("spec.health.initialDelay", "initialDelay: 7s"),
        health("spec.health.successThreshold", "successThreshold: 7"),
        health("spec.health.failureThreshold", "failureThreshold: 7"),
        set("spec.dependsOn", "[db]"),
        set("spec.checkpoint.directory", "/var/checkpoints"),
        set("spec.checkpoint.tcpEstablished", "false"),
        set("spec.checkpoint.preDump", "true"),
        set("spec.checkpoint.compress", "zstd"),
        set("spec.checkpoint.keepRunning", "true"),
        swap(
            "spec.suspendReconcile.reason",
            &format!("suspendReconcile: {{reason: a, until: '{PAST}'}}"),
            &format!("suspendReconcile: {{reason: b, until: '{PAST}'}}"),
        ),
        swap(
            "spec.suspendReconcile.until",
            &format!("suspendReconcile: {{reason: a, until: '{PAST}'}}"),
            "suspendReconcile: {reason: a, until: '2021-01-01T00:00:00Z'}",
        ),
    ]
}

fn document(spec: &str) -> String {
    format!(
        "apiVersion: vzd/v1\nkind: Profile\nmetadata: {{name: basic}}\n---\n\
         apiVersion: vzd/v1\nkind: VE\nmetadata: {{name: ve}}\nspec: {{{spec}}}\n"
    )
}

#[test]
fn each_field_is_as_disruptive_as_the_schema_says() {
    for (field, was, is) in cases() {
        let class = match update_class(field) {
            Some(UpdateClass::Live) => Disruption::Live,
            Some(UpdateClass::Reattach) => Disruption::Reattach,
            Some(UpdateClass::Restart) => Disruption::Restart,
            Some(UpdateClass::Recreate) => Disruption::Recreate,
            None => panic!("{field} has no class"),
        };
        let (mut sim, uid) = (host(), VeUid::from_bits(1));
        apply(&mut sim, &uid, &manifest(&document(&was)));
        let want = manifest(&document(&is));
        let plan = sim.plan(&uid, &want.name, Wish::Want(&want));
        let found = plan.changes.iter().map(|change| change.disruption).max();
        assert_eq!(found, Some(class), "{field}:\n{plan}");
    }
}

#[test]
fn no_field_that_is_carried_out_is_left_out() {
    let schema = vzd_schema::json_schema();
    let mut fields = BTreeSet::new();
    leaves(&schema, &schema["$defs"]["Ve"]["properties"]["spec"], "spec", &mut fields);
    let tested: BTreeSet<_> = cases().into_iter().map(|(field, ..)| field.to_owned()).collect();
    assert_eq!(fields.symmetric_difference(&tested).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// The fields that hold a value, not other fields, and that are carried out.
fn leaves(schema: &Value, field: &Value, path: &str, found: &mut BTreeSet<String>) {
    if field.get("x-vzd-carried-out") == Some(&Value::Bool(false)) {
        return;
    }
    let (inner, list) = resolve(schema, field);
    match inner.get("properties").and_then(Value::as_object) {
        Some(properties) => {
            let list = if list { "[]" } else { "" };
            for (name, field) in properties {
                leaves(schema, field, &format!("{path}{list}.{name}"), found);
            }
        }
        None => drop(found.insert(path.to_owned())),
    }
}

/// What a field's type is, and whether the field is a list of it.
fn resolve<'s>(schema: &'s Value, field: &'s Value) -> (&'s Value, bool) {
    if let Some(reference) = field.get("$ref").and_then(Value::as_str) {
        return resolve(schema, schema.pointer(reference.trim_start_matches('#')).unwrap());
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        let mut choices = field.get(choice).and_then(Value::as_array).into_iter().flatten();
        if let Some(only) = choices.find(|one| one.get("$ref").is_some()) {
            return resolve(schema, only);
        }
    }
    match field.get("items") {
        Some(items) => (resolve(schema, items).0, true),
        None => (field, false),
    }
}
