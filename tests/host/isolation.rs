//! What a VE must not see, reach or change: probes from inside, and a look from outside.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};
use vzd_tests::{Sandbox, eventually, fds_of, mountinfo_of, namespace_of, needs, status_field};

/// Probes that are allowed, each for a reason. Everything else must be refused, or not be there.
const ALLOWED: &[(&str, &str)] = &[
    ("proc-leaks", "load, partitions and the kernel's command line are readable, as in every container"),
    ("net-sysctl-write", "settings of the VE's own network namespace"),
    ("own-tmpfs", "the VE's own mount namespace"),
    ("own-overlay", "the VE's own mount namespace"),
    ("cgroup-make-child", "the VE's own, delegated group: systemd needs it"),
    ("mlock", "within the limit of locked memory"),
    ("nested-mountns", "unshare(1) and systemd's units need it"),
    (
        "nested-userns",
        "browsers' and builders' sandboxes need it; capabilities there are over what is in the VE",
    ),
    ("personality", "setarch and build systems need it"),
    ("kcmp", "compares the VE's own processes"),
];

/// Probes that one kernel has and another has not, and that reach nothing but the VE itself.
const EITHER: &[&str] = &["own-binfmt-misc", "memfd-secret", "tiocsti", "fanotify", "userfaultfd-user"];

/// Kinds of file systems that a default VE's mounts are of.
const FILE_SYSTEMS: &[&str] =
    &["overlay", "proc", "sysfs", "tmpfs", "devtmpfs", "devpts", "mqueue", "cgroup2", "fuse.lxcfs"];

