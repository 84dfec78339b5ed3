//! Quotas that a VE's root sets for its own users and groups, with Debian's tools as they are.

use serde_json::{Value, json};
use vzd_tests::{LONG, Process, eventually};

use super::{MB, On, World, used};

macro_rules! on_each_project {
    ($($on:ident $of:ident $name:ident),* $(,)?) => {
        $(#[test] fn $name() {
            vzd_tests::needs!(Root, Cgroups, Busybox, Distribution, ProjectQuota($of));
            debians_tools_set_quotas(On::$on);
        })*
    };
}
on_each_project!(
    Pool Ext4 debians_tools_set_quotas_in_the_pool,
    Ext4 Ext4 debians_tools_set_quotas_on_ext4,
    Xfs Xfs debians_tools_set_quotas_on_xfs,
);

macro_rules! and_suspended {
    ($($on:ident $of:ident $name:ident),* $(,)?) => {
        $(#[test] fn $name() {
            vzd_tests::needs!(Root, Cgroups, Busybox, Criu, ProjectQuota($of));
            they_outlast_a_suspension(On::$on);
        })*
    };
}
and_suspended!(
    Pool Ext4 quotas_outlast_a_suspension_in_the_pool,
    Xfs Xfs quotas_outlast_a_suspension_on_xfs,
);

const TEMPLATE: &str = "debian-13-server";
/// Room for the template beside the VEs.
const MIB: u64 = 2048;

/// Does what /go says, as init: by the filter that the VE was started with.
const INIT: &str = "while :; do if [ -x /go ]; then /go > /said 2>&1; mv /go /gone; fi; sleep 0.1; done";

fn ve(world: &World, name: &str, disk: Value) {
    world.ve(name, spec(disk));
}

fn spec(disk: Value) -> Value {
    let init = json!(["/bin/sh", "-c", INIT]);
    json!({ "template": TEMPLATE, "init": init, "stopTimeout": "0s", "disk": disk })
}

fn debians_tools_set_quotas(on: On) {
    let world = World::with_room(on, MIB);
    world.distribution(TEMPLATE);
    for name in ["web", "two"] {
        ve(&world, name, json!({ "diskspace": "64M", "quotaugidlimit": 3 }));
    }
    world.apply();
    for name in ["web", "two"] {
        world.sh(name, "useradd -m alice && useradd -m bob && useradd -m carol");
    }
    users_and_groups_are_limited(&world);
    nobody_else_sets_or_sees_them(&world);
    the_first_level_holds(&world, on);
    only_so_many_ids_have_limits(&world);
    if matches!(on, On::Ext4) {
        // The rest is not the file system's matter, and the pool is one of this kind.
        return;
    }
    init_is_answered_too(&world);
    grace_times_are_its_own(&world);
    it_takes_a_restart(&world);
    the_next_with_these_ids_begins_with_none(&world);
}

/// The line of a user or group in a report: soft and hard limits of blocks.
fn reported(world: &World, ve: &str, kind: &str, name: &str) -> Option<(u64, u64)> {
    let report = world.sh(ve, &format!("repquota {kind} /"));
    let line = report.lines().find(|line| line.split_whitespace().next() == Some(name))?;
    let mut numbers = line.split_whitespace().skip(2).filter_map(|word| word.parse().ok());
    let _used: u64 = numbers.next()?;
    Some((numbers.next()?, numbers.next()?))
}

fn as_user(world: &World, user: &str, script: &str) -> vzd_tests::Ended {
    world.exec("web", &["/usr/bin/su", "-", user, "-c", script])
}

