//! `cargo xtask gen`: the generated files that are checked in, so that they can be read without building anything.
//!
//! Must be the only thing that writes them, and must write the same bytes on every machine.

use std::path::{Path, PathBuf};

use crate::run::{Context, Result, capture, cargo, fail, root};

/// What to do with the files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Write,
    /// Only say which aren't current.
    Check,
}

struct Generated {
    path: PathBuf,
    text: String,
}

/// Makes all of them and writes or compares.
pub(crate) fn run(mode: Mode) -> Result<()> {
    let mut stale = Vec::new();
    for file in [json_schema()?, error_index()?, conformance()?].into_iter().flatten() {
        let current = std::fs::read_to_string(&file.path).is_ok_and(|text| text == file.text);
        if current {
            continue;
        }
        let shown = file.path.strip_prefix(root()).unwrap_or(&file.path).display().to_string();
        match mode {
            Mode::Check => stale.push(shown),
            Mode::Write => {
                std::fs::write(&file.path, &file.text).context(file.path.display())?;
                println!("wrote {shown}");
            }
        }
    }
    match stale.as_slice() {
        [] => Ok(()),
        stale => fail(format!("out of date (run `cargo xtask gen`): {}", stale.join(", "))),
    }
}

fn json_schema() -> Result<Option<Generated>> {
    // The schema crate knows how to print it; it does no IO itself.
    if !root().join("schema/examples/gen_schema.rs").is_file() {
        return Ok(None);
    }
    let text =
        capture(&mut cargo(&["run", "--quiet", "--package", "vzd-schema", "--example", "gen_schema"]))?;
    Ok(Some(Generated {
        path: root().join("schema/ve.v1.schema.json"),
        text: format!("{}\n", text.trim_end()),
    }))
}

/// docs/vzctl-conformance.md, as the tools themselves tell it.
fn conformance() -> Result<Option<Generated>> {
    let words = ["run", "--quiet", "--package", "vzd", "--", "compat", "conformance"];
    let text = capture(&mut cargo(&words))?;
    Ok(Some(Generated {
        path: root().join("docs/vzctl-conformance.md"),
        text: format!("{}\n", text.trim_end()),
    }))
}

/// docs/errors.md: one line a page, with the page's own heading. Beside the directory, in which each page is a code's.
fn error_index() -> Result<Option<Generated>> {
    let directory = root().join("docs/errors");
    let mut pages: Vec<String> = pages(&directory)?;
    if pages.is_empty() {
        return Ok(None);
    }
    pages.sort();
    let mut text = String::from(
        "<!-- Written by `cargo xtask gen` from the pages' headings. -->\n# Errors\n\n\
         `vzd explain CODE` prints the same pages.\n\n",
    );
    for page in pages {
        let content = std::fs::read_to_string(directory.join(&page)).context(&page)?;
        let heading = content.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or(&page);
        let code = page.trim_end_matches(".md");
        let title = heading.trim_start_matches(code).trim_start_matches([':', ' ', '-', '–']);
        text.push_str(&format!("- [{code}](errors/{page}) {title}\n"));
    }
    Ok(Some(Generated { path: root().join("docs/errors.md"), text }))
}

fn pages(directory: &Path) -> Result<Vec<String>> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(Vec::new()) };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with("VZ") && name.ends_with(".md")).collect())
}
