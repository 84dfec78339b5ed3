//! Limits: set before init runs, changed while it runs, read back from the kernel, given back.
//!
//! The kernel is looked at through its own files, in whichever hierarchy a controller is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use vzd_tests::{Process, Sandbox, eventually, holds_for, needs, within};

/// Whether a controller is in a version 1 hierarchy of its own.
pub(super) fn is_v1(controller: &str) -> bool {
    Path::new("/sys/fs/cgroup").join(controller).join("cgroup.procs").exists()
}

/// A file of a VE's group: its names in version 1 (with the controller) and version 2.
pub(super) struct File(&'static str, &'static str, &'static str);

pub(super) const WEIGHT: File = File("cpu", "cpu.shares", "cpu.weight");
pub(super) const QUOTA: File = File("cpu", "cpu.cfs_quota_us", "cpu.max");
const CPUS: File = File("cpuset", "cpuset.cpus", "cpuset.cpus.effective");
const NODES: File = File("cpuset", "cpuset.mems", "cpuset.mems.effective");
pub(super) const MEMORY: File = File("memory", "memory.limit_in_bytes", "memory.max");
const SWAP: File = File("memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
const IO_WEIGHT: File = File("blkio", "blkio.bfq.weight", "io.weight");
const READS: File = File("blkio", "blkio.throttle.read_bps_device", "io.max");
const WRITE_OPS: File = File("blkio", "blkio.throttle.write_iops_device", "io.max");
pub(super) const TASKS: File = File("pids", "pids.max", "pids.max");

impl File {
    fn path(&self, sandbox: &Sandbox, name: &str) -> PathBuf {
        let ctid = sandbox.status(name).unwrap().ctid().unwrap();
        let File(controller, v1, v2) = self;
        if is_v1(controller) {
            let top = Path::new("/sys/fs/cgroup").join(controller);
            return top.join(sandbox.cgroup_root()).join(ctid.to_string()).join(v1);
        }
        sandbox.cgroup(ctid).join(v2)
    }

    pub(super) fn read(&self, sandbox: &Sandbox, name: &str) -> String {
        let path = self.path(sandbox, name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim().to_owned()
    }

    /// What it should read on this host.
    pub(super) fn pick<'a>(&self, v1: &'a str, v2: &'a str) -> &'a str {
        if is_v1(self.0) { v1 } else { v2 }
    }
}

#[track_caller]
fn reads(sandbox: &Sandbox, file: &File, v1: &str, v2: &str) {
    let (is, should) = (file.read(sandbox, "web"), file.pick(v1, v2));
    assert!(
        is == should || !should.is_empty() && is.contains(should) && file.2 == "io.max",
        "{is} is not {should}"
    );
}

/// Limits that every host with these controllers can have.
fn all(spec: [&str; 10]) -> Value {
    let [cpuunits, cpulimit, cpus, nodemask, ram, swap, ioprio, iolimit, iopslimit, numproc] = spec;
    json!({
        "cpu": { "cpuunits": cpuunits, "cpulimit": cpulimit, "cpumask": cpus, "nodemask": nodemask },
        "memory": { "ram": ram, "swap": swap },
        "io": { "ioprio": ioprio, "iolimit": iolimit, "iopslimit": iopslimit },
        "beancounters": { "numproc": numproc },
    })
}

/// Whether the host has weights of disks; some kernels have none.
fn weighs(sandbox: &Sandbox) -> bool {
    let status = sandbox.vzd(&["status", "-o", "json"]).json();
    status["capabilities"]["ioWeight"] == "yes"
}

/// What a kernel without weights has to do without.
fn fitting(sandbox: &Sandbox, mut spec: Value) -> Value {
    if !weighs(sandbox) {
        spec["io"]["ioprio"] = Value::Null;
    }
    spec
}

#[test]
fn every_limit_is_there_when_init_runs_and_changes_while_it_runs() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let spec = |values| fitting(&sandbox, all(values));
    let mut first = spec(["500", "50%", "0", "0", "256M", "64M", "7", "10M", "500", "100"]);
    // A count that must not skip: each line is one more than the one before.
    first["init"] = json!([
        "/bin/sh",
        "-c",
        "cat /proc/self/cgroup; i=0; while :; do i=$((i+1)); echo $i > /tick.new; mv /tick.new /tick; usleep 2000; done"
    ]);
    sandbox.ve("web", first.clone());
    sandbox.apply();
    reads(&sandbox, &WEIGHT, "512", "50");
    reads(&sandbox, &QUOTA, "50000", "50000 100000");
    reads(&sandbox, &CPUS, "0", "0");
    reads(&sandbox, &NODES, "0", "0");
    reads(&sandbox, &MEMORY, "268435456", "268435456");
    reads(&sandbox, &SWAP, "335544320", "67108864");
    if weighs(&sandbox) {
        reads(&sandbox, &IO_WEIGHT, "160", "default 160");
    }
    assert!(READS.read(&sandbox, "web").contains("10485760"));
    assert!(WRITE_OPS.read(&sandbox, "web").contains("500"));
    reads(&sandbox, &TASKS, "100", "100");
    let cpus = sandbox.sh("web", "nproc");
    assert_eq!(cpus, "1", "it sees as many CPUs as it may use");

    let pid = sandbox.init_pid("web");
    let init = Process::open(pid).unwrap();
    let tick = || sandbox.sh("web", "cat /tick").parse::<u64>().unwrap();
    let before = tick();
    let mut second = spec(["2000", "150%", "0-1", "0", "128M", "0", "0", "20M", "unlimited", "50"]);
    second["init"] = first["init"].clone();
    sandbox.ve("web", second);
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(2);
    sandbox.apply();
    reads(&sandbox, &WEIGHT, "2048", "200");
    reads(&sandbox, &QUOTA, "150000", "150000 100000");
    reads(&sandbox, &MEMORY, "134217728", "134217728");
    reads(&sandbox, &SWAP, "134217728", "0");
    assert!(READS.read(&sandbox, "web").contains("20971520"));
    assert!(!WRITE_OPS.read(&sandbox, "web").contains("500"));
    reads(&sandbox, &TASKS, "50", "50");
    assert_eq!(sandbox.init_pid("web"), pid, "it was restarted");
    assert!(init.is_alive());
    eventually("the count goes on", || tick() > before);

    // What nobody wants any more goes back; and only that.
    let mut bare = json!({ "init": first["init"].clone() });
    bare["cpu"] = json!({ "cpuunits": 2000 });
    sandbox.ve("web", bare);
    sandbox.apply();
    reads(&sandbox, &WEIGHT, "2048", "200");
    reads(&sandbox, &QUOTA, "-1", "max 100000");
    assert!(["max", "9223372036854771712"].contains(&MEMORY.read(&sandbox, "web").as_str()));
    assert!(["max", "9223372036854771712"].contains(&SWAP.read(&sandbox, "web").as_str()));
    assert!(!READS.read(&sandbox, "web").contains("20971520"));
    reads(&sandbox, &TASKS, "max", "max");
    assert_eq!(sandbox.init_pid("web"), pid);
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(0);
    let now = tick();
    eventually("the count still goes on", || tick() > now);
}

#[test]
fn a_limit_set_by_hand_is_put_right_unless_nobody_wants_it() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "cpu": { "cpuunits": 2000 }, "memory": { "ram": "256M" } }));
    sandbox.apply();
    std::fs::write(WEIGHT.path(&sandbox, "web"), "500").unwrap();
    std::fs::write(MEMORY.path(&sandbox, "web"), "536870912").unwrap();
    std::fs::write(TASKS.path(&sandbox, "web"), "77").unwrap();
    let drift = sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2);
    drift.says("spec.cpu.cpuunits").says("spec.memory.ram").says("2 corrections of drift");
    sandbox.apply();
    reads(&sandbox, &WEIGHT, "2048", "200");
    reads(&sandbox, &MEMORY, "268435456", "268435456");
    assert_eq!(TASKS.read(&sandbox, "web"), "77", "nobody wants that, and vzd never set it");
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(0);
    assert!(sandbox.events("web").iter().any(|event| event["cause"] == "corrective"));
}

