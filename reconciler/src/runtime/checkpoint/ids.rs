//! Ids of the host in CRIU's files, which has those of a VE as they are in it everywhere else: the map of the user namespace, and the
//! owners of control groups. They are exchanged where a checkpoint of one VE is to be another's.

use std::path::Path;

use vzd_state::ids::IdRange;

use super::files::list;
use super::wire::{Message, Value, fields};
use crate::error::{At, SysError, SysResult};

/// Of CRIU's files with one message: two numbers that say what it is, and its length.
const HEAD: usize = 12;

/// Where a message has ids: in these fields, and within those.
struct Shape {
    ids: &'static [u32],
    within: &'static [(u32, &'static Shape)],
}

/// A `userns_entry`, of extents: inside, on the host, how many.
static MAP: Shape = Shape { ids: &[], within: &[(1, &EXTENT), (2, &EXTENT)] };
static EXTENT: Shape = Shape { ids: &[2], within: &[] };
/// A `cgroup_entry`, of sets and controllers; these are of directories, which have others below them.
static GROUPS: Shape = Shape { ids: &[], within: &[(2, &CONTROLLER)] };
static CONTROLLER: Shape = Shape { ids: &[], within: &[(2, &DIRECTORY)] };
static DIRECTORY: Shape = Shape { ids: &[], within: &[(2, &DIRECTORY), (3, &FILE), (4, &OWNER)] };
static FILE: Shape = Shape { ids: &[], within: &[(3, &OWNER)] };
static OWNER: Shape = Shape { ids: &[2, 3], within: &[] };

/// Has the checkpoint in `dir`, which is not whole yet, be of another range.
pub fn carry(dir: &Path, from: IdRange, to: IdRange) -> SysResult<()> {
    for (name, path) in list(dir)? {
        let shape = match name.as_str() {
            "cgroup.img" => &GROUPS,
            name if name.starts_with("userns-") => &MAP,
            _ => continue,
        };
        let image = std::fs::read(&path).at("read", path.display())?;
        let strange = || SysError::refused("read", path.display(), "it is not as CRIU writes it");
        let (head, message) = image.split_at_checked(HEAD).ok_or_else(strange)?;
        let message = carried(message, shape, &|id| from.carry(id, to))?.into_bytes();
        let length = u32::try_from(message.len()).map_err(|_| strange())?;
        let bytes = [&head[..HEAD - size_of_val(&length)], &length.to_le_bytes(), &message].concat();
        std::fs::write(&path, bytes).at("write", path.display())?;
    }
    Ok(())
}

fn carried(message: &[u8], shape: &Shape, id_of: &dyn Fn(u32) -> u32) -> SysResult<Message> {
    let mut new = Message::default();
    for (field, value) in fields(message)? {
        let within = shape.within.iter().find(|(of, _)| *of == field);
        new = match (value, within) {
            (Value::Bytes(inner), Some((_, shape))) => new.message(field, carried(inner, shape, id_of)?),
            (Value::Bytes(bytes), None) => new.bytes(field, bytes),
            (Value::Number(number), _) => {
                let id = u32::try_from(number).ok().filter(|_| shape.ids.contains(&field));
                new.number(field, id.map_or(number, |id| id_of(id).into()))
            }
        };
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_maps_and_of_groups_at_any_depth_are_others_and_nothing_else_is() {
        let range = |start| IdRange { start, count: 65536 };
        let image = |dir: &Path, name: &str, message: Message| {
            let message = message.into_bytes();
            let length = u32::try_from(message.len()).unwrap().to_le_bytes();
            std::fs::write(dir.join(name), [&[7; 8][..], &length, &message].concat()).unwrap();
        };
        let map = |base| {
            let extent = || Message::default().number(1, 0).number(2, base).number(3, 65536);
            Message::default().message(1, extent()).message(2, extent())
        };
        let groups = |base: u64| {
            let owner = || Message::default().number(1, 0o755).number(2, base).number(3, base + 33);
            let file = Message::default().text(1, "cgroup.procs").text(2, "1000000").message(3, owner());
            let below = Message::default().text(1, "below").message(3, file).message(4, owner());
            let top = Message::default().text(1, "/vzd/101").message(2, below).message(4, owner());
            let controller = Message::default().text(1, "").message(2, top);
            let set = Message::default().number(1, 1_000_000);
            Message::default().message(1, set).message(2, controller)
        };
        let (had, has) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (dir, base) in [(&had, 1_000_000), (&has, 2_000_000)] {
            image(dir.path(), "userns-10.img", map(base));
            image(dir.path(), "cgroup.img", groups(base));
        }
        image(had.path(), "core-1.img", groups(1_000_000));
        carry(had.path(), range(1_000_000), range(2_000_000)).unwrap();
        for name in ["userns-10.img", "cgroup.img"] {
            let read = |dir: &tempfile::TempDir| std::fs::read(dir.path().join(name)).unwrap();
            assert_eq!(read(&had), read(&has), "{name}");
        }
        std::fs::write(had.path().join("userns-10.img"), [0; 5]).unwrap();
        carry(had.path(), range(1), range(2)).unwrap_err();
    }
}
