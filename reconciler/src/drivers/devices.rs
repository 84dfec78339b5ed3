//! Devices, IO half: nodes in a VE's /dev and the rules that the kernel enforces.
//!
//! A VE's /dev is a tmpfs of the host's that the VE cannot take away, but it can mount over it. A node
//! is only ever made in that first tmpfs: anything else at /dev is refused.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use vzd_state::reading::Reading;
use vzd_state::subsystem::devices::{self, DeviceKind, Live, Node, Observed, Rule};

use crate::drivers::{Effect, Running, Ve, namespaces, reading};
use crate::error::{At, SysError, SysResult};
use crate::kernel::bpf;
use crate::kernel::procfs;
use crate::runtime::beneath::open_parent;
use crate::runtime::dev::make_node;
use crate::runtime::spec::NodeSpec;

/// Reads nodes and rules.
pub fn observe(ve: Ve<'_>, running: &Running) -> Observed {
    let rules_digest = match ve.host.cgroup(ve.entry).open().and_then(bpf::device_rules_digest) {
        Ok(Some(digest)) => Reading::Is(digest),
        Ok(None) => Reading::Absent,
        Err(e) => Reading::Unreadable(e.to_string()),
    };
    Observed { nodes: reading(nodes(ve, running.pid)), rules_digest }
}

/// Nodes at the paths that matter: those wanted and those we made.
fn nodes(ve: Ve<'_>, pid: i32) -> SysResult<BTreeMap<String, Node>> {
    let applied = ve.entry.applied.devices.iter().flat_map(|is| is.nodes.keys());
    let wanted = ve.want.iter().flat_map(|want| want.devices.nodes.keys());
    let mut seen = BTreeMap::new();
    let mut paths = applied.chain(wanted).peekable();
    if paths.peek().is_none() {
        return Ok(seen);
    }
    let dev = dev_of(pid)?;
    for path in paths {
        if let Some(node) = node_at(&dev, path, ve.entry.ids.start)? {
            seen.insert(path.clone(), node);
        }
    }
    Ok(seen)
}

/// Opens the tmpfs that the VE was given as /dev.
fn dev_of(pid: i32) -> SysResult<OwnedFd> {
    let root = namespaces::root_of(pid)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dev =
        rustix::fs::openat2(&root, "dev", flags, Mode::empty(), resolve).at("open in the VE", "/dev")?;
    let id = rustix::fs::fstat(&dev).at("stat in the VE", "/dev")?.st_dev;
    // Mounts are listed parents first: whatever covers the first /dev comes after it.
    let first = procfs::mounts(pid)?.into_iter().find(|line| line.target == "/dev");
    match first {
        Some(line) if line.device == id && line.fs_type == "tmpfs" => Ok(dev),
        _ => Err(SysError::refused("use", "/dev of the VE", "something else is mounted over it")),
    }
}

fn below_dev(path: &str) -> SysResult<PathBuf> {
    let below = Path::new(path).strip_prefix("/dev").map(Path::to_owned);
    below.map_err(|_| SysError::refused("use as a device", path, "it does not lie in /dev"))
}

fn node_at(dev: &OwnedFd, path: &str, base: u32) -> SysResult<Option<Node>> {
    let below = below_dev(path)?;
    let opened = open_parent(dev, &below)
        .and_then(|(dir, name)| rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).at("stat", path));
    let stat = match opened {
        Ok(stat) => stat,
        Err(e) if e.is_absent() || e.errno == libc::ENOTDIR => return Ok(None),
        Err(e) => return Err(e),
    };
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => DeviceKind::Char,
        FileType::BlockDevice => DeviceKind::Block,
        _ => return Ok(None),
    };
    Ok(Some(Node {
        kind,
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid.wrapping_sub(base),
        gid: stat.st_gid.wrapping_sub(base),
    }))
}

/// A node as the starter takes it.
pub fn node_spec(path: &str, node: &Node) -> SysResult<NodeSpec> {
    let Node { kind, major, minor, mode, uid, gid } = *node;
    Ok(NodeSpec { path: below_dev(path)?, block: kind == DeviceKind::Block, major, minor, mode, uid, gid })
}

/// The rules as the kernel's program takes them.
pub fn kernel_rules(wanted: &std::collections::BTreeSet<Rule>) -> Vec<bpf::DeviceRule> {
    let rule = |rule: Rule| bpf::DeviceRule {
        kind: match rule.kind {
            DeviceKind::Char => bpf::DeviceKind::Char,
            DeviceKind::Block => bpf::DeviceKind::Block,
        },
        major: rule.major,
        minor: rule.minor,
        read: rule.access.read,
        write: rule.access.write,
        mknod: rule.access.mknod,
    };
    devices::all_rules(wanted).into_iter().map(rule).collect()
}

/// Puts rules in force on the VE's group; also before its start.
pub fn set_rules(ve: Ve<'_>, wanted: &std::collections::BTreeSet<Rule>) -> SysResult<Effect> {
    let group = ve.host.cgroup(ve.entry).open()?;
    let digest = devices::rules_digest(wanted);
    if bpf::device_rules_digest(&group)?.as_deref() == Some(digest.as_str()) {
        return Ok(Effect::AlreadySo);
    }
    bpf::set_device_rules(&ve.host.device_programs, &group, &kernel_rules(wanted), &digest)?;
    Ok(Effect::Changed)
}

/// Changes nodes and rules of a running VE.
pub fn apply_live(ve: Ve<'_>, step: &Live, running: &Running) -> SysResult<Effect> {
    let base = ve.entry.ids.start;
    match step {
        Live::SetRules { to, .. } => set_rules(ve, to),
        Live::AddNode { path, node, .. } => {
            let dev = dev_of(running.pid)?;
            match node_at(&dev, path, base)? {
                Some(there) if there == *node => return Ok(Effect::AlreadySo),
                Some(_) => unlink(&dev, path)?,
                None => {}
            }
            make_node(&dev, &node_spec(path, node)?, base)?;
            Ok(Effect::Changed)
        }
        Live::RemoveNode { path, .. } => {
            let dev = dev_of(running.pid)?;
            if node_at(&dev, path, base)?.is_none() {
                return Ok(Effect::AlreadySo);
            }
            unlink(&dev, path)?;
            Ok(Effect::Changed)
        }
    }
}

fn unlink(dev: &OwnedFd, path: &str) -> SysResult<()> {
    let below = below_dev(path)?;
    let (dir, name) = open_parent(dev, &below)?;
    rustix::fs::unlinkat(dir, name, AtFlags::empty()).at("remove in the VE", path)
}
