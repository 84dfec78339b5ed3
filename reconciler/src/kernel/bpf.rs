//! BPF programs: load, attach to control groups, and find again.
//!
//! Programs are assembled here, instruction by instruction (no compiler, no object file). One that is
//! attached stays so without anybody holding a descriptor, goes with what it is attached to, and is found by
//! its name; its maps are found by the program. `device` is about device nodes, `sockets` and `files` count and
//! refuse those, `source` filters packets; `insn` has the instructions, `charge` those of a counter, `maps` the maps,
//! `btf` the kernel's own types. Layouts follow include/uapi/linux/bpf.h.

mod btf;
mod charge;
mod device;
mod files;
mod insn;
mod maps;
mod sockets;
mod source;

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use self::insn::Insn;
use crate::error::{SysError, SysResult};

pub use charge::Count;
pub use device::{DeviceKind, DeviceRule, Programs, device_rules_digest, set_device_rules, try_load};
pub use files::{count_files, file_barrier, file_count, forget_files, set_file_barrier, try_load_files};
pub use sockets::{
    SocketKind, count_sockets, set_socket_barrier, socket_barrier, socket_count, try_load_sockets,
};
pub use source::{Sources, load_mac_filter, mac_filter, try_load_sources};

const CMD_PROG_LOAD: libc::c_long = 5;
const CMD_PROG_ATTACH: libc::c_long = 8;
const CMD_PROG_DETACH: libc::c_long = 9;
const CMD_PROG_GET_FD_BY_ID: libc::c_long = 13;
const CMD_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const CMD_PROG_QUERY: libc::c_long = 16;
const F_ALLOW_MULTI: u32 = 2;
const F_REPLACE: u32 = 4;

fn bpf<T>(op: &str, command: libc::c_long, attr: &mut T) -> SysResult<i32> {
    // SAFETY: every caller passes a repr(C) struct that starts like union bpf_attr for its command and
    // whose pointers refer to buffers that outlive the call; the size passed is its own.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    match i32::try_from(rc) {
        Ok(rc) if rc >= 0 => Ok(rc),
        _ => Err(SysError::new(op, "BPF program", std::io::Error::last_os_error())),
    }
}

fn own(fd: i32) -> OwnedFd {
    // SAFETY: `fd` was returned just now by a bpf command that makes a new descriptor.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Loads a program of a type for a place to attach it to, by a name of at most 15 bytes.
fn load_program(kind: (u32, u32), program: &[Insn], named: &str) -> SysResult<OwnedFd> {
    load_at(kind, 0, program, named)
}

/// The same, for a function of the kernel by its number in `btf`.
fn load_at(kind: (u32, u32), function: u32, program: &[Insn], named: &str) -> SysResult<OwnedFd> {
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
        about_types: [u32; 9],
        attach_btf_id: u32,
    }
    let mut name = [0_u8; 16];
    name.iter_mut().zip(named.bytes().take(15)).for_each(|(slot, byte)| *slot = byte);
    let mut attr = Load {
        prog_type: kind.0,
        insn_cnt: u32::try_from(program.len()).unwrap_or(u32::MAX),
        insns: program.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: name,
        prog_ifindex: 0,
        expected_attach_type: kind.1,
        about_types: [0; 9],
        attach_btf_id: function,
    };
    bpf("load", CMD_PROG_LOAD, &mut attr).map(own)
}

/// The programs attached to `cgroup` itself in this place: their ids.
fn attached(cgroup: BorrowedFd<'_>, attach_type: u32) -> SysResult<Vec<u32>> {
    #[repr(C)]
    struct Query {
        target_fd: i32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        prog_cnt: u32,
        pad: u32,
        prog_attach_flags: u64,
    }
    let (mut ids, mut flags) = ([0_u32; 64], [0_u32; 64]);
    // Programs at security hooks are told with these, and no others are.
    let wants_flags = attach_type == files::ATTACH_LSM_CGROUP;
    let mut attr = Query {
        target_fd: cgroup.as_raw_fd(),
        attach_type,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        pad: 0,
        prog_attach_flags: if wants_flags { flags.as_mut_ptr() as u64 } else { 0 },
    };
    bpf("query", CMD_PROG_QUERY, &mut attr)?;
    Ok(ids[..attr.prog_cnt.min(64) as usize].to_vec())
}

