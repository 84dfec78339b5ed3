//! `vzd validate`: what is wrong with manifests, all of it at once. Reads files and nothing else of the
//! host: no root, no controller.

mod files;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use vzd_schema::render::{Style, render};
use vzd_schema::{Diagnostic, Document, Set, parse};

use crate::cli::Context;
use crate::cli::failure::{BAD_MANIFEST, Failure, OK, Outcome};
use files::Sources;

/// Options of `vzd validate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files, directories, or - for standard input; the manifest directory if left out
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// What the files come to.
struct Checked {
    diagnostics: Vec<Diagnostic>,
    documents: usize,
    texts: BTreeMap<String, Arc<str>>,
    skipped: BTreeMap<String, String>,
}

/// Checks and shows.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    let whole = [cx.settings.manifests.clone()];
    let paths = if args.paths.is_empty() { &whole[..] } else { &args.paths };
    let checked = check(Sources::read(paths)?);
    let files = checked.texts.len();
    let errors = checked.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let warnings = checked.diagnostics.len() - errors;
    if cx.out.is_data() {
        cx.out.data(&json!({
            "files": files,
            "documents": checked.documents,
            "errors": errors,
            "warnings": warnings,
            "skipped": checked.skipped,
            "diagnostics": checked.diagnostics,
        }))?;
    } else {
        show(&checked, cx)?;
    }
    cx.out.note(&summary(files, checked.documents, errors, warnings));
    Ok(if errors == 0 { OK } else { BAD_MANIFEST })
}

/// The diagnostics are the result here, so they go to stdout.
fn show(checked: &Checked, cx: &mut Context) -> Result<(), Failure> {
    let style = if cx.out.colour { Style::Coloured } else { Style::Plain };
    for diagnostic in &checked.diagnostics {
        let text = render(diagnostic, style, |file| checked.texts.get(file).cloned());
        cx.out.line(&text)?;
    }
    Ok(())
}

fn check(sources: Sources) -> Checked {
    let Sources { texts: read, mut diagnostics, skipped } = sources;
    let mut documents: Vec<Document> = Vec::new();
    let mut texts = BTreeMap::new();
    for (name, bytes) in read {
        let parsed = parse(&name, &bytes);
        diagnostics.extend(parsed.diagnostics);
        documents.extend(parsed.documents);
        texts.insert(name, String::from_utf8_lossy(&bytes).into());
    }
    let set = Set::new(&documents);
    let together = set.check();
    // A document that clashes with another is not worth more words.
    let clear = |document: &&Document| !together.iter().any(|problem| document.is_concerned_by(problem));
    let resolved =
        documents.iter().filter(clear).filter_map(|document| set.resolve(document).err()).flatten();
    diagnostics.extend(resolved);
    diagnostics.extend(together);
    Checked { diagnostics, documents: documents.len(), texts, skipped }
}

fn summary(files: usize, documents: usize, errors: usize, warnings: usize) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (files, documents) = (count(files, "file"), count(documents, "document"));
    match (errors, warnings) {
        (0, 0) => format!("{files}, {documents}: ok"),
        (0, _) => format!("{files}, {documents}: ok, {}", count(warnings, "warning")),
        (_, 0) => format!("{files}, {documents}: {}", count(errors, "error")),
        _ => format!("{files}, {documents}: {}, {}", count(errors, "error"), count(warnings, "warning")),
    }
}
