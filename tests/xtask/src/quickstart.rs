//! `cargo xtask quickstart`: from nothing to running VEs, an edit applied live, and a clean stop, as one would type it.
//!
//! Must leave nothing behind, even on failure, and must not touch a vzd that is installed: all of it is in directories
//! and a cgroup of its own.

use std::path::Path;
use std::time::Duration;

use crate::clean::World;
use crate::demo::Session;
use crate::run::{Context, Failure, Result, cargo, fail, is_root, root, run as succeed, shown, target};
use crate::setup;

const VE: &str = "web01";
const OLD_NAME: &str = "web01.example.net";
const NEW_NAME: &str = "shop.example.net";

pub(crate) fn run() -> Result<()> {
    if !is_root() {
        return fail("VEs need root: run it as root");
    }
    setup::run(setup::For::Quickstart)?;
    let mut build = cargo(&["build", "--release", "--package", "vzd"]);
    println!("$ {}", shown(&build));
    succeed(&mut build)?;

    let world = World::new("quickstart")?;
    let session = prepare(&world)?;
    let done = play(&session, &world);
    drop(world);
    done?;
    println!(
        "\n# Everything is gone again. What it did, step by step: README.md. Your own: /etc/vzd/manifests."
    );
    Ok(())
}

fn prepare(world: &World) -> Result<Session> {
    let directory = &world.directory;
    let manifests = directory.join("manifests");
    std::fs::create_dir_all(&manifests).context(manifests.display())?;
    copy(&root().join("examples/quickstart"), &manifests)?;
    let path = |name: &str| directory.join(name).display().to_string();
    Ok(Session {
        vzd: target().join("release/vzd"),
        directory: directory.clone(),
        environment: vec![
            ("VZD_MANIFESTS", path("manifests")),
            ("VZD_STATE_DIR", path("state")),
            ("VZD_RUN_DIR", path("run")),
            ("VZD_CGROUP_ROOT", world.cgroup.clone()),
        ],
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).context(from.display())? {
        let entry = entry.context(from.display())?;
        std::fs::copy(entry.path(), to.join(entry.file_name())).context(entry.path().display())?;
    }
    Ok(())
}

fn play(session: &Session, world: &World) -> Result<()> {
    session.say("The manifests are a directory of files; here the controller gets one of its own.");
    session.export();
    session.shell(&["ls", "manifests"])?;
    session.shell(&["cat", &format!("manifests/{VE}.yaml")])?;
    session.say("What would it do?");
    session.vzd(&["validate"])?;
    session.vzd(&["plan"])?;

    session.say("The controller makes it so, and keeps it so.");
    let mut controller = session.start(&["run", "--cgroup-root", &world.cgroup], "vzd.log")?;
    let played = running(session).and_then(|()| controller.still_runs());
    played.map_err(|Failure(why)| {
        Failure(format!("{why}\n\nthe controller's last messages:\n{}", controller.last_words()))
    })?;
    session.say("The controller itself may come and go at any time; this one ends now.");
    println!("$ kill %1");
    controller.stop(Duration::from_secs(30))
}

fn running(session: &Session) -> Result<()> {
    // The socket is there a moment after the start.
    for _ in 0..100 {
        if Path::new(&session.environment[2].1).join("vzd.sock").exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    session.vzd(&["wait", VE, "--for", "condition=Ready", "--timeout", "60s"])?;
    session.vzd(&["get"])?;
    session.vzd(&["exec", VE, "--", "hostname"])?;
    session.vzd(&["exec", VE, "--", "ps"])?;
    let before = init_pid(session)?;

    session.say("An edit is applied live.");
    session.shell(&["sed", "-i", &format!("s/{OLD_NAME}/{NEW_NAME}/"), &format!("manifests/{VE}.yaml")])?;
    let took = session.until(&["exec", VE, "--", "hostname"], NEW_NAME, Duration::from_secs(20))?;
    session.vzd(&["exec", VE, "--", "hostname"])?;
    if init_pid(session)? != before {
        return fail("the VE was restarted for a new host name");
    }
    println!(
        "# seen inside {} ms after the edit; its init is still process {before} of the host",
        took.as_millis()
    );
    session.vzd(&["events"])?;
    session.vzd(&["plan"])?;

    session.say("A clean stop.");
    session.shell(&["sh", "-c", "sed -i 's/^spec:/spec:\\n  state: stopped/' manifests/*.yaml"])?;
    wait_stopped(session)?;
    session.vzd(&["get"])
}

fn all(session: &Session) -> Result<Vec<serde_json::Value>> {
    let answer = session.ask(&["get", "-o", "json"])?;
    let value: serde_json::Value = serde_json::from_str(&answer).context("vzd get -o json")?;
    // A list, or an object with a list in it.
    let list = value.as_array().or_else(|| value.get("items")?.as_array()).cloned();
    Ok(list.unwrap_or_else(|| vec![value]))
}

fn init_pid(session: &Session) -> Result<u64> {
    let answer = session.ask(&["get", VE, "-o", "json"])?;
    let value: serde_json::Value = serde_json::from_str(&answer).context("vzd get -o json")?;
    match value.pointer("/status/initPid").and_then(serde_json::Value::as_u64) {
        Some(pid) => Ok(pid),
        None => fail(format!("{VE} has no init: {answer}")),
    }
}

fn wait_stopped(session: &Session) -> Result<()> {
    for _ in 0..600 {
        if all(session)?.iter().all(|ve| ve.pointer("/status/initPid").is_none()) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    fail("some VEs still run a minute after their manifests said stopped")
}
