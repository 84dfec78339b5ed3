//! What is generated from the format and from the command line itself.

use serde_json::Value;

use crate::harness::{Place, same};

#[test]
fn the_schema_is_the_one_that_is_checked_in() {
    let said = Place::new().vzd(&["schema"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let printed: Value = serde_json::from_str(&said.stdout).unwrap();
    let checked_in: Value = serde_json::from_str(include_str!("../../schema/ve.v1.schema.json")).unwrap();
    assert_eq!(printed, checked_in);
}

#[test]
fn the_schema_of_one_kind_points_at_that_kind() {
    for kind in ["VE", "profile", "Host"] {
        let said = Place::new().vzd(&["schema", "--kind", kind]);
        let schema: Value = serde_json::from_str(&said.stdout).unwrap();
        let pointer = schema["$ref"].as_str().unwrap().trim_start_matches('#');
        let document = schema.pointer(pointer).unwrap();
        assert!(document["properties"]["spec"].is_object(), "{kind}");
        assert!(schema.get("oneOf").is_none(), "{kind}");
    }
    assert_eq!(Place::new().vzd(&["schema", "--kind", "Pod"]).code, 64);
}

#[test]
fn codes_and_fields_are_explained() {
    let place = Place::new();
    let codes = place.vzd(&["explain"]);
    assert!(codes.stdout.lines().all(|line| line.starts_with("VZ0")), "{codes}");
    for line in codes.stdout.lines() {
        let code = &line[..6];
        let page = place.vzd(&["explain", code]);
        assert!(page.code == 0 && page.stdout.starts_with(&format!("# {code}")), "{page}");
    }
    same!("explain_field", place.vzd(&["explain", "spec.hostname"]));
}

#[test]
fn there_are_completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = Place::new().vzd(&["completions", shell]);
        assert!(said.code == 0 && said.stdout.contains("undelete"), "{shell}");
    }
}

/// What bash makes of the script, for the last of these words.
#[test]
fn openvzs_tools_are_completed() {
    let place = Place::new();
    place.write("completions", &place.vzd_alone(&["compat", "completions"]).stdout);
    let complete = |function: &str, words: &[&str]| {
        let script = format!(
            "source completions; vzlist() {{ printf ' 101\\n 1017\\n'; }}; COMP_WORDS=({}); COMP_CWORD={}; {function}; echo ${{COMPREPLY[*]}}",
            words.join(" "),
            words.len() - 1
        );
        let mut bash = std::process::Command::new("bash");
        let ended = bash.args(["-c", &script]).current_dir(place.path()).output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
        String::from_utf8(ended.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete("_vzctl", &["vzctl", "sta"]), "start status");
    assert_eq!(complete("_vzctl", &["vzctl", "start", "10"]), "101 1017");
    assert_eq!(complete("_vzctl", &["vzctl", "set", "101", "--numpr"]), "--numproc");
    assert_eq!(complete("_vzlist", &["vzlist", "-o", "smart"]), "smart_name");
    assert_eq!(complete("_vzpkg", &["vzpkg", "create", "ca"]), "cache");
    assert_eq!(complete("_vzpkg", &["vzpkg", "upg"]), "upgrade");
    assert_eq!(complete("_vzlist", &["vzlist", "--no-h"]), "--no-header");
    let tool = |name: &str, word: &str| complete(&format!("_vz_tool {name}"), &[name, word]);
    for (name, word, is) in [
        ("vzcalc", "1017", "1017"),
        ("vzquota", "st", "stat"),
        ("vzubc", "--qm", "--qmaxheld"),
        ("vzmigrate", "--check", "--check-only"),
        ("vzcfgvalidate", "compl", "completions"),
        ("vzcfgscale", "-a", "-a"),
        ("vzmemcheck", "--a", "--absolute"),
    ] {
        assert_eq!(tool(name, word), is, "{name}");
    }
}

#[test]
fn there_is_a_man_page_for_every_command() {
    let place = Place::new();
    place.write("man/x", "");
    assert_eq!(place.vzd(&["man", "man"]).code, 0);
    for page in ["vzd.1", "vzd-exec.1", "vzd-validate.1"] {
        let text = std::fs::read_to_string(place.path().join("man").join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
    for tool in place.vzd_alone(&["compat", "list"]).stdout.lines() {
        let page = place.path().join("man").join(format!("{tool}.8"));
        let text = std::fs::read_to_string(&page).unwrap();
        for title in ["SYNOPSIS", "NOTES", "\"SEE ALSO\"", "\"EXIT STATUS\""] {
            assert!(text.contains(&format!(".SH {title}")), "{tool}: {title}: {text}");
        }
        assert!(text.contains(&format!(".TH {tool} 8")), "{text}");
        assert!(
            tool == "vzctl" || text.contains(".SH \"COMPARED WITH OPENVZ\"") && text.contains(".SH OPTIONS"),
            "{text}"
        );
    }
    let vzctl = std::fs::read_to_string(place.path().join("man/vzctl.8")).unwrap();
    assert!(vzctl.contains("snapshot\\-list") && vzctl.contains("spec.beancounters.numproc"), "{vzctl}");
    assert!(!place.path().join("man/vzd-keeper.1").exists());
    assert!(place.vzd(&["man"]).stdout.contains(".TH vzd 1"));
}

#[test]
fn the_table_of_openvzs_commands_is_the_one_that_is_checked_in() {
    let said = Place::new().vzd_alone(&["compat", "conformance"]);
    assert_eq!(said.stdout, include_str!("../../docs/vzctl-conformance.md"), "run `cargo xtask gen`");
}
