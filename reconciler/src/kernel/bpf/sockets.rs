//! Socket counters of one VE: two programs on its version 2 cgroup that count IPv4 and IPv6 sockets when they
//! are made and released, and refuse one above a bound with ENOBUFS.
//!
//! Assembled here like the device program, and found again in the same way: by their name on the cgroup. They
//! hold their maps, and the cgroup holds them, so that nothing has to be pinned and counting goes on whoever
//! runs. Only sockets that the first program has seen are counted down by the second: accepted ones are made
//! without the first, and a socket that was refused is taken back at once, since no release follows.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{Insn, bpf, by_id, describe, find, load_program, own};
use crate::error::{SysError, SysResult};

/// What a VE's sockets are counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// TCP.
    Tcp,
    /// Everything else over IPv4 and IPv6.
    Other,
}

/// What the programs have counted of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SocketCount {
    /// Made and not released.
    pub held: u64,
    /// The most of that.
    pub maxheld: u64,
    /// Refused.
    pub failcnt: u64,
}

const PROG_TYPE_CGROUP_SOCK: u32 = 9;
const ATTACH_SOCK_CREATE: u32 = 2;
const ATTACH_SOCK_RELEASE: u32 = 34;
pub(super) const MAP_TYPE_HASH: u32 = 1;
const MAP_TYPE_ARRAY: u32 = 2;
pub(super) const NO_PREALLOC: u32 = 1;
/// Sockets that are told apart at a time; those beyond are made, and not counted.
const MOST_SOCKETS: u32 = 1 << 20;

const CREATE: &str = "vzd_sock_open";
const RELEASE: &str = "vzd_sock_close";
const COUNTS: &str = "vzd_sockets";

const CMD_MAP_CREATE: libc::c_long = 0;
pub(super) const CMD_MAP_LOOKUP: libc::c_long = 1;
pub(super) const CMD_MAP_UPDATE: libc::c_long = 2;
const CMD_PROG_ATTACH: libc::c_long = 8;
pub(super) const CMD_MAP_GET_FD_BY_ID: libc::c_long = 14;
const F_ALLOW_MULTI: u32 = 2;

pub(super) const CALL_LOOKUP: i32 = 1;
const CALL_UPDATE: i32 = 2;
const CALL_DELETE: i32 = 3;
const CALL_COOKIE: i32 = 46;
const CALL_SET_RETVAL: i32 = 187;

/// Offset of `protocol` in `struct bpf_sock`, and what it is for TCP.
const PROTOCOL: i16 = 12;
const TCP: i32 = 6;

/// Places in `SocketCount`.
const HELD: i16 = 0;
const MAXHELD: i16 = 8;
const FAILCNT: i16 = 16;

/// Places below the frame pointer.
const KIND: i16 = -4;
const COOKIE: i16 = -16;

