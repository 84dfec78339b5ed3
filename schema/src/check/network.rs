//! Interfaces and packet filters.

use super::Checker;
use crate::code::Code;
use crate::v1::Network;
use std::collections::BTreeMap;

/// 0 and 4095 are reserved.
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

impl Checker<'_> {
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
            if interface.bridge.is_none() && interface.parent.is_none() {
                let what = format!("the interface `{}` has no bridge", interface.name);
                self.bad(
                    Code::BadValue,
                    format!("{what}: name the host's bridge that it is a port of"),
                    &item,
                );
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
    }
}
