//! Probes of the mount tree: foreign file systems, masks, read-only mounts, the root.
//!
//! All of it happens in a copy of the mount tree, which keeps the locks of the original and goes with the probe.

use super::Probe;
use super::outcome::{Outcome, judge, judge_with, worst};
use super::scratch;
use crate::report::{Mount, mounts};
use crate::sys::{Arg, Block, Errno, call, isolated_mounts, open, text};

pub(super) const PROBES: &[Probe] = &[
    Probe::refused(
        "mount-kernel-fs",
        "mount debugfs, tracefs, securityfs, bpffs, configfs, pstore, efivarfs",
        kernel_fs,
    ),
    Probe::refused("fresh-proc", "mount a new proc, which would be without masks", || fresh("proc")),
    Probe::refused("fresh-sysfs", "mount a new sysfs, which would be writable", || fresh("sysfs")),
    Probe::refused("umount-masks", "unmount everything below /proc and /sys but lxcfs's views", umount_masks),
    Probe::refused("remount-kernel-rw", "remount the read-only mounts of /proc and /sys writable", || {
        remount(|mount| is_kernel(&mount.target))
    }),
    Probe::refused(
        "remount-bind-rw",
        "remount injected read-only mounts writable, in place and as a second bind",
        || {
            remount(|mount| {
                !is_kernel(&mount.target) && mount.target != "/" && !mount.target.starts_with("/dev")
            })
        },
    ),
    Probe::refused("detach-root", "unmount the root", detach_root),
    Probe::refused(
        "mount-namespace-join",
        "join the mount namespace of any process that has another one",
        other_mounts,
    ),
    Probe::policy("remount-root-flags", "remount the root without nosuid and nodev", root_flags),
    Probe::allowed("own-tmpfs", "mount a tmpfs", || in_copy("tmpfs", "size=64k")),
    Probe::allowed("own-overlay", "mount an overlay of own directories", own_overlay),
    Probe::policy("own-binfmt-misc", "mount a binfmt_misc of the own user namespace", || {
        in_copy("binfmt_misc", "")
    }),
];

/// mount(2).
pub(super) fn mount(source: &str, target: &str, kind: &str, flags: u64, options: &str) -> Result<i64, Errno> {
    let [source, target, kind, options] = [source, target, kind, options].map(text);
    let flags = Arg::Int(flags.cast_signed());
    call(
        libc::SYS_mount,
        [Arg::Text(&source), Arg::Text(&target), Arg::Text(&kind), flags, Arg::Text(&options)],
    )
}

/// umount2(2) of the topmost mount, without following a link.
pub(super) fn umount(target: &str) -> Result<i64, Errno> {
    let flags = i64::from(libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW);
    call(libc::SYS_umount2, [Arg::Text(&text(target)), Arg::Int(flags)])
}

fn is_kernel(path: &str) -> bool {
    ["/proc", "/sys"].iter().any(|top| path == *top || path.starts_with(&format!("{top}/")))
}

