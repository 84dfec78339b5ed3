//! The filter of what a VE sends over its `venet0`: only packets from the addresses it was given.
//!
//! One program and one map an interface, on the host's end of it. Whatever names another source, hardware
//! address included, is dropped: IPv4, IPv6, ARP, and what IPv6 says about neighbours; so is what is none of
//! these, such as a packet with a VLAN tag, and what only routers may say. The interface's filter holds the
//! program and the program the map, so that it works on whoever runs, and goes with the interface. An address
//! more or less is one entry of the map: nothing else of the traffic notices.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;

use super::insn::{Assembly, CALL_LOOKUP, IF_ZERO, Insn, atomic_add, call, frame, map, store_word};
use super::maps::{self, CMD_MAP_DELETE, CMD_MAP_LOOKUP, CMD_MAP_NEXT_KEY, CMD_MAP_UPDATE, Element};
use super::{CMD_PROG_GET_FD_BY_ID, bpf, by_id, info, load_program};
use crate::error::SysResult;

const PROG_TYPE_SCHED_CLS: u32 = 3;
const CALL_LOAD_BYTES: i32 = 26;
const NAME: &str = "vzd_venet";

/// Entries of a map besides addresses: the count of what was dropped, and the VE's link-local address.
const BESIDES: usize = 2;

/// The least that a map has room for: most VEs are never given more addresses.
const ROOM: usize = 64;

/// `struct __sk_buff`.
const VLAN_PRESENT: i16 = 20;

/// Places below the frame pointer: the key, the Ethernet header, what follows it, one byte.
const KEY: i16 = -20;
const ETHERNET: i16 = -42;
const HEADER: i16 = -88;
const BYTE: i16 = -96;

const ETHERNET_LEN: i32 = 14;

/// `(dst, off) = imm`, a word.
const fn store_imm(dst: u8, off: i16, imm: i32) -> Insn {
    Insn::new(0x62, dst, 0, off, imm)
}

/// `dst = *(u16 *)(src + off)`
const fn load_half(dst: u8, src: u8, off: i16) -> Insn {
    Insn::new(0x69, dst, src, off, 0)
}

/// `dst = *(u8 *)(src + off)`
const fn load_byte(dst: u8, src: u8, off: i16) -> Insn {
    Insn::new(0x71, dst, src, off, 0)
}

/// `*(u16 *)(dst + off) = src`
const fn store_half(dst: u8, off: i16, src: u8) -> Insn {
    Insn::new(0x6b, dst, src, off, 0)
}

const fn if_equal(dst: u8, imm: i32) -> Insn {
    Insn::new(0x15, dst, 0, 0, imm)
}

const fn if_not_equal(dst: u8, imm: i32) -> Insn {
    Insn::new(0x55, dst, 0, 0, imm)
}

/// The number that bytes of a packet are in a register.
fn half(bytes: [u8; 2]) -> i32 {
    u16::from_ne_bytes(bytes).into()
}

fn word(bytes: [u8; 4]) -> i32 {
    i32::from_ne_bytes(bytes)
}

/// Copies bytes of the packet below the frame pointer; a packet that ends before them is dropped.
fn load_bytes(code: &mut Assembly, from: i32, to: i16, len: i32) {
    code.add([Insn::mov(1, 6), Insn::mov_imm(2, from)]);
    code.add(frame(3, to));
    code.add([Insn::mov_imm(4, len), call(CALL_LOAD_BYTES)]);
    code.jump(if_not_equal(0, 0), "drop");
}

/// Whether words there are these; a word of a jump compares as a number with a sign, so both are made so.
fn word_is(code: &mut Assembly, at: i16, bytes: [u8; 4]) {
    code.add([Insn::load(1, 10, at)]);
    // w1 = w1 compares only the lower half: a jump of 32 bits.
    code.jump(Insn::new(0x56, 1, 0, 0, word(bytes)), "drop");
}

fn half_is(code: &mut Assembly, at: i16, bytes: [u8; 2]) {
    code.add([load_half(1, 10, at)]);
    code.jump(if_not_equal(1, half(bytes)), "drop");
}

/// Kinds of entry.
const ADDRESS: i32 = 1;
const DROPPED: i32 = 0;

/// A v4 address as the tail of a mapped one.
fn key_of_v4(code: &mut Assembly) {
    code.add([
        store_imm(10, KEY, ADDRESS),
        store_imm(10, KEY + 4, 0),
        store_imm(10, KEY + 8, 0),
        store_imm(10, KEY + 12, word([0, 0, 0xff, 0xff])),
    ]);
}

/// r0: the entry of the key; a packet whose key has none is dropped.
fn look_up(code: &mut Assembly, addresses: &OwnedFd) {
    code.add(map(1, addresses));
    code.add(frame(2, KEY));
    code.add([call(CALL_LOOKUP)]);
    code.jump(IF_ZERO, "drop");
}

