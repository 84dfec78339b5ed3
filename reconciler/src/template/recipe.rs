//! Roots that vzd knows how to have made: Debian's releases, by mmdebstrap, out of the machine's own package sources.
//!
//! What a distribution needs to run as a VE is done here, to a root that was made a moment ago from known packages; nobody
//! else's files are ever edited. Nothing is unpacked here: what comes out is an archive like any other, and is taken as
//! one ([`Store::build`](super::Store::build)).

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::error::TemplateError;

/// What a root is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// Its name, which is the template's if no other is given.
    pub name: &'static str,
    /// What it is, in a line.
    pub title: &'static str,
    suite: &'static str,
    packages: &'static [&'static str],
    steps: &'static [&'static str],
}

const BASE: &[&str] = &["dbus", "iproute2", "iputils-ping", "less", "netbase", "procps", "systemd-sysv"];
const SERVER: &[&str] = &[
    "bash-completion",
    "ca-certificates",
    "cron",
    "dbus",
    "iproute2",
    "iputils-ping",
    "less",
    "netbase",
    "nftables",
    "openssh-server",
    "procps",
    "quota",
    "systemd-sysv",
    "vim-tiny",
];
const SYSVINIT: &[&str] = &[
    "cron",
    "initscripts",
    "iproute2",
    "iputils-ping",
    "less",
    "netbase",
    "openssh-server",
    "orphan-sysvinit-scripts",
    "procps",
    "sysv-rc",
    "sysvinit-core",
];

/// Each VE makes its own identity, and has none of the machine's that the root was made on.
const IDENTITY: &str = r#"set -e
rm -f "$1"/etc/machine-id "$1"/var/lib/dbus/machine-id "$1"/etc/ssh/ssh_host_*_key "$1"/etc/ssh/ssh_host_*_key.pub
echo localhost > "$1"/etc/hostname
: > "$1"/etc/resolv.conf
printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' > "$1"/etc/hosts"#;

/// Host keys are made when ssh first starts.
const SSH_KEYS: &str = r#"set -e
cat > "$1"/etc/systemd/system/ssh-host-keys.service <<'UNIT'
[Unit]
Description=Host keys of this machine's own for ssh
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key
Before=ssh.service

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=ssh.service
UNIT
mkdir -p "$1"/etc/systemd/system/ssh.service.wants
ln -s ../ssh-host-keys.service "$1"/etc/systemd/system/ssh.service.wants/"#;

/// CRIU can write no such namespaces and mounts to disk: with them no VE with systemd could be suspended or moved alive.
const MOVABLE: &str = r#"set -e
mkdir -p "$1"/etc/systemd/system/service.d
cat > "$1"/etc/systemd/system/service.d/50-movable.conf <<'UNIT'
# A service with a hostname, System V objects or a mount in /sys/fs/cgroup of its own can be neither suspended to disk nor moved
# alive, and so the whole system cannot. Without this file, services that ask for such have them.
[Service]
ProtectHostname=no
PrivateIPC=no
MemoryPressureWatch=off
UNIT"#;

/// A getty on the console instead of six on terminals that a VE has not, and host keys before ssh starts.
const SYSV: &str = r#"set -e
sed -i -E 's/^([1-6]:.*getty.* tty[1-6])$/#\1/' "$1"/etc/inittab
echo '1:2345:respawn:/sbin/getty --noclear 38400 console' >> "$1"/etc/inittab
cat > "$1"/etc/init.d/ssh-host-keys <<'SCRIPT'
#!/bin/sh
### BEGIN INIT INFO
# Provides:          ssh-host-keys
# Required-Start:    $local_fs
# Required-Stop:
# X-Start-Before:    ssh
# Default-Start:     2 3 4 5
# Default-Stop:
# Short-Description: Host keys of this machine's own for ssh
### END INIT INFO
[ "$1" = start ] && ! ls /etc/ssh/ssh_host_*_key >/dev/null 2>&1 && ssh-keygen -A
exit 0
SCRIPT
chmod 755 "$1"/etc/init.d/ssh-host-keys
chroot "$1" update-rc.d ssh-host-keys defaults"#;

