//! CPU time is shared as cpuunits say, whatever happens inside, and limited as cpulimit says.
//!
//! All VEs of a test are busy on one CPU; what counts is how much each gets of what all of them get, so that
//! others on the machine do not matter. Only for the limits the sandbox asks for more than its fair share.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vzd_tests::{Sandbox, holds_for, needs};

const WINDOW: Duration = Duration::from_secs(10);

/// CPU time of a VE so far, in nanoseconds.
fn cpu_time(sandbox: &Sandbox, ctid: u64) -> u64 {
    let v1 = Path::new("/sys/fs/cgroup/cpuacct").join(sandbox.cgroup_root()).join(ctid.to_string());
    if let Ok(text) = std::fs::read_to_string(v1.join("cpuacct.usage")) {
        return text.trim().parse().unwrap();
    }
    let text = std::fs::read_to_string(sandbox.cgroup(ctid).join("cpu.stat")).unwrap();
    let usec = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap();
    usec.parse::<u64>().unwrap() * 1000
}

/// A VE that is busy on CPU 0 with as many processes as it is told, each with its nice level.
fn busy(units: &str, nices: &[i32]) -> Value {
    let spin = nices.iter().map(|nice| format!("sh -c 'while :; do :; done' & renice -n {nice} -p $!; "));
    let script = format!("{}wait", spin.collect::<String>());
    json!({ "init": ["/bin/sh", "-c", script], "cpu": { "cpuunits": units, "cpumask": "0" } })
}

fn ctids(sandbox: &Sandbox, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| sandbox.status(name).unwrap().ctid().unwrap()).collect()
}

/// The share of each VE in what all of them got in a window.
fn shares(sandbox: &Sandbox, ctids: &[u64]) -> Vec<f64> {
    let read = || ctids.iter().map(|ctid| cpu_time(sandbox, *ctid)).collect::<Vec<_>>();
    let before = read();
    holds_for(WINDOW, "they are busy", || true);
    let got: Vec<f64> = read()
        .iter()
        .zip(before)
        .map(|(now, before)| Duration::from_nanos(now - before).as_secs_f64())
        .collect();
    let all: f64 = got.iter().sum();
    got.iter().map(|got| got / all).collect()
}

#[track_caller]
fn is_shared(shares: &[f64], weights: &[f64]) {
    let all: f64 = weights.iter().sum();
    for (share, weight) in shares.iter().zip(weights) {
        let exact = weight / all;
        assert!((share / exact - 1.0).abs() < 0.02, "{shares:?} where {weights:?} was to be");
    }
}

#[test]
fn time_is_shared_by_units_and_shared_anew_when_they_change() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("a", busy("1000", &[0]));
    sandbox.ve("b", busy("2000", &[0]));
    sandbox.apply();
    let ids = ctids(&sandbox, &["a", "b"]);
    is_shared(&shares(&sandbox, &ids), &[1.0, 2.0]);
    sandbox.ve("a", busy("2000", &[0]));
    sandbox.ve("b", busy("1000", &[0]));
    sandbox.apply();
    is_shared(&shares(&sandbox, &ids), &[2.0, 1.0]);
    sandbox.ve("a", busy("1000", &[0]));
    sandbox.ve("b", busy("3000", &[0]));
    sandbox.apply();
    is_shared(&shares(&sandbox, &ids), &[1.0, 3.0]);
}

#[test]
fn three_share_as_they_should_and_nice_levels_stay_inside() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    // Many processes, and ones that are nice or not to each other, get no more and no less together.
    for (name, units, nices) in
        [("a", "500", &[0, 0, 0] as &[i32]), ("b", "1000", &[19]), ("c", "2000", &[0, 10])]
    {
        sandbox.ve(name, busy(units, nices));
    }
    sandbox.apply();
    let ids = ctids(&sandbox, &["a", "b", "c"]);
    is_shared(&shares(&sandbox, &ids), &[500.0, 1000.0, 2000.0]);
}

/// The sandbox's own group in the tree of the CPU controller, and its file of weight with the most it takes.
fn weight_of_all(sandbox: &Sandbox, ctid: u64) -> (PathBuf, &'static str) {
    let v1 = Path::new("/sys/fs/cgroup/cpu").join(sandbox.cgroup_root()).join("cpu.shares");
    if v1.exists() {
        return (v1, "262144");
    }
    let root = sandbox.cgroup(ctid).parent().unwrap().to_owned();
    (root.join("cpu.weight"), "10000")
}

#[test]
fn a_limit_is_kept_to_and_changed_live() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let limited = |limit: &str| {
        let script = "sh -c 'while :; do :; done' & sh -c 'while :; do :; done' & wait";
        sandbox.ve("a", json!({ "init": ["/bin/sh", "-c", script], "cpu": { "cpulimit": limit } }));
        sandbox.apply();
    };
    let used = |ctid: u64| {
        let (began, before) = (Instant::now(), cpu_time(&sandbox, ctid));
        holds_for(WINDOW, "it is busy", || true);
        let used = Duration::from_nanos(cpu_time(&sandbox, ctid) - before);
        used.as_secs_f64() / began.elapsed().as_secs_f64()
    };
    limited("50%");
    let ctid = ctids(&sandbox, &["a"])[0];
    let (weight, most) = weight_of_all(&sandbox, ctid);
    std::fs::write(weight, most).unwrap();
    let half = used(ctid);
    assert!((half / 0.5 - 1.0).abs() < 0.03, "{half} where 0.5 was to be");
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() >= 2) {
        limited("150%");
        let more = used(ctid);
        assert!((more / 1.5 - 1.0).abs() < 0.03, "{more} where 1.5 was to be");
    }
}
