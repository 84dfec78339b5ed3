//! Time zone and language of VEs, as their programs have them: changed live, at a start, and against what the VE's root does.

use serde_json::{Value, json};
use vzd_tests::{Sandbox, needs};

use super::change;

/// The rules of a zone that is so many hours east and has one name (RFC 8536).
fn rules(name: &str, hours: i32) -> Vec<u8> {
    let block = || {
        let mut block = b"TZif2".to_vec();
        block.extend([0; 15]);
        let counts = [0_u32, 0, 0, 0, 1, u32::try_from(name.len()).unwrap() + 1];
        block.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        block.extend((hours * 3600).to_be_bytes());
        block.extend([0, 0]);
        block.extend(name.bytes().chain([0]));
        block
    };
    let twice = block().into_iter().chain(block());
    twice.chain(format!("\n{name}-{hours}\n").into_bytes()).collect()
}

/// A VE that has the zones `Test/Zone` (`XYZ`) and `Test/Other` (`ABC`), which writes down the zone that its
/// first program has; and its spec with more in it.
fn with_zones(sandbox: &Sandbox) -> (u32, impl Fn(Value) -> Value + use<>) {
    let zones = sandbox.host_dir("zones");
    std::fs::write(zones.join("Zone"), rules("XYZ", 3)).unwrap();
    std::fs::write(zones.join("Other"), rules("ABC", 5)).unwrap();
    let spec = move |more: Value| {
        let init = ["/bin/sh", "-c", "date +%Z > /root/at-start; exec /bin/guest init"];
        let mut spec = json!({ "init": init, "mounts": [{ "source": zones, "target": "/mnt/zones" }] });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    sandbox.ve("web", spec(json!({})));
    sandbox.apply();
    sandbox.sh("web", "mkdir -p /usr/share/zoneinfo/Test; cp /mnt/zones/* /usr/share/zoneinfo/Test");
    (sandbox.init_pid("web"), spec)
}

#[test]
fn the_time_zone_changes_live_and_comes_back() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let (pid, spec) = with_zones(&sandbox);
    let now = || sandbox.sh("web", "date +%Z; readlink /etc/localtime; cat /etc/timezone");
    sandbox.sh("web", "echo Etc/UTC > /etc/timezone");
    change(&sandbox, pid, spec(json!({ "timezone": "Test/Zone" })));
    assert_eq!(now(), "XYZ\n/usr/share/zoneinfo/Test/Zone\nTest/Zone");
    assert_eq!(
        sandbox.sh("web", "stat -c '%u %g' /etc/localtime; stat -c '%u %g %a' /etc/timezone"),
        "0 0\n0 0 644"
    );
    sandbox.vzd(&["why", "web", "spec.timezone"]).ok().says("Test/Zone");
    change(&sandbox, pid, spec(json!({ "timezone": "Test/Other" })));
    assert_eq!(now(), "ABC\n/usr/share/zoneinfo/Test/Other\nTest/Other");
    // What the owner does is told, and put right.
    for by_hand in [
        "ln -sf /usr/share/zoneinfo/Test/Zone /etc/localtime",
        "echo Test/Zone > /etc/timezone",
        "rm /etc/localtime",
    ] {
        sandbox.sh("web", by_hand);
        sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.timezone");
        sandbox.apply();
        assert_eq!(now(), "ABC\n/usr/share/zoneinfo/Test/Other\nTest/Other", "after {by_hand}");
    }
    // A zone that nobody knows is told beforehand, and holds nothing else up.
    sandbox.ve("web", spec(json!({ "timezone": "Test/Nowhere", "hostname": "other" })));
    sandbox.vzd(&["plan"]).ends(1).says("neither the VE nor the host knows this time zone");
    sandbox.vzd(&["apply"]);
    assert_eq!(sandbox.sh("web", "hostname; date +%Z"), "other\nABC");
    // Before init runs its first program.
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.ve("web", spec(json!({ "timezone": "Test/Zone" })));
    sandbox.vzd(&["start", "web"]).ok();
    vzd_tests::eventually("its first program has the zone", || {
        sandbox.sh("web", "cat /root/at-start") == "XYZ"
    });
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    // Where nothing was, UTC comes back.
    let pid = sandbox.init_pid("web");
    change(&sandbox, pid, spec(json!({})));
    assert_eq!(now(), "UTC\n/usr/share/zoneinfo/Etc/UTC\nEtc/UTC");
    // Also when it is taken out while the VE doesn't run.
    change(&sandbox, pid, spec(json!({ "timezone": "Test/Zone" })));
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.ve("web", spec(json!({})));
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(now(), "UTC\n/usr/share/zoneinfo/Etc/UTC\nEtc/UTC");
    assert_eq!(sandbox.sh("web", "ls -A /etc | grep vzd || true"), "");
}

