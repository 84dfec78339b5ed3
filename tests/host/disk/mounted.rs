//! A root that is mounted on the host: what is written there is the VE's own, and counts for it.

use serde_json::json;

use super::{MB, On, World, limited, loops, on_each, on_images, on_projects, on_subvolumes, used};

on_each!(what_the_host_writes_into_a_mounted_root_is_the_ves);

fn what_the_host_writes_into_a_mounted_root_is_the_ves(on: On) {
    let sandbox = World::new(on);
    std::fs::write(sandbox.template_dir().join("srv/template"), "of the template\n").unwrap();
    limited(&sandbox, "web", json!({ "diskspace": "16M" }));
    sandbox.apply();
    sandbox.sh("web", "echo mine > /mine; ln /mine /twin; rm /etc/group; mkdir -p /srv/d");
    for again in ["once", "twice"] {
        sandbox.vzd(&["stop", "web"]).ok();
        sandbox.vzd(&["vzctl", "mount", "web"]).ends(0);
        let at = sandbox.vzd(&["vzlist", "-a", "-H", "-t", "-o", "root"]).ends(0).stdout;
        let script = format!(
            "cd {}; cat mine srv/template; test ! -e etc/group; stat -c '%u %g %h' twin srv/template; echo {again} >> srv/template; \
             echo more >> twin; chown 7:8 srv/d; dd if=/dev/zero of=srv/d/large bs=1M count=2 2>/dev/null; rm -f mine; mv twin mine; \
             ln mine twin; findmnt -no OPTIONS . | tr , '\\n' | grep -cx 'rw\\|nosuid\\|nodev'",
            at.trim()
        );
        let did = std::process::Command::new("sh").args(["-ec", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&did.stdout).into_owned();
        assert!(did.status.success() && said.starts_with("mine\n"), "{did:?}");
        assert!(said.contains("0 0 2\n0 0 1\n") && said.trim().ends_with('3'), "{said}");
        sandbox.vzd(&["start", "web"]).ok();
        let found = sandbox
            .sh("web", "cat /srv/template /mine; stat -c '%u %g' /srv/template /srv/d /srv/d/large /twin");
        let (template, mine) = found.split_once("mine\n").unwrap();
        assert!(template.starts_with("of the template\nonce\n") && mine.starts_with("more\n"), "{found}");
        assert!(found.ends_with("0 0\n7 8\n0 0\n0 0"), "{found}");
        assert!(!loops(&sandbox).is_empty() || matches!(on, On::Ext4 | On::Xfs | On::Btrfs));
        assert!(used(&sandbox, "web", "diskspace") >= 2 * MB);
    }
}
