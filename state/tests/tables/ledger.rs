//! Handing out ids, and reading what was stored.

use serde_json::json;
use vzd_schema::Code;
use vzd_state::ids::{Ctid, IdRange, VeUid};
use vzd_state::ledger::{Entry, IdPool, Ledger, LedgerError, Standing};
use vzd_state::units::Timestamp;

use crate::common::{manifest, spec};

fn uid(number: u128) -> VeUid {
    VeUid::from_bits(number)
}

fn create(ledger: &mut Ledger, number: u128, more: &str) -> Result<Entry, LedgerError> {
    let want = manifest(&format!(
        "apiVersion: vzd/v1\nkind: VE\nmetadata: {{name: ve{number}}}\nspec: {{template: t{more}}}\n"
    ));
    ledger.create(&uid(number), &want).cloned()
}

fn ctid(number: u32) -> Ctid {
    Ctid::try_from(number).unwrap()
}

#[test]
fn free_ctids_and_ids_are_handed_out_and_never_twice() {
    let mut ledger = Ledger::default();
    for number in 0u32..3 {
        let entry = create(&mut ledger, number.into(), "").unwrap();
        assert_eq!(entry.ctid, ctid(101 + number));
        let start = IdPool::default().start + IdRange::BLOCK * number;
        assert_eq!(entry.ids, IdRange { start, count: IdRange::BLOCK });
    }
    // A range that the uid tells, or the next one that is free.
    let pool = IdPool::default();
    let blocks = pool.count / IdRange::BLOCK;
    let last = create(&mut ledger, (blocks - 1).into(), "").unwrap();
    assert_eq!(last.ids.start, pool.start + (blocks - 1) * IdRange::BLOCK);
    let next = create(&mut ledger, (2 * blocks - 1).into(), "").unwrap();
    assert_eq!(next.ids.start, pool.start + 3 * IdRange::BLOCK);
    ledger.remove(&last.uid);
    ledger.remove(&next.uid);
    ledger.remove(&uid(1));
    assert_eq!(create(&mut ledger, 4, "").unwrap().ctid, ctid(102));
    assert_eq!(create(&mut ledger, 5, ", ctid: 500").unwrap().ctid, ctid(500));
    let taken = create(&mut ledger, 6, ", ctid: 500").unwrap_err();
    assert_eq!(taken.to_string(), "ctid 500 belongs to VE ve5");
}

#[test]
fn what_is_in_quarantine_keeps_its_ids_but_not_its_name() {
    let mut ledger = Ledger::default();
    let first = create(&mut ledger, 1, "").unwrap();
    let (since, until) = (Timestamp(0), Timestamp(1));
    ledger.get_mut(&uid(1)).unwrap().standing = Standing::Quarantined { since, until };
    let name = "ve1".parse().unwrap();
    assert_eq!(ledger.by_name(&name), None);
    assert_eq!(ledger.quarantined(&name).map(|entry| &entry.uid), Some(&uid(1)));
    let want = manifest("apiVersion: vzd/v1\nkind: VE\nmetadata: {name: ve1}\nspec: {template: t}\n");
    let second = ledger.create(&uid(2), &want).unwrap();
    assert!(second.ctid != first.ctid && !second.ids.overlaps(first.ids));
    assert_eq!(ledger.by_name(&name).map(|entry| &entry.uid), Some(&uid(2)));
    assert!(matches!(ledger.create(&uid(3), &want), Err(LedgerError::NameTaken(_))));
}

#[test]
fn fixed_ranges_are_kept_apart_and_a_pool_ends() {
    let mut ledger = Ledger::new(IdPool { start: 65536, count: 3 * 65536 });
    let fixed = ", security: {userNamespace: {start: 100000}}";
    assert_eq!(create(&mut ledger, 1, fixed).unwrap().ids.start, 100_000);
    assert!(matches!(create(&mut ledger, 2, fixed), Err(LedgerError::IdsTaken { .. })));
    assert_eq!(create(&mut ledger, 3, "").unwrap().ids.start, 196_608);
    let Err(error) = create(&mut ledger, 4, "") else { panic!("there were ids left") };
    assert_eq!(error.code(), Code::NoIds);
    assert_eq!(error.to_string(), "no range of 65536 ids is free in 65536:196608");
}

#[test]
fn creating_twice_is_creating_once() {
    let mut ledger = Ledger::default();
    let want = spec("template: t");
    let first = ledger.create(&uid(1), &want).unwrap().clone();
    assert_eq!(ledger.create(&uid(1), &want), Ok(&first));
}

#[test]
fn a_later_format_and_damage_are_refused() {
    let read = |text: &str| Ledger::from_json(IdPool::default(), text);
    assert_eq!(read(r#"{"format": 2, "news": []}"#), Err(LedgerError::Format { found: 2 }));
    for damaged in ["", "{", "[]", r#"{"entries": []}"#, r#"{"format": 1}"#] {
        assert!(matches!(read(damaged), Err(LedgerError::Damaged(_))), "{damaged}");
    }
    assert_eq!(read(r#"{"format": 1, "entries": []}"#), Ok(Ledger::default()));
    let mut ledger = Ledger::default();
    let entry = create(&mut ledger, 1, "").unwrap();
    assert_eq!(Entry::from_json(&entry.to_json()), Ok(entry.clone()));
    let mut later = json!(entry);
    later["format"] = json!(9);
    assert_eq!(Entry::from_json(&later.to_string()), Err(LedgerError::Format { found: 9 }));
}

#[test]
fn spelling_comments_and_labels_make_no_generation() {
    let head = "apiVersion: vzd/v1\nkind: VE\n";
    let a = manifest(&format!("{head}metadata: {{name: ve}}\nspec: {{template: t, stopTimeout: 60s}}\n"));
    let b = manifest(&format!(
        "{head}# a note\nmetadata: {{name: ve, labels: {{a: b}}}}\nspec:\n  stopTimeout: \"1m\"\n  template: 't'\n"
    ));
    assert_eq!(a.digest, b.digest);
    assert_ne!(a.digest, spec("template: t, stopTimeout: 61s").digest);
}
