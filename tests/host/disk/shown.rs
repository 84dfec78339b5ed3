//! Snapshots in a directory of the host: what is in them, whose it is there, and that nothing is left.

use serde_json::json;
use vzd_tests::needs;

use super::{On, World, on_each, on_images, on_projects, on_subvolumes};

on_each!(a_snapshot_is_shown_on_the_host);

#[test]
fn a_snapshot_of_a_directory_is_shown_on_the_host() {
    needs!(Root, Cgroups, Busybox);
    a_snapshot_is_shown_on_the_host(On::Directory);
}

fn a_snapshot_is_shown_on_the_host(on: On) {
    let sandbox = World::new(on);
    std::fs::write(sandbox.template_dir().join("srv/template"), "of the template\n").unwrap();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.sh(
        "web",
        "echo one > /root/data; chown 33:44 /root/data; rm /etc/group; mkdir -p /srv/d; echo in > /srv/d/file; \
         cp /bin/busybox /root/suid; chmod 4755 /root/suid; ln -s /etc/passwd /root/link",
    );
    sandbox.vzd(&["snapshot", "create", "web", "first"]).ok();
    sandbox.sh("web", "echo two > /root/data");
    let dir = sandbox.host_dir("shown");
    let path = dir.to_str().unwrap();
    sandbox.vzd(&["snapshot", "mount", "web", "second", path]).ends(1).says("VZ0310");
    sandbox.vzd(&["snapshot", "mount", "web", "first", path]).ok().says(path);
    let look = "cat root/data srv/template srv/d/file; stat -c '%u %g' root/data root srv/template bin; test ! -e etc/group; \
                readlink root/link; touch root/new 2>&1 || true; findmnt -no OPTIONS . | tr , '\\n' | grep -cx 'ro\\|nosuid\\|nodev\\|noexec'";
    let sh = |script: &str| {
        let mut command = std::process::Command::new("sh");
        let said = command.args(["-ec", script]).current_dir(&dir).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    let said = sh(look);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[..3], ["one", "of the template", "in"]);
    assert_eq!(lines[3..8], ["33 44", "0 0", "0 0", "0 0", "/etc/passwd"], "{said}");
    assert!(lines[8].contains("Read-only") && lines[9] == "4", "{said}");
    // While it is there, it is not thrown away, and not shown twice.
    let refused = sandbox.vzd(&["snapshot", "delete", "web", "first"]).ends(1);
    assert!(refused.stderr.contains("it is mounted at"), "{refused:?}");
    sandbox.vzd(&["snapshot", "mount", "web", "first", path]).ends(1);
    assert_eq!(sandbox.sh("web", "cat /root/data"), "two");
    sandbox.vzd(&["snapshot", "umount", "web", "first"]).ok().says(path);
    sandbox.vzd(&["snapshot", "umount", "web", "first"]).ends(1).says("it is not mounted");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    sandbox.vzd(&["snapshot", "delete", "web", "first"]).ok();
}
