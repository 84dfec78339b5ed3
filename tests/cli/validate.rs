//! `vzd validate`: everything that is wrong, at its place, and the exit code.

use crate::harness::{Place, same};

const GOOD: &str = "apiVersion: vzd/v1\nkind: VE\nmetadata: {name: web}\nspec: {template: tiny}\n";
const TYPOS: &str = "\
apiVersion: vzd/v1
kind: VE
metadata:
  name: db
spec:
  tempate: tiny
  hostname: db
  hostname: db2
---
apiVersion: vzd/v1
kind: VE
metadata: {name: web}
spec: {template: tiny, stopTimeout: soon}
";

#[test]
fn good_manifests_are_ok_and_nothing_is_printed_but_a_summary() {
    let place = Place::new();
    place.write("m/web.yaml", GOOD);
    same!("validate_good", place.vzd(&["validate"]));
}

#[test]
fn all_errors_of_all_files_come_at_once() {
    let place = Place::new();
    place.write("m/web.yaml", GOOD);
    place.write("m/sub/db.yml", TYPOS);
    place.write("m/broken.yaml", "spec: [\n");
    same!("validate_errors", place.vzd(&["validate"]));
}

#[test]
fn diagnostics_are_data_too() {
    let place = Place::new();
    place.write("m/db.yaml", TYPOS);
    place.write("m/.hidden.yaml", "");
    let said = place.vzd(&["validate", "-o", "json"]);
    assert_eq!(said.code, 65);
    let data: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(data["errors"], data["diagnostics"].as_array().map_or(0, Vec::len));
    assert_eq!(data["skipped"]["m/.hidden.yaml"], "hidden");
    same!("validate_json", said);
    let yaml = place.vzd(&["validate", "-o", "yaml"]);
    assert_eq!(yaml.code, 65);
    assert!(yaml.stdout.contains("code: VZ0101\n"), "{yaml}");
}

#[test]
fn standard_input_and_single_files_are_checked_too() {
    let place = Place::new();
    place.write("web.yaml", GOOD);
    assert_eq!(place.vzd(&["validate", "web.yaml"]).code, 0);
    // Together they claim one name twice.
    same!("validate_stdin", place.vzd_reading(&["validate", "web.yaml", "-"], GOOD.as_bytes()));
}

#[test]
fn a_directory_without_manifests_is_not_passed_over() {
    let place = Place::new();
    place.write("m/README.md", "");
    same!("validate_nothing", place.vzd(&["validate"]));
}

#[test]
fn a_hostile_name_does_not_reach_the_terminal() {
    let place = Place::new();
    let said = place.vzd_reading(&["validate", "-"], b"apiVersion: vzd/v1\nkind: \"\\e[2J\"\n");
    assert_eq!(said.code, 65);
    assert!(!said.stdout.contains('\u{1b}'), "{said}");
}
