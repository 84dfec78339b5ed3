//! Programs in VEs from outside: `exec`, `enter` and `console`.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use vzd_tests::{Guarded, LONG, Process, Sandbox, eventually, needs, within};

fn running() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox
}

#[test]
fn the_status_is_the_programs() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    for code in [0, 1, 3, 77, 255] {
        sandbox.exec("web", &["/bin/sh", "-c", &format!("exit {code}")]).ends(code);
    }
    sandbox.exec("web", &["/bin/sh", "-c", "kill -TERM $$"]).ends(128 + 15);
    sandbox.exec("web", &["/no/such/program"]).ends(127);
    sandbox.exec("web", &["no-such-program"]).ends(127);
    sandbox.exec("web", &["/etc/passwd"]).ends(126);
    sandbox.exec("web", &["/etc"]).ends(126);
    sandbox.exec("nobody", &["true"]).ends(125);
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.exec("web", &["true"]).ends(125).says("does not run");
}

#[test]
fn streams_pass_every_byte_and_stay_apart() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    let bytes: Vec<u8> = (0..1_000_003_u64).map(|n| u8::try_from(n * 7919 % 251).unwrap()).collect();
    let mut command = sandbox.command(&["exec", "web", "--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &sent).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.stdout == bytes, "{} of {} bytes came back", output.stdout.len(), bytes.len());
    let both = sandbox.exec("web", &["/bin/sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    // Without anything to read it ends at once.
    sandbox.exec("web", &["cat"]).ok();
    assert_eq!(sandbox.vzd_with_input(&["exec", "web", "--", "wc", "-c"], b"12345").ok().stdout.trim(), "5");
}

#[test]
fn signals_reach_the_program() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::HUP, "HUP")] {
        let script = format!("trap 'exit 42' {name}; echo ready; while :; do sleep 0.05; done");
        let mut command = sandbox.command(&["exec", "web", "--", "/bin/sh", "-c", &script]);
        let mut exec = Guarded::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let mut said = [0; 6];
        exec.child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        Process::open(exec.child.id()).unwrap().signal(signal);
        assert_eq!(exec.wait(LONG), 42, "{name}");
    }
}

#[test]
fn directory_environment_and_user() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    let words = [
        "exec",
        "web",
        "-w",
        "/var/tmp",
        "-e",
        "GREETING=hello there",
        "--",
        "/bin/sh",
        "-c",
        "pwd; echo $GREETING; id -u",
    ];
    assert_eq!(sandbox.vzd(&words).ok().stdout, "/var/tmp\nhello there\n0\n");
}

/// Runs vzd on a terminal of its own.
fn on_terminal(sandbox: &Sandbox, words: &str) -> (i32, String) {
    let vzd = sandbox.command(&[]);
    let mut command = Command::new("/usr/bin/script");
    let line = format!("{} {words}", vzd.get_program().to_string_lossy());
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).stdin(Stdio::null()).env_clear();
    command.envs(vzd.get_envs().filter_map(|(key, value)| Some((key, value?)))).env("TERM", "xterm");
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n"))
}

#[test]
fn on_a_terminal_the_program_gets_one_of_the_ves() {
    needs!(Root, Cgroups, Busybox, Script);
    let sandbox = running();
    assert_eq!(sandbox.exec("web", &["tty"]).ends(1).stdout.trim(), "not a tty");
    let (code, text) =
        on_terminal(&sandbox, "exec web -- /bin/sh -c 'tty; test -t 0 && test -t 1 && test -t 2; exit 5'");
    assert!(text.contains("/dev/pts/"), "{text}");
    assert_eq!(code, 5, "{text}");
    let (_, text) = on_terminal(&sandbox, "exec -T web -- tty");
    assert!(text.contains("not a tty"), "{text}");
    // The terminal is in the VE's own devpts, which has the node.
    let (code, text) = on_terminal(
        &sandbox,
        "exec web -- /bin/sh -c 'test -c $(tty) && ps -o tty= -p $$ >/dev/null; test -c $(tty)'",
    );
    assert_eq!(code, 0, "{text}");
}

