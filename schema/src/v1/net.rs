//! The network of a VE.

use super::macros::{group, item, words};
use super::scalars::ScalarError;
use super::scalars::{
    Address, BitRate, Cidr, Duration, HostName, IfName, Limit, Mac, Mark, Ports, RouteTarget,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

group! {
    /// Network of a VE.
    pub struct Network {
        /// Routed addresses of `venet0`, v4 and v6; alone (/32, /128) unless a prefix is written.
        live addresses: Vec<Cidr>,
        /// Interfaces on bridges or on top of the host's interfaces.
        live interfaces: Vec<Interface>,
        /// Interfaces of the host that are moved into the VE, and given back when it stops.
        live devices: Vec<HostInterface>,
        /// Routes beyond those that follow from addresses and gateways.
        live routes: Vec<Route>,
        /// Which packets are looked up in which routing table.
        live rules: Vec<RoutingRule>,
        /// Name servers in /etc/resolv.conf, or `inherit` for the host's. Default: what the VE itself has there.
        live nameservers: Option<OrInherit<Address>>,
        /// Domains in which names are looked up, or `inherit` for the host's. Default: what the VE itself has.
        live search_domains: Option<OrInherit<HostName>>,
        /// Lines of /etc/hosts besides the VE's own.
        live hosts: Vec<HostsEntry>,
        /// Bandwidth of the VE as a whole.
        live rate: Rate,
        /// What the VE sends from its routed addresses to others than VEs leaves the host under the host's address.
        live masquerade: Option<bool> = false,
        /// Ports of the host that lead to ports of the VE's first routed addresses.
        live publish: Vec<Publish>,
        /// The VE's own packet filter.
        live firewall: Option<Firewall>,
        /// Kernel settings of the VE's network, such as `net.ipv4.ip_forward: 1`.
        live sysctls: BTreeMap<SysctlName, String>,
    }
}

item! {
    /// One interface of a VE, linked to a bridge or to an interface of the host.
    pub struct Interface {
        /// Its name in the VE.
        live name: IfName;
        /// The host's bridge it is a port of.
        live bridge: Option<IfName>,
        /// The host's interface it sits on, as a macvlan, instead of a bridge.
        reattach parent: Option<IfName>,
        /// The VLAN of its bridge that it is in; packets in the VE bear no tag. Default: the one that the bridge gives a new port.
        live vlan: Option<u16>,
        /// Its hardware address. Default: made from the VE's identity.
        reattach mac: Option<Mac>,
        /// Its name on the host, if it is on a bridge. Default: made from the ctid.
        reattach host_name: Option<IfName>,
        /// Its addresses, with prefix.
        live addresses: Vec<Cidr>,
        /// Where its default route leads.
        live gateway: Vec<Address>,
        /// Its largest packet.
        live mtu: Option<u32>,
        /// Drop packets that the VE sends from another hardware address. Of interfaces on bridges only.
        live mac_filter: Option<bool> = true,
        /// Its bandwidth, of what the VE has as a whole. Of interfaces on bridges only.
        live rate: Rate,
    }
}

item! {
    /// An interface of the host that a VE has for itself.
    pub struct HostInterface {
        /// Its name on the host.
        live name: IfName;
        /// Its name in the VE. Default: the same.
        live rename: Option<IfName>,
    }
}

item! {
    /// A route.
    pub struct Route {
        /// Where it leads: a network or `default`.
        live to: RouteTarget;
        /// The next router.
        live via: Option<Address>,
        /// The interface.
        live dev: Option<IfName>,
        /// The lower, the sooner used.
        live metric: Option<u32>,
        /// The routing table. Default: main.
        live table: Option<u32>,
    }
}

item! {
    /// A rule of policy routing: packets that match all it says are looked up in its table. One that names no address is
    /// of both families.
    pub struct RoutingRule {
        /// Its place among the rules: the lower, the sooner asked. The kernel has rules of its own at 0, 32766 (main) and 32767.
        live priority: u32,
        /// The routing table; main is 254.
        live table: u32;
        /// From which network. Default: any.
        live from: Option<Cidr>,
        /// To which network. Default: any.
        live to: Option<Cidr>,
        /// Over which interface they came into the VE; `lo` for what the VE sends. Default: any.
        live iif: Option<IfName>,
        /// The mark that the VE's packet filter gave them. Default: any.
        live fwmark: Option<Mark>,
    }
}

item! {
    /// A port of the host that leads to one of the VE, or a range of them to as many.
    pub struct Publish {
        /// The port on the host, or a range: `8000-8010`.
        live host: Ports;
        /// The port in the VE, or a range of as many. Default: the same.
        live ve: Option<Ports>,
        /// Its protocol.
        live protocol: Option<Transport> = Transport::Tcp,
        /// At which address of the host. Default: at each.
        live address: Option<Address>,
    }
}

item! {
    /// A line of /etc/hosts.
    pub struct HostsEntry {
        /// The address.
        live address: Address,
        /// Its names.
        live names: Vec<HostName>;
    }
}

group! {
    /// Bandwidth, in bits a second.
    pub struct Rate {
        /// Towards the VE.
        live r#in: Option<Limit<BitRate>> = "unlimited",
        /// From the VE.
        live out: Option<Limit<BitRate>> = "unlimited",
    }
}

group! {
    /// The packet filter of a VE: rules, or a text for nft(8).
    pub struct Firewall {
        /// What becomes of a packet to the VE that no rule matches. What belongs to a connection that was let through,
        /// loopback, and the neighbours of IPv6 pass in any case.
        live policy: Option<Verdict> = Verdict::Accept,
        /// Rules, in order; the first that matches decides.
        live rules: Vec<FirewallRule>,
        /// What stands between the braces of a table, in the language of nft(8), instead of rules.
        live nftables: Option<String>,
        /// A filter that is changed while the VE runs is on trial for so long: if the host or the VE's health probe does not reach
        /// the VE any more, the one of before is put back. Default: no trial.
        live confirm: Option<Duration>,
    }
}

item! {
    /// One rule of a packet filter.
    pub struct FirewallRule {
        /// What becomes of the packet.
        live action: Verdict;
        /// Which way packets go.
        live direction: Option<Direction> = Direction::In,
        /// Which protocol. Default: any.
        live protocol: Option<Protocol>,
        /// To which ports, of TCP and UDP. Default: any.
        live ports: Vec<Ports>,
        /// From which addresses. Default: any.
        live from: Vec<Cidr>,
        /// To which addresses. Default: any.
        live to: Vec<Cidr>,
    }
}

words! {
    /// What becomes of a packet.
    pub enum Verdict as "camelCase" {
        /// It passes.
        Accept,
        /// It vanishes.
        Drop,
        /// It is refused, and the sender told.
        Reject,
    }
}

words! {
    /// Which way a packet goes.
    pub enum Direction as "camelCase" {
        /// To the VE.
        In,
        /// From the VE.
        Out,
    }
}

words! {
    /// A protocol with ports.
    pub enum Transport as "camelCase" {
        /// TCP.
        Tcp,
        /// UDP.
        Udp,
    }
}

words! {
    /// A protocol that rules can tell apart.
    pub enum Protocol as "camelCase" {
        /// TCP.
        Tcp,
        /// UDP.
        Udp,
        /// ICMP, and ICMPv6.
        Icmp,
    }
}

impl RoutingRule {
    /// The families whose packets it is about, each by whether it is IPv6; none where its two networks are not of one.
    pub fn families(&self) -> Vec<bool> {
        let of = |one: &Option<Cidr>, v6: bool| one.is_none_or(|one| one.address().is_ipv6() == v6);
        [false, true].into_iter().filter(|v6| of(&self.from, *v6) && of(&self.to, *v6)).collect()
    }
}

/// A list of a VE's own, or the word `inherit` for the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrInherit<T> {
    /// What the host has.
    Inherit,
    /// These.
    Own(Vec<T>),
}

impl<T: Serialize> Serialize for OrInherit<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Inherit => serializer.serialize_str("inherit"),
            Self::Own(list) => list.serialize(serializer),
        }
    }
}

struct OrInheritVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OrInheritVisitor<T> {
    type Value = OrInherit<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or `inherit`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OrInherit<T>, E> {
        match text {
            "inherit" => Ok(OrInherit::Inherit),
            _ => Err(E::custom(ScalarError::not(
                text,
                "a list",
                "give a list, or `inherit` for what the host has",
            ))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OrInherit<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(OrInherit::Own(list))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrInherit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrInheritVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OrInherit<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}ListOrInherit", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "const": "inherit" }, { "type": "array", "items": generator.subschema_for::<T>() }]
        })
    }
}

super::scalars::text_name!(
    /// The name of a kernel setting of a network namespace.
    SysctlName,
    "the name of a network setting",
    "give one that begins with net. such as net.ipv4.ip_forward",
    |text| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        text.starts_with("net.") && !text.contains("..") && text.len() <= 128 && text.bytes().all(allowed)
    },
    { "type": "string", "pattern": "^net\\.[-_.A-Za-z0-9]+$" }
);
