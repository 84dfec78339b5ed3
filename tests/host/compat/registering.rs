//! `vzctl register` and `unregister`.

use vzd_tests::needs;

use super::{manifest, running, tool};

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
    tool(&sandbox, &register).ends(140).says("only files as they lie there");
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
