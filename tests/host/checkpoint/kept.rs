//! Whatever a VE may have that a checkpoint has to keep, each kind with its own test: made, suspended, resumed, looked at.

use serde_json::json;
use vzd_tests::{Sandbox, eventually, needs};

fn is_kept(kind: &str) {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    let mounts = json!([{ "source": sandbox.host_dir("data"), "target": "/mnt/data", "idmap": true }]);
    sandbox.ve("web", json!({ "mounts": mounts }));
    sandbox.apply();
    sandbox.sh("web", &format!("setsid guest keep {kind} /root/is > /root/err 2>&1 < /dev/null &"));
    let is = || sandbox.sh("web", "cat /root/is /root/err 2>/dev/null || true");
    eventually("it is made", || {
        let is = is();
        assert!(["", "ready"].contains(&is.as_str()), "{kind}: {is}");
        is == "ready"
    });
    sandbox.vzd(&["suspend", "web"]).ok();
    sandbox.vzd(&["resume", "web"]).ok();
    sandbox.sh("web", "touch /root/is.go");
    eventually("it is looked at", || is() != "ready" && !is().is_empty());
    assert_eq!(is(), "kept", "{kind}");
}

macro_rules! kinds {
    ($($name:ident: $kind:literal),* $(,)?) => {
        $(#[test] fn $name() { is_kept($kind); })*
    };
}

kinds! {
    pipe: "pipe",
    unix_pair: "unix-pair",
    unix_listener: "unix-listener",
    udp: "udp",
    tcp_listener: "tcp-listener",
    open_file: "open-file",
    deleted_file: "deleted-file",
    flock: "flock",
    threads: "threads",
    devices: "devices",
    process: "process",
    child: "child",
    mounts: "mounts",
    inotify: "inotify",
    timers: "timers",
    eventfd: "eventfd",
    signals: "signals",
    posix_lock: "posix-lock",
    pty: "pty",
    seccomp: "seccomp",
    memfd: "memfd",
    shared_memory: "shared-memory",
    sysv_shm: "sysv-shm",
    sysv_sem: "sysv-sem",
    sysv_msg: "sysv-msg",
}