/// Instructions with jumps to names, which are put in once all is known.
#[derive(Default)]
pub(super) struct Assembly {
    program: Vec<Insn>,
    jumps: Vec<(usize, &'static str)>,
    labels: Vec<(&'static str, usize)>,
}

impl Assembly {
    pub(super) fn add(&mut self, insns: impl IntoIterator<Item = Insn>) {
        self.program.extend(insns);
    }

    pub(super) fn label(&mut self, name: &'static str) {
        self.labels.push((name, self.program.len()));
    }

    pub(super) fn jump(&mut self, insn: Insn, to: &'static str) {
        self.jumps.push((self.program.len(), to));
        self.program.push(insn);
    }

    pub(super) fn finish(mut self) -> Vec<Insn> {
        for (at, to) in self.jumps {
            let there = self.labels.iter().find(|(name, _)| *name == to).map_or(at, |(_, there)| *there);
            self.program[at].off = i16::try_from(there - at - 1).unwrap_or(i16::MAX);
        }
        self.program
    }
}

/// `dst = map`, in two instructions.
pub(super) fn map(dst: u8, fd: &OwnedFd) -> [Insn; 2] {
    [Insn::new(0x18, dst, 1, 0, fd.as_raw_fd()), Insn::new(0, 0, 0, 0, 0)]
}

/// `dst = frame pointer + off`
pub(super) fn frame(dst: u8, off: i16) -> [Insn; 2] {
    [Insn::mov(dst, 10), Insn::new(0x07, dst, 0, 0, off.into())]
}

pub(super) const fn call(helper: i32) -> Insn {
    Insn::new(0x85, 0, 0, 0, helper)
}

/// `*(u64 *)(dst + off) = src`
const fn store(dst: u8, off: i16, src: u8) -> Insn {
    Insn::new(0x7b, dst, src, off, 0)
}

/// `*(u32 *)(dst + off) = src`
pub(super) const fn store_word(dst: u8, off: i16, src: u8) -> Insn {
    Insn::new(0x63, dst, src, off, 0)
}

/// `dst = *(u64 *)(src + off)`
const fn load_double(dst: u8, src: u8, off: i16) -> Insn {
    Insn::new(0x79, dst, src, off, 0)
}

/// `*(u64 *)(dst + off) += src`, atomically
pub(super) const fn atomic_add(dst: u8, off: i16, src: u8) -> Insn {
    Insn::new(0xdb, dst, src, off, 0)
}

/// The same, with the value before in `src`.
const fn atomic_fetch_add(dst: u8, off: i16, src: u8) -> Insn {
    Insn::new(0xdb, dst, src, off, 1)
}

pub(super) const IF_ZERO: Insn = Insn::new(0x15, 0, 0, 0, 0);

/// If r9 is not above another.
const fn if_r9_not_above(other: u8) -> Insn {
    Insn::new(0xbd, 9, other, 0, 0)
}

/// The maps of one VE.
struct Maps {
    /// `SocketCount` by kind.
    counts: OwnedFd,
    /// No more than so many are made, by kind.
    barriers: OwnedFd,
    /// The kind of each socket that was counted, by its cookie.
    cookies: OwnedFd,
}

/// r6: the socket, r7: the barrier, r8: the counts of its kind, r9: how many there are with it.
fn create_program(Maps { counts, barriers, cookies }: &Maps) -> Vec<Insn> {
    let mut code = Assembly::default();
    code.add([Insn::mov(6, 1), Insn::load(7, 6, PROTOCOL), Insn::mov_imm(8, 0)]);
    code.jump(Insn::new(0x15, 7, 0, 0, TCP), "kind is known");
    code.add([Insn::mov_imm(8, 1)]);
    code.label("kind is known");
    code.add([store_word(10, KIND, 8)]);
    code.add(map(1, barriers));
    code.add(frame(2, KIND));
    code.add([call(CALL_LOOKUP)]);
    code.jump(IF_ZERO, "allow");
    code.add([load_double(7, 0, 0)]);
    code.add(map(1, counts));
    code.add(frame(2, KIND));
    code.add([call(CALL_LOOKUP)]);
    code.jump(IF_ZERO, "allow");
    code.add([
        Insn::mov(8, 0),
        Insn::mov_imm(9, 1),
        atomic_fetch_add(8, HELD, 9),
        Insn::new(0x07, 9, 0, 0, 1),
    ]);
    code.jump(if_r9_not_above(7), "fits");
    code.add([
        Insn::mov_imm(1, -1),
        atomic_add(8, HELD, 1),
        Insn::mov_imm(1, 1),
        atomic_add(8, FAILCNT, 1),
        Insn::mov_imm(1, -libc::ENOBUFS),
        call(CALL_SET_RETVAL),
        Insn::mov_imm(0, 0),
        Insn::exit(),
    ]);
    code.label("fits");
    code.add([load_double(1, 8, MAXHELD)]);
    code.jump(if_r9_not_above(1), "remember");
    code.add([store(8, MAXHELD, 9)]);
    code.label("remember");
    code.add([Insn::mov(1, 6), call(CALL_COOKIE), store(10, COOKIE, 0)]);
    code.add(map(1, cookies));
    code.add(frame(2, COOKIE));
    code.add(frame(3, KIND));
    code.add([Insn::mov_imm(4, 0), call(CALL_UPDATE)]);
    code.jump(IF_ZERO, "allow");
    // What cannot be told apart later is not counted.
    code.add([Insn::mov_imm(1, -1), atomic_add(8, HELD, 1)]);
    code.label("allow");
    code.add([Insn::mov_imm(0, 1), Insn::exit()]);
    code.finish()
}

fn release_program(Maps { counts, barriers: _, cookies }: &Maps) -> Vec<Insn> {
    let mut code = Assembly::default();
    code.add([call(CALL_COOKIE), store(10, COOKIE, 0)]);
    code.add(map(1, cookies));
    code.add(frame(2, COOKIE));
    code.add([call(CALL_LOOKUP)]);
    code.jump(IF_ZERO, "done");
    code.add([Insn::load(1, 0, 0), store_word(10, KIND, 1)]);
    code.add(map(1, counts));
    code.add(frame(2, KIND));
    code.add([call(CALL_LOOKUP)]);
    code.jump(IF_ZERO, "done");
    code.add([Insn::mov_imm(1, -1), atomic_add(0, HELD, 1)]);
    code.add(map(1, cookies));
    code.add(frame(2, COOKIE));
    code.add([call(CALL_DELETE)]);
    code.label("done");
    code.add([Insn::mov_imm(0, 1), Insn::exit()]);
    code.finish()
}

pub(super) fn new_map(
    kind: u32,
    sizes: (u32, u32),
    entries: u32,
    flags: u32,
    name: &str,
) -> SysResult<OwnedFd> {
    #[repr(C)]
    struct Create {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        inner_map_fd: u32,
        numa_node: u32,
        map_name: [u8; 16],
    }
    let mut map_name = [0; 16];
    map_name.iter_mut().zip(name.bytes().take(15)).for_each(|(slot, byte)| *slot = byte);
    let mut attr = Create {
        map_type: kind,
        key_size: sizes.0,
        value_size: sizes.1,
        max_entries: entries,
        map_flags: flags,
        inner_map_fd: 0,
        numa_node: 0,
        map_name,
    };
    bpf("make map of", CMD_MAP_CREATE, &mut attr).map(own)
}

/// Programs that are loaded and attached to nothing yet, without bounds.
fn load() -> SysResult<(OwnedFd, OwnedFd, Maps)> {
    let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    let maps = Maps {
        counts: new_map(MAP_TYPE_ARRAY, (4, size(size_of::<SocketCount>())), 2, 0, COUNTS)?,
        barriers: new_map(MAP_TYPE_ARRAY, (4, 8), 2, 0, "vzd_barriers")?,
        cookies: new_map(MAP_TYPE_HASH, (8, 4), MOST_SOCKETS, NO_PREALLOC, "vzd_cookies")?,
    };
    for kind in [SocketKind::Tcp, SocketKind::Other] {
        let (mut key, mut none) = (0, u64::MAX);
        bpf("set bounds of", CMD_MAP_UPDATE, &mut element(&maps.barriers, kind, &mut key, &mut none))?;
    }
    let create = load_program((PROG_TYPE_CGROUP_SOCK, ATTACH_SOCK_CREATE), &create_program(&maps), CREATE)?;
    let release =
        load_program((PROG_TYPE_CGROUP_SOCK, ATTACH_SOCK_RELEASE), &release_program(&maps), RELEASE)?;
    Ok((create, release, maps))
}

/// Whether the kernel takes such programs at all: loads them and lets go of them.
pub fn try_load_sockets() -> SysResult<()> {
    load().map(drop)
}

fn attach(cgroup: BorrowedFd<'_>, program: &OwnedFd, attach_type: u32) -> SysResult<()> {
    #[repr(C)]
    struct Attach {
        target_fd: i32,
        prog_fd: i32,
        attach_type: u32,
        attach_flags: u32,
    }
    let mut attr = Attach {
        target_fd: cgroup.as_raw_fd(),
        prog_fd: program.as_raw_fd(),
        attach_type,
        attach_flags: F_ALLOW_MULTI,
    };
    bpf("attach", CMD_PROG_ATTACH, &mut attr).map(drop)
}

/// The map of a cgroup's first program whose values have this size; none where sockets are not counted.
fn map_of(cgroup: BorrowedFd<'_>, value_size: usize) -> SysResult<Option<OwnedFd>> {
    /// `struct bpf_map_info` up to and with `value_size`.
    #[repr(C)]
    #[derive(Default)]
    struct MapInfo {
        kind: u32,
        id: u32,
        key_size: u32,
        value_size: u32,
    }
    let Some(create) = find(cgroup, ATTACH_SOCK_CREATE, |name| name == CREATE)? else { return Ok(None) };
    for id in create.maps {
        let map = by_id(CMD_MAP_GET_FD_BY_ID, id)?;
        let mut info = MapInfo::default();
        describe(&map, &mut info)?;
        if info.value_size as usize == value_size {
            return Ok(Some(map));
        }
    }
    Err(SysError::refused("find", "socket counts", "the program on the cgroup has no such map"))
}

#[repr(C)]
pub(super) struct Element {
    pub(super) map_fd: u32,
    pub(super) pad: u32,
    pub(super) key: u64,
    pub(super) value: u64,
    pub(super) flags: u64,
}

fn element<T>(map: &OwnedFd, kind: SocketKind, key: &mut u32, value: &mut T) -> Element {
    *key = u32::from(kind == SocketKind::Other);
    Element {
        map_fd: map.as_raw_fd().cast_unsigned(),
        pad: 0,
        key: std::ptr::from_mut(key) as u64,
        value: std::ptr::from_mut(value) as u64,
        flags: 0,
    }
}

fn read<T: Default>(map: &OwnedFd, kind: SocketKind) -> SysResult<T> {
    let (mut key, mut value) = (0, T::default());
    bpf("read counts of", CMD_MAP_LOOKUP, &mut element(map, kind, &mut key, &mut value))?;
    Ok(value)
}

/// Begins to count the sockets of a cgroup, unless that is so already. Those that there are stay uncounted.
pub fn count_sockets(cgroup: impl AsFd) -> SysResult<()> {
    let cgroup = cgroup.as_fd();
    if map_of(cgroup, size_of::<u64>())?.is_some() {
        return Ok(());
    }
    let (create, release, _) = load()?;
    // In this order nothing is counted up that would not be counted down.
    attach(cgroup, &release, ATTACH_SOCK_RELEASE)?;
    attach(cgroup, &create, ATTACH_SOCK_CREATE)
}

/// Refuses sockets above so many; also what is more than that already.
pub fn set_socket_barrier(cgroup: impl AsFd, kind: SocketKind, barrier: Option<u64>) -> SysResult<()> {
    let map = map_of(cgroup.as_fd(), size_of::<u64>())?;
    let map = map.ok_or_else(|| SysError::refused("bound", "sockets", "nothing counts them"))?;
    let (mut key, mut value) = (0, barrier.unwrap_or(u64::MAX));
    bpf("set bounds of", CMD_MAP_UPDATE, &mut element(&map, kind, &mut key, &mut value)).map(drop)
}

/// The bound in force, if there is one.
pub fn socket_barrier(cgroup: impl AsFd, kind: SocketKind) -> SysResult<Option<u64>> {
    let Some(map) = map_of(cgroup.as_fd(), size_of::<u64>())? else { return Ok(None) };
    Ok(Some(read::<u64>(&map, kind)?).filter(|barrier| *barrier != u64::MAX))
}

/// What was counted of a kind on this cgroup; none where nothing counts.
pub fn socket_count(cgroup: impl AsFd, kind: SocketKind) -> SysResult<Option<SocketCount>> {
    map_of(cgroup.as_fd(), size_of::<SocketCount>())?.map(|map| read(&map, kind)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_lead_where_they_are_to() {
        let mut code = Assembly::default();
        code.jump(IF_ZERO, "end");
        code.add([Insn::mov_imm(0, 1), Insn::exit()]);
        code.label("end");
        code.add([Insn::mov_imm(0, 0), Insn::exit()]);
        assert_eq!(code.finish()[0].off, 2);
    }

    #[test]
    fn names_fit_and_are_no_device_programs() {
        for name in [CREATE, RELEASE, COUNTS] {
            assert!(name.len() <= 15, "{name}");
        }
    }
}
