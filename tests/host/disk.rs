//! Disks: limits from outside, seen and felt from inside, changed while the VE runs.

use std::path::PathBuf;

use serde_json::{Value, json};
use vzd_tests::{Sandbox, VeStatus, eventually, needs};

/// A VE with a disk of its own.
fn limited(sandbox: &Sandbox, name: &str, disk: Value) {
    sandbox.ve(name, json!({ "disk": disk }));
}

fn disk(ve: &VeStatus) -> Value {
    ve.0["status"]["resources"]["disk"].clone()
}

/// What the VE may have of a resource now, as the kernel says.
fn limit(sandbox: &Sandbox, name: &str, resource: &str) -> u64 {
    disk(&sandbox.status(name).unwrap())[resource]["limit"].as_u64().unwrap()
}

/// Bytes that the VE uses, as the kernel says.
fn used(sandbox: &Sandbox, name: &str, resource: &str) -> u64 {
    disk(&sandbox.status(name).unwrap())[resource]["used"].as_u64().unwrap()
}

/// Loop devices of the sandbox.
fn loops(sandbox: &Sandbox) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/sys/block").unwrap().flatten().map(|entry| entry.path());
    let ours = |device: &PathBuf| {
        let backing = std::fs::read_to_string(device.join("loop/backing_file")).unwrap_or_default();
        backing.starts_with(sandbox.dir().to_str().unwrap())
    };
    entries.filter(ours).collect()
}

/// Writes until nothing more fits, and tells how many MiB did.
fn fill(sandbox: &Sandbox, name: &str, file: &str) -> u64 {
    let script =
        format!("dd if=/dev/zero of={file} bs=4096 count=100000 2>/dev/null; sync; stat -c %s {file}");
    sandbox.sh(name, &script).parse::<u64>().unwrap()
}

const MB: u64 = 1 << 20;

#[test]
fn bytes_are_limited_and_the_limit_goes_up_and_down() {
    needs!(Root, Cgroups, Busybox, DiskImage);
    let sandbox = Sandbox::new();
    limited(&sandbox, "web", json!({ "diskspace": "16M", "backend": "image" }));
    sandbox.apply();
    assert_eq!(disk(&sandbox.status("web").unwrap())["backend"], "image");
    assert_eq!(limit(&sandbox, "web", "diskspace"), 16 * MB);
    let size = fill(&sandbox, "web", "/root/big");
    assert!((15 * MB..=16 * MB).contains(&size), "{size}");
    assert!(used(&sandbox, "web", "diskspace") <= 16 * MB);
    let df = sandbox.sh("web", "df -k / | tail -1");
    let available: u64 = df.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(available < 1024, "{df}");

    limited(&sandbox, "web", json!({ "diskspace": "24M", "backend": "image" }));
    sandbox.apply();
    assert_eq!(limit(&sandbox, "web", "diskspace"), 24 * MB);
    let more = fill(&sandbox, "web", "/root/more");
    assert!((7 * MB..=8 * MB + MB / 4).contains(&more), "{more}");

    // Below what is used: nothing is lost, nothing more is written, and it is said.
    limited(&sandbox, "web", json!({ "diskspace": "8M", "backend": "image" }));
    sandbox.apply();
    let status = sandbox.until("web", "ResizePending", |ve| ve.is("ResizePending"));
    let message = status.condition("ResizePending").unwrap().message;
    assert!(message.contains("spec.disk.diskspace") && message.contains("8M"), "{message}");
    assert_eq!(sandbox.sh("web", "stat -c %s /root/big").parse::<u64>().unwrap(), size);
    assert_eq!(sandbox.exec("web", &["dd", "if=/dev/zero", "of=/root/no", "bs=4096", "count=1"]).code, 1);
    sandbox.sh("web", "rm /root/big /root/more; sync");
    sandbox.apply();
    assert!(!sandbox.status("web").unwrap().is("ResizePending"));
    let size = fill(&sandbox, "web", "/root/big");
    assert!((7 * MB..=8 * MB).contains(&size), "{size}");
}

#[test]
fn inodes_are_limited_and_the_limit_goes_up_and_down() {
    needs!(Root, Cgroups, Busybox, DiskImage);
    let sandbox = Sandbox::new();
    let free =
        || sandbox.sh("web", "df -i / | tail -1").split_whitespace().nth(3).unwrap().parse::<u64>().unwrap();
    let make = |count: u64| {
        let script = format!(
            "mkdir -p /root/f; cd /root/f; i=0; while [ $i -lt {count} ] && touch $$.$i 2>/dev/null; \
                              do i=$((i+1)); done; echo $i"
        );
        sandbox.sh("web", &script).parse::<u64>().unwrap()
    };
    for (limit_is, at_least) in [(300, 200), (500, 150), (400, 0)] {
        limited(&sandbox, "web", json!({ "diskinodes": limit_is.to_string(), "backend": "image" }));
        sandbox.apply();
        if limit_is != 400 {
            assert_eq!(limit(&sandbox, "web", "diskinodes"), limit_is);
        }
        let made = make(1000);
        assert!(made >= at_least && made < limit_is, "{made} with a limit of {limit_is}");
        assert_eq!(free(), 0);
    }
    // 500 are used where 400 are allowed: as files go, so does the rest of the old limit.
    assert!(sandbox.status("web").unwrap().is("ResizePending"));
    sandbox.sh("web", "rm -r /root/f; sync");
    sandbox.apply();
    assert_eq!(limit(&sandbox, "web", "diskinodes"), 400);
    assert!(!sandbox.status("web").unwrap().is("ResizePending"));
    let made = make(1000);
    assert!((300..400).contains(&made), "{made}");
}

