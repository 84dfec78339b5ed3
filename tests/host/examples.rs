//! Every example, for real: validated, planned, applied, applied again, and taken back.
//!
//! A file at the top is applied by itself, a directory as a whole. One that needs something of the host says so in a
//! comment, `# needs: tun`.

use std::path::{Path, PathBuf};

use vzd_tests::{Need, NetLab, Sandbox, VeStatus, eventually, is_met, needs};

fn needs_of(text: &str) -> Vec<Need> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# needs:"));
    let words = lines.flat_map(|line| line.split(',')).map(str::trim);
    let need = |word| match word {
        "tun" => Need::Tun,
        "fuse" => Need::Fuse,
        "lxcfs" => Need::Lxcfs,
        "network" => Need::Ip,
        other => panic!("examples need {other}, which the harness doesn't know"),
    };
    words.map(need).collect()
}

/// The manifests of one example.
fn files(example: &Path) -> Vec<PathBuf> {
    if example.is_file() {
        return vec![example.to_owned()];
    }
    let mut files: Vec<_> = std::fs::read_dir(example).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files
}

fn try_out(example: &Path) {
    // Addresses are routed on the host: on one of the test's own.
    let mut lab = None;
    let sandbox = Sandbox::new();
    let mut names = Vec::new();
    for file in files(example) {
        let text = std::fs::read_to_string(&file).unwrap();
        let needs = needs_of(&text);
        if !needs.iter().copied().all(is_met) {
            return;
        }
        if needs.contains(&Need::Ip) {
            lab.get_or_insert_with(NetLab::new);
        }
        names.push(file.file_name().unwrap().to_string_lossy().into_owned());
        sandbox.write(names.last().unwrap(), &text);
    }
    let shown = example.display();
    sandbox.vzd(&["validate"]).ok();
    let plan = sandbox.vzd(&["plan", "--detailed-exitcode"]);
    assert!([0, 2].contains(&plan.code), "{shown}: {plan:?}");
    sandbox.apply();
    // Probes are the controller's.
    let daemon = sandbox.daemon();
    eventually(format!("{shown} has settled"), || {
        let waits =
            |ve: &VeStatus| ve.condition("Healthy").is_some_and(|healthy| healthy.status == "Unknown");
        sandbox.vzd(&["apply", "--detailed-exitcode"]).code == 0
            && !sandbox.list().iter().any(|ve| ve.is("Reconciling") || waits(ve))
    });
    for ve in sandbox.list() {
        let wanted = ve.0["spec"]["state"].as_str().unwrap_or("running");
        let as_wanted = match wanted {
            "running" => ve.is("Ready"),
            "paused" => ve.init_pid().is_some() && ve.reason() == "Paused",
            _ => ve.init_pid().is_none(),
        };
        assert!(as_wanted, "{shown}: {ve:#?}");
        assert!(!ve.is("Stalled") && !ve.is("Drifted") && !ve.is("RestartRequired"), "{shown}: {ve:#?}");
    }
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(0);
    let count = sandbox.list().len();
    drop(daemon);
    names.iter().for_each(|name| sandbox.unlink(name));
    // A directory without manifests is not believed.
    sandbox.write("nothing.yaml", "{apiVersion: vzd/v1, kind: Profile, metadata: {name: nothing}}\n");
    sandbox.vzd(&["apply", "--allow-prune", &count.to_string()]).ok();
    for ve in sandbox.list() {
        let retained = ve.0["spec"]["deletionPolicy"] == "Retain";
        assert!(ve.is("DeletionPending") != retained, "{shown}: {ve:#?}");
        assert_eq!(ve.init_pid().is_some(), retained, "{shown}: {ve:#?}");
    }
}

#[test]
fn every_example_works() {
    needs!(Root, Cgroups, Busybox);
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples");
    let mut examples: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    examples.sort();
    examples.retain(|path| path.is_dir() || path.extension().is_some_and(|ending| ending == "yaml"));
    assert!(examples.len() > 3, "{examples:?}");
    examples.iter().for_each(|example| try_out(example));
}
