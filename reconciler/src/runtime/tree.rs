//! The mount tree of a VE, put together in a mount namespace that belongs to the host.
//!
//! Runs in a helper of the starter, with the host's rights, inside the VE's pid and net namespaces (the
//! proc and sysfs made here are the VE's). The VE's first process copies the finished tree into its own
//! user namespace, so that nothing here can be unmounted or remounted from inside: masks and read-only
//! mounts hold. Paths inside the VE's root are opened beneath it, never followed out of it. Mounts from the
//! host that a manifest names are not made here: a locked mount could never be taken away again (see
//! `inject`).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags};
use vzd_schema::v1::MountOption;
use vzd_state::subsystem::network::{File, Part};

use crate::error::{At, SysResult};
use crate::kernel::mount::{self, Attr, FsOption};
use crate::kernel::ns::{self, Kind, Namespace};
use crate::kernel::process;
use crate::runtime::beneath::{BENEATH, make_point};
use crate::runtime::spec::{RootSpec, StartSpec, VolumeSpec};
use crate::runtime::{dev, etc, locale, quotas, zone};

/// Kernel files that say too much about the host, or take orders for it: nothing is found there, or it is for the host's
/// root alone. (Locks of open files belong to no process: /proc/locks lists those of the host and of all VEs to everyone.)
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/locks",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/firmware",
];

/// Empty for ever: a mount point that the kernel keeps in each sysfs. Nothing is mounted on it yet. (The mount points
/// of debugfs, tracefs, securityfs and bpffs are the same in a VE's own sysfs: they need no mask.)
const EMPTY: &str = "/sys/fs/cgroup";

/// May be read, not written.
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"];

/// Writable again below a read-only one: settings of the VE's own network namespace.
const WRITABLE: &[&str] = &["/proc/sys/net"];

/// Builds the tree and makes it the root of this mount namespace.
pub fn build(spec: &StartSpec, userns: &Namespace, console: &Path) -> SysResult<()> {
    let staging = spec.root.staging.as_path();
    let is_attached = spec.scripts.as_ref().is_some_and(|scripts| !scripts.mount.is_empty());
    if !is_attached {
        attach_root(&spec.root, userns)?;
    }
    let tree = Tree { base: spec.id_base, root: mount::open_path(staging)? };
    dev::own_console(console, spec.id_base)?;
    let console = mount::clone_tree(rustix::fs::CWD, console, false)?;

    let shown = shown(&spec.shown)?;
    let dev = dev::make(spec.id_base, &spec.devices)?;

    tree.attach_views()?;
    tree.attach(dev, Path::new("/dev"))?;
    tree.attach(console, Path::new("/dev/console"))?;
    tree.attach(shown, Path::new("/dev/vzd"))?;
    if spec.root.users.is_some() {
        tree.show_quotas(spec.nesting)?;
    }
    tree.point(Path::new("/run"), FileType::Directory)?;
    if !spec.nesting {
        tree.restrict()?;
    }
    tree.write_hostname(&spec.hostname)?;
    for file in File::ALL {
        // Also without any: an earlier run may have left some. What is in the way is told once the VE runs.
        let lines = spec.files.get(&file).map_or(&[][..], Vec::as_slice);
        let _ = etc::write(&tree.root, spec.id_base, file.path(), Part::First, lines);
    }
    let _ = zone::set(&tree.root, spec.id_base, spec.timezone.as_deref());
    let _ = locale::set(&tree.root, spec.id_base, spec.locale.as_deref());
    mount::pivot_into(&tree.open(Path::new("/"))?)
}

/// Mounts the root on its staging directory, in this mount namespace.
pub(super) fn attach_root(spec: &RootSpec, userns: &Namespace) -> SysResult<()> {
    mount::attach(root(spec, userns)?, rustix::fs::CWD, &spec.staging)
}

/// What a mount that only shows something may do.
const SAFE: Attr = Attr::MOUNT_ATTR_NOSUID.union(Attr::MOUNT_ATTR_NODEV).union(Attr::MOUNT_ATTR_NOEXEC);

