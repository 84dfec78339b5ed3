//! `vzctl set` without `--save`: the kernel has it until the VE stops, and no manifest does.

use serde_json::json;
use vzd_tests::{NetLab, Process, Sandbox, eventually, needs};

use super::{manifest, openvz, tool};

fn shop() -> Sandbox {
    let sandbox = openvz();
    sandbox.ve("shop", spec(100, "shop.example.net"));
    sandbox.apply();
    sandbox
}

fn spec(numproc: u32, hostname: &str) -> serde_json::Value {
    json!({ "ctid": 200, "hostname": hostname, "beancounters": { "numproc": numproc }, "memory": { "ram": "64M" } })
}

fn pids_max(sandbox: &Sandbox) -> String {
    let groups = sandbox.cgroups();
    let files = groups.iter().map(|group| group.join("pids.max"));
    let file = files.filter(|file| file.exists()).find(|file| file.to_string_lossy().contains("/200"));
    std::fs::read_to_string(file.unwrap()).unwrap().trim().to_owned()
}

/// Nothing is to be done, and nothing has drifted.
#[track_caller]
fn is_settled(sandbox: &Sandbox) {
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(0);
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(0);
}

#[test]
fn it_is_in_force_until_the_ve_stops_and_is_told() {
    needs!(Root, Cgroups, Busybox);
    for served in [false, true] {
        let sandbox = shop();
        let daemon = served.then(|| sandbox.daemon());
        let before = manifest(&sandbox, "shop.yaml");
        let init = sandbox.init_pid("shop");
        tool(&sandbox, "vzctl set shop --numproc 120 --hostname trial --ram 128M")
            .ends(0)
            .says("were not saved");
        assert_eq!(pids_max(&sandbox), "120");
        assert_eq!(sandbox.sh("shop", "hostname"), "trial");
        assert_eq!(manifest(&sandbox, "shop.yaml"), before);
        is_settled(&sandbox);
        let why = sandbox.vzd(&["why", "shop", "beancounters.numproc", "-o", "json"]).ok().json();
        assert_eq!((&why["value"], &why["transient"]["over"]), (&json!("120"), &json!("100")), "{why:#}");
        sandbox.vzd(&["why", "shop", "spec.hostname"]).ok().says("until the VE stops").says("shop.yaml");
        let described = sandbox.vzd(&["describe", "shop"]).ok().stdout;
        assert!(described.contains("Until it stops") && described.contains("(manifest: 64M)"), "{described}");
        let listed = tool(&sandbox, "vzlist -H -o hostname,numproc.l,physpages.l").ends(0).stdout;
        let listed: Vec<_> = listed.split_whitespace().collect();
        assert_eq!(listed, ["trial", "120", "32768"]);

        // What is done by hand is drift from that, and is put right.
        sandbox.sh("shop", "hostname by-hand");
        if let Some(daemon) = daemon {
            // A controller that is killed forgets nothing.
            daemon.kill9();
            let _daemon = sandbox.daemon();
            eventually("it is put right", || sandbox.sh("shop", "hostname") == "trial");
        } else {
            sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("\"trial\"");
            sandbox.apply();
        }
        assert_eq!((sandbox.sh("shop", "hostname").as_str(), pids_max(&sandbox).as_str()), ("trial", "120"));
        assert_eq!(sandbox.init_pid("shop"), init);

        // A second one of a field takes the place of the first, and its end leaves the manifest's.
        tool(&sandbox, "vzctl set shop --numproc 130").ends(0);
        assert_eq!(pids_max(&sandbox), "130");
        tool(&sandbox, "vzctl set shop --numproc 100").ends(0);
        assert_eq!(pids_max(&sandbox), "100");
        is_settled(&sandbox);

        tool(&sandbox, "vzctl set shop --numproc 140").ends(0);
        tool(&sandbox, "vzctl restart shop").ends(0);
        assert_eq!(
            (sandbox.sh("shop", "hostname").as_str(), pids_max(&sandbox).as_str()),
            ("shop.example.net", "100")
        );
        assert_eq!(sandbox.vzd(&["get", "shop", "-o", "json"]).ok().json()["status"].get("transient"), None);
        is_settled(&sandbox);
    }
}

