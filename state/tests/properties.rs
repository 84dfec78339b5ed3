//! What holds for every VE, every history and every wish, on the model kernel.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::{Wishful, at, histories, host, wishful};
use proptest::prelude::*;
use vzd_state::disruption::{Disruption, Feasible};
use vzd_state::ids::VeUid;
use vzd_state::plan::{Approved, Power, Step, VePlan, Wish, target};
use vzd_state::policy::{Policy, authorize};
use vzd_state::sim::{Cut, Sim};
use vzd_state::status::Health;
use vzd_state::subsystem::cgroup::{Knob, Live, Value};
use vzd_state::subsystem::users::Account;
use vzd_state::subsystem::{Cx, Effect};
use vzd_state::undo::undo;
use vzd_state::units::Millis;
use vzd_state::verify::verify;

fn uid() -> VeUid {
    VeUid::from_bits(7)
}

fn plan(sim: &Sim, want: &Wishful) -> VePlan<Approved> {
    authorize(sim.plan(&uid(), &want.0.name, Wish::Want(&want.0)), &Policy::default())
}

/// Plans and executes until nothing is left to do, letting back-off pass.
fn settle(sim: &mut Sim, want: &Wishful) -> Result<(), TestCaseError> {
    for _ in 0..8 {
        let plan = plan(sim, want);
        if plan.is_empty() && plan.next_wake.is_none() {
            return Ok(());
        }
        for planned in &plan.steps {
            let done = sim.step(&uid(), &planned.step, Some(&want.0));
            prop_assert!(done.is_ok(), "{}: {:?}", planned.step, done);
        }
        if plan.next_wake.is_some() {
            sim.wait(Millis::from_secs(1000));
        }
    }
    Err(TestCaseError::fail(format!("it does not settle: {}", plan(sim, want))))
}

