//! The time zone of a VE: what its own /etc/localtime leads to, and what it is called in files beside that.
//!
//! Where the VE has the rules of the zone, that is a link to them, as its distribution would make it; where it hasn't, a
//! copy of the host's. What stood there before is kept, and comes back. Files of the VE are only read as [`etc`] does it.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::ResolveFlags;

use super::etc::{self, Content, Place, Seen};
use crate::error::{SysError, SysResult};

const LOCALTIME: &str = "/etc/localtime";
/// The same directory in every distribution, and on the host.
const RULES: &str = "/usr/share/zoneinfo";
/// What the rules of a zone begin with.
const MAGIC: &[u8] = b"TZif";
/// What a VE without /etc/localtime has.
const NONE: &str = "/usr/share/zoneinfo/Etc/UTC";
const MODE: u32 = 0o644;

/// Where the rules of a zone are to be had.
enum Rules {
    /// In the VE.
    Own(Vec<u8>),
    /// On the host alone.
    Host(Vec<u8>),
}

impl Rules {
    fn find(root: impl AsFd, name: &str) -> Option<Self> {
        let path = format!("{RULES}/{name}");
        let own = etc::read(root, Path::new(&path), ResolveFlags::empty()).ok().map(|(content, _)| content);
        let is_one = |content: &Vec<u8>| content.starts_with(MAGIC);
        if let Some(own) = own.filter(is_one) {
            return Some(Self::Own(own));
        }
        std::fs::read(path).ok().filter(is_one).map(Self::Host)
    }

    fn content(&self) -> &[u8] {
        let (Self::Own(content) | Self::Host(content)) = self;
        content
    }

    /// The last line: the rules for all time to come, as POSIX writes them in `TZ`.
    fn posix(&self) -> Option<&str> {
        let body = self.content().strip_suffix(b"\n")?;
        let at = body.iter().rposition(|byte| *byte == b'\n')?;
        std::str::from_utf8(&body[at + 1..]).ok().filter(|text| !text.is_empty())
    }

    /// Files that say the zone a second time, where they are: of Debian's family, and of uClibc.
    fn beside<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'static str, &'a str)> {
        [(TIMEZONE, Some(name)), (TZ, self.posix())]
            .into_iter()
            .filter_map(|(path, text)| Some((path, text?)))
    }
}

const TIMEZONE: &str = "/etc/timezone";
const TZ: &str = "/etc/TZ";

/// What is seen of the time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its name or, in words, what is there instead.
    pub is: Option<String>,
    /// Neither the VE nor the host has the rules of the one that was asked for.
    pub unknown: bool,
}

/// Looks at the time zone; `name` is the one that is expected.
pub fn look(root: impl AsFd, name: &str) -> SysResult<Zone> {
    let rules = Rules::find(&root, name);
    let seen = etc::look(&root, LOCALTIME)?;
    let named = |target: &str| target.rsplit_once("zoneinfo/").map(|(_, zone)| zone.to_owned());
    let mut is = match (&seen, &rules) {
        (Seen::Nothing, _) => None,
        (Seen::Link(target), Some(Rules::Own(_))) if is_link_to(target, name) => Some(name.to_owned()),
        (Seen::Link(target), _) => match named(target).filter(|zone| zone != name) {
            Some(zone) => Some(zone),
            None => Some(format!("a link to {target}")),
        },
        (Seen::File(content, _), Some(rules)) if content == rules.content() => Some(name.to_owned()),
        (Seen::File(..), _) => Some("a file of the VE's own".to_owned()),
    };
    if let Some(rules) = rules.as_ref().filter(|_| is.as_deref() == Some(name)) {
        for (path, text) in rules.beside(name) {
            let there = etc::look(&root, path)?;
            if let Some(other) = there.text(path)?.map(str::trim).filter(|there| *there != text) {
                is = Some(format!("{name}, and {other} in {path}"));
            }
        }
    }
    Ok(Zone { is, unknown: rules.is_none() })
}

fn is_link_to(target: &str, name: &str) -> bool {
    [RULES, "../usr/share/zoneinfo"].iter().any(|dir| {
        target.strip_prefix(dir).and_then(|rest| rest.strip_prefix('/')).is_some_and(|zone| zone == name)
    })
}