/// All of them.
pub const RECIPES: &[Recipe] = &[
    Recipe {
        name: "debian-12",
        title: "Debian 12 (bookworm) with systemd, small",
        suite: "bookworm",
        packages: BASE,
        steps: &[IDENTITY, MOVABLE],
    },
    Recipe {
        name: "debian-12-server",
        title: "Debian 12 (bookworm) with systemd, ssh, cron, quota and nftables",
        suite: "bookworm",
        packages: SERVER,
        steps: &[IDENTITY, MOVABLE, SSH_KEYS],
    },
    Recipe {
        name: "debian-12-sysvinit",
        title: "Debian 12 (bookworm) with sysvinit, ssh and cron",
        suite: "bookworm",
        packages: SYSVINIT,
        steps: &[IDENTITY, SYSV],
    },
    Recipe {
        name: "debian-13",
        title: "Debian 13 (trixie) with systemd, small",
        suite: "trixie",
        packages: BASE,
        steps: &[IDENTITY, MOVABLE],
    },
    Recipe {
        name: "debian-13-server",
        title: "Debian 13 (trixie) with systemd, ssh, cron, quota and nftables",
        suite: "trixie",
        packages: SERVER,
        steps: &[IDENTITY, MOVABLE, SSH_KEYS],
    },
];

impl Recipe {
    /// The recipe of this name.
    pub fn named(name: &str) -> Result<&'static Recipe, TemplateError> {
        let found = RECIPES.iter().find(|recipe| recipe.name == name);
        found.ok_or_else(|| TemplateError::UnknownRecipe(name.to_owned()))
    }

    /// The program that writes the root as a tar archive to its standard output. What it has to say goes to this process's
    /// standard error.
    pub(super) fn command(&self) -> Result<Command, TemplateError> {
        let mut command = Command::new("mmdebstrap");
        command.args(["--variant=minbase", "--format=tar", "--mode=root", "--quiet"]);
        command.arg(format!("--include={}", self.packages.join(",")));
        command.args(self.steps.iter().map(|step| format!("--customize-hook={step}")));
        command.args([self.suite, "-"]).args(self.sources()?);
        // A message in another language is no help in a log; a proxy of the environment is wanted.
        command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(command)
    }

    /// The lines of sources.list, with the addresses that the machine itself has for Debian.
    fn sources(&self) -> Result<Vec<OsString>, TemplateError> {
        let texts = apt_sources();
        let lines = || texts.iter().flat_map(|text| text.lines());
        let main = lines().find_map(|line| address(line, "/debian")).ok_or(TemplateError::NoMirror)?;
        let Recipe { suite, .. } = self;
        let mut sources =
            vec![format!("deb {main} {suite} main"), format!("deb {main} {suite}-updates main")];
        // A mirror of the main archive alone is a mirror too.
        sources.extend(
            lines()
                .find_map(|line| address(line, "/debian-security"))
                .map(|at| format!("deb {at} {suite}-security main")),
        );
        Ok(sources.into_iter().map(OsString::from).collect())
    }
}

fn apt_sources() -> Vec<String> {
    let parts = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let paths = parts.map(|entry| entry.path()).chain([PathBuf::from("/etc/apt/sources.list")]);
    let paths = paths.filter(|path| path.extension().is_some_and(|is| is == "sources" || is == "list"));
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

/// The address in a line of either format, if it ends so.
fn address<'a>(line: &'a str, end: &str) -> Option<&'a str> {
    let rest = line.strip_prefix("URIs:").or_else(|| line.strip_prefix("deb "))?;
    rest.split_whitespace().find(|word| word.trim_end_matches('/').ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_formats() {
        assert_eq!(address("URIs: http://mirror/debian", "/debian"), Some("http://mirror/debian"));
        assert_eq!(
            address("deb [a=b] http://mirror/debian/ x main", "/debian"),
            Some("http://mirror/debian/")
        );
        assert_eq!(address("URIs: http://mirror/debian-security", "/debian"), None);
        assert_eq!(address("# URIs: http://mirror/debian", "/debian"), None);
    }

    #[test]
    fn each_recipe_has_a_name_of_its_own() {
        for recipe in RECIPES {
            assert_eq!(Recipe::named(recipe.name).unwrap(), recipe);
        }
        assert!(Recipe::named("debian-5").unwrap_err().to_string().contains("debian-5"));
    }
}
