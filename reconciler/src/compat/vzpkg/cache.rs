//! The host's templates under OpenVZ's names: what is in the templates directory is a cache, a recipe what it is made by.

use jiff::tz::TimeZone;
use vzd_state::status::Document;

use super::super::exit::{Refusal, Tool};
use super::{Vzpkg, bad, code, print};
use crate::cli::connect::connect;
use crate::control::Selector;
use crate::engine::Access;
use crate::template::{Listed, RECIPES, Recipe, Store, TemplateError};

fn store(vzpkg: &Vzpkg) -> Tool<Store> {
    Store::open(&vzpkg.settings.templates_dir()).map_err(|error| refused(&error))
}

/// With the causes, as it is only one line.
fn refused(error: &TemplateError) -> Refusal {
    let code = match error {
        TemplateError::UnknownRecipe(_) | TemplateError::NoRecipe(_) => code::NO_TEMPLATE,
        _ => code::SYSTEM,
    };
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    Refusal::new(code, causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}")))
}

/// When an archive was made, in UTC.
fn made(listed: &Listed) -> Option<String> {
    let changed = std::fs::metadata(listed.path.as_ref()?).ok()?.modified().ok()?;
    let at = jiff::Timestamp::try_from(changed).ok()?.to_zoned(TimeZone::UTC);
    Some(at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// One line a template: its name and when it was made; or the names of recipes.
pub fn list(vzpkg: &Vzpkg) -> Tool {
    if vzpkg.said.has("packages") {
        return Err(bad("list -p: of which container?"));
    }
    if vzpkg.said.has("available") {
        print(&RECIPES.iter().map(|recipe| format!("{}\n", recipe.name)).collect::<String>());
        return Ok(0);
    }
    let listed = store(vzpkg)?.list().map_err(|error| refused(&error))?;
    // What is made when it is first used, and what is used as it lies there, is no cache.
    let listed = listed.iter().filter(|one| !vzpkg.said.has("cached") || one.kind == "archive");
    let line = |one: &Listed| match made(one) {
        Some(at) => format!("{:<34} {at}\n", one.name),
        None => format!("{}\n", one.name),
    };
    print(&listed.map(line).collect::<String>());
    Ok(0)
}

fn listed(vzpkg: &Vzpkg, name: &str) -> Tool<Option<Listed>> {
    let listed = store(vzpkg)?.list().map_err(|error| refused(&error))?;
    Ok(listed.into_iter().find(|one| one.name == name))
}

/// Makes, makes anew or takes out; of all that can be, if none is named.
pub fn change(vzpkg: &Vzpkg, command: &str, names: &[String]) -> Tool {
    let store = store(vzpkg)?;
    let there = store.list().map_err(|error| refused(&error))?;
    let is_there = |name: &str| there.iter().find(|one| one.name == name && one.kind == "archive");
    let names: Vec<String> = match (names, command) {
        ([], "create") => {
            let missing = RECIPES.iter().filter(|recipe| is_there(recipe.name).is_none());
            missing.map(|recipe| recipe.name.to_owned()).collect()
        }
        ([], "update") => {
            there.iter().filter(|one| one.origin.recipe.is_some()).map(|one| one.name.clone()).collect()
        }
        ([], _) => return Err(bad("remove cache: of which templates?")),
        (names, _) => names.to_vec(),
    };
    let used = if command == "remove" { used(vzpkg)? } else { Vec::new() };
    for name in &names {
        let refused = |error: TemplateError| refused(&error);
        match (command, is_there(name)) {
            ("create", Some(_)) => {
                return Err(Refusal::new(code::CACHED, format!("The cache of {name} exists already")));
            }
            ("create", None) => {
                let recipe = Recipe::named(name).map_err(refused)?;
                vzpkg.say(&format!("Creating cache of {name}"));
                store.build(name, recipe).map_err(refused)?;
            }
            (_, None) => {
                return Err(Refusal::new(code::NOT_CACHED, format!("There is no cache of {name}")));
            }
            ("update", Some(_)) => {
                vzpkg.say(&format!("Updating cache of {name}"));
                store.update(name).map_err(refused)?;
            }
            (_, Some(_)) => {
                if let Some((_, ve)) = used.iter().find(|(template, _)| template == name) {
                    let message = format!(
                        "container {ve} names template {name}: `vzd template remove --force` removes it all the same"
                    );
                    return Err(Refusal::new(code::SYSTEM, message));
                }
                store.remove(name).map_err(refused)?;
                vzpkg.say(&format!("The cache of {name} was removed"));
            }
        }
    }
    Ok(0)
}

/// Templates that manifests name, with who names them.
fn used(vzpkg: &Vzpkg) -> Tool<Vec<(String, String)>> {
    let failed = |error| Refusal::of(code::SYSTEM, &error);
    let control = connect(&vzpkg.settings, Access::Read).map_err(failed)?;
    let ves = control.list(&Selector::default(), false).map_err(failed)?;
    let names =
        |ve: &Document| Some((ve.spec["template"].as_str()?.to_owned(), ve.metadata.name.to_string()));
    Ok(ves.iter().filter_map(names).collect())
}

/// What is known of a template.
pub fn info(vzpkg: &Vzpkg, name: &str) -> Tool {
    let listed = listed(vzpkg, name)?;
    let recipe = listed.as_ref().and_then(|one| one.origin.recipe.as_deref()).unwrap_or(name);
    let recipe = Recipe::named(recipe).ok();
    if listed.is_none() && recipe.is_none() {
        return Err(Refusal::new(code::NO_TEMPLATE, format!("there is no template {name}")));
    }
    let mut lines = vec![("Name", name.to_owned())];
    lines.extend(recipe.map(|recipe| ("Summary", recipe.title.to_owned())));
    lines.push(("Cached", listed.as_ref().and_then(made).unwrap_or_else(|| "no".to_owned())));
    let path = listed.as_ref().and_then(|one| one.path.as_ref());
    lines.extend(path.map(|path| ("Path", path.display().to_string())));
    print(&lines.iter().map(|(key, value)| format!("{:<9}{value}\n", format!("{key}:"))).collect::<String>());
    Ok(0)
}

/// Whether there is one to make containers of.
pub fn status(vzpkg: &Vzpkg, name: &str) -> Tool {
    match listed(vzpkg, name)? {
        Some(_) => Ok(0),
        None if Recipe::named(name).is_ok() => {
            Err(Refusal::new(code::NOT_CACHED, format!("There is no cache of {name}")))
        }
        None => Err(Refusal::new(code::NO_TEMPLATE, format!("there is no container and no template {name}"))),
    }
}
