//! The packet filter that a manifest gives a VE: the text of one table for nft(8), and whether it is there.
//!
//! The table is in the VE's own network namespace, beside those of the VE's root, which are never looked at.

use std::convert::Infallible;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vzd_schema::v1::{self, Cidr};

use super::trial::{self, Trial, Verdict};
use super::{Desired, Live};
use crate::digest::sha256_hex;
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;
use crate::subsystem::{Changes, Cx, Mismatch, json};

const FIELD: &str = "spec.network.firewall";

/// What is seen of the filter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirewallSeen {
    /// The table that is there.
    pub table: Table,
    /// Why what is wanted can't be loaded at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether the host reaches the VE, where a trial asks for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<bool>,
}

/// vzd's table in a VE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Table {
    /// There is none.
    #[default]
    None,
    /// It is what the text makes that is wanted or, if none is, that was loaded last.
    Same,
    /// It is something else.
    Other,
}

/// What of every filter comes first: what belongs to something that was let through before, what the VE says to
/// itself, and what IPv6 can't do without.
const FIRST: &str = "ct state established,related accept\n";
const NEIGHBOURS: &str = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept\n";

/// The text that stands between the braces of the table.
pub(crate) fn lower(given: &v1::Firewall) -> String {
    if let Some(text) = &given.nftables {
        return text.clone();
    }
    let policy = given.policy.unwrap_or(v1::Verdict::Accept);
    let mut text = String::new();
    for (way, chain, other) in
        [(v1::Direction::In, "input", "iifname"), (v1::Direction::Out, "output", "oifname")]
    {
        let rules: Vec<_> = given
            .rules
            .iter()
            .filter(|rule| rule.direction.unwrap_or(v1::Direction::In) == way)
            .flat_map(statements)
            .collect();
        let by_default = if way == v1::Direction::In { policy } else { v1::Verdict::Accept };
        if rules.is_empty() && by_default == v1::Verdict::Accept {
            continue;
        }
        let dropped = if by_default == v1::Verdict::Accept { "accept" } else { "drop" };
        let _ = write!(
            text,
            "chain {chain} {{\ntype filter hook {chain} priority filter; policy {dropped};\n{FIRST}{other} \"lo\" \
             accept\n{NEIGHBOURS}{}",
            rules.concat()
        );
        if by_default == v1::Verdict::Reject {
            text += &ending("", None, v1::Verdict::Reject);
        }
        text += "}\n";
    }
    text
}

/// A rule as nft(8) has it: one statement for each family that it is about.
fn statements(rule: &v1::FirewallRule) -> Vec<String> {
    let v1::FirewallRule { action, direction: _, protocol, ports, from, to } = rule;
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let ports = ports.join(", ");
    let what = match (protocol, ports.is_empty()) {
        (None, true) => String::new(),
        (None, false) => format!("meta l4proto {{ tcp, udp }} th dport {{ {ports} }} "),
        (Some(v1::Protocol::Tcp), true) => "meta l4proto tcp ".to_owned(),
        (Some(v1::Protocol::Udp), true) => "meta l4proto udp ".to_owned(),
        (Some(v1::Protocol::Tcp), false) => format!("tcp dport {{ {ports} }} "),
        (Some(v1::Protocol::Udp), false) => format!("udp dport {{ {ports} }} "),
        (Some(v1::Protocol::Icmp), _) => "meta l4proto { icmp, ipv6-icmp } ".to_owned(),
    };
    if from.is_empty() && to.is_empty() {
        return vec![ending(&what, *protocol, *action)];
    }
    let of = |list: &[Cidr], v4: bool| -> Option<String> {
        let own: Vec<String> =
            list.iter().filter(|one| one.address().is_ipv4() == v4).map(ToString::to_string).collect();
        // Addresses of the other family only: nothing of this one matches.
        if own.is_empty() && !list.is_empty() { None } else { Some(own.join(", ")) }
    };
    let mut all = Vec::new();
    for (v4, family) in [(true, "ip"), (false, "ip6")] {
        let (Some(from), Some(to)) = (of(from, v4), of(to, v4)) else { continue };
        let mut text = String::new();
        for (side, list) in [("saddr", from), ("daddr", to)] {
            if !list.is_empty() {
                let _ = write!(text, "{family} {side} {{ {list} }} ");
            }
        }
        all.push(ending(&format!("{text}{what}"), *protocol, *action));
    }
    all
}

/// What becomes of packets that match. TCP is refused by a reset: other programs than the sender's kernel may not
/// hear of an unreachable port, and the kernel says so only so many times a second.
fn ending(matches: &str, protocol: Option<v1::Protocol>, action: v1::Verdict) -> String {
    const RESET: &str = "reject with tcp reset\n";
    match (action, protocol) {
        (v1::Verdict::Accept, _) => format!("{matches}accept\n"),
        (v1::Verdict::Drop, _) => format!("{matches}drop\n"),
        (v1::Verdict::Reject, Some(v1::Protocol::Tcp)) => format!("{matches}{RESET}"),
        (v1::Verdict::Reject, Some(_)) => format!("{matches}reject\n"),
        (v1::Verdict::Reject, None) => {
            format!("{matches}meta l4proto tcp {RESET}{matches}reject\n")
        }
    }
}

/// A text as plans show it.
fn shown(text: Option<&String>) -> Value {
    text.map_or(Value::Null, |text| {
        let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
        format!("{lines} lines of nftables ({})", &sha256_hex(text.as_bytes())[..8]).into()
    })
}

