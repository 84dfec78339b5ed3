//! Beancounters, IO half: limits in the VE's own namespaces. What is held of each is `count`'s.

mod count;

use std::collections::BTreeSet;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use vzd_state::reading::Reading;
use vzd_state::subsystem::beancounters::{Desired, Live, Observed, Setting, set_by_start};
use vzd_state::subsystem::cgroup::Value;

use crate::drivers::{Effect, Running, Ve, reading};
use crate::error::{At, SysError, SysResult};
use crate::kernel::bpf::{self, SocketKind};
use crate::kernel::ns::{self, Kind, Namespace};
use crate::kernel::{mount, procfs};
use crate::user_beancounters::user_beancounters;

pub use count::{Counted, count};

/// Reads the limits that are wanted or that were set.
pub fn observe(ve: Ve<'_>, running: &Running) -> Observed {
    let set = ve.entry.applied.beancounters.as_ref().map(|applied| applied.keys().copied());
    let wanted = ve.want.map(|want| want.beancounters.settings.keys().copied());
    let which: BTreeSet<Setting> = set.into_iter().flatten().chain(wanted.into_iter().flatten()).collect();
    let read = |setting| -> Reading<Value> { reading(read(ve, running.pid, setting)) };
    Observed { settings: which.into_iter().map(|setting| (setting, read(setting))).collect() }
}

/// Sets or takes away a limit of a running VE.
pub fn apply_live(ve: Ve<'_>, step: &Live, running: &Running) -> SysResult<Effect> {
    let (setting, to) = match step {
        Live::Set { setting, to, .. } => (*setting, to.clone()),
        Live::Reset { setting, .. } => (*setting, Value::max()),
    };
    if read(ve, running.pid, setting)? == to {
        return Ok(Effect::AlreadySo);
    }
    match setting {
        Setting::Terminals => set_terminals(running.pid, &to)?,
        Setting::SharedMemory => set_shared_memory(ve, running.pid, &to)?,
        Setting::TcpSockets => set_sockets(ve, SocketKind::Tcp, &to)?,
        Setting::OtherSockets => set_sockets(ve, SocketKind::Other, &to)?,
        Setting::Files => set_files(ve, &to)?,
    }
    let is = read(ve, running.pid, setting)?;
    if is != to {
        let why = format!("it reads {is} right after");
        return Err(SysError::refused("set", setting.counter(), why).value(to));
    }
    Ok(Effect::Changed)
}

fn read(ve: Ve<'_>, pid: i32, setting: Setting) -> SysResult<Value> {
    match setting {
        Setting::Terminals => {
            let options = terminals(pid)?;
            let most = options.iter().find_map(|option| option.strip_prefix("max="));
            Ok(most.and_then(|most| most.parse().ok()).map_or_else(Value::max, Value::Number))
        }
        Setting::SharedMemory => {
            let text = in_ipc(ve, pid, || std::fs::read_to_string(SHMALL).at("read", SHMALL))?;
            let pages: u64 = text.trim().parse().unwrap_or(u64::MAX);
            Ok(if pages >= NO_SHMALL { Value::max() } else { Value::Number(pages) })
        }
        Setting::TcpSockets => sockets(ve, SocketKind::Tcp),
        Setting::OtherSockets => sockets(ve, SocketKind::Other),
        Setting::Files => {
            let group = ve.host.cgroup(ve.entry).open()?;
            Ok(bpf::file_barrier(&group)?.map_or_else(Value::max, Value::Number))
        }
    }
}

/// Sets what has to be there before init runs, on groups that were just made.
pub fn set_before_start(ve: Ve<'_>, want: &Desired) -> SysResult<()> {
    for (setting, to) in set_by_start(want, &ve.host.caps()) {
        match setting {
            Setting::TcpSockets => set_sockets(ve, SocketKind::Tcp, &to)?,
            Setting::OtherSockets => set_sockets(ve, SocketKind::Other, &to)?,
            Setting::Files => set_files(ve, &to)?,
            Setting::Terminals | Setting::SharedMemory => {}
        }
    }
    Ok(())
}

