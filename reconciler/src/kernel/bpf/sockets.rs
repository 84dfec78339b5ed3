//! Socket counters of one VE: two programs on its version 2 cgroup that count IPv4 and IPv6 sockets when they
//! are made and released, and refuse one above a bound with ENOBUFS.
//!
//! Assembled here like the device program, and found again in the same way: by their name on the cgroup. They
//! hold their maps, and the cgroup holds them, so that nothing has to be pinned and counting goes on whoever
//! runs. Only sockets that the first program has seen are counted down by the second: accepted ones are made
//! without the first, and a socket that was refused is taken back at once, since no release follows.
//!
//! Which those are is remembered by their cookies, in a place that follows from the cookie, where that is free, which
//! costs one atomic instruction; otherwise with the socket itself, for which memory has to be had.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::charge::{Count, charge, release};
use super::insn::{
    Assembly, CALL_LOOKUP, IF_NOT_ZERO, IF_ZERO, Insn, add, call, compare_exchange, frame, if_equal,
    load_double, map, map_value, shift_left, store_word,
};
use super::{attach, find, load_program, maps};
use crate::error::{SysError, SysResult};

/// What a VE's sockets are counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// TCP.
    Tcp,
    /// Everything else over IPv4 and IPv6.
    Other,
}

impl SocketKind {
    /// Its place in maps.
    fn key(self) -> u32 {
        u32::from(self == Self::Other)
    }
}

const PROG_TYPE_CGROUP_SOCK: u32 = 9;
const ATTACH_SOCK_CREATE: u32 = 2;
const ATTACH_SOCK_RELEASE: u32 = 34;

const CREATE: &str = "vzd_sock_open";
const RELEASE: &str = "vzd_sock_close";
const COUNTS: &str = "vzd_sockets";

/// Places for cookies. Most sockets live briefly and few at a time.
const PLACES: i32 = 4096;

const CALL_COOKIE: i32 = 46;
const CALL_STORAGE: i32 = 107;
/// Makes it where there is none.
const CREATE_STORAGE: i32 = 1;

/// Offset of `protocol` in `struct bpf_sock`, and what it is for TCP.
const PROTOCOL: i16 = 12;
const TCP: i32 = 6;

/// Its place below the frame pointer.
const KIND: i16 = -4;

/// The maps of one VE.
struct Maps {
    /// `Count` by kind.
    counts: OwnedFd,
    /// No more than so many are made, by kind.
    barriers: OwnedFd,
    /// The cookie of a socket that was counted, in its place.
    places: OwnedFd,
    /// Something for each other socket that was counted.
    others: OwnedFd,
}

/// r8: the kind of the socket in r6.
fn kind(code: &mut Assembly) {
    code.add([Insn::load(7, 6, PROTOCOL), Insn::mov_imm(8, 0)]);
    code.jump(Insn::new(0x15, 7, 0, 0, TCP), "kind is known");
    code.add([Insn::mov_imm(8, 1)]);
    code.label("kind is known");
}

/// r1: the cookie of the socket in r6, r3: its place.
fn place(code: &mut Assembly, places: &OwnedFd) {
    code.add([Insn::mov(1, 6), call(CALL_COOKIE)]);
    code.add(map_value(3, places));
    code.add([Insn::mov(1, 0), Insn::mov(2, 0), Insn::and_imm(2, PLACES - 1), shift_left(2, 3), add(3, 2)]);
}

/// r0: what is kept with the socket in r6, or nothing.
fn storage(code: &mut Assembly, others: &OwnedFd, flags: i32) {
    code.add(map(1, others));
    code.add([Insn::mov(2, 6), Insn::mov_imm(3, 0), Insn::mov_imm(4, flags), call(CALL_STORAGE)]);
}

/// r6: the socket, r7: the barrier, r8: the counts of its kind, r9: how many there are with it.
fn create_program(Maps { counts, barriers, places, others }: &Maps) -> Vec<Insn> {
    let mut code = Assembly::default();
    code.add([Insn::mov(6, 1)]);
    kind(&mut code);
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
    code.add([Insn::mov(8, 0)]);
    charge(&mut code, 7, libc::ENOBUFS);
    place(&mut code, places);
    code.add([Insn::mov_imm(0, 0), compare_exchange(3, 1)]);
    code.jump(IF_ZERO, "allow");
    // Another has it.
    storage(&mut code, others, CREATE_STORAGE);
    code.jump(IF_NOT_ZERO, "allow");
    // What cannot be told apart later is not counted.
    code.add(release(8));
    code.label("allow");
    code.add([Insn::mov_imm(0, 1), Insn::exit()]);
    code.finish()
}

