//! The language of a VE: `LANG` in the files that logins read it from, in a part of them that is vzd's.
//!
//! Debian's family reads /etc/default/locale, systemd /etc/locale.conf; either may be a link to the other. Whether the VE's
//! C library has data of a locale is only looked up: making them is the business of the VE's own root.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use vzd_state::subsystem::network::Part;

use super::beneath::BENEATH;
use super::etc::{self, Seen};
use crate::error::SysResult;

const SYSTEMD: &str = "/etc/locale.conf";
const DEBIAN: &str = "/etc/default/locale";
const DATA: &str = "/usr/lib/locale";
const ARCHIVE: &str = "locale-archive";

/// The files that there are, or could be, with what they hold.
fn files(root: impl AsFd) -> SysResult<Vec<(&'static str, Seen)>> {
    let mut files = Vec::new();
    for path in [SYSTEMD, DEBIAN] {
        let place = match etc::Place::open(&root, path) {
            Err(e) if e.is_absent() => continue,
            place => place?,
        };
        match place.look()? {
            // To the other one.
            Seen::Link(target) if path == DEBIAN && target.ends_with("/locale.conf") => {}
            seen => files.push((path, seen)),
        }
    }
    Ok(files)
}

/// The language that a file comes to: the last of several counts.
fn language(text: &str) -> Option<&str> {
    let said = text.lines().rev().find_map(|line| line.trim().strip_prefix("LANG="));
    said.map(|value| value.trim_matches(['"', '\'']))
}

/// Looks at the language; of several files the first that differs from `name` counts.
pub fn look(root: impl AsFd, name: &str) -> SysResult<Option<String>> {
    let mut is = None;
    for (path, seen) in files(root)? {
        let said = match &seen {
            Seen::Link(target) => Some(format!("a link to {target}")),
            Seen::Nothing => None,
            Seen::File(..) => seen.text(path)?.and_then(language).map(|said| match said {
                said if said == name => said.to_owned(),
                said => format!("{said} in {path}"),
            }),
        };
        if said.as_deref() != Some(name) {
            return Ok(said);
        }
        is = said;
    }
    Ok(is)
}

/// Sets the language, or takes vzd's part out, and tells whether that changed anything. What is made is owned by the VE's
/// root, which is user and group `owner` on the host.
pub fn set(root: impl AsFd, owner: u32, name: Option<&str>) -> SysResult<bool> {
    let lines: Vec<String> = name.iter().map(|name| format!("LANG={name}")).collect();
    let mut changed = false;
    for (path, _) in files(&root)? {
        changed |= etc::write(&root, owner, path, Part::Last, &lines)?;
    }
    Ok(changed)
}

