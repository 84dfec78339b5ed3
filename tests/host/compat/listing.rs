//! `vzlist` and the tools about capacity, to the letter.

use serde_json::json;
use vzd_tests::{Sandbox, needs};

use super::{openvz, tool};

fn three() -> Sandbox {
    let sandbox = openvz();
    for (ctid, name, state, numproc) in
        [(201, "web", "running", 300), (202, "db", "stopped", 50), (1203, "mail", "running", 9)]
    {
        let counters = json!({ "numproc": numproc });
        sandbox.ve(name, json!({ "ctid": ctid, "state": state, "beancounters": counters, "hostname": format!("{name}.a-rather-long-name.example.net"), "description": "say \"hi\"" }));
    }
    sandbox.apply();
    sandbox
}

#[test]
fn tables_are_to_the_letter() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = three();
    let default = tool(&sandbox, "vzlist").ends(0).stdout;
    assert_eq!(
        default,
        "      CTID      NPROC STATUS    IP_ADDR         HOSTNAME\n       201          1 running   -               \
         web.a-rather-long-name.example.net\n      1203          1 running   -               mail.a-rather-long-name.example.net\n"
    );
    assert_eq!(
        tool(&sandbox, "vzlist -a -H -o ctid,numproc,status").ends(0).stdout,
        "       201          1 running\n       202          - stopped\n      1203          1 running\n"
    );
    assert_eq!(tool(&sandbox, "vzlist -S -1").ends(0).stdout, "       202\n");
    assert_eq!(
        tool(&sandbox, "vzlist -n -a -H db").ends(0).stdout,
        "        db          - stopped   -               db.a-rather-long-name.example.net\n"
    );
    // What is not last is cut, unless it is not to be.
    assert_eq!(
        tool(&sandbox, "vzlist -H -o hostname,ctid 201").ends(0).stdout,
        "web.a-rather-long-name.example.n        201\n"
    );
    assert_eq!(
        tool(&sandbox, "vzlist -t -H -o hostname,ctid 201").ends(0).stdout,
        "web.a-rather-long-name.example.net        201\n"
    );
    for (sort, order) in [
        ("numproc.l", ["1203", "202", "201"]),
        ("-numproc.l", ["201", "202", "1203"]),
        ("name", ["202", "1203", "201"]),
        ("-name", ["201", "1203", "202"]),
        ("ctid", ["201", "202", "1203"]),
        ("numproc", ["202", "201", "1203"]),
    ] {
        let list = tool(&sandbox, &format!("vzlist -a -1 -s {sort}")).ends(0).stdout;
        assert_eq!(list.split_whitespace().collect::<Vec<_>>(), order, "{sort}");
    }
    for (line, is) in
        [("-N w*", "201"), ("-h db.*", "202"), ("-d say*", "201202 1203"), ("-N [^w]*", "202 1203")]
    {
        let list = tool(&sandbox, &format!("vzlist -a -1 {line}")).ends(0).stdout;
        assert_eq!(list.split_whitespace().collect::<String>(), is.replace(' ', ""), "{line}");
    }
    tool(&sandbox, "vzlist -o nothing").ends(1).says("Unknown field");
    tool(&sandbox, "vzlist 999").ends(1).says("not found");
    let fields = tool(&sandbox, "vzlist -L").ends(0).stdout;
    assert_eq!(fields.lines().count(), 16 + 21 * 5 + 6 + 17, "{fields}");
}

#[test]
fn json_is_to_the_letter() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = three();
    assert_eq!(
        tool(&sandbox, "vzlist -a -j -o ctid,name,status,numproc,description,onboot 202").ends(0).stdout,
        "[\n  {\n    \"ctid\": 202,\n    \"name\": \"db\",\n    \"status\": \"stopped\",\n    \"numproc\": {\n      \"held\": 0,\n      \
         \"maxheld\": 0,\n      \"barrier\": 50,\n      \"limit\": 50,\n      \"failcnt\": 0\n    },\n    \"description\": \"say \
         \\\"hi\\\"\",\n    \"onboot\": null\n  }\n]\n"
    );
    let all = tool(&sandbox, "vzlist -a -j").ends(0).json();
    assert_eq!(all.as_array().unwrap().len(), 3);
    let web = &all[0];
    for (field, is) in [
        ("ctid", json!(201)),
        ("veid", json!(201)),
        ("smart_name", json!("web")),
        ("ip", json!([])),
        ("vswap", json!(false)),
        ("cpuunits", json!(1000)),
        ("uptime", web["uptime"].clone()),
    ] {
        assert_eq!(web[field], is, "{field}");
    }
    assert!(web["numproc"]["held"].as_u64() >= Some(1) && web["uptime"].as_f64() > Some(0.0), "{web}");
    assert_eq!(all[1]["uptime"], json!(0.0));
    assert_eq!(tool(&sandbox, "vzlist -j 999").ends(1).stdout, "[]\n");
    assert_eq!(tool(&sandbox, "vzlist -j -a -N nobody").ends(0).stdout, "[\n]\n");
    let empty = openvz();
    assert_eq!(tool(&empty, "vzlist -j").ends(0).stdout, "[]\n");
    assert_eq!(tool(&empty, "vzlist -a").ends(1).stderr, "Container(s) not found\n");
}

