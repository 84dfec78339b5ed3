//! Disks: limits from outside, seen and felt from inside, changed while the VE runs; on each of what keeps them.

mod btrfs;
pub mod clone;
mod image;
mod inodes;
mod mounted;
mod options;
mod own;
mod project;
mod read_only;
mod reinstall;
mod shown;
pub mod snapshots;
mod users;
mod writing;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use vzd_tests::{Sandbox, VeStatus, eventually, slow};

/// What keeps the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    /// A directory of the host, without limits.
    Directory,
    /// A file system of its own.
    Image,
    /// The pool, as the host's file system keeps no quotas of projects.
    Pool,
    /// The host's own ext4.
    Ext4,
    /// The host's own XFS.
    Xfs,
    /// The host's own btrfs.
    Btrfs,
}

impl On {
    /// How status names it.
    fn backend(self) -> &'static str {
        match self {
            On::Directory => "directory",
            On::Image => "image",
            On::Pool | On::Ext4 | On::Xfs => "project",
            On::Btrfs => "btrfs",
        }
    }

    /// What a program says that meets the limit.
    fn refusal(self) -> &'static str {
        match self {
            On::Directory | On::Image | On::Xfs => "No space left on device",
            On::Pool | On::Ext4 | On::Btrfs => "quota exceeded",
        }
    }

    /// Whether it counts inodes.
    fn counts_inodes(self) -> bool {
        !matches!(self, On::Directory | On::Btrfs)
    }

    /// How often a limit is changed under a writer: ext4 and XFS differ from the pool in little.
    fn resizes(self) -> u32 {
        match self {
            On::Directory | On::Image | On::Pool | On::Btrfs => 200,
            On::Ext4 | On::Xfs => 20,
        }
    }
}

/// A sandbox whose state directory is on what keeps the limits.
struct World {
    sandbox: Sandbox,
    on: On,
}

