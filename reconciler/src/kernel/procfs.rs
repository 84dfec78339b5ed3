//! Small readings from /proc about one process.
//!
//! A pid is only as good as the pidfd it is checked against afterwards.

use std::path::PathBuf;

use crate::error::{At, SysError, SysResult};

/// The pid of `pid` in its own, innermost pid namespace.
pub fn innermost_pid(pid: i32) -> SysResult<i32> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).at("read", &path)?;
    Ok(text
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .and_then(|pids| pids.split_whitespace().next_back())
        .and_then(|last| last.parse().ok())
        .unwrap_or(pid))
}

/// The version 2 control group that a process is in, as a path below the top.
pub fn v2_group(pid: i32) -> SysResult<PathBuf> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).at("read", &path)?;
    let found = text.lines().find_map(|line| line.strip_prefix("0::/"));
    found.map(PathBuf::from).ok_or_else(|| SysError::new("find a version 2 group in", &path, libc::ENOENT))
}

/// The program a process runs, as its /proc/PID/exe link says.
pub fn exe(pid: i32) -> SysResult<PathBuf> {
    let path = format!("/proc/{pid}/exe");
    std::fs::read_link(&path).at("read", &path)
}

/// When a process started, in milliseconds since 1970, to a clock tick.
pub fn started_at_ms(pid: i32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, but not after the last closing one.
    let ticks: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let per_second = i64::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some(boot * 1000 + ticks * 1000 / per_second)
}

/// The pid of the parent of a process; none once that is gone.
pub fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// What a process calls itself, which may be anything; nothing once it is gone.
pub fn name(pid: i32) -> String {
    let text = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(text.trim_ascii_end()).escape_debug().to_string()
}

/// The wait status of a process that has ended and that nobody has reaped yet.
///
/// It is the same word that wait(2) gives, also for an init whose VE was halted or rebooted, of which
/// PIDFD_INFO_EXIT says only that SIGKILL ended it (seen on 6.18).
pub fn zombie_status(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    (fields.next()? == "Z").then(|| fields.nth(48)?.parse().ok())?
}

/// One line of /proc/PID/mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLine {
    /// What of the file system is mounted.
    pub root: String,
    /// Where it is mounted, as seen from the process's root.
    pub target: String,
    /// Per-mount options: `ro`, `nosuid`, ...
    pub options: Vec<String>,
    /// File system type.
    pub fs_type: String,
    /// What is mounted: a device, or whatever its maker called it.
    pub source: String,
    /// Options of the file system itself: `mode=620`, ...
    pub fs_options: Vec<String>,
    /// Device number of the file system, as stat(2) tells it.
    pub device: u64,
}

/// The mounts of a process, in the order they were made; the last of one target is on top.
pub fn mounts(pid: i32) -> SysResult<Vec<MountLine>> {
    let path = format!("/proc/{pid}/mountinfo");
    let text = std::fs::read_to_string(&path).at("read", &path)?;
    Ok(text.lines().filter_map(parse_mountinfo).collect())
}

fn parse_mountinfo(line: &str) -> Option<MountLine> {
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ').skip(2);
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
    let root = unescape(fields.next()?);
    let target = unescape(fields.next()?);
    let options = fields.next()?.split(',').map(str::to_owned).collect();
    let mut right = right.split(' ');
    let fs_type = right.next()?.to_owned();
    let source = unescape(right.next().unwrap_or_default());
    let fs_options = right.next().unwrap_or_default().split(',').map(str::to_owned).collect();
    Some(MountLine { root, target, options, fs_type, source, fs_options, device })
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountinfo_line_is_taken_apart() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402 rw,nosuid master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse_mountinfo(line).unwrap();
        assert_eq!(mount.target, "/mnt 2");
        assert_eq!(mount.options, ["rw", "nosuid"]);
        assert_eq!(mount.fs_type, "ext3");
        assert_eq!(mount.fs_options, ["rw", "errors=continue"]);
        assert_eq!(mount.device, rustix::fs::makedev(98, 0));
    }
}
