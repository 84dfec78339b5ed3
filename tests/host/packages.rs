//! Software inside a VE, by its own package manager: Debian's with a repository of the test's, others by their commands.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use vzd_tests::{Sandbox, needs, within};

/// Package managers take their time, more so on a machine that has other work to do.
const PATIENCE: Duration = Duration::from_secs(120);

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Builds a package that holds nothing; `script` runs when it is installed.
fn build(repo: &Path, name: &str, version: &str, script: &str) {
    let tree = repo.join(format!("{name}.tree"));
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: vzd <vzd@example.net>\nDescription: {name}\n"
    );
    std::fs::write(tree.join("DEBIAN/control"), &control).unwrap();
    let postinst = tree.join("DEBIAN/postinst");
    std::fs::write(&postinst, format!("#!/bin/sh\n{script}\n")).unwrap();
    run(Command::new("chmod").arg("755").arg(&postinst));
    let deb = repo.join(format!("{name}_{version}_all.deb"));
    run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&deb));
    std::fs::remove_dir_all(&tree).unwrap();
}

/// Lists what is in the repository, as apt reads it.
fn index(repo: &Path) {
    let mut text = String::new();
    let mut debs: Vec<PathBuf> =
        std::fs::read_dir(repo).unwrap().map(|entry| entry.unwrap().path()).collect();
    debs.retain(|path| path.extension().is_some_and(|ending| ending == "deb"));
    debs.sort();
    for deb in debs {
        let control = run(Command::new("dpkg-deb").arg("--field").arg(&deb));
        let sum = run(Command::new("sha256sum").arg(&deb));
        let (name, size) = (deb.file_name().unwrap().to_str().unwrap(), deb.metadata().unwrap().len());
        let sum = sum.split_whitespace().next().unwrap();
        writeln!(text, "{}\nFilename: ./{name}\nSize: {size}\nSHA256: {sum}\n", control.trim()).unwrap();
    }
    std::fs::write(repo.join("Packages"), text).unwrap();
}

/// Debian's, in a VE `apt` of a template that is there: installs, removes and upgrades, and nothing else waits for it.
pub fn of_debian(sandbox: &Sandbox, template: &str) {
    let repo = sandbox.host_dir("repo");
    build(&repo, "vzd-one", "1", "exit 0");
    build(&repo, "vzd-two", "1", "exit 0");
    build(&repo, "vzd-broken", "1", "echo it is broken; exit 3");
    build(&repo, "vzd-slow", "1", "while [ ! -e /root/go ]; do sleep 0.1; done");
    index(&repo);
    let spec = |hostname: &str, packages: Value| {
        json!({
            "template": template, "init": ["/bin/sleep", "infinity"], "stopTimeout": "0s", "hostname": hostname,
            "mounts": [{ "source": repo, "target": "/srv/repo", "readOnly": true }], "packages": packages,
        })
    };
    sandbox.ve("apt", spec("before", json!({})));
    sandbox.apply();
    sandbox.sh(
        "apt",
        "rm -rf /etc/apt/sources.list.d/*; echo 'deb [trusted=yes] file:/srv/repo ./' > /etc/apt/sources.list",
    );
    let versions = "dpkg-query -W -f '${Package} ${Version}\\n' 'vzd-*' 2>/dev/null || true";

    sandbox.ve("apt", spec("before", json!({ "present": ["vzd-one", "vzd-two"] })));
    sandbox.vzd(&["plan"]).ok().says("spec.packages.present");
    sandbox.apply();
    assert_eq!(sandbox.sh("apt", versions), "vzd-one 1\nvzd-two 1");
    assert!(sandbox.status("apt").unwrap().is("Ready"));
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);

    sandbox.ve("apt", spec("before", json!({ "present": ["vzd-one"], "absent": ["vzd-two"] })));
    sandbox.apply();
    assert_eq!(sandbox.sh("apt", "dpkg -l | grep -c '^ii  vzd'"), "1");
    sandbox.sh("apt", "grep -q 'remove: vzd-two' /var/log/vzd-packages.log");

    build(&repo, "vzd-one", "2", "exit 0");
    index(&repo);
    sandbox.vzd(&["packages", "update", "apt", "-j", "4"]).ok();
    assert_eq!(sandbox.sh("apt", versions).lines().next(), Some("vzd-one 2"));
    build(&repo, "vzd-one", "3", "exit 0");
    index(&repo);
    sandbox.sh("apt", "rm /var/lib/vzd-upgraded");
    sandbox.ve("apt", spec("before", json!({ "present": ["vzd-one"], "upgrade": "all" })));
    sandbox.apply();
    assert_eq!(sandbox.sh("apt", versions).lines().next(), Some("vzd-one 3"));
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);

    // One that cannot be installed is told, and tried again when it can.
    sandbox.ve("apt", spec("before", json!({ "present": ["vzd-broken"] })));
    sandbox.vzd(&["apply"]).ends(1).says("install vzd-broken: apt failed");
    sandbox.sh("apt", "grep -q 'it is broken' /var/log/vzd-packages.log");
    let daemon = sandbox.daemon();
    let failed = sandbox.until("apt", "it waits for another try", |ve| ve.reason() == "BackOff");
    assert!(failed.condition("Ready").unwrap().message.contains("vzd-broken"), "{failed:?}");

    // While one takes long, the VE's other changes are made, and those of others.
    sandbox.sh("apt", "dpkg --force-all --purge vzd-broken");
    sandbox.ve("apt", spec("before", json!({ "present": ["vzd-slow"] })));
    let under_way = sandbox.until("apt", "it is under way", |ve| ve.reason() == "UnderWay");
    assert!(under_way.is("Reconciling"));
    sandbox.ve("apt", spec("renamed", json!({ "present": ["vzd-slow"] })));
    sandbox.ve("other", json!({}));
    sandbox.until_ready("other");
    within(PATIENCE, "it is renamed", || (sandbox.sh("apt", "hostname") == "renamed").then_some(()));
    assert_eq!(sandbox.status("apt").unwrap().reason(), "UnderWay");
    sandbox.sh("apt", "touch /root/go");
    within(PATIENCE, "it is installed", || sandbox.status("apt").filter(|ve| ve.is("Ready")));
    sandbox.sh("apt", "dpkg -s vzd-slow | grep -q 'ok installed'");
    drop(daemon);
}