impl Deref for World {
    type Target = Sandbox;
    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

fn run(words: &[&str], paths: &[&Path]) {
    let output = Command::new(words[0]).args(&words[1..]).args(paths).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Fails if an ext4 file system in a file is not whole.
fn check(image: &Path) {
    let checked = Command::new("/usr/sbin/e2fsck").arg("-fn").arg(image).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

impl World {
    fn new(on: On) -> World {
        let mib = match on {
            On::Btrfs => 512,
            On::Xfs => 320,
            _ => 128,
        };
        Self::with_room(on, mib)
    }

    /// One whose host has a file system of so many MiB.
    fn with_room(on: On, mib: u64) -> World {
        const TYPES: &str = "quotatype=usrquota:grpquota:prjquota";
        let world = World { sandbox: Sandbox::new(), on };
        let (make, options): (&[&str], _) = match on {
            On::Directory | On::Image | On::Pool => return world,
            On::Ext4 => (
                &["mke2fs", "-q", "-t", "ext4", "-O", "quota,project", "-E", TYPES],
                "loop,usrquota,grpquota,prjquota",
            ),
            On::Xfs => (&["mkfs.xfs", "-q"], "loop,usrquota,grpquota,prjquota"),
            On::Btrfs => (&["mkfs.btrfs", "-q"], "loop"),
        };
        let image = world.dir().join("host.img");
        std::fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        run(make, &[&image]);
        std::fs::create_dir(world.state_dir()).unwrap();
        run(&["mount", "-o", options], &[&image, &world.state_dir()]);
        if on == On::Btrfs {
            btrfs::count(&world.state_dir());
        }
        world
    }

    /// The files that hold file systems of vzd's.
    fn images(&self) -> Vec<PathBuf> {
        let ves = std::fs::read_dir(self.state_dir().join("ves")).unwrap().flatten();
        let images =
            ves.map(|entry| entry.path().join("disk.img")).chain([self.state_dir().join("pool.img")]);
        images.filter(|image| image.exists()).collect()
    }

    /// Waits until a limit that was below use is kept: blocks and inodes of what was removed may come back a moment
    /// later.
    fn until_resized(&self, name: &str) {
        eventually("use is below the limit", || {
            self.apply();
            !self.status(name).unwrap().is("ResizePending")
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if matches!(self.on, On::Directory | On::Image | On::Pool) || std::thread::panicking() {
            return;
        }
        self.power_cut();
        let state = self.state_dir();
        let unmounted = || Command::new("umount").arg(&state).status().is_ok_and(|status| status.success());
        eventually("the state directory is unmounted", unmounted);
    }
}

/// A VE with limits, kept by what the host is best at, or by an image.
fn limited(world: &World, name: &str, mut disk: Value) {
    match world.on {
        On::Directory => disk = json!({}),
        On::Image => disk["backend"] = "image".into(),
        On::Pool | On::Ext4 | On::Xfs => {}
        // A host that counts inodes elsewhere would keep such a VE there.
        On::Btrfs => drop(disk.as_object_mut().unwrap().remove("diskinodes")),
    }
    world.ve(name, json!({ "disk": disk }));
}

/// Makes a test of each function for each backend.
macro_rules! on_each {
    ($($name:ident),* $(,)?) => {
        on_images!($($name),*);
        on_projects!($($name),*);
        on_subvolumes!($($name),*);
    };
}

/// The same for images alone.
macro_rules! on_images {
    ($($name:ident),* $(,)?) => {
        mod on_image { $(#[test] fn $name() {
            vzd_tests::needs!(Root, Cgroups, Busybox, DiskImage);
            super::$name(super::On::Image);
        })* }
    };
}

/// The same for btrfs alone.
macro_rules! on_subvolumes {
    ($($name:ident),* $(,)?) => {
        mod on_btrfs { $(#[test] fn $name() {
            vzd_tests::needs!(Root, Cgroups, Busybox, Btrfs);
            super::$name(super::On::Btrfs);
        })* }
    };
}

/// The same for quotas of projects alone.
macro_rules! on_projects {
    ($($name:ident),* $(,)?) => {
        mod on_pool { $(#[test] fn $name() {
            vzd_tests::needs!(Root, Cgroups, Busybox, ProjectQuota(Ext4));
            super::$name(super::On::Pool);
        })* }
        mod on_ext4 { $(#[test] fn $name() {
            vzd_tests::needs!(Root, Cgroups, Busybox, ProjectQuota(Ext4));
            super::$name(super::On::Ext4);
        })* }
        mod on_xfs { $(#[test] fn $name() {
            vzd_tests::needs!(Root, Cgroups, Busybox, ProjectQuota(Xfs));
            super::$name(super::On::Xfs);
        })* }
    };
}
use {on_each, on_images, on_projects, on_subvolumes};

on_each!(
    bytes_are_limited_and_the_limit_goes_up_and_down,
    a_soft_limit_is_kept_when_its_time_has_run_out,
    one_at_its_limit_does_not_affect_another,
    two_hundred_resizes_under_a_writer,
);

fn disk(ve: &VeStatus) -> Value {
    ve.0["status"]["resources"]["disk"].clone()
}

/// What the VE may have of a resource now, as the kernel says.
fn limit(sandbox: &Sandbox, name: &str, resource: &str) -> u64 {
    disk(&sandbox.status(name).unwrap())[resource]["limit"].as_u64().unwrap()
}

/// Bytes that the VE uses, as the kernel says.
fn used(sandbox: &Sandbox, name: &str, resource: &str) -> u64 {
    disk(&sandbox.status(name).unwrap())[resource]["used"].as_u64().unwrap()
}

/// Loop devices of the sandbox.
fn loops(sandbox: &Sandbox) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/sys/block").unwrap().flatten().map(|entry| entry.path());
    let ours = |device: &PathBuf| {
        let backing = std::fs::read_to_string(device.join("loop/backing_file")).unwrap_or_default();
        backing.starts_with(sandbox.dir().to_str().unwrap())
    };
    entries.filter(ours).collect()
}

