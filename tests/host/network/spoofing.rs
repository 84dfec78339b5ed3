//! What a VE's root can send over its link, and what of it the host lets through: frames are made byte by byte.

use serde_json::json;
use vzd_tests::{CLIENT, NetLab, Sandbox, needs};

use super::{ONE, TWO};

type Mac = [u8; 6];

/// Of the VE 101, of the host's end of its link, and of nobody.
const VE: Mac = [2, b'v', 0, 0, 0, 101];
const ROUTER: Mac = [6, b'v', 0, 0, 0, 101];
const OTHER: Mac = [2, 0, 0, 0, 0, 0x77];

fn v4(text: &str) -> [u8; 4] {
    text.parse::<std::net::Ipv4Addr>().unwrap().octets()
}

fn v6(text: &str) -> [u8; 16] {
    text.parse::<std::net::Ipv6Addr>().unwrap().octets()
}

fn sum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 =
        bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | two.get(1).map_or(0, |b| u32::from(*b))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

fn ethernet(to: Mac, from: Mac, kind: [u8; 2], body: &[u8]) -> Vec<u8> {
    [to.as_slice(), &from, &kind, body].concat()
}

const IP4: [u8; 2] = [8, 0];
const IP6: [u8; 2] = [0x86, 0xdd];
const ARP: [u8; 2] = [8, 6];

/// A UDP packet to the client.
fn udp4(from: [u8; 4]) -> Vec<u8> {
    let mut header = [&[0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0][..], &from, &v4(CLIENT[0])].concat();
    let checksum = sum(&header);
    header[10..12].copy_from_slice(&checksum);
    [header.as_slice(), &[0x30, 0x39, 0x30, 0x39, 0, 12, 0, 0], b"spoo"].concat()
}

fn ip6(from: [u8; 16], to: [u8; 16], next: u8, hops: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[0x60, 0, 0, 0][..], &length, &[next, hops], &from, &to, body].concat()
}

fn udp6(from: [u8; 16]) -> Vec<u8> {
    ip6(from, v6(CLIENT[1]), 17, 64, &[&[0x30, 0x39, 0x30, 0x39, 0, 12, 0xff, 0xff][..], b"spoo"].concat())
}

fn icmp6(from: [u8; 16], to: [u8; 16], message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let checksum = sum(&[&from[..], &to, &length, &[0, 0, 0, 58], &message].concat());
    message[2..4].copy_from_slice(&checksum);
    ip6(from, to, 58, 255, &message)
}

fn arp(operation: u8, mac: Mac, address: [u8; 4], about: [u8; 4]) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, operation][..], &mac, &address, &[0; 6], &about].concat()
}

/// A neighbour advertisement, as if all nodes were to hear that an address is here.
fn advertisement(from: [u8; 16], about: [u8; 16]) -> Vec<u8> {
    icmp6(from, v6("ff02::1"), &[&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &about, &[2, 1], &VE].concat())
}

