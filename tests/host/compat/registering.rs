//! `vzctl register`, `unregister` and `reinstall`.

use vzd_tests::needs;

use super::{manifest, running, tool};

#[test]
fn a_container_is_reinstalled() {
    needs!(Root, Cgroups, Busybox);
    for served in [false, true] {
        let sandbox = running();
        let _daemon = served.then(|| sandbox.daemon());
        sandbox.sh("101", "echo gone > /root/data; echo ann:x:1:1::/:/bin/sh >> /etc/passwd");
        let before = manifest(&sandbox, "101.yaml");
        tool(&sandbox, "vzctl reinstall 101").ends(32);
        tool(&sandbox, "vzctl stop 101").ends(0);
        assert_eq!(tool(&sandbox, "vzctl reinstall 101 --listscripts").ends(0).stdout, "");
        tool(&sandbox, "vzctl reinstall 101 --scripts mine").ends(128);
        tool(&sandbox, "vzctl reinstall 101 now").ends(20);
        tool(&sandbox, "vzctl reinstall 101 --skipscripts").ends(0).says("What it had is in");
        tool(&sandbox, "vzctl start 101").ends(0);
        assert_eq!(sandbox.sh("101", "ls /root; tail -n 1 /etc/passwd"), "ann:x:1:1::/:/bin/sh");
        tool(&sandbox, "vzctl stop 101").ends(0);
        tool(&sandbox, "vzctl reinstall 101 --skipbackup --resetpwdb").ends(0);
        assert_eq!(manifest(&sandbox, "101.yaml"), before.replace("state: running", "state: stopped"));
        assert_eq!(std::fs::read_dir(sandbox.state_dir().join("exports")).unwrap().count(), 1);
    }
}

#[test]
fn what_is_taken_off_the_books_comes_back_with_its_disk() {
    needs!(Root, Cgroups, Busybox);
    for served in [false, true] {
        let sandbox = running();
        let _daemon = served.then(|| sandbox.daemon());
        sandbox.sh("101", "echo kept > /root/data");
        let before = manifest(&sandbox, "101.yaml");
        let said = tool(&sandbox, "vzctl unregister 101").ends(0).stdout;
        assert!(sandbox.status("101").is_none() && !sandbox.manifests().join("101.yaml").exists());
        tool(&sandbox, "vzctl status 101").ends(0).says("CTID 101 deleted unmounted down");
        // Under another number it is none that was here.
        let aside = sandbox.manifests().join("101.yaml.unregistered").display().to_string();
        assert!(said.contains(&format!("vzctl register {aside} 101")), "{said}");
        tool(&sandbox, &format!("vzctl register {aside} 101")).ends(0);
        tool(&sandbox, "vzctl status 101").ends(0).says("CTID 101 exist unmounted down");
        assert_eq!(manifest(&sandbox, "101.yaml"), before.replace("state: running", "state: stopped"));
        tool(&sandbox, &format!("vzctl register {aside} 101")).ends(140).says("exists already");
        tool(&sandbox, "vzctl start 101").ends(0);
        assert_eq!(sandbox.sh("101", "cat /root/data"), "kept");
    }
}

#[test]
fn a_private_area_of_openvzs_is_used_where_it_is() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = super::openvz();
    let area = sandbox.host_dir("private").join("102");
    std::fs::create_dir(&area).unwrap();
    let register = format!("vzctl register {} 102", area.display());
    tool(&sandbox, &register).ends(140).says("ve.conf");
    let conf = "HOSTNAME=\"old.example.net\"\nNUMPROC=\"77\"\nFOO=\"bar\"\nOSTEMPLATE=\"debian-7.0\"\nONBOOT=\"yes\"\n";
    std::fs::write(area.join("ve.conf"), conf).unwrap();
    tool(&sandbox, &register).ends(140).says("only those can be taken over");
    let copied =
        std::process::Command::new("cp").arg("-a").arg(sandbox.template_dir()).arg(area.join("fs")).status();
    assert!(copied.unwrap().success());
    std::fs::write(area.join("fs/etc/mine"), "from openvz\n").unwrap();
    let told = tool(&sandbox, &register).ends(0);
    assert!(told.stderr.contains("ve.conf:3: FOO"), "{told:?}");
    // Whatever its init is, it is not one of this template's.
    let text = manifest(&sandbox, "102.yaml");
    assert!(text.contains("numproc: 77") && text.contains("state: stopped"), "{text}");
    sandbox.write(
        "102.yaml",
        &text.replace("  state: stopped\n", "  state: stopped\n  init: [/bin/guest, init]\n"),
    );
    tool(&sandbox, "vzctl start 102").ends(0);
    let look = "hostname; cat /etc/mine; stat -c %u /etc/mine; echo changed > /etc/mine";
    assert_eq!(sandbox.sh("102", look), "old.example.net\nfrom openvz\n0");
    assert_eq!(
        std::fs::read_to_string(area.join("fs/etc/mine")).unwrap(),
        "from openvz\n",
        "it stays as it is"
    );
}

#[test]
fn scripts_of_the_hosts_put_a_new_root_in_order() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = super::openvz();
    tool(&sandbox, "vzctl create 101 --config test").ends(0);
    std::fs::create_dir(sandbox.scripts()).unwrap();
    let script = |name: &str, text: &str| std::fs::write(sandbox.scripts().join(name), text).unwrap();
    let reinstall = |words: &str, code: i32| {
        tool(&sandbox, &format!("vzctl reinstall 101 --skipbackup {words}")).ends(code)
    };
    let look = || {
        tool(&sandbox, "vzctl start 101").ends(0);
        let found = sandbox.sh("101", "cat /root/order 2>/dev/null; true");
        tool(&sandbox, "vzctl stop 101 --fast").ends(0);
        found
    };
    assert_eq!(reinstall("--listscripts", 0).stdout, "");
    script("vps.configure", "#!/bin/sh\n# For all of them\necho all $(cat /proc/1/comm) >> /root/order\n");
    script("101.configure", "echo one >> /root/order; [ -z \"$FAIL\" ] || exit 3\n");
    let listed = reinstall("--listscripts --desc", 0).stdout;
    assert_eq!(listed, "vps.configure: For all of them\n101.configure\n");
    reinstall("", 0).says("Running 101.configure");
    assert_eq!(look(), "all sh\none");
    reinstall("--skipscripts", 0);
    assert_eq!(look(), "");
    reinstall("--scripts 101.configure", 0);
    assert_eq!(look(), "one");
    reinstall("--scripts none.configure", 128).says("there is no script none.configure");
    script("101.configure", "exit 3\n");
    reinstall("", 128).says("101.configure ended with 3");
    assert_eq!(tool(&sandbox, "vzctl status 101").stdout, "CTID 101 exist unmounted down\n");
}
