//! vzd's table of nftables on the host: addresses that leave under the host's own, and ports that lead to VEs.
//!
//! The chains are the same for any number of VEs; what differs are elements of sets and maps, each with the uid of the VE
//! that it is of. Tables of others are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::OnceLock;

use serde_json::Value;
use vzd_schema::v1::{Address, Transport};
use vzd_state::subsystem::network::{Translation, Translations, word};

use super::nft::{nft_of_host as nft, settle};
use crate::error::{SysError, SysResult};

/// What the table holds, by the uid of the VE.
pub type Content = BTreeMap<String, Translations>;

/// The table.
#[derive(Debug, Clone)]
pub struct Nat {
    /// Its name, in the family `inet`.
    name: String,
}

/// What is the same for all VEs. A connection of the host's own to a loopback address stays on the host.
const CHAINS: &str = "
set masquerade4 { type ipv4_addr; }
set masquerade6 { type ipv6_addr; }
map publish4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
map publish6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
map publish4_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
map publish6_at { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
chain publish {
  dnat ip to ip daddr . meta l4proto . th dport map @publish4_at
  dnat ip6 to ip6 daddr . meta l4proto . th dport map @publish6_at
  meta nfproto ipv4 dnat ip to meta l4proto . th dport map @publish4
  meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @publish6
}
chain prerouting {
  type nat hook prerouting priority -100; policy accept;
  fib daddr type local jump publish
}
chain output {
  type nat hook output priority -100; policy accept;
  ip daddr 127.0.0.0/8 accept
  ip6 daddr ::1 accept
  fib daddr type local jump publish
}
chain postrouting {
  type nat hook postrouting priority 100; policy accept;
  ip saddr @masquerade4 oifname != \"venet*\" masquerade
  ip6 saddr @masquerade6 oifname != \"venet*\" masquerade
}
";

impl Nat {
    /// Of the vzd whose control groups are below this one: each has a table of its own.
    pub fn new(cgroup_root: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let root: String = cgroup_root.trim_matches('/').chars().map(plain).collect();
        Nat { name: format!("vzd_nat_{root}") }
    }

    /// What the table holds; none if there is none, or if its chains are not vzd's. With it whether there is any.
    pub fn read(&self) -> SysResult<(Option<Content>, bool)> {
        let all = nft(&["-j", "list", "tables"], "")?;
        let ours =
            |item: &Value| item["table"]["family"] == "inet" && item["table"]["name"] == self.name.as_str();
        if !understand(&all)?["nftables"].as_array().into_iter().flatten().any(ours) {
            return Ok((None, false));
        }
        let mut listed = self.list()?;
        let content = content(&listed);
        strip(&mut listed);
        Ok(((listed == *self.chains()?).then_some(content), true))
    }

    fn list(&self) -> SysResult<Value> {
        understand(&nft(&["-j", "list", "table", "inet", &self.name], "")?)
    }

    /// What nft and the kernel make of the chains, tried once in a namespace that nobody has.
    fn chains(&self) -> SysResult<&'static Value> {
        static CHAINS_ARE: OnceLock<Value> = OnceLock::new();
        if let Some(known) = CHAINS_ARE.get() {
            return Ok(known);
        }
        let tried = super::in_new_namespace(|| {
            nft(&["-f", "-"], &self.made(&Content::new()))?;
            let mut listed = self.list()?;
            strip(&mut listed);
            Ok(listed)
        })?;
        Ok(CHAINS_ARE.get_or_init(|| tried))
    }

    /// The text that makes the table anew, with this in it.
    fn made(&self, content: &Content) -> String {
        let name = &self.name;
        let mut text =
            format!("table inet {name}\ndelete table inet {name}\ntable inet {name} {{{CHAINS}}}\n");
        for (owner, all) in content {
            all.iter().for_each(|one| self.element(&mut text, "add", one, Some(owner)));
        }
        text
    }

    /// Has a VE have these and no others, in one transaction; tells whether that changed anything. The last one takes
    /// the table away.
    pub fn set(&self, owner: &str, to: &Translations) -> SysResult<bool> {
        let (content, is_there) = self.read()?;
        let Some(mut content) = content else {
            if to.is_empty() && !is_there {
                return Ok(false);
            }
            // What others had in a table that somebody has changed is drift of theirs.
            let only = Content::from([(owner.to_owned(), to.clone())]);
            let text = if to.is_empty() { self.gone() } else { self.made(&only) };
            return nft(&["-f", "-"], &text).map(|_| true);
        };
        let had = content.remove(owner).unwrap_or_default();
        if had == *to && !to.is_empty() {
            return Ok(false);
        }
        if to.is_empty() && content.values().all(BTreeSet::is_empty) {
            return nft(&["-f", "-"], &self.gone()).map(|_| true);
        }
        let mut text = String::new();
        had.difference(to).for_each(|one| self.element(&mut text, "delete", one, None));
        for one in to.difference(&had) {
            // What another VE had there is that one's no more.
            let others = content.values().flatten().filter(|other| other.same_place(one));
            others.for_each(|other| self.element(&mut text, "delete", other, None));
            self.element(&mut text, "add", one, Some(owner));
        }
        if text.is_empty() {
            return Ok(false);
        }
        nft(&["-f", "-"], &text).map(|_| true)
    }

    fn gone(&self) -> String {
        format!("table inet {0}\ndelete table inet {0}\n", self.name)
    }

    /// A line that adds or deletes an element.
    fn element(&self, text: &mut String, verb: &str, one: &Translation, owner: Option<&str>) {
        let note = owner.map(|owner| format!(" comment \"{owner}\"")).unwrap_or_default();
        let family = |address: &Address| if address.0.is_ipv4() { 4 } else { 6 };
        let (set, element) = match one {
            Translation::Masquerade { address } => {
                (format!("masquerade{}", family(address)), format!("{address}{note}"))
            }
            Translation::Publish { at, protocol, port, to, to_port } => {
                let value = owner.map(|_| format!(" : {to} . {to_port}")).unwrap_or_default();
                let key = format!("{} . {port}{note}{value}", word(*protocol));
                match at {
                    Some(at) => (format!("publish{}_at", family(to)), format!("{at} . {key}")),
                    None => (format!("publish{}", family(to)), key),
                }
            }
        };
        let _ = writeln!(text, "{verb} element inet {} {set} {{ {element} }}", self.name);
    }
}