#[test]
fn a_soft_limit_is_kept_when_its_time_has_run_out() {
    needs!(Root, Cgroups, Busybox, DiskImage);
    let sandbox = Sandbox::new();
    let quota = json!({ "diskspace": "8M:16M", "quotatime": "3s", "backend": "image" });
    limited(&sandbox, "web", quota);
    sandbox.apply();
    sandbox.sh("web", "dd if=/dev/zero of=/root/a bs=1M count=10 2>/dev/null; sync");
    sandbox.apply();
    let status = sandbox.status("web").unwrap();
    assert_eq!(status.condition("OverQuota").unwrap().reason, "SoftLimitExceeded", "{status:?}");
    assert_eq!(limit(&sandbox, "web", "diskspace"), 16 * MB);
    // A controller that comes up later goes by when it began.
    let daemon = sandbox.daemon();
    let status = sandbox.until("web", "held to its soft limit", |ve| {
        ve.condition("OverQuota").is_some_and(|is| is.reason == "GraceRunOut")
    });
    assert_eq!(disk(&status)["diskspace"]["limit"], 8 * MB, "{status:?}");
    assert_eq!(sandbox.exec("web", &["dd", "if=/dev/zero", "of=/root/b", "bs=4096", "count=1"]).code, 1);
    sandbox.sh("web", "rm /root/a /root/b; sync");
    sandbox.vzd(&["apply"]).ok();
    let status = sandbox.until("web", "within its limits", |ve| !ve.is("OverQuota"));
    assert_eq!(disk(&status)["diskspace"]["limit"], 16 * MB, "{status:?}");
    sandbox.until_event("web", "SoftLimitExceeded");
    sandbox.until_event("web", "GraceRunOut");
    sandbox.until_event("web", "SoftLimitKept");
    drop(daemon);
}

#[test]
fn data_outlives_the_controller_the_ve_and_the_host() {
    needs!(Root, Cgroups, Busybox, DiskImage);
    let sandbox = Sandbox::new();
    limited(&sandbox, "web", json!({ "diskspace": "64M", "diskinodes": "1000" }));
    sandbox.apply();
    sandbox.sh("web", "echo precious > /root/data; sync");
    assert_eq!(loops(&sandbox).len(), 1);
    sandbox.vzd(&["restart", "web"]).ok();
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    assert_eq!(loops(&sandbox).len(), 1);
    assert_eq!(limit(&sandbox, "web", "diskspace"), 64 * MB);
    assert_eq!(limit(&sandbox, "web", "diskinodes"), 1000);
    sandbox.vzd(&["stop", "web"]).ok();
    assert_eq!(loops(&sandbox), Vec::<PathBuf>::new());
    sandbox.vzd(&["start", "web"]).ok();
    sandbox.power_cut();
    eventually("the loop device goes with the VE", || loops(&sandbox).is_empty());
    // A run that ended so counts as a crash: the next one may have to wait.
    eventually("it runs again", || {
        sandbox.vzd(&["apply"]);
        sandbox.status("web").is_some_and(|ve| ve.is("Ready"))
    });
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    // Into quarantine and back.
    sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
    sandbox.unlink("web.yaml");
    sandbox.apply();
    assert_eq!(loops(&sandbox), Vec::<PathBuf>::new());
    sandbox.vzd(&["undelete", "web"]).ok();
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    sandbox.ve("web", json!({ "state": "absent" }));
    sandbox.apply();
    assert_eq!(loops(&sandbox), Vec::<PathBuf>::new());
    assert_eq!(std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap().count(), 0);
}

#[test]
fn another_backend_is_refused_and_nothing_is_lost() {
    needs!(Root, Cgroups, Busybox, DiskImage);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.sh("web", "echo precious > /root/data");
    let pid = sandbox.init_pid("web");
    for (asked, field) in [
        (json!({ "backend": "image" }), "spec.disk.backend"),
        (json!({ "diskspace": "1G" }), "spec.disk.diskspace"),
    ] {
        limited(&sandbox, "web", asked);
        sandbox.vzd(&["apply"]);
        let status = sandbox.until("web", "stalled", |ve| ve.is("Stalled"));
        let message = status.condition("Stalled").unwrap().message;
        assert!(message.contains(field), "{message}");
        assert_eq!(sandbox.init_pid("web"), pid);
        assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    }
}

#[test]
fn one_at_its_limit_does_not_affect_another() {
    needs!(Root, Cgroups, Busybox, DiskImage);
    let sandbox = Sandbox::new();
    limited(&sandbox, "one", json!({ "diskspace": "8M", "diskinodes": "400" }));
    limited(&sandbox, "two", json!({ "diskspace": "8M", "diskinodes": "400" }));
    sandbox.apply();
    fill(&sandbox, "one", "/root/big");
    assert_eq!(sandbox.exec("one", &["dd", "if=/dev/zero", "of=/root/no", "bs=4096", "count=1"]).code, 1);
    let size = fill(&sandbox, "two", "/root/big");
    assert!((7 * MB..=8 * MB).contains(&size), "{size}");
}