/// Makes the directory that a VE reads its counters in, for a start: nothing is told yet.
pub fn show_inside(ve: Ve<'_>) -> SysResult<PathBuf> {
    let dir = ve.host.settings.shown_dir(&ve.entry.uid);
    std::fs::create_dir_all(&dir).at("make directory", dir.display())?;
    let path = dir.join(SHOWN);
    // Written in place: the VE has this very file.
    let file = std::fs::OpenOptions::new().create(true).write(true).truncate(false).mode(0o400).open(&path);
    let file = file.at("open", path.display())?;
    file.set_len(0).at("empty", path.display())?;
    file.write_all_at(user_beancounters(&[]).as_bytes(), 0).at("write", path.display())?;
    let owner = ve.entry.ids.start;
    std::os::unix::fs::fchown(&file, Some(owner), Some(owner)).at("chown", path.display())?;
    Ok(dir)
}

/// The file in it, that only the VE's root may read, as OpenVZ's.
pub const SHOWN: &str = "user_beancounters";

fn set_sockets(ve: Ve<'_>, kind: SocketKind, to: &Value) -> SysResult<()> {
    let group = ve.host.cgroup(ve.entry).open()?;
    bpf::count_sockets(&group)?;
    bpf::set_socket_barrier(&group, kind, barrier(to))
}

fn set_files(ve: Ve<'_>, to: &Value) -> SysResult<()> {
    let group = ve.host.cgroup(ve.entry).open()?;
    bpf::count_files(&ve.host.layout.v2, &group)?;
    bpf::set_file_barrier(&group, barrier(to))
}

fn barrier(to: &Value) -> Option<u64> {
    match to {
        Value::Number(number) => Some(*number),
        Value::Text(_) => None,
    }
}

/// Forgets what programs outside of the VE's group know of one that is gone.
pub fn clear(ve: Ve<'_>) -> SysResult<()> {
    match ve.host.caps().file_counters.missing() {
        None => bpf::forget_files(&ve.host.layout.v2),
        Some(_) => Ok(()),
    }
}

fn sockets(ve: Ve<'_>, kind: SocketKind) -> SysResult<Value> {
    let group = ve.host.cgroup(ve.entry).open()?;
    Ok(bpf::socket_barrier(&group, kind)?.map_or_else(Value::max, Value::Number))
}

/// The options of the devpts that the VE was started with.
fn terminals(pid: i32) -> SysResult<Vec<String>> {
    let lines = procfs::mounts(pid)?;
    let found = lines.into_iter().find(|line| line.target == PTS && line.fs_type == "devpts");
    found.map(|line| line.fs_options).ok_or_else(|| SysError::new("find devpts in the VE", PTS, libc::ENOENT))
}

const PTS: &str = "/dev/pts";

/// The other options are said again: what is left out of a remount goes back to the kernel's default.
fn set_terminals(pid: i32, to: &Value) -> SysResult<()> {
    let options = terminals(pid)?;
    // Numbers of the host: mode=620,ptmxmode=666,gid=100005.
    let kept = options.iter().filter_map(|option| option.split_once('='));
    let kept = kept.filter(|(key, _)| matches!(*key, "uid" | "gid" | "mode" | "ptmxmode"));
    let most = if to.is_limit() { to.to_string() } else { MOST_TERMINALS.to_string() };
    let mut all: Vec<(&str, &str)> = kept.collect();
    all.push(("max", &most));
    let root = super::namespaces::root_of(pid)?;
    mount::reconfigure(&root, PTS, "devpts", &all)
}

/// What the kernel takes for no limit (NR_UNIX98_PTY_MAX).
const MOST_TERMINALS: u64 = 1 << 20;

const SHMALL: &str = "/proc/sys/kernel/shmall";
/// A new IPC namespace has ULONG_MAX - 2^24 pages.
const NO_SHMALL: u64 = u64::MAX - (1 << 24);

fn set_shared_memory(ve: Ve<'_>, pid: i32, to: &Value) -> SysResult<()> {
    let text = if to.is_limit() { to.to_string() } else { NO_SHMALL.to_string() };
    in_ipc(ve, pid, || {
        std::fs::write(SHMALL, &text).map_err(|e| SysError::new("write", SHMALL, e).value(&text))
    })
}

/// Does something in the IPC namespace of the VE, as the VE's root: only that one may write its sysctls.
fn in_ipc<T: Send>(ve: Ve<'_>, pid: i32, body: impl FnOnce() -> SysResult<T> + Send) -> SysResult<T> {
    let namespace = Namespace::of(pid, Kind::Ipc)?;
    let root = ve.entry.ids.start;
    ns::on_thread_in(&namespace, || {
        ns::become_user(root)?;
        body()
    })
}