#[test]
fn rules_that_the_ve_lacks_are_the_hosts() {
    needs!(Root, Cgroups, Busybox, ZoneInfo);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "timezone": "Europe/Berlin" }));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    let inside = std::path::PathBuf::from(format!("/proc/{pid}/root/etc/localtime"));
    let host = std::fs::read("/usr/share/zoneinfo/Europe/Berlin").unwrap();
    let zone = sandbox.sh("web", "date +%Z");
    assert!(["CET", "CEST"].contains(&zone.as_str()), "{zone}");
    assert!(std::fs::symlink_metadata(&inside).unwrap().is_file());
    assert_eq!(std::fs::read(&inside).unwrap(), host);
    assert_eq!(sandbox.sh("web", "stat -c '%u %g %a' /etc/localtime"), "0 0 644");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    // A link to rules that are not there is worth nothing; a libc that reads another file is told too.
    sandbox.sh("web", "ln -sf /usr/share/zoneinfo/Europe/Berlin /etc/localtime; echo UTC0 > /etc/TZ");
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.timezone");
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "cat /etc/TZ"), "CET-1CEST,M3.5.0,M10.5.0/3");
    assert_eq!(std::fs::read(&inside).unwrap(), host);
    change(&sandbox, pid, json!({}));
    assert_eq!(sandbox.sh("web", "date +%Z; cat /etc/TZ"), "UTC\nUTC0");
}

#[test]
fn links_of_the_ves_root_lead_nowhere() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let (pid, spec) = with_zones(&sandbox);
    let outside = sandbox.host_dir("bait");
    let bait = outside.join("file");
    std::fs::write(&bait, rules("OUT", 1)).unwrap();
    let bait = bait.display();
    let is_untouched = || assert_eq!(std::fs::read(outside.join("file")).unwrap(), rules("OUT", 1));
    // Rules that would be the host's files, and files beside that lead there.
    sandbox.sh("web", &format!("ln -s {bait} /usr/share/zoneinfo/Test/Bait; ln -s {bait} /etc/timezone; ln -s {bait} /etc/localtime"));
    sandbox.ve("web", spec(json!({ "timezone": "Test/Bait" })));
    sandbox.vzd(&["plan"]).ends(1).says("neither the VE nor the host knows this time zone");
    change(&sandbox, pid, spec(json!({ "timezone": "Test/Zone", "locale": "C.UTF-8" })));
    is_untouched();
    assert_eq!(sandbox.sh("web", "date +%Z; readlink /etc/timezone"), format!("XYZ\n{bait}"));
    change(&sandbox, pid, spec(json!({})));
    assert_eq!(sandbox.sh("web", "readlink /etc/localtime"), bait.to_string());
    sandbox.sh("web", &format!("rm /etc/timezone; mkdir -p /etc/default; ln -s {bait} /etc/default/locale; ln -s {bait} /etc/locale.conf"));
    change(&sandbox, pid, spec(json!({ "locale": "C.UTF-8" })));
    is_untouched();
    assert_eq!(
        sandbox.sh("web", "grep -h LANG /etc/locale.conf /etc/default/locale"),
        "LANG=C.UTF-8\nLANG=C.UTF-8"
    );
    change(&sandbox, pid, spec(json!({})));
    assert_eq!(sandbox.sh("web", "readlink /etc/locale.conf"), bait.to_string());
    // What can't be written is told; names and mounts change all the same.
    for (at, what) in
        [("/etc/localtime", "mkfifo"), ("/etc/localtime", "mkdir"), ("/etc/locale.conf", "mkdir")]
    {
        sandbox.sh("web", &format!("rm -f {at}; {what} {at}"));
        sandbox.ve("web", spec(json!({ "timezone": "Test/Zone", "locale": "C.UTF-8", "hostname": "other" })));
        sandbox.vzd(&["apply"]).ends(1).says(&format!("{at}: it is no file"));
        assert_eq!(sandbox.sh("web", "hostname"), "other");
        sandbox.sh("web", &format!("rm -rf {at}"));
        sandbox.apply();
        sandbox.ve("web", spec(json!({})));
        sandbox.apply();
    }
    sandbox.sh("web", "mount -t tmpfs none /etc");
    sandbox.ve("web", spec(json!({ "timezone": "Test/Zone" })));
    sandbox.vzd(&["apply"]).ends(1).says("in the VE");
    sandbox.sh("web", "umount /etc");
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "date +%Z"), "XYZ");
    is_untouched();
}

