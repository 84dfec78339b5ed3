//! What people and programs see of what VEs use: `vzd top`, `vzd ubc` and metrics tell the kernel's numbers.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver;

use serde_json::{Value, json};
use vzd_tests::{Guarded, LONG, NetLab, Sandbox, eventually, needs, within};

/// A VE that is busy, one that is not, one that does not run.
fn three(sandbox: &Sandbox) {
    sandbox.ve("busy", json!({ "beancounters": { "numproc": 20 } }));
    sandbox.ve("idle", json!({}));
    sandbox.ve("off", json!({ "state": "stopped" }));
}

fn burn(sandbox: &Sandbox) {
    sandbox.sh("busy", "(while :; do :; done) >/dev/null 2>&1 </dev/null & true");
}

fn row<'a>(rows: &'a Value, name: &str) -> &'a Value {
    rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap()
}

#[test]
fn top_tells_who_is_busy_in_batch_mode_and_as_json() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    three(&sandbox);
    let _daemon = sandbox.daemon();
    sandbox.until_ready("busy");
    sandbox.until_ready("idle");
    burn(&sandbox);
    let rows = sandbox.vzd(&["top", "--once", "-d", "1", "-o", "json"]).ok().json();
    assert_eq!(rows.as_array().unwrap().len(), 3);
    assert_eq!(rows[0]["name"], "busy", "{rows}");
    let percent = |name: &str| row(&rows, name)["cpuPercent"].as_f64().unwrap();
    assert!(percent("busy") > 10.0 && percent("busy") < 110.0 && percent("idle") < percent("busy"), "{rows}");
    assert!(row(&rows, "busy")["processes"].as_u64().unwrap() >= 2);
    assert!(row(&rows, "idle")["memoryBytes"].as_u64().unwrap() > 0);
    assert_eq!(
        (&row(&rows, "off")["state"], &row(&rows, "off")["cpuPercent"]),
        (&json!("stopped"), &Value::Null)
    );
    // What was refused is told.
    let fork = "(i=0; while [ $i -lt 40 ]; do sleep 1 & i=$((i+1)); done) 2>/dev/null; true";
    eventually("something is refused", || {
        drop(sandbox.exec("busy", &["/bin/sh", "-c", fork]));
        refused(&sandbox) > 0
    });
    let rows = sandbox.vzd(&["top", "busy", "--once", "-d", "0.2", "-o", "json"]).ok().json();
    assert!(rows[0]["failures"].as_u64().unwrap() >= 1, "{rows}");
    let table = sandbox.vzd(&["top", "--once", "-d", "0.2", "--sort", "name"]).ok().stdout;
    let names: Vec<_> =
        table.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!(names[..4], ["NAME", "busy", "idle", "off"], "{table}");
    sandbox.vzd(&["top", "-d", "0"]).ends(64);
}

fn refused(sandbox: &Sandbox) -> u64 {
    let all = sandbox.vzd(&["ubc", "busy", "-o", "json"]).ok().json();
    all[0]["counters"].as_array().unwrap().iter().map(|is| is["failcnt"].as_u64().unwrap()).sum()
}

#[test]
fn top_draws_a_screen_takes_keys_and_leaves_the_terminal_as_it_was() {
    needs!(Root, Cgroups, Busybox, Script);
    let sandbox = Sandbox::new();
    three(&sandbox);
    let _daemon = sandbox.daemon();
    sandbox.until_ready("busy");
    sandbox.until_ready("idle");
    burn(&sandbox);
    let mut screen = Screen::of(&sandbox, &["top", "-d", "0.3"]);
    let first = screen.until("a screen with rates", |text| {
        text.contains("\x1b[?1049h") && text.contains("3 VEs, 2 running")
    });
    assert!(first.contains("CPU%"), "{first:?}");
    screen.press("n");
    let order = |text: &str, first: &str, then: &str| {
        let screen = text.rsplit("\x1b[H").next().unwrap_or_default();
        matches!((screen.find(first), screen.find(then)), (Some(first), Some(then)) if first < then)
    };
    screen.until("sorted by name", |text| order(text, "busy ", "off "));
    screen.press("r");
    screen.until("sorted the other way", |text| order(text, "off ", "busy "));
    screen.press("q");
    let last = screen.until("it ends", |text| text.contains("ended 0"));
    assert!(last.contains("\x1b[?25h\x1b[?1049l"), "{last:?}");
    assert_eq!(screen.end(), 0);
}

#[test]
fn counters_are_shown_again_and_again_with_what_was_refused_meanwhile() {
    needs!(Root, Cgroups, Busybox, Script);
    let sandbox = Sandbox::new();
    three(&sandbox);
    let _daemon = sandbox.daemon();
    sandbox.until_ready("busy");
    let mut screen = Screen::of(&sandbox, &["ubc", "busy", "--watch", "1"]);
    // Each look begins at the top of an empty screen.
    let whole = |text: &str| text.rsplit("\x1b[H\x1b[2J").nth(1).unwrap_or_default().to_owned();
    screen.until("two looks", |text| {
        text.matches("\x1b[H\x1b[2J").count() >= 3 && whole(text).contains("numproc")
    });
    assert_eq!(sandbox.drive("busy", "processes", 40).errno.as_deref(), Some("EAGAIN"));
    let told = screen.until("a refusal", |text| whole(text).contains("(+"));
    let line = whole(&told).lines().find(|line| line.contains("(+")).unwrap().to_owned();
    // All marks of its bar but one at most: who began to take them may have ended since.
    assert!(line.contains("numproc") && line.contains("#########"), "{line:?}");
    screen.until("no news", |text| whole(text).contains("numproc") && !whole(text).contains("(+"));
    screen.press("\x03");
    assert_eq!(screen.end(), 130);
}

