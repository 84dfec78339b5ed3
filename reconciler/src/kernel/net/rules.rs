//! Rules of vzd's in a VE's namespace that say which table a packet is looked up in: those with its protocol number.

use std::collections::BTreeSet;

use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleHeader, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use vzd_schema::v1::{Cidr, Mark};
use vzd_state::subsystem::network::Rule;

use super::Netlink;
use super::message::Request;
use super::read::PROTOCOL;
use crate::error::{SysError, SysResult};

/// A rule as it is sent. Its table only fits the attribute.
fn message(rule: &Rule) -> RuleMessage {
    let Rule { v6, priority, from, to, iif, fwmark, table } = rule;
    let length = |one: &Option<Cidr>| one.map_or(0, Cidr::prefix);
    let mut message = RuleMessage::default();
    message.header = RuleHeader {
        family: if *v6 { AddressFamily::Inet6 } else { AddressFamily::Inet },
        src_len: length(from),
        dst_len: length(to),
        action: RuleAction::ToTable,
        ..RuleHeader::default()
    };
    message.attributes = vec![
        RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
        RuleAttribute::Priority(*priority),
        RuleAttribute::Table(*table),
    ];
    message.attributes.extend(from.map(|from| RuleAttribute::Source(from.address())));
    message.attributes.extend(to.map(|to| RuleAttribute::Destination(to.address())));
    message.attributes.extend(iif.clone().map(RuleAttribute::Iifname));
    if let Some(mark) = fwmark {
        message.attributes.push(RuleAttribute::FwMark(mark.value()));
        message.attributes.push(RuleAttribute::FwMask(mark.mask()));
    }
    message
}

/// A rule of vzd's as it is read; none if it is another's, or says what vzd's never say.
fn read(message: &RuleMessage) -> Option<Rule> {
    let RuleHeader { family, src_len, dst_len, tos: 0, table, action: RuleAction::ToTable, .. } =
        message.header
    else {
        return None;
    };
    let v6 = family == AddressFamily::Inet6;
    let mut rule =
        Rule { v6, priority: 0, from: None, to: None, iif: None, fwmark: None, table: table.into() };
    let (mut ours, mut mark, mut mask) = (false, 0, 0);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(protocol) => ours = *protocol == RouteProtocol::Other(PROTOCOL),
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Source(from) => rule.from = Cidr::new(*from, src_len),
            RuleAttribute::Destination(to) => rule.to = Cidr::new(*to, dst_len),
            RuleAttribute::Iifname(iif) => rule.iif = Some(iif.clone()),
            RuleAttribute::FwMark(value) => mark = *value,
            RuleAttribute::FwMask(value) => mask = *value,
            // What the kernel says of every rule.
            RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            _ => return None,
        }
    }
    rule.fwmark = Mark::new(mark, mask);
    ours.then_some(rule)
}

/// Whether the kernel has such rules at all.
pub fn try_rules() -> SysResult<()> {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    let what = "rules of routing (CONFIG_IP_MULTIPLE_TABLES)";
    Netlink::open()?.dump(what, &Message::GetRule(message)).map(drop)
}

impl Netlink {
    /// vzd's rules of this namespace.
    pub fn own_rules(&mut self) -> SysResult<BTreeSet<Rule>> {
        let mut found = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            let all = match self.dump("rules", &Message::GetRule(message)) {
                // A kernel without that family, or without rules for it.
                Err(e) if matches!(e.errno, libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => continue,
                other => other?,
            };
            found.extend(all.iter().filter_map(|message| match message {
                Message::NewRule(rule) => read(rule),
                _ => None,
            }));
        }
        Ok(found)
    }

    /// Adds a rule, behind those that are at its place.
    pub fn add_rule(&mut self, rule: &Rule) -> SysResult<bool> {
        let request = Request::new("add", format!("rule {rule}"), Message::NewRule(message(rule))).make();
        match self.run(vec![request]) {
            Err(e) if e.errno == libc::EEXIST && self.own_rules()?.contains(rule) => Ok(false),
            Err(e) if e.errno == libc::EEXIST => {
                let why = "the VE has the same rule there, which is not vzd's";
                Err(SysError::refused("add", format!("rule {rule}"), why))
            }
            other => other.map(|changed| changed > 0),
        }
    }

    /// Takes a rule of vzd's away.
    pub fn remove_rule(&mut self, rule: &Rule) -> SysResult<bool> {
        let request = Request::new("remove", format!("rule {rule}"), Message::DelRule(message(rule)));
        self.run(vec![request.unless_gone()]).map(|changed| changed > 0)
    }
}
