//! Probes of ways out of the root file system, and of file attributes that quota and immutability rest on.
//!
//! They look at inode numbers and change only files that they have made.

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use super::Probe;
use super::outcome::{Outcome, judge, judge_with, worst};
use super::scratch;
use crate::sys::{Arg, Block, Errno, call, call_i386, isolated_mounts, open, text};

pub(super) const PROBES: &[Probe] = &[
    Probe::refused("open-by-handle", "open the root by a file handle", by_handle),
    Probe::refused("project-id", "change the project id of an own file", project_id),
    Probe::refused("project-by-copy-up", "have the attributes of a template's file set on its copy", || {
        by_copy_up("/bin/guest")
    }),
    Probe::refused("project-by-copy-up-dir", "the same of a directory", || by_copy_up("/bin")),
    Probe::refused("btrfs", "have btrfs make a subvolume of one's own, or change its quotas", btrfs),
    Probe::refused("immutable", "make an own file immutable", immutable),
    Probe::refused("dotdot", "leave the root through .., from / and from mount points", dotdot),
    Probe::refused("chroot-fchdir", "leave the root by a chroot below an open directory", chroot_fchdir),
    Probe::refused("pivot-root", "uncover what lies below the root by pivot_root and unmounting", pivot),
    Probe::refused("proc-root", "leave the root through /proc/PID/root and /proc/PID/cwd", proc_root),
    Probe::refused("inherited-fds", "find an open file descriptor that leads outside", inherited),
];

type Identity = (u64, u64);

fn identity(path: &str) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|data| (data.dev(), data.ino()))
}

fn by_handle() -> Outcome {
    const HANDLE_BYTES: u32 = 128;
    let Ok(root) = open("/", libc::O_RDONLY | libc::O_DIRECTORY) else {
        return Outcome::unclear("/ doesn't open");
    };
    let mut handle = Block::new();
    handle.put_u32(0, HANDLE_BYTES);
    let mut mount = Block::new();
    let here = Arg::Int(i64::from(libc::AT_FDCWD));
    let named = [here, Arg::Text(c"/"), Arg::Block(&mut handle), Arg::Block(&mut mount), Arg::Int(0)];
    if let Err(errno) = call(libc::SYS_name_to_handle_at, named) {
        return Outcome::absent(format!("no handles on this root: {errno}"));
    }
    let opened =
        [Arg::from(&root), Arg::Block(&mut handle), Arg::Int(i64::from(libc::O_RDONLY | libc::O_CLOEXEC))];
    judge(call(libc::SYS_open_by_handle_at, opened))
}

/// Runs a getting and a setting ioctl on a new file, with `change` between the two.
fn attributes(get: i64, set: i64, change: fn(&mut Block), undo: fn(&mut Block)) -> Result<i64, Errno> {
    let path = scratch::file("attributes");
    let file = open(&path, libc::O_RDWR | libc::O_CREAT)?;
    let mut state = Block::new();
    let result =
        call(libc::SYS_ioctl, [Arg::from(&file), Arg::Int(get), Arg::Block(&mut state)]).and_then(|_| {
            change(&mut state);
            let result = call(libc::SYS_ioctl, [Arg::from(&file), Arg::Int(set), Arg::Block(&mut state)]);
            if result.is_ok() {
                undo(&mut state);
                let _ = call(libc::SYS_ioctl, [Arg::from(&file), Arg::Int(set), Arg::Block(&mut state)]);
            }
            result
        });
    drop(std::fs::remove_file(path));
    result
}

fn project_id() -> Outcome {
    const GET: i64 = 0x801c_581f;
    const SET: i64 = 0x401c_5820;
    const PROJECT: usize = 12;
    let toggle = |state: &mut Block| {
        let project = state.get_u32(PROJECT);
        state.put_u32(PROJECT, project ^ 1);
    };
    judge_with(attributes(GET, SET, toggle, toggle), &[libc::EINVAL])
}

