//! `vzctl reinstall`: a container's root anew, of its template as that is now. Its configuration stays, and so do its users unless
//! others are asked for; what it had is kept as an archive.

use super::super::args::{self, Opt, flag, value};
use super::super::exit::{self, OK, Refusal, Tool};
use super::Vzctl;
use crate::cli::reinstall::carry_out;
use crate::engine::Access;

const KNOWN: &[Opt] = &[
    flag("skipbackup"),
    flag("resetpwdb"),
    flag("skipscripts"),
    flag("listscripts"),
    value("scripts"),
    flag("desc"),
];

/// Makes it anew.
pub fn reinstall(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let said = args::parse(KNOWN, words).map_err(|why| Refusal::new(exit::BAD_VALUE, why))?;
    if let Some(word) = said.words.first() {
        return Err(Refusal::new(exit::SYNTAX, format!("Invalid syntax: `{word}` is not expected")));
    }
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    // Templates come without scripts for it: there are none to list, and none to skip.
    if said.has("listscripts") {
        return Ok(OK);
    }
    if let Some(scripts) = said.last("scripts") {
        return Err(Refusal::new(exit::REINSTALL, format!("there are no scripts for it, and no {scripts}")));
    }
    if container.runs() {
        return Err(Refusal::new(exit::RUNNING, "Container is running: stop it first"));
    }
    vzctl.say("Reinstalling container...");
    let choices = (said.has("skipbackup"), said.has("resetpwdb"));
    let archive = carry_out(&*control, &vzctl.settings, &container.name, choices).map_err(|failure| {
        let exit =
            if failure.code.as_deref() == Some("VZ0304") { exit::NO_TEMPLATE } else { exit::REINSTALL };
        Refusal::new(exit, failure.message)
    })?;
    if let Some(path) = archive {
        vzctl.say(&format!("What it had is in {}", path.display()));
    }
    vzctl.say("Container was successfully reinstalled");
    Ok(OK)
}
