//! A container with 100 MB of memory written to disk and brought back: from the order to write it until it runs again.
//!
//! vzd's checkpoint is on disk, summed, and checked before it is used; what runc leaves is written by the kernel when it likes.

mod compressed;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::goal;
use crate::options::Options;
use crate::peers::{CRIU, Controller, file_name, on_path};
use crate::place::Place;
use crate::result::{Context, Result, fail};
use crate::stats::{median, ms, paired_ratio};
use crate::table::{Table, number};

/// What it has in memory, checks and changes all of, and notes the rounds of.
const MEGABYTES: &str = "100";
pub(super) const GUEST: &str = "/bin/guest";
pub(super) const TOLD: &str = "var/told";
const LIMIT: Duration = Duration::from_secs(30);
/// Each writes and reads a few hundred megabytes.
const ROUNDS_OF: usize = 2;

/// A container that can be written to disk and brought back.
trait Frozen {
    fn name(&self) -> &'static str;
    fn write(&mut self) -> Result<()>;
    fn bring_back(&mut self) -> Result<()>;
    /// The file in which it notes how far it is.
    fn told(&self) -> Result<PathBuf>;
    fn end(&mut self) -> Result<()>;
}

pub(super) fn run(place: &Place, options: &Options) -> Result<Vec<Table>> {
    let mut all: Vec<Box<dyn Frozen>> = Vec::new();
    if options.wants_peer("vzd") {
        all.push(Box::new(Ve::start(place, "remember")?));
    }
    if options.wants_peer("runc") {
        match Runc::start(place) {
            Ok(runc) => all.push(Box::new(runc)),
            Err(failure) => eprintln!("runc is left out: {failure}"),
        }
    }
    let rounds = (options.rounds / ROUNDS_OF).max(3);
    let mut series: Vec<[Vec<f64>; 2]> = all.iter().map(|_| Default::default()).collect();
    for round in 0..=rounds {
        for (one, [written, back]) in all.iter_mut().zip(&mut series) {
            goes_on(|| told(&**one))?;
            let began = Instant::now();
            one.write()?;
            let frozen = began.elapsed();
            one.bring_back()?;
            let whole = began.elapsed();
            if round > 0 {
                written.push(ms(frozen));
                back.push(ms(whole - frozen));
            }
        }
    }
    for one in &mut all {
        goes_on(|| told(&**one))?;
        one.end()?;
    }
    let title = format!("{MEGABYTES} MB written to disk and brought back, {rounds} rounds, median ms");
    let mut table = Table::new(title, &["", "to disk", "back", "both"]);
    let both = |[written, back]: &[Vec<f64>; 2]| -> Vec<f64> {
        written.iter().zip(back).map(|(written, back)| written + back).collect()
    };
    for (one, times) in all.iter().zip(&series) {
        let cells = [median(&times[0]), median(&times[1]), median(&both(times))].map(number);
        table.row(std::iter::once(one.name().to_owned()).chain(cells).collect());
    }
    if let [vzd, runc] = &series[..] {
        table.note(goal("both: vzd ÷ runc", paired_ratio(&both(vzd), &both(runc)), 0.8));
    }
    table.note("From the command that writes it to the end of the one that brings it back. The same CRIU.");
    drop(all);
    let compressed = options.wants_peer("vzd").then(|| compressed::run(place, rounds)).transpose()?;
    Ok(std::iter::once(table).chain(compressed).collect())
}

fn told(one: &dyn Frozen) -> String {
    one.told().ok().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
}

