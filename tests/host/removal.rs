//! What becomes of a VE whose manifest goes: quarantine and back, destruction, being left alone, the prune guard.

use std::time::Duration;

use serde_json::json;
use vzd_tests::{Process, Sandbox, VeStatus, eventually, holds_for, needs};

/// A sandbox with a manifest that stays: a directory without any is not believed.
fn sandbox_with_an_anchor() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
    sandbox
}

/// Directories of VEs' files.
fn ve_dirs(sandbox: &Sandbox) -> Vec<String> {
    let entries = std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn records(sandbox: &Sandbox) -> usize {
    std::fs::read_dir(sandbox.state_dir().join("ledger")).unwrap().count()
}

fn quarantined(sandbox: &Sandbox) -> Vec<VeStatus> {
    let held =
        |ve: &VeStatus| ve.condition("DeletionPending").is_some_and(|it| it.reason == "DeletionQuarantined");
    sandbox.list().into_iter().filter(held).collect()
}

#[test]
fn absent_destroys_everything() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = sandbox_with_an_anchor();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let init = Process::open(sandbox.init_pid("web")).unwrap();
    assert_eq!((ve_dirs(&sandbox).len(), records(&sandbox)), (1, 1));
    sandbox.ve("web", json!({ "state": "absent" }));
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(4);
    sandbox.apply();
    assert!(!init.is_alive());
    assert_eq!((ve_dirs(&sandbox).len(), records(&sandbox)), (0, 0));
    assert!(sandbox.cgroups().is_empty());
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
}

#[test]
fn a_removed_manifest_quarantines_and_undelete_brings_the_data_back() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = sandbox_with_an_anchor();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({ "hostname": "was-here" }));
    let first = Process::open(sandbox.until_ready("web")).unwrap();
    let uid = sandbox.status("web").unwrap().uid().unwrap().to_owned();
    sandbox.sh("web", "echo precious > /root/data");
    sandbox.unlink("web.yaml");
    sandbox.until_gone("web");
    assert!(!first.is_alive());
    assert!(sandbox.cgroups().is_empty());
    let held = quarantined(&sandbox);
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].uid(), Some(uid.as_str()));
    sandbox.vzd(&["undelete", "web"]).ok();
    sandbox.until_ready("web");
    assert_eq!(sandbox.sh("web", "cat /root/data; hostname"), "precious\nwas-here");
    // Kept although no manifest names it, also by the next controller.
    drop(_daemon);
    let _daemon = sandbox.daemon();
    holds_for(Duration::from_millis(500), "it stays", || sandbox.status("web").is_some());
    sandbox.ve("web", json!({ "hostname": "is-here" }));
    eventually("its manifest counts again", || sandbox.sh("web", "hostname") == "is-here");
    assert_eq!(sandbox.status("web").unwrap().uid(), Some(uid.as_str()));
}

#[test]
fn a_name_is_free_while_its_ve_is_in_quarantine() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = sandbox_with_an_anchor();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.sh("web", "touch /root/old");
    sandbox.unlink("web.yaml");
    sandbox.apply();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.sh("web", "test ! -e /root/old");
    sandbox.vzd(&["undelete", "web"]).ends(1).says("VZ0307");
    let list = sandbox.list();
    let ctids: std::collections::BTreeSet<_> = list.iter().map(VeStatus::ctid).collect();
    assert_eq!((list.len(), ctids.len()), (2, 2));
}

#[test]
fn quarantine_ends_after_its_time() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = sandbox_with_an_anchor();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({ "quarantineTTL": "1s" }));
    sandbox.until_ready("web");
    sandbox.unlink("web.yaml");
    eventually("all of it is gone", || records(&sandbox) == 0 && ve_dirs(&sandbox).is_empty());
}

#[test]
fn deletion_policy_retain_leaves_it_running() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = sandbox_with_an_anchor();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({ "deletionPolicy": "Retain" }));
    let pid = sandbox.until_ready("web");
    sandbox.unlink("web.yaml");
    sandbox.until_event("web", "Retained");
    assert_eq!(sandbox.init_pid("web"), pid);
    // Nobody corrects it any more.
    sandbox.sh("web", "hostname other");
    _daemon.reload();
    holds_for(Duration::from_millis(500), "it is left alone", || sandbox.sh("web", "hostname") == "other");
    sandbox.ve("web", json!({ "deletionPolicy": "Retain" }));
    eventually("it is managed again", || sandbox.sh("web", "hostname") == "web");
    assert_eq!(sandbox.init_pid("web"), pid);
}

#[test]
fn deletion_policy_destroy_keeps_nothing() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = sandbox_with_an_anchor();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({ "deletionPolicy": "Destroy" }));
    sandbox.until_ready("web");
    sandbox.unlink("web.yaml");
    eventually("all of it is gone", || records(&sandbox) == 0 && ve_dirs(&sandbox).is_empty());
    assert!(sandbox.cgroups().is_empty());
}

