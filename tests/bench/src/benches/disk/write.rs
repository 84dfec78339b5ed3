//! Files are written in a VE, and by the same programs on the bare file system that its disk is on, by turns; and on a disk
//! that is made as its own and is nobody's: an overlay, which no container is without that shares a template, and below it a
//! file system in a file, where the VE has one. So what these cost is told from what VEs cost.
//!
//! The programs are the host's: VEs are shown its /usr. Times are taken by the programs, or by a shell beside them, so
//! that entering the VE is in none.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Disks, all, name, succeed};
use crate::benches::at_least;
use crate::options::Options;
use crate::peers::on_path;
use crate::place::Place;
use crate::result::{Context, Result, fail};
use crate::stats::{median, paired_ratio};
use crate::table::{Table, number};
use crate::tree;

/// As many files as a source tree has, and as large.
const FILES: usize = 5_000;
const BYTES: usize = 10_000;
/// Where a VE finds the archive.
const SOURCE: &str = "/source";
/// Each round writes some hundred megabytes, twice.
const ROUNDS_OF: usize = 5;

/// Runs a script where a job is to be, and tells what it said.
type Shell<'a> = dyn Fn(&str) -> Result<String> + 'a;

struct Job {
    name: &'static str,
    /// Bytes a second that it has come to, in a directory that is made for it.
    run: fn(&Shell<'_>, &Scene) -> Result<f64>,
}

/// Paths as the programs see them.
struct Scene {
    work: String,
    archive: String,
}

const JOBS: [Job; 3] = [
    Job { name: "4k random", run: |shell, scene| fio(shell, scene, "--rw=randwrite --bs=4k --size=128M") },
    Job { name: "1M sequential", run: |shell, scene| fio(shell, scene, "--rw=write --bs=1M --size=512M") },
    Job { name: "untar", run: untar },
];

pub(in crate::benches) fn bench(place: &Place, options: &Options) -> Result<Vec<Table>> {
    if !options.wants_peer("vzd") {
        return Ok(Vec::new());
    }
    on_path("fio")?;
    let template = place.root("programs")?;
    for name in ["lib", "lib64"] {
        let link = template.join(name);
        std::os::unix::fs::symlink(format!("usr/{name}"), &link).context(link.display())?;
    }
    let source = place.subdirectory("source")?;
    let tree = place.subdirectory("tree")?;
    tree::grow(&tree, FILES, BYTES)?;
    super::run(&["tar", "-cf"], &[&source.join("tree.tar"), Path::new("-C"), &tree, Path::new(".")])?;
    let mut all = all(place, options, "write", &template);
    let rounds = (options.rounds / ROUNDS_OF).max(3);
    all.iter_mut().map(|disks| one(disks, &source, rounds)).collect()
}

fn one(disks: &mut Disks, source: &Path, rounds: usize) -> Result<Table> {
    let mounts = format!(
        "  mounts:\n  - {{source: /usr, target: /usr, readOnly: true}}\n  - {{source: {}, target: {SOURCE}, readOnly: true}}\n",
        source.display()
    );
    disks.start_one(1, "4G", &mounts)?;
    let bare = disks.controller.state.join("bare");
    let inside = Scene { work: "/var/work".to_owned(), archive: format!("{SOURCE}/tree.tar") };
    let outside =
        Scene { work: bare.display().to_string(), archive: source.join("tree.tar").display().to_string() };
    let in_ve = |script: &str| {
        let script = format!("PATH=/usr/bin:/usr/sbin; {script}");
        disks.controller.tool(&["exec", &name(1), "--", "/usr/bin/sh", "-ec", &script])
    };
    let on_host = |script: &str| succeed(std::process::Command::new("sh").args(["-ec", script]));
    let state = &disks.controller.state;
    let in_file = match disks.backend {
        "image" => Some(&IMAGE),
        _ => state.join("pool.img").exists().then_some(&POOL),
    };
    let control = Control::make(&state.join("control"), in_file)?;
    let on_control =
        Scene { work: control.root().join("work").display().to_string(), archive: outside.archive.clone() };
    let title = format!("Files written with `backend: {}`, {rounds} rounds, median MB/s", disks.backend);
    let alike = if in_file.is_some() { "file + overlayfs" } else { "overlayfs" };
    let shares = [&format!("{alike} ÷ bare"), "VE ÷ bare", "VE ÷ the same"];
    let heads = ["", "bare", alike, "in a VE"].into_iter().chain(shares).collect::<Vec<_>>();
    let mut table = Table::new(title, &heads);
    for job in &JOBS {
        let (mut bare, mut alone, mut ve) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=rounds {
            let of_host = once(job, &on_host, &outside)?;
            let of_control = once(job, &on_host, &on_control)?;
            let of_ve = once(job, &in_ve, &inside)?;
            if round > 0 {
                bare.push(of_host);
                alone.push(of_control);
                ve.push(of_ve);
            }
        }
        let ratio = paired_ratio(&ve, &bare);
        let medians = [&bare, &alone, &ve].map(|speeds| number(median(speeds)));
        let ratios = [paired_ratio(&alone, &bare), ratio, paired_ratio(&ve, &alone)].map(number);
        table.row([job.name.to_owned()].into_iter().chain(medians).chain(ratios).collect());
        if let Some(least) = least(disks.backend) {
            table.note(at_least(&format!("{}, {} ÷ bare", disks.backend, job.name), ratio, least));
        }
    }
    table.note(
        "bare: the file system that the VE's disk is on. What is written is on disk when the time is taken.",
    );
    disks.remove(1)?;
    Ok(table)
}

/// A disk made as a VE's own that no VE has: an overlay of an empty directory, on the file system of a directory or on one in
/// a file there.
struct Control {
    at: PathBuf,
    in_file: Option<&'static InFile>,
}

/// A file system in a file: its features, and how it is mounted.
struct InFile(&'static str, &'static str);

/// As `drivers/disk/ext4.rs` has it.
const IMAGE: InFile = InFile("", "noinit_itable,discard");
const POOL: InFile = InFile("quota,project", "noinit_itable,discard,usrquota,grpquota,prjquota");

impl Control {
    fn make(at: &Path, in_file: Option<&'static InFile>) -> Result<Control> {
        let control = Control { at: at.to_owned(), in_file };
        let below = at.join("below");
        std::fs::create_dir_all(&below).context(below.display())?;
        if let Some(is) = in_file {
            control.mount_file(is, &below)?;
        }
        let [lower, upper, work, root] =
            ["below/lower", "below/upper", "below/work", "root"].map(|name| at.join(name));
        for path in [&lower, &upper, &work, &root] {
            std::fs::create_dir_all(path).context(path.display())?;
        }
        let (lower, upper, work) = (lower.display(), upper.display(), work.display());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work},index=on,xino=auto");
        super::run(&["mount", "-t", "overlay", "overlay", "-o", &options], &[&root])?;
        Ok(control)
    }

