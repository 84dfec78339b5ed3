//! Checkpoints whose memory is kept compressed: it comes back as it was, what is torn or larger than it says is refused and
//! kept, and a kill leaves a whole one or a running VE.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use vzd_tests::{Guarded, Process, Sandbox, eventually, needs, within};

use super::checkpoint;
use crate::compat::tool;
use crate::disk::snapshots::killed_at_each;

/// Half of it text, half of it what cannot be compressed.
const MEGABYTES: u64 = 8;
const COMPRESS: &str = "zstd";

fn compressing(more: Value) -> Value {
    let mut spec = json!({ "checkpoint": { "compress": COMPRESS } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// One with memory that is looked at all the time.
fn remembering(spec: Value) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.ve("web", spec);
    sandbox.apply();
    remember(&sandbox);
    sandbox
}

pub(crate) fn remember(sandbox: &Sandbox) {
    let program = format!("guest remember-text {MEGABYTES} /root/passes");
    sandbox.sh("web", &format!("setsid {program} > /dev/null 2>&1 < /dev/null &"));
    all_is_whole(sandbox);
}

/// It goes on, and has found all of its memory as it had left it.
#[track_caller]
pub(crate) fn all_is_whole(sandbox: &Sandbox) {
    let passes = || sandbox.sh("web", "cat /root/passes 2>/dev/null || echo 0").parse::<u64>().unwrap();
    let before = passes();
    eventually("it looks at all of its memory", || passes() > before + 1);
    assert_eq!(sandbox.sh("web", "ls /root | grep torn || true"), "");
}

/// Files of memory by whether they are compressed, the largest first, with their sizes.
fn pages(dir: &Path, compressed: bool) -> Vec<(PathBuf, u64)> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap());
    let files = files.filter(|file| file.file_name().to_string_lossy().starts_with("pages-"));
    let files = files.filter(|file| file.path().extension().is_some_and(|is| is == "zst") == compressed);
    let mut files: Vec<_> = files.map(|file| (file.path(), file.metadata().unwrap().len())).collect();
    files.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    files
}

fn listed(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("checkpoint.json")).unwrap()).unwrap()
}

#[test]
fn memory_takes_less_room_and_comes_back_as_it_was() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = remembering(json!({}));
    let pid = sandbox.init_pid("web");
    sandbox.ve("web", compressing(json!({})));
    sandbox.apply();
    assert_eq!(sandbox.init_pid("web"), pid, "it is live");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    let dir = checkpoint(&sandbox);
    sandbox.vzd(&["suspend", "web"]).ok();
    let (largest, bytes) = pages(&dir, true).swap_remove(0);
    assert!(bytes > MEGABYTES << 19 && bytes < (MEGABYTES * 3) << 18, "{bytes}");
    assert_eq!(pages(&dir, false), []);
    let list = listed(&dir);
    assert_eq!(list["format"], 5);
    let name = largest.file_name().unwrap().to_str().unwrap();
    assert_eq!(list["files"][name]["bytes"], bytes);
    assert!(list["files"][name]["plain"].as_u64() > Some(MEGABYTES << 20), "{list}");
    sandbox.power_cut();
    sandbox.vzd(&["resume", "web"]).ok();
    all_is_whole(&sandbox);
    assert!(!dir.exists());
    // And as before.
    sandbox.ve("web", json!({ "checkpoint": { "compress": "none" } }));
    sandbox.apply();
    sandbox.vzd(&["suspend", "web"]).ok();
    assert_eq!((pages(&dir, true), &listed(&dir)["format"]), (vec![], &json!(2)));
    sandbox.vzd(&["resume", "web"]).ok();
    all_is_whole(&sandbox);
}

#[test]
fn what_is_torn_or_larger_than_it_says_is_refused_and_kept() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = remembering(compressing(json!({})));
    sandbox.vzd(&["suspend", "web"]).ok();
    let dir = checkpoint(&sandbox);
    let (file, _) = pages(&dir, true).swap_remove(0);
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    let list = dir.join("checkpoint.json");
    let (good, text) = (fs::read(&file).unwrap(), fs::read(&list).unwrap());
    let refused = |why: &str| {
        sandbox.vzd(&["resume", "web"]).ends(1).says("VZ0502").says(&name).says(why);
        assert_eq!(pages(&dir, false), [], "nothing is left of what was written out: {why}");
        assert!(sandbox.cgroups().is_empty(), "{:?}", sandbox.cgroups());
    };
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    let longer = [&good[..], b"more"].concat();
    for torn in [&bad, &good[..good.len() / 2], &longer, &[][..]] {
        fs::write(&file, torn).unwrap();
        refused("is not as it was written");
    }
    fs::write(&file, &good).unwrap();
    // A list that says less, or more, than there is; and one that has no sum of a compressed file.
    for by in [-4096, 4096] {
        let mut list = serde_json::from_slice::<Value>(&text).unwrap();
        let plain = list["files"][&name]["plain"].as_i64().unwrap();
        list["files"][&name]["plain"] = json!(plain + by);
        fs::write(dir.join("checkpoint.json"), list.to_string()).unwrap();
        refused("is not as it was written");
    }
    let mut without = serde_json::from_slice::<Value>(&text).unwrap();
    without["files"][&name].as_object_mut().unwrap().remove("plain");
    fs::write(&list, without.to_string()).unwrap();
    refused("is no name of a file in it");
    fs::write(&list, &text).unwrap();
    // What a resume that was cut off has written out counts for nothing.
    fs::write(file.with_extension(""), "torn").unwrap();
    sandbox.vzd(&["resume", "web"]).ok();
    all_is_whole(&sandbox);
}