/// Whether the VE is as it is wanted, but for what rightly waits.
fn satisfied(sim: &Sim, want: &Wishful) -> Result<(), TestCaseError> {
    let have = sim.observe(&uid(), Some(&want.0));
    let entry = sim.ledger.get(&uid());
    if target(&want.0, entry).power == Power::Absent {
        prop_assert!(sim.is_gone(&uid()), "something is left: {:?}", have);
        return Ok(());
    }
    let cx = Cx { caps: &sim.caps, now: sim.now, entry, is_ready: &|_| true, health: &Health::NoProbe };
    let held = plan(sim, want).held;
    for mismatch in verify(&want.0, &have, &cx) {
        let waits = held.iter().any(|held| held.field == mismatch.field);
        prop_assert!(waits && mismatch.disruption >= Disruption::Restart, "{:?}", mismatch);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4096, ..ProptestConfig::default() })]

    #[test]
    fn from_any_history_the_plan_leads_to_the_wish((mut sim, _) in histories(), want in wishful()) {
        settle(&mut sim, &want)?;
        satisfied(&sim, &want)?;
    }

    #[test]
    fn a_satisfied_state_plans_to_nothing((mut sim, _) in histories(), want in wishful()) {
        settle(&mut sim, &want)?;
        let plan = plan(&sim, &want);
        prop_assert!(plan.steps.is_empty(), "{}", plan);
        prop_assert!(plan.changes.iter().all(|change| change.disruption >= Disruption::Restart
            || change.feasible != Feasible::Yes), "{}", plan);
    }

    #[test]
    fn killed_anywhere_it_goes_on(
        (mut sim, _) in histories(), want in wishful(), then in wishful(), done in 0usize..8,
        cut in any::<bool>(),
    ) {
        sim.save();
        let plan = plan(&sim, &want);
        for (i, planned) in plan.steps.iter().enumerate() {
            if i == done {
                let cut = if cut { Cut::Before } else { Cut::After };
                prop_assert_eq!(sim.cut_short(&uid(), &planned.step, Some(&want.0), cut), Ok(()));
                break;
            }
            prop_assert!(sim.step(&uid(), &planned.step, Some(&want.0)).is_ok());
        }
        sim.kill();
        // The manifest may be another one by the time somebody looks.
        settle(&mut sim, &then)?;
        satisfied(&sim, &then)?;
    }

    #[test]
    fn a_second_run_of_live_steps_changes_nothing((mut sim, last) in histories(), want in wishful()) {
        settle(&mut sim, &last)?;
        let plan = plan(&sim, &want);
        let cold = |step: &Step| matches!(step, Step::Lifecycle(_) | Step::Disk(_));
        let live = plan.steps.iter().map(|planned| &planned.step).filter(|step| !cold(step));
        if plan.steps.iter().any(|planned| !planned.step.only_notes() && cold(&planned.step)) {
            return Ok(());
        }
        let live: Vec<_> = live.collect();
        for planned in &plan.steps {
            prop_assert!(sim.step(&uid(), &planned.step, Some(&want.0)).is_ok());
        }
        for step in live {
            prop_assert_eq!(sim.apply(&uid(), step, Some(&want.0)), Ok(Effect::AlreadySo), "{}", step);
        }
    }

    #[test]
    fn undo_of_any_prefix_restores_the_start(
        (mut sim, last) in histories(), want in wishful(), done in 0usize..8,
    ) {
        settle(&mut sim, &last)?;
        let plan = plan(&sim, &want);
        let live: Vec<_> = plan.steps.iter().map(|planned| planned.step.clone())
            .filter(|step| matches!(step, Step::Cgroup(_) | Step::Beancounters(_) | Step::Namespaces(_) | Step::Devices(_) | Step::Network(_) | Step::DiskLive(_)))
            .take(done).collect();
        if plan.disruption() > Disruption::Live || sim.ve(&uid()).run.is_none() {
            return Ok(());
        }
        let squeezes = |step: &Step| matches!(step, Step::Cgroup(Live::Squeeze { .. }));
        if live.iter().any(squeezes) {
            return Ok(());
        }
        // Memory that was taken back is taken again when it is needed.
        sim.ve(&uid()).run.as_mut().unwrap().memory = (0, 0);
        let before = sim.ve(&uid()).clone();
        for step in &live {
            prop_assert!(sim.apply(&uid(), step, Some(&want.0)).is_ok());
        }
        for step in undo(live.iter()) {
            prop_assert!(sim.apply(&uid(), &step, Some(&want.0)).is_ok(), "{}", step);
        }
        prop_assert_eq!(sim.ve(&uid()), &before);
    }

    #[test]
    fn what_the_owner_made_is_left_alone((mut sim, last) in histories(), want in wishful()) {
        settle(&mut sim, &last)?;
        let Some(run) = sim.ve(&uid()).run.as_mut() else { return Ok(()) };
        let own = common::mount("/owner", false);
        let node = common::node(99);
        let theirs = Account { uid: 1500, ..Account::default() };
        run.mounts.insert("/own/mount".to_owned(), own.clone());
        run.nodes.insert("/dev/own".to_owned(), node);
        run.knobs.insert(Knob::IoOps, Value::Number(7));
        let pid = run.init_pid;
        sim.ve(&uid()).accounts.insert("own".to_owned(), theirs.clone());
        settle(&mut sim, &want)?;
        if let Some(run) = sim.ve(&uid()).run.as_ref().filter(|run| run.init_pid == pid) {
            prop_assert_eq!(run.mounts.get("/own/mount"), Some(&own));
            prop_assert_eq!(run.nodes.get("/dev/own"), Some(&node));
            prop_assert_eq!(run.knobs.get(&Knob::IoOps), Some(&Value::Number(7)));
            prop_assert_eq!(sim.ve(&uid()).accounts.get("own"), Some(&theirs));
        }
    }

    #[test]
    fn a_ve_removed_and_forgotten_leaves_nothing((mut sim, last) in histories()) {
        for _ in 0..4 {
            let plan = authorize(sim.plan(&uid(), &last.0.name, Wish::Gone), &Policy::default());
            for planned in &plan.steps {
                let done = sim.step(&uid(), &planned.step, None);
                prop_assert!(done.is_ok(), "{}: {:?}", planned.step, done);
            }
            sim.wait(Millis::from_secs(30 * 86400));
        }
        let retained = sim.ledger.get(&uid()).is_some_and(|entry| {
            entry.standing == vzd_state::ledger::Standing::Retained
        });
        prop_assert!(retained || sim.is_gone(&uid()));
    }

    #[test]
    fn one_plan_never_touches_another_ve(wishes in proptest::collection::vec(wishful(), 2..6)) {
        let mut sim = host();
        for (i, want) in wishes.iter().enumerate() {
            let (want, uid) = at(want, i);
            let others: Vec<_> = (0..i).map(|j| sim.ve(&at(&wishes[j], j).1).clone()).collect();
            let ledger = sim.ledger.clone();
            let plan = sim.plan(&uid, &want.name, Wish::Want(&want));
            for planned in authorize(plan, &Policy::default()).steps {
                prop_assert!(sim.step(&uid, &planned.step, Some(&want)).is_ok());
            }
            for (j, before) in others.iter().enumerate() {
                let other = at(&wishes[j], j).1;
                prop_assert_eq!(sim.ve(&other), before);
                prop_assert_eq!(sim.ledger.get(&other), ledger.get(&other));
            }
        }
        let entries: Vec<_> = sim.ledger.entries().collect();
        for (i, a) in entries.iter().enumerate() {
            for b in &entries[i + 1..] {
                prop_assert!(a.ctid != b.ctid && !a.ids.overlaps(b.ids) && a.name != b.name);
            }
        }
    }

    #[test]
    fn a_ledger_survives_its_json((sim, _) in histories()) {
        let text = sim.ledger.to_json();
        let read = vzd_state::ledger::Ledger::from_json(Default::default(), &text);
        prop_assert_eq!(read.as_ref(), Ok(&sim.ledger));
        prop_assert_eq!(read.map(|ledger| ledger.to_json()), Ok(text));
    }
}
