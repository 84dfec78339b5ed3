//! What programs read: the plan, an entry of the ledger, what is seen.

use vzd_state::ids::VeUid;
use vzd_state::observed::check_index;
use vzd_state::plan::{HostPlan, Wish};
use vzd_state::policy::{Policy, authorize};

use crate::common::{apply, host, spec};

#[test]
fn a_plan_an_entry_and_a_look_as_json() {
    let (mut sim, uid) = (host(), VeUid::from_bits(1));
    let want = spec("template: t, mounts: [{source: /srv/a, target: /a}]");
    apply(&mut sim, &uid, &want);
    let want = spec("template: t, hostname: new, init: [/x], dependsOn: [db]");
    let have = sim.observe(&uid, Some(&want));
    let plan = authorize(sim.plan(&uid, &want.name, Wish::Want(&want)), &Policy::default());
    let host = HostPlan::new([plan], check_index([(&want.name, &have)]));
    insta::assert_json_snapshot!("plan", host.to_json());
    insta::assert_json_snapshot!("entry", sim.ledger.get(&uid));
    insta::assert_json_snapshot!("observed", have);
}
