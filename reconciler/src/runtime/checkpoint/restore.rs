//! The starter of a VE that is resumed: like [`crate::runtime::start`], but CRIU makes the namespaces and processes.
//!
//! CRIU takes the root, /dev and the host's mounts as they are put together here, in a mount namespace that ends with
//! it. It has the VE's user namespace own everything it mounts itself; so before anything runs, /proc and /sys are
//! replaced by such as a start makes, whose masks are locked. The network is made when its namespace is there, and holds
//! everything up until the VE's sockets are back.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::contents::Contents;
use super::dump::{CONSOLE, DEV, MASKED_TREES, SHOWN};
use super::image::Image;
use super::swrk::{Ask, Failure, Request, Swrk};
use super::{groups, log, nodes, packed};
use crate::error::{At, SysError, SysResult};
use crate::kernel::mount::{self, Attr, FsOption};
use crate::kernel::ns::{self, Kind, Namespace};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::{self, Child, SingleThreaded, WaitStatus};
use crate::kernel::{net, seccomp, seqpacket, stash};
use crate::runtime::beneath::make_point;
use crate::runtime::spec::{CheckpointSpec, StartSpec, Started};
use crate::runtime::start::Up;
use crate::runtime::{dev, inject, network, tree};

const LOG: &str = "restore.log";

/// Resumes the VE; the process that runs this is forked for it alone and ends afterwards.
///
/// `console` is the path of the slave of the VE's new console. On an error nothing is left running, and the checkpoint
/// is as it was; else it is used up, and to be removed. A listener is given as at a start.
pub fn restore(
    proof: SingleThreaded,
    spec: &StartSpec,
    checkpoint: &CheckpointSpec,
    console: &Path,
) -> SysResult<Up> {
    let image = Image::lock(&checkpoint.dir)?;
    let contents = image.check_all_but_pages(&spec.uid, (spec.id_base, spec.id_count))?;
    let procs = spec.cgroup_delegated.join("cgroup.procs");
    if !std::fs::read_to_string(&procs).at("read", procs.display())?.is_empty() {
        return Err(SysError::refused("resume", "VE", "something of it runs"));
    }
    groups::make(&contents.groups_inside, &spec.cgroup_delegated, (spec.id_base, spec.id_count))?;
    let pages = Pages::check(proof, &image, &contents)?;
    packed::write_all_out(image.dir(), &contents)?;
    match put_back(proof, spec, checkpoint, console, pages) {
        Ok((started, pidfd, listener)) => Ok(Up { started, pidfd, listener, used: Some(image) }),
        Err(error) => {
            let _ = image.let_in(false);
            let _ = packed::forget_written_out(image.dir(), &contents);
            Err(error)
        }
    }
}

/// Has CRIU do so, with what is written out there.
fn put_back(
    proof: SingleThreaded,
    spec: &StartSpec,
    checkpoint: &CheckpointSpec,
    console: &Path,
    pages: Pages<'_>,
) -> SysResult<(Started, Pidfd, Option<OwnedFd>)> {
    let Pages { image, contents, .. } = pages;
    ns::unshare(&[Kind::Mount])?;
    mount::make_all_private()?;
    let stage = Stage::make(proof, spec, contents, console)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let tty = rustix::fs::open(console, flags, Mode::empty()).at("open", console.display())?;
    if let (Some(kept), Some(users)) = (&contents.users, &spec.root.users) {
        kept.clone().put_back(users)?;
    }
    image.let_in(true)?;
    stage.restore(proof, spec, checkpoint, pages, &tty)
}

/// Looks at what was in memory, which is most of a checkpoint, while CRIU puts it back.
struct Pages<'a> {
    image: &'a Image,
    contents: &'a Contents,
    child: Option<Child>,
}

impl<'a> Pages<'a> {
    fn check(proof: SingleThreaded, image: &'a Image, contents: &'a Contents) -> SysResult<Self> {
        let child = process::fork(proof, || i32::from(image.check_pages(contents).is_err()))?;
        Ok(Pages { image, contents, child: Some(child) })
    }

    /// Whether it is as it was written.
    fn found(&mut self) -> SysResult<()> {
        match self.child.take().map(Child::wait) {
            Some(Ok(WaitStatus::Exited(0))) => Ok(()),
            // To say what is wrong, if anything is.
            _ => self.image.check_pages(self.contents),
        }
    }
}

impl Drop for Pages<'_> {
    fn drop(&mut self) {
        drop(self.child.take().map(Child::wait));
    }
}

/// What CRIU finds: directories and files below one that is mounted for it.
struct Stage {
    at: PathBuf,
    external: Vec<String>,
    /// Where there is what the VE is shown instead of /proc/mounts, if it may set quotas.
    mounts: Option<PathBuf>,
}

