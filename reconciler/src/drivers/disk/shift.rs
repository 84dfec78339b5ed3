//! What a file is in a VE: with ids of the VE's range in the place of those that it had, in all that tells of ids. Of what is no
//! VE's yet, without what would mean something to the host or to overlayfs. Pure.

use std::path::Path;

use vzd_state::ids::IdRange;

use super::copy::{Bytes, Traits};
use crate::error::{SysError, SysResult};
use crate::template::capability_of;

/// Ids from 0 up to the host's ids of a VE.
#[derive(Debug, Clone, Copy)]
pub struct Shift {
    /// The host's id of the VE's root.
    pub base: u32,
    /// How many the VE has.
    pub count: u32,
}

/// Who an entry of an access control list is about, where that is one user or group.
const OF_ONE: [u16; 2] = [0x02, 0x08];
const ACL_VERSION: u32 = 2;

impl Shift {
    fn id(self, id: u32) -> Option<u32> {
        (id < self.count).then(|| self.base + id)
    }

    /// The same for the VE, and how many attributes it does not have there.
    pub fn traits(self, of: &Path, is: Traits) -> SysResult<(Traits, u64)> {
        let beyond = || {
            let why =
                format!("it belongs to {}:{}, beyond the {} ids of a VE", is.owner.0, is.owner.1, self.count);
            SysError::refused("copy", of.display(), why)
        };
        let owner = self.id(is.owner.0).zip(self.id(is.owner.1)).ok_or_else(beyond)?;
        let before = is.attributes.len();
        let kept = is.attributes.into_iter().filter_map(|(name, value)| {
            let value = self.attribute(&name.0, value.0)?;
            Some((name, Bytes(value)))
        });
        let attributes: Vec<_> = kept.collect();
        let left = (before - attributes.len()) as u64;
        Ok((Traits { owner, attributes, ..is }, left))
    }

    fn attribute(self, name: &[u8], value: Vec<u8>) -> Option<Vec<u8>> {
        match name {
            b"security.capability" => capability_of(&value, self.base),
            b"system.posix_acl_access" | b"system.posix_acl_default" => self.acl(value),
            _ => (name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")).then_some(value),
        }
    }

    fn acl(self, value: Vec<u8>) -> Option<Vec<u8>> {
        acl(value, |id| self.id(id))
    }
}

/// A version, then entries of a tag, permissions and an id.
fn acl(mut value: Vec<u8>, id_of: impl Fn(u32) -> Option<u32>) -> Option<Vec<u8>> {
    let (version, entries) = value.split_first_chunk_mut::<4>()?;
    if u32::from_le_bytes(*version) != ACL_VERSION || entries.len() % 8 != 0 {
        return None;
    }
    for entry in entries.chunks_exact_mut(8) {
        let (tag, id) = (u16::from_le_bytes([entry[0], entry[1]]), &mut entry[4..8]);
        if OF_ONE.contains(&tag) {
            let number = u32::from_le_bytes(id.try_into().ok()?);
            id.copy_from_slice(&id_of(number)?.to_le_bytes());
        }
    }
    Some(value)
}

/// From the range of one VE to that of another. What is not of the first stays what it is: overlayfs's own marks, for one.
#[derive(Debug, Clone, Copy)]
pub struct Carry {
    /// The range of the VE that it was of.
    pub from: IdRange,
    /// That of the one that it is to be of.
    pub to: IdRange,
}

impl Carry {
    /// The same for the other VE.
    pub fn traits(self, is: Traits) -> Traits {
        let id = |id| self.from.carry(id, self.to);
        let attributes = is.attributes.into_iter().map(|(name, Bytes(value))| {
            let value = self.attribute(&name.0, value);
            (name, Bytes(value))
        });
        Traits { owner: (id(is.owner.0), id(is.owner.1)), attributes: attributes.collect(), ..is }
    }

