//! Roots that nothing can be written to: from the first moment, changed while the VE runs, and not to be undone inside.

use serde_json::{Value, json};
use vzd_tests::{Sandbox, needs};

fn spec(read_only: bool) -> Value {
    json!({ "disk": { "readOnly": read_only } })
}

fn may_write(sandbox: &Sandbox) -> bool {
    sandbox.sh("web", "touch /root/x 2>/root/why && echo yes || echo no").ends_with("yes")
}

#[test]
fn a_root_is_read_only_from_the_start_and_changes_live() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let shared = sandbox.host_dir("shared");
    let with_mount = |read_only: bool| {
        let mut spec = spec(read_only);
        spec["mounts"] = json!([{ "source": shared, "target": "/srv/shared", "idmap": true }]);
        spec
    };
    sandbox.ve("web", with_mount(true));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    let refused = sandbox.sh("web", "touch /root/x 2>&1 || true");
    assert!(refused.contains("Read-only file system"), "{refused}");
    // What is mounted on it is another matter.
    sandbox.sh("web", "touch /srv/shared/x /dev/shm/x");
    // Its own root can neither remount the file system nor write through another mount of it.
    for undo in [
        "mount -o remount,rw /",
        "mount -o remount,bind,rw /",
        "mkdir /dev/shm/at; mount --bind / /dev/shm/at && mount -o remount,bind,rw /dev/shm/at && touch /dev/shm/at/root/x",
    ] {
        sandbox.vzd(&["exec", "web", "--", "/bin/sh", "-c", undo]);
        assert!(!may_write(&sandbox), "after {undo}");
    }
    assert_eq!(
        sandbox.vzd(&["get", "web", "-o", "json"]).ok().json()["status"]["resources"]["disk"]["readOnly"],
        true
    );
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);

    sandbox.ve("web", with_mount(false));
    sandbox.vzd(&["plan"]).ok().says("spec.disk.readOnly");
    sandbox.apply();
    assert!(may_write(&sandbox));
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);

    // Not under a program that writes.
    sandbox.sh("web", "setsid sleep 1000 > /root/held 2>&1 < /dev/null & echo $! > /root/pid");
    sandbox.ve("web", with_mount(true));
    sandbox.vzd(&["apply"]).ends(1).says("open for writing");
    assert!(may_write(&sandbox));
    sandbox.sh("web", "kill $(cat /root/pid)");
    vzd_tests::eventually("it is let go of", || sandbox.vzd(&["apply"]).code == 0);
    assert!(!may_write(&sandbox));
    assert_eq!(sandbox.init_pid("web"), pid);

    // What the host's root does is seen, and put right.
    let nsenter = |words: &[&str]| {
        let target = pid.to_string();
        let mut command = std::process::Command::new("nsenter");
        assert!(command.args(["-t", &target, "-m", "-p", "--"]).args(words).status().unwrap().success());
    };
    nsenter(&["/bin/busybox", "mount", "-o", "remount,rw", "/"]);
    assert!(may_write(&sandbox));
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.disk.readOnly");
    sandbox.apply();
    assert!(!may_write(&sandbox));
    // Taken out while it doesn't run.
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.ve("web", json!({}));
    sandbox.vzd(&["start", "web"]).ok();
    assert!(may_write(&sandbox));
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
}

/// A file system that is mounted on the host, until it is dropped.
struct Mounted(String);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_file_system_of_the_hosts_is_left_as_it_is() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let [lower, upper, work, over] =
        ["lower", "upper", "work", "over"].map(|name| sandbox.host_dir(name).display().to_string());
    let layers = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let mounted =
        std::process::Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers, &over]).status();
    assert!(mounted.unwrap().success());
    let _mounted = Mounted(over.clone());
    for dir in ["old", "proc", "srv/over"] {
        std::fs::create_dir_all(format!("{over}/{dir}")).unwrap();
    }
    let with_mount = |read_only: bool| {
        let mut spec = spec(read_only);
        spec["mounts"] = json!([{ "source": over, "target": "/srv/over" }]);
        spec
    };
    sandbox.ve("web", with_mount(false));
    sandbox.apply();
    // Its root puts the host's file system in the place of its own, with all that is looked for.
    let put =
        "cd /srv/over && mount --bind . srv/over && mount --rbind /proc proc && pivot_root . old && echo put";
    let put = sandbox.sh("web", put);
    assert_eq!(put.trim(), "put");
    sandbox.ve("web", with_mount(true));
    sandbox.vzd(&["apply"]).ends(1).says("a file system of the host's");
    std::fs::write(format!("{over}/x"), "").unwrap();
}