/// A command of vzd on a terminal of its own.
struct Screen {
    script: Guarded,
    keys: ChildStdin,
    told: Receiver<String>,
    seen: String,
}

impl Screen {
    fn of(sandbox: &Sandbox, args: &[&str]) -> Self {
        let plain = sandbox.command(args);
        let words: Vec<_> = plain.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let line = format!(
            "stty rows 30 cols 200; {vzd} {words}; echo ended $?",
            vzd = plain.get_program().to_string_lossy(),
            words = words.join(" "),
        );
        let mut command = Command::new("script");
        command
            .args(["-qefc", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .env("TERM", "xterm");
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let mut script = Guarded::spawn(&mut command);
        let (keys, mut output) = (script.child.stdin.take().unwrap(), script.child.stdout.take().unwrap());
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                if tell.send(String::from_utf8_lossy(&bytes[..n]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { script, keys, told, seen: String::new() }
    }

    /// Waits until what came since the last time is as wanted.
    fn until(&mut self, what: &str, so: impl Fn(&str) -> bool) -> String {
        within(LONG, what, || {
            self.seen.extend(self.told.try_iter());
            so(&self.seen).then_some(())
        });
        std::mem::take(&mut self.seen)
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for its end, and tells its exit code.
    fn end(mut self) -> i32 {
        drop(self.keys);
        self.script.wait(LONG)
    }
}

/// The answer to a question about metrics.
fn ask(mut stream: impl Read + Write, path: &str) -> String {
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: vzd\r\nconnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in {text}")).parse().unwrap()
}

/// What the VE has sent and received over each kind of link, by the host's ends.
#[test]
fn metrics_tell_what_went_over_links() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    let lan = json!([{ "name": "eth0", "bridge": "vmlan", "addresses": ["10.5.0.1/24"] }]);
    sandbox.ve("web", json!({ "network": { "addresses": ["192.0.2.101"], "interfaces": lan } }));
    // Another, since of two links to one net only one is taken to answer by.
    let wire = json!([{ "name": "eth1", "parent": "eth0", "addresses": ["192.0.2.150/24"] }]);
    sandbox.ve("wire", json!({ "network": { "interfaces": wire } }));
    let socket = sandbox.run_dir().join("metrics.sock");
    let _daemon = sandbox.daemon_with(|command| {
        command.env("VZD_METRICS", &socket);
    });
    sandbox.until_ready("web");
    sandbox.until_ready("wire");
    let of = |name: &str, ve: &str, link: &str| {
        let text = ask(UnixStream::connect(&socket).unwrap(), "/metrics");
        value(&text, &format!(r#"vzd_ve_network_{name}_total{{ve="{ve}",interface="{link}"}}"#))
    };
    for (ve, link, address) in [("web", "venet0", "192.0.2.101"), ("wire", "eth1", "192.0.2.150")] {
        let before = ["received", "sent"].map(|way| of(&format!("{way}_packets"), ve, link));
        assert!(lab.client_reaches(address));
        for (way, before) in ["received", "sent"].into_iter().zip(before) {
            assert!(of(&format!("{way}_packets"), ve, link) > before, "{link} {way}");
            assert!(of(&format!("{way}_bytes"), ve, link) >= 84.0, "{link} {way}");
        }
    }
    let sent = of("sent_packets", "web", "eth0");
    sandbox.sh("web", "ping -c 1 -W 1 10.5.0.2 || true");
    assert!(of("sent_packets", "web", "eth0") > sent, "nothing was asked over eth0");
}

#[test]
fn metrics_tell_the_kernels_numbers_and_only_where_they_are_wanted() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    three(&sandbox);
    let socket = sandbox.run_dir().join("metrics.sock");
    let daemon = sandbox.daemon_with(|command| {
        command.env("VZD_METRICS", &socket);
    });
    sandbox.until_ready("busy");
    let metrics = || ask(UnixStream::connect(&socket).unwrap(), "/metrics");
    let text = metrics();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("text/plain; version=0.0.4"), "{text}");
    assert_eq!(value(&text, r#"vzd_ve_state{ve="busy",state="running"}"#), 1.0);
    assert_eq!(value(&text, r#"vzd_ve_state{ve="off",state="stopped"}"#), 1.0);
    assert_eq!(value(&text, r#"vzd_ve_ubc_limit{ve="busy",counter="numproc",unit="items"}"#), 20.0);
    let processes = value(&text, r#"vzd_ve_processes{ve="busy"}"#);
    assert!(
        processes >= 1.0
            && processes == value(&text, r#"vzd_ve_ubc_held{ve="busy",counter="numproc",unit="items"}"#)
    );
    assert!(value(&text, r#"vzd_ve_passes_total{ve="busy"}"#) >= 1.0);
    assert!(!text.contains(r#"vzd_ve_cpu_seconds_total{ve="off"}"#), "{text}");
    let used = value(&text, r#"vzd_ve_cpu_seconds_total{ve="busy"}"#);
    burn(&sandbox);
    eventually("the CPU time rises", || {
        value(&metrics(), r#"vzd_ve_cpu_seconds_total{ve="busy"}"#) > used + 0.1
    });
    // Nothing but metrics is there.
    assert!(ask(UnixStream::connect(&socket).unwrap(), "/v1/ves").starts_with("HTTP/1.1 404"));
    daemon.stop();
    // A controller that comes after one takes its place; by itself it serves none.
    let _daemon = sandbox.daemon();
    assert!(UnixStream::connect(&socket).is_err());
    for wrong in ["0.0.0.0:9753", "10.0.0.1:1", "localhost", "vzd.sock"] {
        sandbox.vzd(&["run", "--metrics", wrong]).ends(64).says("--metrics");
    }
}
