//! Probes of a VE's ports and pages: made in its own network, and bounded whoever answers.

use std::net::TcpListener;

use serde_json::{Value, json};
use vzd_tests::{NetLab, Sandbox, VeStatus, eventually, needs};

const OWN: &str = "192.0.2.101";

fn spec(probe: &Value) -> Value {
    let mut health = json!({ "interval": "100ms", "timeout": "500ms", "failureThreshold": 1 });
    health.as_object_mut().unwrap().extend(probe.as_object().unwrap().clone());
    json!({ "health": health, "network": { "addresses": [OWN] } })
}

#[track_caller]
fn until_unhealthy(sandbox: &Sandbox, why: &str) -> VeStatus {
    sandbox.until("web", &format!("unhealthy: {why}"), |ve| {
        ve.condition("Healthy").is_some_and(|it| it.status == "False" && it.message.contains(why))
    })
}

/// Starts what is left running inside, and returns its pid there.
fn start(sandbox: &Sandbox, command: &str) -> String {
    let script = format!("setsid {command} > /dev/null 2>&1 < /dev/null & echo $!");
    sandbox.sh("web", &script).trim().to_owned()
}

/// Has each connection to port 80 answered by a script that gets nothing but the connection.
fn serve(sandbox: &Sandbox, script: &str) -> String {
    sandbox.sh("web", &format!("printf '#!/bin/sh\n%s\n' '{script}' > /serve && chmod +x /serve"));
    start(sandbox, "nc -ll -p 80 -e /serve")
}

#[test]
fn a_port_is_asked_for_in_the_ves_own_network() {
    needs!(Root, Cgroups, Busybox, Ip);
    let _lab = NetLab::new();
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    // The host's own server, at the same port, is not the VE's.
    let _hosts = TcpListener::bind("0.0.0.0:80").unwrap();
    sandbox.ve("web", spec(&json!({ "tcp": { "port": 80 } })));
    let ve = until_unhealthy(&sandbox, "cannot connect to 127.0.0.1:80: Connection refused");
    assert!(ve.condition("Healthy").unwrap().message.ends_with("[VZ0309]"));
    let pid = sandbox.init_pid("web");
    // A server at one of its own addresses alone is found too.
    let server = start(&sandbox, &format!("httpd -f -p {OWN}:80"));
    sandbox.until_ready("web");
    sandbox.sh("web", &format!("kill {server}"));
    until_unhealthy(&sandbox, "Connection refused");
    // Another port, live.
    start(&sandbox, "nc -ll -p 81 -e /bin/true");
    sandbox.ve("web", spec(&json!({ "tcp": { "port": 81 } })));
    sandbox.until_ready("web");
    assert_eq!(sandbox.init_pid("web"), pid);
}

#[test]
fn a_page_is_asked_for_and_a_hostile_server_is_left() {
    needs!(Root, Cgroups, Busybox, Ip);
    let _lab = NetLab::new();
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    sandbox.ve("web", spec(&json!({ "http": { "port": 80, "path": "/well?a=b" } })));
    until_unhealthy(&sandbox, "Connection refused");
    // Asked for by its path; what comes is not read to its end.
    let well = r#"read line; case "$line" in "GET /well?a=b HTTP/1.1"*) echo "HTTP/1.1 200 OK"; cat /dev/zero;; esac"#;
    let server = serve(&sandbox, well);
    sandbox.until_ready("web");
    sandbox.sh("web", &format!("kill {server}"));
    for (script, why) in [
        ("echo HTTP/1.1 500 no", "it answered with status 500"),
        ("exec yes", "does not speak HTTP/1"),
        ("echo HTTP/1.1 103 Hints; exec yes X: y", "no status in the first 4096 bytes"),
        ("while :; do printf x; usleep 50000; done", "the probe did not end within 500ms"),
        ("exec sleep 1000", "the probe did not end within 500ms"),
        ("exit 0", "it hung up before it answered"),
    ] {
        let server = serve(&sandbox, script);
        until_unhealthy(&sandbox, why);
        sandbox.sh("web", &format!("kill {server}"));
    }
    // What makes a socket is a thread of a worker, named as it is.
    let named = |task: &std::path::Path| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
    eventually("no thread of a probe is left", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().flatten();
        tasks.filter(|task| named(&task.path()).starts_with("worker-")).count() == 16
    });
    serve(&sandbox, well);
    sandbox.until_ready("web");
}
