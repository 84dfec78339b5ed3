//! Tests that see every field of the format: that it can be written, read back, and is described.

use super::{Host, Kind, Ve};
use crate::decode::decode;
use crate::fields;
use crate::suggest::Suggest;
use crate::yaml::{self, Node};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

const FULL_VE: &str = include_str!("../../tests/full-ve.yaml");
const FULL_HOST: &str = include_str!("../../tests/full-host.yaml");

fn tree(text: &str) -> Node {
    let file: Arc<str> = "full.yaml".into();
    let stream = yaml::build(&file, text);
    assert_eq!(stream.diagnostics, []);
    stream.documents.into_iter().next().unwrap().root
}

fn read<T: DeserializeOwned>(kind: Kind, text: &str) -> T {
    decode(&tree(text), &Suggest::new(kind)).unwrap()
}

/// Written as YAML and as JSON, it reads back as the same.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(kind: Kind, value: &T) {
    let text = serde_saphyr::to_string(value).unwrap();
    assert_eq!(read::<T>(kind, &text), *value, "{text}");
    let json = serde_json::to_value(value).unwrap();
    assert_eq!(serde_json::from_value::<T>(json).unwrap(), *value);
}

#[test]
fn every_field_reads_and_round_trips() {
    let ve: Ve = read(Kind::Ve, FULL_VE);
    round_trip(Kind::Ve, &ve);
    let host: Host = read(Kind::Host, FULL_HOST);
    round_trip(Kind::Host, &host);
    insta::assert_json_snapshot!("every-field", (ve, host));
}

#[test]
fn every_field_is_in_the_full_documents_and_described() {
    for (kind, text) in [(Kind::Ve, FULL_VE), (Kind::Host, FULL_HOST)] {
        let root = tree(text);
        for field in fields::all().iter().filter(|field| field.kind == kind) {
            let path = field.path.replace("[]", "[0]");
            assert!(root.get(&path).is_some(), "{path} is not in the full document of kind {kind}");
            assert!(!field.description.is_empty(), "{path} has no description");
            assert!(!field.takes.is_empty(), "{path} takes nothing");
            let free = ["metadata.labels", "metadata.annotations"].contains(&path.as_str());
            let of_a_ve = kind == Kind::Ve && path.starts_with("spec.");
            assert_eq!(field.class.is_some(), free || of_a_ve, "{path}");
        }
    }
}

/// A document of arbitrary fields out of the full one.
fn some_fields() -> impl Strategy<Value = String> {
    let root: serde_json::Value = serde_json::to_value(read::<Ve>(Kind::Ve, FULL_VE)).unwrap();
    let names: Vec<String> = root["spec"].as_object().unwrap().keys().cloned().collect();
    proptest::sample::subsequence(names.clone(), 0..=names.len()).prop_map(move |kept| {
        let mut root = root.clone();
        root["spec"].as_object_mut().unwrap().retain(|name, _| kept.contains(name));
        serde_saphyr::to_string(&root).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_fields_round_trip(text in some_fields()) {
        round_trip(Kind::Ve, &read::<Ve>(Kind::Ve, &text));
    }

    #[test]
    fn any_text_in_a_free_field_round_trips(note in "\\PC{0,40}", label in "[a-z]([a-z0-9.]{0,9}[a-z0-9])?") {
        let mut ve: Ve = read(Kind::Ve, FULL_VE);
        ve.spec.description = Some(note);
        ve.metadata.labels.insert(label.parse().unwrap(), "yes".parse().unwrap());
        round_trip(Kind::Ve, &ve);
    }
}
