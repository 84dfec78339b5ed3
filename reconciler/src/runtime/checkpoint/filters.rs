//! System call filters in a checkpoint of a VE whose quotactl(2) is answered for.
//!
//! CRIU puts filters back as they were, but no filter that it installs has a listener, and of filters that leave a call to
//! somebody else the youngest decides. So CRIU itself is put under one that is listened to, which is the oldest of all that it
//! brings back ([`seccomp::quotas_only`]), and those in the checkpoint are changed to leave the call to that one. The
//! one of an earlier restore is left out.

use std::path::Path;

use super::wire::{Message, Value, fields};
use crate::error::{At, SysError, SysResult};
use crate::kernel::seccomp;

/// CRIU's file: two numbers that say what it is, a length, and a message.
const FILE: &str = "seccomp.img";
const HEAD: usize = 12;

/// A `seccomp_filter`.
struct Filter<'a> {
    code: &'a [u8],
    before: Option<u64>,
    flags: Option<u64>,
}

/// Changes the filters of the checkpoint in `dir`. There may be none.
pub fn leave_quotas_to_others(dir: &Path) -> SysResult<()> {
    let path = dir.join(FILE);
    let image = match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.at("read", path.display())?,
    };
    let strange = || SysError::refused("read", path.display(), "it is not as CRIU writes it");
    let (head, message) = image.split_at_checked(HEAD).ok_or_else(strange)?;
    let message = rewritten(message)?;
    let length = u32::try_from(message.len()).map_err(|_| strange())?;
    let bytes = [&head[..HEAD - size_of_val(&length)], &length.to_le_bytes(), &message].concat();
    std::fs::write(&path, bytes).at("write", path.display())
}

fn rewritten(message: &[u8]) -> SysResult<Vec<u8>> {
    let filters: Vec<Filter<'_>> = fields(message)?
        .into_iter()
        .filter_map(|(field, value)| match (field, value) {
            (1, Value::Bytes(filter)) => Some(Filter::read(filter)),
            _ => None,
        })
        .collect::<SysResult<_>>()?;
    let at = |at: u64| usize::try_from(at).ok().and_then(|at| filters.get(at));
    let is_ours = |filter: &&Filter<'_>| seccomp::is_quotas_only(filter.code);
    let is_last = |before: &u64| at(*before).filter(is_ours).is_some_and(|filter| filter.before.is_none());
    // Processes have filters by number, and those stay: in the place of ours there is what it stands before. Where it stands depends
    // on which end CRIU takes for the older one.
    let stands_for = |filter| Some(filter).filter(is_ours).and_then(|ours: &Filter<'_>| at(ours.before?));
    let all = filters.iter().fold(Message::default(), |all, filter| {
        let filter = stands_for(filter).unwrap_or(filter);
        let mut one = Message::default().bytes(1, &seccomp::without_listener(filter.code));
        if let Some(before) = filter.before.filter(|before| !is_last(before)) {
            one = one.number(2, before);
        }
        if let Some(flags) = filter.flags {
            one = one.number(3, flags);
        }
        all.message(1, one)
    });
    Ok(all.into_bytes())
}

impl<'a> Filter<'a> {
    fn read(message: &'a [u8]) -> SysResult<Self> {
        let mut filter = Filter { code: &[], before: None, flags: None };
        for (field, value) in fields(message)? {
            match (field, value) {
                (1, Value::Bytes(code)) => filter.code = code,
                (2, Value::Number(before)) => filter.before = Some(before),
                (3, Value::Number(flags)) => filter.flags = Some(flags),
                _ => return Err(SysError::refused("read", FILE, "it holds more than is known here")),
            }
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// quotactl(2): left to be answered, and allowed.
    const ASKS: [u8; 16] = [0x15, 0, 0, 1, 179, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0xc0, 0x7f];
    const ALLOWS: [u8; 16] = [0x15, 0, 0, 1, 179, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0xff, 0x7f];

    #[test]
    fn the_call_is_left_to_an_older_filter() {
        let code = [&[0x20, 0, 0, 0, 0, 0, 0, 0], &ASKS[..]].concat();
        let allowed = [&code[..8], &ALLOWS[..]].concat();
        assert_eq!(seccomp::without_listener(&code), allowed);
        // Of another call, or in between instructions, it means something else.
        let other = [&code[8..12], &[180][..], &code[13..]].concat();
        assert_eq!(seccomp::without_listener(&other), other);
        let shifted = [&[0; 4][..], &ASKS].concat();
        assert_eq!(seccomp::without_listener(&shifted), shifted);
        assert!(seccomp::without_listener(&[]).is_empty());
    }

    #[test]
    fn that_of_an_earlier_restore_is_left_out() {
        let ours: Vec<u8> = [
            [0x20, 0, 0, 0, 4, 0, 0, 0],
            [0x15, 0, 0, 3, 0x3e, 0, 0, 0xc0],
            [0x20, 0, 0, 0, 0, 0, 0, 0],
            [0x15, 0, 0, 1, 179, 0, 0, 0],
            [6, 0, 0, 0, 0, 0, 0xc0, 0x7f],
            [6, 0, 0, 0, 0, 0, 0xff, 0x7f],
        ]
        .concat();
        assert!(seccomp::is_quotas_only(&ours));
        let filter = |code: &[u8]| Message::default().bytes(1, code);
        let before = [filter(&ours), filter(&ASKS).number(2, 0).number(3, 2), filter(&ASKS).number(2, 1)];
        let message = before.into_iter().fold(Message::default(), |all, one| all.message(1, one));
        let dir = tempfile::tempdir().unwrap();
        let bytes = message.into_bytes();
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        std::fs::write(dir.path().join(FILE), [&[7; 8][..], &length, &bytes].concat()).unwrap();
        leave_quotas_to_others(dir.path()).unwrap();
        let image = std::fs::read(dir.path().join(FILE)).unwrap();
        assert_eq!(image[..8], [7; 8]);
        assert_eq!(
            usize::try_from(u32::from_le_bytes(image[8..12].try_into().unwrap())),
            Ok(image.len() - 12)
        );
        let after = fields(&image[HEAD..]).unwrap();
        let read = |at: usize| match after[at] {
            (1, Value::Bytes(filter)) => Filter::read(filter).unwrap(),
            _ => panic!("{after:?}"),
        };
        assert_eq!((read(1).code, read(1).before, read(1).flags), (&ALLOWS[..], None, Some(2)));
        assert_eq!((read(2).before, read(2).flags), (Some(1), None));
        assert_eq!(after.len(), 3);
        // The other way round.
        let before = [filter(&ASKS).number(3, 2), filter(&ours).number(2, 0)];
        let message = before.into_iter().fold(Message::default(), |all, one| all.message(1, one));
        let after = rewritten(&message.into_bytes()).unwrap();
        let after = fields(&after).unwrap();
        assert_eq!(after[0], after[1]);
    }

    #[test]
    fn a_checkpoint_without_filters_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        leave_quotas_to_others(dir.path()).unwrap();
        std::fs::write(dir.path().join(FILE), [0; 3]).unwrap();
        assert!(leave_quotas_to_others(dir.path()).is_err());
    }
}
