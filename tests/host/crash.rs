//! vzd killed at every fault point of every kind of plan: the next pass ends where an undisturbed one would have.

mod network;
mod power;
mod scripts;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use vzd_tests::{Sandbox, VeStatus, needs, status_field, within};

/// More points than any plan here has.
const MOST: usize = 200;
/// What the fault point's exit looks like.
const KILLED: i32 = 137;

/// A plan to be interrupted.
struct Case {
    /// What is there before.
    before: fn(&Sandbox),
    /// What is changed in the directory; then `command` is run.
    change: fn(&Sandbox),
    command: &'static [&'static str],
}

/// What matters of a world: VEs by name with what is known of them, and what lies around.
#[derive(Debug, PartialEq)]
struct World {
    ves: BTreeMap<String, Value>,
    records: usize,
    dirs: usize,
    groups: usize,
    inits: usize,
    /// What else there is to tell.
    more: Value,
}

fn count(dir: std::path::PathBuf) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

/// Looks at everything, from outside and from inside; `listed` is what vzd tells of it.
fn look(sandbox: &Sandbox, listed: Vec<VeStatus>) -> World {
    let mut ves = BTreeMap::new();
    for ve in listed {
        let name = ve.0["metadata"]["name"].as_str().unwrap().to_owned();
        let pending = ve.condition("DeletionPending").map(|condition| condition.reason);
        let mut known = json!({
            "ctid": ve.ctid(), "ready": ve.is("Ready"), "reason": ve.reason(), "pending": pending,
            "restartRequired": ve.is("RestartRequired"), "generation": ve.generation(),
        });
        known["disk"] = json!(ve.0["status"]["resources"]["disk"]["diskspace"]["limit"]);
        known["inodes"] = json!(ve.0["status"]["resources"]["disk"]["diskinodes"]["limit"]);
        if ve.init_pid().is_some() {
            let script = "hostname; ls /mnt/data 2>/dev/null; cat /root/data 2>/dev/null; ls /proc/1/task | wc -l; \
                          sed 1,2d /etc/passwd; cat /home/*/.ssh/authorized_keys 2>/dev/null; \
                          ip -o -4 addr | cut -d ' ' -f 2-7; ip route; \
                          tr '\\0' ' ' < /proc/1/cmdline";
            known["inside"] = json!(sandbox.sh(&name, script));
        }
        // One in quarantine and its successor may bear one name.
        ves.insert(format!("{name} {}", known["ctid"]), known);
    }
    World {
        ves,
        records: count(sandbox.state_dir().join("ledger")),
        dirs: count(sandbox.state_dir().join("ves")),
        groups: sandbox.cgroups().len(),
        inits: sandbox.cgroups().iter().map(|group| inits(group)).sum(),
        more: Value::Null,
    }
}

/// Processes of a VE's group that are PID 1 of some VE: a second one is a VE that was started twice.
fn inits(group: &Path) -> usize {
    let pids = std::fs::read_to_string(group.join("ve/cgroup.procs")).unwrap_or_default();
    let is_init = |pid: &&str| {
        let pid = pid.parse().unwrap_or_default();
        status_field(pid, "NSpid").split_whitespace().next_back() == Some("1")
    };
    pids.lines().filter(is_init).count()
}

/// Passes until there is nothing more to do: a start that was interrupted may have to wait for its turn.
#[track_caller]
fn converge(sandbox: &Sandbox) -> Vec<VeStatus> {
    within(Duration::from_secs(20), "a pass finds nothing to do", || {
        let done = sandbox.vzd(&["apply", "--detailed-exitcode"]).code == 0;
        let listed = done.then(|| sandbox.list())?;
        (!listed.iter().any(|ve| ve.is("Reconciling"))).then_some(listed)
    })
}

/// Runs a case to its end, killed at the n-th fault point; tells whether that was reached.
fn interrupted(case: &Case, at: Option<usize>, tell: &dyn Fn(&Sandbox) -> Value) -> (World, bool) {
    let sandbox = Sandbox::new();
    let killed = carry_out(case, at, &sandbox);
    let mut world = ends_in(case, killed, &sandbox);
    world.more = tell(&sandbox);
    (world, killed)
}

