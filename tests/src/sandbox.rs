//! A world of its own for one test: directories, a control group root, VEs; all of it goes when it is dropped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::run::Ended;
use crate::{Daemon, LONG, Must, VeStatus, eventually, slow, sweep, template, vzd_binary, within};

/// Lines of the controller's log that a failing test shows.
const LOG_LINES: usize = 60;

/// Where `cargo xtask setup` puts CRIU: not on the machine's PATH, since it is of another release of Debian.
pub const CRIU: &str = "/usr/local/lib/vzd/criu/criu";

/// Directories and names that nothing else on the machine uses.
pub struct Sandbox {
    dir: PathBuf,
    cgroup_root: String,
    template: OnceLock<PathBuf>,
    /// The settle time that vzd is given, in milliseconds.
    pub settle: u32,
    /// What its host is called; the machine's name where that is empty.
    pub host: &'static str,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// Makes one. Needs root.
    pub fn new() -> Sandbox {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let name = format!("vzdt-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
            let dir = std::env::temp_dir().join(&name);
            // Left by a run that was killed and had the same number: its VEs may be there as well.
            if sweep::exists(&name) || std::fs::create_dir(&dir).is_err() {
                continue;
            }
            for part in ["manifests", "host"] {
                std::fs::create_dir(dir.join(part)).must("make the sandbox");
            }
            return Sandbox { dir, cgroup_root: name, template: OnceLock::new(), settle: 0, host: "" };
        }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The manifests.
    pub fn manifests(&self) -> PathBuf {
        self.dir.join("manifests")
    }

    /// vzd's records.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// vzd's sockets.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// A directory of the host for mounts into VEs; made when it isn't there.
    pub fn host_dir(&self, name: &str) -> PathBuf {
        let dir = self.dir.join("host").join(name);
        std::fs::create_dir_all(&dir).must("make a directory to be mounted");
        dir
    }

    /// Where it has action scripts, once a test makes the directory.
    pub fn scripts(&self) -> PathBuf {
        self.dir.join("scripts")
    }

    /// Its certificates, once a test has some issued.
    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// Where its vzd looks names up, once a test makes the file; the machine's until then.
    pub fn resolv_conf(&self) -> PathBuf {
        self.dir.join("resolv.conf")
    }

    /// Its name in every control group hierarchy.
    pub fn cgroup_root(&self) -> &str {
        &self.cgroup_root
    }

    /// The version 2 group of a VE.
    pub fn cgroup(&self, ctid: u64) -> PathBuf {
        sweep::v2().join(&self.cgroup_root).join(ctid.to_string())
    }

    /// Groups of VEs that there are now, in any hierarchy.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        sweep::groups_below(&self.cgroup_root)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("controller.log")
    }

    /// What the controllers logged so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Source of a template with busybox and the guest program, as manifests name it.
    pub fn template(&self) -> String {
        format!("dir:{}", self.template_dir().display())
    }

    /// The directory of that template, for a test that adds to it before the first VE is made.
    pub fn template_dir(&self) -> &Path {
        self.template.get_or_init(|| {
            let dir = self.dir.join("template");
            template::make(&dir);
            dir
        })
    }

    // -- running vzd

