//! What a guest is made of, kept in a cache by version: qemu, a kernel with its first file system, and a Debian root.
//!
//! Must write only below the cache, and put nothing there under its final name before it is whole: other labs on this
//! machine use the same.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::apt::Apt;
use super::cpio::Cpio;
use crate::run::{Context, Failure, Result, capture, fail, run};

/// Where the guest's system comes from, whatever kernel it runs.
const SUITE: &str = "trixie";

/// In the guest's root beside Debian's essential packages: what vzd uses and what tests look with.
const PACKAGES: &[&str] = &[
    "systemd-sysv",
    "kmod",
    "iproute2",
    "nftables",
    "iptables",
    "quota",
    "xfsprogs",
    "e2fsprogs",
    "btrfs-progs",
    "criu",
    "procps",
    "bpftool",
    "iperf3",
    "iputils-ping",
    "busybox-static",
    "lxcfs",
    "fuse3",
];

/// Kept out of the root: nobody reads in there, and each megabyte is copied at each build.
const LEFT_OUT: &[&str] =
    &["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// What it takes to find the root file system and the host, where it is not built in.
const FIRST_MODULES: &[&str] = &["virtio_pci", "virtio_blk", "virtio_console", "ext4", "crc32c_generic"];

/// What the kernel starts first: finds the disks, and goes on with the job's own init or with systemd.
const FIRST_INIT: &str = include_str!("first-init.sh");

/// A Debian kernel that the lab knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kernel {
    /// Debian 13's.
    V6_12,
    /// Debian 12's.
    V6_1,
}

impl Kernel {
    /// By what people call it.
    pub(super) fn named(name: &str) -> Option<Kernel> {
        match name {
            "6.12" => Some(Kernel::V6_12),
            "6.1" => Some(Kernel::V6_1),
            _ => None,
        }
    }

    /// As people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kernel::V6_12 => "6.12",
            Kernel::V6_1 => "6.1",
        }
    }

    fn suite(self) -> &'static str {
        match self {
            Kernel::V6_12 => "trixie",
            Kernel::V6_1 => "bookworm",
        }
    }
}

/// A guest that can be started. Files, none of which is ever written to.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// The folder that qemu was unpacked into.
    pub(super) qemu: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    /// An ext4 file system.
    pub(super) root: PathBuf,
    /// The exact version of the kernel's package.
    pub(super) version: String,
}

/// The cache's directory: `VZD_LAB_CACHE`, or one in the user's own cache.
pub(crate) fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = || set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    set("VZD_LAB_CACHE").unwrap_or_else(|| own().unwrap_or_else(std::env::temp_dir).join("vzd-lab"))
}

impl Image {
    /// Finds it in the cache, or makes it; with more packages, if there are any.
    pub(super) fn get(kernel: Kernel, more: &[&str]) -> Result<Image> {
        let cache = cache();
        std::fs::create_dir_all(&cache).context(cache.display())?;
        let apt = Apt::new(&cache, SUITE)?;
        let qemu = qemu(&cache, &apt)?;
        let of_kernel = if kernel.suite() == SUITE { None } else { Some(Apt::new(&cache, kernel.suite())?) };
        let of_kernel = of_kernel.as_ref().unwrap_or(&apt);
        let package = of_kernel.first_dependency("linux-image-cloud-amd64")?;
        let version = format!("{package} {}", of_kernel.version(&package)?);
        let packages = [PACKAGES, more].concat();
        let recipe = (&version, apt.closure(&packages)?, LEFT_OUT, FIRST_INIT, FIRST_MODULES);
        let directory = cache.join(format!("guest-{}-{:016x}", kernel.name(), hash(&recipe)));
        kept(&directory, "a guest", |new| {
            let root = new.join("root");
            debian(&apt, &packages, &root)?;
            add_kernel(of_kernel, &package, &root, new)?;
            file_system(&root, &new.join("root.ext4"))?;
            std::fs::remove_dir_all(&root).context(root.display())
        })?;
        let file = |name: &str| directory.join(name);
        Ok(Image {
            qemu,
            kernel: file("vmlinuz"),
            initramfs: file("initramfs"),
            root: file("root.ext4"),
            version,
        })
    }
}

pub(super) fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Makes a directory of the cache unless it is there already: beside it first, so that it appears as a whole.
pub(super) fn kept(directory: &Path, what: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    println!("lab: makes {what} in {}", directory.display());
    let new = directory.with_extension(format!("{}.new", std::process::id()));
    std::fs::create_dir_all(&new).context(new.display())?;
    let made = make(&new).and_then(|()| match std::fs::rename(&new, directory) {
        // Another lab was faster.
        Err(_) if directory.is_dir() => Ok(()),
        other => other.context(directory.display()),
    });
    if new.is_dir() {
        std::fs::remove_dir_all(&new).context(new.display())?;
    }
    made
}

