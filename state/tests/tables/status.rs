//! Conditions over time.

use vzd_state::ids::VeUid;
use vzd_state::plan::Wish;
use vzd_state::policy::{Policy, authorize};
use vzd_state::status::{Condition, ConditionStatus, ConditionType, Failure, Health, Inputs, conditions};
use vzd_state::units::{Millis, Timestamp};

use crate::common::{apply, host, spec};

fn find(conditions: &[Condition], wanted: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.r#type == wanted)
}

#[test]
fn a_transition_is_a_change_of_status_and_some_conditions_come_and_go() {
    let (mut sim, uid) = (host(), VeUid::from_bits(1));
    let want = spec("template: t");
    apply(&mut sim, &uid, &want);
    let have = sim.observe(&uid, Some(&want));
    let plan = authorize(sim.plan(&uid, &want.name, Wish::Want(&want)), &Policy::default());
    let look = |now: Timestamp, failure: Option<&Failure>, health: &Health, previous: &[Condition]| {
        let entry = sim.ledger.get(&uid);
        let (plan, have) = (&plan, &have);
        let inputs = Inputs {
            now,
            entry,
            have,
            plan,
            in_progress: false,
            failure,
            broken_manifest: None,
            cannot_suspend: None,
            unenforced: "",
            health,
        };
        conditions(&inputs, previous)
    };
    let later = |seconds| sim.now + Millis::from_secs(seconds);

    let good = look(later(1), None, &Health::NoProbe, &[]);
    let ready = find(&good, ConditionType::Ready).unwrap();
    assert_eq!((ready.status, ready.observed_generation), (ConditionStatus::True, 1));
    assert_eq!(find(&good, ConditionType::Healthy), None);

    let same = look(later(2), None, &Health::Healthy, &good);
    assert_eq!(find(&same, ConditionType::Ready), Some(ready), "nothing changed");
    assert_eq!(find(&same, ConditionType::Healthy).unwrap().last_transition_time, later(2));

    let failure = Failure {
        reason: "ReconciliationFailed".to_owned(),
        message: "mount: EIO".to_owned(),
        retry_at: Some(later(9)),
    };
    let bad = look(later(3), Some(&failure), &Health::Healthy, &same);
    let ready = find(&bad, ConditionType::Ready).unwrap();
    assert_eq!((ready.status, ready.last_transition_time), (ConditionStatus::False, later(3)));
    assert_eq!(find(&bad, ConditionType::Reconciling).unwrap().reason, "ProgressingWithRetry");
    assert_eq!(find(&bad, ConditionType::Stalled), None);

    let hopeless = Failure { retry_at: None, ..failure };
    let stalled = look(later(4), Some(&hopeless), &Health::Healthy, &bad);
    assert_eq!(find(&stalled, ConditionType::Reconciling), None);
    assert_eq!(find(&stalled, ConditionType::Stalled).unwrap().message, "mount: EIO");
    assert_eq!(find(&stalled, ConditionType::Ready).unwrap().last_transition_time, later(3));

    let sick = look(later(5), None, &Health::Unhealthy("status 1".to_owned()), &stalled);
    assert_eq!(find(&sick, ConditionType::Ready).unwrap().reason, "HealthCheckFailed");
    assert_eq!(find(&sick, ConditionType::Stalled), None);
}
