//! `vzpkg`: templates ("cache") of the host, and software of one container by its own package manager. This file
//! reads the command line; what is done about either is in a file of its own.

mod cache;
mod software;

use vzd_schema::render::harmless;
use vzd_state::status::Document;

use super::args::{self, Opt, Said, flag, value};
use super::exit::{Refusal, Tool};
use super::settings;
use crate::cli::connect::connect;
use crate::cli::output::note;
use crate::control::Selector;
use crate::engine::Access;
use crate::settings::Settings;

/// The exit codes of vzpkg (vztt's), by name.
mod code {
    /// Something that the system refused.
    pub const SYSTEM: u8 = 1;
    /// A file is not there.
    pub const NOT_FOUND: u8 = 9;
    /// Only root may.
    pub const NOT_ROOT: u8 = 10;
    /// The container does not run.
    pub const NOT_RUNNING: u8 = 15;
    /// The container is not known.
    pub const NO_CONTAINER: u8 = 16;
    /// There is something newer.
    pub const OUTDATED: u8 = 22;
    /// There is no cache of the template.
    pub const NOT_CACHED: u8 = 23;
    /// The template is not known.
    pub const NO_TEMPLATE: u8 = 24;
    /// It is not installed in the container.
    pub const NOT_INSTALLED: u8 = 26;
    /// There is a cache of the template.
    pub const CACHED: u8 = 29;
    /// The command line is wrong.
    pub const BAD_ARGUMENT: u8 = 35;
    /// The package manager failed.
    pub const MANAGER: u8 = 70;
    /// The container has no package manager that is known.
    pub const NO_MANAGER: u8 = 73;
}

/// Options that mean something here. Others of vztt's are errors, never ignored.
const KNOWN: &[Opt] = &[
    flag("packages").short('p'),
    flag("os").short('O'),
    flag("cached").short('c'),
    flag("available"),
    flag("all"),
    flag("quiet").short('q'),
    value("for-os").short('F'),
    // There is nothing more to be told.
    value("debug").short('d'),
    flag("help").short('h'),
];

pub(crate) const USAGE: &str = "\
Usage: vzpkg list [-O] [-c | --available]             templates of the host: those there are, or could be made
       vzpkg list [-p] CT ...                         the template or, with -p, the packages of containers
       vzpkg create | update | remove cache [TEMPLATE ...]
       vzpkg info TEMPLATE
       vzpkg info -p CT PACKAGE ...
       vzpkg install | remove -p CT PACKAGE ...
       vzpkg update [-p] CT [PACKAGE ...]
       vzpkg localinstall | localupdate CT FILE ...
       vzpkg upgrade CT                               to the distribution's next release
       vzpkg status CT|TEMPLATE
CT is a CTID or a name, or several with commas; --all in its place is all that run.
Options: -q, --quiet
";

/// What every command gets.
struct Vzpkg {
    settings: Settings,
    said: Said,
}

/// Runs the command line.
pub fn main(words: Vec<String>) -> u8 {
    run(&words).unwrap_or_else(|refusal| told(&refusal))
}

/// Tells why, and gives the code.
fn told(refusal: &Refusal) -> u8 {
    refusal.message.lines().for_each(|line| note(&harmless(line)));
    refusal.exit
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(code::BAD_ARGUMENT, message)
}

fn run(words: &[String]) -> Tool {
    let said = args::parse(KNOWN, words).map_err(|why| bad(format!("{why}\n{USAGE}")))?;
    let (command, rest) = said.words.split_first().ok_or_else(|| bad(USAGE))?;
    if said.has("help") || command == "help" {
        print(USAGE);
        return Ok(0);
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Refusal::new(code::NOT_ROOT, "This program can only be run under root."));
    }
    let (command, rest) = (command.clone(), rest.to_vec());
    let vzpkg = Vzpkg { settings: settings(), said };
    let about = rest.first().map(String::as_str);
    let all = vzpkg.said.has("all");
    match (command.as_str(), about) {
        ("create" | "update" | "remove", Some("cache")) => cache::change(&vzpkg, &command, &rest[1..]),
        ("create" | "update" | "remove" | "list", Some("appcache")) => {
            Err(bad("there are no application templates: packages are said in `packages` of a manifest"))
        }
        ("install" | "update" | "remove", Some("template")) => {
            Err(bad("templates are built by recipes that are vzd's own: `vzpkg list --available`"))
        }
        ("update", Some("metadata")) | ("clean", _) => {
            vzpkg.say(
                "Nothing is kept between two builds of templates: there is nothing to be cleaned or renewed",
            );
            Ok(0)
        }
        ("link", Some(id)) => match vzpkg.look(id)? {
            Some(_) => {
                vzpkg.say(
                    "Files of the template are shared for as long as the container does not change them",
                );
                Ok(0)
            }
            None => Err(Refusal::new(code::NO_CONTAINER, format!("Container {id} does not exist"))),
        },
        ("fetch", _) => {
            Err(bad("fetch: `vzpkg create cache` fetches what it builds of, and keeps nothing else"))
        }
        ("create", Some("image")) => Err(bad("there is no ploop; `disk.backend: image` makes one for a VE")),
        ("localupdate", _) if all || about.is_some() => software::command(&vzpkg, "localinstall", &rest),
        ("list" | "install" | "update" | "remove" | "info" | "status" | "localinstall" | "upgrade", _)
            if all =>
        {
            software::command(&vzpkg, &command, &rest)
        }
        ("list", None) => cache::list(&vzpkg),
        ("info", Some(name)) if !vzpkg.said.has("packages") => cache::info(&vzpkg, name),
        ("status", Some(name)) if !name.contains(',') && vzpkg.look(name)?.is_none() => {
            cache::status(&vzpkg, name)
        }
        ("upgrade", Some("area")) => {
            Err(bad("templates of other releases are made of their own: `vzpkg create cache`"))
        }
        (
            "list" | "install" | "update" | "remove" | "info" | "status" | "localinstall" | "upgrade",
            Some(_),
        ) => software::command(&vzpkg, &command, &rest),
        (
            "install" | "remove" | "info" | "status" | "localinstall" | "localupdate" | "upgrade" | "update"
            | "create" | "link",
            None,
        ) => Err(bad(format!("{command}: of what?\n{USAGE}"))),
        _ => Err(bad(format!("Unknown command: {command}\n{USAGE}"))),
    }
}

impl Vzpkg {
    /// Says what is done; nobody has to hear it.
    fn say(&self, line: &str) {
        if !self.said.has("quiet") {
            print(&format!("{}\n", harmless(line)));
        }
    }

    /// The container of that number or name, if there is one.
    fn look(&self, id: &str) -> Tool<Option<Document>> {
        let failed = |error| Refusal::of(code::SYSTEM, &error);
        let control = connect(&self.settings, Access::Read).map_err(failed)?;
        let select = Selector { names: vec![id.to_owned()], ..Selector::default() };
        match control.list(&select, false) {
            Ok(documents) => Ok(documents.into_iter().next()),
            Err(error) if error.code == "VZ0307" => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Writes to stdout; a reader that went away is no error.
fn print(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