#[test]
fn memory_lowered_below_use_waits_and_kills_nothing() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let ram = |ram: &str| sandbox.ve("web", json!({ "memory": { "ram": ram, "swap": "0" } }));
    ram("256M");
    let _daemon = sandbox.daemon();
    sandbox.until_ready("web");
    // Files in a tmpfs cannot be taken back without swap.
    sandbox.sh("web", "dd if=/dev/zero of=/dev/shm/held bs=1M count=100 2>/dev/null");
    sandbox.sh("web", "setsid sleep 1000 >/dev/null 2>&1 & echo started");
    let init = Process::open(sandbox.init_pid("web")).unwrap();
    ram("64M");
    let status = sandbox.until("web", "waiting for its memory", |ve| ve.is("ResizePending"));
    let message = status.condition("ResizePending").unwrap().message;
    assert!(message.contains("spec.memory.ram") && message.contains("in use"), "{message}");
    assert!(status.is("Ready"), "{status:?}");
    reads(&sandbox, &MEMORY, "268435456", "268435456");
    holds_for(Duration::from_millis(500), "it runs on", || init.is_alive());
    assert_eq!(sandbox.sh("web", "stat -c %s /dev/shm/held"), "104857600");
    // What it no longer holds is set by itself.
    sandbox.sh("web", "rm /dev/shm/held");
    eventually("the limit is lowered", || MEMORY.read(&sandbox, "web") == "67108864");
    sandbox.until("web", "as wanted", |ve| ve.is("Ready") && ve.condition("ResizePending").is_none());
    reads(&sandbox, &SWAP, "67108864", "0");
    assert!(init.is_alive());
    let asleep = sandbox.sh("web", "pidof sleep | wc -w");
    assert_eq!(asleep, "1", "something was killed");
}