fn users_and_groups_are_limited(world: &World) {
    world.sh("web", "setquota -u alice 1000 2000 10 20 / && setquota -g bob 0 3000 0 0 /");
    assert_eq!(reported(world, "web", "-u", "alice"), Some((1000, 2000)));
    assert_eq!(reported(world, "web", "-g", "bob"), Some((0, 3000)));
    assert!(world.sh("web", "repquota -a").contains("alice"));
    // Its exit code tells as well.
    let on = world.exec("web", &["/usr/sbin/quotaon", "-pu", "/"]).ends(1).stdout;
    assert_eq!(on.split_whitespace().last(), Some("on"));
    as_user(world, "alice", "dd if=/dev/zero of=big bs=64k count=100").ends(1).says("quota exceeded");
    as_user(world, "alice", "for i in $(seq 40); do touch n$i || exit 3; done")
        .ends(3)
        .says("quota exceeded");
    as_user(world, "bob", "dd if=/dev/zero of=big bs=64k count=100").ends(1).says("quota exceeded");
    let space = world.sh("web", "sync; du -sk /home/alice /home/bob | cut -f 1");
    let space: Vec<u64> = space.lines().map(|line| line.parse().unwrap()).collect();
    assert!(space[0] <= 2000 && space[1] <= 3000 && space.iter().all(|used| *used > 900), "{space:?}");
    // What is given to them counts as theirs.
    world.sh("web", "dd if=/dev/zero of=/root/gift bs=64k count=40 2>&1");
    let given = world.exec("web", &["/bin/chown", "alice", "/root/gift"]);
    match world.on {
        // The kernel lets root give beyond a limit there.
        On::Xfs => given.ends(0),
        _ => given.ends(1).says("quota exceeded"),
    };
    // Up and down while they write.
    world.sh("web", "setquota -u alice 0 9000 0 0 /");
    as_user(world, "alice", "dd if=/dev/zero of=more bs=64k count=50").ends(0);
    world.sh("web", "setquota -u alice 0 100 0 0 /");
    as_user(world, "alice", "dd if=/dev/zero of=even-more bs=64k count=1").ends(1).says("quota exceeded");
    assert_eq!(world.sh("web", "edquota -p alice bob; echo $?"), "0");
    assert_eq!(reported(world, "web", "-u", "bob"), Some((0, 100)));
    world
        .sh("web", "setquota -u bob 0 0 0 0 /; setquota -g bob 0 0 0 0 /; rm -f /home/*/*big /home/alice/n*");
}

fn nobody_else_sets_or_sees_them(world: &World) {
    // Ids are the same in both VEs, and they are not the same users.
    assert_eq!(reported(world, "two", "-u", "alice").map(|limits| limits.1), Some(0));
    world.sh("two", "setquota -u alice 0 800 0 0 /");
    assert_eq!(reported(world, "web", "-u", "alice"), Some((0, 100)));
    assert!(as_user(world, "alice", "quota -v").stdout.contains("/dev/vzroot"));
    for words in ["-u alice 0 0 0 0", "-t -u 9 9"] {
        assert_ne!(as_user(world, "alice", &format!("/usr/sbin/setquota {words} /")).code, 0, "{words}");
    }
    assert!(!as_user(world, "alice", "/usr/sbin/repquota -u /").stdout.contains("bob"));
    assert!(!as_user(world, "alice", "quota -v -u bob").stdout.contains("/dev/vzroot"));
    // Nor by being the root of a user namespace of one's own.
    let script = "unshare -Ur /usr/sbin/setquota -u alice 0 0 0 0 /";
    assert_ne!(as_user(world, "alice", script).code, 0);
    assert_eq!(reported(world, "web", "-u", "alice"), Some((0, 100)));
    // Projects are the host's, ids outside of the VE nobody's, and the state of the whole is not one VE's.
    let set = |words: &str| world.exec("web", &["/bin/sh", "-c", words]);
    for words in ["setquota -P 5 0 9 0 0 /", "setquota -u 3000000000 0 9 0 0 /", "quotaoff -u /"] {
        assert_ne!(set(words).stderr, "", "{words}");
    }
    assert_ne!(set("quotaon -pu /").code, 0);
}

fn the_first_level_holds(world: &World, on: On) {
    world.sh("web", "setquota -u carol 0 9000000 0 0 /");
    as_user(world, "carol", "dd if=/dev/zero of=big bs=1M count=100").ends(1).says(on.refusal());
    assert!(used(world, "web", "diskspace") <= 64 * MB);
    world.sh("web", "rm /home/carol/big; sync");
}

