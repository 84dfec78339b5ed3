//! vzd itself: a running controller, and manifests that are renamed into its directory.
//!
//! Must order everything by files, as users do, and must not ask the controller anything while it is being timed.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::wire::Wire;
use super::{Peer, Run, ended};
use crate::benches::update::Limit;
use crate::cpu::Meter;
use crate::payload;
use crate::place::{PAYLOAD, Place, RUN, hierarchies};
use crate::result::{Context, Result, fail};
use crate::sys::{self, Pidfd};

/// Where `cargo xtask setup` puts it.
pub(crate) const CRIU: &str = "/usr/local/lib/vzd/criu/criu";

/// A running controller with directories of its own.
pub(crate) struct Controller {
    child: Child,
    vzd: PathBuf,
    pub(crate) manifests: PathBuf,
    pub(crate) state: PathBuf,
    run: PathBuf,
    log: PathBuf,
    cgroup: String,
    template: PathBuf,
    wire: Wire,
    /// Limits of the VE whose limits are changed, by group.
    limits: BTreeMap<&'static str, String>,
    /// The controller with its keeper, and the VEs.
    meters: [Meter; 2],
}

/// The last whole pass, as the controller tells of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    pub(crate) took: Duration,
    pub(crate) ves: u64,
    pub(crate) writes: u64,
    /// Passes since the start.
    pub(crate) count: u64,
}

impl Controller {
    /// Starts one with an empty directory.
    pub(crate) fn start(place: &Place, purpose: &str) -> Result<Controller> {
        Self::start_with(place, purpose, &[])
    }

    /// Starts one whose directory has these files (name and text) already.
    pub(crate) fn start_with(place: &Place, purpose: &str, files: &[(String, String)]) -> Result<Controller> {
        let directory = place.subdirectory(&format!("vzd-{purpose}"))?;
        let own = place.cpu_cgroup(&format!("controller-{purpose}"));
        std::fs::create_dir_all(&own).context(own.display())?;
        let [manifests, state] =
            ["manifests", "state"].map(|name| place.subdirectory(&format!("vzd-{purpose}/{name}")));
        let (manifests, state) = (manifests?, state?);
        let run = place.subdirectory(&format!("{RUN}/vzd-{purpose}"))?;
        for (name, text) in files {
            std::fs::write(manifests.join(name), text).context(name)?;
        }
        let cgroup = format!("{}/ve-{purpose}", place.cgroup);
        let log = directory.join("vzd.log");
        let messages = std::fs::File::create(&log).context(log.display())?;
        // Joins its cgroup before it is vzd, so that all of its time is counted.
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ >"$0" && exec "$@""#]).arg(own.join("cgroup.procs")).arg(&place.vzd);
        command.args(["run", "--settle", "0", "--cgroup-root", &cgroup, "--criu", CRIU]);
        let directories = [("--manifests", &manifests), ("--state-dir", &state), ("--run-dir", &run)];
        command.args(directories.iter().flat_map(|(option, path)| [option.as_ref(), path.as_os_str()]));
        let output = messages.try_clone().context(log.display())?;
        let child =
            command.stdin(Stdio::null()).stdout(output).stderr(messages).spawn().context("vzd run")?;
        let (vzd, template) = (place.vzd.clone(), place.template.clone());
        let meters = [Meter::new(own), Meter::new(place.cpu_cgroup(&format!("ve-{purpose}")))];
        let mut controller = Controller {
            child,
            vzd,
            manifests,
            state,
            run,
            log,
            cgroup,
            template,
            wire: Wire::None,
            limits: BTreeMap::new(),
            meters,
        };
        controller.until(Duration::from_secs(300), |controller| controller.last_pass().is_ok())?;
        Ok(controller)
    }

    /// The same, whose VEs are connected.
    pub(crate) fn on(mut self, wire: Wire) -> Controller {
        self.wire = wire;
        self
    }

    /// A command by which others reach this vzd, in its network.
    pub(crate) fn as_seen_from_elsewhere(&self) -> String {
        let directories =
            [("MANIFESTS", &self.manifests), ("STATE_DIR", &self.state), ("RUN_DIR", &self.run)];
        let directories = directories.map(|(name, path)| format!("VZD_{name}={}", path.display())).join(" ");
        format!(
            "nsenter --net=/proc/{}/ns/net env {directories} VZD_CRIU={CRIU} VZD_CGROUP_ROOT={} {}",
            self.pid(),
            self.cgroup,
            self.vzd.display()
        )
    }

