//! `vzctl set --name`: a name beside the one that is the VE's identity, by which everything knows it.

use vzd_tests::needs;

use super::{manifest, openvz, running, tool};

#[test]
fn a_container_is_known_by_another_name_while_it_runs() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    let init = sandbox.init_pid("101");
    let before = manifest(&sandbox, "101.yaml");
    let name = |name: &str| sandbox.vzd(&["vzctl", "set", "101", "--name", name, "--save"]);
    name("Web 01").ends(0);
    assert!(manifest(&sandbox, "101.yaml").contains("vzd/name: Web 01\n"));
    for command in [&["vzctl", "exec", "Web 01", "true"][..], &["exec", "Web 01", "--", "/bin/true"]] {
        sandbox.vzd(command).ends(0);
    }
    assert_eq!(
        sandbox.vzd(&["vzlist", "-H", "-o", "ctid,name", "Web 01"]).ends(0).stdout,
        "       101 Web 01\n"
    );
    sandbox.vzd(&["vzlist", "-H", "-N", "Web*", "-o", "smart_name"]).ends(0).says("Web 01");
    sandbox.vzd(&["export", "101", "--format", "openvz"]).ends(0).says("NAME=\"Web 01\"");
    name("web2").ends(0);
    tool(&sandbox, "vzctl exec web2 true").ends(0);
    sandbox.vzd(&["vzctl", "exec", "Web 01", "true"]).ends(21);

    // Nobody else can have it, and it is nobody else's.
    tool(&sandbox, "vzctl create 102 --config test --name web2").ends(44);
    tool(&sandbox, "vzctl create 102 --config test --name db").ends(0);
    assert!(manifest(&sandbox, "102.yaml").contains("name: db\n"));
    name("db").ends(131);
    tool(&sandbox, "vzctl set 102 --name web2 --save").ends(131);
    tool(&sandbox, "vzctl set 102 --name Db_1 --save").ends(0);
    tool(&sandbox, "vzctl status db").ends(0).says("CTID 102 exist");
    tool(&sandbox, "vzctl status Db_1").ends(0).says("CTID 102 exist");
    for wrong in ["a/b", "7", "-x", "x:y"] {
        name(wrong).ends(131);
    }
    tool(&sandbox, "vzctl set 101 --name web3").ends(131);

    name("").ends(0);
    assert_eq!(manifest(&sandbox, "101.yaml"), before);
    assert_eq!(sandbox.init_pid("101"), init);
}

#[test]
fn a_name_of_openvz_is_kept_at_creation() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    sandbox.vzd(&["vzctl", "create", "103", "--config", "test", "--name", "My Shop_1"]).ends(0);
    tool(&sandbox, "vzlist -a -H -o ctid,name").ends(0).says("103 My Shop_1");
    sandbox.vzd(&["vzctl", "start", "My Shop_1"]).ends(0);
    tool(&sandbox, "vzctl status 103").ends(0).says("running");
}
