//! `vzd completions`: a script for a shell.

use clap_complete::Shell;

use crate::cli::failure::{OK, Outcome};
use crate::cli::{Context, command};

/// Options of `vzd completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "vzd", &mut script);
    cx.out.bytes(&script)?;
    Ok(OK)
}
