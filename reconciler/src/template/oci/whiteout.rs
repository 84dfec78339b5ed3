//! Names in a layer that take something away from the layers below it. Pure: what becomes of them is `unpack`'s.

use crate::template::error::Problem;

const PREFIX: &[u8] = b".wh.";
/// Names that begin so are whiteouts of nothing: this one, or what AUFS kept for itself.
const OWN: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry with such a name does.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::template) enum Whiteout {
    /// Takes away what has this path in the layers below.
    Path(Vec<u8>),
    /// Takes away all that the layers below have in this directory.
    Content(Vec<u8>),
    /// Nothing: AUFS's own.
    Nothing,
}

/// Reads a plain path (see [`plain`](crate::template::tree::plain)); `None` is any other entry.
pub(in crate::template) fn read(path: &[u8]) -> Result<Option<Whiteout>, Problem> {
    let mut parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    if parts.iter().any(|part| part.starts_with(OWN) && *part != OPAQUE) {
        return Ok(Some(Whiteout::Nothing));
    }
    let name = parts.pop().unwrap_or_default();
    if parts.iter().any(|part| part.starts_with(PREFIX)) {
        return Err(Problem::Name { what: "name", why: "has a whiteout for a directory" });
    }
    let dir = parts.join(&b'/');
    match name.strip_prefix(PREFIX) {
        None => Ok(None),
        Some(_) if name == OPAQUE => Ok(Some(Whiteout::Content(dir))),
        Some(b"" | b"." | b"..") => {
            Err(Problem::Name { what: "name", why: "is a whiteout of no name within its directory" })
        }
        Some(name) if dir.is_empty() => Ok(Some(Whiteout::Path(name.to_vec()))),
        Some(name) => Ok(Some(Whiteout::Path([&dir, &b"/"[..], name].concat()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let path = |text: &str| Some(Whiteout::Path(text.into()));
        let content = |text: &str| Some(Whiteout::Content(text.into()));
        for (name, is) in [
            ("", None),
            ("etc/passwd", None),
            ("etc/x.wh.y", None),
            (".wh.etc", path("etc")),
            ("a/b/.wh.c", path("a/b/c")),
            ("a/.wh..hidden", path("a/.hidden")),
            (".wh..wh..opq", content("")),
            ("a/b/.wh..wh..opq", content("a/b")),
            (".wh..wh.plnk", Some(Whiteout::Nothing)),
            (".wh..wh.plnk/12.34", Some(Whiteout::Nothing)),
        ] {
            assert_eq!(read(name.as_bytes()).unwrap(), is, "{name}");
        }
        for bad in [".wh.", ".wh..", ".wh...", "a/.wh...", ".wh.a/b", "a/.wh..wh..opq/b"] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