/// Every way of setting a file's attributes, to what they are. On a file of the template, which has no project, the
/// kernel finds nothing wrong with that; on the copy that is then made it takes the project away.
fn by_copy_up(path: &str) -> Outcome {
    const GET_FLAGS: i64 = 0x8008_6601;
    const GET_ALL: i64 = 0x801c_581f;
    // The setting calls of 64-bit and of 32-bit programs, and that of both.
    const SET_FLAGS: u32 = 0x4008_6602;
    const SET_FLAGS_32: u32 = 0x4004_6602;
    const SET_ALL: u32 = 0x401c_5820;
    const IOCTL_I386: u32 = 54;
    const FILE_SETATTR: i64 = 469;
    let Ok(file) = open(path, libc::O_RDONLY) else {
        return Outcome::unclear(format!("{path} doesn't open"));
    };
    let again = |get, set| {
        let mut state = Block::new();
        call(libc::SYS_ioctl, [Arg::from(&file), Arg::Int(get), Arg::Block(&mut state)])?;
        call(libc::SYS_ioctl, [Arg::from(&file), Arg::Int(set), Arg::Block(&mut state)])
    };
    let compat = |set| {
        // Without a structure: who gets as far as to miss it (EFAULT) was not refused.
        let fd = u32::try_from(file.as_raw_fd()).unwrap_or_default();
        call_i386(IOCTL_I386, [fd, set, 0])
    };
    let by_path = || {
        let (here, mut state) = (Arg::Int(i64::from(libc::AT_FDCWD)), Block::new());
        let name = text(path);
        call(FILE_SETATTR, [here, Arg::Text(&name), Arg::Block(&mut state), Arg::Int(24), Arg::Int(0)])
    };
    worst([
        ("FS_IOC_SETFLAGS", judge(again(GET_FLAGS, SET_FLAGS.into()))),
        ("FS_IOC_FSSETXATTR", judge(again(GET_ALL, SET_ALL.into()))),
        // The kernel doesn't look at the upper half of a command.
        ("the same with more bits", judge(again(GET_ALL, i64::from(SET_ALL) | 1 << 40))),
        ("FS_IOC32_SETFLAGS", judge(compat(SET_FLAGS_32))),
        ("FS_IOC_SETFLAGS, 32-bit", judge(compat(SET_FLAGS))),
        ("FS_IOC_FSSETXATTR, 32-bit", judge(compat(SET_ALL))),
        ("file_setattr", judge(by_path())),
    ])
}

/// What btrfs does for whoever owns a directory (subvolumes, which are in no quota group of the VE's), and what it does for
/// root. All but the last two are for everybody, by the kernel's own rules.
fn btrfs() -> Outcome {
    const CALLS: [(&str, i64); 7] = [
        ("BTRFS_IOC_SNAP_CREATE", 0x5000_9401),
        ("BTRFS_IOC_SUBVOL_CREATE", 0x5000_940e),
        ("BTRFS_IOC_SNAP_DESTROY", 0x5000_940f),
        ("BTRFS_IOC_SNAP_CREATE_V2", 0x5000_9417),
        ("BTRFS_IOC_SUBVOL_CREATE_V2", 0x5000_9418),
        ("BTRFS_IOC_QGROUP_LIMIT", 0x8030_942b),
        ("BTRFS_IOC_QUOTA_CTL", 0xc010_9428),
    ];
    let home = scratch::directory("btrfs");
    worst(CALLS.map(|(name, number)| {
        let tries = ["/", &home].map(|path| {
            let Ok(dir) = open(path, libc::O_RDONLY | libc::O_DIRECTORY) else {
                return (path.to_owned(), Outcome::unclear(format!("{path} doesn't open")));
            };
            let mut args = Block::new();
            // The descriptor of what a snapshot is of, a name in the old form and in the new one.
            args.put_u64(0, u64::try_from(dir.as_raw_fd()).unwrap_or_default());
            args.put(8, b"sub").put(56, b"sub");
            let result = call(libc::SYS_ioctl, [Arg::from(&dir), Arg::Int(number), Arg::Block(&mut args)]);
            // The overlay knows no such call, and hands none on.
            (path.to_owned(), judge_with(result, &[libc::ENOTTY]))
        });
        (name, worst(tries))
    }))
}

fn immutable() -> Outcome {
    const GET: i64 = 0x8008_6601;
    const SET: i64 = 0x4008_6602;
    const IMMUTABLE: u32 = 0x10;
    let toggle = |state: &mut Block| {
        let flags = state.get_u32(0);
        state.put_u32(0, flags ^ IMMUTABLE);
    };
    judge(attributes(GET, SET, toggle, toggle))
}

