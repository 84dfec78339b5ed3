//! Running something in a container for a tool that goes on afterwards.

use std::io::{Read, Write};
use std::process::Stdio;

use super::exit::{self, Refusal, Tool};
use crate::cli::exec::{environment, one, order};
use crate::cli::failure::NOT_ENTERED;
use crate::control::Selector;
use crate::runtime::enter;
use crate::settings::Settings;

/// Runs a program in a running container, with its output as this tool's and `input` on its standard input; this tool's own
/// if that is none.
/// Returns its status, 128 and the signal's number if one ended it.
pub fn run(
    settings: &Settings,
    container: &Selector,
    argv: impl IntoIterator<Item = String>,
    input: Option<&mut dyn Read>,
) -> Tool {
    let failed = |message: String| Refusal::new(exit::SYSTEM, message);
    let entrance = one(settings, container).map_err(|failure| failed(failure.message))?;
    let argv = argv.into_iter().collect();
    let command = enter::Command { argv, env: environment(Vec::new()), cwd: "/".into() };
    let mut order = order(settings, entrance, command, false);
    order.supervised = true;
    let sealed = order.seal().map_err(|error| failed(error.to_string()))?;
    let mut child = sealed
        .command()
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::inherit() })
        .spawn()
        .map_err(|error| failed(format!("cannot execute /proc/self/exe: {error}")))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // One that does not read it all tells why by its status.
        let _ = std::io::copy(input, &mut stdin).and_then(|_| stdin.flush());
    }
    let status = child.wait().map_err(|error| failed(format!("cannot wait for a program: {error}")))?;
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(NOT_ENTERED) => Err(failed("the container could not be entered".to_owned())),
        Some(code) => Ok(code),
        None => Err(failed(format!("the program {status}"))),
    }
}
