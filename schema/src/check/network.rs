//! Interfaces and packet filters.

use super::Checker;
use crate::code::Code;
use crate::v1::{
    Cidr, IfName, Interface, Limit, Network, Ports, Protocol, Publish, Rate, RouteTarget, RoutingRule,
    Transport,
};
use std::collections::BTreeMap;

/// 0 and 4095 are reserved.
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

/// `RT_TABLE_UNSPEC`, and `RT_TABLE_LOCAL`, which is the kernel's own.
const NO_TABLES: [u32; 2] = [0, 255];

/// Places of the kernel's own rules: local, main and default.
const NO_PRIORITIES: [u32; 3] = [0, 32766, 32767];

/// Ports of one entry: each is an element of a map of the kernel's.
const MOST_PORTS: u32 = 1024;

/// Milliseconds that a packet filter is on trial, at least.
const LEAST_TRIAL: u64 = 1000;

const TWO_FAMILIES: &str = "no packet has a source of one family and a target of the other";

impl Checker<'_> {
    /// Interfaces are linked to something, once the host's bridge is that of those that name none.
    pub(super) fn links(&mut self, network: &Network) {
        for (index, interface) in network.interfaces.iter().enumerate() {
            if interface.bridge.is_none() && interface.parent.is_none() {
                let what = format!("the interface `{}` has no bridge and no parent", interface.name);
                let cure = "name the host's bridge or interface that it is linked to, or `network.bridge` for the host";
                let item = format!("spec.network.interfaces[{index}]");
                self.bad(Code::BadValue, format!("{what}: {cure}"), &item);
            }
        }
    }

    pub(super) fn network(&mut self, network: &Network) {
        let (mut names, mut gateways) = (BTreeMap::new(), BTreeMap::new());
        for (index, interface) in network.interfaces.iter().enumerate() {
            let item = format!("spec.network.interfaces[{index}]");
            let at = |field: &str| format!("{item}.{field}");
            if interface.bridge.is_some() && interface.parent.is_some() {
                self.conflict(
                    "an interface has a bridge or a parent, not both",
                    &at("parent"),
                    &at("bridge"),
                    "",
                );
            }
            if interface.parent.is_some() {
                self.macvlan(network, interface, &item);
            }
            if interface.name.as_str() == "venet0" || interface.name.as_str() == "lo" {
                let why = "that is the name of another interface of each VE";
                self.bad(Code::BadValue, format!("`{}`: {why}", interface.name), &at("name"));
            }
            for (i, gateway) in interface.gateway.iter().enumerate() {
                self.once(&mut gateways, gateway.0.is_ipv4(), format!("{item}.gateway[{i}]"), |v4| {
                    format!("a VE has one {} gateway", if *v4 { "IPv4" } else { "IPv6" })
                });
            }
            if let Some(vlan) = interface.vlan.filter(|vlan| !VLANS.contains(vlan)) {
                self.bad(Code::BadValue, format!("`{vlan}` is not a VLAN: give 1 to 4094"), &at("vlan"));
            }
            self.once(&mut names, &interface.name, at("name"), |name| {
                format!("two interfaces are called `{name}`")
            });
        }
        self.handed_over(network, &mut names);
        self.published(network);
        self.routes(network);
        self.rules(network);
        if let Some(firewall) = &network.firewall
            && firewall.nftables.is_some()
            && !firewall.rules.is_empty()
        {
            self.conflict(
                "a firewall is rules or an nftables text, not both",
                "spec.network.firewall.nftables",
                "spec.network.firewall.rules",
                "",
            );
        }
        let confirm = network.firewall.as_ref().and_then(|firewall| firewall.confirm);
        if confirm.is_some_and(|confirm| confirm.millis() < LEAST_TRIAL) {
            let why = "in less than a second nothing is found out about a packet filter: give `30s`";
            self.bad(Code::BadValue, why, "spec.network.firewall.confirm");
        }
        let rules = network.firewall.iter().flat_map(|firewall| &firewall.rules);
        for (index, rule) in rules.enumerate() {
            let item = format!("spec.network.firewall.rules[{index}]");
            if rule.protocol == Some(Protocol::Icmp) && !rule.ports.is_empty() {
                self.conflict("ICMP has no ports", &format!("{item}.ports"), &format!("{item}.protocol"), "");
            }
            let all = [("from", &rule.from), ("to", &rule.to)];
            for (field, list) in all {
                for (i, one) in list.iter().enumerate() {
                    self.is_network(one, &format!("{item}.{field}[{i}]"));
                }
            }
            let has = |list: &[Cidr], v4: bool| list.iter().any(|one| one.address().is_ipv4() == v4);
            let both = |v4: bool| {
                (rule.from.is_empty() || has(&rule.from, v4)) && (rule.to.is_empty() || has(&rule.to, v4))
            };
            if !both(true) && !both(false) {
                self.conflict(TWO_FAMILIES, &format!("{item}.to"), &format!("{item}.from"), "");
            }
        }
    }

    fn is_network(&mut self, one: &Cidr, field: &str) {
        if !one.is_network() {
            let why = format!("`{one}` is no network: its address has bits set beyond the prefix");
            self.bad(Code::BadValue, why, field);
        }
    }

    fn handed_over<'n>(&mut self, network: &'n Network, names: &mut BTreeMap<&'n IfName, String>) {
        let mut devices = BTreeMap::new();
        for (index, device) in network.devices.iter().enumerate() {
            let item = format!("spec.network.devices[{index}]");
            let at = |field: &str| format!("{item}.{field}");
            let (name, field) = match &device.rename {
                Some(name) => (name, at("rename")),
                None => (&device.name, at("name")),
            };
            if name.as_str() == "venet0" || name.as_str() == "lo" {
                let why = "that is the name of another interface of each VE";
                self.bad(Code::BadValue, format!("`{name}`: {why}"), &field);
            }
            self.once(names, name, field, |name| format!("two interfaces are called `{name}`"));
            let twice = |name: &&IfName| format!("the host's interface `{name}` is given twice");
            self.once(&mut devices, &device.name, at("name"), twice);
        }
        if !network.devices.is_empty() {
            self.no_rate(network, "what goes over an interface of its own", "spec.network.devices");
        }
    }

    fn published(&mut self, network: &Network) {
        let has = |v4: bool| network.addresses.iter().any(|one| one.address().is_ipv4() == v4);
        let mut ports = BTreeMap::new();
        for (index, publish) in network.publish.iter().enumerate() {
            let item = format!("spec.network.publish[{index}]");
            let at = |field: &str| format!("{item}.{field}");
            let Publish { host, ve, protocol, address } = publish;
            if network.addresses.is_empty() {
                let why = "a port leads to a routed address, and the VE has none: give `addresses`";
                self.bad(Code::BadValue, why, &item);
            } else if let Some(address) = address.filter(|address| !has(address.0.is_ipv4())) {
                let why = format!("the VE has no routed address of the family of `{address}`");
                self.bad(Code::BadValue, why, &at("address"));
            }
            if host.count() > MOST_PORTS {
                let why = format!("`{host}` are {} ports: give at most {MOST_PORTS} in one", host.count());
                self.bad(Code::BadValue, why, &at("host"));
                continue;
            }
            if let Some(ve) = ve.filter(|ve| ve.count() != host.count()) {
                let last = u32::from(ve.first()) + host.count() - 1;
                let cure = match u16::try_from(last).ok().and_then(|last| Ports::new(ve.first(), last)) {
                    Some(ports) => format!("`ve: {ports}`"),
                    None => "another range".to_owned(),
                };
                let why = format!("`{ve}` are not as many ports as `{host}` ({}): give {cure}", host.count());
                self.bad(Code::BadValue, why, &at("ve"));
            }
            let key = |port| (*address, protocol.unwrap_or(Transport::Tcp), port);
            let again = host.each().find(|port| ports.contains_key(&key(*port)));
            match again {
                Some(port) => self.once(&mut ports, key(port), at("host"), |(_, _, port)| {
                    format!("the port `{port}` is given twice")
                }),
                None => ports.extend(host.each().map(|port| (key(port), at("host")))),
            }
        }
    }

    /// What the host's limits of bandwidth do not see is no VE's that has any.
    fn no_rate(&mut self, network: &Network, what: &str, other: &str) {
        let Rate { r#in, out } = &network.rate;
        for (field, limit) in [("in", r#in), ("out", out)] {
            if matches!(limit, Some(Limit::At(_))) {
                let why = format!("{what} passes the host's limits by");
                let cure = "take the rate out, or make the interface a port of a bridge";
                self.conflict(why, &format!("spec.network.rate.{field}"), other, cure);
            }
        }
    }

    /// A macvlan has no end on the host: what is done there for ports of bridges cannot be done for it.
    fn macvlan(&mut self, network: &Network, interface: &Interface, item: &str) {
        let parent = format!("{item}.parent");
        if interface.mac_filter == Some(true) {
            let why = "what a macvlan sends cannot be filtered by its hardware address";
            let cure = "take `macFilter` out, or make it a port of a bridge";
            self.conflict(why, &format!("{item}.macFilter"), &parent, cure);
        }
        if interface.host_name.is_some() {
            let why = "a macvlan has no name on the host: all of it is in the VE";
            self.conflict(why, &format!("{item}.hostName"), &parent, "");
        }
        if interface.vlan.is_some() {
            let why = "a macvlan is in the VLAN that its parent is in";
            let cure = "name an interface of the host that is in the VLAN as its parent, or make it a port of a bridge";
            self.conflict(why, &format!("{item}.vlan"), &parent, cure);
        }
        self.no_rate(network, "what goes over a macvlan", &parent);
        if interface.rate != Rate::default() {
            let why = "what goes over a macvlan passes the host's limits by";
            let cure = "take `rate` out, or make it a port of a bridge";
            self.conflict(why, &format!("{item}.rate"), &parent, cure);
        }
    }

    fn routes(&mut self, network: &Network) {
        let mut places = BTreeMap::new();
        for (index, route) in network.routes.iter().enumerate() {
            let item = format!("spec.network.routes[{index}]");
            if route.via.is_none() && route.dev.is_none() {
                let why = format!("the route to `{}` leads nowhere: give `via` or `dev`", route.to);
                self.bad(Code::BadValue, why, &item);
            }
            if let (RouteTarget::Network(to), Some(via)) = (route.to, route.via)
                && to.address().is_ipv4() != via.0.is_ipv4()
            {
                let why = format!("`{via}` is not of the family of `{to}`");
                self.bad(Code::BadValue, why, &format!("{item}.via"));
            }
            route.table.iter().for_each(|table| self.table(*table, &item));
            let v6 = route.via.is_some_and(|via| via.0.is_ipv6());
            let place = (route.to, v6, route.table.unwrap_or(254), route.metric.unwrap_or(0));
            self.once(&mut places, place, format!("{item}.to"), |(to, ..)| {
                format!("two routes to `{to}` have one metric and table")
            });
        }
    }

    fn table(&mut self, table: u32, item: &str) {
        if NO_TABLES.contains(&table) {
            let why =
                format!("`{table}` is no table for routes of one's own: give 1 to 254, or more than 255");
            self.bad(Code::BadValue, why, &format!("{item}.table"));
        }
    }

    fn rules(&mut self, network: &Network) {
        let mut places = BTreeMap::new();
        for (index, rule) in network.rules.iter().enumerate() {
            let item = format!("spec.network.rules[{index}]");
            let at = |field: &str| format!("{item}.{field}");
            let RoutingRule { priority, table, from, to, iif: _, fwmark: _ } = rule;
            self.table(*table, &item);
            if NO_PRIORITIES.contains(priority) {
                let why =
                    format!("`{priority}` is the place of a rule of the kernel's own: give another number");
                self.bad(Code::BadValue, why, &at("priority"));
            }
            for (field, one) in [("from", from), ("to", to)] {
                one.iter().for_each(|one| self.is_network(one, &at(field)));
            }
            let families = rule.families();
            if families.is_empty() {
                self.conflict(TWO_FAMILIES, &at("to"), &at("from"), "");
            }
            for v6 in families {
                self.once(&mut places, (v6, *priority), at("priority"), |(v6, priority)| {
                    format!("two rules for IPv{} have the priority `{priority}`", if *v6 { 6 } else { 4 })
                });
            }
        }
    }
}