/// Writes until nothing more fits, and tells how many MiB did.
fn fill(sandbox: &Sandbox, name: &str, file: &str) -> u64 {
    let script =
        format!("dd if=/dev/zero of={file} bs=4096 count=100000 2>/dev/null; sync; stat -c %s {file}");
    sandbox.sh(name, &script).parse::<u64>().unwrap()
}

const MB: u64 = 1 << 20;

fn bytes_are_limited_and_the_limit_goes_up_and_down(on: On) {
    let sandbox = World::new(on);
    limited(&sandbox, "web", json!({ "diskspace": "16M" }));
    sandbox.apply();
    assert_eq!(disk(&sandbox.status("web").unwrap())["backend"], on.backend());
    assert_eq!(limit(&sandbox, "web", "diskspace"), 16 * MB);
    let size = fill(&sandbox, "web", "/root/big");
    assert!((15 * MB..=16 * MB).contains(&size), "{size}");
    assert!(used(&sandbox, "web", "diskspace") <= 16 * MB);
    let df = sandbox.sh("web", "df -k / | tail -1");
    let column = |at: usize| df.split_whitespace().nth(at).unwrap().parse::<u64>().unwrap();
    match on {
        // A file system of its own, larger than its limit.
        On::Image => assert!(column(1) > 16 << 10 && column(3) < 1024, "{df}"),
        // The host's file system, which tells nothing of the limit.
        On::Btrfs => assert_eq!(column(1), 512 << 10, "{df}"),
        _ => assert!(column(1) == 16 << 10 && column(3) < 1024, "{df}"),
    }
    let refused = sandbox.exec("web", &["dd", "if=/dev/zero", "of=/root/no", "bs=64k", "count=64"]);
    assert!(refused.stderr.contains(on.refusal()), "{refused:?}");
    sandbox.sh("web", "rm /root/no; sync");

    limited(&sandbox, "web", json!({ "diskspace": "24M" }));
    sandbox.apply();
    assert_eq!(limit(&sandbox, "web", "diskspace"), 24 * MB);
    let more = fill(&sandbox, "web", "/root/more");
    assert!((7 * MB..=8 * MB + MB / 4).contains(&more), "{more}");

    // Below what is used: nothing is lost, nothing more is written, and it is said.
    limited(&sandbox, "web", json!({ "diskspace": "8M" }));
    sandbox.apply();
    let status = sandbox.until("web", "ResizePending", |ve| ve.is("ResizePending"));
    let message = status.condition("ResizePending").unwrap().message;
    assert!(message.contains("spec.disk.diskspace") && message.contains("8M"), "{message}");
    assert_eq!(sandbox.sh("web", "stat -c %s /root/big").parse::<u64>().unwrap(), size);
    assert_eq!(sandbox.exec("web", &["dd", "if=/dev/zero", "of=/root/no", "bs=4096", "count=1"]).code, 1);
    sandbox.sh("web", "rm /root/big /root/more; sync");
    sandbox.until_resized("web");
    let size = fill(&sandbox, "web", "/root/big");
    assert!((7 * MB..=8 * MB).contains(&size), "{size}");
}

fn a_soft_limit_is_kept_when_its_time_has_run_out(on: On) {
    let sandbox = World::new(on);
    // Long enough to be noticed before it has run out.
    let grace = format!("{}s", slow(Duration::from_secs(3)).as_secs());
    let quota = json!({ "diskspace": "8M:16M", "quotatime": grace });
    limited(&sandbox, "web", quota);
    sandbox.apply();
    sandbox.sh("web", "dd if=/dev/zero of=/root/a bs=1M count=10 2>/dev/null; sync");
    sandbox.apply();
    let status = sandbox.status("web").unwrap();
    assert_eq!(status.condition("OverQuota").unwrap().reason, "SoftLimitExceeded", "{status:?}");
    assert_eq!(limit(&sandbox, "web", "diskspace"), 16 * MB);
    // A controller that comes up later goes by when it began.
    let daemon = sandbox.daemon();
    sandbox.until("web", "held to its soft limit", |ve| {
        ve.condition("OverQuota").is_some_and(|is| is.reason == "GraceRunOut")
            && disk(ve)["diskspace"]["limit"] == 8 * MB
    });
    assert_eq!(sandbox.exec("web", &["dd", "if=/dev/zero", "of=/root/b", "bs=4096", "count=1"]).code, 1);
    sandbox.sh("web", "rm /root/a /root/b; sync");
    sandbox.vzd(&["apply"]).ok();
    sandbox.until("web", "within its limits", |ve| {
        !ve.is("OverQuota") && disk(ve)["diskspace"]["limit"] == 16 * MB
    });
    sandbox.until_event("web", "SoftLimitExceeded");
    sandbox.until_event("web", "GraceRunOut");
    sandbox.until_event("web", "SoftLimitKept");
    drop(daemon);
}

