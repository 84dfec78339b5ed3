//! The network of a VE: the addresses of its routed link, `venet0`, its interfaces on bridges and interfaces of the
//! host, settings, and the names that it knows.
//!
//! A VE without an address has no such link, and costs nothing for it. What the VE's owner adds by itself
//! inside is left alone: it leads nowhere, since packets from it are dropped.

mod devices;
pub(crate) mod files;
pub(crate) mod firewall;
mod interfaces;
mod live;
pub(crate) mod rate;
mod routes;
mod rules;
mod sysctls;
pub(crate) mod translations;
pub(crate) mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vzd_schema::v1::{Cidr, Mac};

pub use devices::Devices;
pub use files::{File, Files, FilesSeen, Inherited, Part, Resolvers, join, split};
pub use firewall::{FirewallSeen, Table};
pub use interfaces::{Interface, MTU, On, Seen};
pub use live::Live;
pub use rate::{Direction, Rates, Shaped};
pub use routes::Route;
pub use rules::Rule;
pub use sysctls::canonical;
pub use translations::{Translation, Translations, word};
pub use trial::{Trial, in_force};

use super::{Changes, Cx, Mismatch, Subsystem, json};
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;
use crate::units::Millis;

/// What is wanted of the network; in the ledger, what was last set. None of the latter: there is no link.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Desired {
    /// Addresses of `venet0`, each with the prefix that the VE sees.
    #[serde(default)]
    pub addresses: BTreeSet<Cidr>,
    /// Other interfaces, by their name in the VE.
    #[serde(default)]
    pub interfaces: BTreeMap<String, Interface>,
    /// Interfaces of the host that it has for itself.
    #[serde(default, skip_serializing_if = "Devices::is_empty")]
    pub devices: Devices,
    /// Settings of the network namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Limits of bandwidth.
    #[serde(default, skip_serializing_if = "Rates::is_empty")]
    pub rates: Rates,
    /// What is in vzd's table of the packet filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<String>,
    /// For how long a changed packet filter is on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Millis>,
    /// Routes beyond those that follow from the rest.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub routes: BTreeSet<Route>,
    /// Which packets are looked up in which routing table.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub rules: BTreeSet<Rule>,
    /// Addresses and ports that the host puts in the place of others.
    #[serde(default, skip_serializing_if = "Translations::is_empty")]
    pub translations: Translations,
    /// Lines of its files that are vzd's.
    #[serde(default, skip_serializing_if = "Files::is_empty")]
    pub files: Files,
}

impl Desired {
    /// Whether the VE has a routed link.
    pub fn has_venet(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Whether it is linked to anything.
    pub fn has_links(&self) -> bool {
        self.has_venet() || !self.interfaces.is_empty()
    }

    /// Whether it has a link with an end on the host.
    pub fn has_pairs(&self) -> bool {
        self.has_venet() || self.interfaces.values().any(|interface| interface.bridge().is_some())
    }

    /// Its addresses, of all its interfaces.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let others = self.interfaces.values().flat_map(|interface| &interface.addresses);
        self.addresses.iter().chain(others).map(|one| one.address())
    }

    /// Whether its bandwidth is limited, as a whole or an interface's.
    pub fn has_rates(&self) -> bool {
        !self.rates.is_empty() || self.interfaces.values().any(|interface| !interface.rates.is_empty())
    }

    /// Why it keeps a VE from moving to another host.
    pub fn cannot_move(&self) -> Option<&'static str> {
        (!self.devices.is_empty()).then_some("it has an interface of this host's (spec.network.devices)")
    }

    /// Whether there is anything at all.
    pub fn is_any(&self) -> bool {
        let Self {
            addresses: _,
            interfaces: _,
            devices,
            sysctls,
            rates,
            firewall,
            confirm: _,
            routes,
            rules,
            translations,
            files,
        } = self;
        self.has_links()
            || !devices.is_empty()
            || !rates.is_empty()
            || firewall.is_some()
            || !sysctls.is_empty()
            || !routes.is_empty()
            || !rules.is_empty()
            || !translations.is_empty()
            || !files.is_empty()
    }
}