/// Attaches a program to a cgroup, beside those of others, in one step in place of another of ours.
fn attach(
    cgroup: BorrowedFd<'_>,
    program: &OwnedFd,
    attach_type: u32,
    replace: Option<&OwnedFd>,
) -> SysResult<()> {
    #[repr(C)]
    struct Attach {
        target_fd: i32,
        prog_fd: i32,
        attach_type: u32,
        attach_flags: u32,
        replace_fd: i32,
    }
    let mut attr = Attach {
        target_fd: cgroup.as_raw_fd(),
        prog_fd: program.as_raw_fd(),
        attach_type,
        attach_flags: F_ALLOW_MULTI | if replace.is_some() { F_REPLACE } else { 0 },
        replace_fd: replace.map_or(0, AsRawFd::as_raw_fd),
    };
    bpf("attach", CMD_PROG_ATTACH, &mut attr).map(drop)
}

/// Takes a program off a cgroup.
fn detach(cgroup: BorrowedFd<'_>, program: &OwnedFd, attach_type: u32) -> SysResult<()> {
    #[repr(C)]
    struct Detach {
        target_fd: i32,
        prog_fd: i32,
        attach_type: u32,
    }
    let mut attr = Detach { target_fd: cgroup.as_raw_fd(), prog_fd: program.as_raw_fd(), attach_type };
    bpf("detach", CMD_PROG_DETACH, &mut attr).map(drop)
}

/// A program in the kernel.
struct Found {
    fd: OwnedFd,
    name: String,
    maps: Vec<u32>,
}

/// The first program in a place of a cgroup whose name is as wanted.
fn find(
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
    is_wanted: impl Fn(&str) -> bool,
) -> SysResult<Option<Found>> {
    for id in attached(cgroup, attach_type)? {
        let found = info(by_id(CMD_PROG_GET_FD_BY_ID, id)?)?;
        if is_wanted(&found.name) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What a program is called, and which maps it has.
fn info(fd: OwnedFd) -> SysResult<Found> {
    /// `struct bpf_prog_info` up to and with `name`.
    #[repr(C)]
    struct ProgInfo {
        before_maps: [u8; 52],
        nr_map_ids: u32,
        map_ids: u64,
        name: [u8; 16],
    }
    let mut maps = [0_u32; 8];
    let mut info =
        ProgInfo { before_maps: [0; 52], nr_map_ids: 8, map_ids: maps.as_mut_ptr() as u64, name: [0; 16] };
    describe(&fd, &mut info)?;
    let name = String::from_utf8_lossy(&info.name).trim_end_matches('\0').to_owned();
    let maps = maps[..info.nr_map_ids.min(8) as usize].to_vec();
    Ok(Found { fd, name, maps })
}

/// Opens a program or map.
fn by_id(command: libc::c_long, id: u32) -> SysResult<OwnedFd> {
    #[repr(C)]
    struct ById {
        id: u32,
        next_id: u32,
        open_flags: u32,
    }
    bpf("open", command, &mut ById { id, next_id: 0, open_flags: 0 }).map(own)
}

/// Fills in what the kernel tells of a program or map: `T` is the beginning of its info structure.
fn describe<T>(fd: &OwnedFd, info: &mut T) -> SysResult<()> {
    #[repr(C)]
    struct InfoByFd {
        fd: i32,
        info_len: u32,
        info: u64,
    }
    let info_len = u32::try_from(size_of::<T>()).unwrap_or_default();
    let mut attr = InfoByFd { fd: fd.as_raw_fd(), info_len, info: std::ptr::from_mut(info) as u64 };
    bpf("describe", CMD_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}