fn one_at_its_limit_does_not_affect_another(on: On) {
    let sandbox = World::new(on);
    limited(&sandbox, "one", json!({ "diskspace": "8M", "diskinodes": "400" }));
    limited(&sandbox, "two", json!({ "diskspace": "8M", "diskinodes": "400" }));
    sandbox.apply();
    fill(&sandbox, "one", "/root/big");
    assert_eq!(sandbox.exec("one", &["dd", "if=/dev/zero", "of=/root/no", "bs=4096", "count=1"]).code, 1);
    let size = fill(&sandbox, "two", "/root/big");
    assert!((7 * MB..=8 * MB).contains(&size), "{size}");
}

fn two_hundred_resizes_under_a_writer(on: On) {
    let sandbox = World::new(on);
    let resize = |mb: u64, inodes: u64| {
        limited(&sandbox, "web", json!({ "diskspace": format!("{mb}M"), "diskinodes": inodes.to_string() }));
    };
    resize(8, 300);
    let _daemon = sandbox.daemon();
    sandbox.until_ready("web");
    sandbox.sh("web", "mkdir /root/w; head -c 262144 /dev/urandom > /root/source; touch /root/go; sync");
    // Fills the disk again and again; what was written whole is marked.
    let script = "i=0; while [ -e /root/go ]; do f=/root/w/$((i%60)); rm -f $f $f.ok; \
                  cp /root/source $f 2>/dev/null && touch $f.ok 2>/dev/null; i=$((i+1)); done; echo $i";
    let mut writer = sandbox.command(&["exec", "web", "--", "/bin/sh", "-c", script]);
    let writer = writer.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut random: u64 = 42;
    for _ in 0..on.resizes() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (mb, inodes) = (4 + (random >> 33) % 20, 150 + (random >> 40) % 300);
        resize(mb, inodes);
        sandbox.until("web", "resized", |ve| disk(ve)["diskspace"]["limit"] == mb * MB);
    }
    // At a limit below what is there nothing is written whole; as soon as there is room, it is again.
    resize(24, 450);
    sandbox.until("web", "resized", |ve| disk(ve)["diskspace"]["limit"] == 24 * MB);
    let written = "rm -f /root/w/*.ok; until ls /root/w/*.ok >/dev/null 2>&1; do :; done";
    sandbox.sh("web", written);
    sandbox.sh("web", "rm /root/go");
    let ended = writer.wait_with_output().unwrap();
    let rounds: u64 = String::from_utf8_lossy(&ended.stdout).trim().parse().unwrap();
    assert!(rounds > 60, "the writer wrote only {rounds} times");
    let check =
        "sync; cd /root/w; for f in *.ok; do cmp /root/source ${f%.ok} || echo bad $f; done; ls *.ok | wc -l";
    let whole = sandbox.sh("web", check);
    assert!(whole.parse::<u64>().is_ok_and(|whole| whole > 0), "{whole}");
    // And the file system is whole.
    sandbox.vzd(&["stop", "web"]).ok();
    let images = sandbox.images();
    assert!(!images.is_empty() || matches!(on, On::Ext4 | On::Xfs | On::Btrfs));
    images.iter().for_each(|image| self::check(image));
}
