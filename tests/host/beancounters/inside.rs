//! What a VE reads of its own counters: true when it is read, and nothing that it can change.

use std::time::Duration;

use serde_json::json;
use vzd_tests::{Sandbox, eventually, needs, within};

use super::held;

const FILE: &str = "/dev/vzd/user_beancounters";

/// The numbers of a counter in the text.
fn row(text: &str, name: &str) -> Vec<u64> {
    let line =
        text.lines().find(|line| line.get(12..).is_some_and(|rest| rest.starts_with(&format!("{name} "))));
    line.unwrap_or_else(|| panic!("{name}: {text}"))[24..]
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect()
}

#[test]
fn a_ve_reads_its_own_counters_as_they_are_when_it_reads() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    for name in ["web", "other"] {
        sandbox.ve(name, json!({ "beancounters": { "numpty": 16, "numfile": 512 } }));
    }
    let daemon = sandbox.daemon();
    sandbox.until_ready("web");
    sandbox.until_ready("other");
    let read = || sandbox.sh("web", &format!("cat {FILE}"));
    let outside = sandbox.vzd(&["ubc", "web", "--text"]).ok().stdout;
    let inside = read();
    assert_eq!(inside.lines().count(), 26, "{inside}");
    assert_eq!(inside.lines().take(2).collect::<Vec<_>>(), outside.lines().take(2).collect::<Vec<_>>());
    assert_eq!(inside.lines().nth(2).unwrap()[..24], outside.lines().nth(2).unwrap()[..24]);
    assert_eq!(row(&inside, "numpty")[2..], [16, 16, 0]);
    assert_eq!(row(&inside, "numfile")[2..], [512, 512, 0]);
    // Read at once, without waiting for a look at all VEs.
    for (made, wanted) in [(3, 3), (4, 7)] {
        sandbox.drive("web", "terminals", made);
        // A VE that reads all the time is told the same for a moment.
        within(Duration::from_secs(2), format!("{wanted} terminals are shown"), || {
            (row(&read(), "numpty")[0] == wanted).then_some(())
        });
    }
    sandbox.let_go("web");
    within(Duration::from_secs(2), "none is shown, and the most that there were", || {
        (row(&read(), "numpty")[..2] == [0, 7]).then_some(())
    });
    // By many at a time.
    let busy = sandbox.sh("web", &format!("for i in $(seq 300); do cat {FILE}; done | grep -c numproc"));
    assert_eq!(busy, "300");
    // Only for its root, as in OpenVZ; and of each VE only its own.
    assert_ne!(sandbox.exec("web", &["/bin/sh", "-c", &format!("su nobody -s /bin/cat {FILE}")]).code, 0);
    let other = sandbox.sh("other", &format!("cat {FILE}"));
    assert_ne!(other.lines().nth(2).unwrap()[..12], inside.lines().nth(2).unwrap()[..12]);
    // Without a controller nobody waits for an answer, and the next one goes on.
    drop(daemon);
    assert_eq!(read().lines().count(), 26);
    let _daemon = sandbox.daemon();
    sandbox.until_ready("web");
    eventually("the new controller answers", || {
        sandbox.drive("web", "terminals", 2);
        let shown = row(&read(), "numpty")[0];
        sandbox.let_go("web");
        shown == 2
    });
}

#[test]
fn a_ve_cannot_change_what_it_reads_nor_fool_the_host() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    let _daemon = sandbox.daemon();
    sandbox.until_ready("web");
    for change in [
        format!("echo 0 > {FILE}"),
        format!("chmod 666 {FILE}"),
        format!("rm {FILE}"),
        format!("mv {FILE} /dev/vzd/other"),
        "touch /dev/vzd/other".to_owned(),
        "rmdir /dev/vzd".to_owned(),
        "umount /dev/vzd".to_owned(),
        "umount -l /dev/vzd".to_owned(),
        "mount -o remount,rw /dev/vzd".to_owned(),
        "mount -o remount,rw,bind /dev/vzd".to_owned(),
        "mkdir -p /mnt/x && mount --bind /dev/vzd /mnt/x && mount -o remount,rw,bind /mnt/x && echo 0 > /mnt/x/user_beancounters".to_owned(),
    ] {
        let tried = sandbox.exec("web", &["/bin/sh", "-c", &change]);
        assert_ne!(tried.code, 0, "{change}: {tried:?}");
    }
    // Something mounted over it is for the VE alone.
    sandbox.sh("web", &format!("echo fooled > /tmp/mine; mount --bind /tmp/mine {FILE}"));
    assert_eq!(sandbox.sh("web", &format!("cat {FILE}")), "fooled");
    assert!(held(&sandbox, "numproc") > 0);
    let uid = sandbox.status("web").unwrap().uid().unwrap().to_owned();
    let file = sandbox.run_dir().join("shown").join(uid).join("user_beancounters");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(row(&text, "numproc")[0] > 0, "{text}");
    // It goes with the VE.
    sandbox.ve("web", json!({ "state": "absent" }));
    eventually("nothing of it is left", || !file.exists());
}

#[test]
fn the_host_reads_the_counters_of_all_ves_in_one_file() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "ctid": 101, "beancounters": { "numpty": 16 } }));
    let _daemon = sandbox.daemon();
    sandbox.until_ready("web");
    let file = sandbox.run_dir().join("user_beancounters");
    let read = || std::fs::read_to_string(&file).unwrap();
    within(Duration::from_secs(5), "it tells of the VE", || read().contains("      101:").then_some(()));
    assert_eq!(row(&read(), "numpty")[2..], [16, 16, 0]);
    sandbox.drive("web", "terminals", 3);
    within(Duration::from_secs(2), "three terminals are shown", || {
        (row(&read(), "numpty")[0] == 3).then_some(())
    });
    let told = sandbox.vzd(&["vzubc", "-f", file.to_str().unwrap(), "101"]).ok().stdout;
    assert!(told.contains("numpty"), "{told}");
    // As it comes and goes.
    sandbox.ve("other", json!({ "ctid": 102 }));
    sandbox.until_ready("other");
    within(Duration::from_secs(2), "two are told of", || (read().lines().count() == 50).then_some(()));
    sandbox.vzd(&["stop", "--force", "web"]).ok();
    within(Duration::from_secs(2), "one is told of", || {
        let text = read();
        (text.lines().count() == 26 && text.contains("      102:") && !text.contains("101:")).then_some(())
    });
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions()) & 0o777,
        0o400
    );
}
