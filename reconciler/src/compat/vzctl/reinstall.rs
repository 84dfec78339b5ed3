//! `vzctl reinstall`: a container's root anew, of its template as that is now. Its configuration stays, and so do its users unless
//! others are asked for; what it had is kept as an archive. Scripts of the host's administrator then put it in order, inside.

use super::super::args::{self, Opt, Said, flag, value};
use super::super::exit::{self, OK, Refusal, Tool};
use super::super::vz_conf::of_root;
use super::{Container, Vzctl, inside, power, print};
use crate::cli::output::harmless;
use crate::cli::reinstall::carry_out;
use crate::control::Control;
use crate::engine::Access;

const KNOWN: &[Opt] = &[
    flag("skipbackup"),
    flag("resetpwdb"),
    flag("skipscripts"),
    flag("listscripts"),
    value("scripts"),
    flag("desc"),
];

/// A script that the container's shell is to run.
struct Script {
    name: String,
    text: String,
}

/// Makes it anew.
pub fn reinstall(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let said = args::parse(KNOWN, words).map_err(|why| Refusal::new(exit::BAD_VALUE, why))?;
    if let Some(word) = said.words.first() {
        return Err(Refusal::new(exit::SYNTAX, format!("Invalid syntax: `{word}` is not expected")));
    }
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    let scripts = chosen(&said, there(vzctl, &container))?;
    if said.has("listscripts") {
        scripts.iter().for_each(|script| print(&format!("{}\n", harmless(&script.line(said.has("desc"))))));
        return Ok(OK);
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
    configure(vzctl, &*control, &container, &scripts)?;
    vzctl.say("Container was successfully reinstalled");
    Ok(OK)
}

/// Of the scripts for all containers, then of those for this one.
fn there(vzctl: &Vzctl, container: &Container) -> Vec<Script> {
    let names = ["vps".to_owned(), container.ctid()].map(|whose| format!("{whose}.configure"));
    let read = |name: String| Some(Script { text: of_root(&vzctl.settings.scripts.join(&name))?, name });
    names.into_iter().filter_map(read).collect()
}

fn chosen(said: &Said, mut there: Vec<Script>) -> Tool<Vec<Script>> {
    if said.has("skipscripts") {
        return Ok(Vec::new());
    }
    if let Some(names) = said.last("scripts") {
        let names: Vec<&str> = names.split([',', ' ']).filter(|name| !name.is_empty()).collect();
        let missing = names.iter().find(|name| there.iter().all(|script| script.name != **name));
        if let Some(name) = missing {
            return Err(Refusal::new(exit::REINSTALL, format!("there is no script {name}")));
        }
        there.retain(|script| names.contains(&&*script.name));
    }
    Ok(there)
}

impl Script {
    /// Its name, and what its first comment says.
    fn line(&self, describe: bool) -> String {
        let mut comments = self.text.lines().filter(|line| line.starts_with('#') && !line.starts_with("#!"));
        match comments.next().filter(|_| describe) {
            Some(comment) => format!("{}: {}", self.name, comment.trim_start_matches('#').trim()),
            None => self.name.clone(),
        }
    }
}

/// Runs them in the container, which runs for that alone.
fn configure(vzctl: &Vzctl, control: &dyn Control, container: &Container, scripts: &[Script]) -> Tool<()> {
    if scripts.is_empty() {
        return Ok(());
    }
    power::start_bare(control, container)?;
    let done = scripts.iter().try_for_each(|script| {
        vzctl.say(&format!("Running {}", script.name));
        match inside::script(vzctl, container, &script.name, &script.text)? {
            0 => Ok(()),
            status => {
                let message = format!("it has a new root, but {} ended with {status} in it", script.name);
                Err(Refusal::new(exit::REINSTALL, message))
            }
        }
    });
    power::stop_bare(control, container).and(done)
}
