//! Snapshots: the disk as it was, of VEs that run and that don't, on each of what keeps disks.

use serde_json::{Value, json};
use vzd_tests::{Sandbox, eventually, needs};

use super::{MB, On, World, check, limit, limited, on_each, on_images, on_projects, on_subvolumes, used};

on_each!(
    a_snapshot_is_what_was_and_comes_back,
    a_snapshot_under_a_writer_is_whole,
    a_kill_leaves_the_old_or_the_new,
    an_archive_of_a_snapshot_is_a_template,
    an_archive_is_imported_as_a_snapshot,
);

mod in_a_directory {
    use super::On;
    use serde_json::json;

    #[test]
    fn a_disk_of_an_earlier_vzd_is_found() {
        vzd_tests::needs!(Root, Cgroups, Busybox);
        let sandbox = super::World::new(On::Directory);
        sandbox.ve("web", json!({}));
        sandbox.apply();
        sandbox.sh("web", "echo precious > /root/data");
        sandbox.vzd(&["stop", "web"]).ok();
        let ve = std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap().next().unwrap().unwrap().path();
        for name in ["upper", "work"] {
            std::fs::rename(ve.join("fs").join(name), ve.join(name)).unwrap();
        }
        std::fs::remove_dir(ve.join("fs")).unwrap();
        sandbox.vzd(&["start", "web"]).ok();
        assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    }

    #[test]
    fn a_snapshot_is_what_was_and_comes_back() {
        vzd_tests::needs!(Root, Cgroups, Busybox);
        super::a_snapshot_is_what_was_and_comes_back(On::Directory);
    }

    #[test]
    fn an_archive_of_a_snapshot_is_a_template() {
        vzd_tests::needs!(Root, Cgroups, Busybox);
        super::an_archive_of_a_snapshot_is_a_template(On::Directory);
    }

    #[test]
    fn an_archive_is_imported_as_a_snapshot() {
        vzd_tests::needs!(Root, Cgroups, Busybox, FaultPoints);
        super::an_archive_is_imported_as_a_snapshot(On::Directory);
    }

    #[test]
    fn a_snapshot_under_a_writer_is_whole() {
        vzd_tests::needs!(Root, Cgroups, Busybox);
        super::a_snapshot_under_a_writer_is_whole(On::Directory);
    }

    #[test]
    fn a_kill_leaves_the_old_or_the_new() {
        vzd_tests::needs!(Root, Cgroups, Busybox, FaultPoints);
        super::a_kill_leaves_the_old_or_the_new(On::Directory);
    }
}

