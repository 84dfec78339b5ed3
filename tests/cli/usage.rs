//! Wrong usage: 64 everywhere, and a word about what would be right.

use crate::harness::{Place, same};

#[test]
fn wrong_usage_ends_with_64() {
    let place = Place::new();
    let cases: [&[&str]; 17] = [
        &[],
        &["nonsense"],
        &["--nonsense"],
        &["get", "-o", "xml"],
        &["get", "-l", "role"],
        &["start"],
        &["stop", "--all", "web"],
        &["exec", "web", "ls"],
        &["exec", "web"],
        &["exec", "-t", "-T", "web", "--", "ls"],
        &["exec", "-t", "--all", "--", "ls"],
        &["exec", "-e", "NAME", "web", "--", "ls"],
        &["exec", "-j", "0", "web", "--", "ls"],
        &["wait", "web", "--for", "Ready"],
        &["wait", "web", "--for", "condition=Raedy"],
        &["wait", "web", "--timeout", "soon"],
        &["validate", "nowhere.yaml"],
    ];
    for words in cases {
        let said = place.vzd(words);
        assert_eq!(said.code, 64, "{words:?}: {said}");
        assert_eq!(said.stdout, "", "{words:?}");
    }
}

#[test]
fn a_mistyped_command_is_answered_with_the_right_one() {
    same!("usage_mistyped", Place::new().vzd_alone(&["aply"]));
}

#[test]
fn a_command_about_no_ve_says_how_to_name_one() {
    same!("usage_no_ve", Place::new().vzd_alone(&["start"]));
}

#[test]
fn exec_without_dashes_shows_how_it_is_written() {
    same!("usage_exec", Place::new().vzd_alone(&["exec", "web", "ls"]));
}

#[test]
fn without_a_command_it_says_which_there_are() {
    let place = Place::new();
    for said in [place.vzd(&[]), place.vzd_alone(&[])] {
        assert_eq!(said.code, 64);
        assert!(said.stderr.contains("Make it so: one pass, then exit"), "{said}");
        assert!(!said.stderr.contains("keeper"), "{said}");
    }
}