    /// Process id of the controller.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A manifest of VE `id`.
    pub(crate) fn manifest(&self, id: usize, state: &str, more: &str) -> String {
        manifest(&self.template.display().to_string(), id, state, more)
    }

    /// Puts a manifest in place by a rename; the time is right before it.
    pub(crate) fn put(&self, id: usize, text: &str) -> Result<Duration> {
        let name = file_name(id);
        let staged = self.manifests.join(format!(".{name}.tmp"));
        std::fs::write(&staged, text).context(&name)?;
        self.rename(&staged, &name)
    }

    /// The same with the text on disk before, as careful writers have it: the rename has not to wait for that.
    pub(crate) fn put_synced(&self, id: usize, text: &str) -> Result<Duration> {
        let name = file_name(id);
        let staged = self.manifests.join(format!(".{name}.tmp"));
        std::fs::write(&staged, text).context(&name)?;
        std::fs::File::open(&staged).and_then(|file| file.sync_all()).context(&name)?;
        self.rename(&staged, &name)
    }

    fn rename(&self, staged: &Path, name: &str) -> Result<Duration> {
        let ordered = payload::now();
        std::fs::rename(staged, self.manifests.join(name)).context(name)?;
        Ok(ordered)
    }

    fn forget(&self, id: usize) -> Result<()> {
        std::fs::remove_file(self.manifests.join(file_name(id))).context(file_name(id))
    }

    /// The one place that knows how the controller tells of its passes.
    pub(crate) fn last_pass(&self) -> Result<Pass> {
        let answer: Value =
            serde_json::from_str(&self.ask(&["status", "-o", "json"])?).context("vzd status")?;
        let number = |field: &str| answer.pointer(&format!("/lastPass/{field}")).and_then(Value::as_u64);
        let numbers = (number("durationUs"), number("ves"), number("writes"), number("count"));
        match numbers {
            (Some(took), Some(ves), Some(writes), Some(count)) => {
                Ok(Pass { took: Duration::from_micros(took), ves, writes, count })
            }
            _ => fail(format!("vzd status -o json has no lastPass: {answer}")),
        }
    }

    /// Asks for a rescan and returns what it came to.
    pub(crate) fn pass(&mut self) -> Result<Pass> {
        let before = self.last_pass()?.count;
        let own = Pidfd::open(i32::try_from(self.pid()).context("pid")?).context("pidfd_open")?;
        own.signal(libc::SIGHUP).context("SIGHUP")?;
        self.until(Duration::from_secs(60), |controller| {
            controller.last_pass().is_ok_and(|pass| pass.count > before)
        })?;
        self.last_pass()
    }