fn names(world: &World) -> Vec<String> {
    let list = world.vzd(&["snapshot", "list", "web", "-o", "json"]).ok().json();
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// What the VE has of files that only the overlay's own marks keep as they are.
const LOOK: &str = "cat /root/data; cat /srv/a /srv/b; stat -c %h /srv/a; ls /etc; ls /root; stat -c '%u %a %s' \
                    /root/suid /root/hole; readlink /root/link; cat /opt/new; du -k /root/hole | cut -f 1";

fn a_snapshot_is_what_was_and_comes_back(on: On) {
    let sandbox = World::new(on);
    std::fs::write(sandbox.template_dir().join("srv/a"), "of the template\n").unwrap();
    std::fs::hard_link(sandbox.template_dir().join("srv/a"), sandbox.template_dir().join("srv/b")).unwrap();
    limited(&sandbox, "web", json!({ "diskspace": "64M", "diskinodes": "1000" }));
    sandbox.apply();
    sandbox.sh(
        "web",
        "echo one > /root/data; echo changed > /srv/a; rm /etc/group; touch /root/suid; chown 1000 /root/suid; \
         chmod 4711 /root/suid; truncate -s 1G /root/hole; ln -s /nowhere /root/link; mv /home /opt 2>/dev/null || \
         mkdir /opt; echo new > /opt/new; mkfifo /root/fifo",
    );
    let was = sandbox.sh("web", LOOK);
    assert!(was.contains("changed\nchanged\n2"), "{was}");
    sandbox.vzd(&["snapshot", "create", "web", "first"]).ok();
    let list = sandbox.vzd(&["snapshot", "list", "web", "-o", "json"]).ok().json();
    assert_eq!((&list[0]["name"], &list[0]["running"]), (&"first".into(), &Value::Bool(true)));
    let again = sandbox.vzd(&["snapshot", "create", "web", "first"]);
    assert!(again.code == 1 && again.stderr.contains("VZ0310"), "{again:?}");

    // It goes on running, and what it does then is its own.
    sandbox.sh(
        "web",
        "echo two > /root/data; echo more > /srv/b; rm -r /opt; touch /etc/group; rm /root/hole; echo > /root/later",
    );
    let running = sandbox.vzd(&["snapshot", "revert", "web", "first"]);
    assert!(running.code == 1 && running.stderr.contains("VZ0310"), "{running:?}");
    assert_eq!(sandbox.sh("web", "cat /root/data"), "two");
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.vzd(&["snapshot", "create", "web", "second"]).ok();
    assert_eq!(names(&sandbox), ["first", "second"]);
    for _ in 0..2 {
        sandbox.vzd(&["snapshot", "revert", "web", "first"]).ok();
        sandbox.vzd(&["start", "web"]).ok();
        assert_eq!(sandbox.sh("web", LOOK), was);
        // Still linked.
        assert_eq!(sandbox.sh("web", "echo again > /srv/b; cat /srv/a"), "again");
        if on != On::Directory {
            assert_eq!(limit(&sandbox, "web", "diskspace"), 64 * MB);
            if on.counts_inodes() {
                assert_eq!(limit(&sandbox, "web", "diskinodes"), 1000);
                eventually("what was before is given back", || used(&sandbox, "web", "diskinodes") < 40);
            }
            let full = "dd if=/dev/zero of=/root/big bs=1M count=80";
            assert_ne!(sandbox.exec("web", &["/bin/sh", "-c", full]).code, 0);
        }
        sandbox.vzd(&["stop", "web"]).ok();
    }
    sandbox.vzd(&["snapshot", "revert", "web", "second"]).ok();
    sandbox.vzd(&["snapshot", "delete", "web", "first"]).ok();
    assert_eq!(names(&sandbox), ["second"]);
    for action in ["revert", "delete"] {
        let missing = sandbox.vzd(&["snapshot", action, "web", "first"]);
        assert!(missing.code == 1 && missing.stderr.contains("VZ0310"), "{missing:?}");
    }
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(sandbox.sh("web", "cat /root/data; cat /srv/a"), "two\nmore");
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.images().iter().for_each(|image| check(image));
    // They go with the VE.
    sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
    sandbox.ve("web", json!({ "state": "absent" }));
    sandbox.apply();
    assert_eq!(std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap().count(), 0);
    let gone = sandbox.vzd(&["snapshot", "list", "web"]);
    assert!(gone.code == 1 && gone.stderr.contains("VZ0307"), "{gone:?}");
}

fn an_archive_of_a_snapshot_is_a_template(on: On) {
    let sandbox = World::new(on);
    std::fs::write(sandbox.template_dir().join("srv/a"), "of the template\n").unwrap();
    std::fs::hard_link(sandbox.template_dir().join("srv/a"), sandbox.template_dir().join("srv/b")).unwrap();
    limited(&sandbox, "web", json!({ "diskspace": "64M", "diskinodes": "1000" }));
    sandbox.apply();
    // Of the template: changed under one of two names, removed, replaced. Of its own: everything there is.
    let long = "l".repeat(200);
    sandbox.sh(
        "web",
        &format!(
            "echo changed > /srv/a; rm /etc/group; rm -r /mnt; mkdir /mnt; cd /root; echo own > data; ln data twin; \
             touch suid; chown 1000:1001 suid; chmod 4711 suid; truncate -s 1M hole; ln -s /nowhere link; mkfifo fifo; \
             mkdir -m 1770 dir; chown 7 dir; touch -d '2001-02-03 04:05:06' old; mkdir {long}; echo deep > {long}/{long}"
        ),
    );
    let look = format!(
        "cd /root; cat /srv/a /srv/b data twin; stat -c '%h' /srv/a data; ls -a /etc /mnt /root; \
         stat -c '%u %g %a %s %Y %F' suid hole old fifo; stat -c '%u %g %a %Y' dir; readlink link; cat {long}/{long}; stat -c '%u %g' / /bin/guest"
    );
    let was = sandbox.sh("web", &look);
    assert!(was.starts_with("changed\nchanged\nown\nown\n2\n2\n"), "{was}");
    sandbox.vzd(&["snapshot", "create", "web", "first"]).ok();
    sandbox.sh("web", "echo later > /root/data; rm /srv/a");
    let archive = sandbox.state_dir().join("exports/web.first.tar.zst");
    sandbox.vzd(&["snapshot", "export", "web", "first"]).ok().says(archive.to_str().unwrap());
    sandbox.vzd(&["snapshot", "export", "web", "first"]).ends(1).says("it is there already");
    sandbox.vzd(&["snapshot", "export", "web", "other"]).ends(1).says("there is none");
    assert_eq!(sandbox.sh("web", "cat /root/data"), "later");
    // On another host, so to say.
    let other = World::new(On::Directory);
    other.vzd(&["template", "add", "copy", archive.to_str().unwrap()]).ok();
    other.ve("copy", json!({ "template": "copy" }));
    other.apply();
    assert_eq!(other.sh("copy", &look), was);
    // The snapshot is what it was.
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.vzd(&["snapshot", "revert", "web", "first"]).ok();
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(sandbox.sh("web", &look), was);
}

/// Unpacking leaves half a gigabyte of a file system free.
const ROOM: u64 = 1024;

/// What is in the directory of the VE's snapshots, half made ones too.
fn in_snapshots(world: &World) -> Vec<String> {
    let ves = std::fs::read_dir(world.state_dir().join("ves")).unwrap().flatten();
    let all = ves.flat_map(|ve| std::fs::read_dir(ve.path().join("snapshots"))).flatten().flatten();
    let mut names: Vec<_> = all.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn an_archive_is_imported_as_a_snapshot(on: On) {
    needs!(FaultPoints);
    let world = World::with_room(on, ROOM);
    let template = world.template_dir();
    std::fs::write(template.join("srv/a"), "of the template\n").unwrap();
    std::fs::hard_link(template.join("srv/a"), template.join("srv/b")).unwrap();
    std::fs::write(template.join("srv/large"), vec![7; 12 << 20]).unwrap();
    limited(&world, "web", json!({ "diskspace": "64M", "diskinodes": "1000" }));
    world.apply();
    world.sh(
        "web",
        "echo changed > /srv/a; rm /etc/group; rm -r /mnt; ln -s /tmp /mnt; cd /root; echo own > data; ln data twin; \
         touch suid; chown 1000:1001 suid; chmod 4711 suid; ln -s /nowhere link; mkfifo fifo; mkdir -m 1770 dir; \
         chown 7 dir; touch -d '2001-02-03 04:05:06' old; chmod 711 /home; mkdir /opt; echo new > /opt/new",
    );
    let look = "cd /root; cat /srv/a /srv/b data twin; stat -c '%h' /srv/a data; ls -a / /etc /root /srv /opt; \
                stat -c '%u %g %a %s %Y %F' suid old fifo /srv/large; stat -c '%u %g %a %Y' dir / /home /srv /bin; \
                readlink link; readlink /mnt; stat -c '%u %g' /bin/guest";
    let was = world.sh("web", look);
    world.vzd(&["snapshot", "create", "web", "first"]).ok();
    world.vzd(&["snapshot", "export", "web", "first"]).ok();
    let archive = world.state_dir().join("exports/web.first.tar.zst");
    let import = |name| ["snapshot", "import", "web", name, archive.to_str().unwrap()];
    world.vzd(&["snapshot", "delete", "web", "first"]).ok();
    world.sh("web", "rm -r /root/* /opt /srv/a /mnt; mkdir /mnt; touch /etc/group /root/later");

    // While it runs, which goes on as it was.
    let new = [&import("back")[..], &["--title", "From elsewhere"]].concat();
    world.vzd(&new).ok().says("web: snapshot back imported");
    world.vzd(&import("back")).ends(1).says("there is one of this name");
    let list = world.vzd(&["snapshot", "list", "web", "-o", "json"]).ok().json();
    assert_eq!((&list[0]["title"], &list[0]["running"]), (&"From elsewhere".into(), &Value::Bool(false)));
    assert_eq!(world.sh("web", "ls /root"), "later");
    world.vzd(&["stop", "web"]).ok();
    world.vzd(&["snapshot", "revert", "web", "back"]).ok();
    world.vzd(&["start", "web"]).ok();
    assert_eq!(world.sh("web", look), was);
    // What is the template's is not the VE's own.
    if on != On::Directory {
        world.sh("web", "sync");
        assert!(used(&world, "web", "diskspace") < 8 * MB);
        assert_eq!(limit(&world, "web", "diskspace"), 64 * MB);
    }
    // Nor is it as if it were: it goes on as any other.
    world.sh("web", "echo again > /srv/b; rm -r /srv /mnt; mkdir /srv; touch /etc/passwd; rm /etc/passwd");
    assert_eq!(world.sh("web", "ls -A /srv"), "");

    // Nothing is left of what is no archive, or not a whole one, or refused; or of somebody else's.
    let bad = world.dir().join("bad.tar");
    let bytes = std::fs::read(&archive).unwrap();
    std::fs::write(&bad, &bytes[..bytes.len() / 2]).unwrap();
    let import_bad = ["snapshot", "import", "web", "bad", bad.to_str().unwrap()];
    world.vzd(&import_bad).ends(1).says("VZ0310");
    assert_eq!(in_snapshots(&world), ["back"]);
    // A link out, and a file through it; a way up: they stay in the snapshot.
    let outside = world.dir().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(&bad, hostile(outside.to_str().unwrap())).unwrap();
    world.vzd(&import_bad).ok();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!world.dir().join("escaped").exists() && !world.state_dir().join("escaped").exists());
    world.vzd(&["snapshot", "delete", "web", "bad"]).ok();
    let missing = ["snapshot", "import", "web", "bad", "/nowhere/x.tar"];
    world.vzd(&missing).ends(1).says("/nowhere/x.tar");
    assert_eq!(in_snapshots(&world), ["back"]);

    // Killed anywhere, it is there or it is not.
    killed_at_each(&world, &import("again"), || {
        assert!(names(&world).iter().all(|name| ["again", "back"].contains(&name.as_str())));
    });
    assert_eq!(in_snapshots(&world), ["again", "back"]);
    world.vzd(&["stop", "web"]).ok();
    world.vzd(&["snapshot", "revert", "web", "again"]).ok();
    world.vzd(&["start", "web"]).ok();
    assert_eq!(world.sh("web", look), was);
    world.vzd(&["stop", "web"]).ok();
    world.images().iter().for_each(|image| check(image));
}

/// An archive with a link to a directory outside and a file through it, and one with a way up in its name.
fn hostile(outside: &str) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut put = |name: &str, flag: u8, link: &str, content: &[u8]| {
        let mut head = [0_u8; 512];
        let mut field = |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
        field(0, name);
        field(100, "0000644\0");
        field(108, "0000000\0");
        field(116, "0000000\0");
        field(124, &format!("{:011o}\0", content.len()));
        field(136, "00000000000\0");
        field(157, link);
        field(257, "ustar\x0000");
        head[156] = flag;
        head[148..156].fill(b' ');
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(head);
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    };
    put("out", b'2', outside, b"");
    put("etc/", b'5', "", b"");
    put("up", b'2', "../../../..", b"");
    put("up/escaped", b'0', "", b"no");
    put("../../../../escaped", b'0', "", b"no");
    put("etc/hosts", b'0', "", b"127.0.0.1 localhost\n");
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn a_snapshot_under_a_writer_is_whole(on: On) {
    let sandbox = World::new(on);
    limited(&sandbox, "web", json!({ "diskspace": "48M", "diskinodes": "1000" }));
    let _daemon = sandbox.daemon();
    sandbox.until_ready("web");
    sandbox.sh("web", "mkdir /root/w; head -c 100000 /dev/urandom > /root/source; touch /root/go; sync");
    let script = "i=0; while [ -e /root/go ]; do f=/root/w/$((i%50)); rm -f $f.ok; cp /root/source $f; sync; \
                  touch $f.ok; i=$((i+1)); done; echo $i";
    let mut writer = sandbox.command(&["exec", "web", "--", "/bin/sh", "-c", script]);
    let writer = writer.stdout(std::process::Stdio::piped()).spawn().unwrap();
    for name in ["a", "b", "c"] {
        let marks = "ls /root/w/*.ok 2>/dev/null | wc -l";
        eventually("it writes", || sandbox.sh("web", marks).parse::<u64>().unwrap() > 3);
        sandbox.vzd(&["snapshot", "create", "web", name]).ok();
    }
    sandbox.sh("web", "rm /root/go");
    assert!(writer.wait_with_output().unwrap().status.success());
    let check_all = "cd /root/w; n=0; for f in *.ok; do cmp /root/source ${f%.ok} || echo bad $f; n=$((n+1)); done; echo $n";
    for name in ["c", "a", "b"] {
        sandbox.vzd(&["stop", "web"]).ok();
        sandbox.vzd(&["snapshot", "revert", "web", name]).ok();
        sandbox.vzd(&["start", "web"]).ok();
        let whole = sandbox.sh("web", check_all);
        assert!(whole.parse::<u64>().is_ok_and(|whole| whole > 0), "{name}: {whole}");
    }
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.images().iter().for_each(|image| check(image));
}

/// Gives an order until it is not killed at a fault point any more; `then` looks after each.
pub fn killed_at_each(sandbox: &Sandbox, words: &[&str], then: impl Fn()) {
    for at in 1..20 {
        let mut command = sandbox.command(words);
        let ended = command.env("VZD_FAULT_POINT", at.to_string()).output().unwrap();
        then();
        if ended.status.code() != Some(137) {
            assert!(at > 1, "no fault point was reached");
            return;
        }
    }
    panic!("there is no end of fault points");
}

fn a_kill_leaves_the_old_or_the_new(on: On) {
    needs!(FaultPoints);
    let sandbox = World::new(on);
    limited(&sandbox, "web", json!({ "diskspace": "48M", "diskinodes": "1000" }));
    sandbox.apply();
    sandbox.sh("web", "echo one > /root/data");
    // One that ran and was frozen goes on with the next pass.
    killed_at_each(&sandbox, &["snapshot", "create", "web", "one"], || {
        sandbox.apply();
        assert_eq!(sandbox.sh("web", "cat /root/data"), "one");
        assert!(names(&sandbox).iter().all(|name| name == "one"));
    });
    assert_eq!(names(&sandbox), ["one"]);
    sandbox.sh("web", "echo two > /root/data");
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.vzd(&["snapshot", "create", "web", "two"]).ok();
    killed_at_each(&sandbox, &["snapshot", "revert", "web", "one"], || {
        sandbox.vzd(&["start", "web"]).ok();
        let data = sandbox.sh("web", "cat /root/data");
        assert!(["one", "two"].contains(&data.as_str()), "{data}");
        sandbox.vzd(&["stop", "web"]).ok();
    });
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(sandbox.sh("web", "cat /root/data"), "one");
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.vzd(&["snapshot", "revert", "web", "two"]).ok();
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(sandbox.sh("web", "cat /root/data"), "two");
}