#[test]
fn the_prune_guard_holds_until_it_is_told() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        sandbox.ve(name, json!({ "state": if name == "b" { "paused" } else { "stopped" } }));
    }
    sandbox.apply();
    for name in &names[1..] {
        sandbox.unlink(&format!("{name}.yaml"));
    }
    sandbox.vzd(&["apply"]);
    for name in &names[1..] {
        let status = sandbox.status(name).unwrap();
        assert_eq!(status.condition("DeletionPending").unwrap().reason, "PruneGuardTripped", "{name}");
    }
    assert!(quarantined(&sandbox).is_empty());
    sandbox.vzd(&["get", "b"]).ok().says("paused").says("DeletionPending");
    // An empty and a missing directory are no order to remove everything either.
    sandbox.unlink("a.yaml");
    sandbox.vzd(&["apply"]);
    std::fs::remove_dir(sandbox.manifests()).unwrap();
    sandbox.vzd(&["apply"]);
    assert!(quarantined(&sandbox).is_empty());
    std::fs::create_dir(sandbox.manifests()).unwrap();
    sandbox.ve("a", json!({ "state": "stopped" }));
    sandbox.vzd(&["apply", "--allow-prune", "5"]).ok();
    assert_eq!(quarantined(&sandbox).len(), 5);
    assert!(sandbox.status("a").is_some());
}

#[test]
fn a_directory_emptied_on_purpose_takes_leave_for_every_ve() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let both = ["a", "b"].map(|name| sandbox.document(name, json!({}))).join("---\n");
    sandbox.write("both.yaml", &both);
    for name in ["a", "b"] {
        sandbox.until_ready(name);
    }
    sandbox.unlink("both.yaml");
    sandbox.vzd(&["plan"]).ends(1).says("no manifests").says("--allow-prune");
    // Fewer than there are: none goes.
    sandbox.vzd(&["apply", "--allow-prune=1"]).ends(0).says("--allow-prune=2");
    assert!(["a", "b"].iter().all(|name| sandbox.status(name).unwrap().init_pid().is_some()));
    sandbox.vzd(&["plan", "--allow-prune=2"]).ok().says("2 to destroy");
    sandbox.vzd(&["apply", "--allow-prune=2"]).ok();
    assert_eq!(quarantined(&sandbox).len(), 2);
    // The controller does not bring them back from its memory.
    sandbox.vzd(&["apply"]).ends(1);
    holds_for(Duration::from_millis(300), "they stay away", || sandbox.status("a").is_none());
    // A directory that is not there is never meant.
    sandbox.vzd(&["undelete", "a"]).ok();
    std::fs::rename(sandbox.manifests(), sandbox.dir().join("away")).unwrap();
    sandbox.vzd(&["apply", "--allow-prune=9"]).ends(1);
    assert!(sandbox.status("a").unwrap().init_pid().is_some());
    std::fs::rename(sandbox.dir().join("away"), sandbox.manifests()).unwrap();
}

#[test]
fn a_record_that_cannot_be_read_is_no_absence() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.ve("other", json!({ "state": "stopped" }));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    let uid = sandbox.status("web").unwrap().uid().unwrap().to_owned();
    let record = sandbox.state_dir().join(format!("ledger/{uid}.json"));
    let good = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, good.replace("\"format\":1", "\"format\":99")).unwrap();
    let said = "error[VZ0404]: the record";
    let get = sandbox.vzd(&["get", "-o", "json"]).ok().says(said);
    let list = get.json();
    assert_eq!(list["diagnostics"][0]["code"], "VZ0404");
    let of = |name: &str| {
        let items = list["items"].as_array().unwrap().iter();
        VeStatus(items.clone().find(|ve| ve["metadata"]["name"] == name).unwrap().clone())
    };
    let ready = of("web").condition("Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("Unknown", "Unreadable"));
    assert_eq!(of("other").reason(), "Stopped");
    let plan = sandbox.vzd(&["plan"]).ends(1).says(said).says("? record").says("0 to add");
    assert!(!plan.stdout.contains("create"), "{}", plan.stdout);
    sandbox.vzd(&["plan", "-o", "json"]).ends(1).says("\"diagnostics\"");
    sandbox.vzd(&["drift"]).ends(1).says(said);
    sandbox.vzd(&["describe", "web"]).ok().says("Unreadable");
    sandbox.vzd(&["why", "web", "hostname"]).ends(1).says("VZ0404");
    sandbox.vzd(&["exec", "web", "--", "true"]).ends(125).says("VZ0404");
    sandbox.vzd(&["status"]).ok().says(said);
    sandbox.vzd(&["apply"]).ends(1).says("VZ0404");
    // Of one that nobody can make anything of, any VE without a record may be the owner.
    std::fs::write(&record, "{").unwrap();
    sandbox.vzd(&["plan"]).ends(1).says(said).says("? record").says("0 to add");
    std::fs::write(&record, good).unwrap();
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(0);
    assert_eq!(sandbox.init_pid("web"), pid);
}
