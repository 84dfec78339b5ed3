//! What is counted of a VE, and what it is shown of its share: both go on where they were when it is resumed.

use serde_json::{Value, json};
use vzd_tests::{Sandbox, eventually, needs};

use crate::migrate::via;

fn numproc(sandbox: &Sandbox) -> Value {
    let all = sandbox.vzd(&["ubc", "web", "-o", "json"]).ok().json();
    let counters = all[0]["counters"].as_array().unwrap();
    counters.iter().find(|counter| counter["name"] == "numproc").unwrap().clone()
}

/// Has it run into its limit, until what it could start has ended.
fn exceed(sandbox: &Sandbox, held: &Value) {
    let fork = "for i in $(seq 40); do sleep 1 & done > /dev/null 2>&1";
    drop(sandbox.exec("web", &["/bin/sh", "-c", fork]));
    eventually("they have ended", || numproc(sandbox)["held"] == *held);
}

#[test]
fn counters_go_on_where_they_were() {
    needs!(Root, Cgroups, Busybox, Criu);
    let (here, there) = (Sandbox::new(), Sandbox::new());
    for sandbox in [&here, &there] {
        sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
    }
    here.ve("web", json!({ "beancounters": { "numproc": 20 } }));
    here.apply();
    here.sh("web", "setsid guest pause > /dev/null 2>&1 < /dev/null &");
    let held = numproc(&here)["held"].clone();
    exceed(&here, &held);
    let before = numproc(&here);
    assert!(before["failcnt"].as_u64() > Some(0) && before["maxheld"] == 20, "{before}");
    let same = |sandbox: &Sandbox, before: &Value, when: &str| {
        let after = numproc(sandbox);
        let told = ["held", "maxheld", "limit", "failcnt"];
        assert_eq!(told.map(|of| &after[of]), told.map(|of| &before[of]), "{when}");
    };
    here.vzd(&["suspend", "web"]).ok();
    here.power_cut();
    here.vzd(&["resume", "web"]).ok();
    same(&here, &before, "resumed");
    // They go on from there, also over a second time and on another host.
    exceed(&here, &held);
    let more = numproc(&here);
    assert!(more["failcnt"].as_u64() > before["failcnt"].as_u64(), "{more}");
    here.vzd(&["suspend", "web"]).ok();
    here.vzd(&["resume", "web"]).ok();
    same(&here, &more, "resumed again");
    here.vzd(&["migrate", "web", "--via", &via(&there, "")]).ok();
    same(&there, &more, "on another host");
    // A new run begins anew.
    there.vzd(&["restart", "web", "--force"]).ok();
    let anew = numproc(&there);
    assert!(anew["failcnt"] == 0 && anew["maxheld"].as_u64() < Some(20), "{anew}");
}

#[test]
fn views_of_its_share_are_made_again() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    let lxcfs = sandbox.host_dir("lxcfs");
    let host = json!({ "apiVersion": "vzd/v1", "kind": "Host", "metadata": { "name": "host" }, "spec": { "lxcfs": lxcfs } });
    std::fs::create_dir(lxcfs.join("proc")).unwrap();
    let show = |what: &str| {
        for view in ["cpuinfo", "diskstats", "loadavg", "meminfo", "stat", "swaps", "uptime"] {
            std::fs::write(lxcfs.join("proc").join(view), format!("{what} {view}\n")).unwrap();
        }
    };
    show("view of");
    sandbox.write("host.yaml", &host.to_string());
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let mounts = || sandbox.sh("web", "grep -c ' /proc/\\(uptime\\|meminfo\\) ' /proc/mounts");
    assert_eq!(
        (sandbox.sh("web", "cat /proc/uptime"), mounts()),
        ("view of uptime".to_owned(), "2".to_owned())
    );
    // One who looks all the time, and reads the file anew.
    let watch = "while sleep 0.05; do cat /proc/meminfo; done > /root/seen 2>&1";
    sandbox.sh("web", &format!("setsid sh -c '{watch}' > /dev/null 2>&1 < /dev/null &"));
    eventually("it looks", || !sandbox.sh("web", "cat /root/seen 2>/dev/null || true").is_empty());
    sandbox.vzd(&["suspend", "web"]).ok();
    // It has been started again meanwhile.
    std::fs::remove_dir_all(lxcfs.join("proc")).unwrap();
    std::fs::create_dir(lxcfs.join("proc")).unwrap();
    show("new view of");
    sandbox.vzd(&["resume", "web"]).ok();
    assert_eq!(
        (sandbox.sh("web", "cat /proc/uptime"), mounts()),
        ("new view of uptime".to_owned(), "2".to_owned())
    );
    eventually("it sees it", || sandbox.sh("web", "tail -n 1 /root/seen") == "new view of meminfo");
    let seen = sandbox.sh("web", "sort -u /root/seen");
    assert_eq!(seen, "new view of meminfo\nview of meminfo");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
}
