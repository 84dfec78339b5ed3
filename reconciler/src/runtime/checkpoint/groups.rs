//! The control groups that a VE has made within its own, with their owners and settings, as systemd does for each service.
//!
//! CRIU makes only groups that a process is in, without the limits of version 2. So all of them are on the checkpoint's list, and
//! are made again before anything is put back. Whose they are is kept in ids of the VE; what counts something is not kept.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{At, SysError, SysResult};

/// A VE with more is not written.
const MOST: usize = 4096;
/// Nor one with longer paths.
const LONGEST: usize = 1024;

/// What can be set (Documentation/admin-guide/cgroup-v2.rst), in the order in which it can be; controllers last, since what is
/// below a group follows them.
const SETTINGS: [&str; 25] = [
    "cgroup.max.depth",
    "cgroup.max.descendants",
    "cgroup.pressure",
    "cpu.weight",
    "cpu.idle",
    "cpu.max",
    "cpu.max.burst",
    "cpu.uclamp.min",
    "cpu.uclamp.max",
    "cpuset.cpus",
    "cpuset.mems",
    "io.weight",
    "io.bfq.weight",
    "io.latency",
    "io.max",
    "memory.min",
    "memory.low",
    "memory.high",
    "memory.max",
    "memory.oom.group",
    "memory.swap.high",
    "memory.swap.max",
    "memory.zswap.max",
    "pids.max",
    CONTROLLERS,
];
const CONTROLLERS: &str = "cgroup.subtree_control";
/// Whoever a group is given to gets these files of it, as the kernel's document has it.
const DELEGATED: [&str; 3] = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// From the VE's own; empty: that one itself.
    path: String,
    /// Its owner and group, in the VE. Root's, if it is of nobody there.
    owner: (u32, u32),
    /// Files that can be written to, and what is in them.
    settings: BTreeMap<String, String>,
}

impl Group {
    /// Whether it leads nowhere else.
    pub(super) fn is_sound(&self) -> bool {
        let is_name = |name: &str| !["", ".", ".."].contains(&name) && !name.contains('\0');
        (self.path.is_empty() || self.path.split('/').all(is_name))
            && self.settings.keys().all(|name| SETTINGS.contains(&name.as_str()))
    }
}

/// All of a VE, each before those below it. `top` is its own, `ids` are the first of its range and how many.
pub(super) fn look(top: &Path, ids: (u32, u32)) -> SysResult<Vec<Group>> {
    let (mut found, mut left) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(path) = left.pop() {
        let dir = top.join(&path);
        let Some(name) = path.to_str().filter(|name| name.len() <= LONGEST) else {
            let why = "it has made control groups with names that are no text, or too long";
            return Err(SysError::refused("suspend", "VE", why));
        };
        if found.len() == MOST {
            let why = format!("it has made more than {MOST} control groups");
            return Err(SysError::refused("suspend", "VE", why));
        }
        let entries = match std::fs::read_dir(&dir) {
            // Nothing of the VE removes any now, but whoever works on it may.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            other => other.at("list", dir.display())?,
        };
        for entry in entries {
            let entry = entry.at("list", dir.display())?;
            if entry.file_type().at("stat", entry.path().display())?.is_dir() {
                left.push(path.join(entry.file_name()));
            }
        }
        let is = std::fs::metadata(&dir).at("stat", dir.display())?;
        let owner = (inside(is.uid(), ids), inside(is.gid(), ids));
        // What else is set of the VE's own is the manifest's.
        let settings = if name.is_empty() { &[CONTROLLERS] } else { &SETTINGS[..] };
        let text = |name: &&str| {
            let text = std::fs::read_to_string(dir.join(name)).ok()?;
            let text = text.trim_end();
            (!text.is_empty()).then(|| ((*name).to_owned(), text.to_owned()))
        };
        found.push(Group {
            path: name.to_owned(),
            owner,
            settings: settings.iter().filter_map(text).collect(),
        });
    }
    // One that has made none is as it was when it was started.
    Ok(if found.len() > 1 { found } else { Vec::new() })
}

