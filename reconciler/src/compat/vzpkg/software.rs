//! Software of containers, by their own package managers, inside them and with their rights.
//!
//! What is installed this way is the container's; what its manifest says of packages stays in force, and is not spoken
//! against here.

use std::fs::File;
use std::path::Path;

use vzd_schema::v1::PackageName;
use vzd_state::status::Document;

use super::super::exit::{Refusal, Tool};
use super::super::inside;
use super::{Vzpkg, bad, code, print};
use crate::cli::connect::connect;
use crate::control::Selector;
use crate::drivers::packages::SCRIPT;
use crate::engine::Access;

/// How the script ends where there is no package manager that it knows.
const UNKNOWN: u8 = 73;

/// Where there is no release after this one that the script knows.
const NO_RELEASE: u8 = 74;

/// Carries out a command about containers; `words` begin with them, unless it is about all that run. What one comes to is no
/// matter of the others: the first code is the tool's.
pub fn command(vzpkg: &Vzpkg, command: &str, words: &[String]) -> Tool {
    let (ids, objects) = targets(vzpkg, command, words)?;
    if let [id] = &*ids {
        return one(vzpkg, command, &container(vzpkg, id)?, objects);
    }
    let mut first = 0;
    for id in &ids {
        vzpkg.say(&format!("CT {id}:"));
        let done = container(vzpkg, id).and_then(|container| one(vzpkg, command, &container, objects));
        let code = done.unwrap_or_else(|refusal| super::told(&refusal));
        first = if first == 0 { code } else { first };
    }
    Ok(first)
}

/// Which containers, and what else is said: of `list` all words are containers, of others the first, several with commas.
fn targets<'a>(vzpkg: &Vzpkg, command: &str, words: &'a [String]) -> Tool<(Vec<String>, &'a [String])> {
    if vzpkg.said.has("all") {
        let failed = |error| Refusal::of(code::SYSTEM, &error);
        let control = connect(&vzpkg.settings, Access::Read).map_err(failed)?;
        let all = control.list(&Selector { all: true, ..Selector::default() }, false).map_err(failed)?;
        let running = all.into_iter().filter(|one| one.status.init_pid.is_some());
        return Ok((running.map(|one| one.metadata.name.to_string()).collect(), words));
    }
    if command == "list" {
        return Ok((words.to_vec(), &[]));
    }
    let [ids, objects @ ..] = words else { return Err(bad(format!("{command}: of which container?"))) };
    Ok((ids.split(',').map(str::to_owned).collect(), objects))
}

fn one(vzpkg: &Vzpkg, command: &str, container: &Document, objects: &[String]) -> Tool {
    let packages = vzpkg.said.has("packages");
    let id = &container.metadata.name;
    if command == "list" {
        return list(vzpkg, container, packages);
    }
    if command == "upgrade" {
        if !objects.is_empty() {
            return Err(bad("upgrade: of a container as a whole"));
        }
        return told(vzpkg, container, ["release".to_owned()]);
    }
    if matches!(command, "install" | "remove") && !packages {
        let message = format!("there are no application templates: {command} packages with -p");
        return Err(Refusal::new(code::NO_TEMPLATE, message));
    }
    if objects.is_empty() && matches!(command, "install" | "remove" | "info" | "localinstall") {
        return Err(bad(format!("{command}: what in container {id}?")));
    }
    if command == "localinstall" {
        return objects.iter().try_fold(0, |_, file| install_file(vzpkg, container, Path::new(file)));
    }
    let parse = |name: &String| name.parse::<PackageName>().map(|name| name.to_string());
    let names: Vec<String> =
        objects.iter().map(parse).collect::<Result<_, _>>().map_err(|wrong| bad(wrong.to_string()))?;
    match command {
        "install" => {
            against(container, "absent", &names)?;
            let words = ["apply", "none"].map(str::to_owned).into_iter();
            told(vzpkg, container, words.chain(names).chain(["--".to_owned()]))
        }
        "remove" => {
            against(container, "present", &names)?;
            installed(vzpkg, container, &names)?;
            told(vzpkg, container, ["apply", "none", "--"].map(str::to_owned).into_iter().chain(names))
        }
        "update" if names.is_empty() => told(vzpkg, container, ["update", "all"].map(str::to_owned)),
        "update" => {
            installed(vzpkg, container, &names)?;
            told(vzpkg, container, std::iter::once("renew".to_owned()).chain(names))
        }
        "info" => {
            installed(vzpkg, container, &names)?;
            told(vzpkg, container, std::iter::once("show".to_owned()).chain(names))
        }
        // `status`: the only one that is left.
        _ if names.is_empty() => match script(vzpkg, container, ["outdated".to_owned()])? {
            0 => Ok(0),
            1 => Ok(code::OUTDATED),
            other => ended(other),
        },
        _ => Err(bad(format!("{command}: of one container"))),
    }
}