#[test]
fn page_cache_is_no_reason_to_wait() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "memory": { "ram": "256M" } }));
    sandbox.apply();
    sandbox
        .sh("web", "dd if=/dev/zero of=/cached bs=1M count=120 2>/dev/null; sync; cat /cached > /dev/null");
    sandbox.ve("web", json!({ "memory": { "ram": "64M" } }));
    sandbox.apply();
    reads(&sandbox, &MEMORY, "67108864", "67108864");
    assert!(sandbox.status("web").unwrap().condition("ResizePending").is_none());
}

#[test]
fn tasks_are_refused_at_once_and_allowed_at_once() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "beancounters": { "numproc": 100 } }));
    sandbox.apply();
    sandbox.sh(
        "web",
        "for i in 1 2 3 4 5 6 7 8 9 10; do setsid sleep 1000 >/dev/null 2>&1 & done; echo started",
    );
    let asleep = |wanted: &str| {
        within(Duration::from_secs(10), format!("{wanted} sleep"), || {
            (sandbox.sh("web", "pidof sleep | wc -w") == wanted).then_some(())
        });
    };
    asleep("10");
    let init = Process::open(sandbox.init_pid("web")).unwrap();
    sandbox.ve("web", json!({ "beancounters": { "numproc": "12:12" } }));
    sandbox.apply();
    reads(&sandbox, &TASKS, "12", "12");
    assert!(init.is_alive());
    // One shell fits; what it forks does not.
    let refused = sandbox.exec("web", &["/bin/sh", "-c", "(sleep 0); echo $?"]);
    assert!(refused.code != 0 || refused.stderr.contains("fork"), "{refused:?}");
    sandbox.ve("web", json!({ "beancounters": { "numproc": 100 } }));
    sandbox.apply();
    asleep("10");
}

#[test]
fn what_a_kernel_cannot_do_is_said_when_it_is_planned() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "cpu": { "cpumask": "4095" } }));
    let plan = sandbox.vzd(&["plan"]);
    plan.says("spec.cpu.cpumask").says("none of 4095 is there").says("VZ0201");
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    sandbox.ve("web", json!({ "cpu": { "cpumask": "4095", "cpuunits": 2000 } }));
    sandbox.vzd(&["apply"]);
    // What can be done is.
    reads(&sandbox, &WEIGHT, "2048", "200");
    let status = sandbox.status("web").unwrap();
    assert!(status.is("Stalled"), "{status:?}");
    assert_eq!(status.init_pid(), Some(pid));
}

#[test]
fn what_is_in_force_is_told() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "cpu": { "cpuunits": 500_000 }, "memory": { "ram": "256M" } }));
    sandbox.apply();
    let limits = &sandbox.status("web").unwrap().0["status"]["resources"]["limits"];
    assert_eq!(limits["memory.ram"]["asked"], "256M");
    assert_eq!(limits["memory.ram"]["kernel"]["memoryMax"], 268_435_456);
    let note = limits["cpu.cpuunits"]["note"].as_str().unwrap();
    assert!(note.starts_with("clamped to "), "{note}");
    let why = sandbox.vzd(&["why", "web", "memory.ram"]).ok();
    why.says("256M").says("web.yaml").says("268435456");
}

