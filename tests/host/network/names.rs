//! Files of a VE in which vzd keeps lines: resolvers and hosts, as the VE's programs see them.

use serde_json::{Value, json};
use vzd_tests::{Sandbox, needs};

use super::change;

fn of(network: Value) -> Value {
    json!({ "network": network })
}

#[test]
fn lines_of_the_manifest_come_and_go_and_the_owners_stay() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let read = |file: &str| sandbox.sh("one", &format!("cat /etc/{file}"));
    let lookup = |name: &str| sandbox.sh("one", &format!("grep -w {name} /etc/hosts | cut -d' ' -f1"));
    let hosts = |address: &str| json!([{ "address": address, "names": ["db.example.net", "db"] }]);
    sandbox.ve("one", of(json!({ "nameservers": ["10.1.0.1"], "hosts": hosts("10.1.0.9") })));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    assert!(read("resolv.conf").contains("nameserver 10.1.0.1"));
    assert_eq!(lookup("db"), "10.1.0.9");
    assert_eq!(sandbox.sh("one", "stat -c '%u %g %a' /etc/resolv.conf"), "0 0 644");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    // What the owner writes stays, above and below.
    sandbox.sh("one", "echo 'options edns0' >> /etc/resolv.conf; echo '10.9.0.1 mine' >> /etc/hosts");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    change(
        &sandbox,
        pid,
        of(json!({ "nameservers": ["10.1.0.2", "10.1.0.3"], "searchDomains": ["a.example", "b.example"],
                   "hosts": hosts("10.1.0.10") })),
    );
    let conf = read("resolv.conf");
    let servers: Vec<&str> = conf.lines().filter(|line| line.starts_with("nameserver")).collect();
    assert_eq!(servers, ["nameserver 10.1.0.2", "nameserver 10.1.0.3"]);
    assert!(conf.contains("search a.example b.example\n") && conf.ends_with("options edns0"));
    assert_eq!((lookup("db").as_str(), lookup("mine").as_str()), ("10.1.0.10", "10.9.0.1"));
    // What the owner does to vzd's lines is told, and put right.
    sandbox.sh("one", "sed -i s/10.1.0.2/10.66.0.2/ /etc/resolv.conf");
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.network.nameservers");
    sandbox.apply();
    assert_eq!(read("resolv.conf"), conf);
    change(&sandbox, pid, of(json!({ "hosts": hosts("10.1.0.10") })));
    assert_eq!(read("resolv.conf"), "options edns0");
    // Taken out while the VE doesn't run: gone at the next start.
    sandbox.vzd(&["stop", "one"]).ok();
    sandbox.ve("one", json!({}));
    sandbox.vzd(&["start", "one"]).ok();
    assert!(!read("hosts").contains("vzd"));
    assert_eq!(lookup("mine"), "10.9.0.1");
}

#[test]
fn what_is_inherited_is_what_the_hosts_manifest_says() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.resolv_conf(), "nameserver 10.1.0.1\nsearch of.host\n").unwrap();
    let says = |network: &Value| {
        let host = json!({ "apiVersion": "vzd/v1", "kind": "Host", "metadata": { "name": "host" }, "spec": of(network.clone()) });
        sandbox.write("host.yaml", &host.to_string());
    };
    let read = || {
        let conf = sandbox.sh("one", "cat /etc/resolv.conf");
        let lines = conf.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let (of_host, said) =
        (["nameserver 10.1.0.1", "search of.host"], ["nameserver 10.2.0.1", "search example.net"]);
    sandbox.ve("one", of(json!({ "nameservers": "inherit", "searchDomains": "inherit" })));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    assert_eq!(read(), of_host);
    // A server on the host's loopback is out of the VE's reach.
    says(&json!({ "nameservers": ["10.2.0.1", "127.0.0.1"], "searchDomains": ["example.net"] }));
    sandbox.apply();
    assert_eq!(read(), said);
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    // While nobody can tell, all stays.
    sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}, spec: {network: ");
    sandbox.vzd(&["apply"]);
    assert_eq!(read(), said);
    says(&json!({ "nameservers": "inherit" }));
    sandbox.apply();
    assert_eq!(read(), of_host);
    assert_eq!(sandbox.init_pid("one"), pid, "it was restarted");
    says(&json!({ "searchDomains": [] }));
    sandbox.vzd(&["restart", "one"]).ok();
    assert_eq!(read(), of_host[..1]);
}

#[test]
fn what_is_in_the_place_of_a_file_leads_nowhere_and_is_kept() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let bait = sandbox.host_dir("bait").join("file");
    std::fs::write(&bait, "the host's\n").unwrap();
    sandbox.ve("one", json!({}));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    let wanted = of(json!({ "nameservers": ["10.1.0.1"] }));
    // As an image with a resolver of its own has it.
    sandbox.sh("one", &format!("ln -sf {} /etc/resolv.conf", bait.display()));
    change(&sandbox, pid, wanted.clone());
    assert_eq!(std::fs::read_to_string(&bait).unwrap(), "the host's\n");
    assert!(sandbox.sh("one", "cat /etc/resolv.conf").contains("10.1.0.1"));
    change(&sandbox, pid, json!({}));
    assert_eq!(sandbox.sh("one", "readlink /etc/resolv.conf"), bait.display().to_string());
    // The whole directory leads elsewhere; a fifo or a directory is in the way.
    for (what, undo) in [
        ("mkfifo /etc/resolv.conf", "rm /etc/resolv.conf"),
        ("mkdir /etc/resolv.conf", "rmdir /etc/resolv.conf"),
        ("touch /etc/resolv.conf; mount -t tmpfs none /etc", "umount /etc; rm /etc/resolv.conf"),
    ] {
        sandbox.sh("one", &format!("rm -f /etc/resolv.conf; {what}"));
        sandbox.ve("one", wanted.clone());
        sandbox.vzd(&["apply"]).ends(1).says("in the VE");
        sandbox.sh("one", undo);
        change(&sandbox, pid, wanted.clone());
        assert!(sandbox.sh("one", "cat /etc/resolv.conf").contains("10.1.0.1"), "after {what}");
        change(&sandbox, pid, json!({}));
    }
    assert_eq!(std::fs::read_to_string(&bait).unwrap(), "the host's\n");
}

#[test]
fn the_hosts_resolvers_are_inherited() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("one", of(json!({ "nameservers": "inherit" })));
    sandbox.apply();
    let servers = |text: &str| -> Vec<String> {
        let given = text.lines().filter_map(|line| line.strip_prefix("nameserver "));
        given
            .map(|one| one.trim().to_owned())
            .filter(|one| !one.starts_with("127.") && one != "::1")
            .collect()
    };
    let host = servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let inside = sandbox.sh("one", "cat /etc/resolv.conf 2>/dev/null || true");
    assert_eq!(servers(&inside), host);
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
}