/// A VE whose init first runs every probe and then goes on as a plain init.
fn probe_from_inside(sandbox: &Sandbox, more: Value) -> Vec<Value> {
    let outside = format!("{}:host", std::process::id());
    let script = format!(
        "/bin/guest probe --all --outside {outside} > /run/probe.part 2>/run/probe.err; \
         mv /run/probe.part /run/probe.json; exec /bin/guest init"
    );
    let mut spec = json!({ "init": ["/bin/sh", "-c", script] });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    sandbox.ve("web", spec);
    sandbox.apply();
    eventually("the probes have run", || {
        sandbox.exec("web", &["/bin/busybox", "test", "-e", "/run/probe.json"]).code == 0
    });
    let text = sandbox.sh("web", "cat /run/probe.json /run/probe.err");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[track_caller]
fn judge(findings: &[Value]) {
    let mut wrong = Vec::new();
    for finding in findings {
        let name = finding["name"].as_str().unwrap();
        let outcome = finding["outcome"].as_str().unwrap();
        let allowed = ALLOWED.iter().any(|(known, _)| *known == name);
        let fine = match outcome {
            "refused" | "absent" => !allowed,
            "allowed" => allowed || EITHER.contains(&name),
            _ => false,
        };
        if !fine {
            wrong.push(format!("{name}: {outcome} {} {}", finding["errno"], finding["detail"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let known: Vec<_> = findings.iter().map(|finding| finding["name"].as_str().unwrap()).collect();
    for name in ALLOWED.iter().map(|(name, _)| name).chain(EITHER) {
        assert!(known.contains(name), "there is no probe {name} any more");
    }
}

#[test]
fn a_default_ve_is_refused_what_it_must_not_do() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    // What a template has must not open, and what is mounted read-only must stay so.
    for (name, kind, major, minor) in [("disk", 'b', 8, 0), ("mem", 'c', 1, 1), ("null", 'c', 1, 3)] {
        let kind = if kind == 'b' {
            rustix::fs::FileType::BlockDevice
        } else {
            rustix::fs::FileType::CharacterDevice
        };
        let path = sandbox.template_dir().join("srv").join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, rustix::fs::makedev(major, minor)).unwrap();
    }
    let data = sandbox.host_dir("data");
    let mounts = json!([{ "source": data, "target": "/mnt/data", "readOnly": true, "idmap": true }]);
    let findings = probe_from_inside(&sandbox, json!({ "mounts": mounts }));
    judge(&findings);
    let of = |name: &str| findings.iter().find(|finding| finding["name"] == name).unwrap();
    for name in ["template-nodes", "remount-bind-rw"] {
        assert_eq!(of(name)["outcome"], "refused", "nothing was tried: {}", of(name));
    }
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);
}

#[test]
fn a_program_that_exec_brings_in_is_as_confined() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let outside = format!("{}:host", std::process::id());
    let findings = sandbox.guest("web", &["probe", "--all", "--outside", &outside]);
    judge(findings.as_array().unwrap());
    // The same rights as what init starts.
    let inside = sandbox.guest("web", &["report"]);
    let init = sandbox.init_pid("web");
    for set in ["CapEff", "CapBnd"] {
        let bits = u64::from_str_radix(&status_field(init, set), 16).unwrap();
        let key = if set == "CapEff" { "effective" } else { "bounding" };
        assert_eq!(
            u32::try_from(inside["capabilities"][key].as_array().unwrap().len()).unwrap(),
            bits.count_ones()
        );
    }
    assert_eq!(status_field(init, "Seccomp"), "2");
    assert_eq!(inside["seccomp"], "filter");
}

#[test]
fn nothing_of_the_host_leaks_in() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    let mut command = sandbox.command(&["apply"]);
    let secret = std::fs::File::create(sandbox.dir().join("secret")).unwrap();
    // A descriptor without close-on-exec, and a variable: what a careless parent leaves.
    rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).unwrap();
    assert!(command.env("SECRET", "of the host").status().unwrap().success());
    drop(secret);
    let init = sandbox.init_pid("web");
    let environ = std::fs::read_to_string(format!("/proc/{init}/environ")).unwrap();
    let names: Vec<_> = environ.split_terminator('\0').map(|pair| pair.split('=').next().unwrap()).collect();
    assert_eq!(names, ["container", "TERM", "PATH", "MEMORY_PRESSURE_WATCH"]);
    for (fd, target) in fds_of(init) {
        let target = target.to_string_lossy();
        assert!(fd <= 2 && target.starts_with("/dev/"), "descriptor {fd} leads to {target}");
    }
    for line in mountinfo_of(init).lines() {
        let (left, right) = line.split_once(" - ").unwrap();
        let kind = right.split(' ').next().unwrap();
        // What the host shows the VE of itself lies where the host keeps it, and is for reading only.
        let shown = left.contains("/shown/") && left.contains(" /dev/vzd ro,nosuid,nodev,noexec");
        assert!(shown || FILE_SYSTEMS.contains(&kind), "{line}");
        assert!(!left.contains("shared:") && !left.contains("master:"), "it propagates: {line}");
    }
    for kind in ["user", "pid", "mnt", "uts", "ipc", "net", "cgroup"] {
        assert_ne!(namespace_of(init, kind), namespace_of(std::process::id(), kind), "{kind}");
    }
    let report = sandbox.guest("web", &["report"]);
    let entered: Vec<_> = report["environment"].as_object().unwrap().keys().cloned().collect();
    assert!(
        !entered.contains(&"SECRET".to_owned()) && !entered.iter().any(|name| name.starts_with("VZD")),
        "{entered:?}"
    );
    assert_eq!(report["interfaces"], json!(["lo"]));
    let pids = report["pids"].as_array().unwrap().len();
    assert!(pids <= 3, "{pids} processes are seen");
}

#[test]
fn limits_of_who_started_vzd_are_not_the_ves() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    let command = sandbox.command(&["apply"]);
    let mut limited = std::process::Command::new("/bin/sh");
    limited.args(["-c", "ulimit -S -n 100; ulimit -S -f 10; ulimit -S -c 10; exec \"$@\"", "sh"]);
    limited.arg(command.get_program()).args(command.get_args()).env_clear();
    limited.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let ended = limited.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let own = std::fs::read_to_string(format!("/proc/{}/limits", sandbox.init_pid("web"))).unwrap();
    let entered = sandbox.sh("web", "cat /proc/self/limits");
    for limits in [own, entered] {
        let soft = |name: &str| {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().to_owned()
        };
        let all = ["Max open files", "Max file size", "Max core file size"].map(soft);
        assert_eq!(all, ["1024", "unlimited", "0"], "{limits}");
    }
}