/// Each field of a group with two values for it.
const FIELDS: [(&str, &str, [&str; 2]); 33] = [
    ("cpu", "cpuunits", ["500", "3000"]),
    ("cpu", "cpulimit", ["90%", "unlimited"]),
    ("cpu", "cpus", ["1", "2"]),
    ("cpu", "cpumask", ["0", "0-1"]),
    ("cpu", "nodemask", ["0", "0"]),
    ("memory", "ram", ["200M", "300M"]),
    ("memory", "swap", ["0", "100M"]),
    ("memory", "guarantee", ["10M", "0"]),
    ("memory", "subgroups", ["7", "unlimited"]),
    ("io", "ioprio", ["0", "7"]),
    ("io", "iolimit", ["10M", "unlimited"]),
    ("io", "iopslimit", ["1000", "unlimited"]),
    ("beancounters", "kmemsize", ["14372700:14790164", "unlimited"]),
    ("beancounters", "lockedpages", ["2048", "4096"]),
    ("beancounters", "privvmpages", ["65536:69632", "unlimited"]),
    ("beancounters", "shmpages", ["21504", "unlimited"]),
    ("beancounters", "numproc", ["240", "100"]),
    ("beancounters", "physpages", ["0:200M", "0:300M"]),
    ("beancounters", "vmguarpages", ["33792:unlimited", "100:unlimited"]),
    ("beancounters", "oomguarpages", ["26112:unlimited", "100:unlimited"]),
    ("beancounters", "numtcpsock", ["360", "unlimited"]),
    ("beancounters", "numflock", ["188:206", "unlimited"]),
    ("beancounters", "numpty", ["16", "4"]),
    ("beancounters", "numsiginfo", ["256", "unlimited"]),
    ("beancounters", "tcpsndbuf", ["1720320:2703360", "unlimited"]),
    ("beancounters", "tcprcvbuf", ["1720320:2703360", "unlimited"]),
    ("beancounters", "othersockbuf", ["1126080:2097152", "unlimited"]),
    ("beancounters", "dgramrcvbuf", ["262144", "unlimited"]),
    ("beancounters", "numothersock", ["360", "unlimited"]),
    ("beancounters", "dcachesize", ["3409920:3624960", "unlimited"]),
    ("beancounters", "numfile", ["9312", "unlimited"]),
    ("beancounters", "numiptent", ["128", "unlimited"]),
    ("beancounters", "swappages", ["0:100M", "0:200M"]),
];

#[test]
fn every_single_field_changes_while_a_process_goes_on() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let count = "i=0; while :; do i=$((i+1)); echo $i; usleep 3000; done > /ticks";
    let spec = |group: &str, field: &str, value: Option<&str>| {
        let mut spec = json!({ "init": ["/bin/sh", "-c", count] });
        // Version 1 limits swap only together with RAM.
        if field == "swap" || field == "swappages" {
            spec["memory"] = json!({ "ram": "300M" });
        }
        let number = value.and_then(|value| value.parse::<u64>().ok());
        spec[group][field] = number.map_or_else(|| value.into(), Value::from);
        // By which it is known that this is what is in force.
        spec["description"] = format!("{group}.{field} {value:?}").into();
        spec
    };
    sandbox.ve("web", spec("cpu", "cpuunits", None));
    let _daemon = sandbox.daemon();
    let pid = sandbox.until_ready("web");
    // When PID 1 began, in clock ticks: field 22 of its stat.
    let began = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().to_owned()
    };
    let at_first = began();
    for (group, field, values) in FIELDS {
        let path = format!("spec.{group}.{field}");
        for value in [Some(values[0]), Some(values[1]), None] {
            let spec = spec(group, field, value);
            sandbox.ve("web", spec.clone());
            // It is live, or this host has not got it; nothing ever waits for a restart.
            let status = sandbox.until("web", &format!("given {path} {value:?}"), |ve| {
                ve.0["spec"]["description"] == spec["description"] && !ve.is("Reconciling")
            });
            let known = ["guarantee", "ioprio"].contains(&field) && status.is("Stalled");
            assert!(status.is("Ready") || known, "{path} {value:?}: {status:?}");
            assert!(!status.is("RestartRequired") && !status.is("ResizePending"), "{path}: {status:?}");
        }
    }
    assert_eq!((sandbox.init_pid("web"), began()), (pid, at_first), "it was restarted");
    let ticks = sandbox.sh("web", "cat /ticks");
    let ticks: Vec<u64> = ticks.lines().map(|line| line.parse().unwrap()).collect();
    assert!(ticks.len() > 100 && ticks.iter().zip(1..).all(|(tick, exact)| *tick == exact), "it skipped");
}
