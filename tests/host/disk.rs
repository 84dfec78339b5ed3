//! Disks: limits from outside, seen and felt from inside, changed while the VE runs.

use std::path::PathBuf;

use serde_json::{Value, json};
use vzd_tests::{Sandbox, VeStatus, eventually, kernel_version, needs};

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

#[test]
fn no_way_of_writing_passes_the_limit() {
    needs!(Root, Cgroups, Busybox, DiskImage);
    let sandbox = Sandbox::new();
    limited(&sandbox, "web", json!({ "diskspace": "8M", "diskinodes": "400" }));
    sandbox.apply();
    let within = |what: &str| {
        sandbox.sh("web", "sync");
        let used = used(&sandbox, "web", "diskspace");
        assert!(used <= 8 * MB, "{what}: {used}");
        used
    };
    let code = |script: &str| sandbox.exec("web", &["/bin/sh", "-c", script]).code;
    let empty = within("nothing");
    // Holes take nothing, however large.
    sandbox.sh(
        "web",
        "cd /root; truncate -s 1T hole; dd if=/dev/zero of=sparse bs=4096 seek=9999999 count=1 2>/dev/null",
    );
    assert!(within("holes") < empty + MB / 4);
    // All at once, which can't be; then past the cache of pages, until nothing is left.
    assert_ne!(code("fallocate -l 64M /root/reserved"), 0);
    within("fallocate");
    sandbox.sh("web", "rm -f /root/reserved /root/hole /root/sparse");
    assert_ne!(code("dd if=/dev/zero of=/root/direct oflag=direct bs=64k count=1000"), 0);
    assert!(within("direct I/O") > 7 * MB);
    // Full: names still change, and what is there can be cut and removed.
    sandbox.sh("web", "mv /root/direct /etc/direct && truncate -s 1M /etc/direct");
    assert!(within("truncate") < 3 * MB);
    // An inode with many names is one.
    let inodes = used(&sandbox, "web", "diskinodes");
    sandbox.sh("web", "cd /etc; i=0; while [ $i -lt 600 ]; do ln direct l$i; i=$((i+1)); done");
    assert_eq!(used(&sandbox, "web", "diskinodes"), inodes);
    sandbox.sh("web", "rm /etc/direct /etc/l*");
    // Written in pieces, what was allocated at once needs more to say where it lies.
    sandbox.sh(
        "web",
        "fallocate -l 6M /root/pieces; i=0; while [ $i -lt 700 ]; do dd if=/dev/zero of=/root/pieces bs=4096 \
                       seek=$((i*2)) count=1 conv=notrunc 2>/dev/null; i=$((i+1)); done; sync",
    );
    within("pieces");
    // Others inside are bound as well.
    sandbox.sh("web", "rm /root/pieces; mkdir -m 777 /open; sync");
    assert_ne!(code("setpriv --reuid 1000 dd if=/dev/zero of=/open/big bs=64k count=1000 2>/dev/null"), 0);
    assert!(within("a user") <= 8 * MB);
}

#[test]
fn two_hundred_resizes_under_a_writer() {
    needs!(Root, Cgroups, Busybox, DiskImage);
    let sandbox = Sandbox::new();
    let resize = |mb: u64, inodes: u64| {
        limited(&sandbox, "web", json!({ "diskspace": format!("{mb}M"), "diskinodes": inodes.to_string() }));
    };
    resize(8, 300);
    let _daemon = sandbox.daemon();
    sandbox.until_ready("web");
    sandbox.sh("web", "mkdir /root/w; head -c 262144 /dev/urandom > /root/source; touch /root/go; sync");
    // Fills the disk again and again; what was written whole is marked.
    let script = "i=0; while [ -e /root/go ]; do f=/root/w/$((i%60)); rm -f $f $f.ok; \
                  cp /root/source $f 2>/dev/null && touch $f.ok 2>/dev/null; i=$((i+1)); done; echo $i";
    let mut writer = sandbox.command(&["exec", "web", "--", "/bin/sh", "-c", script]);
    let writer = writer.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut random: u64 = 42;
    for _ in 0..200 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (mb, inodes) = (4 + (random >> 33) % 20, 150 + (random >> 40) % 300);
        resize(mb, inodes);
        sandbox.until("web", "resized", |ve| disk(ve)["diskspace"]["limit"] == mb * MB);
    }
    sandbox.sh("web", "rm /root/go");
    let ended = writer.wait_with_output().unwrap();
    let rounds: u64 = String::from_utf8_lossy(&ended.stdout).trim().parse().unwrap();
    assert!(rounds > 60, "the writer wrote only {rounds} times");
    let check =
        "sync; cd /root/w; for f in *.ok; do cmp /root/source ${f%.ok} || echo bad $f; done; ls *.ok | wc -l";
    let whole = sandbox.sh("web", check);
    assert!(whole.parse::<u64>().is_ok_and(|whole| whole > 0), "{whole}");
    // And the file system is whole.
    sandbox.vzd(&["stop", "web"]).ok();
    for entry in std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap().flatten() {
        let image = entry.path().join("disk.img");
        let checked = std::process::Command::new("/usr/sbin/e2fsck").arg("-fn").arg(&image).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}

#[test]
fn a_full_host_loses_nothing_that_was_synced() {
    needs!(Root, Cgroups, Busybox, DiskImage);
    let sandbox = Sandbox::new();
    let state = sandbox.state_dir();
    std::fs::create_dir(&state).unwrap();
    let tmpfs = |words: &[&str]| {
        let mounted =
            std::process::Command::new("mount").args(words).arg("tmpfs").arg(&state).status().unwrap();
        assert!(mounted.success());
    };
    tmpfs(&["-t", "tmpfs", "-o", "size=64M"]);
    limited(&sandbox, "web", json!({ "diskspace": "100M" }));
    sandbox.apply();
    sandbox.sh("web", "echo precious > /root/data; sync");
    sandbox.exec("web", &["/bin/sh", "-c", "dd if=/dev/zero of=/root/big bs=1M count=90; sync"]);
    if kernel_version() >= (6, 15) {
        // Older kernels may shut such a file system down, and nothing is read either until the next start.
        assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    }
    tmpfs(&["-o", "remount,size=256M"]);
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    sandbox.sh("web", "rm -f /root/big; echo more > /root/more; sync");
    sandbox.vzd(&["stop", "web"]).ok();
    for entry in std::fs::read_dir(state.join("ves")).unwrap().flatten() {
        let image = entry.path().join("disk.img");
        let checked = std::process::Command::new("/usr/sbin/e2fsck").arg("-fn").arg(&image).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
    sandbox.ve("web", json!({ "state": "absent" }));
    sandbox.apply();
    let unmounted = || std::process::Command::new("umount").arg(&state).status().unwrap().success();
    eventually("the state directory is unmounted", unmounted);
}
