//! `vzd template`: the roots that VEs are made of.
//!
//! Works on the templates directory itself, under its lock; whether a controller runs makes no difference to it. It decides
//! nothing about archives: that is `template`'s.

use std::path::{Path, PathBuf};

use serde_json::json;
use vzd_schema::Code;
use vzd_schema::v1::OciImage;
use vzd_state::status::Document;

use crate::cli::Context;
use crate::cli::connect::look;
use crate::cli::failure::{Failure, OK, Outcome};
use crate::cli::progress::Progress;
use crate::cli::table::Table;
use crate::control::Selector;
use crate::template::{RECIPES, Recipe, Skipped, Store, Template, TemplateError};

/// Options of `vzd template`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the templates that manifests may name
    List {
        /// Show what `vzd template build` can make instead
        #[arg(long)]
        recipes: bool,
    },
    /// Have a root made by a recipe, with mmdebstrap and the machine's own package sources
    Build {
        /// The recipe, such as debian-12; `vzd template list --recipes` shows all
        #[arg(value_name = "RECIPE")]
        recipe: String,
        /// Name of the template [default: the recipe's]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Take an archive in (tar, plain or compressed with gzip, xz or zstd), or an OCI image
    Add {
        /// Name of the template
        #[arg(value_name = "NAME")]
        name: String,
        /// The archive, an absolute path or one from here; or oci:/LAYOUT[:TAG], oci:REGISTRY/NAME[:TAG][@DIGEST]
        #[arg(value_name = "SOURCE")]
        source: PathBuf,
        /// Refuse it unless it, or the image's manifest, has this SHA-256
        #[arg(long, value_name = "HEX")]
        sha256: Option<String>,
    },
    /// Make templates anew by their recipe, or of what their image is now; VEs that exist keep their root
    Update {
        /// The templates
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Compare templates with the archives and images that they were unpacked of
    Verify {
        /// The templates [default: all]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Take templates out; VEs that exist keep their root
    #[command(visible_alias = "rm")]
    Remove {
        /// The templates
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// Even if VEs name it
        #[arg(long)]
        force: bool,
    },
}

/// Carries it out.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    match &args.command {
        Command::List { recipes: true } => recipes(cx),
        Command::List { recipes: false } => list(cx),
        Command::Build { recipe, name } => {
            let recipe = Recipe::named(recipe).map_err(|e| refused(&e))?;
            let name = name.as_deref().unwrap_or(recipe.name);
            let store = store(cx)?;
            let made = {
                let _progress = Progress::of("building", store.tally());
                store.build(name, recipe)
            };
            told(name, "built", &made.map_err(|e| refused(&e))?, cx)
        }
        Command::Add { name, source, sha256 } => {
            let made = add(name, source, sha256.as_deref(), &store(cx)?)?;
            told(name, "added", &made, cx)
        }
        Command::Update { names } => {
            let store = store(cx)?;
            for name in names {
                let made = {
                    let _progress = Progress::of("building", store.tally());
                    store.update(name)
                };
                told(name, "updated", &made.map_err(|e| refused(&e))?, cx)?;
            }
            Ok(OK)
        }
        Command::Verify { names } => verify(names, cx),
        Command::Remove { names, force } => remove(names, *force, cx),
    }
}

fn add(name: &str, source: &Path, sha256: Option<&str>, store: &Store) -> Result<Template, Failure> {
    let made = if let Some(image) = source.to_str().and_then(|source| source.strip_prefix("oci:")) {
        let image: OciImage = image.parse().map_err(|e| Failure::usage(format!("{e}")))?;
        let _progress = Progress::of("fetching", store.tally());
        store.add_image(name, &image, sha256)
    } else {
        let file = std::path::absolute(source)
            .map_err(|e| Failure::new("cannot find the working directory").because(e))?;
        let _progress = Progress::of("copying", store.tally());
        store.add(name, &file, sha256)
    };
    made.map_err(|e| refused(&e))
}

fn store(cx: &Context) -> Result<Store, Failure> {
    Store::open(&cx.settings.templates_dir()).map_err(|e| refused(&e))
}

fn refused(error: &TemplateError) -> Failure {
    let failure = Failure::new(error.to_string()).coded(Code::TemplateUnavailable);
    let failure = match std::error::Error::source(error) {
        Some(cause) => failure.because(cause),
        None => failure,
    };
    match error.help() {
        Some(help) => failure.help(help),
        None => failure,
    }
}

