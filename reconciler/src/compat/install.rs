//! `vzd compat install DIR`: the names of OpenVZ's tools as symbolic links to this program.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::cli::Context;
use crate::cli::failure::{Failure, OK, Outcome};
use crate::compat::{completions, conformance, names};

/// Options of `vzd compat`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make links to vzd by the names of OpenVZ's tools; nothing that is not such a link is overwritten
    Install {
        /// Where, such as /usr/local/sbin
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Take those links away again
    Uninstall {
        /// Where
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Name the tools
    List,
    /// Print a script that completes their command lines: for bash, and for zsh after bashcompinit
    Completions,
    /// Print docs/vzctl-conformance.md
    #[command(hide = true)]
    Conformance,
}

/// Carries it out.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    let own = std::env::current_exe()
        .map_err(|error| Failure::new("cannot tell where this program is").because(error))?;
    match &args.command {
        Command::Conformance => cx.out.text(&conformance::page())?,
        Command::Completions => cx.out.text(&completions::script())?,
        Command::List => names().try_for_each(|name| cx.out.line(name))?,
        Command::Install { dir } => {
            // All or nothing: what is in the way of one is told before any is made.
            let missing: Vec<PathBuf> = names()
                .map(|name| dir.join(name))
                .filter_map(|link| match is_ours(&link, &own) {
                    Ok(true) => None,
                    Ok(false) => Some(Ok(link)),
                    Err(failure) => Some(Err(failure)),
                })
                .collect::<Result<_, _>>()?;
            for link in missing {
                symlink(&own, &link).map_err(|error| {
                    Failure::new(format!("cannot make {}", link.display())).because(error)
                })?;
                cx.out.line(&format!("{} -> {}", link.display(), own.display()))?;
            }
        }
        Command::Uninstall { dir } => {
            for link in names().map(|name| dir.join(name)) {
                if is_ours(&link, &own)? {
                    fs::remove_file(&link).map_err(|error| {
                        Failure::new(format!("cannot remove {}", link.display())).because(error)
                    })?;
                }
            }
        }
    }
    Ok(OK)
}

/// Whether a link of ours is there; something else there is an error.
fn is_ours(link: &Path, own: &Path) -> Result<bool, Failure> {
    match fs::read_link(link) {
        Ok(target) if target == own => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        _ => Err(Failure::new(format!("{} is there and is not a link to {}", link.display(), own.display()))
            .help("nothing was made; take it away first, or choose another directory")),
    }
}