/// Sets the time zone, or brings back what was there before, and tells whether that changed anything. What is made is
/// owned by the VE's root, which is user and group `owner` on the host.
pub fn set(root: impl AsFd, owner: u32, name: Option<&str>) -> SysResult<bool> {
    let Some(name) = name else {
        let mut changed = false;
        for path in [LOCALTIME, TIMEZONE, TZ] {
            changed |= match Place::open(&root, path) {
                Err(e) if e.is_absent() => false,
                place => place?.restore()?,
            };
        }
        return Ok(changed);
    };
    if look(&root, name)?.is.as_deref() == Some(name) {
        return Ok(false);
    }
    let Some(rules) = Rules::find(&root, name) else {
        let why = "neither the VE nor the host knows this time zone";
        return Err(SysError::refused("set time zone", name, why));
    };
    for (path, text) in rules.beside(name) {
        let place = Place::open(&root, path)?;
        let seen = place.look()?;
        if seen.text(path)?.is_some_and(|is| is.trim() != text) {
            place.put(owner, Content::File(format!("{text}\n").as_bytes(), MODE), !place.has_kept()?)?;
        }
    }
    let place = Place::open(&root, LOCALTIME)?;
    let keep = !place.has_kept()?;
    let is_there = place.look()? != Seen::Nothing;
    if keep && !is_there {
        place.keep(owner, Content::Link(NONE))?;
    }
    let link = format!("{RULES}/{name}");
    let content = match &rules {
        Rules::Own(_) => Content::Link(&link),
        Rules::Host(content) => Content::File(content, MODE),
    };
    place.put(owner, content, keep && is_there)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const RULES_OF_X: &[u8] = b"TZif2...\nX-1Y,M3.5.0,M10.5.0/3\n";

    fn etc() -> (tempfile::TempDir, std::fs::File, u32) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        (dir, root, rustix::process::getuid().as_raw())
    }

    #[test]
    fn a_zone_of_the_ves_own_is_linked_to_and_what_was_before_comes_back() {
        let (dir, root, owner) = etc();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("usr/share/zoneinfo/No")).unwrap();
        std::fs::write(at("usr/share/zoneinfo/No/Where"), RULES_OF_X).unwrap();
        symlink("/usr/share/zoneinfo/Etc/GMT", at("etc/localtime")).unwrap();
        std::fs::write(at("etc/timezone"), "Etc/GMT\n").unwrap();
        std::fs::write(at("etc/TZ"), "GMT0\n").unwrap();
        assert_eq!(look(&root, "No/Where").unwrap(), Zone { is: Some("Etc/GMT".to_owned()), unknown: false });
        assert!(set(&root, owner, Some("No/Where")).unwrap());
        assert!(!set(&root, owner, Some("No/Where")).unwrap());
        assert_eq!(
            std::fs::read_link(at("etc/localtime")).unwrap(),
            Path::new("/usr/share/zoneinfo/No/Where")
        );
        assert_eq!(std::fs::read_to_string(at("etc/timezone")).unwrap(), "No/Where\n");
        assert_eq!(std::fs::read_to_string(at("etc/TZ")).unwrap(), "X-1Y,M3.5.0,M10.5.0/3\n");
        // One file alone that says something else is seen.
        std::fs::write(at("etc/timezone"), "Else/Where\n").unwrap();
        assert_eq!(look(&root, "No/Where").unwrap().is.unwrap(), "No/Where, and Else/Where in /etc/timezone");
        assert!(set(&root, owner, Some("No/Where")).unwrap());
        assert!(set(&root, owner, None).unwrap());
        assert!(!set(&root, owner, None).unwrap());
        assert_eq!(
            std::fs::read_link(at("etc/localtime")).unwrap(),
            Path::new("/usr/share/zoneinfo/Etc/GMT")
        );
        assert_eq!(std::fs::read_to_string(at("etc/timezone")).unwrap(), "Etc/GMT\n");
        assert_eq!(std::fs::read_to_string(at("etc/TZ")).unwrap(), "GMT0\n");
    }

    #[test]
    fn nothing_comes_back_as_utc_and_links_are_not_followed() {
        let (dir, root, owner) = etc();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("usr/share/zoneinfo")).unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&outside, RULES_OF_X).unwrap();
        // Rules that lead out of the VE are none.
        symlink(outside.path(), at("usr/share/zoneinfo/Nowhere")).unwrap();
        assert!(look(&root, "Nowhere").unwrap().unknown);
        assert!(set(&root, owner, Some("Nowhere")).unwrap_err().to_string().contains("neither the VE nor"));
        std::fs::write(at("usr/share/zoneinfo/Here"), RULES_OF_X).unwrap();
        symlink(outside.path(), at("etc/timezone")).unwrap();
        assert!(set(&root, owner, Some("Here")).unwrap());
        assert_eq!(std::fs::read(&outside).unwrap(), RULES_OF_X);
        assert!(set(&root, owner, None).unwrap());
        assert_eq!(std::fs::read_link(at("etc/localtime")).unwrap(), Path::new(NONE));
    }
}
