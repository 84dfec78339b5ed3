//! `vzctl snapshot` and its kin.

use vzd_tests::needs;

use super::{running, tool};

/// As the wiki has it: a snapshot, its files by tar, and nothing of it is left.
#[test]
fn a_container_is_backed_up_by_its_snapshot() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    sandbox.sh("101", "echo one > /root-file; chown 5:6 /root-file");
    let (dir, id) = (sandbox.host_dir("shown"), "6c3f1a2b-0000-4000-8000-0123456789ab");
    let mount = format!("vzctl snapshot-mount 101 --id {{{id}}} --target {}", dir.display());
    tool(&sandbox, &mount).ends(160);
    tool(&sandbox, &format!("vzctl snapshot 101 --id {{{id}}} --skip-suspend --skip-config")).ends(0);
    tool(&sandbox, &mount).ends(0);
    tool(&sandbox, &mount).ends(160);
    sandbox.sh("101", "echo two > /root-file");
    let listed = tool(&sandbox, "vzctl snapshot-list 101 -H -o target").ends(0).stdout;
    assert_eq!(listed, format!("{}\n", dir.display()));
    let archive = sandbox.dir().join("101.tar");
    let tar = |words: &[&str]| std::process::Command::new("tar").args(words).output().unwrap();
    let (archive, from) = (archive.to_str().unwrap(), dir.to_str().unwrap());
    assert!(tar(&["-C", from, "--numeric-owner", "-cf", archive, "."]).status.success());
    tool(&sandbox, &format!("vzctl snapshot-delete 101 --id {id}")).ends(158);
    tool(&sandbox, &format!("vzctl snapshot-umount 101 --id {id}")).ends(0);
    tool(&sandbox, &format!("vzctl snapshot-umount 101 --id {id}")).ends(161);
    tool(&sandbox, &format!("vzctl snapshot-delete 101 --id {id}")).ends(0);
    let files = tar(&["--numeric-owner", "-tvf", archive]).stdout;
    let files = String::from_utf8_lossy(&files).into_owned();
    assert!(files.lines().any(|line| line.contains(" 5/6 ") && line.ends_with("./root-file")), "{files}");
    assert!(files.lines().any(|line| line.contains(" 0/0 ") && line.ends_with("./bin/busybox")), "{files}");
    let content = tar(&["-xOf", archive, "./root-file"]).stdout;
    assert_eq!(content, b"one\n");
}

#[test]
fn a_disk_goes_back_to_what_it_was() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    let uuid = "{6C3F1A2B-0000-4000-8000-0123456789AB}";
    let lower = uuid.to_lowercase();
    sandbox.sh("101", "echo one >/root-file");
    let long = "x".repeat(300);
    tool(&sandbox, &format!("vzctl snapshot 101 --skip-suspend --name {long}")).ends(21);
    sandbox
        .vzd(&[
            "vzctl",
            "snapshot",
            "101",
            "--id",
            uuid,
            "--skip-suspend",
            "--name",
            "before the update",
            "--description",
            "asked for by Ann",
        ])
        .ends(0)
        .says(&lower);
    let told = tool(&sandbox, "vzctl snapshot-list 101 -H -o name,desc").ends(0).stdout;
    assert_eq!(told, format!("{:<32} asked for by Ann\n", "before the update"));
    let listed = sandbox.vzd(&["snapshot", "list", "101", "-o", "json"]).ok().json();
    assert_eq!(
        (&listed[0]["title"], &listed[0]["description"]),
        (&"before the update".into(), &"asked for by Ann".into())
    );
    sandbox.sh("101", "echo two >/root-file");
    let list = tool(&sandbox, "vzctl snapshot-list 101").ends(0).stdout;
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(
        lines[0],
        "PARENT_UUID                            C UUID                                   DATE                NAME"
    );
    assert!(lines.len() == 2 && lines[1].contains(&lower), "{list}");
    assert_eq!(tool(&sandbox, "vzctl snapshot-list 101 -H -o uuid").ends(0).stdout, format!("{lower}\n"));
    tool(&sandbox, "vzctl snapshot-list 101 -o nothing").ends(21);
    tool(&sandbox, "vzctl snapshot-switch 101 --id none").ends(159);
    tool(&sandbox, &format!("vzctl snapshot-switch 101 --id {uuid} --must-resume")).ends(159);
    assert_eq!(sandbox.sh("101", "cat /root-file"), "two");
    tool(&sandbox, &format!("vzctl snapshot-switch 101 --id {uuid}")).ends(0);
    assert_eq!(sandbox.sh("101", "cat /root-file"), "one");
    tool(&sandbox, &format!("vzctl snapshot-delete 101 --id {uuid}")).ends(0);
    tool(&sandbox, &format!("vzctl snapshot-delete 101 --id {uuid}")).ends(158);
}

#[test]
fn what_ran_comes_back_with_its_disk() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = running();
    let id = "6c3f1a2b-0000-4000-8000-0123456789ab";
    sandbox.sh("101", "echo one >/root-file; echo one >/run/file");
    tool(&sandbox, &format!("vzctl snapshot 101 --id {id}")).ends(0);
    sandbox.sh("101", "echo two >/root-file; echo two >/run/file");
    tool(&sandbox, &format!("vzctl snapshot-switch 101 --id {id} --must-resume")).ends(0);
    assert_eq!(sandbox.sh("101", "cat /root-file /run/file"), "one\none");
    sandbox.sh("101", "echo two >/root-file");
    tool(&sandbox, &format!("vzctl snapshot-switch 101 --id {id} --skip-resume")).ends(0);
    tool(&sandbox, "vzctl status 101").ends(0).says("unmounted down");
    tool(&sandbox, "vzctl start 101").ends(0);
    assert_eq!(sandbox.sh("101", "cat /root-file; ls /run"), "one");
}