#[test]
fn capacity_is_counted_from_what_the_kernel_has() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = three();
    let memory = tool(&sandbox, "vzmemcheck -v").ends(0).stdout;
    assert!(
        memory.starts_with("Output values in %\nveid")
            && memory.contains("\n201 ")
            && memory.contains("Summary:"),
        "{memory}"
    );
    tool(&sandbox, "vzcalc -v web").ends(0).says("Alloc. Mem");
    tool(&sandbox, "vzcalc 202").ends(1);
    tool(&sandbox, "vzcalc").ends(1).says("Usage");
    let cpu = tool(&sandbox, "vzcpucheck").ends(0).stdout;
    assert!(cpu.starts_with("Current CPU utilization: 2000\nPower of the node: "), "{cpu}");
    tool(&sandbox, "vzcpucheck now").ends(2);
    let pid = sandbox.init_pid("web");
    assert_eq!(
        tool(&sandbox, &format!("vzpid -p {pid} 1"))
            .ends(0)
            .stdout
            .lines()
            .nth(1)
            .unwrap()
            .split('\t')
            .take(3)
            .collect::<Vec<_>>(),
        [pid.to_string().as_str(), "1", "201"]
    );
    tool(&sandbox, "vzpid 4194304").ends(1).says("no such process");
    sandbox
        .vzd_with_input(&["exec", "web", "--", "/bin/sh", "-c", "setsid sleep 77 >/dev/null 2>&1 &"], b"")
        .ok();
    let processes = sandbox.vzd(&["ps", "-o", "json"]).ok().json();
    let of = |ve: &str, command: &str| {
        let all = processes.as_array().unwrap().iter();
        all.filter(|one| one["ve"] == ve && one["command"].as_str().unwrap().contains(command))
            .cloned()
            .collect::<Vec<_>>()
    };
    let init = of("web", "guest init");
    assert_eq!((init.len(), &init[0]["pid"], &init[0]["inside"]), (1, &json!(pid), &json!(1)), "{processes}");
    assert_eq!((&init[0]["ctid"], &init[0]["user"]), (&json!(201), &json!(0)));
    assert!(init[0]["rssBytes"].as_u64().unwrap() > 0);
    assert_eq!(
        (of("web", "sleep 77").len(), of("mail", "").len(), of("db", "").len()),
        (1, 1, 0),
        "{processes}"
    );
    let table = sandbox.vzd(&["ps", "201"]).ok();
    assert!(
        table.stdout.starts_with("VE ")
            && table.stdout.contains("sleep 77")
            && !table.stdout.contains("mail"),
        "{table:?}"
    );
    let counters = tool(&sandbox, "vzubc web").ends(0).stdout;
    assert!(counters.contains("CT 201 (web)") && counters.contains("numproc|"), "{counters}");
    tool(&sandbox, "vzubc -r web").ends(0).says("FAIL+");
    tool(&sandbox, "vzubc nobody").ends(1);
    // Of a file, as one is inside.
    let text = sandbox.vzd(&["ubc", "web", "--text"]).ok().stdout;
    let file = sandbox.dir().join("user_beancounters");
    std::fs::write(&file, &text).unwrap();
    let told = tool(&sandbox, &format!("vzubc -v -f {} 201", file.display())).ends(0).stdout;
    assert!(told.contains("CT 201") && told.contains("numproc|") && told.contains("300"), "{told}");
    let piped = sandbox.vzd_with_input(&["vzubc", "-v", "-f", "-"], text.as_bytes()).ends(0).stdout;
    assert_eq!(piped, told);
    tool(&sandbox, &format!("vzubc -f {} 7", file.display())).ends(1);
    sandbox.vzd_with_input(&["vzubc", "-f", "-"], b"nonsense\n").ends(1);
}
