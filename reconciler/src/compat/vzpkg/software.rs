//! Software of one container, by its own package manager, inside it and with its rights.
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
use crate::control::Selector;
use crate::drivers::packages::SCRIPT;

/// How the script ends where there is no package manager that it knows.
const UNKNOWN: u8 = 73;

/// Carries out a command about a container; `words` begin with it.
pub fn command(vzpkg: &Vzpkg, command: &str, words: &[String]) -> Tool {
    let [id, objects @ ..] = words else { return Err(bad(format!("{command}: of which container?"))) };
    let packages = vzpkg.said.has("packages");
    if command == "list" {
        return words.iter().try_fold(0, |_, id| list(vzpkg, &container(vzpkg, id)?, packages));
    }
    let container = container(vzpkg, id)?;
    if matches!(command, "install" | "remove") && !packages {
        let message = format!("there are no application templates: {command} packages with -p");
        return Err(Refusal::new(code::NO_TEMPLATE, message));
    }
    if objects.is_empty() && matches!(command, "install" | "remove" | "info" | "localinstall") {
        return Err(bad(format!("{command}: what in container {id}?")));
    }
    if command == "localinstall" {
        return objects.iter().try_fold(0, |_, file| install_file(vzpkg, &container, Path::new(file)));
    }
    let parse = |name: &String| name.parse::<PackageName>().map(|name| name.to_string());
    let names: Vec<String> =
        objects.iter().map(parse).collect::<Result<_, _>>().map_err(|wrong| bad(wrong.to_string()))?;
    match command {
        "install" => {
            against(&container, "absent", &names)?;
            let words = ["apply", "none"].map(str::to_owned).into_iter();
            told(vzpkg, &container, words.chain(names).chain(["--".to_owned()]))
        }
        "remove" => {
            against(&container, "present", &names)?;
            installed(vzpkg, &container, &names)?;
            told(vzpkg, &container, ["apply", "none", "--"].map(str::to_owned).into_iter().chain(names))
        }
        "update" if names.is_empty() => told(vzpkg, &container, ["update", "all"].map(str::to_owned)),
        "update" => {
            installed(vzpkg, &container, &names)?;
            told(vzpkg, &container, std::iter::once("renew".to_owned()).chain(names))
        }
        "info" => {
            installed(vzpkg, &container, &names)?;
            told(vzpkg, &container, std::iter::once("show".to_owned()).chain(names))
        }
        // `status`: the only one that is left.
        _ if names.is_empty() => match script(vzpkg, &container, ["outdated".to_owned()])? {
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
    input: impl std::io::Read,
) -> Tool {
    if container.status.init_pid.is_none() {
        return Err(Refusal::new(code::NOT_RUNNING, "Container is not running"));
    }
    let select = Selector { names: vec![container.metadata.name.to_string()], ..Selector::default() };
    let own = ["/bin/sh", "-c", SCRIPT, "vzpkg"].map(str::to_owned);
    inside::run(&vzpkg.settings, &select, own.into_iter().chain(words), input)
        .map_err(|refusal| Refusal { exit: code::SYSTEM, ..refusal })
}
