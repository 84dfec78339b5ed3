//! Parameters that are no field of a manifest's, and what is made of them.

use vzd_tests::needs;

use super::{manifest, openvz, tool};

#[test]
fn what_is_disabled_is_started_by_force_alone() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    tool(&sandbox, "vzctl create 101 --config test").ends(0);
    let before = manifest(&sandbox, "101.yaml");
    tool(&sandbox, "vzctl set 101 --disabled yes --save").ends(0);
    assert!(
        manifest(&sandbox, "101.yaml").contains("vzd/disabled: \"yes\"\n"),
        "{}",
        manifest(&sandbox, "101.yaml")
    );
    tool(&sandbox, "vzctl start 101").ends(105);
    assert_eq!(tool(&sandbox, "vzlist -a -H -o ctid,disabled").ends(0).stdout, "       101    yes\n");
    tool(&sandbox, "vzctl start 101 --force").ends(0);
    tool(&sandbox, "vzctl restart 101").ends(105);
    tool(&sandbox, "vzctl stop 101").ends(0);
    tool(&sandbox, "vzctl set 101 --disabled no --save").ends(0);
    assert_eq!(manifest(&sandbox, "101.yaml"), before);
    tool(&sandbox, "vzctl start 101").ends(0);
}

#[test]
fn what_is_reckoned_comes_after_what_it_is_reckoned_from() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    tool(&sandbox, "vzctl create 101 --config test").ends(0);
    let set = |words: &str, code: i32| tool(&sandbox, &format!("vzctl set 101 {words} --save")).ends(code);
    set("--vm_overcommit 1.5", 21).says("no limit of RAM");
    set("--vm_overcommit 1.5 --memguarantee 25 --ram 512M --swap 512M", 0);
    let text = manifest(&sandbox, "101.yaml");
    assert!(text.contains("privvmpages: 393216\n") && text.contains("guarantee: 128M\n"), "{text}");
    let shown = || tool(&sandbox, "vzlist -a -H -o ctid,vm_overcommit").ends(0).stdout;
    assert_eq!(shown(), "       101    1.5\n");
    tool(&sandbox, "vzlist -a -j -o vm_overcommit").ends(0).says("\"vm_overcommit\": 1.5\n");
    set("--memguarantee auto --vm_overcommit 0", 0);
    assert_eq!(shown(), "       101      -\n");
    let text = manifest(&sandbox, "101.yaml");
    assert!(text.contains("privvmpages: unlimited\n") && !text.contains("guarantee"), "{text}");
    // The same in files, in whatever order.
    let conf = sandbox.host_dir("conf");
    std::fs::write(conf.join("102.conf"), "VM_OVERCOMMIT=\"2\"\nPHYSPAGES=\"0:1000\"\nSWAPPAGES=\"0:500\"\n")
        .unwrap();
    let ended = sandbox.vzd(&["import", "openvz", "--conf", conf.to_str().unwrap()]).ok();
    assert!(manifest(&sandbox, "102.yaml").contains("privvmpages: 3000\n"), "{ended:?}");
}

#[test]
fn a_sample_that_is_applied_goes_before_what_the_manifest_said() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    tool(&sandbox, "vzctl create 101 --config test --hostname web").ends(0);
    let template = sandbox.template();
    tool(&sandbox, "vzctl set 101 --ram 1G --numproc 77 --cpuunits 500 --save").ends(0);
    // A profile is one: its init and template are no sample's.
    let text = manifest(&sandbox, "101.yaml");
    let own = format!("  hostname: web\n  template: {template}\n  init: [/bin/guest, init]\n");
    sandbox.write("101.yaml", &text.replace("  hostname: web\n", &own));
    tool(&sandbox, "vzctl set 101 --applyconfig vswap-256m --save").ends(0);
    let text = manifest(&sandbox, "101.yaml");
    for (said, is) in [
        ("profile: vswap-256m", true),
        ("ram", false),
        ("cpuunits", false),
        ("numproc: 77", true),
        (&*own, true),
    ] {
        assert_eq!(text.contains(said), is, "{said}: {text}");
    }
    assert_eq!(tool(&sandbox, "vzlist -a -H -o physpages.l,cpuunits").ends(0).stdout, "     65536    1000\n");
    tool(&sandbox, "vzctl set 101 --applyconfig_map name --save").ends(0);
    tool(&sandbox, "vzctl set 101 --applyconfig_map all --save").ends(21);
}

