//! `vzd enter`: a shell of root inside a VE.

use crate::cli::Context;
use crate::cli::exec::{become_inside, environment, inside, one, order};
use crate::cli::failure::Outcome;
use crate::control::Selector;
use crate::runtime::enter;

/// Runs inside the VE: root's shell as its password file names it, else the first that is there.
const LOGIN: &str = r#"
home=/root shell=
while IFS=: read -r name pass uid gid gecos dir command; do
  if [ "$uid" = 0 ]; then home=$dir shell=$command; break; fi
done 2>/dev/null </etc/passwd
cd "$home" 2>/dev/null || cd /
for SHELL in "$shell" /bin/bash /bin/sh; do
  case $SHELL in */nologin|*/false|"") continue;; esac
  if [ -x "$SHELL" ]; then export SHELL; exec "$SHELL" -l; fi
done
exec /bin/sh
"#;

/// Options of `vzd enter`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VE, by name or ctid
    #[arg(value_name = "VE")]
    ve: String,
}

/// Becomes the shell.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let entrance = one(&cx.settings, &Selector { names: vec![args.ve], ..Selector::default() })?;
    let command = enter::Command { argv: login(), env: environment(Vec::new()), cwd: "/".into() };
    Err(become_inside(order(&cx.settings, entrance, command, inside::on_terminal())))
}

/// The command that becomes root's shell.
pub fn login() -> Vec<String> {
    ["/bin/sh", "-c", LOGIN, "sh"].map(str::to_owned).to_vec()
}
