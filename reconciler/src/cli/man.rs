//! `vzd man`, hidden: man pages for packages, one for vzd, one for each command and one for each of OpenVZ's tools.

use std::path::PathBuf;

use crate::cli::failure::{Failure, OK, Outcome};
use crate::cli::{Context, command};
use crate::compat;

/// Options of `vzd man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write all pages here; without it, vzd's own goes to standard output
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Writes the pages.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    if let Some(dir) = &args.dir {
        clap_mangen::generate_to(command(), dir).map_err(|error| {
            Failure::new(format!("cannot write man pages to {}", dir.display())).because(error)
        })?;
        compat::man::write(dir)?;
        return Ok(OK);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command())
        .render(&mut page)
        .map_err(|error| Failure::new("cannot make the man page").because(error))?;
    cx.out.bytes(&page)?;
    Ok(OK)
}
