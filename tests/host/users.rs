//! Users inside a VE: made, changed and taken back in its own files, whatever its root has put in their place.

use serde_json::{Value, json};
use vzd_tests::{Sandbox, needs};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA ops@example.net";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB eve@example.net";
const HASH: &str = "$6$salt$hash";

fn users(users: Value) -> Value {
    json!({ "users": users })
}

/// The lines of a file that name a user.
fn lines(sandbox: &Sandbox, file: &str, name: &str) -> String {
    sandbox.sh("web", &format!("grep {name} /etc/{file} || true"))
}

#[test]
fn made_changed_and_taken_back_while_it_runs() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let both = |groups: Value, password: Value| {
        users(json!([
            { "name": "root", "sshKeys": [KEY] },
            { "name": "alice", "passwordHash": password, "sshKeys": [KEY], "uid": 2000, "groups": groups },
        ]))
    };
    sandbox.ve("web", both(json!(["tty", "ops"]), json!(HASH)));
    sandbox.vzd(&["plan"]).ok().says("spec.users[alice]").says("(not shown)");
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    assert_eq!(lines(&sandbox, "passwd", "alice"), "alice:x:2000:2000::/home/alice:/bin/sh");
    assert_eq!(lines(&sandbox, "shadow", "alice"), format!("alice:{HASH}::0:99999:7:::"));
    assert_eq!(sandbox.sh("web", "id -Gn alice"), "alice tty ops");
    assert_eq!(sandbox.sh("web", "su alice -c 'cat ~/.ssh/authorized_keys'"), KEY);
    assert_eq!(
        sandbox.sh("web", "cd /home/alice; stat -c '%a %u' . .ssh .ssh/authorized_keys /etc/shadow"),
        "700 2000\n700 2000\n600 2000\n600 0"
    );
    assert_eq!(sandbox.sh("web", "cat /root/.ssh/authorized_keys"), KEY);
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    // What others added is theirs; drift of what is wanted is put right.
    sandbox.sh(
        "web",
        &format!(
            "echo '{OTHER}' >> /home/alice/.ssh/authorized_keys; sed -i 's:^nogroup.*:&alice:' /etc/group"
        ),
    );
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(0);
    sandbox.sh("web", "sed -i /alice/d /etc/shadow");
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.users[alice]");
    sandbox.apply();
    assert_eq!(lines(&sandbox, "shadow", "alice"), format!("alice:{HASH}::0:99999:7:::"));
    // Taken out of the manifest: group and password.
    sandbox.ve("web", both(json!(["tty"]), Value::Null));
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "id -Gn alice"), "alice tty nogroup");
    assert_eq!(lines(&sandbox, "shadow", "alice"), "alice:*::0:99999:7:::");
    // A restart keeps them, and what is no longer wanted goes; files stay.
    sandbox.vzd(&["restart", "web"]).ok();
    assert_ne!(sandbox.init_pid("web"), pid);
    sandbox.ve("web", users(json!([{ "name": "bob" }])));
    sandbox.apply();
    assert_eq!(lines(&sandbox, "passwd", "alice"), "");
    assert_eq!(sandbox.sh("web", "cat /etc/shadow /etc/group | grep -c alice || true"), "0");
    assert_eq!(sandbox.sh("web", "cat /home/alice/.ssh/authorized_keys"), format!("{KEY}\n{OTHER}"));
    assert_eq!(sandbox.sh("web", "cat /root/.ssh/authorized_keys"), "");
    assert_eq!(sandbox.sh("web", "id -u bob"), "1000");
    // One that comes again gets its files again.
    sandbox.ve("web", users(json!([{ "name": "alice" }])));
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "id -u alice; id -u bob 2>/dev/null || echo gone"), "2000\ngone");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
}

#[test]
fn one_that_cannot_be_made_holds_up_no_other() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.sh("web", "echo owner:x:2000:2000::/:/bin/sh >> /etc/passwd; echo owner:x:2000: >> /etc/group");
    let wanted =
        json!([{ "name": "alice", "uid": 2000 }, { "name": "bob" }, { "name": "owner", "uid": 3000 }]);
    sandbox.ve("web", users(wanted));
    sandbox.vzd(&["apply"]).ends(1).says("make user alice").says("uid 2000 is another user's");
    assert_eq!(
        sandbox.sh("web", "id -u bob owner 2>/dev/null; id -u bob; id -u owner").lines().last(),
        Some("2000")
    );
    assert_eq!(sandbox.sh("web", "id -u bob"), "2001");
    let plan = sandbox.vzd(&["plan"]).ends(1);
    plan.says("spec.users[owner].uid").says("a user keeps its uid");
    // The owner's user is let go of, not removed.
    sandbox.ve("web", json!({}));
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "id -u owner; id -u bob 2>/dev/null || echo gone"), "2000\ngone");
}