/// What is seen of the network; absent when the VE doesn't run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// The routed link: one without faults and addresses where none is wanted and none was made.
    #[serde(default)]
    pub venet: Reading<Venet>,
    /// Interfaces that are wanted or were made.
    #[serde(default)]
    pub interfaces: Reading<BTreeMap<String, Seen>>,
    /// Interfaces of the host that were handed over, those that are in it.
    #[serde(default)]
    pub devices: Reading<Devices>,
    /// Settings that are wanted or were set.
    #[serde(default)]
    pub sysctls: Reading<BTreeMap<String, String>>,
    /// Limits of bandwidth that are wanted or were set.
    #[serde(default)]
    pub rates: Reading<BTreeMap<Direction, Shaped>>,
    /// vzd's table of the packet filter, if one is wanted or was loaded.
    #[serde(default)]
    pub firewall: Reading<FirewallSeen>,
    /// vzd's routes.
    #[serde(default)]
    pub routes: Reading<BTreeSet<Route>>,
    /// vzd's rules.
    #[serde(default)]
    pub rules: Reading<BTreeSet<Rule>>,
    /// Addresses and ports that the host puts in the place of others for it.
    #[serde(default)]
    pub translations: Reading<Translations>,
    /// Files of which lines are wanted or were written.
    #[serde(default)]
    pub files: Reading<FilesSeen>,
}

/// The routed link as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Venet {
    /// Both its ends are there.
    pub there: bool,
    /// What of the link is not as it has to be, in words.
    pub faults: BTreeSet<String>,
    /// Addresses of which anything is there, on the host or in the VE, each with what of it is missing.
    pub addresses: BTreeMap<Cidr, BTreeSet<String>>,
    /// Its addresses that somebody else on the wire has too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taken: BTreeMap<IpAddr, Taken>,
}

/// Somebody on the wire who has an address of the VE's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// His hardware address.
    pub mac: Mac,
    /// The host's interface over which he answered.
    pub on: String,
}

impl Observed {
    /// What would be seen of a VE that runs and has no network.
    pub fn nothing() -> Self {
        Self {
            venet: Reading::Is(Venet::default()),
            interfaces: Reading::Is(BTreeMap::new()),
            devices: Reading::Is(Devices::new()),
            sysctls: Reading::Is(BTreeMap::new()),
            rates: Reading::Is(BTreeMap::new()),
            firewall: Reading::Is(FirewallSeen::default()),
            routes: Reading::Is(BTreeSet::new()),
            rules: Reading::Is(BTreeSet::new()),
            translations: Reading::Is(Translations::new()),
            files: Reading::Is(FilesSeen::default()),
        }
    }
}

/// The subsystem.
#[derive(Debug)]
pub struct Network;

const ADDRESSES: &str = "spec.network.addresses";

fn field(address: Cidr) -> String {
    format!("{ADDRESSES}[{address}]")
}

impl Subsystem for Network {
    type Desired = Desired;
    type Observed = Observed;
    type Live = Live;
    type Cold = Infallible;

