//! `vzpkg`: templates of the host, and software of a container by its own package manager, here one of the test's.

use super::{running, tool};
use vzd_tests::{Sandbox, needs};

/// Stands for Alpine's: keeps names in a file, and notes how it was called.
const APK: &str = r#"#!/bin/sh
echo apk "$@" >> /root/calls
for last; do :; done
case "$*" in
  'info -v') sed 's/$/-1.0-r0/' /root/db ;;
  'info -e '*) shift 2; for n; do grep -x $n /root/db; done ;;
  'info '*) echo "$last-1.0-r0 is here" ;;
  'version '*) cat /root/newer ;;
  'add broken') echo 'it is broken'; exit 1 ;;
  'add --allow-untrusted '*) grep -q package $last && basename $last .apk >> /root/db ;;
  'add -u '*) : > /root/newer ;;
  update) test ! -e /root/offline ;;
  'add '*) echo $last >> /root/db ;;
  'del '*) sed -i "/^$last\$/d" /root/db ;;
esac
"#;

fn put(sandbox: &Sandbox, path: &str, text: &str) {
    let script = format!("rm -f {path}; cat > {path}; chmod 755 {path}");
    sandbox.vzd_with_input(&["exec", "101", "--", "/bin/sh", "-c", &script], text.as_bytes()).ok();
}

#[test]
fn software_of_a_container_is_its_package_managers() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    let says = |line: &str, text: &str| assert_eq!(tool(&sandbox, line).ends(0).stdout, text, "{line}");
    tool(&sandbox, "vzpkg list -p 101").ends(73).says("no package manager");
    put(&sandbox, "/usr/bin/apk", APK);
    sandbox.sh("101", "echo old > /root/db; echo old-2 > /root/newer");
    says("vzpkg list -p 101", "old 1.0-r0\n");
    says("vzpkg list 101", &format!("{}\n", sandbox.template()));
    tool(&sandbox, "vzpkg install -p 101 new").ends(0);
    says("vzpkg list -p 101", "new 1.0-r0\nold 1.0-r0\n");
    says("vzpkg info -p 101 new", "new-1.0-r0 is here\n");
    tool(&sandbox, "vzpkg remove -p 101 new").ends(0);
    tool(&sandbox, "vzpkg remove -p 101 new").ends(26).says("new is not installed");
    tool(&sandbox, "vzpkg install -p 101 broken").ends(70).says("it is broken");
    // What there is that is newer.
    tool(&sandbox, "vzpkg status 101").ends(22);
    tool(&sandbox, "vzpkg update -p 101 old").ends(0);
    tool(&sandbox, "vzpkg status 101").ends(0);
    tool(&sandbox, "vzpkg update -p 101 new").ends(26);
    tool(&sandbox, "vzpkg update 101").ends(0);
    assert!(sandbox.sh("101", "cat /root/calls").contains("apk upgrade"));
    // A file of the host.
    let file = sandbox.host_dir("files").join("local.apk");
    std::fs::write(&file, "a package").unwrap();
    tool(&sandbox, &format!("vzpkg localinstall 101 {}", file.display())).ends(0);
    says("vzpkg list -p 101", "local 1.0-r0\nold 1.0-r0\n");
    assert_eq!(sandbox.sh("101", "ls /tmp | grep -c vzpkg || true"), "0");
    tool(&sandbox, "vzpkg localinstall 101 /no/such.apk").ends(9);
    // What the manifest says is not spoken against.
    sandbox.write(
        "101.yaml",
        &sandbox.document(
            "101",
            serde_json::json!({
        "ctid": 101, "packages": { "present": ["old"], "absent": ["evil"] } }),
        ),
    );
    tool(&sandbox, "vzpkg remove -p 101 old").ends(35).says("spec.packages.present");
    tool(&sandbox, "vzpkg install -p 101 evil").ends(35).says("spec.packages.absent");
    for (line, code) in [
        ("vzpkg", 35),
        ("vzpkg frobnicate", 35),
        ("vzpkg install -p", 35),
        ("vzpkg install -p 101", 35),
        ("vzpkg install -p 101 -x", 35),
        ("vzpkg install -p 101 a;b", 35),
        ("vzpkg install 101 app", 24),
        ("vzpkg install -p 999 a", 16),
        ("vzpkg status nothing", 24),
        ("vzpkg upgrade", 35),
        ("vzpkg upgrade area debian-12", 35),
        ("vzpkg upgrade 101 nginx", 35),
        ("vzpkg list -p 101,999", 16),
        ("vzpkg fetch debian-12", 35),
        ("vzpkg list appcache", 35),
        ("vzpkg create appcache", 35),
        ("vzpkg install template nginx", 35),
        ("vzpkg create image debian-12 /tmp/x", 35),
        ("vzpkg update metadata", 0),
        ("vzpkg clean", 0),
        ("vzpkg link 101", 0),
        ("vzpkg link 999", 16),
        ("vzpkg list --vefstype ext4", 35),
        ("vzpkg install -C -p 101 a", 35),
        ("vzpkg help", 0),
    ] {
        assert_eq!(tool(&sandbox, line).code, code, "{line}");
    }
    sandbox.vzd(&["stop", "101"]).ok();
    tool(&sandbox, "vzpkg list -p 101").ends(15);
}