/// Frames that are to be dropped, each with what it is.
fn forged() -> Vec<(&'static str, Vec<u8>)> {
    let own = (v4(ONE[0]), v6(ONE[1]));
    let all: Mac = [0xff; 6];
    let link_local = v6("fe80::76:ff:fe00:65");
    let router_advertisement =
        icmp6(link_local, v6("ff02::1"), &[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    let redirect =
        icmp6(link_local, v6("ff02::1"), &[&[137, 0, 0, 0, 0, 0, 0, 0][..], &v6(CLIENT[1]), &own.1].concat());
    let hidden = {
        let inner = &advertisement(own.1, v6(TWO[1]))[40..];
        ip6(own.1, v6("ff02::1"), 60, 255, &[&[58, 0, 1, 4, 0, 0, 0, 0][..], inner].concat())
    };
    let tagged = |body: &[u8]| [&[0, 7][..], &IP4, body].concat();
    let mut wrong_arp = arp(1, VE, own.0, v4("169.254.1.1"));
    wrong_arp[5] = 16;
    vec![
        ("another VE's IPv4 address", ethernet(ROUTER, VE, IP4, &udp4(v4(TWO[0])))),
        ("the host's IPv4 address", ethernet(ROUTER, VE, IP4, &udp4(v4("192.0.2.1")))),
        ("the router's IPv4 address", ethernet(ROUTER, VE, IP4, &udp4(v4("169.254.1.1")))),
        ("an address of nobody", ethernet(ROUTER, VE, IP4, &udp4(v4("203.0.113.9")))),
        ("no IPv4 address", ethernet(ROUTER, VE, IP4, &udp4([0; 4]))),
        ("loopback", ethernet(ROUTER, VE, IP4, &udp4([127, 0, 0, 1]))),
        ("another hardware address", ethernet(ROUTER, OTHER, IP4, &udp4(own.0))),
        ("the host's own hardware address", ethernet(ROUTER, ROUTER, IP4, &udp4(own.0))),
        ("another VE's IPv6 address", ethernet(ROUTER, VE, IP6, &udp6(v6(TWO[1])))),
        ("no IPv6 address", ethernet(ROUTER, VE, IP6, &udp6([0; 16]))),
        ("its IPv4 address as an IPv6 one", ethernet(ROUTER, VE, IP6, &udp6(v6("::192.0.2.101")))),
        ("another link-local address", ethernet(ROUTER, VE, IP6, &udp6(v6("fe80::1")))),
        ("IPv6 by another hardware address", ethernet(ROUTER, OTHER, IP6, &udp6(own.1))),
        ("a VLAN tag", ethernet(ROUTER, VE, [0x81, 0], &tagged(&udp4(own.0)))),
        (
            "two VLAN tags",
            ethernet(ROUTER, VE, [0x88, 0xa8], &[&[0, 7, 0x81, 0][..], &tagged(&udp4(own.0))].concat()),
        ),
        ("ARP for another VE", ethernet(all, VE, ARP, &arp(2, VE, v4(TWO[0]), v4(TWO[0])))),
        ("ARP for the router", ethernet(all, VE, ARP, &arp(2, VE, v4("169.254.1.1"), v4("169.254.1.1")))),
        (
            "ARP for another hardware address",
            ethernet(all, VE, ARP, &arp(1, OTHER, own.0, v4("169.254.1.1"))),
        ),
        ("ARP of another length", ethernet(all, VE, ARP, &wrong_arp)),
        ("advertisement of another VE's address", ethernet(all, VE, IP6, &advertisement(own.1, v6(TWO[1])))),
        ("advertisement of the router", ethernet(all, VE, IP6, &advertisement(link_local, v6("fe80::1")))),
        ("advertisement behind an extension header", ethernet(all, VE, IP6, &hidden)),
        ("router advertisement", ethernet(all, VE, IP6, &router_advertisement)),
        ("redirect", ethernet(all, VE, IP6, &redirect)),
        (
            "no protocol that there is",
            ethernet(ROUTER, VE, [0x88, 0xb5], b"hello, whoever hears this, how are you"),
        ),
        ("half a header", ethernet(ROUTER, VE, IP4, &udp4(own.0)[..12])),
    ]
}

fn dropped(lab: &NetLab) -> u64 {
    let shown = lab.on_host("tc", &["-s", "-j", "qdisc", "show", "dev", "venet101", "clsact"]).ok().json();
    shown[0]["drops"].as_u64().unwrap()
}

fn send(sandbox: &Sandbox, frame: &[u8]) {
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    sandbox.exec("one", &["/bin/guest", "send", "venet0", &hex]).ok();
}

fn received(lab: &NetLab) -> u64 {
    let shown = lab.client("ip", &["-s", "-j", "link", "show", "eth0"]).ok().json();
    shown[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
}

#[test]
fn a_ve_speaks_for_itself_only() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    sandbox.ve("one", json!({ "ctid": 101, "network": { "addresses": ONE } }));
    sandbox.ve("two", json!({ "ctid": 102, "network": { "addresses": TWO } }));
    sandbox.apply();
    // Neighbours are known, so that what arrives at the client is what was sent.
    assert!(lab.client_reaches(ONE[0]) && lab.client_reaches(ONE[1]));
    let neighbours = || {
        lab.host(&["neigh", "show", "nud", "permanent"])
            + &lab.host(&["-6", "neigh", "show", "nud", "permanent"])
    };
    let known = neighbours();
    for (what, frame) in forged() {
        let before = dropped(&lab);
        send(&sandbox, &frame);
        assert_eq!(dropped(&lab), before + 1, "it passed: {what}");
    }
    assert_eq!(neighbours(), known);
    let good = [
        ethernet(ROUTER, VE, IP4, &udp4(v4(ONE[0]))),
        ethernet(ROUTER, VE, IP6, &udp6(v6(ONE[1]))),
        ethernet([0xff; 6], VE, ARP, &arp(1, VE, v4(ONE[0]), v4("169.254.1.1"))),
        ethernet([0xff; 6], VE, IP6, &advertisement(v6(ONE[1]), v6(ONE[1]))),
    ];
    let (before, arrived) = (dropped(&lab), received(&lab));
    good.iter().for_each(|frame| send(&sandbox, frame));
    assert_eq!(dropped(&lab), before);
    assert!(received(&lab) >= arrived + 2, "what it may send does not arrive");
    // What it is given by another wish is its own from then on, and no longer the other's.
    sandbox.ve("two", json!({ "ctid": 102 }));
    sandbox.ve("one", json!({ "ctid": 101, "network": { "addresses": [ONE[0], TWO[0], ONE[1]] } }));
    sandbox.apply();
    let before = dropped(&lab);
    send(&sandbox, &ethernet(ROUTER, VE, IP4, &udp4(v4(TWO[0]))));
    assert_eq!(dropped(&lab), before);
}
