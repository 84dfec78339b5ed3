//! The tools about configurations and disks.

use vzd_tests::needs;

use super::{manifest, openvz, tool};

#[test]
fn configurations_are_checked_repaired_scaled_and_split() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    let file = sandbox.host_dir("conf").join("101.conf");
    let path = file.to_str().unwrap();
    let text = "# mine\nPHYSPAGES=\"1M:4M\"  # small\nSWAPPAGES=\"0:0\"\nNUMPROC=\"40\"\nHOSTNAME=\"a\"\n";
    std::fs::write(&file, text).unwrap();
    tool(&sandbox, &format!("vzcfgvalidate {path}")).ends(2).says("Validation completed: failure");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "nothing is changed unasked");
    let refused = sandbox.vzd_with_input(&["vzcfgvalidate", "-i", path], b"n\n").ends(2);
    assert!(refused.stdout.contains("set PHYSPAGES=\"0:1024\" (y/n)"), "{refused:?}");
    sandbox
        .vzd_with_input(&["vzcfgvalidate", "-i", path], b"y\n")
        .ends(0)
        .says("Validation completed: success");
    let repaired = text.replace("\"1M:4M\"", "\"0:1024\"");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), repaired);
    tool(&sandbox, &format!("vzcfgvalidate -v yes {path}")).ends(0).says("NUMPROC: 40");
    tool(&sandbox, "vzcfgvalidate /no/such/file").ends(1);
    tool(&sandbox, "vzcfgvalidate").ends(1);

    let scaled = tool(&sandbox, &format!("vzcfgscale -a 2 -r -v {path}")).ends(0).stdout;
    assert_eq!(scaled, "# mine\nPHYSPAGES=\"0:2048\"  # small\nSWAPPAGES=\"0:0\"\nNUMPROC=\"80:80\"\n");
    tool(&sandbox, &format!("vzcfgscale -a none {path}")).ends(1);

    tool(&sandbox, "vzsplit -n 1000000").ends(1).says("too small");
    let printed = tool(&sandbox, "vzsplit -n 20").ends(0).stdout;
    assert!(printed.contains("NUMPROC=\"400:400\"") && printed.contains("SWAPPAGES=\"0:"), "{printed}");
    let asked = sandbox.vzd_with_input(&["vzsplit"], b"20\n").ends(0).stdout;
    assert!(asked.ends_with(&printed), "{asked}");
    let counters = sandbox.host_dir("conf").join("split.conf");
    std::fs::write(&counters, tool(&sandbox, "vzsplit -n 2 -v no").ends(0).stdout).unwrap();
    tool(&sandbox, &format!("vzcfgvalidate {}", counters.display())).ends(0);
    tool(&sandbox, "vzsplit -n 2 -v maybe").ends(1);
    tool(&sandbox, "vzsplit -n 20 -f twentieth").ends(0);
    assert!(manifest(&sandbox, "profile-twentieth.yaml").contains("numproc: 400"));
    let template = sandbox.template();
    tool(&sandbox, &format!("vzctl create 150 --config twentieth --ostemplate {template}")).ends(0);
}

#[test]
fn a_disk_is_told_as_by_vzquota() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    tool(&sandbox, "vzctl create 101 --config test --diskspace 1G:2G --diskinodes 20000:30000").ends(0);
    tool(&sandbox, "vzctl create 102 --config test").ends(0);
    tool(&sandbox, "vzquota stat 101").ends(6);
    tool(&sandbox, "vzctl start 101").ends(0);
    tool(&sandbox, "vzctl start 102").ends(0);
    let told = tool(&sandbox, "vzquota stat 101").ends(0).stdout;
    let rows: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["resource", "usage", "softlimit", "hardlimit", "grace"]);
    assert_eq!((rows[1][0], &rows[1][2..]), ("1k-blocks", &["1048576", "2097152"][..]));
    assert_eq!((rows[2][0], &rows[2][2..]), ("inodes", &["20000", "30000"][..]));
    assert!(rows[1][1].parse::<u64>().unwrap() > 0 && rows[2][1].parse::<u64>().unwrap() > 0, "{told}");
    tool(&sandbox, "vzquota on 101").ends(5);
    tool(&sandbox, "vzquota off 101").ends(1).says("vzctl set");
    tool(&sandbox, "vzquota stat 102").ends(11);
    tool(&sandbox, "vzquota stat 103").ends(1);
}
