//! The recipe of the `tiny` template: a root that boots in a tenth of a second, of one program and a few files.
//!
//! Everything that makes up the root is in the tables below, and the template's digest is a hash over them and over
//! busybox: a change of either makes a new template, and VEs that run keep the old one. Nothing here may depend on
//! the time, the host's name or its configuration.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::error::Problem;
use super::index::hex;
use super::tree::{Meta, Tree};

/// Path, mode, group.
const DIRS: &[(&str, u16, u32)] = &[
    ("bin", 0o755, 0),
    ("dev", 0o755, 0),
    ("etc", 0o755, 0),
    ("etc/crontabs", 0o755, 0),
    ("etc/init.d", 0o755, 0),
    ("etc/profile.d", 0o755, 0),
    ("home", 0o755, 0),
    ("mnt", 0o755, 0),
    ("opt", 0o755, 0),
    ("proc", 0o555, 0),
    ("root", 0o700, 0),
    ("run", 0o755, 0),
    ("sbin", 0o755, 0),
    ("srv", 0o755, 0),
    ("sys", 0o555, 0),
    ("tmp", 0o1777, 0),
    ("usr", 0o755, 0),
    ("usr/bin", 0o755, 0),
    ("usr/sbin", 0o755, 0),
    ("usr/local", 0o755, 0),
    ("usr/local/bin", 0o755, 0),
    ("usr/local/sbin", 0o755, 0),
    ("var", 0o755, 0),
    ("var/cache", 0o755, 0),
    ("var/lib", 0o755, 0),
    ("var/log", 0o755, 0),
    ("var/spool", 0o755, 0),
    ("var/spool/cron", 0o755, 0),
    ("var/tmp", 0o1777, 0),
    ("var/www", 0o755, 0),
];

/// Path, target.
const LINKS: &[(&str, &str)] = &[
    ("etc/mtab", "../proc/self/mounts"),
    ("var/lock", "../run/lock"),
    ("var/run", "../run"),
    ("var/spool/cron/crontabs", "/etc/crontabs"),
];

/// Path, mode, group, content.
const FILES: &[(&str, u16, u32, &str)] = &[
    ("etc/inittab", 0o644, 0, INITTAB),
    ("etc/init.d/rcS", 0o755, 0, RC_S),
    ("etc/init.d/rcK", 0o755, 0, RC_K),
    ("etc/init.d/console", 0o755, 0, CONSOLE),
    ("etc/passwd", 0o644, 0, PASSWD),
    ("etc/group", 0o644, 0, GROUP),
    ("etc/shadow", 0o640, 42, "root:!:0:0:99999:7:::\ndaemon:*:0:0:99999:7:::\nnobody:*:0:0:99999:7:::\n"),
    ("etc/shells", 0o644, 0, "/bin/sh\n/bin/ash\n"),
    ("etc/hostname", 0o644, 0, "localhost\n"),
    ("etc/hosts", 0o644, 0, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
    ("etc/resolv.conf", 0o644, 0, ""),
    ("etc/profile", 0o644, 0, PROFILE),
    ("etc/os-release", 0o644, 0, "ID=vzd-tiny\nNAME=\"vzd tiny\"\nPRETTY_NAME=\"vzd tiny (busybox)\"\n"),
    ("etc/crontabs/root", 0o600, 0, ""),
    ("var/log/wtmp", 0o664, 43, ""),
];

// Debian builds syslogd without rotation (-s, -b), and an option that it does not know ends it.
// The console is opened by init's child, which leads a session of its own by then, and so gets it as its terminal. The
// shell on it asks for no password: whoever can reach a VE's console from outside is root on the host.
const INITTAB: &str = "\
::sysinit:/etc/init.d/rcS
::respawn:/sbin/syslogd -n
::respawn:/usr/sbin/crond -f -c /etc/crontabs
console::respawn:/sbin/getty -n -l /etc/init.d/console 38400 console
::ctrlaltdel:/sbin/reboot
::shutdown:/etc/init.d/rcK
::restart:/sbin/init
";

const RC_S: &str = r#"#!/bin/sh
# vzd has mounted what a VE needs; here is mounted only what is missing.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mounted() { grep -qs " $1 " /proc/mounts; }
mounted /proc || mount -t proc proc /proc
mounted /sys || mount -t sysfs -o ro sysfs /sys
mounted /run || mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
mkdir -p /run/lock
touch /run/utmp
ip link set lo up 2>/dev/null
for script in /etc/init.d/S??*; do
    [ -x "$script" ] && "$script" start
done
[ -x /etc/rc.local ] && /etc/rc.local
exit 0
"#;

const RC_K: &str = r#"#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
for script in $(ls -r /etc/init.d/S??* 2>/dev/null); do
    [ -x "$script" ] && "$script" stop
done
exit 0
"#;

const CONSOLE: &str = r#"#!/bin/sh
export HOME=/root USER=root LOGNAME=root SHELL=/bin/sh TERM="${TERM:-linux}"
cd /root
# With job control it would hold /dev/tty open, and the VE could not be suspended.
exec /bin/sh -l +m
"#;

const PROFILE: &str = r#"export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PS1='\u@\h:\w\$ '
umask 022
for script in /etc/profile.d/*.sh; do
    [ -r "$script" ] && . "$script"
done
unset script
"#;

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";

const GROUP: &str = "\
root:x:0:
daemon:x:1:
adm:x:4:
tty:x:5:
disk:x:6:
shadow:x:42:
utmp:x:43:
users:x:100:
nogroup:x:65534:
";

/// A hash over the tables, for the parts of them that a template with the same busybox would share.
pub(super) fn recipe() -> &'static str {
    static RECIPE: OnceLock<String> = OnceLock::new();
    RECIPE.get_or_init(|| {
        let mut hash = Sha256::new();
        // The version is for changes of the code below that the tables do not show.
        hash.update(b"vzd-tiny 1\0");
        hash.update(format!("{DIRS:?}\0{LINKS:?}\0{FILES:?}"));
        hex(&hash.finalize())
    })
}

/// The template's digest.
pub(super) fn digest(busybox: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(recipe());
    hash.update(busybox);
    hex(&hash.finalize())
}

/// Makes the root out of busybox and the names of its applets.
pub(super) fn build(tree: &mut Tree<'_>, busybox: &[u8], applets: &[String]) -> Result<(), Problem> {
    let group = |mode, gid| Meta { gid, ..Meta::root(mode) };
    tree.dir(b"", &Meta::root(0o755))?;
    for (path, mode, gid) in DIRS {
        tree.dir(path.as_bytes(), &group(*mode, *gid))?;
    }
    write(tree, "bin/busybox", &Meta::root(0o755), busybox)?;
    for applet in applets {
        tree.symlink(applet.as_bytes(), b"/bin/busybox", &Meta::root(0o777))?;
    }
    for (path, target) in LINKS {
        tree.symlink(path.as_bytes(), target.as_bytes(), &Meta::root(0o777))?;
    }
    for (path, mode, gid, content) in FILES {
        write(tree, path, &group(*mode, *gid), content.as_bytes())?;
    }
    Ok(())
}

fn write(tree: &mut Tree<'_>, path: &str, meta: &Meta, content: &[u8]) -> Result<(), Problem> {
    tree.file(path.as_bytes(), meta, |fd| {
        let mut rest = content;
        while !rest.is_empty() {
            let n = rustix::io::write(fd, rest).map_err(|e| Problem::sys(format!("write {path}"), e))?;
            rest = &rest[n..];
        }
        Ok(())
    })
}