#[test]
fn root_inside_is_nobody_outside() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    for name in ["a", "b"] {
        sandbox.ve(name, json!({}));
    }
    sandbox.apply();
    let mut ranges = Vec::new();
    for name in ["a", "b"] {
        let report = sandbox.guest(name, &["report"]);
        let map =
            report["uidMap"][0].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!((map[0], map[2]), (0, 65536));
        assert_eq!(report["uidMap"], report["gidMap"]);
        let init = sandbox.init_pid(name);
        assert_eq!(status_field(init, "Uid").split_whitespace().next().unwrap(), map[1].to_string());
        sandbox.sh(name, "echo mine > /root/file; su -s /bin/sh nobody -c 'echo theirs > /tmp/file'");
        let uid = sandbox.status(name).unwrap().uid().unwrap().to_owned();
        let upper = sandbox.state_dir().join("ves").join(uid).join("fs/upper");
        let owner = |path: &str| u64::from(std::fs::metadata(upper.join(path)).unwrap().uid());
        assert_eq!((owner("root/file"), owner("tmp/file")), (map[1], map[1] + 65534));
        ranges.push(map[1]);
    }
    assert!(ranges[0].abs_diff(ranges[1]) >= 65536, "{ranges:?}");
    // The host's root sees everything; another VE's root may not even look in.
    let other = sandbox.state_dir().join("ves");
    assert_eq!(std::fs::metadata(other).unwrap().mode() & 0o077, 0);
}

#[test]
fn ipc_objects_and_locks_are_each_ves_own() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    for name in ["a", "b"] {
        sandbox.ve(name, json!({}));
    }
    sandbox.apply();
    let keys = [
        ("sysv-shm", "0x7a1"),
        ("sysv-sem", "0x7a2"),
        ("sysv-msg", "0x7a3"),
        ("posix-shm", "/vzdt"),
        ("posix-sem", "/vzdt"),
        ("posix-mq", "/vzdt"),
    ];
    for (kind, key) in keys {
        let ask = |ve: &str, verb: &str| sandbox.guest(ve, &["ipc", kind, verb, key])["outcome"].clone();
        assert_eq!(ask("a", "create"), "created", "{kind}");
        assert_eq!(ask("a", "lookup"), "found", "{kind}");
        assert_eq!(ask("b", "lookup"), "absent", "{kind}");
        assert_eq!(ask("b", "create"), "created", "{kind}");
        assert_eq!(ask("b", "remove"), "removed", "{kind}");
        assert_eq!(ask("a", "lookup"), "found", "{kind}");
    }
    // A lock on a file that both have from the template.
    for kind in ["flock", "posix-lock"] {
        let hold = format!("/bin/guest ipc {kind} hold /etc/passwd < /dev/console > /run/{kind} 2>&1 &");
        sandbox.sh("a", &format!("setsid sh -c '{hold}' > /dev/null 2>&1"));
        let in_a = || sandbox.guest("a", &["ipc", kind, "lookup", "/etc/passwd"])["outcome"] == "busy";
        eventually(format!("{kind} is held in a"), in_a);
        assert_eq!(sandbox.guest("b", &["ipc", kind, "lookup", "/etc/passwd"])["outcome"], "free", "{kind}");
    }
    // Locks of open files belong to no process, and the kernel lists them to everyone: nothing is shown.
    sandbox.drive("a", "ofd-locks", 3);
    let on_host = std::fs::read_to_string("/proc/locks").unwrap();
    assert!(on_host.lines().filter(|line| line.contains("OFDLCK")).count() >= 3, "{on_host}");
    let listed = sandbox.exec("b", &["cat", "/proc/locks"]);
    assert!(listed.code != 0 && listed.stdout.is_empty(), "locks of others are listed: {listed:?}");
}

