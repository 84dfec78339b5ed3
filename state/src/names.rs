//! Names of VEs that run, for other VEs of the host to ask: who is called what, at which addresses.
//!
//! Here is the table and what it says; what a message asks is [`answer`]'s, and sockets are the edge's. Nothing here
//! knows of time: whoever keeps the table takes a VE out of it when that stops.

mod answer;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub use answer::{LARGEST_QUERY, Room, Verdict, answers, fitted, judge, refusal, with_id};
pub use domain::base::iana::Rcode;

use crate::ids::VeUid;
use crate::ledger::Entry;
use crate::subsystem::network;

/// Where VEs ask, IPv4 and IPv6. The first is every VE's next router on its routed link.
pub const RESOLVER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd76, 0x7a64, 0, 0, 0, 0, 0, 0x53)),
];

/// Where a VE asks that is linked to something, but has no way to the others: at its own loopback, where a socket of the
/// host's is. Nobody else can be heard there, and nothing else of the host reached.
pub const WITHIN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 118, 122, 53));

/// Where a VE with this network asks; none if it is alone in the world.
pub fn resolver_of(network: &network::Desired) -> Option<IpAddr> {
    let within = network.has_links().then_some(WITHIN);
    resolver_by_way(network).or(within)
}

/// Whether a VE's file says that it asks at its own loopback.
pub fn asks_within(network: &network::Desired) -> bool {
    network.files.get(&network::File::ResolvConf).is_some_and(|wish| network::files::inherits(wish))
        && resolver_of(network) == Some(WITHIN)
}

/// Where a way of its leads: it has a routed address, and no other default route.
fn resolver_by_way(network: &network::Desired) -> Option<IpAddr> {
    let asks = |v6: bool| {
        let routed = network.addresses.iter().any(|one| one.address().is_ipv6() == v6);
        let gateways = network.interfaces.values().flat_map(|interface| &interface.gateways);
        routed && gateways.into_iter().all(|gateway| gateway.0.is_ipv6() != v6)
    };
    RESOLVER.into_iter().find(|resolver| asks(resolver.is_ipv6()))
}

/// A VE that runs: what it is called, and its addresses as they were last set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its number, which the host's end of its routed link is called by.
    pub ctid: u32,
    /// The name that no other VE has.
    name: String,
    /// What else it is called, which others may be as well: the first is told when its address is asked about.
    more: BTreeSet<String>,
    /// Addresses that it asks from.
    routed: BTreeSet<IpAddr>,
    /// All its addresses.
    addresses: BTreeSet<IpAddr>,
}

impl Named {
    /// As the ledger has it for the present run.
    pub fn of(entry: &Entry) -> Self {
        let network = entry.applied.network.as_deref();
        let mut more = BTreeSet::new();
        if let Some(is) = &entry.applied.namespaces {
            let hostname = is.hostname.to_ascii_lowercase();
            if !is.domainname.is_empty() && !hostname.contains('.') {
                more.insert(format!("{hostname}.{}", is.domainname.to_ascii_lowercase()));
            }
            more.insert(hostname);
        }
        let name = entry.name.to_string();
        more.retain(|other| *other != name && !other.is_empty());
        Self {
            ctid: entry.ctid.get(),
            name,
            more,
            routed: network.into_iter().flat_map(|is| &is.addresses).map(|one| one.address()).collect(),
            addresses: network.into_iter().flat_map(network::Desired::own_addresses).collect(),
        }
    }

    /// What its address leads back to: the longest of its names with a dot, else what its manifest calls it.
    fn canonical(&self) -> &str {
        self.more.iter().filter(|name| name.contains('.')).max_by_key(|name| name.len()).unwrap_or(&self.name)
    }
}

/// The names of all VEs that run.
#[derive(Debug, Default)]
pub struct Names {
    ves: BTreeMap<VeUid, Arc<Named>>,
    /// Each with whether it is the one that no other VE has.
    by_name: BTreeMap<String, Vec<(bool, Arc<Named>)>>,
    by_address: BTreeMap<IpAddr, Arc<Named>>,
}

impl Names {
    /// Puts a VE in the place of what was known of it; none takes it out.
    pub fn set(&mut self, uid: &VeUid, named: Option<Named>) {
        if self.ves.get(uid).map(|is| &**is) == named.as_ref() {
            return;
        }
        if let Some(was) = self.ves.remove(uid) {
            for name in was.more.iter().chain([&was.name]) {
                if let Some(all) = self.by_name.get_mut(name) {
                    all.retain(|(_, other)| !Arc::ptr_eq(other, &was));
                    if all.is_empty() {
                        self.by_name.remove(name);
                    }
                }
            }
            for address in &was.addresses {
                if self.by_address.get(address).is_some_and(|other| Arc::ptr_eq(other, &was)) {
                    self.by_address.remove(address);
                }
            }
        }
        if let Some(named) = named.map(Arc::new) {
            self.by_name.entry(named.name.clone()).or_default().push((true, named.clone()));
            for name in &named.more {
                self.by_name.entry(name.clone()).or_default().push((false, named.clone()));
            }
            for address in &named.addresses {
                self.by_address.insert(*address, named.clone());
            }
            self.ves.insert(uid.clone(), named);
        }
    }

    /// How many VEs there are.
    pub fn len(&self) -> usize {
        self.ves.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ves.is_empty()
    }

    /// The number of the VE that may ask from an address.
    pub fn asker(&self, from: IpAddr) -> Option<u32> {
        self.by_address.get(&from).filter(|named| named.routed.contains(&from)).map(|named| named.ctid)
    }

    /// The addresses behind a name in small letters. What several VEs are called besides their names is nobody's.
    fn addresses(&self, name: &str) -> Option<&BTreeSet<IpAddr>> {
        let all = self.by_name.get(name)?;
        let named = match all.iter().find(|(own, _)| *own) {
            Some((_, named)) => named,
            None if all.len() == 1 => &all.first()?.1,
            None => return None,
        };
        Some(&named.addresses)
    }

    /// What an address leads back to.
    fn name_at(&self, address: IpAddr) -> Option<&str> {
        self.by_address.get(&address).map(|named| named.canonical())
    }
}

#[cfg(test)]
mod tests {
    use vzd_schema::v1::Address;

    use super::*;

    #[test]
    fn a_ve_asks_where_its_way_out_leads() {
        let network = |addresses: &[&str], gateways: &[&str]| {
            let mut network = network::Desired {
                addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
                ..network::Desired::default()
            };
            let gateways: Vec<Address> = gateways.iter().map(|one| one.parse().unwrap()).collect();
            let interface: network::Interface = serde_json::from_value(serde_json::json!({
                "bridge": "br0", "addresses": [], "gateways": gateways, "macFilter": true
            }))
            .unwrap();
            network.interfaces.insert("eth0".to_owned(), interface);
            resolver_of(&network).map(|is| is.to_string())
        };
        let (v4, v6) = (Some("169.254.1.1".to_owned()), Some("fd76:7a64::53".to_owned()));
        assert_eq!(network(&["10.1.0.5", "fd00:1::5"], &[]), v4);
        assert_eq!(network(&["fd00:1::5"], &["192.0.2.1"]), v6);
        assert_eq!(network(&["10.1.0.5", "fd00:1::5"], &["192.0.2.1"]), v6);
        let within = Some("127.118.122.53".to_owned());
        assert_eq!(network(&["10.1.0.5"], &["192.0.2.1"]), within);
        assert_eq!(network(&[], &[]), within);
        assert_eq!(resolver_of(&network::Desired::default()), None);
    }
}