    /// Attached as by `kernel/loopdev.rs`.
    fn mount_file(&self, InFile(features, options): &InFile, below: &Path) -> Result<()> {
        let file = self.at.join("file");
        super::run(&["truncate", "-s", "4G"], &[&file])?;
        let layout = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
        let mut make =
            vec!["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-E", layout];
        if !features.is_empty() {
            make.extend(["-O", features]);
        }
        super::run(&make, &[&file])?;
        let attach = ["losetup", "--find", "--show", "--direct-io=on", "--sector-size=4096"];
        let device = succeed(std::process::Command::new(attach[0]).args(&attach[1..]).arg(&file))?;
        let mounted = super::run(&["mount", "-o", options, device.trim()], &[below]);
        // It goes with the mount, or at once where there is none.
        super::run(&["losetup", "--detach", device.trim()], &[])?;
        mounted.map(drop)
    }

    fn root(&self) -> PathBuf {
        self.at.join("root")
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(super::run(&["umount"], &[&self.root()]));
        if self.in_file.is_some() {
            drop(super::run(&["umount"], &[&self.at.join("below")]));
        }
    }
}

/// Of the bare file system, where there is a goal.
fn least(backend: &str) -> Option<f64> {
    match backend {
        "project" => Some(0.95),
        "image" => Some(0.85),
        _ => None,
    }
}

fn once(job: &Job, shell: &Shell<'_>, scene: &Scene) -> Result<f64> {
    const MEGABYTE: f64 = 1e6;
    shell(&format!("mkdir -p {}", scene.work))?;
    let speed = (job.run)(shell, scene)?;
    shell(&format!("rm -r {0}; sync -f $(dirname {0})", scene.work))?;
    Ok(speed / MEGABYTE)
}

fn fio(shell: &Shell<'_>, scene: &Scene, what: &str) -> Result<f64> {
    let script = format!(
        "fio --name=job --directory={} --ioengine=psync --end_fsync=1 --thread --output-format=json {what}",
        scene.work
    );
    let told: Value = serde_json::from_str(&shell(&script)?).context("fio")?;
    let speed = told.pointer("/jobs/0/write/bw_bytes").and_then(Value::as_f64);
    speed.ok_or("tells no bandwidth").context("fio")
}

fn untar(shell: &Shell<'_>, scene: &Scene) -> Result<f64> {
    let Scene { work, archive } = scene;
    let script = format!(
        "stat -c %s {archive}; date +%s.%N; tar -xf {archive} -C {work} --no-same-owner; sync -f {work}; date +%s.%N"
    );
    let told = shell(&script)?;
    let numbers: Vec<f64> = told.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [bytes, start, end] = numbers[..] else { return fail(format!("tar: {told}")) };
    Ok(bytes / (end - start))
}