#[test]
fn it_ends_with_a_crash() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = shop();
    let _daemon = sandbox.daemon();
    let init = sandbox.init_pid("shop");
    tool(&sandbox, "vzctl set shop --numproc 120").ends(0);
    Process::open(init).unwrap().kill();
    eventually("it runs again", || {
        sandbox.status("shop").is_some_and(|is| is.init_pid().is_some_and(|pid| pid != init))
    });
    eventually("as its manifest says", || pids_max(&sandbox) == "100");
    is_settled(&sandbox);
}

#[test]
fn the_manifest_has_the_last_word_about_a_field() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = shop();
    tool(&sandbox, "vzctl set shop --numproc 120 --hostname trial").ends(0);
    sandbox.ve("shop", spec(90, "shop.example.net"));
    sandbox.apply();
    assert_eq!((pids_max(&sandbox).as_str(), sandbox.sh("shop", "hostname").as_str()), ("90", "trial"));
    is_settled(&sandbox);
    // What was said before doesn't bring it back.
    sandbox.ve("shop", spec(100, "shop.example.net"));
    sandbox.apply();
    assert_eq!(pids_max(&sandbox), "100");

    // What is saved is no longer to end; not what stands in the manifest, and not what else was set.
    tool(&sandbox, "vzctl set shop --numproc 120 --ram 96M").ends(0);
    tool(&sandbox, "vzctl set shop --numproc 150 --save").ends(0);
    assert_eq!(pids_max(&sandbox), "150");
    tool(&sandbox, "vzctl set shop --numproc 160").ends(0);
    tool(&sandbox, "vzctl set shop --numproc 150 --save").ends(0);
    assert_eq!(pids_max(&sandbox), "150");
    let saved = manifest(&sandbox, "shop.yaml");
    assert!(!saved.contains("96M") && !saved.contains("trial"), "{saved}");
    let left = sandbox.vzd(&["get", "shop", "-o", "json"]).ok().json();
    let left: Vec<_> = left["status"]["transient"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(left, ["spec.hostname", "spec.memory.ram"]);
    is_settled(&sandbox);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    needs!(Root, Cgroups, Busybox, Ip);
    let _lab = NetLab::new();
    let sandbox = shop();
    sandbox.ve("other", json!({ "network": { "addresses": ["10.11.12.13"] }, "state": "stopped" }));
    sandbox.ve("third", json!({}));
    sandbox.apply();
    tool(&sandbox, "vzctl set third --ipadd 10.11.12.14").ends(0);
    let before = manifest(&sandbox, "shop.yaml");
    for (line, code) in [
        // Another has it, in its manifest or above it.
        ("vzctl set shop --numproc 90 --ipadd 10.11.12.13", 78),
        ("vzctl set shop --numproc 90 --ipadd 10.11.12.14", 78),
        ("vzctl set shop --numproc 90 --cpumask 4000", 2),
        ("vzctl set shop --numproc 90:50", 21),
        // It is of a start, or of no run at all.
        ("vzctl set shop --numproc 90 --capability sys_time:on", 32),
        ("vzctl set shop --numproc 90 --mount_opts noatime", 32),
        ("vzctl set shop --numproc 90 --onboot yes", 20),
        ("vzctl set shop --numproc 90 --applyconfig test", 20),
        ("vzctl set shop --numproc 90 --force", 21),
        ("vzctl set other --numproc 90", 31),
    ] {
        let ended = tool(&sandbox, line);
        assert_eq!(ended.code, code, "{line}: {ended:?}");
        assert_eq!(pids_max(&sandbox), "100", "{line}");
        is_settled(&sandbox);
    }
    assert_eq!(manifest(&sandbox, "shop.yaml"), before);
    // Addresses add up with what is there.
    tool(&sandbox, "vzctl set third --ipadd 10.11.12.15").ends(0);
    let addresses = sandbox.sh("third", "ip -4 -o addr show dev venet0");
    assert!(addresses.contains("10.11.12.14") && addresses.contains("10.11.12.15"), "{addresses}");
    tool(&sandbox, "vzctl set third --ipdel all").ends(0);
    is_settled(&sandbox);
}
