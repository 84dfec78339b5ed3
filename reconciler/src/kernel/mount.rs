//! The mount API: detached mounts by descriptor, attributes, attaching, pivot_root.
//!
//! rustix wraps all of it but mount_setattr(2). Mounts are made detached, given their attributes and
//! only then attached, so that no one ever sees a mount with the wrong flags. Which mounts a VE gets is
//! `runtime::tree`'s decision, not this file's.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

use crate::error::{At, SysError, SysResult};

pub use rustix::mount::MountAttrFlags as Attr;

/// One option of a file system that is being configured.
pub enum FsOption<'a> {
    /// `key=value`.
    Text(&'a str, &'a str),
    /// `key` alone.
    Flag(&'a str),
    /// `key` with a path that the kernel resolves at once.
    Path(&'a str, &'a Path),
    /// `key` with an open descriptor (overlay layers, Linux 6.13 and later).
    Fd(&'a str, BorrowedFd<'a>),
}

/// Makes a new, detached mount of file system type `kind`.
pub fn new_fs(kind: &str, options: &[FsOption<'_>], attrs: MountAttrFlags) -> SysResult<OwnedFd> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).at("open file system", kind)?;
    let is_named = options
        .iter()
        .any(|option| matches!(option, FsOption::Path("source", _) | FsOption::Text("source", _)));
    if !is_named {
        // What `mount` and `df` show as its device; "none" would say less.
        rustix::mount::fsconfig_set_string(fs.as_fd(), "source", kind).at("name the source of", kind)?;
    }
    for option in options {
        let (done, shown) = match option {
            FsOption::Text(key, value) => {
                (rustix::mount::fsconfig_set_string(fs.as_fd(), *key, *value), format!("{key}={value}"))
            }
            FsOption::Flag(key) => (rustix::mount::fsconfig_set_flag(fs.as_fd(), *key), (*key).to_owned()),
            FsOption::Path(key, path) => (
                rustix::mount::fsconfig_set_string(fs.as_fd(), *key, *path),
                format!("{key}={}", path.display()),
            ),
            FsOption::Fd(key, fd) => {
                (rustix::mount::fsconfig_set_fd(fs.as_fd(), *key, fd), format!("{key}=descriptor"))
            }
        };
        done.map_err(|e| SysError::new("configure file system", kind, e).value(shown))?;
    }
    rustix::mount::fsconfig_create(fs.as_fd())
        .map_err(|e| with_log(SysError::new("create file system", kind, e), &fs))?;
    rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attrs).at("mount", kind)
}

/// Changes options of the file system that is mounted at `path` beneath `root`, which has to be of type
/// `kind`. What lies beneath may be hostile: no link is followed.
pub fn reconfigure(root: impl AsFd, path: &str, kind: &str, options: &[(&str, &str)]) -> SysResult<()> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let at = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve).at("open in the VE", path)?;
    let is = rustix::fs::fstatfs(&at).at("stat file system", path)?;
    if kind != "devpts" || is.f_type != DEVPTS_SUPER_MAGIC {
        return Err(SysError::refused("reconfigure", path, format!("it is no {kind}")));
    }
    let flags = rustix::mount::FsPickFlags::FSPICK_CLOEXEC | rustix::mount::FsPickFlags::FSPICK_EMPTY_PATH;
    let fs = rustix::mount::fspick(&at, "", flags).at("pick file system", path)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(fs.as_fd(), *key, *value)
            .map_err(|e| SysError::new("configure file system", path, e).value(format!("{key}={value}")))?;
    }
    rustix::mount::fsconfig_reconfigure(fs.as_fd())
        .map_err(|e| with_log(SysError::new("reconfigure file system", path, e), &fs))
}

/// Makes the overlay whose root `at` is read-only or writable as a whole, for everyone who has it mounted.
pub fn set_read_only(at: impl AsFd, on: bool) -> SysResult<()> {
    const WHAT: &str = "the VE's root";
    if rustix::fs::fstatfs(&at).at("stat file system", WHAT)?.f_type != OVERLAYFS_SUPER_MAGIC {
        return Err(SysError::refused("reconfigure", WHAT, "it is no overlay"));
    }
    let flags = rustix::mount::FsPickFlags::FSPICK_CLOEXEC | rustix::mount::FsPickFlags::FSPICK_EMPTY_PATH;
    let fs = rustix::mount::fspick(at, "", flags).at("pick file system", WHAT)?;
    let option = if on { "ro" } else { "rw" };
    rustix::mount::fsconfig_set_flag(fs.as_fd(), option)
        .and_then(|()| rustix::mount::fsconfig_reconfigure(fs.as_fd()))
        .map_err(|e| with_log(SysError::new("reconfigure", WHAT, e).value(option), &fs))
}

