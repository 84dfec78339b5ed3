//! OpenVZ's command line: its tools, which are this program under other names, over manifests and
//! [`Control`](crate::control::Control). One file a tool.
//!
//! A tool reads its command line as OpenVZ's did, says what that one said, and ends with its codes. It decides
//! nothing about VEs: it edits manifests and gives orders, as `vzd`'s own commands do. What OpenVZ's tool can
//! be told and vzd cannot carry out is an error, never ignored. docs/guides/vzctl.md has the whole comparison.

mod args;
mod conf;
mod conformance;
mod draft;
mod exit;
pub mod import;
mod inside;
pub mod install;
mod manifests;
mod params;
mod tools;
mod vzctl;
mod vzlist;
mod vzpkg;

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;

use crate::settings::Settings;

/// Runs a tool with its words; gives its exit code.
type Main = fn(Vec<String>) -> u8;

/// The tools, by the names they are called by.
const TOOLS: &[(&str, Main)] = &[
    ("vzctl", vzctl::main),
    ("vzlist", vzlist::main),
    ("vzpkg", vzpkg::main),
    ("vzubc", tools::vzubc::main),
    ("vzpid", tools::vzpid::main),
    ("vzcalc", tools::vzcalc::main),
    ("vzmemcheck", tools::vzmemcheck::main),
    ("vzcpucheck", tools::vzcpucheck::main),
    ("vzcfgvalidate", tools::vzcfgvalidate::main),
    ("vzcfgscale", tools::vzcfgscale::main),
    ("vzsplit", tools::vzsplit::main),
    ("vzquota", tools::vzquota::main),
];

/// The names of the tools.
pub fn names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|(name, _)| *name)
}

/// If the command line is that of a tool (called by its name, or as `vzd vzctl ...`), runs it.
pub fn called(words: impl IntoIterator<Item = OsString>) -> Option<u8> {
    let mut words = words.into_iter().map(|word| word.to_string_lossy().into_owned());
    let program = words.next()?;
    let called = Path::new(&program).file_name()?.to_string_lossy().into_owned();
    let find = |name: &str| TOOLS.iter().find(|(known, _)| *known == name).map(|(_, main)| *main);
    if let Some(main) = find(&called) {
        return Some(main(words.collect()));
    }
    let main = find(&words.next()?)?;
    Some(main(words.collect()))
}

/// Where things are, by the environment alone: the tools' own options say nothing of it.
fn settings() -> Settings {
    #[derive(Parser)]
    struct Environment {
        #[command(flatten)]
        settings: Settings,
    }
    Environment::parse_from(["vzd"]).settings
}
