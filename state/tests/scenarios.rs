//! Walks tests/scenarios: each folder is a case, and a case needs no Rust.
//!
//! - `desired.yaml`: manifests as in a directory; may be missing or broken.
//! - `observed.yaml`: what is seen, by VE: `Observed`, of which only what is there is written.
//! - `ledger.yaml`: a list of VEs that are known (see `Known`).
//! - `host.yaml`: the time, the boot, what is missing, which VEs are Ready, what is allowed; may be missing.
//! - `plan.txt`: what comes of it. `VZD_BLESS=1 cargo test -p vzd-state --test scenarios` writes it.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test reads its cases and tells about them"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vzd_schema::Set;
use vzd_state::application::Application;
use vzd_state::capability::{Capabilities, Feature};
use vzd_state::desired::Desired;
use vzd_state::disruption::Disruption;
use vzd_state::ids::{Ctid, VeName, VeUid};
use vzd_state::ledger::{Backoff, ExitRecord, Facts, Ledger, MadeRoot, Override, Standing, Started};
use vzd_state::lower::{HostDevice, lower, lower_entry};
use vzd_state::observed::{Observed, check_index};
use vzd_state::plan::{Approved, HostPlan, Step, VePlan, Wish, plan_ve};
use vzd_state::policy::{Policy, authorize, prune_guard};
use vzd_state::status::{Health, Inputs, conditions};
use vzd_state::subsystem::Cx;
use vzd_state::subsystem::devices::DeviceKind;
use vzd_state::subsystem::lifecycle::{self, StartReason, StopReason};
use vzd_state::subsystem::{cgroup, disk, network};
use vzd_state::transient::{self, Transients};
use vzd_state::units::Timestamp;

const NOW: &str = "2026-11-22T12:00:00Z";
const BOOT: &str = "boot-1";

