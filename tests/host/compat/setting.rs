//! `vzctl set`: the manifest says it, the kernel has it, and nothing else of the file is touched.

use serde_json::json;
use vzd_tests::{Sandbox, eventually, needs};

use super::{manifest, openvz, tool};

/// A manifest as somebody writes it.
const BY_HAND: &str = "# The shop. Ask Ann before you touch it.\n\
    apiVersion: vzd/v1\nkind: VE\nmetadata: {name: shop}   # one word\nspec:\n  ctid: 200\n  profile: test\n\n  \
    # Peak was 80 in May.\n  beancounters: {numproc: 100, numfile: 4000}   # both\n  memory:\n      ram: 64M  # too little?\n";

fn shop() -> Sandbox {
    let sandbox = openvz();
    sandbox.write("shop.yaml", BY_HAND);
    sandbox.apply();
    sandbox
}

fn pids_max(sandbox: &Sandbox) -> String {
    let v2 = std::fs::read_to_string(sandbox.cgroup(200).join("pids.max"));
    v2.or_else(|_| {
        let groups = sandbox.cgroups();
        let file = groups
            .iter()
            .map(|group| group.join("pids.max"))
            .find(|file| file.exists() && file.to_string_lossy().contains("/200"));
        std::fs::read_to_string(file.unwrap())
    })
    .unwrap()
    .trim()
    .to_owned()
}

#[test]
fn a_change_is_in_the_kernel_and_in_the_file_and_nothing_else_of_the_file_is() {
    needs!(Root, Cgroups, Busybox);
    for served in [false, true] {
        let sandbox = shop();
        let _daemon = served.then(|| sandbox.daemon());
        let init = sandbox.init_pid("shop");
        assert_eq!(pids_max(&sandbox), "100");
        tool(&sandbox, "vzctl set shop --numpr 120 --physpages 0:128M --onboot yes --description x --save")
            .ends(0);
        assert_eq!(pids_max(&sandbox), "120");
        assert_eq!(
            manifest(&sandbox, "shop.yaml"),
            BY_HAND.replace("numproc: 100", "numproc: 120").replace("ram: 64M", "ram: 128M")
                + "  onBoot: true\n  description: x\n"
        );
        // By its number, and by another beginning; what is said already changes nothing.
        let before = manifest(&sandbox, "shop.yaml");
        tool(&sandbox, "vzctl set 200 --numproc=120 --sav").ends(0);
        assert_eq!(manifest(&sandbox, "shop.yaml"), before);
        assert_eq!(sandbox.init_pid("shop"), init, "it was not restarted");
    }
}

#[test]
fn what_cannot_all_be_applied_is_not_saved() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = shop();
    sandbox.ve("other", json!({ "network": { "addresses": ["10.11.12.13"] }, "state": "stopped" }));
    for (line, code) in [
        // Another has it.
        ("vzctl set shop --numproc 90 --ipadd 10.11.12.13 --save", 78),
        // No option of this kind; not carried out yet; and no CPU of that number.
        ("vzctl set shop --numproc 90 --mount_opts noexec --save", 21),
        ("vzctl set shop --numproc 90 --features nfs:on --save", 3),
        ("vzctl set shop --numproc 90 --cpumask 4000 --save", 2),
        ("vzctl set shop --quotaugidlimit 100 --save", 65),
    ] {
        let ended = tool(&sandbox, line);
        assert_eq!(ended.code, code, "{line}: {ended:?}");
        assert_eq!(manifest(&sandbox, "shop.yaml"), BY_HAND, "{line}");
        assert_eq!(pids_max(&sandbox), "100", "{line}");
    }
}

#[test]
fn what_needs_a_restart_waits_for_one_or_gets_it() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = shop();
    let init = sandbox.init_pid("shop");
    tool(&sandbox, "vzctl set shop --capability sys_time:on --setmode ignore --save").ends(32);
    assert_eq!(manifest(&sandbox, "shop.yaml"), BY_HAND);
    tool(&sandbox, "vzctl set shop --capability net_raw:off --save")
        .ends(0)
        .says("after the container is restarted");
    tool(&sandbox, "vzctl set shop --mount_opts noatime,nosuid --save")
        .ends(0)
        .says("after the container is restarted");
    assert_eq!(sandbox.init_pid("shop"), init);
    assert!(sandbox.status("shop").unwrap().is("RestartRequired"));
    tool(&sandbox, "vzctl set shop --capability chown:off --setmode restart --save").ends(0);
    assert_ne!(sandbox.init_pid("shop"), init);
    assert!(!sandbox.status("shop").unwrap().is("RestartRequired"));
    assert!(
        manifest(&sandbox, "shop.yaml").contains("net_raw, chown]"),
        "{}",
        manifest(&sandbox, "shop.yaml")
    );
}