#[test]
fn the_language_is_in_a_part_of_its_files() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    // As a login sources or reads it: the last one counts.
    let language = |file: &str| sandbox.sh("web", &format!(". {file}; echo $LANG $LC_TIME"));
    sandbox.sh("web", "mkdir -p /etc/default /usr/lib/locale/C.utf8; printf 'LANG=en_GB.UTF-8\nLC_TIME=C\n' > /etc/default/locale");
    change(&sandbox, pid, json!({ "locale": "C.UTF-8" }));
    assert_eq!(language("/etc/default/locale"), "C.UTF-8 C");
    assert_eq!(language("/etc/locale.conf"), "C.UTF-8");
    assert!(!sandbox.status("web").unwrap().is("Unenforced"));
    // One that the VE has no data of is set, and told.
    change(&sandbox, pid, json!({ "locale": "de_DE.UTF-8" }));
    assert_eq!(language("/etc/default/locale"), "de_DE.UTF-8 C");
    assert!(sandbox.status("web").unwrap().is("Unenforced"));
    sandbox.vzd(&["describe", "web"]).ok().says("the VE has no data of de_DE.UTF-8");
    sandbox.sh("web", "mkdir /usr/lib/locale/de_DE.utf8");
    sandbox.apply();
    assert!(!sandbox.status("web").unwrap().is("Unenforced"));
    // What the owner does to vzd's part, or says after it, is put right; the rest stays.
    for by_hand in [
        "sed -i s/de_DE/fr_FR/ /etc/locale.conf",
        "echo LANG=fr_FR.UTF-8 >> /etc/default/locale",
        "rm /etc/locale.conf",
    ] {
        sandbox.sh("web", by_hand);
        sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.locale");
        sandbox.apply();
        assert_eq!(language("/etc/default/locale"), "de_DE.UTF-8 C", "after {by_hand}");
        assert_eq!(language("/etc/locale.conf"), "de_DE.UTF-8", "after {by_hand}");
    }
    sandbox.sh("web", "echo LC_ALL=C >> /etc/default/locale");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.ve("web", json!({ "locale": "C.UTF-8" }));
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(language("/etc/default/locale"), "C.UTF-8 C");
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.ve("web", json!({}));
    sandbox.vzd(&["start", "web"]).ok();
    let left = sandbox.sh("web", "cat /etc/default/locale; ls /etc/locale.conf 2>&1 || true");
    assert!(left.starts_with("LANG=en_GB.UTF-8\nLC_TIME=C\nLANG=fr_FR.UTF-8\nLC_ALL=C\n"), "{left}");
    assert!(left.contains("No such file"), "{left}");
}