/// overlayfs, as statfs(2) tells it.
const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
/// devpts, as statfs(2) tells it.
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// Adds what the kernel logged about a refused file system to the error.
fn with_log(mut error: SysError, fs: &OwnedFd) -> SysError {
    let mut buffer = [0_u8; 512];
    let mut lines = Vec::new();
    while let Ok(n) = rustix::io::read(fs, &mut buffer) {
        if n == 0 || lines.len() == 8 {
            break;
        }
        lines.push(String::from_utf8_lossy(&buffer[..n]).trim().to_owned());
    }
    if !lines.is_empty() {
        error.detail = Some(lines.join("; "));
    }
    error
}

/// A detached copy of the mount at `path` (and of what is mounted below it, when `recursive`).
pub fn clone_tree(dir: impl AsFd, path: &Path, recursive: bool) -> SysResult<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(dir, path, flags).at("clone mount", path.display())
}

/// A detached copy of the mount that `fd` lies on, rooted at `fd`.
pub fn clone_fd(fd: impl AsFd) -> SysResult<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(fd, "", flags).at("clone mount", "descriptor")
}

/// Sets attributes of a mount (of the whole tree below it, when `recursive`), and maps its ids
/// through the user namespace `idmap` when one is given.
pub fn set_attrs(
    mount: impl AsFd,
    set: MountAttrFlags,
    idmap: Option<BorrowedFd<'_>>,
    recursive: bool,
) -> SysResult<()> {
    let mut attr =
        libc::mount_attr { attr_set: set.bits().into(), attr_clr: 0, propagation: 0, userns_fd: 0 };
    if let Some(userns) = idmap {
        attr.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attr.userns_fd = u64::try_from(userns.as_raw_fd()).unwrap_or_default();
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static empty C string, `attr` outlives the call and its size is passed.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if rc == 0 {
        return Ok(());
    }
    let value = format!("attributes {:#x}", attr.attr_set);
    Err(SysError::new("set attributes of", "mount", std::io::Error::last_os_error()).value(value))
}

/// Attaches a detached mount at `path`, relative to `dir`; a symlink as last component is refused.
pub fn attach(mount: impl AsFd, dir: impl AsFd, path: &Path) -> SysResult<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", dir, path, flags).at("attach mount at", path.display())
}

/// Attaches a detached mount on the very object that `at` refers to.
pub fn attach_on(mount: impl AsFd, at: impl AsFd, shown: &Path) -> SysResult<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", at, "", flags).at("attach mount at", shown.display())
}

/// Stops mount events from travelling between this mount namespace and others.
pub fn make_all_private() -> SysResult<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).at("make private", "/")
}

/// Makes `root` (a mount) the root of this mount namespace and drops the old one.
pub fn pivot_into(root: impl AsFd) -> SysResult<()> {
    rustix::process::fchdir(root).at("enter", "new root")?;
    rustix::process::pivot_root(".", ".").at("pivot_root", "new root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).at("detach", "old root")?;
    rustix::process::chdir("/").at("enter", "/")
}

/// Removes the mount at `path`; one that is in use is detached and goes when its last user does.
pub fn unmount(path: &Path) -> SysResult<()> {
    match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
        Err(rustix::io::Errno::BUSY) => {
            rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
                .at("detach", path.display())
        }
        other => other.at("unmount", path.display()),
    }
}

/// Removes the mount at `path`, if nobody uses it.
pub fn unmount_unused(path: &Path) -> SysResult<()> {
    rustix::mount::unmount(path, UnmountFlags::NOFOLLOW).at("unmount", path.display())
}

/// Opens a directory or file for use as a mount point or layer, without following a final symlink.
pub fn open_path(path: &Path) -> SysResult<OwnedFd> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NOFOLLOW;
    rustix::fs::openat(CWD, path, flags, rustix::fs::Mode::empty()).at("open", path.display())
}
