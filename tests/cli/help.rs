//! The help of every command.

use crate::harness::{Place, same};

/// Every command that is shown, in the order of the help.
const COMMANDS: [&str; 40] = [
    "run",
    "validate",
    "plan",
    "apply",
    "drift",
    "get",
    "describe",
    "ubc",
    "net",
    "ps",
    "top",
    "events",
    "exec",
    "enter",
    "console",
    "start",
    "stop",
    "restart",
    "pause",
    "suspend",
    "checkpoint",
    "resume",
    "reinstall",
    "clone",
    "undelete",
    "snapshot",
    "template",
    "packages",
    "wait",
    "migrate",
    "receive",
    "pki",
    "status",
    "explain",
    "why",
    "schema",
    "import",
    "export",
    "compat",
    "completions",
];

#[test]
fn the_help_lists_every_command() {
    let help = Place::new().vzd_alone(&["--help"]);
    same!("help", help);
    let listed: Vec<_> = help
        .stdout
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(listed, COMMANDS);
}

#[test]
fn every_command_has_help() {
    let place = Place::new();
    for name in COMMANDS {
        let help = place.vzd_alone(&[name, "--help"]);
        assert_eq!((help.code, help.stderr.as_str()), (0, ""), "{name}");
        // The common options are the same everywhere and shown once, in the whole help.
        let own = help.stdout.split("\nCommon options:").next().unwrap_or_default();
        let after = help.stdout.split("\n\n").skip_while(|part| !part.starts_with("Common options:")).skip(1);
        let own = std::iter::once(own).chain(after).map(str::trim_end).collect::<Vec<_>>().join("\n\n");
        same!(format!("help_{name}"), own);
    }
}

#[test]
fn the_version_is_told() {
    same!("version", Place::new().vzd_alone(&["--version"]));
}