/// A VE that the ledger knows. Left out: active, stopped, with a root made from its template.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Known {
    name: String,
    spec: Value,
    ctid: Option<u32>,
    #[serde(default)]
    labels: Value,
    #[serde(default)]
    annotations: Value,
    #[serde(default)]
    no_root: bool,
    run: Option<KnownRun>,
    #[serde(rename = "override")]
    run_override: Option<Override>,
    last_exit: Option<ExitRecord>,
    backoff: Option<Backoff>,
    firewall_trial: Option<network::Trial>,
    standing: Option<Standing>,
    /// Since when soft limits of its disk are exceeded.
    #[serde(default)]
    over: disk::Over,
    #[serde(default)]
    pinned: bool,
    /// What the image says that its root was made of.
    application: Option<Box<Application>>,
    file: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KnownRun {
    init_pid: Option<u32>,
    boot_id: Option<String>,
    stopping: Option<StopReason>,
    #[serde(default)]
    frozen: bool,
    squeezed: Option<cgroup::Squeezed>,
    /// What stands above the manifest until it stops.
    #[serde(default)]
    transient: Transients,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct HostFile {
    now: Option<Timestamp>,
    boot_id: Option<String>,
    lxcfs: Option<String>,
    hybrid: bool,
    missing: BTreeMap<String, String>,
    ready: BTreeSet<VeName>,
    max_disruption: Option<Disruption>,
    allow_prune: Option<usize>,
}

#[test]
fn every_scenario_gives_its_plan() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios");
    let mut cases: Vec<PathBuf> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    assert!(cases.len() >= 25, "only {} scenarios in {}", cases.len(), root.display());
    let bless = std::env::var_os("VZD_BLESS").is_some();
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let plan = play(case);
        let file = case.join("plan.txt");
        if bless {
            fs::write(&file, &plan).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != plan {
            eprintln!("--- {name}: plan.txt would be\n{plan}");
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "plans differ: {wrong:?}; look, then bless with VZD_BLESS=1");
}

fn read<T: DeserializeOwned + Default>(path: &Path) -> T {
    let Ok(text) = fs::read_to_string(path) else { return T::default() };
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn find_device(path: &str) -> Option<HostDevice> {
    (path == "/dev/ttyS0").then_some((DeviceKind::Char, 4, 64))
}

/// The capabilities of the case's host.
fn capabilities(host: &HostFile) -> Capabilities {
    let full = Capabilities::full(host.boot_id.as_deref().unwrap_or(BOOT));
    let mut caps = json!(if host.hybrid { full.hybrid() } else { full });
    for (feature, why) in &host.missing {
        assert!(caps.get(feature).is_some(), "there is no capability {feature}");
        caps[feature] = json!(Feature::No(why.clone()));
    }
    Capabilities { lxcfs: host.lxcfs.clone(), ..serde_json::from_value(caps).unwrap() }
}

/// Lowers every VE of some manifests: by name, none for those with errors. And whether that is all.
fn lower_all(text: &str) -> (BTreeMap<String, Option<Desired>>, bool) {
    let parsed = vzd_schema::parse("desired.yaml", text.as_bytes());
    let set = Set::new(&parsed.documents);
    let mut all = BTreeMap::new();
    for document in &parsed.documents {
        if document.kind == Some(vzd_schema::Kind::Ve) {
            let resolved = set.resolve(document).ok();
            let desired = resolved.map(|resolved| lower(document, &resolved, &find_device).unwrap());
            all.insert(document.name.clone().unwrap(), desired);
        }
    }
    (all, parsed.whole)
}

/// Makes the ledger that a host would have had: the manifest accepted, the root made, the VE started.
fn remember(known: Vec<Known>, caps: &Capabilities) -> Ledger {
    let mut ledger = Ledger::default();
    for (number, ve) in (1..).zip(known) {
        let uid = VeUid::from_bits(number);
        let or_empty = |value: &Value| if value.is_null() { json!({}) } else { value.clone() };
        let manifest = json!({
            "apiVersion": "vzd/v1", "kind": "VE", "spec": ve.spec,
            "metadata": {
                "name": ve.name, "labels": or_empty(&ve.labels), "annotations": or_empty(&ve.annotations),
            },
        });
        let (all, _) = lower_all(&manifest.to_string());
        let want = all.into_values().next().unwrap().expect("the ledger's spec is good");
        ledger.create(&uid, &want).unwrap();
        let entry = ledger.get_mut(&uid).unwrap();
        let mut facts = Facts::at(caps, NOW.parse().unwrap());
        if !ve.no_root {
            let step = Step::Disk(disk::Cold::CreateRoot {
                template: want.disk.template.clone(),
                backend: want.disk.choose(caps).unwrap(),
            });
            entry.begin(&step, Some(&want), &facts);
            facts.made_root = Some(MadeRoot { application: ve.application, ..MadeRoot::default() });
            entry.finish(&step, Some(&want), &facts);
        }
        if let Some(run) = &ve.run {
            facts.now = "2026-11-22T09:00:00Z".parse().unwrap();
            facts.started = run.init_pid.map(|init_pid| Started { init_pid, at: facts.now });
            let step = Step::Lifecycle(lifecycle::Step::Start { reason: StartReason::Spec });
            let want = transient::lay(want.clone(), &run.transient, &find_device).unwrap();
            entry.begin(&step, Some(&want), &facts);
            if run.init_pid.is_some() {
                entry.finish(&step, Some(&want), &facts);
            }
            let record = entry.run.as_mut().unwrap();
            record.boot_id = run.boot_id.clone().unwrap_or_else(|| BOOT.to_owned());
            record.stopping = run.stopping;
            record.transient.clone_from(&run.transient);
            if let Some(applied) = &mut entry.applied.cgroup {
                applied.squeezed = run.squeezed;
            }
            if run.frozen {
                entry.finish(&Step::Cgroup(cgroup::Live::Freeze), Some(&want), &facts);
            }
        }
        entry.ctid = ve.ctid.map_or(entry.ctid, |ctid| Ctid::try_from(ctid).unwrap());
        entry.run_override = ve.run_override;
        entry.last_exit = ve.last_exit;
        entry.backoff = ve.backoff;
        entry.firewall_trial = ve.firewall_trial.map(Box::new);
        entry.standing = ve.standing.unwrap_or(entry.standing);
        entry.pinned = ve.pinned;
        if let Some(disk) = &mut entry.disk {
            disk.over = ve.over;
        }
        if let Some(file) = ve.file {
            entry.source.file = file.into();
        }
    }
    ledger
}

fn play(case: &Path) -> String {
    let host: HostFile = read(&case.join("host.yaml"));
    let caps = capabilities(&host);
    let now = host.now.unwrap_or_else(|| NOW.parse().unwrap());
    let (manifests, whole) = lower_all(&fs::read_to_string(case.join("desired.yaml")).unwrap_or_default());
    let ledger = remember(read(&case.join("ledger.yaml")), &caps);
    let seen: BTreeMap<VeName, Observed> = read(&case.join("observed.yaml"));

    let known: BTreeSet<_> = ledger.entries().map(|entry| entry.name.to_string()).collect();
    let names: BTreeSet<_> = known.iter().chain(manifests.keys()).collect();
    let gone = known.iter().filter(|name| whole && !manifests.contains_key(*name)).count();
    let policy = Policy {
        max_disruption: host.max_disruption.unwrap_or(Disruption::Recreate),
        no_removals: prune_guard(gone, known.len(), host.allow_prune),
    };
    let is_ready = |name: &VeName| host.ready.contains(name);
    let plans = names.into_iter().map(|name| {
        let name: VeName = name.parse().unwrap();
        let entry = ledger.by_name(&name).or_else(|| ledger.quarantined(&name));
        let kept = || lower_entry(entry.unwrap(), &find_device).unwrap();
        let (want, kept) = match manifests.get(name.as_str()) {
            Some(Some(want)) => (Some(want.clone()), false),
            Some(None) => (entry.is_some().then(kept), true),
            None if !whole || entry.unwrap().pinned => (Some(kept()), true),
            None => (None, false),
        };
        let want = want.map(|want| {
            let above = entry.map(|entry| transient::in_force(entry, &want.spec)).unwrap_or_default();
            transient::lay(want, &above, &find_device).unwrap()
        });
        let wish = match (&want, kept) {
            (Some(want), false) => Wish::Want(want),
            (Some(want), true) => Wish::Keep(want),
            (None, true) => Wish::Unmanaged,
            (None, false) => Wish::Gone,
        };
        let cx = Cx { caps: &caps, now, entry, is_ready: &is_ready, health: &Health::NoProbe };
        let have = seen.get(&name).cloned().unwrap_or_default();
        authorize(plan_ve(&name, wish, &have, &cx), &policy)
    });
    let plan = HostPlan::new(plans.collect::<Vec<_>>(), check_index(&seen));
    assert_eq!(plan.to_json()["check_index"], json!(plan.check_index));
    let broken = manifests.iter().filter(|(_, want)| want.is_none()).map(|(name, _)| name.as_str()).collect();
    show(&plan, &ledger, &seen, &broken, now)
}

/// The plan as people see it, then its steps and the conditions that it leads to.
fn show(
    plan: &HostPlan<Approved>,
    ledger: &Ledger,
    seen: &BTreeMap<VeName, Observed>,
    broken: &BTreeSet<&str>,
    now: Timestamp,
) -> String {
    let mut text = format!("{plan}\n");
    for ve in &plan.plans {
        let steps: Vec<_> = ve.steps.iter().map(|planned| planned.step.to_string()).collect();
        writeln!(text, "{}: {}", ve.name, if steps.is_empty() { "nothing".into() } else { steps.join(", ") })
            .unwrap();
        if let Some(wake) = ve.next_wake {
            writeln!(text, "  wakes at {wake}").unwrap();
        }
        for condition in conditions(&inputs(ve, ledger, seen, broken, now), &[]) {
            let Value::String(status) = json!(condition.status) else { unreachable!() };
            let Value::String(kind) = json!(condition.r#type) else { unreachable!() };
            write!(text, "  {kind}={status} {}", condition.reason).unwrap();
            let colon = if condition.message.is_empty() { "" } else { ": " };
            writeln!(text, "{colon}{}", condition.message).unwrap();
        }
    }
    text
}

fn inputs<'a>(
    plan: &'a VePlan<Approved>,
    ledger: &'a Ledger,
    seen: &'a BTreeMap<VeName, Observed>,
    broken: &BTreeSet<&str>,
    now: Timestamp,
) -> Inputs<'a> {
    static NOTHING: std::sync::LazyLock<Observed> = std::sync::LazyLock::new(Observed::default);
    Inputs {
        now,
        entry: plan.uid.as_ref().and_then(|uid| ledger.get(uid)),
        have: seen.get(&plan.name).unwrap_or(&NOTHING),
        plan,
        in_progress: !plan.is_empty(),
        failure: None,
        broken_manifest: broken.contains(plan.name.as_str()).then_some("desired.yaml has errors"),
        cannot_suspend: None,
        unenforced: "",
        health: &Health::NoProbe,
    }
}
