//! What is allowed, and in which order VEs come.

use vzd_state::disruption::Disruption;
use vzd_state::ids::VeUid;
use vzd_state::plan::{Action, HeldFor, HostPlan, Wish};
use vzd_state::policy::{Policy, authorize, empty_guard, prune_guard};

use crate::common::{apply, host, manifest, spec};

#[test]
fn many_removals_at_once_are_refused() {
    for (removing, known, allowed, refused) in [
        (0, 0, None, false),
        (3, 3, None, false),
        (4, 4, None, true),
        (4, 19, None, true),
        (4, 20, None, false),
        (20, 100, None, false),
        (21, 100, None, true),
        (21, 100, Some(20), true),
        (21, 100, Some(21), false),
        (100, 100, Some(100), false),
    ] {
        let why = prune_guard(removing, known, allowed);
        assert_eq!(why.is_some(), refused, "{removing} of {known}, allowed {allowed:?}: {why:?}");
    }
}

#[test]
fn an_empty_directory_is_believed_only_for_all_at_once() {
    for (removing, allowed, refused) in
        [(1, None, true), (2, Some(1), true), (2, Some(2), false), (2, Some(9), false), (0, Some(0), false)]
    {
        let why = empty_guard(removing, allowed);
        assert_eq!(why.is_some(), refused, "{removing}, allowed {allowed:?}: {why:?}");
    }
}

#[test]
fn what_is_not_allowed_is_held_and_the_rest_is_done() {
    let (mut sim, uid) = (host(), VeUid::from_bits(1));
    apply(&mut sim, &uid, &spec("template: t, deletionPolicy: Destroy"));
    let restart =
        spec("template: t, deletionPolicy: Destroy, hostname: new, init: [/x], updatePolicy: Restart");
    let recreate = spec("template: u, deletionPolicy: Destroy, hostname: new");
    for (want, max, action, disruption, held) in [
        (&restart, Disruption::Recreate, Action::Restart, Disruption::Restart, None),
        (&restart, Disruption::Restart, Action::Restart, Disruption::Restart, None),
        (&restart, Disruption::Live, Action::Update, Disruption::Live, Some(HeldFor::Policy)),
        (&restart, Disruption::None, Action::None, Disruption::None, Some(HeldFor::Policy)),
        (&recreate, Disruption::Recreate, Action::Recreate, Disruption::Recreate, None),
        (&recreate, Disruption::Restart, Action::Update, Disruption::Live, Some(HeldFor::Policy)),
    ] {
        let policy = Policy { max_disruption: max, no_removals: None };
        let plan = authorize(sim.plan(&uid, &want.name, Wish::Want(want)), &policy);
        assert_eq!((plan.action, plan.disruption()), (action, disruption), "{plan}");
        assert_eq!(plan.held.first().map(|held| held.held_for), held, "{plan}");
    }
}

#[test]
fn the_default_policy_of_a_ve_holds_a_restart() {
    let (mut sim, uid) = (host(), VeUid::from_bits(1));
    apply(&mut sim, &uid, &spec("template: t"));
    let want = spec("template: t, init: [/x]");
    let plan = authorize(sim.plan(&uid, &want.name, Wish::Want(&want)), &Policy::default());
    assert_eq!(plan.held[0].held_for, HeldFor::RestartRequired);
    assert_eq!(plan.held[0].source.as_ref().map(ToString::to_string), Some("ve.yaml:4".to_owned()));
}

#[test]
fn removals_come_first_then_dependencies_then_boot_order() {
    let mut sim = host();
    let ve = |name: &str, more: &str| {
        let head = "apiVersion: vzd/v1\nkind: VE\n";
        manifest(&format!("{head}metadata: {{name: {name}}}\nspec: {{template: t{more}}}\n"))
    };
    let gone = ve("gone", "");
    apply(&mut sim, &VeUid::from_bits(9), &gone);
    let wanted = [
        ve("app", ", dependsOn: [db, cache], bootOrder: 9"),
        ve("cache", ", dependsOn: [db]"),
        ve("db", ""),
        ve("first", ", bootOrder: 5"),
        ve("a-circle", ", dependsOn: [b-circle]"),
        ve("b-circle", ", dependsOn: [a-circle]"),
        ve("lonely", ", dependsOn: [nowhere]"),
    ];
    let plans = wanted
        .iter()
        .zip(20..)
        .map(|(want, number)| sim.plan(&VeUid::from_bits(number), &want.name, Wish::Want(want)))
        .chain([sim.plan(&VeUid::from_bits(9), &gone.name, Wish::Gone)]);
    let host = HostPlan::new(plans, String::new());
    let names: Vec<_> = host.plans.iter().map(|plan| plan.name.as_str()).collect();
    assert_eq!(names, ["gone", "first", "db", "lonely", "cache", "app", "a-circle", "b-circle"]);
    assert_eq!(host.layers, [1, 4, 5, 6, 8]);
}
