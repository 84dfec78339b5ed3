//! `vz.conf`, which commands read each time; and traffic shaping.

use std::os::unix::fs::PermissionsExt;

use vzd_tests::{Sandbox, needs};

use super::{manifest, openvz, tool};

fn vz_conf(sandbox: &Sandbox, text: &str) -> std::path::PathBuf {
    let path = sandbox.dir().join("vz.conf");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn what_vz_conf_says_holds_for_new_containers() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    let dir = sandbox.host_dir("vz");
    std::fs::create_dir(dir.join("cache")).unwrap();
    let packed = std::process::Command::new("tar")
        .arg("-cf")
        .arg(dir.join("cache/debian-7.0-x86.tar"))
        .args(["-C", sandbox.template_dir().to_str().unwrap(), "."])
        .status();
    assert!(packed.unwrap().success());
    let log = sandbox.dir().join("vzctl.log");
    let path = vz_conf(
        &sandbox,
        &format!(
            "CONFIGFILE=\"test\"\nDEF_OSTEMPLATE=\"debian-7.0-x86\"\nTEMPLATE={}\nLOGGING=yes\nLOGFILE={}\nSTOP_TIMEOUT=7\n\
             NAMESERVER=\"10.9.9.9\"\nNETFILTER=full\nRATE=\"*:1:8\"\nVE_ROOT=\"/vz/root/$VEID\"\nNUMPROC=\"400\"\n",
            dir.display(),
            log.display()
        ),
    );
    let ended = tool(&sandbox, "vzctl create 101").ends(0);
    assert!(ended.stderr.contains("vz.conf:8: NETFILTER") && ended.stderr.lines().count() == 1, "{ended:?}");
    let text = manifest(&sandbox, "101.yaml");
    // The sample has a template and a time to stop of its own.
    for (said, is) in [("profile: test", true), ("numproc: 400", true), ("10.9.9.9", true), ("rate", false)] {
        assert_eq!(text.contains(said), is, "{said}: {text}");
    }
    assert!(!text.contains("template") && !text.contains("stopTimeout"), "{text}");
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.ends_with("+0000 vzctl : CT 101 : Container private area was created\n"), "{logged}");
    tool(&sandbox, "vzctl start 101").ends(0);
    tool(&sandbox, "vzctl start 101").ends(32);
    assert!(std::fs::read_to_string(&log).unwrap().ends_with(" : CT 101 : Container is already running\n"));

    // Of a template that only OpenVZ's directory has; what is said is said.
    tool(&sandbox, "vzctl create 102 --config vswap-256m").ends(0);
    let text = manifest(&sandbox, "102.yaml");
    let source = format!("template: file:{}/cache/debian-7.0-x86.tar\n", dir.display());
    assert!(text.contains(&source) && text.contains("stopTimeout: 7s\n"), "{text}");
    tool(&sandbox, "vzctl create 103 --config test --ostemplate debian-7.0-x86").ends(0);
    assert!(manifest(&sandbox, "103.yaml").contains(&source));
    sandbox.sh("101", "true");

    // The host's manifest has the last word.
    let host = "apiVersion: vzd/v1\nkind: Host\nmetadata: {name: host}\nspec: {defaultProfile: test, defaultTemplate: tiny}\n";
    sandbox.write("host.yaml", host);
    tool(&sandbox, "vzctl create 104").ends(0);
    let text = manifest(&sandbox, "104.yaml");
    assert!(!text.contains("profile") && !text.contains("template"), "{text}");
    // What somebody else could have written is not believed.
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let ended = tool(&sandbox, "vzctl create 105").ends(0).says("others than root");
    assert!(!manifest(&sandbox, "105.yaml").contains("numproc"), "{ended:?}");
}

#[test]
fn a_bound_of_what_is_sent_is_a_rate() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    tool(&sandbox, "vzctl create 101 --config test").ends(0);
    let before = manifest(&sandbox, "101.yaml");
    let set = |words: &str, code: i32| tool(&sandbox, &format!("vzctl set 101 {words} --save")).ends(code);
    set("--rate *:1:512", 21).says("--ratebound yes makes it one");
    set("--ratebound yes", 21);
    set("--rate eth0:1:512 --ratebound yes", 21);
    set("--rate *:2:512 --ratebound yes", 21);
    assert_eq!(manifest(&sandbox, "101.yaml"), before);
    set("--ratebound yes --rate *:1:512", 0);
    assert!(manifest(&sandbox, "101.yaml").contains("out: 512K\n"));
    set("--rate *:1:1024", 0);
    assert!(manifest(&sandbox, "101.yaml").contains("out: 1024K\n"));
    set("--ratebound no", 0);
    assert_eq!(manifest(&sandbox, "101.yaml"), before);
    // The same in files.
    let conf = sandbox.host_dir("conf");
    std::fs::write(conf.join("102.conf"), "RATE=\"*:1:100\"\nRATEBOUND=\"yes\"\n").unwrap();
    std::fs::write(conf.join("103.conf"), "RATE=\"*:1:100\"\n").unwrap();
    let ended = sandbox.vzd(&["import", "openvz", "--conf", conf.to_str().unwrap()]).ok();
    assert!(ended.stderr.contains("103.conf:1: RATE") && !ended.stderr.contains("102.conf:"), "{ended:?}");
    assert!(manifest(&sandbox, "102.yaml").contains("out: 100K\n"));
}