fn container(vzpkg: &Vzpkg, id: &str) -> Tool<Document> {
    let missing = || Refusal::new(code::NO_CONTAINER, format!("Container {id} does not exist"));
    vzpkg.look(id)?.ok_or_else(missing)
}

/// Its template, or what its package manager says is installed.
fn list(vzpkg: &Vzpkg, container: &Document, packages: bool) -> Tool {
    if packages {
        return told(vzpkg, container, ["list".to_owned()]);
    }
    let template = container.spec["template"].as_str().unwrap_or("-");
    print(&format!("{}\n", crate::cli::output::harmless(template)));
    Ok(0)
}

/// What the manifest says otherwise would be undone.
fn against(container: &Document, list: &str, names: &[String]) -> Tool<()> {
    let said = container.spec["packages"][list].as_array().map(Vec::as_slice).unwrap_or_default();
    match names.iter().find(|name| said.iter().any(|said| said == name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let message = format!("the manifest has {name} under spec.packages.{list}: change it there");
            Err(bad(message))
        }
    }
}

fn installed(vzpkg: &Vzpkg, container: &Document, names: &[String]) -> Tool<()> {
    for name in names {
        match script(vzpkg, container, ["has".to_owned(), name.clone()])? {
            0 => {}
            1 => {
                let message =
                    format!("package {name} is not installed in container {}", container.metadata.name);
                return Err(Refusal::new(code::NOT_INSTALLED, message));
            }
            other => return ended(other).map(drop),
        }
    }
    Ok(())
}

fn install_file(vzpkg: &Vzpkg, container: &Document, file: &Path) -> Tool {
    let missing = |why: String| Refusal::new(code::NOT_FOUND, why);
    let opened = File::open(file).map_err(|e| missing(format!("cannot open {}: {e}", file.display())))?;
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // It becomes the name of a file in the container.
    let plain = |c: char| c.is_ascii_alphanumeric() || ".+-_~:".contains(c);
    if name.starts_with(['.', '-']) || !name.chars().all(plain) {
        return Err(bad(format!("{name:?} is no name of a package's file")));
    }
    ended(run(vzpkg, container, ["file".to_owned(), name.to_owned()], opened)?)
}

/// Runs the script for what it does, and says how the tool ends for that.
fn told(vzpkg: &Vzpkg, container: &Document, words: impl IntoIterator<Item = String>) -> Tool {
    ended(script(vzpkg, container, words)?)
}

fn ended(status: u8) -> Tool {
    match status {
        0 => Ok(0),
        UNKNOWN => Err(Refusal::new(code::NO_MANAGER, "")),
        NO_RELEASE => Err(Refusal::new(code::NO_TEMPLATE, "")),
        other => {
            Err(Refusal::new(code::MANAGER, format!("the container's package manager failed ({other})")))
        }
    }
}

fn script(vzpkg: &Vzpkg, container: &Document, words: impl IntoIterator<Item = String>) -> Tool {
    run(vzpkg, container, words, std::io::empty())
}

fn run(
    vzpkg: &Vzpkg,
    container: &Document,
    words: impl IntoIterator<Item = String>,
    mut input: impl std::io::Read,
) -> Tool {
    if container.status.init_pid.is_none() {
        return Err(Refusal::new(code::NOT_RUNNING, "Container is not running"));
    }
    let select = Selector { names: vec![container.metadata.name.to_string()], ..Selector::default() };
    let own = ["/bin/sh", "-c", SCRIPT, "vzpkg"].map(str::to_owned);
    inside::run(&vzpkg.settings, &select, own.into_iter().chain(words), Some(&mut input))
        .map_err(|refusal| Refusal { exit: code::SYSTEM, ..refusal })
}
