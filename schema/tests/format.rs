//! The format as a whole: that what is checked in is current, that good manifests read, that fields
//! are described and classed, and that every error code has its page.

mod common;

use common::stories;
use vzd_schema::{Code, Kind, Set, UpdateClass, explain, json_schema, merge, parse, update_class};

#[test]
fn the_checked_in_schema_is_current() {
    let checked_in: serde_json::Value = serde_json::from_str(include_str!("../ve.v1.schema.json")).unwrap();
    assert!(
        checked_in == json_schema(),
        "run: cargo run -p vzd-schema --example gen_schema > schema/ve.v1.schema.json"
    );
}

#[test]
fn good_manifests_read() {
    for (name, bytes) in stories("good") {
        let parsed = parse(&name, &bytes);
        assert_eq!(parsed.diagnostics, [], "{name}");
        let set = Set::new(&parsed.documents);
        assert_eq!(set.check(), [], "{name}");
        let resolved: Vec<_> = parsed
            .documents
            .iter()
            .filter(|document| document.kind == Some(Kind::Ve))
            .map(|document| set.resolve(document).unwrap_or_else(|wrong| panic!("{name}: {wrong:?}")).spec)
            .collect();
        let manifests: Vec<_> = parsed.documents.iter().map(|document| &document.manifest).collect();
        insta::assert_json_snapshot!(name, (manifests, resolved));
    }
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    for code in Code::ALL {
        let page = code.page();
        assert!(page.starts_with(&format!("# {code}: {}\n", code.title())), "{code}: {page}");
        assert!(page.contains("## Example") && page.contains("## Cure"), "{code}");
        assert!((8..=40).contains(&page.lines().count()), "{code}");
        assert_eq!(code.as_str().parse::<Code>(), Ok(*code));
        assert_eq!(explain(code.as_str()).as_deref(), Some(page));
    }
    for (name, _) in stories("../../docs/errors") {
        assert!(name.parse::<Code>().is_ok(), "docs/errors/{name}.md explains no code");
    }
}

#[test]
fn every_manifest_code_is_shown_by_a_snapshot() {
    let told: String =
        stories("snapshots").into_iter().map(|(_, text)| String::from_utf8(text).unwrap()).collect();
    // Those two have no story, because their fields are not carried out yet, or take a huge file.
    let without = [Code::DuplicateAddress, Code::DuplicateMac, Code::TooMuch];
    for code in Code::ALL.iter().filter(|code| code.as_str() < "VZ0200" && !without.contains(code)) {
        assert!(told.contains(code.as_str()), "no story of {code}");
    }
}

#[test]
fn update_classes() {
    let cases = [
        ("spec.cpu.cpulimit", Some(UpdateClass::Live)),
        ("spec.template", Some(UpdateClass::Recreate)),
        ("spec.init", Some(UpdateClass::Restart)),
        ("spec.security.capabilities.add", Some(UpdateClass::Restart)),
        ("spec.security.capabilities.add[0]", Some(UpdateClass::Restart)),
        ("spec.security.userNamespace.start", Some(UpdateClass::Recreate)),
        ("spec.network.interfaces[3].mac", Some(UpdateClass::Reattach)),
        ("spec.network.interfaces[].mtu", Some(UpdateClass::Live)),
        ("spec.health.exec", Some(UpdateClass::Live)),
        ("metadata.labels.role", Some(UpdateClass::Live)),
        ("metadata.name", None),
        ("spec.nonsense", None),
        ("spec.cpu.cpulimit.deeper", None),
        ("", None),
    ];
    for (path, class) in cases {
        assert_eq!(update_class(path), class, "{path}");
    }
}

#[test]
fn fields_are_explained() {
    let told = [
        "spec.cpu.cpuunits",
        "spec.mounts",
        "state",
        "health.exec",
        "mac",
        "metadata.labels",
        "subids",
        "spec",
    ]
    .map(|what| explain(what).unwrap_or_else(|| panic!("{what}")))
    .join("\n");
    insta::assert_snapshot!("explain", told);
    assert_eq!(explain("nonsense"), None);
    assert_eq!(explain(""), None);
}

#[test]
fn merging_keeps_places() {
    let text = "\
apiVersion: vzd/v1
kind: Profile
metadata: {name: basic}
spec:
  template: debian-12
  bootOrder: 5
  hostname: from-profile
  mounts: [{source: /a, target: /a}]
  security: {features: {fuse: true, tun: true}}
";
    let ve = "\
apiVersion: vzd/v1
kind: VE
metadata: {name: web01}
spec:
  profile: basic
  hostname: null
  mounts: []
  security: {features: {tun: false}}
";
    let (profile, ve) = (parse("profile.yaml", text.as_bytes()), parse("ve.yaml", ve.as_bytes()));
    let set = Set::new(profile.documents.iter().chain(&ve.documents));
    let resolved = set.resolve(&ve.documents[0]).unwrap();
    assert_eq!(resolved.spec.boot_order, Some(5));
    assert_eq!(resolved.spec.hostname, None);
    assert_eq!(resolved.spec.mounts, []);
    assert_eq!(
        (resolved.spec.security.features.fuse, resolved.spec.security.features.tun),
        (Some(true), Some(false))
    );
    let place = |path: &str| resolved.tree.get(path).unwrap().span.to_string();
    assert_eq!(place("spec.bootOrder"), "profile.yaml:6:14");
    assert_eq!(place("spec.security.features.fuse"), "profile.yaml:9:31");
    assert_eq!(place("spec.security.features.tun"), "ve.yaml:8:30");
    assert_eq!(resolved.tree.get("metadata.name").unwrap().text(), Some("web01"));

    let tree = &profile.documents[0].tree;
    assert_eq!(merge(tree, tree), *tree);
}

#[test]
fn a_thousand_ves_stay_small() {
    // A guard against types that grow unnoticed: a VE known is its spec and its tree.
    assert!(size_of::<vzd_schema::v1::Ve>() < 3500, "{}", size_of::<vzd_schema::v1::Ve>());
    assert!(size_of::<vzd_schema::Node>() <= 64);
}
