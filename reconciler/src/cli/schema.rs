//! `vzd schema`: the JSON Schema of manifests, for editors.

use serde_json::json;
use vzd_schema::Kind;

use crate::cli::Context;
use crate::cli::failure::{OK, Outcome};

/// Options of `vzd schema`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Of this kind of document only: VE, Profile or Host
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
}

fn kind(text: &str) -> Result<Kind, String> {
    let named = Kind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text));
    named.ok_or_else(|| format!("the kinds are {}", Kind::ALL.map(Kind::as_str).join(", ")))
}

/// Prints it.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    let mut schema = vzd_schema::json_schema();
    if let Some(kind) = args.kind
        && let Some(whole) = schema.as_object_mut()
    {
        // The document of a kind has the kind's own name among the definitions.
        let found = whole
            .get("$defs")
            .and_then(|defs| defs.as_object())
            .and_then(|defs| defs.keys().find(|name| name.eq_ignore_ascii_case(kind.as_str())).cloned());
        if let Some(name) = found {
            whole.shift_remove("oneOf");
            whole.insert("title".to_owned(), json!(format!("A {kind} of a vzd manifest, version vzd/v1")));
            whole.insert("$ref".to_owned(), json!(format!("#/$defs/{name}")));
        }
    }
    cx.out.data(&schema)?;
    Ok(OK)
}
