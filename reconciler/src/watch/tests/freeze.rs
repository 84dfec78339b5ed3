//! What is broken keeps its last good version, and keeps nothing else from going on.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use vzd_schema::Code;

use super::*;

fn codes(revision: &Revision) -> Vec<Code> {
    revision.diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn a_file_that_does_not_parse_freezes_its_own_ves() {
    let lab = Lab::new();
    let path = lab.write("both.yaml", &format!("{}---\n{}", ve_with("a", "one"), ve_with("b", "one")));
    lab.write("other.yaml", &ve_with("c", "one"));
    let gone = lab.write("gone.yaml", &ve("gone"));
    let mut scanner = lab.scanner();
    scanner.scan();
    lab.replace("both.yaml", &format!("{}---\n{}  x: [", ve_with("a", "two"), ve_with("b", "two")));
    lab.replace("other.yaml", &ve_with("c", "two"));
    std::fs::remove_file(&gone).unwrap();
    let revision = scanner.scan();
    assert_eq!(codes(&revision), [Code::Syntax]);
    assert!(state(&revision, &path).starts_with("kept"));
    for name in ["a", "b"] {
        assert_eq!(description(&revision, name).as_deref(), Some("one"));
        assert_eq!(revision.ve(name).unwrap().kept.as_deref().unwrap(), revision.diagnostics);
    }
    assert_eq!(description(&revision, "c").as_deref(), Some("two"));
    assert!(!is_kept(&revision, "c"));
    assert!(revision.complete && revision.is_removed("gone", gone.to_str().unwrap()));
    let text = revision.source(path.to_str().unwrap()).unwrap();
    assert!(text.ends_with("x: ["));
    lab.replace("both.yaml", &ve_with("a", "two"));
    assert_eq!(revision.source(path.to_str().unwrap()), None, "it is another text now");
    let revision = scanner.scan();
    assert_eq!(description(&revision, "a").as_deref(), Some("two"));
    assert!(revision.is_removed("b", path.to_str().unwrap()));
}

#[test]
fn a_document_with_errors_freezes_only_itself() {
    let lab = Lab::new();
    let path = lab.write("both.yaml", &format!("{}---\n{}", ve_with("a", "one"), ve_with("b", "one")));
    let mut scanner = lab.scanner();
    scanner.scan();
    lab.replace("both.yaml", &format!("{}---\n{}", ve_with_error("a"), ve_with("b", "two")));
    let revision = scanner.scan();
    assert_eq!(codes(&revision), [Code::UnknownField]);
    assert_eq!(state(&revision, &path), "good");
    assert_eq!(description(&revision, "a").as_deref(), Some("one"));
    assert_eq!(description(&revision, "b").as_deref(), Some("two"));
    assert!(is_kept(&revision, "a") && !is_kept(&revision, "b"));
    // It may even move to another file meanwhile.
    std::fs::rename(&path, lab.path("moved.yaml")).unwrap();
    let revision = scanner.scan();
    assert_eq!(description(&revision, "a").as_deref(), Some("one"));
    lab.replace("moved.yaml", "a: [");
    let revision = scanner.scan();
    assert_eq!(names(&revision), ["a", "b"]);
}

#[test]
fn what_is_broken_from_the_start_is_left_to_the_ledger() {
    let lab = Lab::new();
    lab.write("good.yaml", &ve("good"));
    let errors = lab.write("errors.yaml", &ve_with_error("web"));
    let syntax = lab.write("syntax.yaml", "metadata: {name: db}\n x: [\n");
    let empty = lab.write("empty.yaml", " \n");
    written_a_while_ago(&empty);
    let revision = lab.scanner().scan();
    assert_eq!(names(&revision), ["good"]);
    assert_eq!(revision.broken.keys().collect::<Vec<_>>(), ["web"]);
    assert_eq!(revision.broken["web"][0].code, Code::UnknownField);
    assert_eq!(state(&revision, &errors), "good");
    assert!(state(&revision, &syntax).starts_with("unknown"));
    assert_eq!(state(&revision, &empty), "unknown: it is empty");
    assert!(revision.complete && revision.host_known);
    let errors = errors.to_str().unwrap();
    assert!(!revision.is_removed("web", errors));
    assert!(!revision.is_removed("db", errors), "the name is in the text");
    assert!(!revision.is_removed("mail", syntax.to_str().unwrap()), "it came from that file");
    assert!(!revision.is_removed("mail", empty.to_str().unwrap()));
    assert!(revision.is_removed("mail", errors));
}

#[test]
fn host_settings_that_may_be_in_a_broken_file_are_not_known() {
    let host = "apiVersion: vzd/v1\nkind: Host\nmetadata: {name: host}\nspec: {defaultTemplate: tiny}\n";
    for (text, known) in
        [(host.to_owned(), true), (format!("{host} x: ["), false), (format!("{host}  no: such\n"), false)]
    {
        let lab = Lab::new();
        lab.write("web.yaml", &ve("web"));
        lab.write("host.yaml", &text);
        assert_eq!(lab.scanner().scan().host_known, known, "{text}");
    }
    let lab = Lab::new();
    lab.write("web.yaml", &ve("web"));
    lab.write("host.yaml", host);
    let mut scanner = lab.scanner();
    scanner.scan();
    lab.replace("host.yaml", "x: [");
    let revision = scanner.scan();
    assert!(revision.host_known && revision.host().is_some_and(|held| held.kept.is_some()));
}

#[test]
fn of_two_documents_that_claim_one_thing_neither_changes() {
    let lab = Lab::new();
    let with_ctid = |name, ctid| ve(name).replace("spec: {", &format!("spec: {{ctid: {ctid}, "));
    lab.write("a.yaml", &with_ctid("a", 101));
    lab.write("b.yaml", &with_ctid("b", 102));
    let mut scanner = lab.scanner();
    assert!(scanner.scan().diagnostics.is_empty());
    lab.replace("c.yaml", &with_ctid("a", 103));
    let revision = scanner.scan();
    assert_eq!(codes(&revision), [Code::DuplicateName]);
    assert_eq!(revision.ve("a").unwrap().document.ve().unwrap().spec.ctid.unwrap().to_string(), "101");
    assert!(is_kept(&revision, "a") && !is_kept(&revision, "b"));
    std::fs::remove_file(lab.path("c.yaml")).unwrap();
    // b takes the ctid of a, whose change to another has an error and is not made.
    lab.replace("a.yaml", &with_ctid("a", 104).replace("template", "no: such, template"));
    lab.replace("b.yaml", &with_ctid("b", 101));
    let revision = scanner.scan();
    assert_eq!(codes(&revision), [Code::UnknownField, Code::DuplicateCtid]);
    assert!(is_kept(&revision, "a") && is_kept(&revision, "b"));
    // Without a version that was in force, there is none.
    let revision = lab.scanner().scan();
    assert_eq!(names(&revision), ["b"]);
    lab.replace("c.yaml", &with_ctid("b", 101));
    let revision = lab.scanner().scan();
    assert_eq!(revision.broken.keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn unsafe_files_are_not_read() {
    let lab = Lab::new();
    let path = lab.write("web.yaml", &ve_with("web", "one"));
    let gone = lab.write("gone.yaml", &ve("gone"));
    let mut scanner = lab.scanner();
    scanner.scan();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o646)).unwrap();
    std::fs::remove_file(&gone).unwrap();
    let revision = scanner.scan();
    assert_eq!(codes(&revision), [Code::UnsafeDirectory]);
    assert_eq!(state(&revision, &path), "kept: others can write to it (mode 0646)");
    assert!(is_kept(&revision, "web") && revision.complete, "its text is the one that is known");
    assert!(revision.is_removed("gone", gone.to_str().unwrap()));
    std::fs::write(&path, ve_with("web", "two by someone")).unwrap();
    let revision = scanner.scan();
    assert_eq!(description(&revision, "web").as_deref(), Some("one"));
    assert!(!revision.complete, "anything may have been moved there");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        assert!(state(&scanner.scan(), &path).contains("user 12345"));
        scanner.set_trust(Trust::Owners { also: Some(12345) });
    }
    let revision = scanner.scan();
    assert_eq!(description(&revision, "web").as_deref(), Some("two by someone"));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    assert!(is_kept(&scanner.scan(), "web"));
    scanner.set_trust(Trust::Anyone);
    assert!(!is_kept(&scanner.scan(), "web"));
}