    /// `vzd` with these words and this sandbox's directories.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(vzd_binary());
        command.args(words).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8").env("NO_COLOR", "1");
        command.env("VZD_MANIFESTS", self.manifests()).env("VZD_STATE_DIR", self.state_dir());
        command.env("VZD_RUN_DIR", self.run_dir()).env("VZD_CGROUP_ROOT", &self.cgroup_root);
        command.env("VZD_CRIU", CRIU).env("VZD_SCRIPTS", self.scripts());
        command.env("VZD_PKI", self.pki());
        if !self.host.is_empty() {
            command.env("VZD_HOST", self.host);
        }
        if self.resolv_conf().exists() {
            command.env("VZD_RESOLV_CONF", self.resolv_conf());
        }
        command.env("VZD_SETTLE", self.settle.to_string()).env("VZD_LOG", "debug");
        command
    }

    /// Runs `vzd` to its end with nothing to read.
    #[track_caller]
    pub fn vzd(&self, words: &[&str]) -> Ended {
        Ended::of(&mut self.command(words))
    }

    /// Runs `vzd` to its end, giving it `input` to read.
    #[track_caller]
    pub fn vzd_with_input(&self, words: &[&str], input: &[u8]) -> Ended {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().must("run vzd");
        let mut stdin = child.stdin.take().must("its standard input");
        let input = input.to_vec();
        // A program that doesn't read all of it closes the pipe early.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().must("wait for vzd");
        drop(writer.join());
        Ended::new(&command, output)
    }

    /// One pass without a controller, or by it; everything must go well.
    #[track_caller]
    pub fn apply(&self) -> Ended {
        self.vzd(&["apply"]).ok()
    }

    /// Starts a controller and waits until it answers.
    #[track_caller]
    pub fn daemon(&self) -> Daemon<'_> {
        Daemon::start(self, |_| {}).ready()
    }

    /// Starts a controller that is expected to end by itself; waits for nothing.
    pub fn daemon_with(&self, configure: impl FnOnce(&mut Command)) -> Daemon<'_> {
        Daemon::start(self, configure)
    }

    // -- manifests

    /// Writes a file into the manifest directory, by an atomic rename.
    pub fn write(&self, file: &str, text: &str) {
        let temporary = self.manifests().join(format!(".{file}.new"));
        std::fs::write(&temporary, text).must(format!("write {file}"));
        std::fs::rename(&temporary, self.manifests().join(file)).must(format!("rename {file}"));
    }

    /// Takes a file out of the manifest directory.
    pub fn unlink(&self, file: &str) {
        std::fs::remove_file(self.manifests().join(file)).must(format!("remove {file}"));
    }

    /// Writes `<name>.yaml` with a VE of the test template whose init is the guest program; `spec` is laid over that,
    /// and a `null` takes a default away.
    pub fn ve(&self, name: &str, spec: Value) {
        self.write(&format!("{name}.yaml"), &self.document(name, spec));
    }

    /// The text of such a manifest. JSON is YAML.
    pub fn document(&self, name: &str, spec: Value) -> String {
        self.labelled(name, &json!({}), spec)
    }

    /// The same with labels.
    pub fn labelled(&self, name: &str, labels: &Value, spec: Value) -> String {
        let mut whole =
            json!({ "template": self.template(), "init": ["/bin/guest", "init"], "stopTimeout": "10s" });
        if let (Some(whole), Value::Object(spec)) = (whole.as_object_mut(), spec) {
            whole.extend(spec);
            whole.retain(|_, value| !value.is_null());
        }
        let metadata = json!({ "name": name, "labels": labels });
        let document = json!({ "apiVersion": "vzd/v1", "kind": "VE", "metadata": metadata, "spec": whole });
        serde_json::to_string_pretty(&document).must("write a manifest") + "\n"
    }

    // -- looking at VEs

    /// A VE's document; none where there is no such VE.
    pub fn status(&self, name: &str) -> Option<VeStatus> {
        let ended = self.vzd(&["get", name, "-o", "json"]);
        (ended.code == 0).then(|| VeStatus(ended.json()))
    }

    /// Every VE's document, those in quarantine too.
    pub fn list(&self) -> Vec<VeStatus> {
        let list = self.vzd(&["get", "--all", "-o", "json"]).ok().json();
        list["items"].as_array().cloned().unwrap_or_default().into_iter().map(VeStatus).collect()
    }

    /// Waits until a VE is so, and returns how it then is.
    #[track_caller]
    pub fn until(&self, name: &str, what: &str, so: impl Fn(&VeStatus) -> bool) -> VeStatus {
        let mut last = None;
        let start = std::time::Instant::now();
        loop {
            last = self.status(name).or(last);
            match &last {
                Some(status) if so(status) => return status.clone(),
                _ => assert!(start.elapsed() < slow(LONG), "VE {name} never came to be {what}: {last:#?}"),
            }
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// Waits until a VE is Ready, and returns its init's pid.
    #[track_caller]
    pub fn until_ready(&self, name: &str) -> u32 {
        let status = self.until(name, "Ready", |ve| ve.is("Ready") && ve.init_pid().is_some());
        status.init_pid().must("the pid of a running VE's init")
    }

    /// Waits until there is no VE of this name.
    #[track_caller]
    pub fn until_gone(&self, name: &str) {
        eventually(format!("VE {name} is gone"), || self.status(name).is_none());
    }

    /// The pid of a running VE's init.
    #[track_caller]
    pub fn init_pid(&self, name: &str) -> u32 {
        self.status(name).and_then(|ve| ve.init_pid()).must(format!("the init of VE {name}"))
    }

    /// The first of a running VE's ids on the host.
    #[track_caller]
    pub fn first_id(&self, name: &str) -> u32 {
        let map = format!("/proc/{}/uid_map", self.init_pid(name));
        let map = std::fs::read_to_string(map).must("read the ids of a VE");
        let first = map.split_whitespace().nth(1).and_then(|first| first.parse().ok());
        first.must(format!("the ids of VE {name}"))
    }

    /// Runs a program in a VE.
    #[track_caller]
    pub fn exec(&self, name: &str, words: &[&str]) -> Ended {
        let all: Vec<&str> = ["exec", name, "--"].iter().chain(words).copied().collect();
        self.vzd(&all)
    }

    /// Runs a shell script in a VE, which must go well, and returns what it printed, without the last newline.
    #[track_caller]
    pub fn sh(&self, name: &str, script: &str) -> String {
        self.exec(name, &["/bin/sh", "-c", script]).ok().stdout.trim_end().to_owned()
    }

    /// Puts the guest program into the /usr/local/bin of a VE whose template has none.
    #[track_caller]
    pub fn put_guest(&self, name: &str) {
        let program = std::fs::read(crate::guest::guest_binary()).must("read the guest program");
        let put = "cat > /usr/local/bin/guest; chmod 755 /usr/local/bin/guest";
        self.vzd_with_input(&["exec", name, "--", "/bin/sh", "-c", put], &program).ok();
    }

    /// Sends a signal to a VE's init from inside, with which that may end before the sender has.
    #[track_caller]
    pub fn signal_init(&self, name: &str, signal: &str) {
        let ended = self.exec(name, &["kill", &format!("-{signal}"), "1"]);
        assert!([0, 128 + 9].contains(&ended.code), "{ended:?}");
    }

    /// Runs a verb of the guest program in a VE and returns its JSON.
    #[track_caller]
    pub fn guest(&self, name: &str, words: &[&str]) -> Value {
        let all: Vec<&str> = ["/bin/guest"].iter().chain(words).copied().collect();
        self.exec(name, &all).ok().json()
    }

    /// Waits until an event with this reason is told of a VE, and returns it.
    #[track_caller]
    pub fn until_event(&self, name: &str, reason: &str) -> Value {
        within(LONG, format!("event {reason} of VE {name}"), || {
            self.events(name).into_iter().find(|event| event["reason"] == reason)
        })
    }

    /// The events of a VE.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let list = self.vzd(&["events", name, "-o", "json"]).json();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    // -- doing harm

    /// Ends every process of the sandbox and takes its groups away, as a power cut does; files stay.
    pub fn power_cut(&self) {
        let left = sweep::end_all(&self.cgroup_root, &self.run_dir());
        assert!(left.is_empty(), "{left:?}");
    }

    /// Changes every record of the ledger on disk, while nobody uses it.
    pub fn edit_records(&self, change: impl Fn(&mut Value)) {
        for entry in std::fs::read_dir(self.state_dir().join("ledger")).must("list the ledger") {
            let path = entry.must("list the ledger").path();
            let text = std::fs::read_to_string(&path).must("read a record");
            let mut record = serde_json::from_str(&text).must("read a record");
            change(&mut record);
            std::fs::write(&path, record.to_string()).must("write a record");
        }
    }

    fn tell(&self) {
        let mut text = format!("\n---- sandbox {}\n", self.dir.display());
        text += &self.vzd(&["get", "--all", "-o", "wide"]).stdout;
        let log = self.log_text();
        let lines: Vec<&str> = log.lines().collect();
        text += &lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        text += "\n----\n";
        drop(std::io::stderr().write_all(text.as_bytes()));
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            self.tell();
            if std::env::var_os("VZD_TEST_KEEP").is_some() {
                return;
            }
        }
        let left = sweep::clear(&self.cgroup_root, &self.run_dir(), &self.dir);
        // A second panic would end the whole run.
        assert!(failed || left.is_empty(), "the sandbox could not be cleared: {left:?}");
    }
}