fn understand(text: &str) -> SysResult<Value> {
    serde_json::from_str(text).map_err(|e| SysError::refused("understand", "nft", e))
}

/// Takes out the elements, and what changes by itself.
fn strip(listed: &mut Value) {
    settle(listed);
    let items = listed["nftables"].as_array_mut().into_iter().flatten();
    for set in items.flat_map(|item| item.as_object_mut().into_iter().flat_map(|item| item.values_mut())) {
        set.as_object_mut().map(|set| set.remove("elem"));
    }
}

/// The elements of sets and maps. One without a VE's uid, or that vzd would not put there, is nobody's.
fn content(listed: &Value) -> Content {
    let mut content = Content::new();
    for item in listed["nftables"].as_array().into_iter().flatten() {
        let set = if item["set"].is_object() { &item["set"] } else { &item["map"] };
        for element in set["elem"].as_array().into_iter().flatten() {
            let (key, value) = match element.as_array().map(Vec::as_slice) {
                Some([key, value]) => (&key["elem"], Some(value)),
                _ => (&element["elem"], None),
            };
            let Some(owner) = key["comment"].as_str() else { continue };
            let one = match value {
                None => address(&key["val"]).map(|address| Translation::Masquerade { address }),
                Some(value) => published(&key["val"]["concat"], &value["concat"]),
            };
            content.entry(owner.to_owned()).or_default().extend(one);
        }
    }
    content
}

fn address(value: &Value) -> Option<Address> {
    Some(Address(value.as_str()?.parse::<IpAddr>().ok()?))
}

fn port(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

fn published(key: &Value, value: &Value) -> Option<Translation> {
    let (at, protocol, from) = match key.as_array()?.as_slice() {
        [protocol, from] => (None, protocol, from),
        [at, protocol, from] => (Some(address(at)?), protocol, from),
        _ => return None,
    };
    let [to, to_port] = value.as_array()?.as_slice() else { return None };
    let protocol = [Transport::Tcp, Transport::Udp].into_iter().find(|one| protocol == word(*one))?;
    Some(Translation::Publish { at, protocol, port: port(from)?, to: address(to)?, to_port: port(to_port)? })
}
