//! Maps of BPF programs: make one, find one by its program, read and write an element.

use std::os::fd::{AsRawFd, OwnedFd};

use super::{Found, bpf, btf, by_id, describe, own};
use crate::error::SysResult;

pub(super) const HASH: u32 = 1;
pub(super) const ARRAY: u32 = 2;
const HASH_OF_MAPS: u32 = 13;
const SOCKET_STORAGE: u32 = 24;
pub(super) const NO_PREALLOC: u32 = 1;

pub(super) const CMD_MAP_LOOKUP: libc::c_long = 1;
pub(super) const CMD_MAP_UPDATE: libc::c_long = 2;
pub(super) const CMD_MAP_DELETE: libc::c_long = 3;
pub(super) const CMD_MAP_NEXT_KEY: libc::c_long = 4;
const CMD_MAP_CREATE: libc::c_long = 0;
const CMD_MAP_GET_FD_BY_ID: libc::c_long = 14;

/// Makes a map of keys and values of these sizes.
pub(super) fn new_map(
    kind: u32,
    sizes: (u32, u32),
    entries: u32,
    flags: u32,
    name: &str,
) -> SysResult<OwnedFd> {
    make(kind, sizes, entries, flags, Like::Nothing, name)
}

/// Makes a map of maps that are like another.
pub(super) fn new_map_of(inner: &OwnedFd, key_size: u32, entries: u32, name: &str) -> SysResult<OwnedFd> {
    make(HASH_OF_MAPS, (key_size, 4), entries, NO_PREALLOC, Like::Map(inner), name)
}

/// Makes a map of a word for each socket that one is kept for; it goes with the socket.
pub(super) fn new_socket_storage(name: &str) -> SysResult<OwnedFd> {
    let types = btf::load_int()?;
    make(SOCKET_STORAGE, (4, 4), 0, NO_PREALLOC, Like::Int(&types), name)
}

/// What else the kernel has to know of a map's values.
enum Like<'a> {
    Nothing,
    /// They are maps like this one.
    Map(&'a OwnedFd),
    /// They and the keys are of the first of these types.
    Int(&'a OwnedFd),
}

fn make(
    kind: u32,
    sizes: (u32, u32),
    entries: u32,
    flags: u32,
    like: Like<'_>,
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
        map_ifindex: u32,
        btf_fd: u32,
        btf_key_type_id: u32,
        btf_value_type_id: u32,
    }
    let fd = |fd: &OwnedFd| fd.as_raw_fd().cast_unsigned();
    let (inner_map_fd, btf_fd, of_type) = match like {
        Like::Nothing => (0, 0, 0),
        Like::Map(inner) => (fd(inner), 0, 0),
        Like::Int(types) => (0, fd(types), 1),
    };
    let mut map_name = [0; 16];
    map_name.iter_mut().zip(name.bytes().take(15)).for_each(|(slot, byte)| *slot = byte);
    let mut attr = Create {
        map_type: kind,
        key_size: sizes.0,
        value_size: sizes.1,
        max_entries: entries,
        map_flags: flags,
        inner_map_fd,
        numa_node: 0,
        map_name,
        map_ifindex: 0,
        btf_fd,
        btf_key_type_id: of_type,
        btf_value_type_id: of_type,
    };
    bpf("make map of", CMD_MAP_CREATE, &mut attr).map(own)
}

/// Opens a map.
pub(super) fn open(id: u32) -> SysResult<OwnedFd> {
    by_id(CMD_MAP_GET_FD_BY_ID, id)
}

/// The first map of a program whose values have this size.
pub(super) fn of_program(program: Found, value_size: usize) -> SysResult<Option<OwnedFd>> {
    /// `struct bpf_map_info` up to and with `value_size`.
    #[repr(C)]
    #[derive(Default)]
    struct MapInfo {
        kind: u32,
        id: u32,
        key_size: u32,
        value_size: u32,
    }
    for id in program.maps {
        let map = open(id)?;
        let mut info = MapInfo::default();
        describe(&map, &mut info)?;
        if info.value_size as usize == value_size {
            return Ok(Some(map));
        }
    }
    Ok(None)
}

/// `union bpf_attr` for one element.
#[repr(C)]
pub(super) struct Element {
    map_fd: u32,
    pad: u32,
    key: u64,
    pub(super) value: u64,
    flags: u64,
}

impl Element {
    /// Of a map whose keys and values have these types.
    pub(super) fn new<K, V>(map: &OwnedFd, key: &mut K, value: &mut V) -> Self {
        Element {
            map_fd: map.as_raw_fd().cast_unsigned(),
            pad: 0,
            key: std::ptr::from_mut(key) as u64,
            value: std::ptr::from_mut(value) as u64,
            flags: 0,
        }
    }
}

/// The value of a key.
pub(super) fn read<K: Copy, V: Default>(map: &OwnedFd, key: K) -> SysResult<V> {
    let (mut key, mut value) = (key, V::default());
    bpf("read map of", CMD_MAP_LOOKUP, &mut Element::new(map, &mut key, &mut value))?;
    Ok(value)
}

/// Sets the value of a key.
pub(super) fn write<K: Copy, V: Copy>(map: &OwnedFd, key: K, value: V) -> SysResult<()> {
    let (mut key, mut value) = (key, value);
    bpf("write map of", CMD_MAP_UPDATE, &mut Element::new(map, &mut key, &mut value)).map(drop)
}

/// Takes a key out; one that is not there is none.
pub(super) fn delete<K: Copy>(map: &OwnedFd, key: K) -> SysResult<()> {
    let mut key = key;
    // The kernel wants nothing where other commands have a value.
    let element = &mut Element { value: 0, ..Element::new(map, &mut key, &mut 0_u64) };
    match bpf("take a key out of map of", CMD_MAP_DELETE, element) {
        Err(e) if e.is_absent() => Ok(()),
        other => other.map(drop),
    }
}

/// All keys.
pub(super) fn keys<K: Copy + Default>(map: &OwnedFd) -> SysResult<Vec<K>> {
    let (mut at, mut next, mut keys) = (K::default(), K::default(), Vec::new());
    let mut element = Element { key: 0, ..Element::new(map, &mut at, &mut next) };
    loop {
        match bpf("list keys of map of", CMD_MAP_NEXT_KEY, &mut element) {
            Err(e) if e.is_absent() => return Ok(keys),
            other => other?,
        };
        keys.push(next);
        at = next;
        element = Element::new(map, &mut at, &mut next);
    }
}