/// r6: the packet.
fn program(mac: [u8; 6], addresses: &OwnedFd) -> Vec<Insn> {
    let [a, b, c, d, e, f] = mac;
    let mut code = Assembly::default();
    code.add([Insn::mov(6, 1), Insn::load(1, 6, VLAN_PRESENT)]);
    code.jump(if_not_equal(1, 0), "drop");
    load_bytes(&mut code, 0, ETHERNET, ETHERNET_LEN);
    word_is(&mut code, ETHERNET + 6, [a, b, c, d]);
    half_is(&mut code, ETHERNET + 10, [e, f]);
    code.add([load_half(1, 10, ETHERNET + 12)]);
    code.jump(if_equal(1, half([0x08, 0x00])), "v4");
    code.jump(if_equal(1, half([0x86, 0xdd])), "v6");
    code.jump(if_not_equal(1, half([0x08, 0x06])), "drop");

    // ARP for IPv4 over Ethernet, from its own hardware address and one of its addresses.
    load_bytes(&mut code, ETHERNET_LEN, HEADER, 28);
    word_is(&mut code, HEADER, [0, 1, 8, 0]);
    half_is(&mut code, HEADER + 4, [6, 4]);
    word_is(&mut code, HEADER + 8, [a, b, c, d]);
    half_is(&mut code, HEADER + 12, [e, f]);
    key_of_v4(&mut code);
    code.add([
        load_half(1, 10, HEADER + 14),
        store_half(10, KEY + 16, 1),
        load_half(1, 10, HEADER + 16),
        store_half(10, KEY + 18, 1),
    ]);
    code.jump(Insn::new(0x05, 0, 0, 0, 0), "source");

    code.label("v4");
    load_bytes(&mut code, ETHERNET_LEN, HEADER, 20);
    key_of_v4(&mut code);
    code.add([Insn::load(1, 10, HEADER + 12), store_word(10, KEY + 16, 1)]);
    code.jump(Insn::new(0x05, 0, 0, 0, 0), "source");

    code.label("v6");
    load_bytes(&mut code, ETHERNET_LEN, HEADER, 40);
    code.add([store_imm(10, KEY, ADDRESS), load_byte(1, 10, HEADER + 7)]);
    // What is said about neighbours has this hop limit, and is taken from no packet with another.
    code.jump(if_not_equal(1, 255), "v6 source");
    code.add([load_byte(1, 10, HEADER + 6)]);
    // It has no extension headers: nobody needs them there but who wants to get past a filter.
    for header in [0, 43, 44, 60] {
        code.jump(if_equal(1, header), "drop");
    }
    code.jump(if_not_equal(1, 58), "v6 source");
    load_bytes(&mut code, ETHERNET_LEN + 40, BYTE, 1);
    code.add([load_byte(1, 10, BYTE)]);
    // Router advertisement, redirect: a VE is no router of the host.
    code.jump(if_equal(1, 134), "drop");
    code.jump(if_equal(1, 137), "drop");
    // Neighbour advertisement: for an address of its own.
    code.jump(if_not_equal(1, 136), "v6 source");
    load_bytes(&mut code, ETHERNET_LEN + 48, KEY + 4, 16);
    look_up(&mut code, addresses);
    code.label("v6 source");
    for at in [0, 4, 8, 12] {
        code.add([Insn::load(1, 10, HEADER + 8 + at), store_word(10, KEY + 4 + at, 1)]);
    }

    code.label("source");
    look_up(&mut code, addresses);
    // Other filters of the interface may have a look as well.
    code.add([Insn::mov_imm(0, -1), Insn::exit()]);

    code.label("drop");
    for at in [0, 4, 8, 12, 16] {
        code.add([store_imm(10, KEY + at, if at == 0 { DROPPED } else { 0 })]);
    }
    code.add(map(1, addresses));
    code.add(frame(2, KEY));
    code.add([call(CALL_LOOKUP)]);
    code.jump(IF_ZERO, "gone");
    code.add([Insn::mov_imm(1, 1), atomic_add(0, 0, 1)]);
    code.label("gone");
    code.add([Insn::mov_imm(0, 2), Insn::exit()]);
    code.finish()
}

/// A program that drops what is not from one hardware address; its name tells which.
fn mac_program([a, b, c, d, e, f]: [u8; 6]) -> Vec<Insn> {
    let mut code = Assembly::default();
    code.add([Insn::mov(6, 1)]);
    load_bytes(&mut code, 0, ETHERNET, ETHERNET_LEN);
    word_is(&mut code, ETHERNET + 6, [a, b, c, d]);
    half_is(&mut code, ETHERNET + 10, [e, f]);
    code.add([Insn::mov_imm(0, -1), Insn::exit()]);
    code.label("drop");
    code.add([Insn::mov_imm(0, 2), Insn::exit()]);
    code.finish()
}

