//! A container is made of a large template and not started: time, and what it takes of the disk.
//!
//! vzd: from the manifest's rename until the root is whole. lxc-copy -s, podman create: from the command to its end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Disks, all, has_root, run, succeed};
use crate::benches::goal;
use crate::options::Options;
use crate::payload;
use crate::peers::on_path;
use crate::place::{FIRST_ID, IDS, PAYLOAD, Place};
use crate::result::{Context, Result, fail};
use crate::stats::{median, ms};
use crate::table::{Table, number};
use crate::tree;

/// 300 MB, in as many files as a Debian of that size has.
const FILES: usize = 12_000;
const BYTES: usize = 26_000;
/// Its directory; lxc wants the container that is copied to be called so.
const TEMPLATE: &str = "large";
const LOOK_EVERY: Duration = Duration::from_micros(300);

/// Somebody who makes containers.
trait Maker {
    fn name(&self) -> String;
    fn make(&mut self, id: usize) -> Result<Duration>;
    /// Takes it away again.
    fn remove(&mut self, id: usize) -> Result<()>;
    /// Bytes of disk that all of it takes.
    fn taken(&self) -> Result<u64>;
}

pub(in crate::benches) fn bench(place: &Place, options: &Options) -> Result<Vec<Table>> {
    let template = place.root(TEMPLATE)?;
    tree::grow(&template.join("usr"), FILES, BYTES)?;
    let mut makers: Vec<Box<dyn Maker>> = Vec::new();
    if options.wants_peer("vzd") {
        makers.extend(
            all(place, options, "create", &template)
                .into_iter()
                .map(|disks| Box::new(disks) as Box<dyn Maker>),
        );
    }
    let mut add = |name: &str, made: Result<Box<dyn Maker>>| match made {
        Ok(maker) => makers.push(maker),
        Err(failure) => eprintln!("{name} is left out: {failure}"),
    };
    if options.wants_peer("lxc") {
        add("lxc-copy", Lxc::new(place, &template).map(|lxc| Box::new(lxc) as Box<dyn Maker>));
    }
    if options.wants_peer("podman") {
        add("podman", Podman::new(place, &template).map(|podman| Box::new(podman) as Box<dyn Maker>));
    }
    let mut series: Vec<(Vec<f64>, Vec<f64>)> = makers.iter().map(|_| Default::default()).collect();
    // The first round fills caches and is not counted.
    for round in 0..=options.rounds {
        for (maker, (took, taken)) in makers.iter_mut().zip(&mut series) {
            let before = maker.taken()?;
            let time = maker.make(round)?;
            let after = maker.taken()?;
            maker.remove(round)?;
            if round > 0 {
                took.push(ms(time));
                taken.push(megabytes(after.saturating_sub(before)));
            }
        }
    }
    let title = format!("A container made of a template of 300 MB, {} rounds, medians", options.rounds);
    let mut table = Table::new(title, &["", "ms", "MB of disk"]);
    for (maker, (took, taken)) in makers.iter().zip(&series) {
        table.row(vec![maker.name(), number(median(took)), number(median(taken))]);
        if maker.name().starts_with("vzd") {
            table.note(goal(&format!("{}: ms", maker.name()), median(took), 30.0));
            table.note(goal(&format!("{}: MB", maker.name()), median(taken), 1.0));
        }
    }
    table.note(
        "vzd: from the manifest's rename until the root is whole; the others: from the command to its end.",
    );
    Ok(vec![table])
}

fn megabytes(bytes: u64) -> f64 {
    const KILOBYTE: u64 = 1000;
    // Exact as far as anybody looks.
    u32::try_from(bytes / KILOBYTE).map_or(f64::INFINITY, |kilobytes| f64::from(kilobytes) / 1000.0)
}

impl Maker for Disks {
    fn name(&self) -> String {
        format!("vzd, {}", self.backend)
    }