#[test]
fn a_container_comes_to_its_distributions_next_release() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    put(&sandbox, "/usr/bin/apk", APK);
    tool(&sandbox, "vzpkg upgrade 101").ends(24);
    let release = |text: &str| sandbox.sh("101", &format!("printf '{text}' > /etc/os-release"));
    release("ID=other\\nVERSION_ID=7\\nPRETTY_NAME=\"Other 7\"\\n");
    tool(&sandbox, "vzpkg upgrade 101").ends(24).says("comes after Other 7");
    release("ID=alpine\\nVERSION_ID=3.9.2\\n");
    sandbox.sh(
        "101",
        "mkdir -p /etc/apk; echo https://example.net/v3.9/main > /etc/apk/repositories; touch /root/offline",
    );
    // A mirror that cannot be reached has changed nothing.
    tool(&sandbox, "vzpkg upgrade 101").ends(70);
    let look = "cat /etc/apk/repositories; ls /etc/apk; tail -n 1 /root/calls";
    assert_eq!(sandbox.sh("101", look), "https://example.net/v3.9/main\nrepositories\napk update");
    sandbox.sh("101", "rm /root/offline");
    tool(&sandbox, "vzpkg upgrade 101").ends(0);
    let done = "https://example.net/v3.10/main\nrepositories\napk upgrade --available";
    assert_eq!(sandbox.sh("101", look), done);
}

/// Stand for Debian's: keep names in a file, and note how they were called.
const APT_GET: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do case $1 in -y|-q|-s) ;; -o) shift ;; *) break ;; esac; shift; done
echo apt-get "$@" >> /root/calls
for last; do :; done
case "$*" in
  update) grep -q "$(cat /root/mirror)" /etc/apt/sources.list ;;
  install*broken) echo 'it is broken'; exit 100 ;;
  'install --only-upgrade '*) : > /root/newer ;;
  'install '*) echo $last >> /root/db ;;
  'remove '*) sed -i "/^$last\$/d" /root/db ;;
  '--with-new-pkgs upgrade') sed 's/^/Inst /' /root/newer ;;
  full-upgrade) . /etc/os-release; sed -i "s/$VERSION_CODENAME/$(cat /root/mirror)/" /etc/os-release ;;
esac
"#;
const DPKG_QUERY: &str = r#"#!/bin/sh
case "$1" in
  -s) shift 2; for n; do echo "Package: $n"; done; exit ;;
  -W) format=$3 ;;
esac
[ $# -le 3 ] && { sed 's/.*/installed & 1.0-1/' /root/db; exit; }
shift 4
for n; do grep -qx $n /root/db && echo "installed $n"; done
"#;

#[test]
fn a_container_of_debian_comes_to_its_next_release() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    for (path, text) in [
        ("/usr/bin/apt-get", APT_GET),
        ("/usr/bin/dpkg-query", DPKG_QUERY),
        ("/usr/bin/dpkg", "#!/bin/sh\necho dpkg $@ >> /root/calls\n"),
    ] {
        put(&sandbox, path, text);
    }
    sandbox.sh(
        "101",
        "mkdir -p /etc/apt; echo 'deb http://deb.example.net bookworm main' > /etc/apt/sources.list; echo old > /root/db; echo old > /root/newer; \
         printf 'ID=debian\\nVERSION_CODENAME=bookworm\\nPRETTY_NAME=\"Debian 12\"\\n' > /etc/os-release; echo bookworm > /root/mirror",
    );
    let says = |line: &str, text: &str| assert_eq!(tool(&sandbox, line).ends(0).stdout, text, "{line}");
    says("vzpkg list -p 101", "old 1.0-1\n");
    tool(&sandbox, "vzpkg install -p 101 new").ends(0);
    says("vzpkg info -p 101 new", "Package: new\n");
    tool(&sandbox, "vzpkg install -p 101 broken").ends(70).says("it is broken");
    tool(&sandbox, "vzpkg remove -p 101 other").ends(26);
    tool(&sandbox, "vzpkg remove -p 101 new").ends(0);
    says("vzpkg list -p 101", "old 1.0-1\n");
    tool(&sandbox, "vzpkg status 101").ends(22);
    tool(&sandbox, "vzpkg update -p 101 old").ends(0);
    tool(&sandbox, "vzpkg status 101").ends(0);
    // A mirror that has no such release has changed nothing.
    tool(&sandbox, "vzpkg upgrade 101").ends(70);
    let look = "cat /etc/apt/sources.list; ls /etc/apt; tail -n 1 /root/calls";
    let before = "deb http://deb.example.net bookworm main\nsources.list\napt-get update";
    assert_eq!(sandbox.sh("101", look), before);
    sandbox.sh("101", "echo trixie > /root/mirror");
    tool(&sandbox, "vzpkg upgrade 101").ends(0);
    let after = "deb http://deb.example.net trixie main\nsources.list\napt-get full-upgrade";
    assert_eq!(sandbox.sh("101", look), after);
    assert_eq!(sandbox.sh("101", "grep CODENAME /etc/os-release"), "VERSION_CODENAME=trixie");
    // There is nothing after that yet.
    tool(&sandbox, "vzpkg upgrade 101").ends(24).says("comes after Debian 12");
}