impl Stage {
    fn make(
        proof: SingleThreaded,
        spec: &StartSpec,
        contents: &Contents,
        console: &Path,
    ) -> SysResult<Stage> {
        let userns = user_namespace(proof, spec)?;
        let at = spec.root.staging.clone();
        // The volume is mounted beside, and the overlay is made of host paths: before the staging directory is covered.
        let root = tree::root(&spec.root, &userns)?;
        let sources = inject::open_sources(&spec.mounts, &userns)?;
        let cover = mount::new_fs("tmpfs", &[FsOption::Text("mode", "0755")], Attr::empty())?;
        mount::attach(&cover, CWD, &at)?;
        let put = |mounted: &OwnedFd, name: &str, kind: FileType| {
            make_point(&cover, Path::new(name), kind)?;
            mount::attach(mounted, CWD, &at.join(name))
        };
        put(&root, ROOT, FileType::Directory)?;
        let dev = dev::make(spec.id_base, &spec.devices)?;
        nodes::make(&dev, &contents.dev)?;
        let mounts = spec.root.users.as_ref().map(|_| {
            tree::quota_device(&dev, &root)?;
            tree::write_mounts(&cover)?;
            Ok(at.clone())
        });
        let mounts = mounts.transpose()?;
        dev::own_console(console, spec.id_base)?;
        put(&dev, "dev", FileType::Directory)?;
        put(&mount::clone_tree(CWD, console, false)?, "console", FileType::RegularFile)?;
        put(&tree::shown(&spec.shown)?, "shown", FileType::Directory)?;
        let mut external = Vec::new();
        for (target, name) in &contents.mounts {
            if ![DEV, CONSOLE, SHOWN].contains(&target.as_str()) {
                let source =
                    sources.iter().find(|source| source.target() == Path::new(target)).ok_or_else(|| {
                        SysError::refused("mount", target, "nothing says any more what was mounted there")
                    })?;
                source.attach_at(&cover, name)?;
            }
            external.push(format!("mnt[{name}]:{}", at.join(name).display()));
        }
        Ok(Stage { at, external, mounts })
    }

    fn restore(
        &self,
        proof: SingleThreaded,
        spec: &StartSpec,
        checkpoint: &CheckpointSpec,
        mut pages: Pages<'_>,
        tty: &OwnedFd,
    ) -> SysResult<(Started, Pidfd, Option<OwnedFd>)> {
        let Pages { image, contents, .. } = pages;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let images = rustix::fs::open(image.dir(), flags, Mode::empty()).at("open", image.dir().display())?;
        let request = Request {
            ask: Ask::Restore {
                tty: (contents.tty.clone(), tty.as_raw_fd()),
                root: self.at.join(ROOT),
                groups: moved(&contents.groups, &checkpoint.groups),
            },
            images: &images,
            log: LOG,
            closes_tcp: contents.closes_tcp,
            external: self.external.clone(),
        };
        let keep = [image.lock_file().as_raw_fd(), tty.as_raw_fd()];
        let (criu, listener) = match &spec.root.users {
            None => (Swrk::start(proof, &checkpoint.criu, &keep)?, None),
            Some(_) => {
                let filter = seccomp::quotas_only();
                let (criu, listener) = Swrk::start_listening(proof, &checkpoint.criu, &keep, &filter)?;
                (criu, Some(listener))
            }
        };
        let is_linked = spec.is_linked();
        let mut used = false;
        // Told at the first stage only.
        let mut init = 0;
        let mut masked = None;
        let asked = criu.ask(&request, |(stage, pid)| match stage {
            "setup-namespaces" => {
                init = pid;
                let netns = Namespace::of(pid, Kind::Net)?;
                if is_linked {
                    ns::in_child_in(proof, &netns, net::hold_up)?;
                }
                network::begin(proof, spec, &netns, None)?.end()
            }
            // The first process is in its group, and no file is open yet: one that is opened below /proc or /sys is so in what the
            // VE keeps.
            "post-setup-namespaces" => {
                let ids = (spec.id_base, spec.id_count);
                groups::set_up(&contents.groups_inside, &spec.cgroup_delegated, ids)?;
                // CRIU has the VE's own made last.
                if let Some(mounts) = stash::mount_namespaces(init).ok().and_then(|mut all| all.pop()) {
                    self.lock_masks(proof, spec, init, &mounts)?;
                    masked = Some(mounts);
                }
                Ok(())
            }
            // Everything is there, and nothing runs yet.
            "post-restore" => {
                let mounts = Namespace::of(init, Kind::Mount)?;
                if !masked.as_ref().is_some_and(|is| is.is_same(&mounts)) {
                    self.lock_masks(proof, spec, init, &mounts)?;
                }
                pages.found()?;
                let _ = std::fs::remove_file(image.dir().join(LOG));
                image.use_up()?;
                used = true;
                Ok(())
            }
            "network-unlock" if is_linked => {
                ns::in_child_in(proof, &Namespace::of(init, Kind::Net)?, net::let_through)
            }
            _ => Ok(()),
        });
        let pid = asked.or_else(|Failure { error, undone, ours }| {
            // What CRIU has ended itself never ran.
            if used && undone {
                image.take_back()?;
            }
            // The log is kept beside the checkpoint, for who wants to know more.
            let cause = if ours { None } else { log::cause(&image.dir().join(LOG)) };
            Err(match cause {
                Some(cause) => SysError::refused("resume", "VE", cause),
                None => error,
            })
        })?;
        Ok((Started { pid }, Pidfd::open(pid)?, listener))
    }