    /// Runs a tool of OpenVZ's, or a program in a VE: they take their directories from the environment.
    pub(crate) fn tool(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.vzd);
        command.args(words).env("VZD_CGROUP_ROOT", &self.cgroup).env("VZD_MANIFESTS", &self.manifests);
        command.env("VZD_STATE_DIR", &self.state).env("VZD_RUN_DIR", &self.run);
        let output = command.stdin(Stdio::null()).output().context("vzd")?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => fail(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    /// Runs a command that asks the controller.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.vzd);
        command.args(arguments).args(["--cgroup-root", &self.cgroup, "--criu", CRIU]);
        let directories =
            [("--manifests", &self.manifests), ("--state-dir", &self.state), ("--run-dir", &self.run)];
        command.args(directories.iter().flat_map(|(option, path)| [option.as_ref(), path.as_os_str()]));
        let output = command.stdin(Stdio::null()).output().context("vzd")?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => fail(format!(
                "vzd {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    }

    /// Waits for something of it.
    pub(crate) fn until(&mut self, limit: Duration, done: impl Fn(&Controller) -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !done(self) {
            if let Some(status) = self.child.try_wait().context("vzd run")? {
                return fail(format!("vzd run ended ({status})\n{}", self.last_words()));
            }
            if Instant::now() > deadline {
                return fail(format!(
                    "vzd has not come to it within {} s\n{}",
                    limit.as_secs(),
                    self.last_words()
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Whether any VE has a cgroup left.
    fn has_cgroups(&self) -> bool {
        let of_ve = |entry: std::fs::DirEntry| {
            entry.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit())
        };
        let tops = hierarchies().into_iter().map(|top| top.join(&self.cgroup));
        tops.flat_map(std::fs::read_dir).flat_map(|entries| entries.flatten()).any(of_ve)
    }

    /// Waits until none of its VEs has control groups.
    pub(crate) fn wait_gone(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.has_cgroups() {
            if Instant::now() > deadline {
                return fail(format!("cgroups of VEs are left\n{}", self.last_words()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// A VE with the payload as its init.
pub(crate) fn manifest(template: &str, id: usize, state: &str, more: &str) -> String {
    format!(
        "apiVersion: vzd/v1\nkind: VE\nmetadata: {{name: bench-{id}}}\nspec:\n  template: dir:{template}\n  \
         init: {PAYLOAD}\n  state: {state}\n  stopTimeout: 10s\n{more}"
    )
}

/// The manifest's name in the directory.
pub(crate) fn file_name(id: usize) -> String {
    format!("bench-{id}.yaml")
}

impl Peer for Controller {
    fn name(&self) -> &'static str {
        "vzd"
    }

    fn start(&mut self, id: usize) -> Result<Run> {
        let (mut runs, _) = self.start_many(id..id + 1)?;
        runs.pop().ok_or("no VE").context("start")
    }

    fn stop(&mut self, run: Run) -> Result<Duration> {
        let text = self.manifest(run.id, "absent", "");
        let start = Instant::now();
        self.put(run.id, &text)?;
        ended(&run.init)?;
        let took = start.elapsed();
        self.wait_gone()?;
        self.forget(run.id)?;
        Ok(took)
    }

    fn start_many(&mut self, ids: std::ops::Range<usize>) -> Result<(Vec<Run>, Duration)> {
        let texts: Vec<(usize, String)> =
            ids.clone().map(|id| (id, self.manifest(id, "running", &self.wire.lines(id)))).collect();
        let known: HashSet<i32> = payload::known();
        let mut first = None;
        for (id, text) in &texts {
            let ordered = self.put(*id, text)?;
            first.get_or_insert(ordered);
        }
        let first = first.unwrap_or_default();
        let waited = payload::wait_for(ids.len(), &known, Duration::from_secs(60));
        let started = waited.context(format!("vzd's log ends with\n{}\n", self.last_words()))?;
        let last = started.iter().map(|payload| payload.started).max().unwrap_or_default();
        // Which payload is which VE's doesn't matter: they are stopped together.
        let runs = ids.zip(&started).map(|(id, payload)| {
            let init = Pidfd::open(payload.pid).context("pidfd_open")?;
            Ok(Run { id, init, took: payload.started.saturating_sub(first) })
        });
        Ok((runs.collect::<Result<Vec<Run>>>()?, last.saturating_sub(first)))
    }

    fn stop_many(&mut self, runs: Vec<Run>) -> Result<Duration> {
        let texts: Vec<(usize, String)> =
            runs.iter().map(|run| (run.id, self.manifest(run.id, "absent", ""))).collect();
        let start = Instant::now();
        texts.iter().try_for_each(|(id, text)| self.put(*id, text).map(drop))?;
        runs.iter().try_for_each(|run| ended(&run.init))?;
        self.wait_gone()?;
        let took = start.elapsed();
        runs.iter().try_for_each(|run| self.forget(run.id))?;
        Ok(took)
    }

    fn update(&mut self, id: usize, limit: Limit) -> Result<Duration> {
        let (group, line) = match limit {
            Limit::Memory(bytes) => ("memory", format!("  memory: {{ram: {bytes}}}\n")),
            Limit::CpuUnits(units) => ("cpu", format!("  cpu: {{cpuunits: {units}}}\n")),
            Limit::Tasks(tasks) => ("beancounters", format!("  beancounters: {{numproc: {tasks}}}\n")),
        };
        // The other limits stay as they are.
        self.limits.insert(group, line);
        let more: String = self.limits.values().map(String::as_str).collect();
        self.put_synced(id, &self.manifest(id, "running", &more))
    }

    fn cpu(&mut self) -> Result<Duration> {
        sys::reap(Some(self.pid()));
        self.meters.iter().map(Meter::used).sum()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // Whoever made the directory and the cgroup ends what is left in them.
        if let Ok(own) =
            i32::try_from(self.pid()).context("pid").and_then(|pid| Pidfd::open(pid).context("pidfd_open"))
        {
            drop(own.signal(libc::SIGTERM));
            if !own.wait(Duration::from_secs(5)).unwrap_or(false) {
                drop(self.child.kill());
            }
        }
        drop(self.child.wait());
    }
}