/// Runs a case, killed at the n-th fault point; tells whether that was reached.
fn carry_out(case: &Case, at: Option<usize>, sandbox: &Sandbox) -> bool {
    // A directory without manifests is not believed.
    sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
    (case.before)(sandbox);
    (case.change)(sandbox);
    let mut command = sandbox.command(case.command);
    if let Some(at) = at {
        command.env("VZD_FAULT_POINT", at.to_string());
    }
    let output = command.output().unwrap();
    let killed = output.status.code() == Some(KILLED);
    assert!(
        killed || output.status.success(),
        "point {at:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    killed
}

/// What becomes of the world.
fn ends_in(case: &Case, killed: bool, sandbox: &Sandbox) -> World {
    // Given again, as an operator would. `apply` comes next in any case.
    if killed && case.command != ["apply"] {
        sandbox.vzd(case.command).ends(0);
    }
    let listed = converge(sandbox);
    look(sandbox, listed)
}

#[track_caller]
fn survives(case: &Case) {
    survives_and_tells(case, &|_| Value::Null);
}

/// The same, where there is more to tell of a world.
#[track_caller]
fn survives_and_tells(case: &Case, tell: &dyn Fn(&Sandbox) -> Value) {
    ends_alike(&|at| interrupted(case, at, tell));
}

/// Whatever comes in between, and at whichever point, the world ends as it would have without.
#[track_caller]
fn ends_alike(run: &dyn Fn(Option<usize>) -> (World, bool)) {
    let (wanted, _) = run(None);
    let mut reached = 0;
    for at in 1..MOST {
        let (world, killed) = run(Some(at));
        assert_eq!(world, wanted, "after a kill at fault point {at}");
        if !killed {
            reached = at - 1;
            break;
        }
    }
    assert!((1..MOST - 1).contains(&reached), "{reached} fault points were reached");
}

fn running(sandbox: &Sandbox) {
    sandbox.ve("web", json!({ "hostname": "before" }));
    sandbox.apply();
    sandbox.sh("web", "echo precious > /root/data");
}

#[test]
fn while_creating_and_starting() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    survives(&Case {
        before: |_| {},
        change: |sandbox| {
            let data = sandbox.host_dir("data");
            std::fs::write(data.join("file"), "").unwrap();
            sandbox.ve("web", json!({ "mounts": [{ "source": data, "target": "/mnt/data" }] }));
        },
        command: &["apply"],
    });
}

#[test]
fn while_mounting_its_root_on_the_host_and_taking_it_back() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    fn down(sandbox: &Sandbox) {
        running(sandbox);
        sandbox.vzd(&["stop", "web"]).ok();
    }
    fn mounted(sandbox: &Sandbox) {
        down(sandbox);
        sandbox.vzd(&["vzctl", "mount", "101"]).ok();
    }
    let told = |sandbox: &Sandbox| {
        let status = sandbox.vzd(&["vzctl", "status", "101"]).ok().stdout;
        if status.contains(" mounted down") {
            let data = sandbox.run_dir().join("root/101/root/data");
            assert_eq!(std::fs::read_to_string(data).unwrap(), "precious\n");
            sandbox.vzd(&["vzctl", "umount", "101"]).ok();
        }
        json!(status)
    };
    for (before, command) in
        [(down as fn(&Sandbox), &["vzctl", "mount", "101"][..]), (mounted, &["start", "web"])]
    {
        survives_and_tells(&Case { before, change: |_| {}, command }, &told);
    }
}

#[test]
fn while_suspending_it() {
    needs!(Root, Cgroups, Busybox, Criu, FaultPoints);
    survives(&Case {
        before: running,
        change: |sandbox| sandbox.ve("web", json!({ "state": "suspended" })),
        command: &["apply"],
    });
}

#[test]
fn while_resuming_it() {
    needs!(Root, Cgroups, Busybox, Criu, FaultPoints);
    survives(&Case {
        before: |sandbox| {
            running(sandbox);
            sandbox.vzd(&["suspend", "web"]).ok();
        },
        change: |_| {},
        command: &["resume", "web"],
    });
}

#[test]
fn while_changing_it_live() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    survives(&Case {
        before: running,
        change: |sandbox| {
            let data = sandbox.host_dir("data");
            std::fs::write(data.join("file"), "").unwrap();
            let device = json!({ "path": "/dev/extra", "type": "char", "device": "1:3", "mode": "0666" });
            sandbox.ve(
                "web",
                json!({
                    "hostname": "after", "domainname": "yp", "devices": [device],
                    "mounts": [{ "source": data, "target": "/mnt/data", "readOnly": true }],
                }),
            );
        },
        command: &["apply"],
    });
}