#[test]
fn a_hostile_root_gets_an_error_and_nothing_else() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let wanted = users(json!([{ "name": "alice", "sshKeys": [KEY] }]));
    // What is no file of the kind, in the place of each: none is made, none is waited for.
    sandbox.ve("web", wanted.clone());
    sandbox.sh("web", "cd /etc; ln -s /root/x .pwd.lock");
    sandbox.vzd(&["apply"]).ends(1).says(".pwd.lock");
    assert_eq!(lines(&sandbox, "passwd", "alice"), "");
    let traps = [
        ("rm .pwd.lock; mv passwd was; mkfifo passwd", "no regular file", "rm passwd; mv was passwd"),
        ("mv passwd was; ln -s /proc/1/environ passwd", "symbolic link", "rm passwd; mv was passwd"),
        ("mv group was; truncate -s 2G group", "larger than 1 MiB", "rm group; mv was group"),
        ("rm -f shadow; mkdir shadow", "no regular file", "rmdir shadow"),
        ("mv /etc /gone", "the VE has none", "mv /gone /etc"),
        ("printf '\\377\\376' > shadow", "no text", "rm shadow"),
        ("cp passwd was; echo alice >> passwd", "has no uid", "mv was passwd"),
    ];
    for (trap, says, undo) in traps {
        sandbox.sh("web", &format!("cd /etc; {trap}"));
        let ready = sandbox.status("web").unwrap().condition("Ready").unwrap();
        assert!(ready.status != "True" && ready.message.contains(says), "{trap}: {ready:?}");
        sandbox.sh("web", &format!("cd /etc 2>/dev/null; {undo}"));
    }
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "id -u alice"), "1000");
    assert!(sandbox.status("web").unwrap().is("Ready"));
}

#[test]
fn a_user_gains_nothing_by_links_in_its_home() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", users(json!([{ "name": "alice" }])));
    sandbox.apply();
    sandbox.sh("web", "mkdir -m 700 /root/.ssh; echo keep > /root/.ssh/authorized_keys");
    let wanted = users(json!([{ "name": "alice", "sshKeys": [KEY] }]));
    let traps = [
        ("ln -s /root/.ssh ~/.ssh", "rm ~/.ssh"),
        ("mkdir ~/.ssh; ln -s /root/.ssh/authorized_keys ~/.ssh/", "rm -r ~/.ssh"),
        ("mkdir ~/.ssh; ln -s /root/.ssh/x ~/.ssh/authorized_keys", "rm -r ~/.ssh"),
        ("mkdir ~/.ssh; mkfifo ~/.ssh/authorized_keys", "rm -r ~/.ssh"),
    ];
    for (trap, undo) in traps {
        sandbox.sh("web", &format!("su alice -c '{trap}'"));
        sandbox.ve("web", wanted.clone());
        sandbox.vzd(&["apply"]);
        assert!(!sandbox.status("web").unwrap().is("Ready"), "{trap}");
        assert_eq!(
            sandbox.sh("web", "cat /root/.ssh/authorized_keys; ls /root/.ssh"),
            "keep\nauthorized_keys",
            "{trap}"
        );
        sandbox.sh("web", &format!("su alice -c '{undo}'"));
        sandbox.apply();
        assert_eq!(sandbox.sh("web", "cat /home/alice/.ssh/authorized_keys"), KEY, "{trap}");
        sandbox.sh("web", "rm -r /home/alice/.ssh");
        sandbox.ve("web", users(json!([{ "name": "alice" }])));
        sandbox.apply();
    }
    // Half a file of an earlier try, and a link where the new one is written, are in nobody's way.
    sandbox.sh(
        "web",
        "su alice -c 'mkdir ~/.ssh; ln -s /root/.ssh/authorized_keys ~/.ssh/.authorized_keys.vzd'",
    );
    sandbox.ve("web", wanted);
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "cat /root/.ssh/authorized_keys"), "keep");
    assert_eq!(sandbox.sh("web", "cat /home/alice/.ssh/authorized_keys"), KEY);
}