/// Puts /proc, /sys and /dev on a root that is mounted at `at`, with their masks: those of the namespaces that the
/// caller is in.
///
/// `mounts` is the directory that holds what is shown instead of /proc/mounts, if anything is.
pub(super) fn mask(at: &Path, dev: &Path, base: u32, mounts: Option<&Path>) -> SysResult<()> {
    ns::unshare(&[Kind::Mount])?;
    let tree = Tree { base, root: mount::open_path(at)? };
    tree.attach_views()?;
    tree.attach(mount::clone_tree(rustix::fs::CWD, dev, false)?, Path::new("/dev"))?;
    if let Some(dir) = mounts {
        cover_mounts(&tree.root, &mount::open_path(dir)?)?;
    }
    tree.restrict()
}

/// Makes the node that tools for quotas take for the device of a root (see [`quotas`]). What the VE has put in its place
/// stays.
pub(super) fn quota_device(dev: &OwnedFd, root: &OwnedFd) -> SysResult<()> {
    let number = rustix::fs::fstat(root).at("stat", "root")?.st_dev;
    let name = Path::new(quotas::DEVICE).file_name().unwrap_or_default();
    match rustix::fs::mknodat(dev, name, FileType::BlockDevice, Mode::RUSR, number) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        other => other.at("make", quotas::DEVICE),
    }
}

/// The name of what is shown to such tools instead of /proc/mounts.
const MOUNTS: &str = "vzd-mounts";

/// Writes that to a new file in a directory.
pub(super) fn write_mounts(dir: &OwnedFd) -> SysResult<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let all = Mode::RUSR | Mode::RGRP | Mode::ROTH;
    let file = rustix::fs::openat(dir, MOUNTS, flags, all).at("make", MOUNTS)?;
    rustix::io::write(&file, quotas::mounts().as_bytes()).at("write", MOUNTS).map(drop)
}

/// Puts that of a directory in the place of /proc/mounts, beneath a root.
fn cover_mounts(root: &OwnedFd, dir: &OwnedFd) -> SysResult<()> {
    attach_mounts(root, shown_mounts(dir)?)
}

/// That of a directory, attached nowhere.
pub(super) fn shown_mounts(dir: &OwnedFd) -> SysResult<OwnedFd> {
    let shown = mount::clone_tree(dir, Path::new(MOUNTS), false)?;
    mount::set_attrs(&shown, SAFE | Attr::MOUNT_ATTR_RDONLY, None, false)?;
    Ok(shown)
}

/// Puts it over the link /proc/mounts beneath a root: over the link itself, not over what it leads to.
pub(super) fn attach_mounts(root: &OwnedFd, shown: OwnedFd) -> SysResult<()> {
    const LINK: &str = "/proc/mounts";
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link = rustix::fs::openat2(root, LINK, flags, Mode::empty(), BENEATH).at("open", LINK)?;
    mount::attach_on(shown, link, Path::new(LINK))
}

/// What the VE reads about itself, attached nowhere.
pub(super) fn shown(dir: &Path) -> SysResult<OwnedFd> {
    let shown = mount::clone_tree(rustix::fs::CWD, dir, false)?;
    mount::set_attrs(&shown, SAFE | Attr::MOUNT_ATTR_RDONLY, None, false)?;
    Ok(shown)
}

/// overlayfs over the template, whose ids are shown through the VE's mapping; the VE's own files carry
/// the ids of its range on disk. No device node on it opens.
pub(super) fn root(spec: &RootSpec, userns: &Namespace) -> SysResult<OwnedFd> {
    if let Some(volume) = &spec.volume {
        // In this mount namespace only, and gone with the old root: the overlay keeps it mounted.
        mount::attach(&open_volume(volume)?, rustix::fs::CWD, &volume.at)?;
    }
    let lower = mount::clone_tree(rustix::fs::CWD, &spec.lower, false)?;
    mount::set_attrs(&lower, Attr::empty(), Some(userns.as_fd()), false)?;
    let attrs = root_attrs(&spec.options);
    let layers = [
        FsOption::Path("upperdir", &spec.upper),
        FsOption::Path("workdir", &spec.work),
        // Hard links of the template stay links when one of them is changed.
        FsOption::Text("index", "on"),
        FsOption::Text("xino", "auto"),
    ];
    let mut by_fd = vec![FsOption::Fd("lowerdir+", lower.as_fd())];
    by_fd.extend(layers);
    match once_free(|| mount::new_fs("overlay", &by_fd, attrs)) {
        // Before 6.13 a layer has to be named by a path: show it on the staging directory for that. Older kernels
        // refuse the option (EINVAL, EOPNOTSUPP); newer ones know it, but not with such a descriptor (EBADF).
        Err(e)
            if matches!(e.errno, libc::EINVAL | libc::EBADF | libc::EOPNOTSUPP)
                && e.op == "configure file system" =>
        {
            mount::attach(&lower, rustix::fs::CWD, &spec.staging)?;
            let mut by_path = vec![FsOption::Path("lowerdir", &spec.staging)];
            by_path.extend([
                FsOption::Path("upperdir", &spec.upper),
                FsOption::Path("workdir", &spec.work),
                FsOption::Text("index", "on"),
                FsOption::Text("xino", "auto"),
            ]);
            let root = once_free(|| mount::new_fs("overlay", &by_path, attrs))?;
            mount::unmount(&spec.staging)?;
            Ok(root)
        }
        other => other,
    }
}

