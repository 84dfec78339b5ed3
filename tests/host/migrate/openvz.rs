//! `vzmigrate`: OpenVZ's own way to have a VE handed over, by ssh, with its exit codes.

use serde_json::json;
use vzd_tests::{Sandbox, eventually, needs};

use super::{two, via};

/// A program called ssh that notes its words and runs the other host's vzd, wherever it was to go.
fn ssh(here: &Sandbox, there: &Sandbox) -> String {
    ssh_to(here, &format!("exec {} receive", via(there, "")))
}

/// One that does that instead.
fn ssh_to(here: &Sandbox, does: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let dir = here.host_dir("bin");
    let (path, log) = (dir.join("ssh"), here.dir().join("ssh.log"));
    let text = format!("#!/bin/sh\necho \"$@\" >> {}\n{does}\n", log.display());
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", dir.display())
}

/// The tool ends so, and says why.
#[track_caller]
fn ends_with(here: &Sandbox, path: &str, words: &[&str], code: i32, why: &str) {
    let output = here.command(&[&["vzmigrate"], words].concat()).env("PATH", path).output().unwrap();
    let (ended, said) = (output.status.code().unwrap(), [output.stdout, output.stderr].concat());
    let said = String::from_utf8_lossy(&said);
    assert!(ended == code && said.contains(why), "{words:?}: {code}, {why}: {ended}: {said}");
}

