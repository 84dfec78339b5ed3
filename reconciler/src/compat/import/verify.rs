//! Whether manifests say what configurations describe: a container as its configuration describes it, made on the model
//! kernel, and the plan from there to what its manifest wants, which has to be empty. Pure.
//!
//! The manifest is taken as it stands in its directory, with what its profile, the host and the other manifests make of
//! it, so that a default that nobody thought of is found as well as an edit.

use vzd_schema::{Document, Set, parse};
use vzd_state::capability::Capabilities;
use vzd_state::desired::Desired;
use vzd_state::ids::VeUid;
use vzd_state::lower::{FindDevice, lower};
use vzd_state::plan::{HostPlan, Wish};
use vzd_state::policy::{Policy, authorize};
use vzd_state::sim::Sim;
use vzd_state::subsystem::lifecycle::State;
use vzd_state::units::{Millis, Timestamp};

/// A container settles in so many plans: it is made, started, and given what only a running one takes.
const ROUNDS: usize = 6;

/// What would change if the manifest of that name in the set took over a container that is as `described` says (a
/// manifest of its own). `None` if nothing would.
///
/// # Errors
///
/// It cannot be told, since the manifest cannot be carried out; why.
pub fn difference(
    described: &str,
    name: &str,
    set: &Set<'_>,
    documents: &[&Document],
    find_device: FindDevice<'_>,
) -> Result<Option<String>, String> {
    let own = documents.iter().find(|is| is.ve().is_some() && is.name.as_deref() == Some(name));
    let own = own.ok_or_else(|| format!("no manifest that can be carried out describes {name}"))?;
    let want = running(lowered(own, set, find_device)?);
    let parsed = parse("(configuration)", described.as_bytes());
    let alone = parsed.documents.first().ok_or("the configuration describes nothing")?;
    // A configuration does not have to say the template; a manifest does, by itself or through its profile.
    let was = match lowered(alone, &Set::new([alone]), find_device) {
        Ok(was) => running(was),
        Err(_) if !described.contains("\n  template:") => {
            let with =
                described.replacen("\nspec:\n", &format!("\nspec:\n  template: {}\n", template(&want)), 1);
            let parsed = parse("(configuration)", with.as_bytes());
            let alone = parsed.documents.first().ok_or("the configuration describes nothing")?;
            running(lowered(alone, &Set::new([alone]), find_device)?)
        }
        Err(why) => return Err(why),
    };
    let uid = VeUid::from_bits(1);
    let mut sim = Sim::new(Capabilities::full("import"), Timestamp(0));
    for _ in 0..ROUNDS {
        let plan = authorize(sim.plan(&uid, &was.name, Wish::Want(&was)), &Policy::default());
        for planned in &plan.steps {
            sim.step(&uid, &planned.step, Some(&was)).map_err(|broken| broken.to_string())?;
        }
        sim.wait(Millis::from_secs(1));
    }
    let plan = authorize(sim.plan(&uid, &want.name, Wish::Want(&want)), &Policy::default());
    let same = plan.changes.is_empty() && plan.held.is_empty();
    Ok((!same).then(|| HostPlan::new(vec![plan], String::new()).to_string()))
}

/// As YAML, whatever is in it.
fn template(want: &Desired) -> String {
    serde_json::Value::from(want.disk.template.clone()).to_string()
}

fn lowered(document: &Document, set: &Set<'_>, find_device: FindDevice<'_>) -> Result<Desired, String> {
    let resolved = set.resolve(document).map_err(|wrong| {
        wrong.first().map_or_else(|| "it cannot be resolved".to_owned(), |is| is.message.to_string())
    })?;
    lower(document, &resolved, find_device)
        .map_err(|wrong| wrong.first().map_or_else(String::new, ToString::to_string))
}

/// Whether it runs is no matter of a configuration, and one that runs has all that can be compared.
fn running(mut want: Desired) -> Desired {
    want.lifecycle.state = State::Running;
    want.cgroup.frozen = false;
    want
}

#[cfg(test)]
mod tests {
    use super::super::convert::container;
    use super::*;

    const CONF: &str = "OSTEMPLATE=\"debian-12\"\nPHYSPAGES=\"0:512M\"\nSWAPPAGES=\"0:1G\"\nHOSTNAME=\"web\"\nIP_ADDRESS=\"10.0.0.1\"\n\
        CPUUNITS=\"1000\"\nONBOOT=\"yes\"\n";

    fn found(text: &str, others: &str) -> Result<Option<String>, String> {
        let described = container(101, CONF).text;
        let all = format!("{text}\n---\n{others}");
        let parsed = parse("all.yaml", all.as_bytes());
        let documents: Vec<_> = parsed.documents.iter().collect();
        difference(&described, "101", &Set::new(documents.iter().copied()), &documents, &|_| None)
    }

    const PROFILE: &str = "apiVersion: vzd/v1\nkind: Profile\nmetadata: {name: p}\nspec: {template: debian-12, beancounters: {numproc: 9}}\n---\n\
        apiVersion: vzd/v1\nkind: Host\nmetadata: {name: host}\nspec: {defaultProfile: p}\n";

    #[test]
    fn what_was_imported_differs_in_nothing() {
        let text = container(101, CONF).text;
        assert_eq!(found(&text, ""), Ok(None));
        // Spelled otherwise, or with other things that stop it, it is the same.
        assert_eq!(found(&text.replace("state: stopped", "state: running # up"), ""), Ok(None));
    }

    #[test]
    fn what_somebody_adds_or_changes_is_found() {
        let text = container(101, CONF).text;
        for (changed, others, field) in [
            (text.replace("hostname: web", "hostname: other"), "", "spec.hostname"),
            (text.replace("onBoot: true", "onBoot: false"), "", "spec.onBoot"),
            (text.replace("0:131072", "0:262144"), "", "spec.memory.ram"),
            // A default of the host that no configuration knew of.
            (text.clone(), PROFILE, "spec.beancounters.numproc"),
        ] {
            let plan = found(&changed, others).unwrap().unwrap_or_default();
            assert!(plan.contains(field), "{field}: {plan}");
        }
    }

    #[test]
    fn what_is_given_away_comes_back() {
        let mut compared = 0;
        for seed in 1..=300 {
            let text = format!("OSTEMPLATE=\"debian-12\"\n{}", super::super::convert::tests::generated(seed));
            let was = container(101, &text).text;
            let parsed = parse("was", was.as_bytes());
            let document = &parsed.documents[0];
            // What can't be lowered or carried out here is another matter.
            let Ok(want) = lowered(document, &Set::new([document]), &|_| None) else { continue };
            let conf = crate::ctid_conf::ctid_conf(&want.spec);
            assert_eq!(conf.residue, [], "{was}");
            let back = container(101, &conf.text(&crate::ctid_conf::of_notes(&want.annotations)));
            assert_eq!(back.residue, [], "{was}");
            let all = [document];
            let differs = |described: &str| difference(described, "101", &Set::new(all), &all, &|_| None);
            if document.name.as_deref() == Some("101") && differs(&was) == Ok(None) {
                assert_eq!(differs(&back.text), Ok(None), "{was}\n{}", back.text);
                compared += 1;
            }
        }
        assert!(compared > 200, "{compared}");
    }

    #[test]
    fn what_cannot_be_carried_out_is_told() {
        let text = container(101, CONF).text.replace("  template: debian-12\n", "");
        assert!(found(&text, "").unwrap_err().contains("template"));
    }
}
