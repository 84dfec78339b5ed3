//! Mounts from the host in a VE: added and removed while it runs, and before its init starts.
//!
//! A bind mount that is simply moved into a VE can be remounted writable by the VE's root. So it goes
//! through a mount namespace of its own first: attached there by the host, then copied into a namespace
//! of the VE's user namespace, which locks its flags, and only then moved into the VE. It can still be
//! unmounted, by us and by the VE, which a mount of the tree itself cannot.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::error::{At, SysError, SysResult};
use crate::kernel::mount::{self, Attr, FsOption};
use crate::kernel::ns::{self, Kind, Namespace};
use crate::kernel::process::{self, SingleThreaded};
use crate::kernel::seqpacket;
use crate::runtime::beneath::{BENEATH, make_point};
use crate::runtime::spec::MountSpec;

/// A source, cloned and with its attributes set, and where it goes.
pub struct Prepared {
    tree: OwnedFd,
    kind: FileType,
    target: PathBuf,
}

impl Prepared {
    /// Where it goes in the VE.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Attaches it below `dir`, which is the host's.
    pub(super) fn attach_at(&self, dir: &OwnedFd, name: &str) -> SysResult<()> {
        make_point(dir, Path::new(name), self.kind)?;
        mount::attach(&self.tree, dir, Path::new(name))
    }
}

/// Where the copy is staged, in a mount namespace that ends with the helper.
const STAGE: &str = "/dev";

/// Clones the sources of `mounts` as the host's paths say, with their flags and id mapping.
pub fn open_sources(mounts: &[MountSpec], userns: &Namespace) -> SysResult<Vec<Prepared>> {
    let open = |wanted: &MountSpec| {
        let tree = mount::clone_tree(CWD, &wanted.source, false)?;
        mount::set_attrs(&tree, wanted.attrs(), wanted.idmap.then(|| userns.as_fd()), false)?;
        let kind =
            FileType::from_raw_mode(rustix::fs::fstat(&tree).at("stat", wanted.source.display())?.st_mode);
        Ok(Prepared { tree, kind, target: wanted.target.clone() })
    };
    mounts.iter().map(open).collect()
}

/// Puts the mounts into the mount namespace `mntns` of a VE, in order.
pub fn add(
    proof: SingleThreaded,
    mounts: Vec<Prepared>,
    userns: &Namespace,
    mntns: &Namespace,
) -> SysResult<()> {
    in_child(proof, || {
        process::undumpable()?;
        ns::unshare(&[Kind::Mount])?;
        mount::make_all_private()?;
        let stage = mount::new_fs("tmpfs", &[FsOption::Text("mode", "0755")], Attr::empty())?;
        mount::attach(&stage, CWD, Path::new(STAGE))?;
        for (at, prepared) in mounts.iter().enumerate() {
            let name = PathBuf::from(at.to_string());
            make_point(&stage, &name, prepared.kind)?;
            mount::attach(&prepared.tree, &stage, &name)?;
        }
        userns.join()?;
        ns::unshare(&[Kind::Mount])?;
        let staged = |at: usize| mount::clone_tree(CWD, &Path::new(STAGE).join(at.to_string()), false);
        let locked = (0..mounts.len()).map(staged).collect::<SysResult<Vec<_>>>()?;
        mntns.join()?;
        process::become_root()?;
        let root = open_root()?;
        for (tree, prepared) in locked.iter().zip(&mounts) {
            let point = open_or_make(&root, &prepared.target, prepared.kind)?;
            mount::attach_on(tree, point, &prepared.target)?;
        }
        Ok(())
    })
}

/// Takes the topmost mount at `target` out of the mount namespace of a VE.
pub fn remove(proof: SingleThreaded, target: &Path, userns: &Namespace, mntns: &Namespace) -> SysResult<()> {
    in_child(proof, || {
        process::undumpable()?;
        userns.join()?;
        mntns.join()?;
        process::become_root()?;
        mount::unmount(target)
    })
}

fn open_root() -> SysResult<OwnedFd> {
    rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open", "/")
}

fn open_or_make(root: &OwnedFd, target: &Path, kind: FileType) -> SysResult<OwnedFd> {
    let open = || rustix::fs::openat2(root, target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), BENEATH);
    match open() {
        Err(rustix::io::Errno::NOENT) => {
            make_point(root.as_fd(), target, kind)?;
            open().at("open", target.display())
        }
        other => other.at("open", target.display()),
    }
}

/// Runs `body` in a forked child that may join anything, and brings its result back.
pub(super) fn in_child(proof: SingleThreaded, body: impl FnOnce() -> SysResult<()>) -> SysResult<()> {
    let (ours, theirs) = seqpacket::pair()?;
    let child = process::fork(proof, || i32::from(seqpacket::send(&theirs, &body(), &[]).is_err()))?;
    drop(theirs);
    let said = seqpacket::recv::<SysResult<()>>(&ours);
    let ended = child.wait()?;
    match said? {
        Some((result, _)) => result,
        None => Err(SysError::refused("change", "mounts of a VE", format!("the helper ended: {ended:?}"))),
    }
}
