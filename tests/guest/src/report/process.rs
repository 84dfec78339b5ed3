//! What /proc says of this process, taken apart. Must stay free of judgement and of system calls other than reading.

use std::collections::BTreeMap;

use serde::Serialize;

/// `/proc/PID/status` by key.
pub(crate) struct Status(BTreeMap<String, String>);

impl Status {
    pub(crate) fn parse(text: &str) -> Status {
        Status(
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
                .collect(),
        )
    }

    pub(crate) fn word(&self, key: &str) -> String {
        self.0.get(key).and_then(|value| value.split_whitespace().next()).unwrap_or_default().to_owned()
    }

    pub(crate) fn number(&self, key: &str) -> u32 {
        self.word(key).parse().unwrap_or(u32::MAX)
    }

    pub(crate) fn numbers(&self, key: &str) -> Vec<u32> {
        let value = self.0.get(key).map(String::as_str).unwrap_or_default();
        value.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }
}

/// The capability sets, by name.
#[derive(Serialize)]
pub(crate) struct Capabilities {
    effective: Vec<String>,
    permitted: Vec<String>,
    inheritable: Vec<String>,
    bounding: Vec<String>,
    ambient: Vec<String>,
}

/// In the order of their numbers.
const CAPABILITIES: &str = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable \
    net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace \
    sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control \
    setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore";

impl Capabilities {
    pub(crate) fn of(status: &Status) -> Capabilities {
        let set = |key| {
            let mask = u64::from_str_radix(&status.word(key), 16).unwrap_or(0);
            let names = CAPABILITIES.split_whitespace().enumerate();
            names.filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, name)| name.to_uppercase()).collect()
        };
        Capabilities {
            effective: set("CapEff"),
            permitted: set("CapPrm"),
            inheritable: set("CapInh"),
            bounding: set("CapBnd"),
            ambient: set("CapAmb"),
        }
    }
}

/// One line of mountinfo.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mount {
    pub(crate) target: String,
    pub(crate) root: String,
    pub(crate) options: Vec<String>,
    pub(crate) optional: Vec<String>,
    pub(crate) fs_type: String,
    pub(crate) source: String,
    pub(crate) super_options: Vec<String>,
}

/// mountinfo's lines.
pub(crate) fn mounts(text: &str) -> Vec<Mount> {
    let list = |word: Option<&&str>| {
        word.map(|word| word.split(',').map(str::to_owned).collect()).unwrap_or_default()
    };
    let parse = |line: &str| {
        let (head, tail) = line.split_once(" - ")?;
        let head: Vec<&str> = head.split(' ').collect();
        let tail: Vec<&str> = tail.split(' ').collect();
        Some(Mount {
            root: unescape(head.get(3)?),
            target: unescape(head.get(4)?),
            options: list(head.get(5)),
            optional: head.iter().skip(6).map(|word| (*word).to_owned()).collect(),
            fs_type: (*tail.first()?).to_owned(),
            source: unescape(tail.get(1)?),
            super_options: list(tail.get(2)),
        })
    };
    text.lines().filter_map(parse).collect()
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(word: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(word.to_owned(), |word, (code, character)| word.replace(code, character))
}

/// Pids in /proc.
pub(crate) fn pids() -> Vec<u32> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// Lines of uid_map: inside, outside, count.
pub(crate) fn id_map(text: &str) -> Vec<[u64; 3]> {
    let line = |line: &str| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        <[u64; 3]>::try_from(numbers).ok()
    };
    text.lines().filter_map(line).collect()
}

/// Descriptors that were open before this program opened any: the listing's own is gone when it is looked at again.
pub(crate) fn fds() -> BTreeMap<u32, String> {
    let listed: Vec<std::fs::DirEntry> =
        std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().collect();
    listed
        .iter()
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, target.to_string_lossy().into_owned()))
        })
        .collect()
}

/// The inode number of each namespace.
pub(crate) fn namespaces() -> BTreeMap<String, u64> {
    let number = |entry: std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
        let inode = target.split_once('[')?.1.trim_end_matches(']').parse().ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), inode))
    };
    std::fs::read_dir("/proc/self/ns").into_iter().flatten().flatten().filter_map(number).collect()
}

/// The machine's first namespaces of these kinds have the same number on every kernel.
pub(crate) const INITIAL: [(&str, u64); 6] = [
    ("cgroup", 0xefff_fffb),
    ("ipc", 0xefff_ffff),
    ("pid", 0xefff_fffc),
    ("time", 0xefff_fffa),
    ("user", 0xefff_fffd),
    ("uts", 0xefff_fffe),
];

/// Names of those that are the machine's first.
pub(crate) fn initial(namespaces: &BTreeMap<String, u64>) -> Vec<String> {
    let is_initial = |(name, inode): &&(&str, u64)| namespaces.get(*name) == Some(inode);
    INITIAL.iter().filter(is_initial).map(|(name, _)| (*name).to_owned()).collect()
}

/// `/proc/PID/limits`: soft and hard limit by name.
pub(crate) fn limits(text: &str) -> BTreeMap<String, [String; 2]> {
    let line = |line: &str| {
        // The name is padded to a fixed width and contains spaces.
        let (name, rest) = line.split_at_checked(26)?;
        let mut words = rest.split_whitespace();
        Some((name.trim().to_owned(), [words.next()?.to_owned(), words.next()?.to_owned()]))
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// Names of network interfaces.
pub(crate) fn interfaces(text: &str) -> Vec<String> {
    let mut names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect();
    names.retain(|name| !name.contains('|'));
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_with_an_escaped_space() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mounts = mounts(line);
        assert_eq!(mounts[0].target, "/mnt 2");
        assert_eq!(mounts[0].optional, ["master:1"]);
        assert_eq!(mounts[0].fs_type, "ext3");
    }

    #[test]
    fn limits_names_contain_spaces() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(limits(text)["Max open files"], ["1024", "524288"]);
    }

    #[test]
    fn capability_bits_have_names() {
        let status = Status::parse("CapEff:\t0000000000200001\n");
        assert_eq!(Capabilities::of(&status).effective, ["CHOWN", "SYS_ADMIN"]);
    }
}