#[test]
fn a_disk_without_room_is_told_of_and_all_is_kept() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    let disk = sandbox.host_dir("checkpoints");
    let mount = |options: &str| {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&disk).status();
        assert!(mounted.unwrap().success());
    };
    mount("size=12M,mode=0700");
    sandbox.ve("web", json!({ "checkpoint": { "directory": disk, "compress": COMPRESS } }));
    sandbox.apply();
    remember(&sandbox);
    // The plain file fits, and the compressed one not beside it.
    sandbox.vzd(&["suspend", "web"]).ends(1).says("VZ0501").says("No space left");
    sandbox.vzd(&["resume", "web"]).ok();
    all_is_whole(&sandbox);
    mount("remount,size=64M");
    sandbox.vzd(&["suspend", "web"]).ok();
    let dir = checkpoint(&sandbox);
    let kept = pages(&dir, true);
    mount("remount,size=12M");
    sandbox.vzd(&["resume", "web"]).ends(1).says("VZ0502").says("there is no room on that disk for the");
    assert_eq!((pages(&dir, true), pages(&dir, false)), (kept, vec![]));
    mount("remount,size=64M");
    sandbox.vzd(&["resume", "web"]).ok();
    all_is_whole(&sandbox);
    assert!(Command::new("umount").arg("--lazy").arg(&disk).status().unwrap().success());
}

#[test]
fn one_that_runs_on_is_gone_back_to() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = remembering(compressing(json!({})));
    sandbox.vzd(&["checkpoint", "web", "--leave-running", "--name", "then"]).ok();
    let copy = checkpoint(&sandbox).with_file_name("memory").join("then");
    let kept = pages(&copy, true);
    assert!(!kept.is_empty() && pages(&copy, false).is_empty());
    sandbox.sh("web", "echo later > /run/later");
    // Twice: nothing is written out where the copy is.
    for _ in 0..2 {
        sandbox.vzd(&["stop", "web", "--force"]).ok();
        sandbox.vzd(&["snapshot", "revert", "web", "then", "--memory"]).ok();
        sandbox.vzd(&["resume", "web"]).ok();
        all_is_whole(&sandbox);
        assert_eq!(sandbox.sh("web", "ls /run/later 2>/dev/null || true"), "");
        assert_eq!((pages(&copy, true), pages(&copy, false)), (kept.clone(), vec![]));
    }
    sandbox.vzd(&["stop", "web", "--force"]).ok();
    let good = fs::read(&kept[0].0).unwrap();
    fs::write(&kept[0].0, &good[1..]).unwrap();
    let revert = ["snapshot", "revert", "web", "then", "--memory"];
    sandbox.vzd(&revert).ends(1).says("VZ0310").says("is not as it was written");
}

#[test]
fn a_dump_file_holds_it_as_it_is() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = remembering(compressing(json!({ "ctid": 101 })));
    let dump = sandbox.host_dir("dumps").join("dump");
    tool(&sandbox, &format!("vzctl chkpnt 101 --dumpfile {}", dump.display())).ends(0);
    assert!(fs::metadata(&dump).unwrap().len() < MEGABYTES << 20);
    let (file, _) = pages(&checkpoint(&sandbox), true).swap_remove(0);
    fs::remove_file(&file).unwrap();
    tool(&sandbox, "vzctl restore 101").ends(17).says("is missing");
    tool(&sandbox, &format!("vzctl restore 101 --dumpfile {}", dump.display())).ends(0);
    all_is_whole(&sandbox);
}

#[test]
fn a_kill_of_the_command_leaves_a_whole_one_or_one_that_runs() {
    needs!(Root, Cgroups, Busybox, Criu, FaultPoints);
    let sandbox = remembering(compressing(json!({})));
    killed_at_each(&sandbox, &["suspend", "web"], || drop(sandbox.vzd(&["resume", "web"]).ok()));
    all_is_whole(&sandbox);
}

/// Kills who has a file of the checkpoint open whose name ends so, once it is there and while `command` runs.
fn killed_at_work(sandbox: &Sandbox, command: &[&str], file: &str) {
    let dir = checkpoint(sandbox);
    let mut working = Guarded::spawn(sandbox.command(command).stderr(Stdio::null()));
    let worker = within(Duration::from_secs(20), "it is at work", || {
        assert!(
            working.child.try_wait().unwrap().is_none(),
            "{command:?} was done before it could be killed"
        );
        Process::with_open(|path| path.starts_with(&dir) && path.to_string_lossy().ends_with(file))
    });
    worker.kill();
    assert_ne!(working.wait(Duration::from_secs(20)), 0, "{command:?}");
}

#[test]
fn a_kill_of_who_compresses_or_writes_out_loses_nothing() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = remembering(compressing(json!({})));
    // So much that it takes a while.
    sandbox.sh("web", "setsid guest remember-text 48 /root/much 1 > /dev/null 2>&1 < /dev/null &");
    eventually("memory is full", || sandbox.sh("web", "ls /root").contains("much"));
    let pid = sandbox.init_pid("web");
    killed_at_work(&sandbox, &["suspend", "web"], ".img.zst");
    sandbox.vzd(&["resume", "web"]).ok();
    assert_eq!(sandbox.init_pid("web"), pid, "it has run on");
    all_is_whole(&sandbox);
    sandbox.vzd(&["suspend", "web"]).ok();
    let (largest, _) = pages(&checkpoint(&sandbox), true).swap_remove(0);
    let plain = largest.file_stem().unwrap().to_str().unwrap();
    killed_at_work(&sandbox, &["resume", "web"], plain);
    sandbox.vzd(&["resume", "web"]).ok();
    all_is_whole(&sandbox);
}
