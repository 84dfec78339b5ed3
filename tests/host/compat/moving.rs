//! `vzd import` and `vzd export`: configurations become manifests that run, and VEs what others can take.

use serde_json::{Value, json};
use vzd_tests::needs;

use super::{manifest, openvz, tool};

#[test]
fn containers_come_over_with_a_report_of_what_does_not() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    let conf = sandbox.host_dir("conf");
    std::fs::write(conf.join("101.conf"), "# made by hand\nVE_ROOT=\"/vz/root/$VEID\"\nOSTEMPLATE=\"debian-7.0\"\nNUMPROC=\"77\"\nHOSTNAME=\"old.example.net\"\nNETFILTER=\"stateless\"\nFOO=\"bar\"\n").unwrap();
    std::fs::write(conf.join("0.conf"), "ONBOOT=\"no\"\n").unwrap();
    std::fs::write(
        conf.join("ve-vswap-256m.conf-sample"),
        "PHYSPAGES=\"0:256M\"\nSWAPPAGES=\"0:512M\"\nCPUUNITS=\"1000\"\n",
    )
    .unwrap();
    let dir = conf.to_str().unwrap();
    let dry = sandbox.vzd(&["import", "openvz", "--conf", dir, "--dry-run"]).ok();
    assert!(dry.stdout.contains("numproc: 77") && !sandbox.manifests().join("101.yaml").exists(), "{dry:?}");
    let ended = sandbox.vzd(&["import", "openvz", "--conf", dir, "--verify"]).ok();
    for told in
        ["101.conf:2: VE_ROOT", "101.conf:6: NETFILTER", "101.conf:7: FOO", "0 errors", "0 not as described"]
    {
        assert!(ended.stderr.contains(told), "{told}: {ended:?}");
    }
    assert!(manifest(&sandbox, "101.yaml").contains("template: debian-7.0\n"));
    // Nothing is overwritten.
    sandbox.vzd(&["import", "openvz", "--conf", dir]).ends(1).says("101.yaml");
    // What is there is compared: with what somebody changed, and with what the host adds.
    let verify = ["import", "openvz", "--conf", dir, "--verify"];
    sandbox.vzd(&verify).ok();
    let imported = manifest(&sandbox, "101.yaml");
    sandbox.write("101.yaml", &imported.replace("numproc: 77", "numproc: 78 # more"));
    sandbox.vzd(&verify).ends(65).says("spec.beancounters.numproc");
    sandbox.write("101.yaml", &imported);
    sandbox.write(
        "host.yaml",
        "apiVersion: vzd/v1\nkind: Host\nmetadata: {name: host}\nspec: {defaultProfile: vswap-256m}\n",
    );
    sandbox.vzd(&verify).ends(65).says("spec.memory.ram");
    sandbox.unlink("host.yaml");
    // The host's own, where none is written yet.
    let vz = sandbox.host_dir("vz").join("vz.conf");
    std::fs::write(&vz, "VE_PARALLEL=3\nLOCKDIR=/vz/lock\n").unwrap();
    let ended = sandbox.vzd(&["import", "openvz", vz.to_str().unwrap()]).ok().says("host.yaml: 1 keys kept");
    assert!(
        ended.stderr.contains("vz.conf:2: LOCKDIR")
            && manifest(&sandbox, "host.yaml").contains("startParallel: 3")
    );
    sandbox.vzd(&["import", "openvz", vz.to_str().unwrap()]).ends(1).says("host.yaml");
    sandbox.unlink("host.yaml");
    // Files that are there are used where they are.
    let private = sandbox.host_dir("private");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(sandbox.template_dir())
        .arg(private.join("101"))
        .status();
    assert!(copied.unwrap().success());
    std::fs::write(private.join("101/etc/mine"), "from openvz\n").unwrap();
    let dry = sandbox
        .vzd(&["import", "openvz", "--conf", dir, "--private", private.to_str().unwrap(), "--dry-run"])
        .ok();
    let template = format!("template: dir:{}", std::fs::canonicalize(private.join("101")).unwrap().display());
    assert!(dry.stdout.contains(&template) && !dry.stdout.contains("debian-7.0"), "{dry:?}");
    // The sample is a profile that containers can be made with.
    let template = sandbox.template();
    tool(&sandbox, &format!("vzctl create 150 --config vswap-256m --ostemplate {template}")).ends(0);
    assert_eq!(tool(&sandbox, "vzlist -a -H -o physpages.l,vswap 150").ends(0).stdout, "     65536   yes\n");
}

