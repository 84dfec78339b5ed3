//! What a run has left on the machine: cgroups, mounts, loop devices, interfaces, processes, files in /tmp, sysctls.
//!
//! Must only look. Things are told apart by name and by not having been there before, so that another run on the same
//! machine is not blamed for more than it must be.

use std::collections::BTreeSet;
use std::fs::read_dir;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Everything of ours by the look of it, each as a line for people.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Found(BTreeSet<String>);

/// Looks at the machine.
pub(crate) fn look() -> Found {
    let mut found = BTreeSet::new();
    cgroups(Path::new("/sys/fs/cgroup"), 0, &mut found);
    mounts(&mut found);
    loops(&mut found);
    interfaces(&mut found);
    processes(&mut found);
    temporary(&mut found);
    shared_devices(&mut found);
    sysctls(&mut found);
    Found(found)
}

impl Found {
    /// What is here and wasn't in `before`.
    pub(crate) fn since(&self, before: &Found) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// Ours begin with this, or have it as a word; a checkout of the project itself must not match.
fn is_ours(name: &str) -> bool {
    name.split(['/', '-', '.', '_', ':']).any(|word| word.starts_with("vzd") || word == "lxcfs")
}

fn cgroups(directory: &Path, depth: usize, found: &mut BTreeSet<String>) {
    for entry in read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        // A link leads to a hierarchy that is seen under its own name.
        if depth > 4 || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if is_ours(&entry.file_name().to_string_lossy()) {
            found.insert(format!("cgroup {}", path.display()));
        } else {
            cgroups(&path, depth + 1, found);
        }
    }
}

fn mounts(found: &mut BTreeSet<String>) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let targets = table.lines().filter_map(|line| line.split(' ').nth(4));
    found.extend(targets.filter(|target| is_ours(target)).map(|target| format!("mount {target}")));
}

fn loops(found: &mut BTreeSet<String>) {
    for entry in read_dir("/sys/block").into_iter().flatten().flatten() {
        if let Ok(file) = std::fs::read_to_string(entry.path().join("loop/backing_file")) {
            found.insert(format!("loop device {} on {}", entry.file_name().display(), file.trim()));
        }
    }
}

fn interfaces(found: &mut BTreeSet<String>) {
    for entry in read_dir("/sys/class/net").into_iter().flatten().flatten() {
        found.insert(format!("interface {}", entry.file_name().display()));
    }
}

fn processes(found: &mut BTreeSet<String>) {
    for entry in read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(program) = std::fs::read_link(entry.path().join("exe")) else { continue };
        let name = program.file_name().unwrap_or_default().to_string_lossy().replace(" (deleted)", "");
        if matches!(name.as_str(), "vzd" | "guest" | "guest-pause") {
            found.insert(format!("process {} ({})", entry.file_name().display(), program.display()));
        }
    }
}

fn temporary(found: &mut BTreeSet<String>) {
    for entry in read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if is_ours(&entry.file_name().to_string_lossy()) {
            found.insert(format!("file {}", entry.path().display()));
        }
    }
}

/// Container engines give their standard streams to the container's root; the machine's own nodes must not be among them.
fn shared_devices(found: &mut BTreeSet<String>) {
    for path in
        ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx"]
    {
        if let Ok(data) = std::fs::metadata(path) {
            found.insert(format!(
                "device {path} of {}:{} mode {:o}",
                data.uid(),
                data.gid(),
                data.mode() & 0o7777
            ));
        }
    }
}

/// What makes a router of the machine, which routed addresses of VEs want of their host.
fn sysctls(found: &mut BTreeSet<String>) {
    for path in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
        let value = std::fs::read_to_string(path).unwrap_or_default();
        found.insert(format!("{path} is {}", value.trim()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_ours("/tmp/vzd-quickstart-12/state"));
        assert!(is_ours("run.vzd:5"));
        assert!(!is_ours("/work/main"));
        assert!(!is_ours("vzg-root"));
    }

    #[test]
    fn only_what_is_new_is_told() {
        let set = |names: &[&str]| Found(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(set(&["a", "b"]).since(&set(&["a", "c"])), ["b"]);
    }
}