/// Whether the VE's C library keeps data of locales, and has none of this one.
pub fn lacks(root: impl AsFd, name: &str) -> bool {
    if matches!(name, "C" | "POSIX") {
        return false;
    }
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let resolve = BENEATH | ResolveFlags::NO_XDEV;
    // Without any it is one that takes every name.
    let Ok(data) = rustix::fs::openat2(root, DATA, flags, Mode::empty(), resolve) else { return false };
    let short = normalized(name);
    let is_there = |name: &str| rustix::fs::statat(&data, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    !is_there(name) && !is_there(&short) && !is_in_archive(&data, &short)
}

/// As glibc calls it: `de_DE.UTF-8` is `de_DE.utf8`.
fn normalized(name: &str) -> String {
    let (name, modifier) = name.split_at(name.find('@').unwrap_or(name.len()));
    match name.split_once('.') {
        None => format!("{name}{modifier}"),
        Some((language, set)) => {
            let set: String = set.chars().filter(char::is_ascii_alphanumeric).collect();
            format!("{language}.{}{modifier}", set.to_ascii_lowercase())
        }
    }
}

/// The archive is large; the names in it are together.
fn is_in_archive(data: impl AsFd, name: &str) -> bool {
    const MAGIC: u32 = 0xde02_0109;
    const MOST: u32 = 1 << 20;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let Ok(file) = rustix::fs::openat2(data, Path::new(ARCHIVE), flags, Mode::empty(), resolve) else {
        return false;
    };
    let mut head = [0; 32];
    if rustix::io::pread(&file, &mut head, 0) != Ok(head.len()) {
        return false;
    }
    let number =
        |at: usize| u32::from_ne_bytes([head[4 * at], head[4 * at + 1], head[4 * at + 2], head[4 * at + 3]]);
    // Magic and serial number; offset, use and size of the names' hash table; then those of the names.
    let (offset, used) = (number(5), number(6));
    if number(0) != MAGIC {
        return false;
    }
    let mut names = vec![0; used.min(MOST) as usize];
    let read = rustix::io::pread(&file, &mut names, u64::from(offset)).unwrap_or_default();
    names[..read].split(|byte| *byte == 0).any(|is| is == name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_owners_lines_stay_and_vzds_count() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let owner = rustix::process::getuid().as_raw();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("etc/default")).unwrap();
        std::fs::write(at("etc/default/locale"), "LANG=\"en_GB.UTF-8\"\nLC_TIME=C\n").unwrap();
        let seen = || look(&root, "de_DE.UTF-8").unwrap();
        assert_eq!(seen(), None);
        assert!(set(&root, owner, Some("de_DE.UTF-8")).unwrap());
        assert!(!set(&root, owner, Some("de_DE.UTF-8")).unwrap());
        assert_eq!(seen().as_deref(), Some("de_DE.UTF-8"));
        let text = std::fs::read_to_string(at("etc/default/locale")).unwrap();
        assert!(text.starts_with("LANG=\"en_GB.UTF-8\"\nLC_TIME=C\n# BEGIN vzd"), "{text}");
        // What is written after vzd's part counts more, until that is last again.
        std::fs::write(at("etc/default/locale"), text + "LANG=fr_FR\n").unwrap();
        assert_eq!(seen().as_deref(), Some("fr_FR in /etc/default/locale"));
        assert!(set(&root, owner, Some("de_DE.UTF-8")).unwrap());
        assert_eq!(seen().as_deref(), Some("de_DE.UTF-8"));
        assert!(set(&root, owner, None).unwrap());
        let text = std::fs::read_to_string(at("etc/default/locale")).unwrap();
        assert_eq!(text, "LANG=\"en_GB.UTF-8\"\nLC_TIME=C\nLANG=fr_FR\n");
        assert!(!at("etc/locale.conf").exists());
        // A link to the other file is left as it is.
        std::fs::remove_file(at("etc/default/locale")).unwrap();
        symlink("../locale.conf", at("etc/default/locale")).unwrap();
        assert!(set(&root, owner, Some("C.UTF-8")).unwrap());
        assert!(std::fs::symlink_metadata(at("etc/default/locale")).unwrap().is_symlink());
        assert_eq!(look(&root, "C.UTF-8").unwrap().as_deref(), Some("C.UTF-8"));
    }

    #[test]
    fn data_are_looked_up_under_both_names_and_in_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let data = dir.path().join("usr/lib/locale");
        assert!(!lacks(&root, "de_DE.UTF-8"), "no data at all");
        std::fs::create_dir_all(data.join("C.utf8")).unwrap();
        assert!(!lacks(&root, "C.UTF-8") && !lacks(&root, "POSIX"));
        assert!(lacks(&root, "de_DE.UTF-8"));
        let names = b"de_DE.utf8\0sr_RS.utf8@latin\0";
        let head = [0xde02_0109_u32, 0, 0, 0, 0, 40, u32::try_from(names.len()).unwrap(), 64];
        let mut archive: Vec<u8> = head.iter().flat_map(|number| number.to_ne_bytes()).collect();
        archive.resize(40, 0);
        archive.extend(names);
        std::fs::write(data.join(ARCHIVE), archive).unwrap();
        assert!(!lacks(&root, "de_DE.UTF-8") && !lacks(&root, "sr_RS.UTF-8@latin"));
        assert!(lacks(&root, "de_DE"));
        std::fs::write(data.join(ARCHIVE), [0xff; 40]).unwrap();
        assert!(lacks(&root, "de_DE.UTF-8"));
    }
}
