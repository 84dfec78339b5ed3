//! A cgroup device program: which device nodes a VE may open, enforced by the kernel.
//!
//! The program is assembled here from a list of rules (no compiler, no object file) and attached to the
//! VE's version 2 cgroup, on hybrid hosts as well. It stays attached without anybody holding a
//! descriptor, and is replaced atomically. Its name carries the digest of the rules, so that what is
//! in force can be read back. Layouts follow include/uapi/linux/bpf.h.

mod sockets;
mod source;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{SysError, SysResult};

pub use sockets::{
    SocketCount, SocketKind, count_sockets, set_socket_barrier, socket_barrier, socket_count,
    try_load_sockets,
};
pub use source::{Sources, load_mac_filter, mac_filter, try_load_sources};

/// What kind of node a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Character devices.
    Char,
    /// Block devices.
    Block,
    /// Both.
    Any,
}

/// One allowance. What no rule allows is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Kind of node.
    pub kind: DeviceKind,
    /// Major number, or any.
    pub major: Option<u32>,
    /// Minor number, or any.
    pub minor: Option<u32>,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// A node of it may be made.
    pub mknod: bool,
}

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const CMD_PROG_LOAD: libc::c_long = 5;
const CMD_PROG_ATTACH: libc::c_long = 8;
const CMD_PROG_GET_FD_BY_ID: libc::c_long = 13;
const CMD_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const CMD_PROG_QUERY: libc::c_long = 16;
const F_ALLOW_MULTI: u32 = 2;
const F_REPLACE: u32 = 4;

/// Every program of ours is named so, followed by the digest of its rules.
const NAME_PREFIX: &str = "vzd_";

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Insn {
    code: u8,
    regs: u8,
    off: i16,
    imm: i32,
}

impl Insn {
    const fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        Insn { code, regs: dst | src << 4, off, imm }
    }
    /// `dst = *(u32 *)(src + off)`
    const fn load(dst: u8, src: u8, off: i16) -> Self {
        Insn::new(0x61, dst, src, off, 0)
    }
    const fn mov(dst: u8, src: u8) -> Self {
        Insn::new(0xbf, dst, src, 0, 0)
    }
    const fn mov_imm(dst: u8, imm: i32) -> Self {
        Insn::new(0xb7, dst, 0, 0, imm)
    }
    const fn and_imm(dst: u8, imm: i32) -> Self {
        Insn::new(0x57, dst, 0, 0, imm)
    }
    const fn shift_right(dst: u8, imm: i32) -> Self {
        Insn::new(0x77, dst, 0, 0, imm)
    }
    /// Skips `off` instructions unless `dst == imm`.
    const fn unless_equal(dst: u8, imm: i32, off: i16) -> Self {
        Insn::new(0x55, dst, 0, off, imm)
    }
    const fn exit() -> Self {
        Insn::new(0x95, 0, 0, 0, 0)
    }
}

/// The program: type in r2, access in r3, major in r4, minor in r5; a rule that matches returns 1.
fn assemble(rules: &[DeviceRule]) -> Vec<Insn> {
    let mut program = vec![
        Insn::load(2, 1, 0),
        Insn::mov(3, 2),
        Insn::and_imm(2, 0xffff),
        Insn::shift_right(3, 16),
        Insn::load(4, 1, 4),
        Insn::load(5, 1, 8),
    ];
    for rule in rules {
        let mut body = Vec::new();
        // A test that fails jumps behind the rule: over the tests that follow it and the two of `allow`.
        let mut tests: Vec<(u8, u32)> = Vec::new();
        match rule.kind {
            DeviceKind::Block => tests.push((2, 1)),
            DeviceKind::Char => tests.push((2, 2)),
            DeviceKind::Any => {}
        }
        tests.extend(rule.major.map(|major| (4, major)));
        tests.extend(rule.minor.map(|minor| (5, minor)));
        tests.push((0, 0));
        let allowed = i32::from(rule.mknod) | i32::from(rule.read) << 1 | i32::from(rule.write) << 2;
        body.extend([Insn::mov(0, 3), Insn::and_imm(0, !allowed)]);
        let count = tests.len();
        for (at, (register, value)) in tests.into_iter().enumerate() {
            let skip = i16::try_from(count - at - 1 + 2).unwrap_or(i16::MAX);
            body.push(Insn::unless_equal(register, value.cast_signed(), skip));
        }
        body.extend([Insn::mov_imm(0, 1), Insn::exit()]);
        program.extend(body);
    }
    program.extend([Insn::mov_imm(0, 0), Insn::exit()]);
    program
}

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