/// Plants a link in the template, and returns a directory of the host that it points at.
fn planted(sandbox: &Sandbox, link: &str) -> std::path::PathBuf {
    let victim = sandbox.host_dir("victim");
    std::fs::set_permissions(&victim, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    std::os::unix::fs::symlink(&victim, sandbox.template_dir().join(link)).unwrap();
    victim
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().count() == 0
}

#[test]
fn a_mounts_target_does_not_follow_links_out_of_the_root() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let victim = planted(&sandbox, "mnt/link");
    let magic = format!("/proc/1/root/../../..{}", victim.display());
    std::os::unix::fs::symlink(magic, sandbox.template_dir().join("mnt/magic")).unwrap();
    let source = sandbox.host_dir("source");
    std::fs::write(source.join("file"), "").unwrap();
    let mount = |target: &str| json!({ "source": source, "target": target, "idmap": true });
    // Before the start, and while it runs.
    sandbox.ve("web", json!({ "mounts": [mount("/mnt/link/early")] }));
    sandbox.vzd(&["apply"]);
    assert!(is_empty(&victim));
    sandbox.ve(
        "web",
        json!({ "mounts": [mount("/mnt/link/early"), mount("/mnt/link/late"), mount("/mnt/link")] }),
    );
    sandbox.vzd(&["apply"]);
    sandbox.ve("web", json!({ "mounts": [mount("/mnt/magic/x")] }));
    sandbox.vzd(&["apply"]);
    assert!(is_empty(&victim));
    let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains(&victim.display().to_string()));
}

#[test]
fn a_running_ves_links_lead_no_mount_astray() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let victim = sandbox.host_dir("victim");
    std::fs::set_permissions(&victim, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.sh(
        "web",
        &format!("ln -s {} /srv/out; ln -s /proc/1/root /srv/magic; ln -s .. /srv/up", victim.display()),
    );
    let source = sandbox.host_dir("source");
    let magic = format!("/srv/magic{}/b", victim.display());
    let mounts: Vec<_> = ["/srv/out/a", &magic, "/srv/up/up/up/c"]
        .into_iter()
        .map(|target| json!({ "source": source, "target": target }))
        .collect();
    for mount in &mounts {
        sandbox.ve("web", json!({ "mounts": [mount] }));
        sandbox.vzd(&["apply"]);
    }
    assert!(is_empty(&victim));
}

#[test]
fn a_planted_hostname_file_neither_blocks_nor_leads_out() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let victim = sandbox.host_dir("victim").join("file");
    std::fs::write(&victim, "untouched\n").unwrap();
    let file = sandbox.template_dir().join("etc/hostname");
    let plant: [(&str, &dyn Fn()); 4] = [
        ("link", &|| std::os::unix::fs::symlink(&victim, &file).unwrap()),
        ("fifo", &|| {
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }),
        ("dir", &|| std::fs::create_dir(&file).unwrap()),
        ("loop", &|| std::os::unix::fs::symlink("hostname", &file).unwrap()),
    ];
    for (name, make) in plant {
        if file.is_dir() && !file.is_symlink() {
            std::fs::remove_dir(&file).unwrap();
        } else {
            std::fs::remove_file(&file).unwrap();
        }
        make();
        sandbox.ve(name, json!({}));
        sandbox.apply();
        assert_eq!(sandbox.sh(name, "hostname"), name);
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched\n");
        sandbox.ve(name, json!({ "state": "absent" }));
        sandbox.apply();
    }
}

#[test]
fn a_device_goes_only_into_the_dev_that_the_ve_was_given() {
    needs!(Root, Cgroups, Busybox, Tun);
    let sandbox = Sandbox::new();
    let tun = json!({ "security": { "features": { "tun": true } } });
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.sh("web", "mkdir /root/trap && mount -o bind /root/trap /dev");
    sandbox.ve("web", tun.clone());
    let refused = sandbox.vzd(&["apply"]);
    let ready = sandbox.status("web").unwrap().condition("Ready").unwrap();
    assert!(refused.code != 0 || ready.status != "True", "nobody noticed: {refused:?} {ready:?}");
    assert_eq!(sandbox.sh("web", "find /root/trap ! -type d"), "");
    sandbox.sh("web", "umount /dev");
    sandbox.apply();
    sandbox.sh("web", "exec 3<>/dev/net/tun");
    // A directory on the way that has become a link.
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.sh("web", "rm -rf /dev/net && ln -s /root/trap /dev/net");
    sandbox.ve("web", tun);
    sandbox.vzd(&["apply"]);
    assert_eq!(sandbox.sh("web", "find /root/trap ! -type d"), "");
}

#[test]
fn a_manifests_path_with_dots_is_refused() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let source = sandbox.host_dir("source");
    for target in ["/srv/../../etc", "srv", "/"] {
        sandbox.ve("web", json!({ "mounts": [{ "source": source, "target": target }] }));
        sandbox.vzd(&["validate"]).ends(65).says("target");
    }
}