/// Stands for a package manager: keeps names in a file, and notes how it was called.
fn stub(name: &str, add: &str, drop: &str) -> String {
    format!(
        "#!/bin/sh\necho {name} \"$@\" >> /root/calls\nall=\"$*\"\nfor last; do :; done\n\
         case $all in '{add} '*) echo $last >> /root/db;; '{drop} '*) sed -i \"/^$last\\$/d\" /root/db;; esac\n"
    )
}

const RPM: &str = "#!/bin/sh\nshift 4\nfor n; do grep -qx $n /root/db && echo installed $n || echo package $n; done; exit 1\n";
const APK: &str = "#!/bin/sh\necho apk \"$@\" >> /root/calls\n\
    case $1 in add) echo $2 >> /root/db;; del) sed -i \"/^$2\\$/d\" /root/db;;\n\
    info) shift 2; for n; do grep -x $n /root/db; done; exit 1;; esac\n";

/// Names and texts.
type Programs<'a> = &'a [(&'a str, &'a str)];

#[test]
fn each_family_is_told_in_its_own_words() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let dnf = stub("dnf", "-y install", "-y remove");
    let zypper = stub("zypper", "--non-interactive install", "--non-interactive remove");
    let families: [(&str, Programs<'_>, &[&str]); 3] = [
        (
            "fedora",
            &[("dnf", &dnf), ("rpm", RPM)],
            &["dnf -y install new", "dnf -y remove old", "dnf -y upgrade --security"],
        ),
        (
            "suse",
            &[("zypper", &zypper), ("rpm", RPM)],
            &[
                "zypper --non-interactive refresh",
                "zypper --non-interactive install new",
                "zypper --non-interactive remove old",
                "zypper --non-interactive patch --category security",
            ],
        ),
        ("alpine", &[("apk", APK)], &["apk update", "apk add new", "apk del old", "apk upgrade"]),
    ];
    for (name, programs, calls) in families {
        sandbox.ve(name, json!({}));
        sandbox.apply();
        for (program, text) in programs {
            let path = format!("/usr/bin/{program}");
            let put = format!("rm -f {path}; cat > {path}; chmod 755 {path}");
            sandbox.vzd_with_input(&["exec", name, "--", "/bin/sh", "-c", &put], text.as_bytes()).ok();
        }
        sandbox.sh(name, "echo old > /root/db");
        let packages = json!({ "present": ["new"], "absent": ["old"], "upgrade": "security" });
        sandbox.ve(name, json!({ "packages": packages }));
        sandbox.apply();
        assert!(sandbox.status(name).unwrap().is("Ready"), "{name}: {:?}", sandbox.status(name));
        let told = sandbox.sh(name, "cat /root/calls");
        for call in calls {
            assert!(told.lines().any(|line| line == *call), "{name}: {call}\n{told}");
        }
        sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    }
}

#[test]
fn a_ve_without_or_with_a_hostile_package_manager_is_told_of_and_waited_for_by_nobody() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "packages": { "present": ["nginx"] } }));
    sandbox.vzd(&["apply"]);
    let ready = sandbox.status("web").unwrap().condition("Ready").unwrap();
    assert!(ready.message.contains("no package manager"), "{ready:?}");
    // It says what was not asked, and more than is read.
    let apk = "#!/bin/sh\nsleep 100 >/dev/null 2>&1 &\nhead -c 3000000 /dev/zero | tr '\\0' 'x'\necho nginx; echo bash\n";
    let put = "rm -f /usr/bin/apk; cat > /usr/bin/apk; chmod 755 /usr/bin/apk";
    sandbox.vzd_with_input(&["exec", "web", "--", "/bin/sh", "-c", put], apk.as_bytes()).ok();
    sandbox.vzd(&["apply"]);
    let ready = sandbox.status("web").unwrap().condition("Ready").unwrap();
    assert!(ready.status != "True" && ready.message.len() < 1000, "{ready:?}");
    sandbox.ve("web", json!({}));
    sandbox.apply();
    assert!(sandbox.status("web").unwrap().is("Ready"));
}