#[test]
fn the_host_says_what_commands_may_do_to_manifests() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = shop();
    let policy = |word: &str| {
        sandbox.write(
            "host.yaml",
            &format!(
                "apiVersion: vzd/v1\nkind: Host\nmetadata: {{name: host}}\nspec: {{manifestPolicy: {word}}}\n"
            ),
        );
    };
    policy("refuse");
    let refused = tool(&sandbox, "vzctl set shop --numproc 70 --save").ends(139);
    assert!(
        refused.stderr.contains(
            "\n-  beancounters: {numproc: 100, numfile: 4000}   # both\n+  beancounters: {numproc: 70"
        ),
        "{refused:?}"
    );
    // Stopping is an order, which stands above the manifest.
    tool(&sandbox, "vzctl stop shop --fast").ends(0);
    tool(&sandbox, "vzctl create 300 --config test").ends(139);
    policy("patch");
    tool(&sandbox, "vzctl set shop --numproc 70 --save").ends(0).says("the patch is");
    assert_eq!(manifest(&sandbox, "shop.yaml"), BY_HAND);
    let patch = std::fs::read_to_string(sandbox.state_dir().join("patches/shop-0001.patch")).unwrap();
    assert!(patch.starts_with("--- a/") && patch.contains("+  beancounters: {numproc: 70"), "{patch}");
}

#[test]
fn links_are_followed_and_modes_stay() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    let real = sandbox.host_dir("repo").join("real.yaml");
    std::fs::write(&real, BY_HAND).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&real, sandbox.manifests().join("shop.yaml")).unwrap();
    sandbox.apply();
    tool(&sandbox, "vzctl set shop --numproc 110 --save").ends(0);
    let is = std::fs::symlink_metadata(sandbox.manifests().join("shop.yaml")).unwrap();
    assert!(is.is_symlink());
    assert!(std::fs::read_to_string(&real).unwrap().contains("numproc: 110"));
    assert_eq!(std::fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
    eventually("no file is left beside it", || {
        std::fs::read_dir(real.parent().unwrap()).unwrap().count() == 1
    });
}

#[test]
fn every_parameter_with_a_home_gets_there() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    let _daemon = sandbox.daemon();
    // Limits of a disk belong to a disk that was made with some.
    tool(&sandbox, "vzctl create 101 --config test --diskspace 2G --diskinodes 20000").ends(0);
    for (options, field, value) in [
        ("--kmemsize 14M:15M", "beancounters.kmemsize", "14M:15M"),
        ("--lockedpages 4M", "beancounters.lockedpages", "1024"),
        ("--numtcpsock 30", "beancounters.numtcpsock", "30"),
        ("--numothersock 30", "beancounters.numothersock", "30"),
        ("--ram 256M --swap 512M", "memory.swap", "512M"),
        ("--cpuunits 2000", "cpu.cpuunits", "2000"),
        ("--cpulimit 50", "cpu.cpulimit", "50%"),
        ("--cpus 1", "cpu.cpus", "1"),
        ("--diskspace 1048576:1153434", "disk.diskspace", "1G:1153434K"),
        ("--diskinodes 10000:20000", "disk.diskinodes", "10000:20000"),
        ("--quotatime 600", "disk.quotatime", "10m"),
        ("--ioprio 6", "io.ioprio", "6"),
        ("--iolimit 10", "io.iolimit", "10M"),
        ("--iopslimit 500", "io.iopslimit", "500"),
        ("--hostname a.example.net", "hostname", "a.example.net"),
        ("--bootorder 7", "bootOrder", "7"),
        ("--stop-timeout 30", "stopTimeout", "30s"),
        ("--features tun:on", "security.features.tun", "true"),
    ] {
        let ended = tool(&sandbox, &format!("vzctl set 101 {options} --save"));
        assert_eq!(ended.code, 0, "{options}: {ended:?}");
        let why = sandbox.vzd(&["why", "101", field, "-o", "json"]).ok().json();
        let is = why["value"].as_str().map_or_else(|| why["value"].to_string(), str::to_owned);
        assert_eq!(is, value, "{options}");
    }
    for (options, line) in [
        ("--ipadd 10.9.8.7 --ipadd fd00::7", "addresses: [10.9.8.7, \"fd00::7\"]"),
        ("--ipadd 10.9.8.7/24", "addresses: [\"fd00::7\", 10.9.8.7/24]"),
        ("--ipdel fd00::7", "addresses: [10.9.8.7/24]"),
        ("--ipdel all --ipadd 10.9.8.6", "addresses: [10.9.8.6]"),
        ("--netif_add eth0,02:00:00:00:00:01,,,br9", "bridge: br9"),
        ("--ifname eth0 --mac_filter off", "macFilter: false"),
        ("--devnodes null:rw", "path: /dev/null"),
        ("--devices c:1:3:r", "1:3"),
        ("--bindmount_add /srv:/srv,nosuid", "target: /srv"),
    ] {
        let ended = tool(&sandbox, &format!("vzctl set 101 {options} --save"));
        assert_eq!(ended.code, 0, "{options}: {ended:?}");
        assert!(
            manifest(&sandbox, "101.yaml").contains(line),
            "{options}:\n{}",
            manifest(&sandbox, "101.yaml")
        );
    }
    tool(&sandbox, "vzctl set 101 --netif_del eth0 --devnodes null:none --devices c:1:3:none --bindmount_del /srv --ipdel all --save").ends(0);
    let left = manifest(&sandbox, "101.yaml");
    assert!(!["network", "devices", "mounts"].iter().any(|gone| left.contains(gone)), "{left}");
}
