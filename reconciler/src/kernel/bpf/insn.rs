//! Instructions of BPF programs, and how they are put together. It must not know what a program is for.

use std::os::fd::{AsRawFd, OwnedFd};

/// Helpers that a program can call.
pub(super) const CALL_LOOKUP: i32 = 1;
pub(super) const CALL_UPDATE: i32 = 2;
pub(super) const CALL_DELETE: i32 = 3;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Insn {
    code: u8,
    regs: u8,
    pub(super) off: i16,
    imm: i32,
}

impl Insn {
    pub(super) const fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        Insn { code, regs: dst | src << 4, off, imm }
    }
    /// `dst = *(u32 *)(src + off)`
    pub(super) const fn load(dst: u8, src: u8, off: i16) -> Self {
        Insn::new(0x61, dst, src, off, 0)
    }
    pub(super) const fn mov(dst: u8, src: u8) -> Self {
        Insn::new(0xbf, dst, src, 0, 0)
    }
    pub(super) const fn mov_imm(dst: u8, imm: i32) -> Self {
        Insn::new(0xb7, dst, 0, 0, imm)
    }
    pub(super) const fn and_imm(dst: u8, imm: i32) -> Self {
        Insn::new(0x57, dst, 0, 0, imm)
    }
    pub(super) const fn shift_right(dst: u8, imm: i32) -> Self {
        Insn::new(0x77, dst, 0, 0, imm)
    }
    /// Skips `off` instructions unless `dst == imm`.
    pub(super) const fn unless_equal(dst: u8, imm: i32, off: i16) -> Self {
        Insn::new(0x55, dst, 0, off, imm)
    }
    pub(super) const fn exit() -> Self {
        Insn::new(0x95, 0, 0, 0, 0)
    }
}

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

/// `dst = pointer to the value of map`, an array of one element, in two instructions.
pub(super) fn map_value(dst: u8, fd: &OwnedFd) -> [Insn; 2] {
    [Insn::new(0x18, dst, 2, 0, fd.as_raw_fd()), Insn::new(0, 0, 0, 0, 0)]
}

/// `dst += src`
pub(super) const fn add(dst: u8, src: u8) -> Insn {
    Insn::new(0x0f, dst, src, 0, 0)
}

/// `dst += imm`
pub(super) fn add_imm(dst: u8, imm: i16) -> Insn {
    Insn::new(0x07, dst, 0, 0, imm.into())
}

/// `dst -= src`
pub(super) const fn subtract(dst: u8, src: u8) -> Insn {
    Insn::new(0x1f, dst, src, 0, 0)
}

/// `dst *= imm`
pub(super) const fn multiply(dst: u8, imm: i32) -> Insn {
    Insn::new(0x27, dst, 0, 0, imm)
}

/// `dst = number`, in two instructions.
pub(super) fn constant(dst: u8, number: u64) -> [Insn; 2] {
    let half = |at: u32| u32::try_from(number >> at & u64::from(u32::MAX)).unwrap_or_default().cast_signed();
    [Insn::new(0x18, dst, 0, 0, half(0)), Insn::new(0, 0, 0, 0, half(32))]
}

pub(super) const fn shift_left(dst: u8, imm: i32) -> Insn {
    Insn::new(0x67, dst, 0, 0, imm)
}

/// `*(u64 *)dst = src`, atomically, if that was r0. What it was is in r0 then.
pub(super) const fn compare_exchange(dst: u8, src: u8) -> Insn {
    Insn::new(0xdb, dst, src, 0, 0xf1)
}

/// If a register is equal to another.
pub(super) const fn if_equal(one: u8, other: u8) -> Insn {
    Insn::new(0x1d, one, other, 0, 0)
}

/// `dst = frame pointer + off`
pub(super) fn frame(dst: u8, off: i16) -> [Insn; 2] {
    [Insn::mov(dst, 10), add_imm(dst, off)]
}

pub(super) const fn call(helper: i32) -> Insn {
    Insn::new(0x85, 0, 0, 0, helper)
}

/// `*(u64 *)(dst + off) = src`
pub(super) const fn store(dst: u8, off: i16, src: u8) -> Insn {
    Insn::new(0x7b, dst, src, off, 0)
}

/// `*(u32 *)(dst + off) = src`
pub(super) const fn store_word(dst: u8, off: i16, src: u8) -> Insn {
    Insn::new(0x63, dst, src, off, 0)
}

/// `dst = *(u64 *)(src + off)`
pub(super) const fn load_double(dst: u8, src: u8, off: i16) -> Insn {
    Insn::new(0x79, dst, src, off, 0)
}

/// `*(u64 *)(dst + off) += src`, atomically
pub(super) const fn atomic_add(dst: u8, off: i16, src: u8) -> Insn {
    Insn::new(0xdb, dst, src, off, 0)
}

/// The same, with the value before in `src`.
pub(super) const fn atomic_fetch_add(dst: u8, off: i16, src: u8) -> Insn {
    Insn::new(0xdb, dst, src, off, 1)
}

pub(super) const ALWAYS: Insn = Insn::new(0x05, 0, 0, 0, 0);
pub(super) const IF_ZERO: Insn = Insn::new(0x15, 0, 0, 0, 0);
pub(super) const IF_NOT_ZERO: Insn = Insn::new(0x55, 0, 0, 0, 0);

/// If r9 is not above another.
pub(super) const fn if_r9_not_above(other: u8) -> Insn {
    Insn::new(0xbd, 9, other, 0, 0)
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
}
