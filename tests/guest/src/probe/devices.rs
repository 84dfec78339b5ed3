//! Probes of devices: making nodes, opening planted ones, mounting disks, typing into a terminal.
//!
//! Nothing is read from or written to a device that shouldn't be there; opening it is proof enough.

use std::os::fd::IntoRawFd;

use super::Probe;
use super::outcome::{Outcome, judge, judge_with, worst};
use super::scratch;
use crate::report::devices;
use crate::sys::{Arg, Block, call, isolated_mounts, open, text};

pub(super) const PROBES: &[Probe] = &[
    Probe::refused("mknod-block", "mknod of a disk, b 8:0, in the root and in an own tmpfs", || {
        mknod('b', 8, 0)
    }),
    Probe::refused("mknod-mem", "mknod of /dev/mem, c 1:1, in the root and in an own tmpfs", || {
        mknod('c', 1, 1)
    }),
    Probe::refused("mknod-null", "mknod of /dev/null, c 1:3, in the root and in an own tmpfs", || {
        mknod('c', 1, 3)
    }),
    Probe::refused(
        "template-nodes",
        "open device nodes that lie outside /dev, as a template may have them",
        planted,
    ),
    Probe::refused("dev-nodes", "find a node in /dev that no VE should have", unusual),
    Probe::refused("mount-disk", "mount the host's disks", disks),
    Probe::policy("tiocsti", "push a character into the own terminal", tiocsti),
];

/// Those that a VE gets without asking, by number: /dev/null and its like, ttys of the VE itself, and fuse and tun.
const USUAL: [(u32, u32); 9] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200), (10, 229)];

fn mknod(kind: char, major: u32, minor: u32) -> Outcome {
    let mode = i64::from(if kind == 'b' { libc::S_IFBLK } else { libc::S_IFCHR } | 0o600);
    let device = libc::makedev(major, minor).cast_signed();
    let make = |path: String| {
        let name = text(path.as_str());
        let outcome = judge(call(libc::SYS_mknod, [Arg::Text(&name), Arg::Int(mode), Arg::Int(device)]));
        // A node that opens is worse than one that lies there.
        let outcome = match (outcome, open(&path, libc::O_RDONLY | libc::O_NONBLOCK)) {
            (Outcome::Allowed { .. }, Ok(_)) => Outcome::allowed("made and opened"),
            (Outcome::Allowed { .. }, Err(errno)) => Outcome::allowed(format!("made; open: {errno}")),
            (outcome, _) => outcome,
        };
        drop(std::fs::remove_file(path));
        outcome
    };
    let on_root = make(scratch::file("node"));
    let own = scratch::directory("tmpfs");
    if isolated_mounts().is_err() || super::mounts::mount("none", &own, "tmpfs", 0, "").is_err() {
        return worst([("root", on_root)]);
    }
    worst([("root", on_root), ("tmpfs", make(format!("{own}/node")))])
}

fn planted() -> Outcome {
    // Where the tests plant them, and where a template has them for its own reasons.
    let directories = ["/vzd-probe", "/root", "/srv", "/opt", "/mnt", "/lib/udev/devices"];
    let nodes = directories.into_iter().flat_map(devices::under).filter(|node| node.kind != 'l');
    worst(nodes.map(|node| {
        let opened = judge(open(&node.path, libc::O_RDONLY | libc::O_NONBLOCK));
        (node.path, opened)
    }))
}

fn unusual() -> Outcome {
    let usual = |number: &str| {
        let pair = number
            .split_once(':')
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        // 136 to 143 are the slaves of ptys, of which the VE sees only its own instance's and its console.
        pair.is_some_and(|(major, minor)| USUAL.contains(&(major, minor)) || (136..=143).contains(&major))
    };
    let nodes = devices::under("/dev").into_iter().filter(|node| node.kind != 'l');
    let strange: Vec<_> = nodes.filter(|node| !node.number.as_deref().is_some_and(usual)).collect();
    if strange.is_empty() {
        return Outcome::harmless("only the usual ones");
    }
    worst(strange.into_iter().map(|node| {
        let opened = match judge(open(&node.path, libc::O_RDONLY | libc::O_NONBLOCK)) {
            Outcome::Allowed { .. } => {
                Outcome::allowed(format!("{}{} opens", node.kind, node.number.unwrap_or_default()))
            }
            other => other,
        };
        (node.path, opened)
    }))
}

fn disks() -> Outcome {
    if let Err(errno) = isolated_mounts() {
        return Outcome::unclear(format!("no mount namespace to try in: {errno}"));
    }
    let target = scratch::directory("disk");
    let partitions = std::fs::read_to_string("/proc/partitions").unwrap_or_default();
    let mut names: Vec<String> = partitions
        .lines()
        .skip(2)
        .filter_map(|line| line.split_whitespace().nth(3))
        .map(str::to_owned)
        .collect();
    names.extend(["vda".to_owned(), "sda".to_owned()]);
    names.dedup();
    let tries = names.iter().flat_map(|name| {
        ["ext4", "xfs", "btrfs"].map(|kind| {
            // Read-only and without replaying the journal: should it work, the disk stays as it is.
            let options = match kind {
                "ext4" => "noload",
                "xfs" => "norecovery",
                _ => "",
            };
            let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV;
            let outcome = judge(super::mounts::mount(&format!("/dev/{name}"), &target, kind, flags, options));
            if matches!(outcome, Outcome::Allowed { .. }) {
                let _ = super::mounts::umount(&target);
            }
            (format!("{kind} of {name}"), outcome)
        })
    });
    worst(tries.take(30))
}

fn tiocsti() -> Outcome {
    let unclear = |what: &str, errno: crate::sys::Errno| Outcome::unclear(format!("{what}: {errno}"));
    // A terminal of its own: should it work, the character lands nowhere.
    if let Err(errno) = call(libc::SYS_setsid, []) {
        return unclear("setsid", errno);
    }
    let master = match open("/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY) {
        Ok(master) => master,
        Err(errno) => return unclear("/dev/ptmx", errno),
    };
    let mut number = Block::new();
    let [unlock, get_number, push] =
        [libc::TIOCSPTLCK, libc::TIOCGPTN, libc::TIOCSTI].map(|request| request.cast_signed());
    for request in [unlock, get_number] {
        if let Err(errno) =
            call(libc::SYS_ioctl, [Arg::from(&master), Arg::Int(request), Arg::Block(&mut number)])
        {
            return unclear("ioctl on the pty", errno);
        }
    }
    // Without O_NOCTTY it becomes the controlling terminal, which TIOCSTI asks for.
    let slave = match open(&format!("/dev/pts/{}", number.get_u32(0)), libc::O_RDWR) {
        Ok(slave) => slave,
        Err(errno) => return unclear("the pty's slave", errno),
    };
    let mut character = Block::new();
    character.put(0, b"x");
    let arguments = [Arg::from(&slave), Arg::Int(push), Arg::Block(&mut character)];
    let outcome = judge_with(call(libc::SYS_ioctl, arguments), &[libc::EIO]);
    // Closing it would hang up on this process before it has answered.
    let _open_to_the_end = master.into_raw_fd();
    outcome
}
