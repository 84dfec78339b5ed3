//! Where the fields of a spec are said, so that plans and errors can name a line.

use std::collections::BTreeMap;

use vzd_schema::VeSpec;
use vzd_schema::v1::Transport;

use super::Given;
use crate::desired::FieldSource;
use crate::subsystem::network::{Route, Rule, translations};

/// The fields whose places are kept: those that changes name.
const LOCATED: &[&str] = &[
    "metadata.labels",
    "metadata.annotations",
    "spec.ctid",
    "spec.state",
    "spec.host",
    "spec.description",
    "spec.onBoot",
    "spec.bootOrder",
    "spec.stopTimeout",
    "spec.startTimeout",
    "spec.restartPolicy",
    "spec.updatePolicy",
    "spec.deletionPolicy",
    "spec.quarantineTTL",
    "spec.template",
    "spec.init",
    "spec.hostname",
    "spec.domainname",
    "spec.timezone",
    "spec.locale",
    "spec.cpu.cpuunits",
    "spec.cpu.cpulimit",
    "spec.cpu.cpus",
    "spec.cpu.cpumask",
    "spec.cpu.nodemask",
    "spec.memory.ram",
    "spec.memory.swap",
    "spec.memory.guarantee",
    "spec.memory.subgroups",
    "spec.io.ioprio",
    "spec.io.iolimit",
    "spec.io.iopslimit",
    "spec.beancounters.kmemsize",
    "spec.beancounters.lockedpages",
    "spec.beancounters.privvmpages",
    "spec.beancounters.shmpages",
    "spec.beancounters.numproc",
    "spec.beancounters.physpages",
    "spec.beancounters.vmguarpages",
    "spec.beancounters.oomguarpages",
    "spec.beancounters.numtcpsock",
    "spec.beancounters.numflock",
    "spec.beancounters.numpty",
    "spec.beancounters.numsiginfo",
    "spec.beancounters.tcpsndbuf",
    "spec.beancounters.tcprcvbuf",
    "spec.beancounters.othersockbuf",
    "spec.beancounters.dgramrcvbuf",
    "spec.beancounters.numothersock",
    "spec.beancounters.dcachesize",
    "spec.beancounters.numfile",
    "spec.beancounters.numiptent",
    "spec.beancounters.swappages",
    "spec.disk.diskspace",
    "spec.disk.diskinodes",
    "spec.disk.quotatime",
    "spec.disk.backend",
    "spec.disk.readOnly",
    "spec.disk.mountOptions",
    "spec.devices",
    "spec.network.addresses",
    "spec.network.interfaces",
    "spec.network.devices",
    "spec.network.sysctls",
    "spec.network.rate",
    "spec.network.rate.in",
    "spec.network.rate.out",
    "spec.network.masquerade",
    "spec.network.publish",
    "spec.network.firewall",
    "spec.network.firewall.confirm",
    "spec.network.routes",
    "spec.network.rules",
    "spec.network.nameservers",
    "spec.network.searchDomains",
    "spec.network.hosts",
    "spec.mounts",
    "spec.users",
    "spec.packages.present",
    "spec.packages.absent",
    "spec.packages.upgrade",
    "spec.security.capabilities",
    "spec.security.features",
    "spec.security.seccomp",
    "spec.security.userNamespace",
    "spec.health",
    "spec.dependsOn",
    "spec.suspendReconcile",
    "spec.checkpoint.directory",
    "spec.checkpoint.tcpEstablished",
    "spec.checkpoint.keepRunning",
];

/// List items are known by what they stand for (`spec.mounts[/data]`), not by their number.
pub(super) fn locate(spec: &VeSpec, given: &Given<'_>) -> BTreeMap<String, FieldSource> {
    let named = LOCATED.iter().map(|path| ((*path).to_owned(), (*path).to_owned()));
    let mounts =
        spec.mounts.iter().enumerate().map(|(i, mount)| {
            (format!("spec.mounts[{i}]"), format!("spec.mounts[{}]", mount.target.as_str()))
        });
    let devices = spec.devices.iter().enumerate().filter_map(|(i, device)| {
        let path = device.path.as_ref()?;
        Some((format!("spec.devices[{i}]"), format!("spec.devices[{}]", path.as_str())))
    });
    let addresses = spec.network.addresses.iter().enumerate();
    let addresses = addresses.map(|(i, address)| {
        (format!("spec.network.addresses[{i}]"), format!("spec.network.addresses[{address}]"))
    });
    let interfaces = spec.network.interfaces.iter().enumerate();
    let interfaces = interfaces.flat_map(|(i, interface)| {
        const FIELDS: [&str; 13] = [
            "",
            ".bridge",
            ".parent",
            ".vlan",
            ".mac",
            ".hostName",
            ".addresses",
            ".gateway",
            ".mtu",
            ".macFilter",
            ".rate",
            ".rate.in",
            ".rate.out",
        ];
        let (written, known) =
            (format!("spec.network.interfaces[{i}]"), format!("spec.network.interfaces[{}]", interface.name));
        FIELDS.map(|field| (format!("{written}{field}"), format!("{known}{field}")))
    });
    let handed = spec.network.devices.iter().enumerate();
    let handed = handed.map(|(i, device)| {
        (format!("spec.network.devices[{i}]"), format!("spec.network.devices[{}]", device.name))
    });
    let published = spec.network.publish.iter().enumerate().map(|(i, publish)| {
        let protocol = publish.protocol.unwrap_or(Transport::Tcp);
        (
            format!("spec.network.publish[{i}]"),
            translations::path(publish.address, protocol, &publish.host.to_string()),
        )
    });
    let routes = spec.network.routes.iter().enumerate();
    let routes = routes.map(|(i, route)| (format!("spec.network.routes[{i}]"), Route::lower(route).path()));
    let rules = spec.network.rules.iter().enumerate();
    let rules = rules.flat_map(|(i, rule)| {
        Rule::lower(rule).map(move |rule| (format!("spec.network.rules[{i}]"), rule.path()))
    });
    let users = spec.users.iter().enumerate();
    let users = users.map(|(i, user)| (format!("spec.users[{i}]"), format!("spec.users[{}]", user.name)));
    let mut places: BTreeMap<_, _> = named
        .chain(mounts)
        .chain(users)
        .chain(devices)
        .chain(addresses)
        .chain(interfaces)
        .chain(handed)
        .chain(published)
        .chain(routes)
        .chain(rules)
        .filter_map(|(written, known)| Some((known, given.place(&written)?)))
        .collect();
    // The page counters say the same as memory.
    for (counter, memory) in [("physpages", "ram"), ("swappages", "swap")] {
        if let Some(place) = places.get(&format!("spec.beancounters.{counter}")).cloned() {
            places.entry(format!("spec.memory.{memory}")).or_insert(place);
        }
    }
    places
}