#[test]
fn openvzs_tool_hands_over_as_well() {
    needs!(Root, Cgroups, Busybox);
    let (here, there) = two(json!({ "ctid": 107, "state": "stopped" }));
    here.ve("other", json!({ "ctid": 108, "state": "stopped" }));
    here.apply();
    let path = ssh(&here, &there);
    let vzmigrate = |words: &[&str]| {
        let output = here.command(&[&["vzmigrate"], words].concat()).env("PATH", &path).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code().unwrap(), said)
    };
    for (words, code) in [
        (&["host2"][..], 1),
        (&["-r", "maybe", "host2", "107"], 1),
        (&["--nodeps=disk", "host2", "107"], 1),
        (&["--rsync=-z", "host2", "107"], 1),
        (&["--keep-dst", "host2", "107"], 1),
        (&["a;b", "107"], 1),
        (&["host2", "109"], 10),
    ] {
        assert_eq!(vzmigrate(words).0, code, "{words:?}");
    }
    let (code, said) = vzmigrate(&["--check-only", "host2", "107"]);
    assert!(code == 0 && said.contains("web to host2") && here.status("web").is_some(), "{said}");
    // One that is not there does not keep the others.
    let (code, said) = vzmigrate(&["-t", "--compress", "--ssh=-p 2222", "root@host2", "107", "109", "other"]);
    assert!(
        code == 10 && said.contains("Total time") && said.contains("Container 109 does not exist"),
        "{said}"
    );
    let names: Vec<_> =
        there.list().iter().map(|ve| ve.0["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["other", "web"]);
    let log = std::fs::read_to_string(here.dir().join("ssh.log")).unwrap();
    assert_eq!(
        log,
        "-o ServerAliveInterval=15 -- host2 vzd receive\n-p 2222 -- root@host2 vzd receive\n-p 2222 -- root@host2 vzd receive\n"
    );
}

/// Each kind of thing that stands in the way has OpenVZ's code.
#[test]
fn openvzs_tool_ends_with_the_codes_of_old() {
    needs!(Root, Cgroups, Busybox, Criu);
    let (here, there) = two(json!({ "ctid": 107 }));
    let ends = |path: &str, words: &[&str], code: i32, why: &str| {
        ends_with(&here, path, words, code, why);
        assert!(here.status("web").is_some_and(|ve| ve.init_pid().is_some()));
    };
    here.ve("third", json!({ "ctid": 110, "state": "stopped" }));
    here.apply();
    ends(&ssh_to(&here, "exit 255"), &["host2", "110"], 4, "host2");
    ends(&ssh_to(&here, "exit 127"), &["host2", "110"], 14, "host2");
    let path = ssh(&here, &there);
    ends(&path, &["--live", "host2", "110"], 2, "does not run");
    // One whose number another has there, and whose address.
    let network = json!({ "addresses": ["10.9.8.7"] });
    there.ve("fourth", json!({ "ctid": 110, "state": "stopped", "network": network }));
    there.apply();
    ends(&path, &["host2", "110"], 9, "ctid 110 belongs to VE fourth");
    here.ve("fifth", json!({ "ctid": 111, "state": "stopped", "network": network }));
    here.apply();
    ends(&path, &["--check-only", "host2", "111"], 12, "10.9.8.7");
    there.unlink("fourth.yaml");
    here.write("profile.yaml", "{apiVersion: vzd/v1, kind: Profile, metadata: {name: small}, spec: {}}\n");
    here.ve("sixth", json!({ "ctid": 112, "state": "stopped", "profile": "small" }));
    here.apply();
    ends(&path, &["host2", "112"], 15, "small");
    // What runs, and cannot go on there; and what cannot be suspended here.
    let lacking = ssh_to(&here, &format!("exec {} receive", via(&there, "VZD_CRIU=/nonexistent/criu")));
    ends(&lacking, &["--live", "host2", "107"], 17, "cannot be resumed");
    let path = ssh(&here, &there);
    here.sh("web", "setsid unshare -p -f sleep 61 > /dev/null 2>&1 < /dev/null &");
    eventually("a namespace is there", || here.sh("web", "ps").contains("sleep 61"));
    ends(&path, &["--live", "host2", "107"], 8, "has a pid namespace of its own");
}

/// Those about the other host as it is, and about somebody else who is at work.
#[test]
fn openvzs_tool_tells_what_the_other_host_lacks_by_its_code() {
    needs!(Root, Cgroups, Busybox, Criu, DiskImage);
    let (here, there) = two(json!({ "ctid": 107 }));
    there.apply();
    let ends = |path: &str, words: &[&str], code: i32, why: &str| {
        ends_with(&here, path, words, code, why);
    };
    // The other host's vzd, in a world of which something is hidden from it.
    let hidden = |mounts: &str| {
        let receive = format!("{mounts} && exec {} receive", via(&there, ""));
        ssh_to(&here, &format!("exec unshare -m sh -c \"{receive}\""))
    };
    let cpuinfo = here.host_dir("cpu").join("info");
    std::fs::write(&cpuinfo, "flags : fpu\n").unwrap();
    let path = hidden(&format!("mount --bind {} /proc/cpuinfo", cpuinfo.display()));
    ends(&path, &["--live", "host2", "107"], 18, "the processors there cannot do all");
    ends(&path, &["--live", "--nodeps=ipv6", "host2", "107"], 18, "the processors there");
    for any in ["-f", "--nodeps", "--nodeps=cpu,ipv6", "--nodeps=all"] {
        ends(&path, &["--check-only", any, "host2", "107"], 0, "web to host2");
    }
    here.sh("web", "dd if=/dev/zero of=/large bs=1M count=2 2>/dev/null; sync");
    let ves = there.state_dir().join("ves");
    let path = hidden(&format!("mount -t tmpfs -o size=1m,mode=700 small {}", ves.display()));
    ends(&path, &["--check-only", "host2", "107"], 6, "bytes free");
    here.ve(
        "image",
        json!({ "ctid": 108, "state": "stopped", "disk": { "backend": "image", "diskspace": "32M" } }),
    );
    here.apply();
    ends(
        &hidden("mount -t tmpfs none /usr/sbin"),
        &["--check-only", "host2", "108"],
        16,
        "mke2fs is not installed",
    );
    let path = ssh(&here, &there);
    // A template that only this host has.
    let archive = here.dir().join("mine.tar");
    let mut tar = std::process::Command::new("tar");
    assert!(
        tar.arg("-C").arg(here.template_dir()).arg("-cf").arg(&archive).arg(".").status().unwrap().success()
    );
    here.vzd(&["template", "add", "mine", archive.to_str().unwrap()]).ok();
    here.ve("own", json!({ "ctid": 109, "state": "stopped", "template": "mine" }));
    here.apply();
    ends(&path, &["host2", "109"], 7, "template mine");
    // Somebody else works here, who is not asked.
    let _daemon = here.daemon();
    let mut command = here.command(&["vzmigrate", "host2", "107"]);
    let locked = command.env("PATH", &path).env("VZD_RUN_DIR", here.dir().join("run2")).output().unwrap();
    assert_eq!(locked.status.code(), Some(20), "{locked:?}");
    assert!(here.status("web").is_some_and(|ve| ve.init_pid().is_some()));
}