#[test]
fn while_setting_its_time_zone_and_taking_its_language_out() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    let case = Case {
        before: |sandbox| {
            sandbox.ve("web", json!({ "locale": "C.UTF-8" }));
            sandbox.apply();
            sandbox.sh("web", "mkdir -p /usr/share/zoneinfo; echo TZif > /usr/share/zoneinfo/Here; echo UTC > /etc/timezone");
        },
        change: |sandbox| sandbox.ve("web", json!({ "timezone": "Here" })),
        command: &["apply"],
    };
    survives_and_tells(&case, &|sandbox| {
        json!(
            sandbox.sh(
                "web",
                "ls -A /etc; readlink /etc/localtime /etc/localtime.before-vzd; cat /etc/timezone"
            )
        )
    });
}

#[test]
fn while_making_and_removing_users() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    survives(&Case {
        before: |sandbox| {
            sandbox.ve("web", json!({ "users": [{ "name": "bob" }] }));
            sandbox.apply();
        },
        change: |sandbox| {
            let keys = ["ssh-ed25519 AAAA one"];
            sandbox.ve("web", json!({ "users": [{ "name": "alice", "uid": 2000, "sshKeys": keys }] }));
        },
        command: &["apply"],
    });
}

#[test]
fn while_creating_with_a_disk_of_its_own() {
    needs!(Root, Cgroups, Busybox, FaultPoints, DiskImage);
    survives(&Case {
        before: |_| {},
        change: |sandbox| sandbox.ve("web", json!({ "disk": { "diskspace": "64M", "diskinodes": "500" } })),
        command: &["apply"],
    });
}

#[test]
fn while_copying_its_root() {
    needs!(Root, Cgroups, Busybox, FaultPoints, DiskImage);
    survives(&Case {
        before: |_| {},
        change: |sandbox| {
            let template = format!("copy:{}", sandbox.template_dir().display());
            sandbox.ve("web", json!({ "template": template, "disk": { "diskspace": "64M" } }));
        },
        command: &["apply"],
    });
}

#[test]
fn while_resizing_its_disk() {
    needs!(Root, Cgroups, Busybox, FaultPoints, DiskImage);
    survives(&Case {
        before: |sandbox| {
            sandbox.ve("web", json!({ "disk": { "diskspace": "64M", "diskinodes": "500" } }));
            sandbox.apply();
            sandbox.sh("web", "echo precious > /root/data");
        },
        change: |sandbox| sandbox.ve("web", json!({ "disk": { "diskspace": "32M", "diskinodes": "600" } })),
        command: &["apply"],
    });
}

#[test]
fn while_stopping() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    survives(&Case {
        before: running,
        change: |sandbox| sandbox.ve("web", json!({ "hostname": "before", "state": "stopped" })),
        command: &["apply"],
    });
}

#[test]
fn while_an_operator_stops() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    survives(&Case { before: running, change: |_| {}, command: &["stop", "web"] });
}

#[test]
fn while_restarting() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    survives(&Case {
        before: running,
        change: |sandbox| {
            let init = json!(["/bin/guest", "init", "--children", "1"]);
            sandbox.ve("web", json!({ "hostname": "before", "init": init, "updatePolicy": "Restart" }));
        },
        command: &["apply"],
    });
}

#[test]
fn while_quarantining() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    survives(&Case { before: running, change: |sandbox| sandbox.unlink("web.yaml"), command: &["apply"] });
}

#[test]
fn while_destroying() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    survives(&Case {
        before: running,
        change: |sandbox| sandbox.ve("web", json!({ "state": "absent" })),
        command: &["apply"],
    });
}

#[test]
fn while_recreating() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    survives(&Case {
        before: |sandbox| {
            sandbox.ve("web", json!({ "deletionPolicy": "Destroy" }));
            sandbox.apply();
            sandbox.sh("web", "echo precious > /root/data");
        },
        change: |sandbox| {
            sandbox.ve("web", json!({ "deletionPolicy": "Destroy", "template": "tiny", "init": null }));
        },
        command: &["apply"],
    });
}
