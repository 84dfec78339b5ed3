//! The host's own static busybox: where it is, that it needs no libraries, which applets it has.
//!
//! It is the one program that is run here, and it is the host's: never one from a template.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::TemplateError;
use super::index::Stamp;
use super::source;

const PT_INTERP: u32 = 3;

/// Where Debian's busybox-static puts it, before and after the merge of /usr.
pub(super) fn places() -> Vec<PathBuf> {
    vec!["/bin/busybox".into(), "/usr/bin/busybox".into()]
}

/// The first of `places` that exists, and its stamp: one stat for a caller that knows the rest.
pub(super) fn stamp(places: &[PathBuf]) -> Result<(&Path, Stamp), TemplateError> {
    for path in places {
        if let Ok(stat) = rustix::fs::stat(path) {
            return Ok((path, Stamp::of(&stat)));
        }
    }
    Err(TemplateError::NoStaticBusybox { found: None })
}

/// Reads busybox, and checks that it is static. The stamp is that of the very file that was read.
pub(super) fn read(path: &Path) -> Result<(Vec<u8>, Stamp), TemplateError> {
    let (mut file, stat) = source::open_file(path)?;
    let mut program = Vec::new();
    file.read_to_end(&mut program).map_err(|e| TemplateError::io("read", path, e))?;
    if !is_static(&program) {
        return Err(TemplateError::NoStaticBusybox { found: Some(path.to_owned()) });
    }
    Ok((program, Stamp::of(&stat)))
}

/// The paths of its applets relative to the root, such as `usr/bin/awk`.
pub(super) fn applets(path: &Path) -> Result<Vec<String>, TemplateError> {
    let failed = |why: String| TemplateError::Applets { busybox: path.to_owned(), why };
    let out = Command::new(path)
        .arg("--list-full")
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|e| TemplateError::io("run", path, e))?;
    if !out.status.success() {
        return Err(failed(format!("`--list-full` ended with {}", out.status)));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let applets: Vec<String> = text.lines().filter(|line| is_applet(line)).map(str::to_owned).collect();
    for needed in ["sbin/init", "bin/sh", "sbin/reboot", "sbin/poweroff"] {
        if !applets.iter().any(|applet| applet == needed) {
            return Err(failed(format!("it has no {needed}")));
        }
    }
    Ok(applets)
}

/// A name in one of the four program directories, and not busybox itself.
fn is_applet(line: &str) -> bool {
    let Some((dir, name)) = line.rsplit_once('/') else { return false };
    matches!(dir, "bin" | "sbin" | "usr/bin" | "usr/sbin") && !matches!(name, "" | "." | ".." | "busybox")
}

/// An ELF program that names no interpreter. Anything else, damaged or of another byte order, is not.
fn is_static(elf: &[u8]) -> bool {
    program_types(elf).is_some_and(|types| !types.is_empty() && !types.contains(&PT_INTERP))
}

/// The types of the program headers of a little- or big-endian ELF file of 32 or 64 bits.
fn program_types(elf: &[u8]) -> Option<Vec<u32>> {
    let [0x7f, b'E', b'L', b'F', class @ (1 | 2), order @ (1 | 2), ..] = elf else { return None };
    let number = |at: usize, len: usize| -> Option<usize> {
        let bytes = elf.get(at..at.checked_add(len)?)?;
        let add = |n: usize, b: &u8| n.checked_mul(256).map(|n| n | usize::from(*b));
        if *order == 1 { bytes.iter().rev().try_fold(0, add) } else { bytes.iter().try_fold(0, add) }
    };
    let (offset, size, count) = match class {
        1 => (number(28, 4)?, number(42, 2)?, number(44, 2)?),
        _ => (number(32, 8)?, number(54, 2)?, number(56, 2)?),
    };
    (0..count).map(|i| u32::try_from(number(offset.checked_add(size.checked_mul(i)?)?, 4)?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_program_is_told_from_a_dynamic_one() {
        assert!(!is_static(b""));
        assert!(!is_static(b"#!/bin/sh\n"));
        assert!(!is_static(&std::fs::read("/proc/self/exe").unwrap()));
        let header = |class: u8, types: &[u32]| {
            let mut elf = vec![0; 64];
            elf[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1]);
            let count = u8::try_from(types.len()).unwrap();
            if class == 2 {
                (elf[32], elf[54], elf[56]) = (64, 56, count);
            } else {
                (elf[28], elf[42], elf[44]) = (64, 56, count);
            }
            for t in types {
                elf.extend(t.to_le_bytes());
                elf.extend([0; 52]);
            }
            elf
        };
        for class in [1, 2] {
            assert!(is_static(&header(class, &[1, 4, 7])));
            assert!(!is_static(&header(class, &[1, 3])));
            assert!(!is_static(&header(class, &[])));
            assert!(!is_static(&header(class, &[1, 4])[..80]), "cut off");
        }
    }

    #[test]
    fn applets_lie_in_program_directories() {
        assert!(is_applet("usr/bin/[["));
        assert!(is_applet("sbin/init"));
        for bad in ["linuxrc", "bin/busybox", "../bin/x", "/etc/x", "bin/", "bin/..", "bin/a/b"] {
            assert!(!is_applet(bad), "{bad}");
        }
    }
}
