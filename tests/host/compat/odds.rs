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
    set("--memguarantee auto --vm_overcommit 0", 0);
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