    fn diff(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Changes<Live, Infallible> {
        let Desired {
            addresses: _,
            interfaces,
            devices,
            sysctls,
            rates,
            // Whether it is in force depends on its trial.
            firewall: _,
            confirm: _,
            routes,
            rules,
            translations,
            files,
        } = want;
        let Observed {
            venet,
            interfaces: interfaces_are,
            devices: devices_are,
            sysctls: sysctls_are,
            rates: rates_are,
            firewall: firewall_is,
            routes: routes_are,
            rules: rules_are,
            translations: translations_are,
            files: files_are,
        } = have;
        let mut changes = Changes::default();
        match venet {
            Reading::Unreadable(why) => changes.cannot_read(ADDRESSES, why),
            Reading::Absent => {}
            Reading::Is(venet) => diff_venet(&mut changes, want, venet, cx),
        }
        interfaces::diff(&mut changes, interfaces, interfaces_are, cx);
        devices::diff(&mut changes, devices, devices_are, cx);
        sysctls::diff(&mut changes, sysctls, sysctls_are, cx);
        rate::diff(&mut changes, rates, rates_are, cx);
        firewall::diff(&mut changes, want, firewall_is, cx);
        routes::diff(&mut changes, routes, routes_are, cx);
        rules::diff(&mut changes, rules, rules_are, cx);
        translations::diff(&mut changes, translations, translations_are, cx);
        files::diff(&mut changes, files, files_are, cx);
        changes
    }

    fn satisfied(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Vec<Mismatch> {
        let Desired {
            addresses,
            interfaces,
            devices,
            sysctls,
            rates,
            // Whether it is in force depends on its trial.
            firewall: _,
            confirm: _,
            routes,
            rules,
            translations,
            files,
        } = want;
        let Observed {
            venet,
            interfaces: interfaces_are,
            devices: devices_are,
            sysctls: sysctls_are,
            rates: rates_are,
            firewall: firewall_is,
            routes: routes_are,
            rules: rules_are,
            translations: translations_are,
            files: files_are,
        } = have;
        let mut wrong = Vec::new();
        let seen = venet.is();
        if want.has_venet() && !seen.is_some_and(|venet| venet.there && venet.faults.is_empty()) {
            wrong.push(Mismatch::new(ADDRESSES, "a link".into(), json(venet), Disruption::Live));
        }
        for address in addresses {
            let is = seen.and_then(|seen| seen.addresses.get(address));
            if !is.is_some_and(BTreeSet::is_empty) {
                wrong.push(Mismatch::new(field(*address), json(address), json(&is), Disruption::Live));
            }
        }
        wrong.extend(interfaces::satisfied(interfaces, interfaces_are, cx));
        wrong.extend(devices::satisfied(devices, devices_are));
        wrong.extend(sysctls::satisfied(sysctls, sysctls_are));
        wrong.extend(rate::satisfied(rates, rates_are));
        wrong.extend(firewall::satisfied(want, firewall_is, cx));
        wrong.extend(routes::satisfied(routes, routes_are));
        wrong.extend(rules::satisfied(rules, rules_are));
        wrong.extend(translations::satisfied(translations, translations_are));
        wrong.extend(files::satisfied(files, files_are));
        wrong
    }
}

/// Steps that make the routed link and its addresses as wanted.
fn diff_venet(changes: &mut Changes<Live, Infallible>, want: &Desired, venet: &Venet, cx: &Cx<'_>) {
    let addresses = &want.addresses;
    // That somebody else has one too is told, and nothing of this VE's to change.
    let Venet { there, faults, addresses: seen, taken: _ } = venet;
    let nothing = Desired::default();
    let applied = cx.entry.and_then(|entry| entry.applied.network.as_deref());
    let had = &applied.unwrap_or(&nothing).addresses;
    for address in had.difference(addresses).filter(|address| seen.contains_key(*address)) {
        let change = Change::new(field(*address), address.to_string().into(), Value::Null, Disruption::Live);
        let index = changes.field(change);
        changes.live.push((Live::RemoveAddress { address: *address }, vec![index]));
    }
    let missing = cx.caps.venet.missing();
    match (want.has_venet(), *there) {
        (false, true) if applied.is_some() => changes.live.push((Live::Detach, Vec::new())),
        (false, _) => {}
        (true, true) if faults.is_empty() => {}
        (true, true) => {
            let words: Vec<&str> = faults.iter().map(String::as_str).collect();
            let change =
                Change::new("spec.network.venet0", words.join(", ").into(), "whole".into(), Disruption::Live);
            let index = changes.field(change.because(Cause::Drift));
            changes.live.push((Live::Attach { mend: true }, vec![index]));
        }
        (true, false) if missing.is_some() => {}
        // What this carries out are the addresses.
        (true, false) => changes.live.push((Live::Attach { mend: false }, Vec::new())),
    }
    for address in addresses {
        let is = seen.get(address);
        if is.is_some_and(BTreeSet::is_empty) {
            continue;
        }
        let cause = if had.contains(address) { Cause::Drift } else { Cause::Spec };
        let shown = match is {
            Some(lacks) => {
                format!("without: {}", lacks.iter().cloned().collect::<Vec<_>>().join(", ")).into()
            }
            None => Value::Null,
        };
        let change = Change::new(field(*address), shown, address.to_string().into(), Disruption::Live)
            .because(cause)
            .unless(missing);
        let index = changes.field(change);
        if missing.is_none() {
            let step = Live::AddAddress { address: *address, mend: is.is_some() };
            changes.live.push((step, vec![index]));
        }
    }
}
