//! Scripts in the manner of OpenVZ's handbook and its wiki, as they would lie on an administrator's host, over real VEs: nothing in
//! them knows of vzd.

use std::process::{Command, Output};

use serde_json::json;
use vzd_tests::{NetLab, Sandbox, eventually, needs};

use super::openvz;

/// Runs a script of the host's whose tools are links to vzd.
fn script(sandbox: &Sandbox, text: &str) -> Output {
    let bin = sandbox.host_dir("bin");
    sandbox.vzd(&["compat", "install", bin.to_str().unwrap()]).ok();
    let vzd = sandbox.command(&[]);
    let mut command = Command::new("/bin/bash");
    command.args(["-e", "-u", "-o", "pipefail", "-c", text]).env_clear();
    command.envs(vzd.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
    command.env("TEMPLATE", sandbox.template()).env("BACKUP", sandbox.host_dir("backup"));
    command.output().unwrap()
}

#[track_caller]
fn runs(sandbox: &Sandbox, text: &str) -> String {
    let output = script(sandbox, text);
    assert!(output.status.success(), "{text}\n{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Three containers, made as the handbook makes them.
fn made() -> (NetLab, Sandbox) {
    let lab = NetLab::new();
    let sandbox = openvz();
    // What a test's template has for an init is no distribution's.
    let spec = json!({ "defaultProfile": "test" });
    let host =
        json!({ "apiVersion": "vzd/v1", "kind": "Host", "metadata": { "name": "host" }, "spec": spec });
    sandbox.write("host.yaml", &format!("{host}\n"));
    runs(
        &sandbox,
        r#"
        for i in 101 102 103; do
            vzctl create $i --ostemplate "$TEMPLATE" --config test --hostname ve$i.example.net
            vzctl set $i --ipadd 10.77.0.$((i - 100)) --save
            vzctl set $i --numproc 60 --kmemsize 64M:70M --cpuunits 1000 --onboot yes --save
            vzctl start $i
        done
        "#,
    );
    (lab, sandbox)
}

#[test]
fn containers_are_made_and_updated_in_a_loop() {
    needs!(Root, Cgroups, Busybox, Ip);
    let (_lab, sandbox) = made();
    let listed = runs(&sandbox, "vzlist -H -o ctid,status,ip,hostname | sed 's/  */ /g'");
    assert_eq!(
        listed,
        " 101 running 10.77.0.1 ve101.example.net\n 102 running 10.77.0.2 ve102.example.net\n 103 running 10.77.0.3 ve103.example.net\n"
    );
    let said = runs(
        &sandbox,
        r#"
        for CT in $(vzlist -H -o ctid); do
            echo "== $CT"
            vzctl exec $CT "echo updated > /root/update && cat /root/update"
        done
        for CT in $(vzlist -1); do
            if ! vzctl exec2 $CT "exit $((CT - 101))"; then echo "$CT failed with $(vzctl exec2 $CT "exit $((CT - 101))" || echo $?)"; fi
        done
        "#,
    );
    assert_eq!(
        said,
        "== 101\nupdated\n== 102\nupdated\n== 103\nupdated\n102 failed with 1\n103 failed with 2\n"
    );
    // One that is down is passed by, and started again by who looks for those.
    let said = runs(
        &sandbox,
        r#"
        vzctl --quiet stop 102
        for CT in $(vzlist -S -H -o ctid); do vzctl --quiet start $CT; vzctl status $CT; done
        for CT in $(vzlist -a -H -o ctid); do vzctl --quiet stop $CT --fast; vzctl --quiet destroy $CT; done
        vzlist -a 2>&1 || echo "none: $?"
        "#,
    );
    assert_eq!(said, "CTID 102 exist mounted running\nContainer(s) not found\nnone: 1\n");
}

/// What tells an administrator that a limit was reached, in three of the ways in which it was asked.
#[test]
fn failures_are_monitored() {
    needs!(Root, Cgroups, Busybox, Ip);
    let (_lab, sandbox) = made();
    // Who keeps the file up that is looked at inside.
    let _daemon = sandbox.daemon();
    let monitor = r#"
        vzlist -H -o ctid,numproc.f | while read ct fails; do
            if [ "$fails" -gt 0 ]; then echo "CT $ct: numproc failed"; fi
        done
        vzubc -q 2>/dev/null | awk '/^--/ {next} $1 ~ /numproc/ {print "vzubc: " $1}'
        for CT in $(vzlist -1); do
            vzctl exec $CT cat /dev/vzd/user_beancounters |
                awk -v ct=$CT '$NF ~ /^[0-9]+$/ && $NF > 0 {print "CT " ct ": " ($1 ~ /:$/ ? $2 : $1)}' || true
        done
    "#;
    assert_eq!(runs(&sandbox, monitor), "");
    runs(
        &sandbox,
        r#"
        vzctl exec 102 'for i in $(seq 80); do sleep 1 & done >/dev/null 2>&1 </dev/null; wait' || true
        "#,
    );
    let all = ["CT 102: numproc failed\n", "vzubc: numproc|\n", "CT 102: numproc\n"];
    let mut told = String::new();
    eventually("all three tell", || {
        told = runs(&sandbox, monitor);
        all.iter().all(|line| told.contains(line))
    });
    assert!(!told.contains("CT 101") && !told.contains("CT 103"), "{told}");
}

#[test]
fn resources_are_raised_for_all() {
    needs!(Root, Cgroups, Busybox, Ip);
    let (_lab, sandbox) = made();
    let listed = runs(
        &sandbox,
        r#"
        for CT in $(vzlist -a -H -o ctid); do
            old=$(vzlist -H -o numproc.l $CT)
            vzctl set $CT --numproc $((old * 2)) --ram 256M --swap 512M --cpuunits 2000 --cpulimit 50 --save
            vzctl set $CT --applyconfig vswap-512m --save
        done
        vzlist -H -o ctid,numproc.l,physpages.l,swappages.l,cpuunits,cpulimit | sed 's/  */ /g'
        "#,
    );
    // What the sample says too is as the sample says it, as under OpenVZ.
    let all =
        " 101 120 131072 262144 1000 50\n 102 120 131072 262144 1000 50\n 103 120 131072 262144 1000 50\n";
    assert!(listed.ends_with(all), "{listed}");
    // At the kernel, without a restart, and on file.
    let pids = std::fs::read_to_string(sandbox.cgroup(102).join("pids.max"));
    let manifest = super::manifest(&sandbox, "102.yaml");
    assert!(pids.is_err() || pids.unwrap().trim() == "120");
    assert!(manifest.contains("numproc: 120") && !manifest.contains("ram:"), "{manifest}");
}

/// Suspended for the moment of it: what is packed stands still, and what ran goes on.
#[test]
fn a_backup_by_suspend_and_tar() {
    needs!(Root, Cgroups, Busybox, Ip, Criu);
    let (_lab, sandbox) = made();
    let said = runs(
        &sandbox,
        r#"
        vzctl exec 101 'echo precious > /root/data; sleep 1234 >/dev/null 2>&1 </dev/null & true'
        for CT in 101 102; do
            PRIVATE=$(vzlist -H -o private $CT)
            vzctl --quiet suspend $CT
            vzctl status $CT
            tar --numeric-owner -C "$PRIVATE" -cf "$BACKUP/$CT.tar" .
            vzctl --quiet resume $CT
            vzctl status $CT
        done
        vzctl exec 101 'pidof sleep > /dev/null && cat /root/data'
        tar -tf "$BACKUP/101.tar" | grep -c 'root/data$'
        "#,
    );
    let status =
        |ct: u32| format!("CTID {ct} exist unmounted down suspended\nCTID {ct} exist mounted running\n");
    assert_eq!(said, format!("{}{}precious\n1\n", status(101), status(102)));
}

/// What does not come up is mended from outside.
#[test]
fn a_container_that_is_broken_is_mounted_and_mended() {
    needs!(Root, Cgroups, Busybox, Ip);
    let (_lab, sandbox) = made();
    let said = runs(
        &sandbox,
        r#"
        vzctl exec 101 'echo broken > /etc/setting; mv /bin/busybox /bin/lost' || true
        vzctl --quiet stop 101 --fast
        vzctl --quiet mount 101
        vzctl status 101
        VE_ROOT=$(vzlist -a -H -o root 101)
        echo mended > $VE_ROOT/etc/setting
        mv $VE_ROOT/bin/lost $VE_ROOT/bin/busybox
        tar --numeric-owner -C $VE_ROOT -cf "$BACKUP/101.tar" ./etc
        vzctl --quiet umount 101
        vzctl --quiet start 101
        vzctl exec 101 'cat /etc/setting; stat -c %u /etc/setting'
        tar -tf "$BACKUP/101.tar" | grep -c etc/setting
        "#,
    );
    assert_eq!(said, "CTID 101 exist mounted down\nmended\n0\n1\n");
}

/// `--config basic` works as it did on the first day.
#[test]
fn samples_are_there_by_name() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    std::fs::create_dir_all(sandbox.scripts()).unwrap();
    std::fs::write(
        sandbox.scripts().join("ve-mine.conf-sample"),
        "NUMPROC=\"77\"\nFOO=\"bar\"\nCPUUNITS=\"500\"\n",
    )
    .unwrap();
    let listed = runs(
        &sandbox,
        r#"
        vzctl create 101 --ostemplate "$TEMPLATE" --config basic
        vzctl create 102 --ostemplate "$TEMPLATE" --config vswap-256m
        vzctl create 103 --ostemplate "$TEMPLATE" --config mine
        vzctl create 104 --ostemplate "$TEMPLATE" --config basic
        vzlist -a -H -o ctid,numproc.l,physpages.l,cpuunits | sed 's/  */ /g'
        vzlist -a -H -o origin_sample 103
        "#,
    );
    assert!(
        listed.ends_with(
            " 101 240 9223372036854775807 1000\n 102 9223372036854775807 65536 1000\n 103 77 9223372036854775807 500\n 104 240 9223372036854775807 1000\nmine\n"
        ),
        "{listed}"
    );
    assert!(sandbox.manifests().join("profile-basic.yaml").exists());
    let refused = script(&sandbox, "vzctl create 105 --ostemplate \"$TEMPLATE\" --config nothing");
    assert_eq!(refused.status.code(), Some(82));
}