fn dotdot() -> Outcome {
    let root = identity("/");
    let deep = "/..".repeat(64);
    let mut paths = vec![deep.clone(), format!("/proc/self/root{deep}"), format!("/proc/1/root{deep}")];
    let mounts = crate::report::mounts(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    paths.extend(mounts.into_iter().map(|mount| format!("{}{deep}", mount.target)));
    // A mount on a file has no "..": it isn't there, and that is fine.
    let out = paths.into_iter().filter(|path| identity(path).is_some_and(|found| Some(found) != root));
    same_root(out.map(|path| path.replace(&deep, "/..")))
}

fn same_root(ways_out: impl Iterator<Item = String>) -> Outcome {
    let found: Vec<(String, Outcome)> =
        ways_out.map(|path| (path, Outcome::allowed("another directory than the root"))).collect();
    if found.is_empty() { Outcome::harmless("it stays the same root") } else { worst(found) }
}

fn chroot_fchdir() -> Outcome {
    let root = identity("/");
    let Ok(top) = open("/", libc::O_RDONLY | libc::O_DIRECTORY) else {
        return Outcome::unclear("/ doesn't open");
    };
    let inner = text(scratch::directory("chroot"));
    if let Err(errno) = call(libc::SYS_chroot, [Arg::Text(&inner)]) {
        return judge(Err::<(), _>(errno));
    }
    if let Err(errno) = call(libc::SYS_fchdir, [Arg::from(&top)]) {
        return judge(Err::<(), _>(errno));
    }
    for _ in 0..64 {
        drop(std::env::set_current_dir(".."));
    }
    match identity(".") == root {
        true => Outcome::harmless("it ends at the same root"),
        false => Outcome::allowed("the working directory is another one than the root"),
    }
}

fn pivot() -> Outcome {
    if let Err(errno) = isolated_mounts() {
        return Outcome::unclear(format!("no mount namespace to try in: {errno}"));
    }
    let root = identity("/");
    let inner = scratch::directory("pivot");
    if let Err(errno) = super::mounts::mount("none", &inner, "tmpfs", 0, "size=64k") {
        return Outcome::unclear(format!("tmpfs: {errno}"));
    }
    let pivoted = std::env::set_current_dir(&inner)
        .map_err(|error| Errno::of(&error))
        .and_then(|()| call(libc::SYS_pivot_root, [Arg::Text(c"."), Arg::Text(c".")]));
    if let Err(errno) = pivoted {
        return judge_with(Err::<(), _>(errno), &[libc::EINVAL]);
    }
    // The old root lies over the new one now; with it gone there must be nothing but our tmpfs.
    for _ in 0..8 {
        if super::mounts::umount(".").is_err() {
            break;
        }
        let entries = std::fs::read_dir(".").map(|entries| entries.flatten().count()).unwrap_or(0);
        if entries > 0 && identity(".") != root {
            return Outcome::allowed(format!("{entries} entries of something else below the root"));
        }
    }
    Outcome::harmless("nothing lies below the root")
}

fn proc_root() -> Outcome {
    let root = identity("/");
    let links = crate::report::pids().into_iter().flat_map(|pid| {
        ["root", "cwd"]
            .map(|link| (format!("/proc/{pid}/{link}"), format!("/proc/{pid}/{link}{}", "/..".repeat(64))))
    });
    let out = links.filter(|(_, up)| identity(up).is_some_and(|found| Some(found) != root));
    same_root(out.map(|(link, _)| link))
}

fn inherited() -> Outcome {
    // What this program opens itself is closed on exec; what it was given is not.
    let given = crate::report::fds().into_iter().filter(|(fd, _)| {
        let flags = call(libc::SYS_fcntl, [Arg::Int(i64::from(*fd)), Arg::Int(i64::from(libc::F_GETFD))]);
        *fd > 2 && flags.is_ok_and(|flags| flags & i64::from(libc::FD_CLOEXEC) == 0)
    });
    let found: Vec<(String, Outcome)> =
        given.map(|(fd, target)| (format!("{fd}"), Outcome::allowed(format!("leads to {target}")))).collect();
    if found.is_empty() { Outcome::harmless("only 0, 1 and 2") } else { worst(found) }
}
