//! Images of containers: from a layout on disk and from a registry to VEs whose first process is the image's program.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use vzd_tests::{Ended, Guarded, Image, NetLab, Registry, Sandbox, eventually, needs};

/// Tells what it was started with, and how it was asked to end.
const APP: &str = "#!/bin/sh
{ id; pwd; echo \"$@\"; echo $MODE $HOME $container; } > /tmp/told.new
mv /tmp/told.new /tmp/told
trap 'echo asked > /tmp/end; exit 0' USR1
while :; do sleep 3600 & wait $!; done
";

/// The test's template with a program over it, in two layers.
fn make_image(sandbox: &Sandbox, dir: &Path) -> Image {
    let base = sandbox.template_dir();
    let add = |file: &str, line: &str| {
        let text = std::fs::read_to_string(base.join(file)).unwrap();
        std::fs::write(base.join(file), text + line).unwrap();
    };
    add("etc/passwd", "web:x:33:34::/srv:/bin/sh\n");
    add("etc/group", "web:x:34:\nlog:x:44:web\n");
    let over = dir.join("over");
    std::fs::create_dir_all(over.join("usr/bin")).unwrap();
    std::fs::create_dir_all(over.join("etc/init.d")).unwrap();
    std::fs::write(over.join("usr/bin/app"), APP).unwrap();
    std::fs::set_permissions(over.join("usr/bin/app"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(over.join("etc/init.d/.wh.rcS"), "").unwrap();
    let config = json!({
        "Entrypoint": ["app", "serve"],
        "Cmd": ["-v"],
        "Env": ["PATH=/usr/bin:/bin", "MODE=test"],
        "WorkingDir": "/srv/work",
        "User": "web",
        "StopSignal": "SIGUSR1",
    });
    Image::make(&dir.join("layout"), &[base, &over], &config)
}

fn told(sandbox: &Sandbox, ve: &str) -> String {
    eventually("the program has told", || sandbox.exec(ve, &["test", "-f", "/tmp/told"]).code == 0);
    sandbox.sh(ve, "cat /tmp/told")
}

const TOLD: &str = "uid=33(web) gid=34(web) groups=44(log)\n/srv/work\nserve -v\ntest /srv vzd";

#[test]
fn a_ve_of_an_image_runs_its_program() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let image = make_image(&sandbox, &sandbox.host_dir("image"));
    let template = format!("oci:{}:latest", image.dir().display());
    // What the manifest says stands.
    sandbox.ve("app", json!({ "template": template }));
    sandbox.apply();
    let first = sandbox.init_pid("app");
    assert_eq!(sandbox.sh("app", "ls /etc/init.d; ls /tmp"), "rcK");
    // Without that the image's program is the first process, from the next start on.
    sandbox.ve("app", json!({ "template": template, "init": null }));
    sandbox.apply();
    assert_eq!(sandbox.init_pid("app"), first);
    let status = sandbox.status("app").unwrap();
    let held = status.condition("RestartRequired").unwrap();
    assert!(held.message.contains("spec.init"), "{}", held.message);
    sandbox.vzd(&["plan", "app"]).says("serve");
    sandbox.vzd(&["restart", "app"]).ok();
    assert_eq!(told(&sandbox, "app"), TOLD);
    assert!(!sandbox.status("app").unwrap().is("RestartRequired"));
    sandbox.vzd(&["why", "app", "spec.init"]).ok().says("app serve -v");
    // It has no more rights than its user.
    assert_eq!(
        sandbox
            .sh("app", "grep -E '^(CapPrm|CapEff|CapAmb)' /proc/1/status | grep -vc 0000000000000000; true"),
        "0"
    );
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ok();
    // It is asked to stop in its own way.
    sandbox.vzd(&["stop", "app"]).ok();
    assert!(!sandbox.vzd(&["events", "-o", "json"]).ok().stdout.contains("killed"));
    sandbox.vzd(&["start", "app"]).ok();
    assert_eq!(sandbox.sh("app", "cat /tmp/end"), "asked");
}

#[test]
fn a_registry_is_asked_once_and_a_digest_is_a_digest() {
    needs!(Root, Cgroups, Busybox, Ip, Skopeo);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    let dir = sandbox.host_dir("image");
    let image = make_image(&sandbox, &dir);
    let registry = Registry::start(&dir);
    registry.push(&image, "test/app:1");
    let repository = format!("oci:{}/test/app", Registry::AT);
    let vzd = |words: &[&str]| Ended::of(sandbox.command(words).env("HOME", registry.home()));
    sandbox.ve("app", json!({ "template": format!("{repository}:1"), "init": null }));
    // Nobody said that it may be asked without TLS.
    sandbox.vzd(&["apply"]).ends(1).says("VZ0304").says("insecure = true");
    vzd(&["apply"]).ok();
    assert_eq!(told(&sandbox, "app"), TOLD);
    // By its digest it is the same, and no other will do.
    let pinned = format!("{repository}@{}", image.digest());
    vzd(&["template", "add", "pinned", &pinned]).ok().says(&image.digest()["sha256:".len()..][..12]);
    let other = format!("{repository}@sha256:{}", "0".repeat(64));
    vzd(&["template", "add", "other", &other]).ends(1).says("VZ0304").says("skopeo cannot fetch it");
    vzd(&["template", "add", "none", &format!("{repository}:none")]).ends(1).says("manifest unknown");
    drop(registry);
    // What is there needs no registry any more.
    sandbox.ve("two", json!({ "template": format!("{repository}:1") }));
    sandbox.ve("three", json!({ "template": "pinned", "init": null }));
    sandbox.apply();
    assert_eq!(sandbox.sh("two", "id -u; ls /tmp"), "0");
    assert_eq!(told(&sandbox, "three"), TOLD);
    let listed = sandbox.vzd(&["template", "list", "-o", "json"]).ok().json();
    let listed = listed.as_array().unwrap().iter().find(|is| is["name"] == "pinned").unwrap().clone();
    assert_eq!((&listed["kind"], &listed["image"]), (&json!("image"), &json!(pinned)));
    sandbox.vzd(&["template", "verify", "pinned"]).ok().says("pinned: sound");
    sandbox.vzd(&["template", "remove", "pinned"]).ends(1).says("named by three");
    sandbox.vzd(&["template", "remove", "--force", "pinned"]).ok();
    assert_eq!(sandbox.vzd(&["template", "list"]).ok().stdout.matches("pinned").count(), 0);
    drop(lab);
}

#[test]
fn an_image_of_one_program_runs() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let root = sandbox.host_dir("root");
    std::fs::copy(sandbox.template_dir().join("bin/busybox"), root.join("busybox")).unwrap();
    let config = json!({ "Entrypoint": ["/busybox", "sleep", "100000"], "User": "7:8" });
    let image = Image::make(&sandbox.host_dir("image").join("layout"), &[&root], &config);
    sandbox.ve(
        "one",
        json!({ "template": format!("oci:{}", image.dir().display()), "init": null, "stopTimeout": "0s" }),
    );
    sandbox.apply();
    let said = sandbox.exec("one", &["/busybox", "grep", "^[UG]id", "/proc/1/status"]).ok().stdout;
    assert_eq!(said, "Uid:\t7\t7\t7\t7\nGid:\t8\t8\t8\t8\n");
    sandbox.vzd(&["stop", "one"]).ok();
    // One that is done is not started again.
    let config = json!({ "Cmd": ["/busybox", "true"] });
    let image = Image::make(&sandbox.host_dir("done").join("layout"), &[&root], &config);
    sandbox.ve("done", json!({ "template": format!("oci:{}", image.dir().display()), "init": null }));
    eventually("it is done", || {
        sandbox.vzd(&["apply"]);
        sandbox.status("done").is_some_and(|status| status.reason() == "HaltedByOwner")
    });
}

/// Stands in for skopeo: what it says of a manifest and what it brings are files beside it.
const FAKE: &str = "#!/bin/sh
here=${0%/*}
case \"$3\" in
inspect) cat $here/said ;;
copy) for to; do :; done; cp $here/blobs/* ${to#dir:}/; echo 'Directory Transport Version: 1.1' > ${to#dir:}/version ;;
esac
";

#[test]
fn what_skopeo_brings_is_not_believed() {
    needs!(Root, Busybox);
    let sandbox = Sandbox::new();
    let root = sandbox.host_dir("root");
    std::fs::write(root.join("file"), "1").unwrap();
    let image = Image::make(&sandbox.host_dir("image").join("layout"), &[&root], &json!({}));
    let hex = &image.digest()["sha256:".len()..];
    let (bin, blobs) = (sandbox.host_dir("bin"), sandbox.host_dir("bin").join("blobs"));
    let take = |template: &str, path: &str| {
        Ended::of(sandbox.command(&["template", "add", "it", template]).env("PATH", path))
    };
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let pinned = format!("oci:r.example/a@sha256:{hex}");
    take(&pinned, "/nowhere").ends(1).says("apt-get install skopeo");
    let script = bin.join("skopeo");
    std::fs::write(&script, FAKE).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let manifest = image.dir().join("blobs/sha256").join(hex);
    let lay_out = || {
        drop(std::fs::remove_dir_all(&blobs));
        std::fs::create_dir(&blobs).unwrap();
        for blob in std::fs::read_dir(image.dir().join("blobs/sha256")).unwrap().flatten() {
            std::fs::copy(blob.path(), blobs.join(blob.file_name())).unwrap();
        }
        std::fs::rename(blobs.join(hex), blobs.join("manifest.json")).unwrap();
        std::fs::copy(&manifest, bin.join("said")).unwrap();
    };
    let refused = |template: &str, why: &str| {
        take(template, &path).ends(1).says("VZ0304").says(why);
        let left = std::fs::read_dir(sandbox.state_dir().join("templates")).unwrap();
        let left: Vec<_> = left.flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, [".store"], "nothing is left of it");
    };
    lay_out();
    std::fs::write(bin.join("said"), std::fs::read_to_string(&manifest).unwrap() + " ").unwrap();
    refused(&pinned, "is named, but what is there has sha256:");
    // Without a pin it may be any, but then that one.
    refused("oci:r.example/a:1", "is named, but what is there has sha256:");
    lay_out();
    let layer = std::fs::read_dir(&blobs).unwrap().flatten().map(|entry| entry.path());
    let layer = layer
        .filter(|path| !path.ends_with("manifest.json"))
        .max_by_key(|path| path.metadata().unwrap().len());
    let layer = layer.unwrap();
    let mut bytes = std::fs::read(&layer).unwrap();
    bytes[8] ^= 1;
    std::fs::write(&layer, bytes).unwrap();
    refused(&pinned, "is named, but what is there has sha256:");
    std::fs::remove_file(&layer).unwrap();
    refused(&pinned, "is missing in it");
    std::fs::write(bin.join("said"), vec![b' '; 3 << 20]).unwrap();
    refused(&pinned, "is named, but what is there has sha256:");
    std::fs::write(&script, "#!/bin/sh\necho 'level=fatal msg=\"no route to r.example\"' >&2; exit 1\n")
        .unwrap();
    refused(&pinned, "skopeo cannot fetch it: no route to r.example");
    // Killed half way it leaves nothing that stays, and nobody who goes on.
    std::fs::write(&script, FAKE.replace("copy) ", "copy) echo $$ > $here/pid; exec sleep 1000; ")).unwrap();
    lay_out();
    let mut command = sandbox.command(&["template", "add", "it", &pinned]);
    let mut killed = Guarded::spawn(command.env("PATH", &path));
    let child =
        || std::fs::read_to_string(bin.join("pid")).ok().and_then(|pid| pid.trim().parse::<u32>().ok());
    eventually("it fetches", || child().is_some());
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    // A process that nobody has reaped yet has no words any more.
    let words = format!("/proc/{}/cmdline", child().unwrap());
    eventually("skopeo has ended", || std::fs::read(&words).unwrap_or_default().is_empty());
    std::fs::write(&script, FAKE).unwrap();
    take(&pinned, &path).ok().says("it: added");
    let left = std::fs::read_dir(sandbox.state_dir().join("templates")).unwrap();
    let left: BTreeSet<_> = left.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    assert_eq!(left, BTreeSet::from([".it.json", ".store", "it"].map(str::to_owned)));
}
