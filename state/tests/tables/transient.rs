//! Values that stand above the manifest's until the VE stops.

use serde_json::{Value, json};
use vzd_state::capability::Capabilities;
use vzd_state::desired::Desired;
use vzd_state::ids::VeUid;
use vzd_state::ledger::{Entry, Facts, Ledger};
use vzd_state::plan::Step;
use vzd_state::subsystem::lifecycle::{self, StartReason, StopReason};
use vzd_state::transient::{self, Transient, Transients, allowed};
use vzd_state::units::{Millis, Timestamp};

use crate::common::manifest;

fn want(spec: &str) -> Desired {
    manifest(&format!(
        "apiVersion: vzd/v1\nkind: VE\nmetadata: {{name: web}}\nspec: {{template: t, {spec}}}\n"
    ))
}

fn above(field: &str, value: &Value, over: &Value) -> Transients {
    let is = Transient { value: value.clone(), over: over.clone(), at: Timestamp(1) };
    [(field.to_owned(), is)].into()
}

/// A VE that runs as wanted, with something above its manifest.
fn running(want: &Desired, transient: Transients) -> Entry {
    let mut ledger = Ledger::default();
    let caps = Capabilities::full("boot");
    let mut entry = ledger.create(&VeUid::from_bits(1), want).cloned().unwrap();
    let start = Step::Lifecycle(lifecycle::Step::Start { reason: StartReason::Spec });
    entry.begin(&start, Some(want), &Facts::at(&caps, Timestamp(0)));
    entry.run.as_mut().unwrap().transient = transient;
    entry
}

#[test]
fn it_is_lowered_over_the_manifest_and_stays_its_generation() {
    let want = want("memory: {ram: 1G}, cpu: {cpus: 2}");
    let mut values = above("spec.memory.ram", &json!("2G"), &json!("1G"));
    values.append(&mut above("spec.cpu.cpus", &Value::Null, &json!(2)));
    let entry = running(&want, values.clone());
    assert_eq!(transient::in_force(&entry, &want.spec), values);
    let laid = transient::lay(want.clone(), &values, &|_| None).unwrap();
    assert_eq!(laid.cgroup.limits.memory.ram.unwrap().to_string(), "2G");
    assert_eq!(laid.cgroup.limits.cpu.cpus, None);
    assert_eq!((&laid.digest, &laid.spec), (&want.digest, &want.spec));
    let spec = transient::spec_over(&want.spec, &values);
    assert_eq!(spec["memory"]["ram"], "2G");
    assert_eq!(transient::spec_under(&spec, &values), *want.spec);
}

#[test]
fn a_manifest_that_says_the_field_anew_has_the_last_word() {
    let first = want("memory: {ram: 1G}");
    let mut entry = running(&first, above("spec.memory.ram", &json!("2G"), &json!("1G")));
    let caps = Capabilities::full("boot");
    let accept = |entry: &mut Entry, want: &Desired| {
        entry.finish(&Step::Lifecycle(lifecycle::Step::Accept), Some(want), &Facts::at(&caps, Timestamp(2)));
        transient::in_force(entry, &want.spec).len()
    };
    // Of another field it does not.
    assert_eq!(accept(&mut entry, &want("memory: {ram: 1G}, hostname: other")), 1);
    let other = want("memory: {ram: 512M}");
    assert!(transient::in_force(&entry, &other.spec).is_empty(), "nor is it, before that is accepted");
    assert_eq!(accept(&mut entry, &other), 0);
    assert_eq!(accept(&mut entry, &first), 0, "and it does not come back with what was said before");
}

#[test]
fn it_ends_with_the_run_and_is_kept_with_the_record() {
    let want = want("memory: {ram: 1G}");
    let mut entry = running(&want, above("spec.memory.ram", &json!("2G"), &json!("1G")));
    assert_eq!(Entry::from_json(&entry.to_json()).unwrap(), entry);
    let stop = Step::Lifecycle(lifecycle::Step::Stop { reason: StopReason::Restart, timeout: Millis(0) });
    let caps = Capabilities::full("boot");
    entry.finish(&stop, Some(&want), &Facts::at(&caps, Timestamp(2)));
    assert!(transient::in_force(&entry, &want.spec).is_empty());
}

#[test]
fn only_what_is_of_a_run_can_end_with_one() {
    for field in ["spec.memory.ram", "spec.beancounters.numproc", "spec.network.addresses", "spec.hostname"] {
        assert_eq!(allowed(field), Ok(()), "{field}");
    }
    for (field, why) in [
        ("spec.security.capabilities.add", "takes effect at a start"),
        ("spec.onBoot", "is not about a run"),
        ("spec.users", "is not about a run"),
        ("spec.template", ""),
        ("metadata.labels", ""),
        ("spec.nonsense", "there is no field"),
    ] {
        let said = allowed(field).expect_err(field);
        assert!(said.contains(why), "{field}: {said}");
    }
}
