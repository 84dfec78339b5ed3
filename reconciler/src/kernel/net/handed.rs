//! Interfaces of the host that are moved into a VE's namespace, and back.
//!
//! In the VE one is known by its number, which vzd chooses and the VE's root cannot change: names, marks and hardware
//! addresses are the VE's to set there. What they were is put back with it.

use std::path::PathBuf;

use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use serde::{Deserialize, Serialize};

use super::Netlink;
use super::message::Request;
use super::read::Link;
use crate::error::{SysError, SysResult};
use crate::kernel::ns::{Kind, Namespace};

/// An interface of the host as it was before it was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Handed {
    /// Its number on the host.
    index: u32,
    /// What kind of device it is; none for real ones, which only the kernel makes.
    kind: Option<String>,
    mac: Vec<u8>,
    mtu: u32,
    alias: String,
}

/// What a VE is started with of the host's interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HandOver {
    /// Where the VE's namespace is kept, so that they do not end with it.
    pub pin: PathBuf,
    /// Each with its name on the host and in the VE.
    pub interfaces: Vec<(String, String, Handed)>,
}

/// The number in the VE is that on the host and this: nothing there has such a number by itself.
const INSIDE: u32 = 1 << 20;

impl Handed {
    /// An interface that is to be moved; an error if it is none to be moved.
    pub fn from_link(link: &Link) -> SysResult<Self> {
        let why = match link {
            Link { loopback: true, .. } => "each namespace has its own",
            Link { alias, .. } if alias.starts_with("vzd:") => "it is a VE's already",
            Link { bridge: 1.., .. } => "it is a port of a bridge",
            Link { index: INSIDE.., .. } => "its number is too large",
            _ => {
                return Ok(Handed {
                    index: link.index,
                    kind: kind(link),
                    mac: link.mac.clone(),
                    mtu: link.mtu,
                    alias: link.alias.clone(),
                });
            }
        };
        Err(SysError::refused("hand over", format_args!("interface {}", link.name), why))
    }

    /// Where it is in the VE's namespace, if it is there.
    pub fn find(&self, inside: &mut Netlink) -> SysResult<Option<Link>> {
        let link = inside.link_numbered(INSIDE + self.index)?;
        Ok(link.filter(|link| kind(link) == self.kind))
    }

    /// Moves it into a VE. There it is down, and without addresses.
    pub fn move_in(&self, host: &mut Netlink, netns: &Namespace, name: &str, to: &str) -> SysResult<()> {
        let number = LinkAttribute::NewIfIndex((INSIDE + self.index).cast_signed());
        let link = to_namespace(self.index, netns).name(to.to_owned()).append_extra_attribute(number);
        let object = format!("interface {name}");
        host.run(vec![Request::new("hand over", object, Message::SetLink(link.build()))]).map(drop)
    }

    /// Gives it another name in the VE.
    pub fn rename(&self, inside: &mut Netlink, to: &str) -> SysResult<()> {
        inside.run(vec![Request::rename(INSIDE + self.index, to)]).map(drop)
    }

    /// Moves it back to the namespace of the calling thread, as it was: down, without addresses.
    pub fn move_out(
        &self,
        inside: &mut Netlink,
        host: &mut Netlink,
        link: &Link,
        name: &str,
    ) -> SysResult<()> {
        let object = format!("interface {name}");
        let here = Namespace::here(Kind::Net)?;
        // A name that the host has by now is no reason to come back under another one, or half.
        if host.link_named(name)?.is_some() {
            return Err(SysError::refused("give back", object, "the host has another of this name by now"));
        }
        let mut back = to_namespace(link.index, &here).name(name.to_owned());
        if host.link_numbered(self.index)?.is_none() {
            back = back.append_extra_attribute(LinkAttribute::NewIfIndex(self.index.cast_signed()));
        }
        let down = Request::link_flags(link.index, name, LinkFlags::empty(), LinkFlags::Up);
        inside.run(vec![down])?;
        inside.run(vec![Request::new("give back", &object, Message::SetLink(back.build()))])?;
        let Some(link) = host.link_named(name)? else {
            return Err(SysError::refused("give back", object, "it did not come"));
        };
        let mut requests = Vec::new();
        if link.mac != self.mac
            && let Ok(mac) = self.mac.as_slice().try_into()
        {
            requests.push(Request::mac(link.index, name, mac));
        }
        if link.mtu != self.mtu {
            requests.push(Request::mtu(link.index, name, self.mtu));
        }
        if link.alias != self.alias {
            requests.push(Request::alias(link.index, name, &self.alias));
        }
        host.run(requests).map(drop)
    }
}

impl HandOver {
    /// Moves all of them into the namespace of a VE that is being started, which is kept already.
    pub fn carry_out(&self, host: &mut Netlink, netns: &Namespace) -> SysResult<()> {
        self.interfaces.iter().try_for_each(|(name, to, handed)| handed.move_in(host, netns, name, to))
    }
}

fn kind(link: &Link) -> Option<String> {
    link.kind.as_ref().map(ToString::to_string)
}

fn to_namespace(index: u32, netns: &Namespace) -> LinkMessageBuilder<LinkUnspec> {
    use std::os::fd::AsRawFd;
    LinkUnspec::new_with_index(index).setns_by_fd(netns.as_fd().as_raw_fd())
}