#[test]
fn a_file_that_became_something_else_is_kept() {
    let lab = Lab::new();
    lab.write("other.yaml", &ve("other"));
    let path = lab.write("web.yaml", &ve("web"));
    let mut scanner = lab.scanner();
    let good = scanner.scan();
    let spoilers: [(&str, &dyn Fn()); 4] = [
        ("a fifo", &|| rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o644.into()).unwrap()),
        ("No such file", &|| std::os::unix::fs::symlink("nowhere", &path).unwrap()),
        ("2097152 bytes", &|| write(&path, &"#".repeat(2 << 20))),
        ("errors", &|| write(&path, "\u{0}")),
    ];
    for (why, spoil) in spoilers {
        std::fs::remove_file(&path).unwrap();
        spoil();
        let revision = scanner.scan();
        assert!(state(&revision, &path).contains(why), "{}", state(&revision, &path));
        assert!(is_kept(&revision, "web") && !is_kept(&revision, "other"), "{why}");
        assert!(!revision.is_removed("web", path.to_str().unwrap()), "{why}");
    }
    lab.replace("web.yaml", &ve("web"));
    assert_eq!(scanner.scan().digest, good.digest);
}

#[test]
fn a_file_that_is_being_written_is_waited_for() {
    let lab = Lab::new();
    let path = lab.write("all.yaml", &format!("{}---\n{}", ve("a"), ve("b")));
    let mut scanner = lab.scanner();
    scanner.scan();
    lab.write("all.yaml", &ve("a"));
    let revision = scanner.scan();
    assert_eq!(state(&revision, &path), "kept: it is being written");
    assert_eq!(names(&revision), ["a", "b"]);
    let wait = revision.look_again.unwrap();
    assert!(wait <= Duration::from_secs(2));
    std::thread::sleep(wait);
    let revision = scanner.scan();
    assert_eq!(names(&revision), ["a"]);
    assert!(revision.look_again.is_none() && revision.is_removed("b", path.to_str().unwrap()));
    lab.write("all.yaml", &format!("{}---\n{}", ve("a"), ve("b")));
    scanner.scan();
    lab.replace("all.yaml", &ve("a"));
    assert_eq!(names(&scanner.scan()), ["a"], "another file in its place was written before");
}

#[test]
fn an_empty_file_of_just_now_may_be_about_to_hold_what_is_gone_elsewhere() {
    let lab = Lab::new();
    let old = lab.write("old.yaml", &ve("web01"));
    lab.write("other.yaml", &ve("web02"));
    let mut scanner = lab.scanner();
    scanner.scan();
    // Renamed, then written to in place: caught right after the truncation.
    std::fs::remove_file(&old).unwrap();
    let new = lab.write("new.yaml", "");
    let revision = scanner.scan();
    assert!(!revision.is_removed("web01", old.to_str().unwrap()));
    assert_eq!(names(&revision), ["web01", "web02"]);
    assert!(revision.look_again.is_some());
    // Nobody has written anything for a while.
    written_a_while_ago(&new);
    let revision = scanner.scan();
    assert!(revision.is_removed("web01", old.to_str().unwrap()));
    assert_eq!(names(&revision), ["web02"]);
}

fn written_a_while_ago(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(5)).unwrap();
}