/// Layers are in use until the kernel has done away with the mount of the run before, a moment after the last process in it
/// has ended; nothing tells of that.
pub(crate) fn once_free(make: impl Fn() -> SysResult<OwnedFd>) -> SysResult<OwnedFd> {
    const LONGEST: Duration = Duration::from_secs(10);
    let since = Instant::now();
    loop {
        match make() {
            Err(e) if e.errno == libc::EBUSY && since.elapsed() < LONGEST => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

/// How a root is mounted. The kernel locks it in the VE's copy of the mount.
fn root_attrs(options: &[MountOption]) -> Attr {
    options.iter().fold(Attr::MOUNT_ATTR_NODEV, |attrs, option| match option {
        MountOption::Noatime => attrs | Attr::MOUNT_ATTR_NOATIME,
        MountOption::Strictatime => attrs | Attr::MOUNT_ATTR_STRICTATIME,
        MountOption::Nodiratime => attrs | Attr::MOUNT_ATTR_NODIRATIME,
        MountOption::Nosuid => attrs | Attr::MOUNT_ATTR_NOSUID,
        MountOption::Relatime | MountOption::Nodev => attrs,
    })
}

/// Mounts a volume, attached nowhere. One that is mounted already is the same file system.
pub fn open_volume(volume: &VolumeSpec) -> SysResult<OwnedFd> {
    let mut options = vec![FsOption::Path("source", &volume.device)];
    options.extend(volume.options.iter().map(|option| FsOption::Flag(option)));
    mount::new_fs(&volume.kind, &options, Attr::MOUNT_ATTR_NODEV)
}

/// Whether the kernel lets nobody but the host's root open a file of its own, whom nobody in a VE is: no capability there
/// reaches an inode whose owner has no id in it. Asked of the host's own /proc, which is still the one in sight, and where
/// the file is of the same kernel table; what cannot be told is not so.
fn is_for_the_hosts_root_alone(path: &Path) -> bool {
    const OTHERS: u32 = 0o077;
    rustix::fs::lstat(path).is_ok_and(|found| {
        FileType::from_raw_mode(found.st_mode).is_file()
            && found.st_uid == 0
            && Mode::from_raw_mode(found.st_mode).bits() & OTHERS == 0
    })
}

/// The tree while it is being put together.
struct Tree {
    base: u32,
    root: OwnedFd,
}

impl Tree {
    fn open(&self, path: &Path) -> SysResult<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), BENEATH).at("open", path.display())
    }

    /// Attaches a mount at a path of the VE, which is made when it is not there.
    fn attach(&self, mounted: OwnedFd, path: &Path) -> SysResult<()> {
        let kind = kind_of(&mounted)?;
        let point = self.point(path, kind)?;
        mount::attach_on(mounted, point, path)
    }

    /// What tools for quotas look for (see [`quotas`]). They read /proc/mounts, which is covered for that. A covered /proc
    /// is no reason for the kernel to grant others: containers inside need one that is whole, out of the way.
    fn show_quotas(&self, nesting: bool) -> SysResult<()> {
        const WHOLE: &str = "/dev/vzd-proc";
        let dev = self.open(Path::new("/dev"))?;
        quota_device(&dev, &self.root)?;
        write_mounts(&dev)?;
        cover_mounts(&self.root, &dev)?;
        if nesting {
            self.attach(mount::new_fs("proc", &[], SAFE)?, Path::new(WHOLE))?;
        }
        Ok(())
    }

    fn attach_views(&self) -> SysResult<()> {
        self.attach(mount::new_fs("proc", &[], SAFE)?, Path::new("/proc"))?;
        self.attach(mount::new_fs("sysfs", &[], SAFE | Attr::MOUNT_ATTR_RDONLY)?, Path::new("/sys"))
    }

    /// Opens a mount point of the VE, and makes it, owned by the VE's root, when it is not there.
    fn point(&self, path: &Path, kind: FileType) -> SysResult<OwnedFd> {
        match self.open(path) {
            Err(e) if e.errno == libc::ENOENT => {}
            other => return other,
        }
        // The root's files belong to the VE's ids: only those can be given to new ones there.
        process::set_fs_ids(self.base, self.base);
        let made = make_point(&self.root, path, kind);
        process::set_fs_ids(0, 0);
        made?;
        self.open(path)
    }

    /// An init may set the host name again from /etc/hostname: let that say the same. A root without
    /// such a file is left alone.
    fn write_hostname(&self, hostname: &str) -> SysResult<()> {
        const FILE: &str = "/etc/hostname";
        let line = format!("{hostname}\n");
        let open = |access| {
            // A fifo put there must not hold the start up.
            let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            rustix::fs::openat2(&self.root, FILE, flags, Mode::empty(), BENEATH)
        };
        let Ok(file) = open(OFlags::RDONLY) else { return Ok(()) };
        let mut before = vec![0; line.len() + 1];
        let same = kind_of(&file)? != FileType::RegularFile
            || rustix::io::pread(&file, &mut before, 0).is_ok_and(|n| before[..n] == *line.as_bytes());
        if same {
            return Ok(());
        }
        // Only now: opening for writing copies the file up from the template.
        let file = open(OFlags::WRONLY).at("open", FILE)?;
        rustix::fs::ftruncate(&file, 0).at("truncate", FILE)?;
        rustix::io::pwrite(&file, line.as_bytes(), 0).map(drop).at("write", FILE)
    }

    /// Masks and write-protects what must not be had; what this kernel does not have is no hole. Each mask takes more than
    /// a kilobyte of the host's memory, so that what the kernel refuses anyway goes without. Masks are the VE's own
    /// /dev/null and a directory of its own sysfs: they take no file system of their own, and what is done to
    /// their inodes (locks, watches) stays in the VE.
    fn restrict(&self) -> SysResult<()> {
        // Cloned while their mount is still writable.
        let mut writable = Vec::new();
        for path in WRITABLE.iter().map(Path::new) {
            if let Some(target) = self.present(path)? {
                writable.push((path, mount::clone_fd(&target)?));
            }
        }
        for path in READ_ONLY.iter().map(Path::new) {
            let Some(target) = self.present(path)? else { continue };
            let again = mount::clone_fd(&target)?;
            mount::set_attrs(&again, Attr::MOUNT_ATTR_RDONLY, None, false)?;
            mount::attach_on(again, target, path)?;
        }
        for (path, again) in writable {
            mount::attach_on(again, self.open(path)?, path)?;
        }
        let (null, empty) = (self.open(Path::new("/dev/null"))?, self.open(Path::new(EMPTY))?);
        for path in MASKED.iter().map(Path::new).filter(|path| !is_for_the_hosts_root_alone(path)) {
            let Some(target) = self.present(path)? else { continue };
            let mask = match kind_of(&target)? {
                FileType::Directory => mount::clone_fd(&empty)?,
                _ => mount::clone_fd(&null)?,
            };
            let attrs = Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC;
            mount::set_attrs(&mask, attrs, None, false)?;
            mount::attach_on(mask, target, path)?;
        }
        Ok(())
    }

    fn present(&self, path: &Path) -> SysResult<Option<OwnedFd>> {
        match self.open(path) {
            Err(e) if e.errno == libc::ENOENT => Ok(None),
            other => other.map(Some),
        }
    }
}

fn kind_of(object: &OwnedFd) -> SysResult<FileType> {
    let stat = rustix::fs::fstat(object).at("stat", "mount")?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}
