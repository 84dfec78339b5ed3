//! Templates: archives taken in and out, and real distributions that are built, boot, and end as they like.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use vzd_tests::{Sandbox, eventually, needs, within};

#[test]
fn a_template_is_added_used_and_removed() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let archive = sandbox.dir().join("web.tar.gz");
    let packed = Command::new("tar")
        .arg("-C")
        .arg(sandbox.template_dir())
        .args(["-czf"])
        .arg(&archive)
        .arg(".")
        .status();
    assert!(packed.unwrap().success());
    let file = archive.to_str().unwrap();
    sandbox.vzd(&["template", "add", "web", file, "--sha256", "00"]).ends(1).says("VZ0304").says("not 00");
    sandbox.vzd(&["template", "add", "web", file]).ok().says("web: added");
    sandbox.ve("one", json!({ "template": "web" }));
    sandbox.apply();
    assert_eq!(sandbox.sh("one", "echo here"), "here");
    let listed = sandbox.vzd(&["template", "list", "-o", "json"]).ok().json();
    let web = listed.as_array().unwrap().iter().find(|is| is["name"] == "web").unwrap().clone();
    assert_eq!(
        (&web["kind"], &web["usedBy"], &web["file"]),
        (&json!("archive"), &json!(["one"]), &json!(file))
    );
    sandbox.vzd(&["template", "verify"]).ok().says("web: sound").says("tiny: sound");
    sandbox.vzd(&["template", "remove", "web"]).ends(1).says("named by one").says("--force");
    sandbox.vzd(&["template", "remove", "--force", "web"]).ok();
    // The VE has its root, whatever becomes of the archive.
    sandbox.vzd(&["restart", "one"]).ok();
    assert_eq!(sandbox.sh("one", "echo still"), "still");
    sandbox.ve("two", json!({ "template": "debian-12" }));
    sandbox.vzd(&["apply"]).ends(1).says("VZ0304").says("vzd template build debian-12");
}

/// A minute is plenty for what takes seconds; the machine may be busy.
const BOOT: Duration = Duration::from_secs(60);

/// Where `reboot` and `poweroff` hand their wish in: to systemd by way of its bus, to sysvinit by its fifo.
const HEARS: &str = "test -S /run/dbus/system_bus_socket || test -p /run/initctl";

/// Builds a distribution by its recipe and runs a VE of it until `is_up` says so in its words.
fn boot(recipe: &str, is_up: &str, up: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.distribution(recipe);
    sandbox.ve("web", json!({ "template": recipe, "init": null, "stopTimeout": "30s" }));
    sandbox.apply();
    let said = || {
        let ended = sandbox.vzd(&["exec", "web", "--", "/bin/sh", "-c", is_up]);
        ended.stdout.trim().to_owned()
    };
    within(BOOT, format!("{recipe} is up"), || (said() == up).then_some(()));
    sandbox
}

/// Halts and reboots from inside are what they are; a stop is not a kill.
fn ends_as_it_likes(sandbox: &Sandbox) {
    let daemon = sandbox.daemon();
    let first = sandbox.init_pid("web");
    sandbox.vzd(&["exec", "web", "--", "reboot"]);
    within(BOOT, "it is up again after its reboot", || {
        sandbox.status("web").and_then(|status| status.init_pid()).filter(|pid| *pid != first)
    });
    within(BOOT, "it hears orders again", || {
        (sandbox.vzd(&["exec", "web", "--", "/bin/sh", "-c", HEARS]).code == 0).then_some(())
    });
    sandbox.vzd(&["exec", "web", "--", "poweroff"]);
    within(BOOT, "it is off", || sandbox.status("web").filter(|status| status.init_pid().is_none()));
    assert_eq!(sandbox.status("web").unwrap().reason(), "HaltedByOwner");
    sandbox.vzd(&["start", "web"]).ok();
    eventually("it runs", || sandbox.status("web").is_some_and(|status| status.init_pid().is_some()));
    sandbox.vzd(&["stop", "web"]).ok();
    let events = sandbox.vzd(&["events", "-o", "json"]).ok().stdout;
    assert!(!events.contains("killed"), "{events}");
    drop(daemon);
}

#[test]
fn debian_with_systemd_boots_and_ends() {
    needs!(Root, Cgroups, Distribution);
    let sandbox = boot("debian-13", "systemctl is-system-running", "running");
    assert_eq!(sandbox.sh("web", "systemctl --failed --no-legend"), "");
    // Its own, not the template's, nor the machine's that built that.
    assert_eq!(sandbox.sh("web", "hostname; wc -c < /etc/machine-id"), "web\n33");
    reads_its_region(&sandbox);
    ends_as_it_likes(&sandbox);
}

/// What a distribution makes of its time zone and language, by its own programs.
fn reads_its_region(sandbox: &Sandbox) {
    let spec = |timezone: &str, locale: &str| json!({ "template": "debian-13", "init": null, "stopTimeout": "30s", "timezone": timezone, "locale": locale });
    let zone = || sandbox.sh("web", "readlink /etc/localtime; date +%Z");
    let own = zone();
    sandbox.ve("web", spec("Asia/Tokyo", "C.UTF-8"));
    sandbox.apply();
    assert_eq!(zone(), "/usr/share/zoneinfo/Asia/Tokyo\nJST");
    assert_eq!(sandbox.sh("web", "timedatectl show -p Timezone --value"), "Asia/Tokyo");
    assert_eq!(sandbox.sh("web", "su - -c 'echo $LANG'"), "C.UTF-8");
    assert!(!sandbox.status("web").unwrap().is("Unenforced"));
    sandbox.sh("web", "timedatectl set-timezone Europe/Berlin");
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.timezone");
    sandbox.ve("web", spec("Asia/Tokyo", "xx_XX.UTF-8"));
    sandbox.apply();
    assert_eq!(zone(), "/usr/share/zoneinfo/Asia/Tokyo\nJST");
    assert!(sandbox.status("web").unwrap().is("Unenforced"));
    sandbox.ve("web", json!({ "template": "debian-13", "init": null, "stopTimeout": "30s" }));
    sandbox.apply();
    assert_eq!(zone(), own);
}

#[test]
fn debian_with_sysvinit_boots_installs_and_ends() {
    needs!(Root, Cgroups, Distribution);
    let sandbox = boot("debian-12-sysvinit", "runlevel; pidof sshd >/dev/null && echo sshd", "N 2\nsshd");
    assert_eq!(sandbox.sh("web", "hostname; ls /etc/ssh/ssh_host_*_key | wc -l"), "web\n3");
    crate::packages::of_debian(&sandbox, "debian-12-sysvinit");
    ends_as_it_likes(&sandbox);
}
