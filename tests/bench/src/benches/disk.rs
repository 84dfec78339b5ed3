//! Disks, by what keeps their limits: made of a large template, resized, written to.
//!
//! Each backend has a controller of its own. That for btrfs has its state directory on a file system of its own, with
//! quotas; the others have theirs where the benchmarks are, so `project` is vzd's pool unless that place limits projects.

pub(super) mod create;
pub(super) mod resize;
pub(super) mod write;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::options::Options;
use crate::payload;
use crate::peers::{self, Controller};
use crate::place::Place;
use crate::result::{Context, Result, fail};

const BACKENDS: [&str; 3] = ["project", "image", "btrfs"];
const LIMIT: Duration = Duration::from_secs(60);
/// Sparse: what is not written to takes nothing.
const BTRFS_BYTES: u64 = 16 << 30;

/// A controller, all of whose VEs have their disks kept by one backend.
struct Disks {
    backend: &'static str,
    controller: Controller,
    template: PathBuf,
}

/// One for each backend that there can be here, with VEs of this template; why the others can't is told.
fn all(place: &Place, options: &Options, purpose: &str, template: &Path) -> Vec<Disks> {
    let wanted = BACKENDS.into_iter().filter(|backend| options.wants_disks(backend));
    let tried = wanted.map(|backend| (backend, Disks::start(place, purpose, backend, template)));
    let able = |(backend, made): (&str, Result<Disks>)| match made {
        Ok(disks) => Some(disks),
        Err(failure) => {
            eprintln!("{backend} is left out: {failure}");
            None
        }
    };
    tried.filter_map(able).collect()
}

impl Disks {
    fn start(place: &Place, purpose: &str, backend: &'static str, template: &Path) -> Result<Disks> {
        let name = format!("{purpose}-{backend}");
        if backend == "btrfs" {
            let image = place.directory.join(format!("{name}.img"));
            let made = std::fs::File::create(&image).and_then(|file| file.set_len(BTRFS_BYTES));
            made.context(image.display())?;
            place.subdirectory(&format!("vzd-{name}"))?;
            let state = place.subdirectory(&format!("vzd-{name}/state"))?;
            run(&["mkfs.btrfs", "-q"], &[&image])?;
            run(&["mount", "-o", "loop"], &[&image, &state])?;
            run(&["btrfs", "quota", "enable"], &[&state])?;
        }
        let mut disks =
            Disks { backend, controller: Controller::start(place, &name)?, template: template.to_owned() };
        disks.try_one()?;
        Ok(disks)
    }

    /// Makes one disk and takes it away again; says why it can't be, if so.
    fn try_one(&mut self) -> Result<()> {
        self.put(0, "stopped", "1G", "")?;
        let told = |controller: &Controller| -> Option<String> {
            let text = controller.ask(&["get", &name(0), "-o", "json"]).ok()?;
            let document: Value = serde_json::from_str(&text).ok()?;
            let conditions = document.pointer("/status/conditions")?.as_array()?;
            let stalled = conditions.iter().find(|is| is["type"] == "Stalled" && is["status"] == "True")?;
            Some(stalled["message"].as_str()?.to_owned())
        };
        self.controller.until(LIMIT, |controller| has_root(controller) || told(controller).is_some())?;
        match told(&self.controller) {
            Some(why) => fail(why),
            None => self.remove(0),
        }
    }

    /// Orders a VE, and tells when that was.
    fn put(&self, id: usize, state: &str, space: &str, more: &str) -> Result<Duration> {
        let disk = format!("  disk: {{backend: {}, diskspace: {space}}}\n{more}", self.backend);
        let template = self.template.display().to_string();
        self.controller.put_synced(id, &peers::manifest(&template, id, state, &disk))
    }

    /// Starts a VE, and tells its init's process id.
    fn start_one(&self, id: usize, space: &str, more: &str) -> Result<i32> {
        let known = payload::known();
        self.put(id, "running", space, more)?;
        let started = payload::wait_for(1, &known, LIMIT)?;
        started.first().map(|payload| payload.pid).ok_or("no payload").context("start")
    }

    /// Takes the only VE away, and waits until nothing of it is left.
    fn remove(&mut self, id: usize) -> Result<()> {
        self.put(id, "absent", "1G", "")?;
        self.controller.until(LIMIT, |controller| !has_any(controller))?;
        let manifest = self.controller.manifests.join(peers::file_name(id));
        std::fs::remove_file(&manifest).context(manifest.display())
    }
}

fn name(id: usize) -> String {
    format!("bench-{id}")
}

/// Whether there is a root that is whole: the link to its template is the last that is made of it.
fn has_root(controller: &Controller) -> bool {
    directories(controller).any(|path| path.join("lower").symlink_metadata().is_ok())
}

/// Whether there is anything of a root, on its way out too.
fn has_any(controller: &Controller) -> bool {
    directories(controller).next().is_some()
}

fn directories(controller: &Controller) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(controller.state.join("ves")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// Runs a program and tells what it said.
pub(super) fn run(words: &[&str], paths: &[&Path]) -> Result<String> {
    let mut command = Command::new(words[0]);
    succeed(command.args(&words[1..]).args(paths))
}

fn succeed(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().context(&program)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = [output.stdout, output.stderr].concat();
            fail(format!("{program}: {}", String::from_utf8_lossy(&said).trim()))
        }
    }
}