const MAC_PREFIX: &str = "vm_";

/// Loads a program that drops what is not from this hardware address; on no interface yet.
pub fn load_mac_filter(mac: [u8; 6]) -> SysResult<OwnedFd> {
    let digits: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    load_program((PROG_TYPE_SCHED_CLS, 0), &mac_program(mac), &format!("{MAC_PREFIX}{digits}"))
}

/// From which hardware address a program lets packets pass; none if it is no such program.
pub fn mac_filter(program: u32) -> SysResult<Option<[u8; 6]>> {
    let name = info(by_id(CMD_PROG_GET_FD_BY_ID, program)?)?.name;
    let digits = name.strip_prefix(MAC_PREFIX).filter(|digits| digits.len() == 12 && digits.is_ascii());
    let byte = |digits: &str, at: usize| u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).ok();
    Ok(digits.and_then(|digits| {
        let mut mac = [0; 6];
        for (at, place) in mac.iter_mut().enumerate() {
            *place = byte(digits, at)?;
        }
        Some(mac)
    }))
}

/// What the map is asked for.
type Key = [u8; 20];

fn key(address: IpAddr) -> Key {
    let mapped = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    key_of(ADDRESS, mapped)
}

fn key_of(kind: i32, address: Ipv6Addr) -> Key {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&kind.to_ne_bytes());
    key[4..].copy_from_slice(&address.octets());
    key
}

/// The addresses that a VE may send from, in the kernel.
#[derive(Debug)]
pub struct Sources {
    map: OwnedFd,
}

impl Sources {
    /// A filter for a VE with this hardware address, on no interface yet: its program, and its map.
    pub fn new(mac: [u8; 6], addresses: &[IpAddr]) -> SysResult<(OwnedFd, Self)> {
        let room = (addresses.len() * 2).max(ROOM) + BESIDES;
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let map = maps::new_map(maps::HASH, (20, 8), room, maps::NO_PREALLOC, NAME)?;
        let sources = Sources { map };
        sources.put(&mut key_of(DROPPED, Ipv6Addr::UNSPECIFIED))?;
        addresses.iter().try_for_each(|address| sources.allow(*address))?;
        let program = load_program((PROG_TYPE_SCHED_CLS, 0), &program(mac, &sources.map), NAME)?;
        Ok((program, sources))
    }

    /// The map of a program that looks at an interface's packets; none if it is no such program.
    pub fn of(program: u32) -> SysResult<Option<Self>> {
        let program = info(by_id(CMD_PROG_GET_FD_BY_ID, program)?)?;
        if program.name != NAME {
            return Ok(None);
        }
        let Some(id) = program.maps.first() else { return Ok(None) };
        Ok(Some(Sources { map: maps::open(*id)? }))
    }

    fn element(&self, key: &mut Key, value: &mut u64) -> Element {
        Element::new(&self.map, key, value)
    }

    fn put(&self, key: &mut Key) -> SysResult<()> {
        bpf("add an address to", CMD_MAP_UPDATE, &mut self.element(key, &mut 0)).map(drop)
    }

    /// Packets from this address pass. E2BIG when there is no room for one more.
    pub fn allow(&self, address: IpAddr) -> SysResult<()> {
        self.put(&mut key(address))
    }

    /// They no longer do.
    pub fn forbid(&self, address: IpAddr) -> SysResult<bool> {
        let mut key = key(address);
        // The kernel wants nothing where other commands have a value.
        let mut element = self.element(&mut key, &mut 0);
        element.value = 0;
        match bpf("take an address out of", CMD_MAP_DELETE, &mut element) {
            Err(e) if e.is_absent() => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// All of them.
    pub fn allowed(&self) -> SysResult<BTreeSet<IpAddr>> {
        let mut found = BTreeSet::new();
        let (mut at, mut next): (Key, Key) = ([0xff; 20], [0; 20]);
        loop {
            let element = &mut Element::new(&self.map, &mut at, &mut next);
            match bpf("list addresses of", CMD_MAP_NEXT_KEY, element) {
                Err(e) if e.is_absent() => return Ok(found),
                other => other?,
            };
            at = next;
            let [a, b, c, d, address @ ..] = next;
            if i32::from_ne_bytes([a, b, c, d]) == ADDRESS {
                found.insert(Ipv6Addr::from(address).to_canonical());
            }
        }
    }

    /// How many packets were dropped.
    pub fn dropped(&self) -> SysResult<u64> {
        let mut count = 0;
        let mut key = key_of(DROPPED, Ipv6Addr::UNSPECIFIED);
        bpf("count drops of", CMD_MAP_LOOKUP, &mut self.element(&mut key, &mut count))?;
        Ok(count)
    }
}

/// Whether the kernel takes such a program at all.
pub fn try_load_sources() -> SysResult<()> {
    Sources::new([2, 0, 0, 0, 0, 1], &[]).map(drop)
}