    fn attribute(self, name: &[u8], mut value: Vec<u8>) -> Vec<u8> {
        match name {
            b"security.capability" => {
                // Of version 3: it ends with the id of the root that it counts for.
                if let (Some(3), Some(root)) =
                    (value.get(3).copied(), value.get(20..24).and_then(|root| root.try_into().ok()))
                {
                    let root = self.from.carry(u32::from_le_bytes(root), self.to);
                    value[20..24].copy_from_slice(&root.to_le_bytes());
                }
                value
            }
            b"system.posix_acl_access" | b"system.posix_acl_default" => {
                acl(value.clone(), |id| Some(self.from.carry(id, self.to))).unwrap_or(value)
            }
            _ => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIFT: Shift = Shift { base: 1_000_000, count: 65536 };

    fn traits(owner: (u32, u32), attributes: &[(&str, &[u8])]) -> Traits {
        let attributes =
            attributes.iter().map(|(name, value)| (Bytes(name.bytes().collect()), Bytes(value.to_vec())));
        Traits {
            owner,
            mode: Some(0o755),
            accessed: (0, 0),
            modified: (0, 0),
            attributes: attributes.collect(),
        }
    }

    #[test]
    fn whatever_tells_of_ids_tells_of_the_ves() {
        let acl: Vec<u8> =
            [&[2, 0, 0, 0][..], &[2, 0, 7, 0, 33, 0, 0, 0], &[0x10, 0, 5, 0, 255, 255, 255, 255]].concat();
        let capability: Vec<u8> = [&[1, 0, 0, 2][..], &[0; 16]].concat();
        let all = [
            ("system.posix_acl_access", acl.as_slice()),
            ("security.capability", capability.as_slice()),
            ("user.note", b"x"),
            ("user.overlay.opaque", b"y"),
            ("trusted.overlay.opaque", b"y"),
            ("security.selinux", b"label"),
        ];
        let (is, left) = SHIFT.traits(Path::new("/f"), traits((0, 33), &all)).unwrap();
        assert_eq!((is.owner, left, is.attributes.len()), ((1_000_000, 1_000_033), 3, 3));
        assert_eq!(is.attributes[0].1.0[8..12], 1_000_033_u32.to_le_bytes());
        assert_eq!(is.attributes[0].1.0[16..20], [255; 4]);
        assert_eq!(is.attributes[1].1.0[3], 3);
        assert_eq!(is.attributes[1].1.0[20..], 1_000_000_u32.to_le_bytes());
    }

    #[test]
    fn what_is_one_ves_becomes_anothers_and_all_else_stays() {
        let range = |start| IdRange { start, count: 65536 };
        let carry = Carry { from: range(1_000_000), to: range(2_000_000) };
        let acl: Vec<u8> =
            [&[2, 0, 0, 0][..], &[2, 0, 7, 0], &1_000_033_u32.to_le_bytes(), &[0x10, 0, 5, 0], &[255; 4]]
                .concat();
        let capability: Vec<u8> = [&[1, 0, 0, 3][..], &[7; 16], &1_000_000_u32.to_le_bytes()].concat();
        let all = [
            ("system.posix_acl_default", acl.as_slice()),
            ("security.capability", capability.as_slice()),
            ("trusted.overlay.opaque", b"y"),
        ];
        let is = carry.traits(traits((1_000_000, 1_065_535), &all));
        assert_eq!(is.owner, (2_000_000, 2_065_535));
        assert_eq!(is.attributes[0].1.0[8..12], 2_000_033_u32.to_le_bytes());
        assert_eq!(is.attributes[0].1.0[16..20], [255; 4]);
        assert_eq!(is.attributes[1].1.0[20..], 2_000_000_u32.to_le_bytes());
        assert_eq!(is.attributes[2].1.0, b"y");
        let others = traits((0, 1_065_536), &[("security.capability", &capability[..20])]);
        assert_eq!(carry.traits(others.clone()), others);
    }

    #[test]
    fn ids_that_a_ve_has_not_are_refused() {
        let told = SHIFT.traits(Path::new("/f"), traits((0, 65536), &[])).unwrap_err().to_string();
        assert!(told.contains("0:65536") && told.contains("/f"), "{told}");
        let acl: Vec<u8> = [&[2, 0, 0, 0][..], &[2, 0, 7, 0, 0, 0, 1, 0]].concat();
        assert_eq!(SHIFT.acl(acl), None);
        assert_eq!(SHIFT.acl(vec![2, 0, 0]), None);
        assert_eq!(SHIFT.acl(vec![1, 0, 0, 0]), None);
    }
}
