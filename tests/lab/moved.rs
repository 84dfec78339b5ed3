//! A VE at work moved between two machines, by TLS over the wire between them, and back.

use std::path::Path;

use serde_json::{Value, json};
use vzd_tests::{LONG, Peer, Sandbox, eventually, needs, within};

const PORT: u16 = 7443;
/// On the second host: all of its vzd's.
const DIR: &str = "/var/moved";

/// The second host's vzd.
struct There<'a> {
    peer: &'a Peer,
    environment: Value,
}

impl There<'_> {
    fn vzd(&self, words: &[&str]) -> vzd_tests::Ended {
        self.peer.run_with(&[&["/lab/vzd"], words].concat(), &[], &self.environment)
    }

    fn has(&self) -> bool {
        self.vzd(&["exec", "web", "--", "true"]).code == 0
    }

    fn sh(&self, script: &str) -> String {
        self.vzd(&["exec", "web", "--", "/bin/sh", "-c", script]).ok().stdout.trim().to_owned()
    }
}

impl Drop for There<'_> {
    fn drop(&mut self) {
        let script = format!("test -e {DIR}/pid && kill $(cat {DIR}/pid); /lab/vzd stop web; true");
        drop(self.peer.run_with(&["/bin/sh", "-c", &script], &[], &self.environment));
    }
}

#[test]
fn a_ve_at_work_moves_to_another_machine_and_back() {
    needs!(Root, CgroupV2, Busybox, Criu, TwoHosts);
    let peer = Peer::find();
    let mut here = Sandbox::new();
    here.host = "a";
    let at = |ip: &str| format!("{ip}:{PORT}");
    let spec = json!({
        "listen": [at("0.0.0.0")],
        "peers": [{ "name": "a", "address": at(&Peer::own_ip()) }, { "name": "b", "address": at(peer.ip()) }],
    });
    let host =
        json!({ "apiVersion": "vzd/v1", "kind": "Host", "metadata": { "name": "hosts" }, "spec": spec });
    here.write("host.yaml", &host.to_string());
    here.vzd(&["pki", "init"]).ok();
    let certificates = here.dir().join("b");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    here.vzd(&["pki", "issue", "a", "--out", &path(&here.pki()), "--address", &Peer::own_ip()]).ok();
    here.vzd(&["pki", "issue", "b", "--out", &path(&certificates), "--address", peer.ip()]).ok();
    // The same on the second host.
    let dir = |name: &str| format!("{DIR}/{name}");
    let environment = json!({
        "VZD_MANIFESTS": dir("manifests"), "VZD_STATE_DIR": dir("state"), "VZD_RUN_DIR": dir("run"), "VZD_PKI": dir("pki"),
        "VZD_SCRIPTS": dir("scripts"), "VZD_CGROUP_ROOT": "moved", "VZD_HOST": "b", "VZD_CRIU": "/lab/criu/criu",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    });
    peer.sh(&format!("mkdir -p {DIR}/manifests; umask 077; mkdir {DIR}/pki"));
    peer.put(&dir("manifests/host.yaml"), host.to_string().as_bytes());
    for file in std::fs::read_dir(&certificates).unwrap() {
        let file = file.unwrap();
        let to = dir(&format!("pki/{}", file.file_name().to_str().unwrap()));
        peer.put(&to, &std::fs::read(file.path()).unwrap());
        peer.sh(&format!("chmod 600 {to}"));
    }
    let there = There { peer: &peer, environment };
    let run = format!("setsid /lab/vzd run > {DIR}/log 2>&1 < /dev/null & echo $! > {DIR}/pid");
    peer.run_with(&["/bin/sh", "-c", &run], &[], &there.environment).ok();
    within(LONG, "its controller answers", || (there.vzd(&["get"]).code == 0).then_some(()));
    let ve = json!({ "apiVersion": "vzd/v1", "kind": "VE", "metadata": { "name": "web" }, "spec": { "template": "tiny" } });
    here.write("web.yaml", &ve.to_string());
    let _daemon = here.daemon();
    here.until_ready("web");
    // It counts; and it has 16 MB of memory that nothing on disk is like.
    let work = "head -c 16777216 /dev/urandom > /dev/shm/memory; md5sum /dev/shm/memory > /root/sum; \
                i=0; while :; do i=$((i+1)); echo $i > /root/n.new; mv /root/n.new /root/n; sleep 0.2; done";
    here.sh(
        "web",
        &format!(
            "cat > /root/work <<'END'\n{work}\nEND\nsetsid sh /root/work > /dev/null 2>&1 < /dev/null &"
        ),
    );
    let number = |text: String| text.parse::<u64>().unwrap_or(0);
    let read = "cat /root/n 2>/dev/null || echo 0";
    eventually("it counts", || number(here.sh("web", read)) > 0);
    let before = number(here.sh("web", read));
    here.vzd(&["migrate", "web", "b"]).ok();
    eventually("it counts on", || number(there.sh(read)) > before);
    there.sh("md5sum -c /root/sum");
    assert!(here.status("web").is_none());
    let before = number(there.sh(read));
    there.vzd(&["migrate", "web", "a"]).ok();
    eventually("it counts on", || number(here.sh("web", read)) > before);
    here.sh("web", "md5sum -c /root/sum");
    assert!(!there.has());
}