fn only_so_many_ids_have_limits(world: &World) {
    // Of alice, carol and a group.
    world.sh("web", "setquota -g bob 0 500 0 0 /");
    let set = |words: &str| world.exec("web", &["/bin/sh", "-c", words]);
    assert!(set("setquota -u bob 0 500 0 0 /").stderr.contains("quota exceeded"));
    assert_eq!(reported(world, "web", "-u", "bob").map(|limits| limits.1), Some(0));
    // One that has limits may have others, and one less makes room.
    set("setquota -u carol 0 8000 0 0 /").ends(0);
    set("setquota -g bob 0 0 0 0 /").ends(0);
    set("setquota -u bob 0 500 0 0 /").ends(0);
}

fn init_is_answered_too(world: &World) {
    world.sh("web", "printf '#!/bin/sh\\nrepquota -u /\\n' > /next; chmod 755 /next; mv /next /go");
    eventually("init has asked", || world.sh("web", "ls /gone 2>/dev/null || true") == "/gone");
    assert!(world.sh("web", "cat /said").contains("alice"));
    // A keeper that is killed takes nothing with it.
    let keeper = Process::keeper_of(&world.run_dir()).unwrap();
    keeper.kill();
    assert!(keeper.wait(LONG));
    world.sh("web", "rm /said; mv /gone /go");
    eventually("init has asked again", || world.sh("web", "ls /gone 2>/dev/null || true") == "/gone");
    assert!(world.sh("web", "cat /said").contains("alice"));
}

/// What a report says of grace times.
fn graces(world: &World, ve: &str, kind: &str) -> String {
    let report = world.sh(ve, &format!("repquota {kind} /"));
    report.lines().find(|line| line.starts_with("Block grace time")).unwrap().to_owned()
}

/// How long alice's grace for space still lasts, once she has passed her soft limit.
fn lasts(world: &World) -> Option<String> {
    let report = world.sh("web", "repquota -u /");
    let mut words = report.lines().find_map(|line| line.strip_prefix("alice"))?.split_whitespace();
    words.next().filter(|passed| passed.starts_with('+'))?;
    words.nth(3).map(str::to_owned)
}

/// Passes alice's soft limit, as if for the first time.
fn alice_begins_anew(world: &World) {
    world.sh("web", "rm -f /home/alice/more /home/alice/other /root/gift; sync");
    eventually("alice is below her soft limit", || lasts(world).is_none());
    as_user(world, "alice", "dd if=/dev/zero of=more bs=64k count=10 conv=fsync").ends(0);
    world.sh("web", "sync");
}

fn grace_times_are_its_own(world: &World) {
    let lasts = || lasts(world).unwrap_or_default();
    world.sh("web", "setquota -u alice 400 9000 0 0 / && setquota -t -u 600 1200 /");
    let ours = "Block grace time: 00:10; Inode grace time: 00:20";
    let usual = "Block grace time: 7days; Inode grace time: 7days";
    assert_eq!(graces(world, "web", "-u"), ours);
    assert_eq!(graces(world, "web", "-g"), usual);
    assert_eq!(graces(world, "two", "-u"), usual);
    alice_begins_anew(world);
    assert!(lasts().starts_with("00:"), "{}", lasts());
    // A time that runs is not changed by another for all, nor by being looked at; but by hand.
    world.sh("web", "printf '#!/bin/sh\\nsed -i s/10minutes/3hours/ $1\\n' > /root/ed; chmod 755 /root/ed");
    world.sh("web", "EDITOR=/root/ed edquota -t -u");
    assert_eq!(graces(world, "web", "-u"), "Block grace time: 03:00; Inode grace time: 00:20");
    assert!(lasts().starts_with("00:"), "{}", lasts());
    world.sh("web", "setquota -T -u alice 7200 7200 /");
    let by_hand = |lasts: String| lasts.starts_with("02:00") || lasts.starts_with("01:5");
    assert!(by_hand(lasts()), "{}", lasts());
    // The kernel refuses by it.
    world.sh("web", "setquota -t -u 3 3 /");
    assert!(by_hand(lasts()), "{}", lasts());
    alice_begins_anew(world);
    let refused = || {
        let ended = as_user(world, "alice", "dd if=/dev/zero of=other bs=64k count=1 conv=fsync");
        ended.code != 0 && ended.stderr.contains("quota exceeded")
    };
    eventually("grace has run out", refused);
    alice_begins_anew(world);
    world.sh("web", "setquota -u alice 0 100 0 0 / && setquota -t -u 600 1200 /");
}