fn told(name: &str, done: &str, template: &Template, cx: &mut Context) -> Outcome {
    if cx.out.is_data() {
        cx.out.data(&json!({
            "name": name, "root": template.root, "digest": template.digest, "skipped": template.skipped,
        }))?;
        return Ok(OK);
    }
    cx.out.line(&format!("{name}: {done}, {}", &template.digest[..template.digest.len().min(12)]))?;
    let Skipped { devices, xattrs } = template.skipped;
    if devices + xattrs > 0 {
        cx.out.line(&format!("  left out: {devices} device nodes, {xattrs} extended attributes"))?;
    }
    Ok(OK)
}

fn recipes(cx: &mut Context) -> Outcome {
    if cx.out.is_data() {
        let all: Vec<_> =
            RECIPES.iter().map(|recipe| json!({ "name": recipe.name, "title": recipe.title })).collect();
        cx.out.data(&all)?;
        return Ok(OK);
    }
    let mut table = Table::new(&["RECIPE", "MAKES"]);
    for recipe in RECIPES {
        table.row([recipe.name.into(), recipe.title.into()]);
    }
    cx.out.text(&table.render("", cx.out.colour))?;
    Ok(OK)
}

fn list(cx: &mut Context) -> Outcome {
    let listed = store(cx)?.list().map_err(|e| refused(&e))?;
    let ves = look(cx)?.list(&Selector::default(), false)?;
    if cx.out.is_data() {
        let mut all = serde_json::to_value(&listed).unwrap_or_default();
        for (value, template) in all.as_array_mut().into_iter().flatten().zip(&listed) {
            value["usedBy"] = json!(users(&template.name, &ves));
        }
        cx.out.data(&all)?;
        return Ok(OK);
    }
    let mut table = Table::new(&["NAME", "KIND", "MB", "MADE BY", "VES"]);
    for template in &listed {
        let origin = &template.origin;
        let from = origin
            .recipe
            .clone()
            .or(origin.image.clone())
            .or(origin.file.as_ref().map(|file| file.display().to_string()));
        table.row([
            template.name.as_str().into(),
            template.kind.into(),
            template.bytes.map(|bytes| (bytes >> 20).to_string()).unwrap_or_default().into(),
            from.unwrap_or_default().into(),
            users(&template.name, &ves).len().to_string().into(),
        ]);
    }
    cx.out.text(&table.render("", cx.out.colour))?;
    Ok(OK)
}

/// The VEs whose manifests name a template.
fn users<'a>(name: &str, ves: &'a [Document]) -> Vec<&'a str> {
    let names = |ve: &&Document| ve.spec.get("template").and_then(|is| is.as_str()) == Some(name);
    ves.iter().filter(names).map(|ve| ve.metadata.name.as_str()).collect()
}

fn verify(names: &[String], cx: &mut Context) -> Outcome {
    let store = store(cx)?;
    let all = if names.is_empty() { store.names() } else { names.to_vec() };
    for name in &all {
        let verified = {
            let _progress = Progress::of("comparing", store.tally());
            store.verify(name)
        };
        let digest = verified.map_err(|e| refused(&e))?;
        if !cx.out.is_data() {
            cx.out.line(&format!("{name}: sound, {}", &digest[..digest.len().min(12)]))?;
        }
    }
    if cx.out.is_data() {
        cx.out.data(&json!({ "sound": all }))?;
    }
    Ok(OK)
}

fn remove(names: &[String], force: bool, cx: &mut Context) -> Outcome {
    let store = store(cx)?;
    let ves = look(cx)?.list(&Selector::default(), false)?;
    for name in names {
        let users = users(name, &ves);
        if !force && !users.is_empty() {
            return Err(Failure::new(format!("template {name} is named by {}", users.join(", ")))
                .coded(Code::TemplateUnavailable)
                .help("they run on without it, but their roots could not be made anew; --force removes it"));
        }
        store.remove(name).map_err(|e| refused(&e))?;
        if !cx.out.is_data() {
            cx.out.line(&format!("{name}: removed"))?;
        }
    }
    if cx.out.is_data() {
        cx.out.data(&json!({ "removed": names }))?;
    }
    Ok(OK)
}