#[test]
fn groups_that_a_container_makes_are_counted() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = super::running();
    let make = |name: &str| sandbox.exec("101", &["mkdir", &format!("/sys/fs/cgroup/{name}")]).code;
    tool(&sandbox, "vzctl set 101 --nummemorysubgroups 2").ends(0);
    assert_eq!([make("a"), make("a/b"), make("c")], [0, 0, 1]);
    tool(&sandbox, "vzctl set 101 --nummemorysubgroups 3 --save").ends(0);
    assert!(manifest(&sandbox, "101.yaml").contains("  memory:\n    subgroups: 3\n"));
    assert_eq!([make("c"), make("d")], [0, 1]);
    // Whoever is root there does not lift it.
    let lifted = sandbox.exec("101", &["sh", "-c", "echo max > /sys/fs/cgroup/cgroup.max.descendants"]);
    assert_ne!(lifted.code, 0, "{lifted:?}");
    tool(&sandbox, "vzctl set 101 --nummemorysubgroups unlimited --save").ends(0);
    assert_eq!(make("d"), 0);
    for (value, why) in
        [("disabled", "net_admin:off"), ("stateless", "modules"), ("some", "none of disabled")]
    {
        tool(&sandbox, &format!("vzctl set 101 --netfilter {value} --save")).ends(21).says(why);
    }
    tool(&sandbox, "vzctl set 101 --netfilter full --save").ends(0);
}

#[test]
fn rules_of_set_are_those_of_old() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = super::running();
    for (line, code) in [
        ("vzctl set 101 --name web", 131),
        ("vzctl set 101 --ostemplate other", 20),
        ("vzctl set 101 --stop-timeout 10", 20),
        ("vzctl set 101 --offline-resize --save", 21),
        ("vzctl set 101 --root /vz/root/101 --save", 32),
        ("vzctl set 101 --private /vz/private/101 --save", 32),
        ("vzctl set 101 --force --numproc 100", 21),
        ("vzctl set 101 --cpulimit 500m --save", 21),
        ("vzctl set 101 --numproc 5M --save", 21),
        ("vzctl set 999 --numproc 5 --save", 14),
        ("vzctl set 101 -p 77 -n 2048 -x 4M --save", 0),
        ("vzctl status 101 now", 20),
        ("vzctl status 101 --now", 21),
        ("vzctl compact 101 --defrag --threshold 5", 0),
        ("vzctl compact 101 --frobnicate", 21),
        ("vzctl convert 101 --layout ploop", 155),
        ("vzctl quotaoff 101 now", 20),
        ("vzctl snapshot-list 101 now", 20),
    ] {
        assert_eq!(tool(&sandbox, line).code, code, "{line}");
    }
    let text = manifest(&sandbox, "101.yaml");
    for said in ["numproc: 77\n", "numfile: 2048\n", "dcachesize: 4M\n"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    tool(&sandbox, "vzctl stop 101").ends(0);
    // An interface has addresses of its own.
    let add = "--netif_add eth5,,,,br0 --ifname eth5 --ipadd 10.1.0.5/24 --ipadd fd00::5/64 --gw 10.1.0.1 --gw6 fd00::1";
    tool(&sandbox, &format!("vzctl set 101 {add} --save")).ends(0);
    let interface = || sandbox.status("101").unwrap().0["spec"]["network"]["interfaces"][0].clone();
    let is = interface();
    assert_eq!(is["addresses"], serde_json::json!(["10.1.0.5/24", "fd00::5/64"]), "{is}");
    assert_eq!(is["gateway"], serde_json::json!(["10.1.0.1", "fd00::1"]), "{is}");
    tool(&sandbox, "vzctl set 101 --ifname eth5 --ipdel 10.1.0.5 --gw= --save").ends(0);
    let is = interface();
    assert_eq!(is["addresses"], serde_json::json!(["fd00::5/64"]), "{is}");
    assert_eq!(is["gateway"], serde_json::json!(["fd00::1"]), "{is}");
    for (words, why) in [
        ("--dhcp yes", "own"),
        ("--network lan", "--bridge"),
        ("--gw fd00::1", "other family"),
        ("--configure yes", "outside"),
    ] {
        tool(&sandbox, &format!("vzctl set 101 --ifname eth5 {words} --save")).ends(21).says(why);
    }
    // Samples of vz7 have names that no profile has.
    std::fs::create_dir_all(sandbox.scripts()).unwrap();
    let sample = sandbox.scripts().join("ve-vswap.512MB.conf-sample");
    let text = "PHYSPAGES=\"131072:131072\"\nSWAPPAGES=\"0:0\"\nNUMMEMORYSUBGROUPS=\"512\"\n";
    std::fs::write(sample, text).unwrap();
    let template = sandbox.template();
    tool(&sandbox, &format!("vzctl create 103 --config vswap.512MB --ostemplate {template}")).ends(0);
    assert!(manifest(&sandbox, "profile-vswap-512mb.yaml").contains("subgroups: 512"));
    tool(&sandbox, &format!("vzctl create 104 --config vswap-1024m --ostemplate {template}")).ends(0);
}