fn present(matching: impl Fn(&Mount) -> bool) -> Vec<Mount> {
    let mut found = mounts(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    found.retain(matching);
    found
}

fn in_copy(kind: &str, options: &str) -> Outcome {
    if let Err(errno) = isolated_mounts() {
        return Outcome::unclear(format!("no mount namespace to try in: {errno}"));
    }
    judge(mount("none", &scratch::directory("mount"), kind, 0, options))
}

fn kernel_fs() -> Outcome {
    worst(
        ["debugfs", "tracefs", "securityfs", "bpf", "configfs", "pstore", "efivarfs", "selinuxfs"]
            .map(|kind| (kind, in_copy(kind, ""))),
    )
}

fn fresh(kind: &str) -> Outcome {
    // Both interfaces: they have had different checks.
    let old = in_copy(kind, "");
    let new = call(libc::SYS_fsopen, [Arg::Text(&text(kind)), Arg::Int(0)]).and_then(|fs| {
        const CMD_CREATE: i64 = 6;
        let create = [Arg::Int(fs), Arg::Int(CMD_CREATE), Arg::Null, Arg::Null, Arg::Int(0)];
        call(libc::SYS_fsconfig, create)?;
        call(libc::SYS_fsmount, [Arg::Int(fs), Arg::Int(0), Arg::Int(0)])
    });
    worst([("mount", old), ("fsmount", judge(new))])
}

fn umount_masks() -> Outcome {
    if let Err(errno) = isolated_mounts() {
        return Outcome::unclear(format!("no mount namespace to try in: {errno}"));
    }
    // lxcfs's files show a VE its own share of the host's figures. They come and go with lxcfs, in running VEs too, and
    // keep nothing from anybody who takes them away.
    let mask = |mount: &Mount| is_kernel(&mount.target) && !mount.fs_type.starts_with("fuse");
    let mut masks = present(|mount| mask(mount) && mount.fs_type != "cgroup2");
    masks.reverse();
    worst(masks.into_iter().map(|mask| {
        let result = call(
            libc::SYS_umount2,
            [Arg::Text(&text(mask.target.as_str())), Arg::Int(i64::from(libc::UMOUNT_NOFOLLOW))],
        );
        (mask.target, judge_with(result, &[libc::EINVAL, libc::EBUSY]))
    }))
}

fn remount(matching: fn(&Mount) -> bool) -> Outcome {
    if let Err(errno) = isolated_mounts() {
        return Outcome::unclear(format!("no mount namespace to try in: {errno}"));
    }
    let copy = scratch::directory("bind");
    let read_only = present(|mount| mount.options.iter().any(|option| option == "ro") && matching(mount));
    worst(read_only.into_iter().flat_map(|mount_point| {
        let target = mount_point.target;
        let flags = libc::MS_REMOUNT | libc::MS_BIND;
        let old = judge(mount("none", &target, "", flags, ""));
        let new = judge(clear_read_only(&target));
        let again = match mount(&target, &copy, "", libc::MS_BIND, "") {
            Ok(_) => {
                let outcome = judge(mount("none", &copy, "", flags, ""));
                let _ = umount(&copy);
                outcome
            }
            // A file can't be bound on a directory.
            Err(errno) => Outcome::absent(format!("second bind: {errno}")),
        };
        [
            (format!("{target} (mount)"), old),
            (format!("{target} (mount_setattr)"), new),
            (format!("{target} (second bind)"), again),
        ]
    }))
}

fn clear_read_only(target: &str) -> Result<i64, Errno> {
    const ATTR_RDONLY: u64 = 1;
    const SIZE_OF_FIRST_VERSION: i64 = 32;
    let mut attributes = Block::new();
    attributes.put_u64(8, ATTR_RDONLY);
    let place = [Arg::Int(i64::from(libc::AT_FDCWD)), Arg::Text(&text(target)), Arg::Int(0)];
    let [directory, path, flags] = place;
    call(
        libc::SYS_mount_setattr,
        [directory, path, flags, Arg::Block(&mut attributes), Arg::Int(SIZE_OF_FIRST_VERSION)],
    )
}

fn detach_root() -> Outcome {
    if let Err(errno) = isolated_mounts() {
        return Outcome::unclear(format!("no mount namespace to try in: {errno}"));
    }
    let result = call(libc::SYS_umount2, [Arg::Text(c"/"), Arg::Int(i64::from(libc::MNT_DETACH))]);
    judge_with(result, &[libc::EINVAL, libc::EBUSY])
}

fn other_mounts() -> Outcome {
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap_or_default();
    let others = crate::report::pids().into_iter().filter_map(|pid| {
        let path = format!("/proc/{pid}/ns/mnt");
        (std::fs::read_link(&path).ok()? != own).then_some(path)
    });
    worst(others.map(|path| {
        // Only its being there is told: a process inside may have made a mount namespace for itself.
        let opened = open(&path, libc::O_RDONLY);
        (
            path,
            opened.map_or_else(
                |errno| judge(Err::<(), _>(errno)),
                |_| Outcome::unclear("another mount namespace"),
            ),
        )
    }))
}

fn root_flags() -> Outcome {
    if let Err(errno) = isolated_mounts() {
        return Outcome::unclear(format!("no mount namespace to try in: {errno}"));
    }
    judge(mount("none", "/", "", libc::MS_REMOUNT | libc::MS_BIND, ""))
}

fn own_overlay() -> Outcome {
    if let Err(errno) = isolated_mounts() {
        return Outcome::unclear(format!("no mount namespace to try in: {errno}"));
    }
    // On a tmpfs, since an overlay can't be the upper layer of another.
    let base = scratch::directory("mount");
    if let Err(errno) = mount("none", &base, "tmpfs", 0, "size=256k") {
        return Outcome::unclear(format!("tmpfs: {errno}"));
    }
    for name in ["lower", "upper", "work", "merged"] {
        drop(std::fs::create_dir(format!("{base}/{name}")));
    }
    let options = format!("lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work");
    judge(mount("none", &format!("{base}/merged"), "overlay", 0, &options))
}