fn qemu(cache: &Path, apt: &Apt) -> Result<PathBuf> {
    let version = apt.version("qemu-system-x86")?.replace([':', '+', '~'], "-");
    let directory = cache.join(format!("qemu-{version}"));
    kept(&directory, "qemu", |new| apt.unpack(&["qemu-system-x86"], true, new))?;
    Ok(directory)
}

fn debian(apt: &Apt, packages: &[&str], root: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", "--mode=root", "--format=directory"]);
    command.arg("--aptopt=APT::Sandbox::User \"root\"");
    command.arg(format!("--include={}", packages.join(",")));
    command.args(LEFT_OUT.iter().map(|pattern| format!("--dpkgopt=path-exclude={pattern}")));
    run(command.arg(SUITE).arg(root).arg(apt.sources()))
}

/// Unpacks the kernel's modules into `root`, and puts the kernel and its first file system into `beside`.
fn add_kernel(apt: &Apt, package: &str, root: &Path, beside: &Path) -> Result<()> {
    apt.unpack(&[package], false, root)?;
    let version = package.trim_start_matches("linux-image-");
    run(Command::new("chroot").arg(root).args(["depmod", version]))?;
    let kernel = root.join(format!("boot/vmlinuz-{version}"));
    std::fs::copy(&kernel, beside.join("vmlinuz")).context(kernel.display())?;
    std::fs::remove_dir_all(root.join("boot")).context("remove the guest's /boot")?;
    let mut first = Cpio::default();
    for directory in ["dev", "proc", "new", "modules"] {
        first.directory(directory);
    }
    let busybox = root.join("usr/bin/busybox");
    first.program("busybox", &std::fs::read(&busybox).context(busybox.display())?);
    let modules = root.join(format!("lib/modules/{version}"));
    let table = std::fs::read_to_string(modules.join("modules.dep")).context("read modules.dep")?;
    for (at, name) in load_order(&table, FIRST_MODULES).iter().enumerate() {
        first.program(&format!("modules/{at:02}.ko"), &module(&modules.join(name))?);
    }
    first.program("init", FIRST_INIT.as_bytes());
    std::fs::write(beside.join("initramfs"), first.finish()).context("write the initramfs")
}

/// A module as the kernel takes it: Debian compresses them since 13.
fn module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|ending| ending == "ko") {
        return std::fs::read(path).context(path.display());
    }
    let mut unpack = Command::new("xz");
    let output = unpack.args(["--decompress", "--stdout"]).arg(path).output().context("xz")?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => fail(format!("xz {}: {}", path.display(), output.status)),
    }
}

/// The files of these modules and of what they need, each after what it needs, by a modules.dep. What is built in isn't
/// listed there.
fn load_order<'a>(table: &'a str, wanted: &[&str]) -> Vec<&'a str> {
    let mut order: Vec<&str> = Vec::new();
    for name in wanted {
        let is_it = |path: &str| {
            let file = path.rsplit('/').next().unwrap_or_default();
            file.split('.').next() == Some(name)
        };
        let found = table.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| is_it(path));
        let Some((path, needed)) = found else { continue };
        // The nearest come first there.
        for module in needed.split_whitespace().rev().chain([path]) {
            if !order.contains(&module) {
                order.push(module);
            }
        }
    }
    order
}

/// A sparse ext4 image with a directory's content, and room for as much again.
pub(super) fn file_system(directory: &Path, image: &Path) -> Result<()> {
    let used = capture(Command::new("du").args(["--summarize", "--block-size=1M"]).arg(directory))?;
    let used: u64 = used.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(1024);
    let size = format!("{}M", 2 * used + 2048);
    let mut command = Command::new("mke2fs");
    // A journal serves nobody who starts from a snapshot; a sparse file's tables are zero already.
    command.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1,root_owner=0:0"]);
    run(command.arg("-d").arg(directory).arg(image).arg(size).stdout(Stdio::null()))
        .map_err(|Failure(why)| Failure(format!("make {}: {why}", image.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        let table = "a/ext4.ko: a/jbd2.ko a/mbcache.ko\na/virtio_blk.ko.xz: a/virtio_ring.ko a/virtio.ko\na/jbd2.ko:\n";
        assert_eq!(
            load_order(table, &["virtio_blk", "ext4", "built_in"]),
            [
                "a/virtio.ko",
                "a/virtio_ring.ko",
                "a/virtio_blk.ko.xz",
                "a/mbcache.ko",
                "a/jbd2.ko",
                "a/ext4.ko"
            ]
        );
    }
}
