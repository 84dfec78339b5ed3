//! From manifests to what is wanted.

use vzd_schema::Set;
use vzd_state::desired::Desired;
use vzd_state::ids::VeUid;
use vzd_state::ledger::Ledger;
use vzd_state::lower::{lower, lower_entry};

use crate::common::{manifest, spec};

const FULL: &str = r#"
apiVersion: vzd/v1
kind: VE
metadata:
  name: web01
  labels: {role: web}
  annotations: {vzd/reconcile: disabled}
spec:
  ctid: 101
  template: debian-12
  hostname: web01.example.net
  init: [/sbin/init, --quiet]
  bootOrder: 5
  stopTimeout: 90s
  cpu: {cpuunits: 2000, cpulimit: 150%, cpus: 2, cpumask: "0-3,8", nodemask: 0}
  memory: {ram: 512M, swap: 1G, guarantee: 64M}
  io: {ioprio: 7, iolimit: 10M, iopslimit: 500}
  beancounters: {numproc: 240}
  mounts:
  - {source: /srv/data, target: /data, readOnly: true, idmap: true}
  devices:
  - {path: /dev/ttyS0, mode: "0660", gid: 20}
  - {type: block, device: "8:*", permissions: r}
  security:
    capabilities: {add: [SYS_TIME], drop: [NET_RAW]}
    features: {tun: true, nesting: true}
    userNamespace: {start: 2000000000}
  health: {exec: [/usr/bin/true], interval: 5s}
  dependsOn: [db]
  suspendReconcile: {reason: moving, until: "2027-01-01T00:00:00Z"}
"#;

#[test]
fn every_field_and_every_default() {
    insta::assert_json_snapshot!("lowered_full", manifest(FULL));
    insta::assert_json_snapshot!("lowered_minimal", spec("template: t"));
}

#[test]
fn the_last_good_spec_wants_the_same_again() {
    let want = manifest(FULL);
    let mut ledger = Ledger::default();
    let entry = ledger.create(&VeUid::from_bits(1), &want).unwrap();
    let again = lower_entry(entry, &|_| Some((vzd_state::subsystem::devices::DeviceKind::Char, 4, 64)));
    // Where fields were said is not kept, and a template is not enforced without it.
    let mut expected = Desired { fields: Default::default(), ..want };
    expected.disk.inherited = true;
    assert_eq!(again, Ok(expected));
}

#[test]
fn all_that_cannot_be_lowered_is_told() {
    let text = "apiVersion: vzd/v1\nkind: VE\nmetadata: {name: ve}\n\
                spec: {template: t, devices: [{path: /dev/nowhere}, {path: /dev/x, type: char}]}\n";
    let parsed = vzd_schema::parse("ve.yaml", text.as_bytes());
    let document = &parsed.documents[0];
    let resolved = Set::new(&parsed.documents).resolve(document).unwrap();
    let wrong = lower(document, &resolved, &|_| None).unwrap_err();
    let told: Vec<_> = wrong.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "spec.devices[0]: the host has no device node there; give `type` and `device`",
            "spec.devices[1]: the host has no device node there; give `device`",
        ]
    );
}
