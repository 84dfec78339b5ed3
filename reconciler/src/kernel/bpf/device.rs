//! A cgroup device program: which device nodes a VE may open, enforced by the kernel.
//!
//! The program is assembled here from a list of rules and attached to the VE's version 2 cgroup, on hybrid
//! hosts as well. It is replaced atomically. Its name carries the digest of the rules, so that what is in
//! force can be read back.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::insn::Insn;
use super::{Found, attach, find, load_program};
use crate::error::SysResult;

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

/// Every program of ours is named so, followed by the digest of its rules.
const NAME_PREFIX: &str = "vzd_";

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

fn load(rules: &[DeviceRule], digest: &str) -> SysResult<OwnedFd> {
    let kind = (PROG_TYPE_CGROUP_DEVICE, ATTACH_CGROUP_DEVICE);
    load_program(kind, &assemble(rules), &format!("{NAME_PREFIX}{digest}"))
}

/// Whether the kernel takes such a program at all: loads one and lets go of it.
pub fn try_load(rules: &[DeviceRule]) -> SysResult<()> {
    load(rules, "probe").map(drop)
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
    let cgroup = cgroup.as_fd();
    let before = find_ours(cgroup)?;
    let program = programs.get(digest, rules)?;
    attach(cgroup, &program, ATTACH_CGROUP_DEVICE, before.as_ref().map(|ours| &ours.fd))
}
