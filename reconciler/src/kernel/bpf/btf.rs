//! What the kernel tells of its own types: the number of a function, the place of a member. Programs at the kernel's
//! functions are loaded by that number, and read its structures at these places. And the one type that the kernel is told
//! of. It must not know what for.

use std::os::fd::OwnedFd;

use super::{bpf, own};
use crate::error::{At, SysError, SysResult};

const PATH: &str = "/sys/kernel/btf/vmlinux";

const CMD_BTF_LOAD: libc::c_long = 18;
/// What each such description begins with.
const MAGIC: u16 = 0xeb9f;

/// Kinds of type that are looked at, or told of.
const INT: u32 = 1;
const STRUCT: u32 = 4;
const FUNC: u32 = 12;

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) enum Ask {
    /// The number of a function.
    Function(&'static str),
    /// How many bytes into a structure a member is.
    Member(&'static str, &'static str),
}

/// The answers, in one pass over some hundred thousand types. ENOENT for the first that is not there.
pub(super) fn ask<const N: usize>(asked: [Ask; N]) -> SysResult<[u32; N]> {
    let bytes = std::fs::read(PATH).at("read", PATH)?;
    let found = Types::new(&bytes).map(|types| types.find(asked));
    let found = found.ok_or_else(|| SysError::refused("read", PATH, "it is no description of types"))?;
    let mut answers = [0; N];
    for ((answer, found), asked) in answers.iter_mut().zip(found).zip(asked) {
        let missing = || match asked {
            Ask::Function(name) => SysError::new("find function", name, libc::ENOENT),
            Ask::Member(of, name) => SysError::new("find member of", format!("{of}.{name}"), libc::ENOENT),
        };
        *answer = found.ok_or_else(missing)?;
    }
    Ok(answers)
}

/// Tells the kernel of a signed integer of 32 bits, as the first type.
pub(super) fn load_int() -> SysResult<OwnedFd> {
    /// `union bpf_attr` for BPF_BTF_LOAD.
    #[repr(C)]
    struct Load {
        btf: u64,
        log_buf: u64,
        size: u32,
        log_size: u32,
        log_level: u32,
        /// Kernels before 6.4 want nothing here.
        true_size: u32,
    }
    let names = b"\0int\0";
    let int: [u32; 4] = [1, INT << 24, 4, 1 << 24 | 32];
    let bytes = description(&int, names);
    let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut attr =
        Load { btf: bytes.as_ptr() as u64, log_buf: 0, size, log_size: 0, log_level: 0, true_size: 0 };
    bpf("describe types of", CMD_BTF_LOAD, &mut attr).map(own)
}

/// Types and names with their header.
fn description(types: &[u32], names: &[u8]) -> Vec<u8> {
    let lengths = [24, 0, types.len() * 4, types.len() * 4, names.len()];
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    bytes.extend([1, 0]);
    bytes.extend(lengths.iter().flat_map(|len| u32::try_from(*len).unwrap_or(u32::MAX).to_ne_bytes()));
    bytes.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
    bytes.extend(names);
    bytes
}

/// Types and their names, in the machine's byte order.
struct Types<'a> {
    types: &'a [u8],
    names: &'a str,
}

impl<'a> Types<'a> {
    /// None if it is not this format.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(..2)? != MAGIC.to_ne_bytes() {
            return None;
        }
        let header = word(bytes, 4)? as usize;
        let part = |at| {
            let (from, len) = (word(bytes, at)? as usize, word(bytes, at + 4)? as usize);
            bytes.get(header + from..header + from + len)
        };
        Some(Types { types: part(8)?, names: str::from_utf8(part(16)?).ok()? })
    }

    fn find<const N: usize>(&self, asked: [Ask; N]) -> [Option<u32>; N] {
        // Types have the places of their names, and each name is there once.
        let wanted = asked.map(|asked| match asked {
            Ask::Function(name) => (FUNC, self.place_of(name), None),
            Ask::Member(of, name) => (STRUCT, self.place_of(of), self.place_of(name)),
        });
        let (mut found, mut at, mut number) = ([None; N], 0, 0);
        while let (Some(name), Some(info)) = (word(self.types, at), word(self.types, at + 4))
            && found.contains(&None)
        {
            number += 1;
            let (kind, len) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            if kind == STRUCT || kind == FUNC {
                for ((wanted, of, member), found) in wanted.iter().zip(&mut found) {
                    if *wanted == kind && *of == Some(name) && found.is_none() {
                        *found = match (kind, member) {
                            (FUNC, _) => Some(number),
                            (_, Some(member)) => self.member(at + 12, len, info >> 31 != 0, *member),
                            (_, None) => None,
                        };
                    }
                }
            }
            at += 12
                + match kind {
                    // An integer, a variable, a tag of a declaration.
                    1 | 14 | 17 => 4,
                    // An array.
                    3 => 12,
                    // Members of structures and unions, sections, values of 64 bits.
                    STRUCT | 5 | 15 | 19 => len * 12,
                    // Values of an enumeration, parameters.
                    6 | 13 => len * 8,
                    _ => 0,
                };
        }
        found
    }

    /// How many bytes into a structure its member is. One that is no whole number of bytes in is a bit field.
    fn member(&self, first: usize, len: usize, has_bit_fields: bool, wanted: u32) -> Option<u32> {
        let mut places = (0..len).map(|index| first + index * 12);
        let at = places.find(|at| word(self.types, *at) == Some(wanted))?;
        let bits = word(self.types, at + 8)?;
        let bits = if has_bit_fields { bits & 0x00ff_ffff } else { bits };
        (bits % 8 == 0).then_some(bits / 8)
    }

    fn place_of(&self, name: &str) -> Option<u32> {
        let before = self.names.find(&format!("\0{name}\0"))?;
        u32::try_from(before + 1).ok()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `int`, `struct pair { int one; int other; }`, `void act(void)`.
    fn sample() -> Vec<u8> {
        let names = b"\0int\0pair\0one\0other\0act\0";
        let types: [u32; 21] = [
            1,
            1 << 24,
            4,
            0x20, // int
            5,
            STRUCT << 24 | 2,
            8,
            10,
            1,
            0,
            14,
            1,
            32, // pair
            0,
            13 << 24,
            0, // void (*)(void)
            20,
            FUNC << 24,
            3,
            0,
            0,
        ];
        description(&types[..19], names)
    }

    #[test]
    fn functions_and_members_are_found() {
        let bytes = sample();
        let asked = [
            Ask::Function("act"),
            Ask::Member("pair", "other"),
            Ask::Member("pair", "third"),
            Ask::Function("pair"),
        ];
        assert_eq!(Types::new(&bytes).unwrap().find(asked), [Some(4), Some(4), None, None]);
    }

    #[test]
    fn something_else_is_no_description_of_types() {
        assert!(Types::new(b"").is_none() && Types::new(&[0; 64]).is_none());
    }
}