/// Waits until a program has come further, by what it tells.
pub(super) fn goes_on(told: impl Fn() -> String) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let before = told();
    while Instant::now() < deadline {
        if !told().is_empty() && told() != before {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    fail("its program does not go on")
}

/// A root that has the program, in a directory of its own.
pub(super) fn root(place: &Place, name: &str) -> Result<PathBuf> {
    let root = place.root(name)?;
    let program = std::env::var_os("VZD_GUEST").ok_or("isn't set").context("VZD_GUEST")?;
    let to = root.join(&GUEST[1..]);
    std::fs::copy(&program, &to).context(to.display())?;
    Ok(root)
}

fn arguments(program: &str) -> [String; 4] {
    [GUEST.to_owned(), program.to_owned(), MEGABYTES.to_owned(), format!("/{TOLD}")]
}

struct Ve {
    controller: Controller,
    template: PathBuf,
    /// What its init does.
    program: &'static str,
}

impl Ve {
    fn start(place: &Place, program: &'static str) -> Result<Self> {
        let controller = Controller::start(place, &format!("suspend-{program}"))?;
        let ve = Ve { controller, template: root(place, program)?, program };
        ve.order("running", "none")?;
        Ok(ve)
    }

    fn order(&self, state: &str, compress: &str) -> Result<()> {
        let spec = json!({
            "template": format!("dir:{}", self.template.display()), "init": arguments(self.program), "state": state,
            "checkpoint": { "compress": compress }, "stopTimeout": "1s", "deletionPolicy": "Destroy",
        });
        let manifest = json!({
            "apiVersion": "vzd/v1", "kind": "VE", "metadata": { "name": "bench-0" }, "spec": spec
        });
        self.controller.put_synced(0, &manifest.to_string()).map(drop)
    }
}

impl Frozen for Ve {
    fn name(&self) -> &'static str {
        "vzd"
    }

    fn write(&mut self) -> Result<()> {
        self.controller.ask(&["suspend", "bench-0"]).map(drop)
    }

    fn bring_back(&mut self) -> Result<()> {
        self.controller.ask(&["resume", "bench-0"]).map(drop)
    }

    fn told(&self) -> Result<PathBuf> {
        let ves = self.controller.state.join("ves");
        let entries = std::fs::read_dir(&ves).context(ves.display())?.flatten();
        let one = entries.map(|entry| entry.path().join("fs/upper").join(TOLD)).find(|path| path.exists());
        one.ok_or("nothing is told yet").context("the VE")
    }

    fn end(&mut self) -> Result<()> {
        self.order("absent", "none")?;
        self.controller.wait_gone()?;
        let manifest = self.controller.manifests.join(file_name(0));
        std::fs::remove_file(&manifest).context(manifest.display())
    }
}

struct Runc {
    directory: PathBuf,
    root: PathBuf,
}

impl Runc {
    const NAME: &str = "vzd-bench-suspend";

    fn start(place: &Place) -> Result<Self> {
        on_path("runc")?;
        let runc = Runc { directory: place.subdirectory("runc")?, root: root(place, "runc/rootfs")? };
        runc.call(&["spec", "--bundle"], Some(&runc.directory), None)?;
        let path = runc.directory.join("config.json");
        let text = std::fs::read_to_string(&path).context(path.display())?;
        let mut config: Value = serde_json::from_str(&text).context(path.display())?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(arguments("remember"));
        config["root"] = json!({ "path": runc.root, "readonly": false });
        config["linux"]["cgroupsPath"] = json!(format!("/{}/runc", place.cgroup));
        std::fs::write(&path, config.to_string()).context(path.display())?;
        runc.call(&["run", "--detach", "--bundle"], Some(&runc.directory), Some(Self::NAME))?;
        Ok(runc)
    }

    /// The name comes last: what looks like an option behind it is none.
    fn call(&self, words: &[&str], path: Option<&Path>, name: Option<&str>) -> Result<()> {
        let mut command = Command::new("runc");
        command
            .arg("--root")
            .arg(self.directory.join("state"))
            .args(["--criu", CRIU])
            .args(words)
            .args(path)
            .args(name);
        // What a container has as its standard streams stays open for as long as it runs.
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match quiet.status().context("runc")?.success() {
            true => Ok(()),
            false => fail(format!("runc {}: failed", words.join(" "))),
        }
    }

    fn images(&self) -> PathBuf {
        self.directory.join("images")
    }
}

impl Frozen for Runc {
    fn name(&self) -> &'static str {
        "runc"
    }

    fn write(&mut self) -> Result<()> {
        self.call(&["checkpoint", "--image-path"], Some(&self.images()), Some(Self::NAME))
    }

    fn bring_back(&mut self) -> Result<()> {
        let images = self.images();
        let bundle = self.directory.display().to_string();
        let words = ["restore", "--detach", "--bundle", &bundle, "--image-path"];
        self.call(&words, Some(&images), Some(Self::NAME))
    }

    fn told(&self) -> Result<PathBuf> {
        Ok(self.root.join(TOLD))
    }

    fn end(&mut self) -> Result<()> {
        self.call(&["delete", "--force"], None, Some(Self::NAME))
    }
}