/// Steps that make the filter as wanted, and see to its trial.
pub(super) fn diff(
    changes: &mut Changes<Live, Infallible>,
    want: &Desired,
    seen: &Reading<FirewallSeen>,
    cx: &Cx<'_>,
) {
    let FirewallSeen { table, problem, reached } = match seen {
        Reading::Unreadable(why) => return changes.cannot_read(FIELD, why),
        Reading::Absent => return,
        Reading::Is(seen) => seen,
    };
    let had = cx.entry.and_then(|entry| entry.applied.network.as_deref()).and_then(|is| is.firewall.as_ref());
    let trial = cx.entry.and_then(|entry| entry.firewall_trial.as_deref());
    let wanted = trial::in_force(want, trial);
    let open = trial.filter(|trial| trial.is_open());
    if let Some(open) = open.filter(|_| had == wanted) {
        match open.judge(*reached, cx) {
            Verdict::Open(again) => changes.wake = Some(changes.wake.map_or(again, |wake| wake.min(again))),
            Verdict::Passed => changes.live.push((Live::EndTrial { passed: true }, Vec::new())),
            Verdict::Failed(why) => {
                let (from, to) = (shown(wanted), shown(open.before.as_ref()));
                let index = changes.field(Change::new(FIELD, from, to, Disruption::Live));
                let step = Live::RollBackFirewall { to: open.before.clone(), why };
                return changes.live.push((step, vec![index]));
            }
        }
    }
    let before = match table {
        Table::None => Value::Null,
        Table::Same => shown(wanted.or(had)),
        Table::Other if had.is_some() && had != wanted => shown(had),
        Table::Other => "another table".into(),
    };
    let refused = trial.and_then(|trial| trial.refuses(want));
    let as_wanted = if wanted.is_none() { had.is_none() } else { *table == Table::Same && had == wanted };
    if as_wanted {
        match (refused, trial) {
            (Some(why), _) => {
                let why = format!("it was rolled back: {why}; change the firewall to have it tried again");
                let change = Change::new(FIELD, before, shown(want.firewall.as_ref()), Disruption::Live);
                changes.field(change.unless(Some(&why)));
            }
            (None, Some(old)) if !old.is_open() => {
                changes.live.push((Live::EndTrial { passed: false }, Vec::new()));
            }
            (None, _) => {}
        }
        return;
    }
    let trial = match (refused, open) {
        // What is put right on the way is on the same trial.
        (Some(_), _) => trial.cloned(),
        (None, Some(open)) if had == wanted => Some(open.clone()),
        (None, open) => Trial::of(want, had, open, *reached, cx),
    };
    let step = Live::SetFirewall { from: had.cloned(), to: wanted.cloned(), trial: trial.map(Box::new) };
    if wanted.is_none() {
        let change = Change::new(FIELD, before, Value::Null, Disruption::Live);
        let indices = if *table == Table::None { Vec::new() } else { vec![changes.field(change)] };
        return changes.live.push((step, indices));
    }
    let missing = cx.caps.firewall.missing().or(problem.as_deref());
    let cause = if had == wanted { Cause::Drift } else { Cause::Spec };
    let change = Change::new(FIELD, before, shown(wanted), Disruption::Live).because(cause).unless(missing);
    let index = changes.field(change);
    if missing.is_none() {
        changes.live.push((step, vec![index]));
    }
}

/// What of the filter is not as wanted.
pub(super) fn satisfied(want: &Desired, seen: &Reading<FirewallSeen>, cx: &Cx<'_>) -> Option<Mismatch> {
    let wanted = trial::in_force(want, cx.entry.and_then(|entry| entry.firewall_trial.as_deref()));
    let same = seen.is().is_some_and(|seen| seen.table == Table::Same);
    wanted.filter(|_| !same).map(|_| {
        Mismatch::new(FIELD, shown(wanted), json(&seen.is().map(|seen| seen.table)), Disruption::Live)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: Value) -> String {
        lower(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn rules_are_statements_of_nft() {
        let rule = |rule: Value| {
            let text = text(serde_json::json!({ "rules": [rule] }));
            let own = text.lines().skip(5).filter(|line| *line != "}").map(str::to_owned);
            own.collect::<Vec<_>>()
        };
        let cases = [
            (serde_json::json!({ "action": "drop" }), vec!["drop"]),
            (
                serde_json::json!({ "action": "accept", "protocol": "tcp", "ports": [22, "80-90"] }),
                vec!["tcp dport { 22, 80-90 } accept"],
            ),
            (
                serde_json::json!({ "action": "reject", "ports": [53] }),
                vec![
                    "meta l4proto { tcp, udp } th dport { 53 } meta l4proto tcp reject with tcp reset",
                    "meta l4proto { tcp, udp } th dport { 53 } reject",
                ],
            ),
            (
                serde_json::json!({ "action": "accept", "protocol": "icmp", "from": ["10.0.0.0/8", "fd00::/8"] }),
                vec![
                    "ip saddr { 10.0.0.0/8 } meta l4proto { icmp, ipv6-icmp } accept",
                    "ip6 saddr { fd00::/8 } meta l4proto { icmp, ipv6-icmp } accept",
                ],
            ),
            (
                serde_json::json!({ "action": "drop", "direction": "out", "from": ["10.0.0.1"], "to": ["10.0.0.2", "::1"] }),
                vec!["ip saddr { 10.0.0.1 } ip daddr { 10.0.0.2 } drop"],
            ),
        ];
        for (given, wanted) in cases {
            assert_eq!(rule(given.clone()), wanted, "{given}");
        }
    }

    #[test]
    fn what_nobody_asks_for_is_not_there() {
        assert_eq!(text(serde_json::json!({ "policy": "accept" })), "");
        let input = text(serde_json::json!({ "policy": "reject" }));
        assert!(
            input.contains("policy drop;") && input.ends_with("reject\n}\n") && !input.contains("output")
        );
        assert_eq!(text(serde_json::json!({ "nftables": "set a { }" })), "set a { }");
    }
}
