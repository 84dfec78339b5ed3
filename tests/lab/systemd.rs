//! A host whose init is systemd and on which vzd is installed as its package would: what boots, restarts and reboots do
//! to VEs. These tests have the host to themselves, and use the installed vzd with its own directories.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use vzd_tests::{Boot, LONG, Process, boot, eventually, needs, reboot_the_host, within};

const MANIFESTS: &str = "/etc/vzd/manifests";
/// Of the boot in which the VEs were made.
const KEPT: &str = "/root/boot-of-the-ves";

/// Runs a program of the host, which must go well, and returns what it printed.
#[track_caller]
fn host(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said.trim_end().to_owned()
}

fn write(name: &str, mut spec: Value) {
    spec["template"] = json!("tiny");
    put("VE", name, spec);
}

fn put(kind: &str, name: &str, spec: Value) {
    let document =
        json!({ "apiVersion": "vzd/v1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    std::fs::create_dir_all(MANIFESTS).unwrap();
    // Seen as a whole: the controller watches.
    let path = Path::new(MANIFESTS).join(format!("{name}.yaml"));
    std::fs::write(path.with_extension("tmp"), document.to_string()).unwrap();
    std::fs::rename(path.with_extension("tmp"), path).unwrap();
}

fn get(name: &str) -> Option<Value> {
    let output = Command::new("vzd").args(["get", name, "-o", "json"]).output().unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

fn pid(name: &str) -> Option<u32> {
    get(name)?["status"]["initPid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
}

#[track_caller]
fn until_ready(name: &str) -> u32 {
    within(LONG, format!("VE {name} is Ready"), || {
        let ve = get(name)?;
        let conditions = ve["status"]["conditions"].as_array()?;
        conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True").then_some(())?;
        pid(name)
    })
}

/// Starts the unit, and takes it and its VEs away again.
struct Installed;

impl Installed {
    fn start() -> Installed {
        host(&["systemctl", "enable", "--now", "vzd.service", "vzd-ves.service"]);
        Installed
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = |words: &[&str]| {
                let output = Command::new(words[0]).args(&words[1..]).output();
                output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
            };
            println!("{}", said(&["vzd", "get", "--all", "-o", "wide"]));
            println!("{}", said(&["vzd", "events"]));
            println!("{}", said(&["systemctl", "--no-pager", "status", "vzd.service"]));
            println!("{}", said(&["journalctl", "--no-pager", "-b", "-u", "vzd.service", "-n", "80"]));
        }
        // No VE's.
        drop(std::fs::remove_file(Path::new(MANIFESTS).join("host.yaml")));
        let names = std::fs::read_dir(MANIFESTS).into_iter().flatten().flatten();
        for entry in names.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "yaml")) {
            let name = entry.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
            write(&name, json!({ "state": "absent" }));
            let gone =
                within(LONG, format!("VE {name} is destroyed"), || pid(&name).is_none().then_some(true));
            drop((gone, std::fs::remove_file(entry.path())));
        }
        let units = ["vzd.service", "vzd-ves.service"];
        drop(Command::new("systemctl").args(["disable", "--now"]).args(units).status());
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap()
}

fn reboot() -> ! {
    std::fs::write(KEPT, boot_id()).unwrap();
    reboot_the_host()
}

fn rebooted() {
    assert_ne!(std::fs::read_to_string(KEPT).unwrap(), boot_id(), "the host has not been rebooted");
}

fn controller() -> u32 {
    host(&["systemctl", "show", "--value", "--property=MainPID", "vzd.service"]).parse().unwrap()
}

#[test]
fn ves_outlive_a_restart_and_a_kill_of_the_unit() {
    needs!(Root, CgroupV2, Systemd);
    let _installed = Installed::start();
    write("web", json!({}));
    write("db", json!({}));
    let before = ["web", "db"].map(until_ready);
    let first = controller();
    host(&["systemctl", "restart", "vzd.service"]);
    let second = controller();
    assert_ne!(first, second);
    assert_eq!(["web", "db"].map(until_ready), before, "after a restart");
    host(&["kill", "-KILL", &second.to_string()]);
    eventually("systemd starts another controller", || ![0, second].contains(&controller()));
    assert_eq!(["web", "db"].map(until_ready), before, "after a kill");
    host(&["systemctl", "stop", "vzd.service"]);
    assert!(before.iter().all(|pid| Process::open(*pid).is_some_and(|init| init.is_alive())), "after a stop");
    host(&["systemctl", "start", "vzd.service"]);
    assert_eq!(["web", "db"].map(until_ready), before, "after a start");
    assert_eq!(host(&["vzd", "exec", "web", "--", "hostname"]), "web");
}

#[test]
fn the_unit_is_well_made() {
    needs!(Root, Systemd);
    for unit in ["vzd.service", "vzd-ves.service"] {
        let file = format!("/usr/lib/systemd/system/{unit}");
        assert_eq!(host(&["systemd-analyze", "verify", "--man=no", &file]), "");
    }
    let _installed = Installed::start();
    // Ready means that the first pass is over: the socket answers.
    assert_eq!(host(&["systemctl", "is-active", "vzd.service"]), "active");
    host(&["vzd", "status"]);
    let delegated = host(&["systemctl", "show", "--value", "--property=Delegate", "vzd.service"]);
    assert_eq!(delegated, "yes");
}

#[test]
fn a_shutdown_stops_ves_in_order_and_a_boot_brings_them_back() {
    needs!(Root, CgroupV2, Systemd);
    const TOLD: &str = "/root/told";
    let installed = Installed::start();
    if boot() == Boot::First {
        // Each tells in a file of the host when its init was told to go.
        std::fs::create_dir_all(TOLD).unwrap();
        let tells = |order: i32, name: &str| {
            let init =
                format!("trap 'echo {name} >> /mnt/stops; poweroff -f' USR2; while :; do sleep 1; done");
            json!({ "bootOrder": order, "init": ["/bin/busybox", "sh", "-c", init],
                    "mounts": [{ "source": TOLD, "target": "/mnt", "idmap": true }] })
        };
        write("first", tells(10, "first"));
        write("second", tells(1, "second"));
        write("by-hand", json!({ "onBoot": false }));
        write("halted", json!({}));
        for name in ["first", "second", "by-hand", "halted"] {
            until_ready(name);
        }
        host(&["vzd", "stop", "halted"]);
        host(&["vzd", "exec", "first", "--", "touch", "/root/kept"]);
        reboot();
    }
    rebooted();
    assert_eq!(std::fs::read_to_string(format!("{TOLD}/stops")).unwrap(), "second\nfirst\n");
    until_ready("first");
    until_ready("second");
    host(&["vzd", "exec", "first", "--", "test", "-e", "/root/kept"]);
    assert_eq!((pid("by-hand"), pid("halted")), (None, None));
    drop(installed);
}

#[test]
fn a_shutdown_that_suspends_them_lets_them_go_on_after_the_boot() {
    needs!(Root, CgroupV2, Systemd, Criu);
    // It counts in its memory: what it says in a file is how far it is.
    const COUNTS: &str = "n=0; while :; do n=$((n + 1)); echo $n > /root/count; sleep 1; done";
    const REACHED: &str = "/root/reached";
    let installed = Installed::start();
    let inside = |script: &str| host(&["vzd", "exec", "web", "--", "/bin/sh", "-c", script]);
    let count = || inside("cat /root/count").parse::<u64>().ok();
    if boot() == Boot::First {
        put("Host", "host", json!({ "shutdown": "suspend" }));
        write("web", json!({}));
        until_ready("web");
        inside(&format!(
            "echo here > /run/here; ({COUNTS}) > /dev/null 2>&1 < /dev/null & echo $! > /root/pid"
        ));
        let reached = within(LONG, "it counts", || count().filter(|count| *count > 3));
        std::fs::write(REACHED, reached.to_string()).unwrap();
        reboot();
    }
    rebooted();
    let reached: u64 = std::fs::read_to_string(REACHED).unwrap().parse().unwrap();
    until_ready("web");
    let now = within(LONG, "it tells how far it is", count);
    assert!(now >= reached, "it began anew: {now} after {reached}");
    within(LONG, "it goes on", || count().filter(|count| *count > now));
    // The very process, and what only memory held.
    assert_eq!(inside("kill -0 $(cat /root/pid) && cat /run/here"), "here");
    drop(installed);
}