    /// Gives the VE, of which nothing runs yet, /proc and /sys as a start would, and the mounts of the host's below them.
    fn lock_masks(
        &self,
        proof: SingleThreaded,
        spec: &StartSpec,
        pid: i32,
        mntns: &Namespace,
    ) -> SysResult<()> {
        let userns = Namespace::of(pid, Kind::User)?;
        let netns = Namespace::of(pid, Kind::Net)?;
        if !spec.nesting {
            let root = self.at.join(ROOT);
            // The next children are in it: what is mounted as /proc is theirs.
            Namespace::of(pid, Kind::Pid)?.join()?;
            inject::in_child(proof, || {
                process::undumpable()?;
                netns.join()?;
                tree::mask(&root, &self.at.join("dev"), spec.id_base, self.mounts.as_deref())?;
                userns.join()?;
                ns::unshare(&[Kind::Mount])?;
                let locked = ["proc", "sys"].map(|name| mount::clone_tree(CWD, &root.join(name), true));
                mntns.join()?;
                let own_groups = mount::clone_tree(CWD, Path::new("/sys/fs/cgroup"), false)?;
                for (tree, path) in locked.into_iter().zip(["/proc", "/sys"].map(Path::new)) {
                    mount::unmount(path)?;
                    mount::attach(&tree?, CWD, path)?;
                }
                mount::attach(&own_groups, CWD, Path::new("/sys/fs/cgroup"))
            })?;
        }
        if let Some(mounts) = self.mounts.as_ref().filter(|_| spec.nesting) {
            inject::in_child(proof, || {
                let shown = tree::shown_mounts(&mount::open_path(mounts)?)?;
                mntns.join()?;
                tree::attach_mounts(&mount::open_path(Path::new("/"))?, shown)
            })?;
        }
        let is_below =
            |target: &Path| MASKED_TREES.iter().any(|tree| target.to_string_lossy().starts_with(tree));
        let below: Vec<_> = spec.mounts.iter().filter(|mount| is_below(&mount.target)).cloned().collect();
        if below.is_empty() {
            return Ok(());
        }
        inject::add(proof, inject::open_sources(&below, &userns)?, &userns, mntns)
    }
}

const ROOT: &str = "root";

/// The groups that are not what they were: the VE has another number, or comes from another host.
fn moved(were: &BTreeMap<String, String>, are: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let other = |(name, path): &(&String, &String)| were.get(*name).is_some_and(|was| was != *path);
    are.iter().filter(other).map(|(name, path)| (name.clone(), path.clone())).collect()
}

/// A user namespace with the VE's ids, for layers that are to show them. It lasts as long as what is returned.
fn user_namespace(proof: SingleThreaded, spec: &StartSpec) -> SysResult<Namespace> {
    let (ours, theirs) = seqpacket::pair()?;
    let child = process::fork(proof, || {
        // Its copy of our end would keep it waiting for ever.
        let made = process::close_all_but(&[theirs.as_raw_fd()]).and_then(|()| ns::unshare(&[Kind::User]));
        let said = seqpacket::send(&theirs, &made, &[]);
        // Until its ids are mapped and it is open.
        let _ = seqpacket::recv::<()>(&theirs);
        i32::from(said.is_err())
    })?;
    drop(theirs);
    let made = match seqpacket::recv::<SysResult<()>>(&ours)? {
        Some((made, _)) => made,
        None => Err(SysError::refused("make", "user namespace", "the helper ended")),
    };
    let opened = made.and_then(|()| {
        ns::map_ids(child.pid(), spec.id_base, spec.id_count)?;
        Namespace::of(child.pid(), Kind::User)
    });
    drop(ours);
    child.wait()?;
    opened
}