fn load(rules: &[DeviceRule], digest: &str) -> SysResult<OwnedFd> {
    let kind = (PROG_TYPE_CGROUP_DEVICE, ATTACH_CGROUP_DEVICE);
    load_program(kind, &assemble(rules), &format!("{NAME_PREFIX}{digest}"))
}

/// Loads a program of a type for a place to attach it to, by a name of at most 15 bytes.
fn load_program(kind: (u32, u32), program: &[Insn], named: &str) -> SysResult<OwnedFd> {
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
    };
    bpf("load", CMD_PROG_LOAD, &mut attr).map(own)
}

/// Whether the kernel takes such a program at all: loads one and lets go of it.
pub fn try_load(rules: &[DeviceRule]) -> SysResult<()> {
    load(rules, "probe").map(drop)
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
    }
    let mut ids = [0_u32; 64];
    let mut attr = Query {
        target_fd: cgroup.as_raw_fd(),
        attach_type,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        pad: 0,
    };
    bpf("query", CMD_PROG_QUERY, &mut attr)?;
    Ok(ids[..attr.prog_cnt.min(64) as usize].to_vec())
}

/// One of our programs on a cgroup.
struct Ours {
    fd: OwnedFd,
    digest: String,
}

fn find_ours(cgroup: BorrowedFd<'_>) -> SysResult<Option<Ours>> {
    let found = find(cgroup, ATTACH_CGROUP_DEVICE, |name| name.starts_with(NAME_PREFIX))?;
    Ok(found.map(|Found { fd, name, .. }| Ours { fd, digest: name[NAME_PREFIX.len()..].to_owned() }))
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

/// The digest of the rules in force on `cgroup`, or `None` when no program of ours is attached.
pub fn device_rules_digest(cgroup: impl AsFd) -> SysResult<Option<String>> {
    Ok(find_ours(cgroup.as_fd())?.map(|ours| ours.digest))
}

/// Programs by the digest of their rules: VEs with the same rules share one program, and only the first
/// of them waits for the kernel to check and compile it.
#[derive(Debug, Default)]
pub struct Programs {
    loaded: Mutex<BTreeMap<String, Arc<OwnedFd>>>,
}

impl Programs {
    fn get(&self, digest: &str, rules: &[DeviceRule]) -> SysResult<Arc<OwnedFd>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = loaded.get(digest) {
            return Ok(program.clone());
        }
        let program = Arc::new(load(rules, digest)?);
        // One for the usual set and some for the others; what is attached lives on without us.
        if loaded.len() >= 64 {
            loaded.clear();
        }
        loaded.insert(digest.to_owned(), program.clone());
        Ok(program)
    }
}

/// Puts `rules` in force on `cgroup`, in one step in place of the ones before. `digest` (at most 11
/// characters, lower hex) is what [`device_rules_digest`] will say.
pub fn set_device_rules(
    programs: &Programs,
    cgroup: impl AsFd,
    rules: &[DeviceRule],
    digest: &str,
) -> SysResult<()> {
    #[repr(C)]
    struct Attach {
        target_fd: i32,
        prog_fd: i32,
        attach_type: u32,
        attach_flags: u32,
        replace_fd: i32,
    }
    let cgroup = cgroup.as_fd();
    let before = find_ours(cgroup)?;
    let program = programs.get(digest, rules)?;
    let mut attr = Attach {
        target_fd: cgroup.as_raw_fd(),
        prog_fd: program.as_raw_fd(),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: F_ALLOW_MULTI | if before.is_some() { F_REPLACE } else { 0 },
        replace_fd: before.as_ref().map_or(0, |ours| ours.fd.as_raw_fd()),
    };
    bpf("attach", CMD_PROG_ATTACH, &mut attr).map(drop)
}
