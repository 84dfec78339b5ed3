//! OpenVZ's command line: its tools, which are this program under other names, over manifests and
//! [`Control`](crate::control::Control). One file a tool.
//!
//! A tool reads its command line as OpenVZ's did, says what that one said, and ends with its codes. It decides
//! nothing about VEs: it edits manifests and gives orders, as `vzd`'s own commands do. What OpenVZ's tool can
//! be told and vzd cannot carry out is an error, never ignored. docs/guides/vzctl.md has the whole comparison.

mod args;
mod completions;
mod conf;
mod conformance;
mod draft;
mod exit;
pub mod import;
mod inside;
pub mod install;
pub mod man;
pub(crate) mod manifests;
mod options;
mod params;
mod samples;
#[cfg(test)]
mod saved;
mod tools;
mod vz_conf;
mod vzctl;
mod vzlist;
mod vzpkg;

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;

use crate::settings::Settings;

/// Runs a tool with its words; gives its exit code.
type Main = fn(Vec<String>) -> u8;

/// A tool, by the name it is called by.
struct Tool {
    name: &'static str,
    main: Main,
    /// What it is for, in a line.
    about: &'static str,
    /// How it is used, as it says itself.
    usage: &'static str,
}

macro_rules! tools {
    ($($name:ident in $($module:ident)::+: $about:literal;)*) => {
        &[$(Tool {
            name: stringify!($name),
            main: $($module)::+::main,
            about: $about,
            usage: $($module)::+::USAGE,
        }),*]
    };
}

/// All of them.
const TOOLS: &[Tool] = tools! {
    vzctl in vzctl: "containers one by one";
    vzlist in vzlist: "containers as a table or as JSON";
    vzpkg in vzpkg: "templates, and software of containers";
    vzubc in tools::vzubc: "what containers hold of their limits";
    vzpid in tools::vzpid: "which container a process is in";
    vzcalc in tools::vzcalc: "what part of the host a container uses and is promised";
    vzmemcheck in tools::vzmemcheck: "memory that containers use and are promised";
    vzcpucheck in tools::vzcpucheck: "CPU units of running containers";
    vzcfgvalidate in tools::vzcfgvalidate: "checks and repairs the numbers of a configuration";
    vzcfgscale in tools::vzcfgscale: "multiplies the numbers of a configuration";
    vzsplit in tools::vzsplit: "a configuration for one of so many equal containers";
    vzquota in tools::vzquota: "the disk quota of a container";
    vzmigrate in tools::vzmigrate: "hands containers over to another host";
};

/// The names of the tools.
pub fn names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|tool| tool.name)
}

/// If the command line is that of a tool (called by its name, or as `vzd vzctl ...`), runs it.
pub fn called(words: impl IntoIterator<Item = OsString>) -> Option<u8> {
    let mut words = words.into_iter().map(|word| word.to_string_lossy().into_owned());
    let program = words.next()?;
    let called = Path::new(&program).file_name()?.to_string_lossy().into_owned();
    let find = |name: &str| TOOLS.iter().find(|tool| tool.name == name).map(|tool| tool.main);
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