fn release_program(Maps { counts, barriers: _, places, others }: &Maps) -> Vec<Insn> {
    let mut code = Assembly::default();
    code.add([Insn::mov(6, 1)]);
    place(&mut code, places);
    code.add([Insn::mov(7, 1), Insn::mov_imm(2, 0), compare_exchange(3, 2)]);
    code.jump(if_equal(0, 7), "it was in its place");
    storage(&mut code, others, 0);
    code.jump(IF_ZERO, "done");
    code.label("it was in its place");
    kind(&mut code);
    code.add([store_word(10, KIND, 8)]);
    code.add(map(1, counts));
    code.add(frame(2, KIND));
    code.add([call(CALL_LOOKUP)]);
    code.jump(IF_ZERO, "done");
    code.add(release(0));
    code.label("done");
    code.add([Insn::mov_imm(0, 1), Insn::exit()]);
    code.finish()
}

/// Programs that are loaded and attached to nothing yet, without bounds.
fn load() -> SysResult<(OwnedFd, OwnedFd, Maps)> {
    let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    let maps = Maps {
        counts: maps::new_map(maps::ARRAY, (4, size(size_of::<Count>())), 2, 0, COUNTS)?,
        barriers: maps::new_map(maps::ARRAY, (4, 8), 2, 0, "vzd_barriers")?,
        places: maps::new_map(maps::ARRAY, (4, PLACES.unsigned_abs() * 8), 1, 0, "vzd_places")?,
        others: maps::new_socket_storage("vzd_sock_more")?,
    };
    for kind in [SocketKind::Tcp, SocketKind::Other] {
        maps::write(&maps.barriers, kind.key(), u64::MAX)?;
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

/// The map of a cgroup's first program whose values have this size; none where sockets are not counted.
fn map_of(cgroup: BorrowedFd<'_>, value_size: usize) -> SysResult<Option<OwnedFd>> {
    let Some(create) = find(cgroup, ATTACH_SOCK_CREATE, |name| name == CREATE)? else { return Ok(None) };
    let map = maps::of_program(create, value_size)?;
    let missing = || SysError::refused("find", "socket counts", "the program on the cgroup has no such map");
    map.ok_or_else(missing).map(Some)
}

/// Begins to count the sockets of a cgroup, unless that is so already. Those that there are stay uncounted.
pub fn count_sockets(cgroup: impl AsFd) -> SysResult<()> {
    let cgroup = cgroup.as_fd();
    if map_of(cgroup, size_of::<u64>())?.is_some() {
        return Ok(());
    }
    let (create, release, _) = load()?;
    // In this order nothing is counted up that would not be counted down.
    attach(cgroup, &release, ATTACH_SOCK_RELEASE, None)?;
    attach(cgroup, &create, ATTACH_SOCK_CREATE, None)
}

/// Refuses sockets above so many; also what is more than that already.
pub fn set_socket_barrier(cgroup: impl AsFd, kind: SocketKind, barrier: Option<u64>) -> SysResult<()> {
    let map = map_of(cgroup.as_fd(), size_of::<u64>())?;
    let map = map.ok_or_else(|| SysError::refused("bound", "sockets", "nothing counts them"))?;
    maps::write(&map, kind.key(), barrier.unwrap_or(u64::MAX))
}

/// The bound in force, if there is one.
pub fn socket_barrier(cgroup: impl AsFd, kind: SocketKind) -> SysResult<Option<u64>> {
    let Some(map) = map_of(cgroup.as_fd(), size_of::<u64>())? else { return Ok(None) };
    Ok(Some(maps::read::<_, u64>(&map, kind.key())?).filter(|barrier| *barrier != u64::MAX))
}

/// What was counted of a kind on this cgroup; none where nothing counts.
pub fn socket_count(cgroup: impl AsFd, kind: SocketKind) -> SysResult<Option<Count>> {
    map_of(cgroup.as_fd(), size_of::<Count>())?.map(|map| maps::read(&map, kind.key())).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_no_device_programs() {
        for name in [CREATE, RELEASE, COUNTS] {
            assert!(name.len() <= 15, "{name}");
        }
    }
}
