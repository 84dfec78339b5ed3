//! What programs keep of one counter, and how they charge it: one more is counted, or refused above a bound. It must
//! not know what is counted.

use super::insn::{
    Assembly, Insn, add_imm, atomic_add, atomic_fetch_add, call, if_r9_not_above, load_double, store,
};

/// What the programs have counted of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Count {
    /// Made and not released.
    pub held: u64,
    /// The most of that.
    pub maxheld: u64,
    /// Refused.
    pub failcnt: u64,
}

/// Places in `Count`.
pub(super) const HELD: i16 = 0;
const MAXHELD: i16 = 8;
const FAILCNT: i16 = 16;

const CALL_SET_RETVAL: i32 = 187;

/// One more in the count that r8 points to, unless that would be above the number in `bound`, which is not r9: then
/// the program ends, and who asked for it sees `errno`. Uses r0, r1 and r9.
pub(super) fn charge(code: &mut Assembly, bound: u8, errno: i32) {
    code.add([Insn::mov_imm(9, 1), atomic_fetch_add(8, HELD, 9), add_imm(9, 1)]);
    code.jump(if_r9_not_above(bound), "fits");
    code.add(release(8));
    code.add([
        Insn::mov_imm(1, 1),
        atomic_add(8, FAILCNT, 1),
        Insn::mov_imm(1, -errno),
        call(CALL_SET_RETVAL),
        Insn::mov_imm(0, 0),
        Insn::exit(),
    ]);
    code.label("fits");
    code.add([load_double(1, 8, MAXHELD)]);
    code.jump(if_r9_not_above(1), "charged");
    code.add([store(8, MAXHELD, 9)]);
    code.label("charged");
}

/// One less in the count that a register points to. Uses r1.
pub(super) fn release(count: u8) -> [Insn; 2] {
    [Insn::mov_imm(1, -1), atomic_add(count, HELD, 1)]
}