#[test]
fn software_of_many_containers_is_a_word() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    for id in ["102", "103"] {
        tool(&sandbox, &format!("vzctl create {id} --config test")).ends(0);
    }
    tool(&sandbox, "vzctl start 102").ends(0);
    for (id, has) in [("101", "one"), ("102", "two")] {
        let script = format!(
            "rm -f /usr/bin/apk; cat > /usr/bin/apk; chmod 755 /usr/bin/apk; echo {has} > /root/db; : > /root/newer"
        );
        sandbox.vzd_with_input(&["exec", id, "--", "/bin/sh", "-c", &script], APK.as_bytes()).ok();
    }
    let says = |line: &str, code: i32, text: &str| {
        assert_eq!(tool(&sandbox, line).ends(code).stdout, text, "{line}")
    };
    let both = "CT 101:\none 1.0-r0\nCT 102:\ntwo 1.0-r0\n";
    says("vzpkg list -p 101 102", 0, both);
    says("vzpkg list -p --all", 0, both);
    tool(&sandbox, "vzpkg install -p 101,102 new").ends(0);
    assert_eq!(sandbox.sh("101", "cat /root/db"), "one\nnew");
    tool(&sandbox, "vzpkg remove --all -p new").ends(0);
    tool(&sandbox, "vzpkg update --all").ends(0);
    assert_eq!(sandbox.sh("102", "cat /root/db; tail -n 1 /root/calls"), "two\napk upgrade");
    // One that fails keeps no other, and its code is the tool's.
    let ended = tool(&sandbox, "vzpkg remove -p 103,102,101 two").ends(15);
    assert!(
        ended.stderr.contains("is not running") && ended.stderr.contains("two is not installed"),
        "{ended:?}"
    );
    assert_eq!(sandbox.sh("102", "cat /root/db"), "");
    sandbox.sh("102", "echo old-2 > /root/newer");
    tool(&sandbox, "vzpkg status 101,102").ends(22);
}

#[test]
fn the_cache_is_what_templates_are_made_of() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let archive = sandbox.dir().join("web.tar");
    let mut tar = std::process::Command::new("tar");
    tar.arg("-C").arg(sandbox.template_dir()).arg("-cf").arg(&archive).arg(".");
    assert!(tar.status().unwrap().success());
    tool(&sandbox, &format!("template add web {}", archive.display())).ends(0);
    let listed = tool(&sandbox, "vzpkg list -c").ends(0).stdout;
    let (name, at) = listed.trim_end().split_at(35);
    assert_eq!(name.trim_end(), "web");
    assert!(at.len() == "2026-01-01 00:00:00".len() && at.as_bytes()[4] == b'-', "{listed}");
    assert_eq!(tool(&sandbox, "vzpkg list -O").ends(0).stdout, format!("tiny\n{listed}"));
    tool(&sandbox, "vzpkg list --available").ends(0).says("debian-12\n");
    tool(&sandbox, "vzpkg info web").ends(0).says("Name:    web\nCached:  ").says("web.tar");
    tool(&sandbox, "vzpkg info debian-12").ends(0).says("Cached:  no");
    tool(&sandbox, "vzpkg status web").ends(0);
    tool(&sandbox, "vzpkg status debian-12").ends(23);
    for (line, code) in [
        ("vzpkg info nothing", 24),
        ("vzpkg create cache nothing", 24),
        ("vzpkg create cache web", 29),
        ("vzpkg update cache nothing", 23),
        ("vzpkg update cache web", 24),
        ("vzpkg remove cache", 35),
        ("vzpkg remove cache nothing", 23),
    ] {
        assert_eq!(tool(&sandbox, line).code, code, "{line}");
    }
    sandbox.ve("one", serde_json::json!({ "template": "web", "state": "stopped" }));
    sandbox.apply();
    tool(&sandbox, "vzpkg remove cache web").ends(1).says("container one names template web");
    sandbox.ve("one", serde_json::json!({ "state": "absent" }));
    sandbox.apply();
    tool(&sandbox, "vzpkg remove cache web").ends(0);
    assert_eq!(tool(&sandbox, "vzpkg list -c").ends(0).stdout, "");
}
