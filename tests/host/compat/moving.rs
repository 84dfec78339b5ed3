//! `vzd import openvz`: configurations become manifests that run.

use vzd_tests::needs;

use super::{manifest, openvz, tool};

#[test]
fn containers_come_over_with_a_report_of_what_does_not() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    let conf = sandbox.host_dir("conf");
    std::fs::write(conf.join("101.conf"), "# made by hand\nVE_ROOT=\"/vz/root/$VEID\"\nOSTEMPLATE=\"debian-7.0\"\nNUMPROC=\"77\"\nHOSTNAME=\"old.example.net\"\nNETFILTER=\"stateless\"\nFOO=\"bar\"\n").unwrap();
    std::fs::write(conf.join("0.conf"), "ONBOOT=\"no\"\n").unwrap();
    std::fs::write(
        conf.join("ve-vswap-256m.conf-sample"),
        "PHYSPAGES=\"0:256M\"\nSWAPPAGES=\"0:512M\"\nCPUUNITS=\"1000\"\n",
    )
    .unwrap();
    let dir = conf.to_str().unwrap();
    let dry = sandbox.vzd(&["import", "openvz", "--conf", dir, "--dry-run"]).ok();
    assert!(dry.stdout.contains("numproc: 77") && !sandbox.manifests().join("101.yaml").exists(), "{dry:?}");
    let ended = sandbox.vzd(&["import", "openvz", "--conf", dir, "--verify"]).ok();
    for told in
        ["101.conf:2: VE_ROOT", "101.conf:6: NETFILTER", "101.conf:7: FOO", "0 errors", "0 not as described"]
    {
        assert!(ended.stderr.contains(told), "{told}: {ended:?}");
    }
    assert!(manifest(&sandbox, "101.yaml").contains("template: debian-7.0\n"));
    // Nothing is overwritten.
    sandbox.vzd(&["import", "openvz", "--conf", dir]).ends(1).says("101.yaml");
    // What is there is compared: with what somebody changed, and with what the host adds.
    let verify = ["import", "openvz", "--conf", dir, "--verify"];
    sandbox.vzd(&verify).ok();
    let imported = manifest(&sandbox, "101.yaml");
    sandbox.write("101.yaml", &imported.replace("numproc: 77", "numproc: 78 # more"));
    sandbox.vzd(&verify).ends(65).says("spec.beancounters.numproc");
    sandbox.write("101.yaml", &imported);
    sandbox.write(
        "host.yaml",
        "apiVersion: vzd/v1\nkind: Host\nmetadata: {name: host}\nspec: {defaultProfile: vswap-256m}\n",
    );
    sandbox.vzd(&verify).ends(65).says("spec.memory.ram");
    sandbox.unlink("host.yaml");
    // The sample is a profile that containers can be made with.
    let template = sandbox.template();
    tool(&sandbox, &format!("vzctl create 150 --config vswap-256m --ostemplate {template}")).ends(0);
    assert_eq!(tool(&sandbox, "vzlist -a -H -o physpages.l,vswap 150").ends(0).stdout, "     65536   yes\n");
}