fn it_takes_a_restart(world: &World) {
    world.vzd(&["restart", "web"]).ok();
    assert_eq!(reported(world, "web", "-u", "alice"), Some((0, 100)));
    assert!(graces(world, "web", "-u").contains("00:10"));
    let pid = world.init_pid("web");
    ve(world, "web", json!({ "diskspace": "64M" }));
    world.vzd(&["apply"]).says("spec.disk.quotaugidlimit");
    assert_eq!(world.init_pid("web"), pid);
    assert_eq!(reported(world, "web", "-u", "alice"), Some((0, 100)));
    world.vzd(&["restart", "web"]).ok();
    // What nobody can see or change any more limits nobody.
    assert_ne!(world.exec("web", &["/usr/sbin/repquota", "-u", "/"]).code, 0);
    as_user(world, "alice", "dd if=/dev/zero of=big bs=64k count=50").ends(0);
    assert_eq!(reported(world, "two", "-u", "alice"), Some((0, 800)));
}

fn the_next_with_these_ids_begins_with_none(world: &World) {
    let ids = world.first_id("two");
    world.ve("two", json!({ "state": "absent" }));
    world.apply();
    let mut next = spec(json!({ "quotaugidlimit": 3 }));
    next["security"] = json!({ "userNamespace": { "start": ids } });
    world.ve("two", next);
    world.apply();
    assert_eq!(world.first_id("two"), ids);
    world.sh("two", "useradd -m alice");
    assert_eq!(reported(world, "two", "-u", "alice").map(|limits| limits.1), Some(0));
}

/// Without Debian, which takes long: only the calls that its tools make.
fn they_outlast_a_suspension(on: On) {
    let world = World::with_room(on, MIB);
    let init = json!(["/bin/sh", "-c", INIT]);
    world.ve(
        "web",
        json!({ "init": init, "stopTimeout": "0s", "disk": { "diskspace": "64M", "quotaugidlimit": 3 } }),
    );
    world.apply();
    let hard = || world.guest("web", &["quota", "user", "1000"])["hard"].clone();
    world.guest("web", &["quota", "user", "1000", "100"]);
    world.guest("web", &["grace", "user", "600"]);
    world.sh("web", "printf '#!/bin/sh\\nexec guest quota user 1000\\n' > /gone; chmod 755 /gone");
    // What was put back by a resumption is suspended, too.
    for times in 1..=2 {
        world.vzd(&["suspend", "web"]).ok();
        world.vzd(&["resume", "web"]).ok();
        world.sh("web", "rm -f /said; mv /gone /go");
        eventually("init has asked", || world.sh("web", "ls /gone 2>/dev/null || true") == "/gone");
        assert!(world.sh("web", "cat /said").contains("100"), "{times}: {}", world.sh("web", "cat /said"));
        assert_eq!(hard(), 100);
        assert_eq!(world.guest("web", &["grace", "user"]), 600);
    }
    // Whoever writes: the file is theirs.
    let write = ": > /big; chown 1000 /big; dd if=/dev/zero of=/big bs=64k count=50";
    world.exec("web", &["/bin/sh", "-c", write]).ends(1).says("quota exceeded");
    // One filter that is heard, and the VE's own.
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.init_pid("web"))).unwrap();
    assert!(status.lines().any(|line| line == "Seccomp_filters:\t2"), "{status}");
}