/// Makes them. CRIU puts the VE's first process into the VE's own group on its way, which nothing can be put into once what is below
/// it has controllers: so [`set_up`] comes later.
pub(super) fn make(groups: &[Group], top: &Path, ids: (u32, u32)) -> SysResult<()> {
    for group in groups.iter().filter(|group| !group.path.is_empty()) {
        let dir = top.join(&group.path);
        match std::fs::create_dir(&dir) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => other.at("make control group", dir.display())?,
        }
        give(&dir, ids, group.owner)?;
    }
    Ok(())
}

/// Sets what was set in them, once the first process is in its own. A setting that this host does not know, or of a device that it has
/// not, is none.
pub(super) fn set_up(groups: &[Group], top: &Path, ids: (u32, u32)) -> SysResult<()> {
    for group in groups {
        let dir = top.join(&group.path);
        if !group.path.is_empty() {
            // Files that came with the controllers of the group around it are whoever's who has set these.
            give(&dir, ids, group.owner)?;
        }
        for name in SETTINGS {
            if let Some(value) = group.settings.get(name) {
                set(&dir.join(name), value);
            }
        }
    }
    Ok(())
}

/// As the VE's root would have made it, and then given it to its owner.
fn give(dir: &Path, ids: (u32, u32), owner: (u32, u32)) -> SysResult<()> {
    let root = outside(0, ids);
    let (user, group) = (outside(owner.0, ids), outside(owner.1, ids));
    for entry in std::fs::read_dir(dir).at("list", dir.display())? {
        let path = entry.at("list", dir.display())?.path();
        let is_delegated = path.file_name().is_some_and(|name| DELEGATED.iter().any(|is| name == *is));
        let (user, group) = if is_delegated { (user, group) } else { (root, root) };
        chown(&path, Some(user), Some(group)).at("chown", path.display())?;
    }
    chown(dir, Some(user), Some(group)).at("chown", dir.display())
}

fn set(file: &Path, value: &str) {
    let is = std::fs::read_to_string(file).unwrap_or_default();
    if is.trim_end() == value {
        return;
    }
    let controllers = file.ends_with(CONTROLLERS);
    let words: Vec<String> = match controllers {
        true => value.split(' ').map(|name| format!("+{name}")).collect(),
        false => value.lines().map(str::to_owned).collect(),
    };
    for word in words {
        let _ = std::fs::write(file, word);
    }
}

fn inside(id: u32, (base, count): (u32, u32)) -> u32 {
    id.checked_sub(base).filter(|id| *id < count).unwrap_or(0)
}

fn outside(id: u32, (base, count): (u32, u32)) -> u32 {
    base + if id < count { id } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(path: &str, setting: &str) -> Group {
        Group { path: path.into(), owner: (0, 0), settings: [(setting.to_owned(), "1".to_owned())].into() }
    }

    #[test]
    fn a_group_is_within_the_ves_own_and_sets_what_can_be_set() {
        for path in ["", "init.scope", "system.slice/cron.service", ".hidden/x", "..x"] {
            assert!(group(path, "memory.max").is_sound(), "{path:?}");
        }
        for path in ["..", "/", "/x", "a/../b", "a//b", "a/", ".", "a/.", "nul\0"] {
            assert!(!group(path, "memory.max").is_sound(), "{path:?}");
        }
        for setting in ["cgroup.kill", "cgroup.procs", "../memory.max", "memory.reclaim"] {
            assert!(!group("a", setting).is_sound(), "{setting:?}");
        }
    }

    #[test]
    fn ids_are_the_ves() {
        let ids = (100_000, 65_536);
        assert_eq!((inside(100_007, ids), outside(7, ids)), (7, 100_007));
        // What is of nobody in the VE becomes its root's.
        assert_eq!([inside(0, ids), inside(99_999, ids), inside(165_536, ids)], [0; 3]);
        assert_eq!(outside(65_536, ids), 100_000);
    }
}