#[test]
fn many_ves_at_once_keep_their_output_apart() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    for (name, role) in [("a", "web"), ("b", "web"), ("c", "db")] {
        sandbox.write(&format!("{name}.yaml"), &sandbox.labelled(name, &json!({ "role": role }), json!({})));
    }
    sandbox.ve("off", json!({ "state": "stopped" }));
    sandbox.apply();
    let all = sandbox
        .vzd(&["exec", "--all", "-j", "2", "--", "/bin/sh", "-c", "echo I am $(hostname); echo second"])
        .ok();
    for name in ["a", "b", "c"] {
        let lines: Vec<_> =
            all.stdout.lines().filter(|line| line.contains(&format!("I am {name}"))).collect();
        assert_eq!(lines.len(), 1, "{}", all.stdout);
        assert!(lines[0].starts_with(name), "{}", lines[0]);
    }
    assert_eq!(all.stdout.lines().count(), 6, "{}", all.stdout);
    let web = sandbox.vzd(&["exec", "-l", "role=web", "--", "hostname"]).ok();
    assert_eq!(web.stdout.lines().count(), 2, "{}", web.stdout);
    sandbox.vzd(&["exec", "--all", "--", "/bin/sh", "-c", "test $(hostname) != b || exit 9"]).ends(9);
}

#[test]
fn the_console_shows_and_takes() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let script = "echo first words; while read line; do echo got-$line; done";
    sandbox.ve("web", json!({ "init": ["/bin/sh", "-c", script], "stopTimeout": "100ms" }));
    sandbox.apply();
    eventually("what was said is kept", || {
        sandbox.vzd(&["console", "web", "--log"]).ok().stdout.contains("first words")
    });
    let mut command = sandbox.command(&["console", "web"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut console = Guarded::spawn(&mut command);
    std::io::Write::write_all(console.child.stdin.as_mut().unwrap(), b"hello\n").unwrap();
    let mut shown = console.child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let mut buffer = [0; 256];
        while !text.contains("got-hello") {
            match shown.read(&mut buffer) {
                Ok(n) if n > 0 => text += &String::from_utf8_lossy(&buffer[..n]),
                _ => break,
            }
        }
        text
    });
    within(LONG, "the console answers", || reader.is_finished().then_some(()));
    let text = reader.join().unwrap();
    assert!(text.contains("first words") && text.contains("got-hello"), "{text}");
    // A signal detaches; the VE doesn't notice.
    Process::open(console.child.id()).unwrap().signal(Signal::TERM);
    console.wait(Duration::from_secs(5));
    sandbox.init_pid("web");
}

#[test]
fn a_console_nobody_reads_blocks_nobody() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let told = sandbox.host_dir("told");
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i of a long story; i=$((i+1)); done; touch /mnt/told/done; exec /bin/guest init";
    let mount = json!([{ "source": told, "target": "/mnt/told", "idmap": true }]);
    sandbox.ve("web", json!({ "init": ["/bin/sh", "-c", script], "mounts": mount }));
    sandbox.apply();
    eventually("it has told it all", || told.join("done").exists());
    let log = sandbox.vzd(&["console", "web", "--log"]).ok();
    assert!(log.stdout.contains("line 19999 of"), "the end is kept");
}

#[test]
fn a_program_gets_the_system_call_filter_that_the_ve_was_started_with() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let profile = sandbox.host_dir("profiles").join("calls");
    std::fs::write(&profile, "sethostname\n").unwrap();
    sandbox.ve("web", json!({ "security": { "seccomp": profile } }));
    sandbox.apply();
    sandbox.vzd(&["exec", "web", "--", "hostname", "other"]).ends(1);
    for meanwhile in ["", "no_such_call\n"] {
        std::fs::write(&profile, meanwhile).unwrap();
        sandbox.vzd(&["exec", "web", "--", "hostname", "other"]).ends(1);
    }
    std::fs::remove_file(&profile).unwrap();
    sandbox.exec("web", &["true"]).ok();
    std::fs::write(&profile, "").unwrap();
    sandbox.vzd(&["restart", "web"]).ok();
    sandbox.exec("web", &["hostname", "other"]).ok();
}