    fn make(&mut self, id: usize) -> Result<Duration> {
        let ordered = self.put(id, "stopped", "1G", "")?;
        let deadline = Instant::now() + super::LIMIT;
        while !has_root(&self.controller) {
            if Instant::now() > deadline {
                return fail("no root is made");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(payload::now().saturating_sub(ordered))
    }

    fn remove(&mut self, id: usize) -> Result<()> {
        Disks::remove(self, id)
    }

    fn taken(&self) -> Result<u64> {
        let state = &self.controller.state;
        run(&["sync", "-f"], &[state])?;
        if self.backend != "btrfs" {
            return Ok(tree::allocated(state));
        }
        // What subvolumes share is told by nobody but the file system, which is nobody else's.
        let used = run(&["stat", "-f", "-c", "%S %b %f"], &[state])?;
        let numbers: Vec<u64> = used.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [size, all, free] = numbers[..] else { return fail(format!("stat -f says {used}")) };
        Ok((all - free) * size)
    }
}

/// `lxc-copy -s`: an overlay over another container's root.
struct Lxc {
    program: PathBuf,
    directory: PathBuf,
}

impl Lxc {
    fn new(place: &Place, template: &Path) -> Result<Lxc> {
        let lxc = Lxc { program: on_path("lxc-copy")?, directory: place.subdirectory("lxc-create")? };
        let base = place.subdirectory(&format!("lxc-create/{TEMPLATE}"))?;
        let config = format!(
            "lxc.rootfs.path = dir:{}\nlxc.init.cmd = {PAYLOAD}\nlxc.uts.name = {TEMPLATE}\nlxc.net.0.type = empty\n\
             lxc.idmap = u 0 {FIRST_ID} {IDS}\nlxc.idmap = g 0 {FIRST_ID} {IDS}\n",
            template.display()
        );
        std::fs::write(base.join("config"), config).context(base.display())?;
        Ok(lxc)
    }

    fn command(&self, program: &str, name: &str) -> Command {
        let mut command = Command::new(self.program.with_file_name(program));
        command.arg("--lxcpath").arg(&self.directory).args(["--name", name]);
        command
    }
}

impl Maker for Lxc {
    fn name(&self) -> String {
        "lxc-copy -s".to_owned()
    }

    fn make(&mut self, id: usize) -> Result<Duration> {
        let mut command = self.command("lxc-copy", TEMPLATE);
        command.args(["--newname", &super::name(id), "--snapshot", "--backingstorage", "overlay"]);
        timed(&mut command)
    }

    fn remove(&mut self, id: usize) -> Result<()> {
        succeed(&mut self.command("lxc-destroy", &super::name(id))).map(drop)
    }

    fn taken(&self) -> Result<u64> {
        Ok(tree::allocated(&self.directory))
    }
}

/// `podman create` of an image that it has, without a network.
struct Podman {
    program: PathBuf,
    directory: PathBuf,
}

impl Podman {
    fn new(place: &Place, template: &Path) -> Result<Podman> {
        let podman = Podman { program: on_path("podman")?, directory: place.subdirectory("podman")? };
        let archive = place.directory.join("podman.tar");
        run(&["tar", "-cf"], &[&archive, Path::new("-C"), template, Path::new(".")])?;
        succeed(podman.command("import").arg(&archive).arg("bench"))?;
        std::fs::remove_file(&archive).context(archive.display())?;
        Ok(podman)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--root")
            .arg(self.directory.join("root"))
            .arg("--runroot")
            .arg(self.directory.join("run"));
        command.args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", verb]);
        command
    }
}

impl Maker for Podman {
    fn name(&self) -> String {
        "podman create".to_owned()
    }

    fn make(&mut self, id: usize) -> Result<Duration> {
        let name = super::name(id);
        timed(self.command("create").args(["--network", "none", "--name", &name, "bench", PAYLOAD]))
    }

    fn remove(&mut self, id: usize) -> Result<()> {
        succeed(self.command("rm").arg(super::name(id))).map(drop)
    }

    fn taken(&self) -> Result<u64> {
        Ok(tree::allocated(&self.directory))
    }
}

fn timed(command: &mut Command) -> Result<Duration> {
    let start = Instant::now();
    succeed(command)?;
    Ok(start.elapsed())
}