#[test]
fn a_container_of_lxc_comes_over_and_runs() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    let root = sandbox.template_dir().display().to_string();
    let config = sandbox.host_dir("web1").join("config");
    let data = sandbox.host_dir("data");
    std::fs::write(data.join("hello"), "from the host\n").unwrap();
    let text = format!(
        "lxc.uts.name = web1.example.net\nlxc.rootfs.path = dir:{root}\nlxc.init.cmd = /bin/guest init\n\
         lxc.mount.entry = {} mnt/data none bind,ro,create=dir 0 0\nlxc.cgroup2.pids.max = 77\nlxc.apparmor.profile = generated\n",
        data.display()
    );
    std::fs::write(&config, text).unwrap();
    let import = ["import", "lxc", config.to_str().unwrap()];
    let ended = sandbox.vzd(&import).ok().says("web1.yaml: 5 keys kept, 1 told");
    assert!(ended.stderr.contains("config:6: lxc.apparmor.profile"), "{ended:?}");
    // Nothing is overwritten.
    sandbox.vzd(&import).ends(1).says("web1.yaml");
    sandbox.apply();
    sandbox.vzd(&["start", "web1"]).ok();
    assert_eq!(sandbox.sh("web1", "hostname; cat /mnt/data/hello"), "web1.example.net\nfrom the host");
    assert_eq!(sandbox.status("web1").unwrap().0["spec"]["beancounters"]["numproc"], "77");
    // The others by their own words, unless they are broken.
    let file = |name: &str, text: &str| {
        let path = sandbox.host_dir("others").join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let conf = file("105.conf", "hostname: ct\nmemory: 512\nlock: backup\n\n[before]\nmemory: 256\n");
    sandbox
        .vzd(&["import", "proxmox", &conf, "--dry-run"])
        .ok()
        .says("ram: 512M")
        .says("105.conf:5: the snapshot");
    let yaml = file("c1.yaml", "config:\n  limits.memory: 1GiB\ndevices: {}\nname: c1\n");
    sandbox
        .vzd(&["import", "incus", &yaml, "--dry-run", "--name", "other"])
        .ok()
        .says("name: other")
        .says("ram: 1G");
    let broken = file("c2.yaml", "config: [\n");
    sandbox.vzd(&["import", "incus", &broken]).ends(1).says("line");
}

#[test]
fn a_ve_is_given_away_and_comes_back() {
    needs!(Root, Cgroups, Busybox);
    for served in [false, true] {
        let sandbox = openvz();
        let _daemon = served.then(|| sandbox.daemon());
        sandbox.ve("web", json!({ "ctid": 101, "memory": { "ram": "64M" }, "hostname": "web.example.net", "startTimeout": "50s" }));
        sandbox.apply();
        sandbox.until_ready("web");
        sandbox.sh("web", "echo kept > /etc/mine; chown 33:44 /etc/mine");
        let out = sandbox.host_dir("out");
        let to = |name: &str| out.join(name).to_str().unwrap().to_owned();

        let ended = sandbox.vzd(&["export", "web", "--format", "openvz", "--to", &to("")]).ok();
        assert!(
            ended.stderr.contains("spec.init") && ended.stderr.contains("spec.startTimeout"),
            "{ended:?}"
        );
        let conf = std::fs::read_to_string(out.join("101.conf")).unwrap();
        assert!(
            conf.starts_with("NAME=\"web\"\nPHYSPAGES=\"0:16384\"\n")
                && conf.contains("HOSTNAME=\"web.example.net\"\n"),
            "{conf}"
        );
        sandbox
            .vzd(&["import", "openvz", &to("101.conf"), "--dry-run"])
            .ok()
            .says("name: web")
            .says("0:16384");

        sandbox.vzd(&["export", "web", "--format", "tar", "--to", &to("web.tar.zst")]).ok();
        sandbox
            .vzd(&["export", "web", "--format", "tar", "--to", &to("web.tar.zst")])
            .ends(1)
            .says("there already");
        sandbox.vzd(&["export", "web", "--format", "oci", "--to", &to("web.oci")]).ok();
        let read = |path: &std::path::Path| -> Value {
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        };
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
            out.join("web.oci/blobs").join(digest)
        };
        let manifest = read(&blob(&read(&out.join("web.oci/index.json"))["manifests"][0]));
        assert_eq!(read(&blob(&manifest["config"]))["config"]["Entrypoint"], json!(["/bin/guest", "init"]));
        let packed = std::fs::File::open(blob(&manifest["layers"][0])).unwrap();
        let layer = out.join("layer.tar");
        std::fs::write(&layer, zstd::decode_all(packed).unwrap()).unwrap();
        let list =
            std::process::Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(&layer).output().unwrap();
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        assert!(list.lines().any(|line| line.contains(" 33/44 ") && line.ends_with("etc/mine")), "{list}");

        // Nothing of it is left with the VE.
        assert_eq!(sandbox.vzd(&["snapshot", "list", "web", "-o", "json"]).ok().json(), json!([]));
        assert_eq!(std::fs::read_dir(sandbox.state_dir().join("exports")).unwrap().count(), 0);
        sandbox.vzd(&["template", "add", "web", &to("web.tar.zst")]).ok();
        sandbox.ve("again", json!({ "template": "web" }));
        sandbox.apply();
        sandbox.until_ready("again");
        assert_eq!(sandbox.sh("again", "cat /etc/mine; stat -c %u:%g /etc/mine"), "kept\n33:44");
        sandbox.ve("image", json!({ "template": format!("oci:{}", to("web.oci")), "init": null }));
        sandbox.apply();
        sandbox.until_ready("image");
        assert_eq!(sandbox.sh("image", "cat /etc/mine; stat -c %u:%g /etc/mine"), "kept\n33:44");
        sandbox.vzd(&["export", "nobody", "--format", "tar"]).ends(1);
    }
}
