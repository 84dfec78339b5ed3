//! Programs in containers: `exec` and its kin, `enter`, `console`. This process becomes the one that enters.

use super::super::args::{self, flag};
use super::super::exit::{self, OK, Refusal, Tool};
use super::super::inside::run as run_beside;
use super::{Container, Vzctl, power};
use crate::cli::exec::{Order, become_inside, environment, inside, order};
use crate::cli::failure::NOT_ENTERED;
use crate::cli::output::{Format, Out, When};
use crate::cli::{Context, console, enter};
use crate::control::Entrance;
use crate::engine::Access;
use crate::runtime::enter::{self as runtime, SHELL};

/// Whatever is wrong is 8.
const COLLAPSED: &str = r#"if [ -x /bin/bash ]; then /bin/bash "$@"; else /bin/sh "$@"; fi || exit 8"#;
/// The largest script that is passed on as one word (the kernel takes 128 KiB).
const MOST_SCRIPT: usize = 120 << 10;

/// A command line for the shell; any failure is 8.
pub fn exec(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    shell(vzctl, id, COLLAPSED, words)
}

/// The same; the status is the command's.
pub fn exec2(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    shell(vzctl, id, SHELL, words)
}

/// A program with its arguments, without a shell.
pub fn exec3(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let entrance = entrance(vzctl, id)?;
    enough(words)?;
    run(vzctl, entrance, words.to_vec(), (false, None))
}

fn enough(words: &[String]) -> Tool<()> {
    match words {
        [] => Err(Refusal::new(exit::SYNTAX, "Invalid syntax: a command is missing")),
        _ => Ok(()),
    }
}

fn shell(vzctl: &Vzctl, id: &str, starter: &str, words: &[String]) -> Tool {
    let entrance = entrance(vzctl, id)?;
    enough(words)?;
    let own: Vec<String> = match words {
        [dash] if dash == "-" => vec!["-s".to_owned()],
        _ => vec!["-c".to_owned(), words.join(" ")],
    };
    run(vzctl, entrance, started(starter, own), OF_SHELL)
}

fn started(starter: &str, own: Vec<String>) -> Vec<String> {
    ["/bin/sh", "-c", starter, "vzctl"].map(str::to_owned).into_iter().chain(own).collect()
}

/// A script of the host; in a container that is down while it runs for that alone.
pub fn runscript(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let [path, rest @ ..] = words else {
        return Err(Refusal::new(exit::SYNTAX, "Invalid syntax: a script is missing"));
    };
    let script = std::fs::read_to_string(path)
        .map_err(|error| Refusal::new(exit::NO_SCRIPT, format!("cannot read {path}: {error}")))?;
    if script.len() > MOST_SCRIPT {
        return Err(Refusal::new(exit::NO_SCRIPT, format!("{path} is larger than {MOST_SCRIPT} bytes")));
    }
    let own = ["-c".to_owned(), script, path.clone()].into_iter().chain(rest.iter().cloned());
    let argv = started(SHELL, own.collect());
    let container = vzctl.find(&*vzctl.control(Access::Read)?, id)?;
    if container.runs() {
        return run(vzctl, entrance(vzctl, id)?, argv, OF_SHELL);
    }
    // Nobody has to wait for the host while the script runs.
    power::start_bare(&*vzctl.control(Access::Write)?, &container)?;
    let done = run_beside(&vzctl.settings, &container.selector(), argv, None);
    power::stop_bare(&*vzctl.control(Access::Write)?, &container).and(done)
}

/// Has the shell of a container that runs run a text of the host's; gives its status.
pub(super) fn script(vzctl: &Vzctl, container: &Container, name: &str, text: &str) -> Tool {
    let own = ["-c", text, name].map(str::to_owned).to_vec();
    run_beside(&vzctl.settings, &container.selector(), started(SHELL, own), Some(&mut std::io::empty()))
}

/// A shell, or a command of it.
pub fn enter(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let entrance = entrance(vzctl, id)?;
    let command = match words {
        [] => enter::login(),
        [option, command @ ..] if option == "--exec" => {
            enough(command)?;
            started(SHELL, vec!["-c".to_owned(), command.join(" ")])
        }
        [word, ..] => return Err(Refusal::new(exit::BAD_VALUE, format!("Unrecognized option {word}"))),
    };
    run(vzctl, entrance, command, (inside::on_terminal(), Some(exit::NO_SHELL)))
}

/// The console.
pub fn console(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let said =
        args::parse(&[flag("start").short('s')], words).map_err(|why| Refusal::new(exit::BAD_VALUE, why))?;
    match said.words.as_slice() {
        [] => {}
        [tty] if matches!(tty.trim_start_matches("tty"), "1" | "2") => {}
        [tty] => return Err(Refusal::new(exit::BAD_VALUE, format!("{tty}: a container has one console"))),
        _ => return Err(Refusal::new(exit::SYNTAX, "Invalid syntax")),
    }
    if said.has("start") && vzctl.find(&*vzctl.control(Access::Read)?, id)?.document.status.init_pid.is_none()
    {
        power::start(vzctl, id, &[])?;
    }
    let name = running(vzctl, id)?.name;
    let mut cx = Context { settings: vzctl.settings.clone(), out: Out::new(Format::Table, When::Auto) };
    match console::run(&console::Args::of(name), &mut cx) {
        Ok(_) => Ok(OK),
        Err(failure) => Err(Refusal::new(exit::SYSTEM, failure.message)),
    }
}

fn running(vzctl: &Vzctl, id: &str) -> Tool<Container> {
    let control = vzctl.control(Access::Read)?;
    let container = vzctl.find(&*control, id)?;
    if container.runs() {
        return Ok(container);
    }
    Err(Refusal::new(exit::NOT_RUNNING, "Container is not running"))
}

fn entrance(vzctl: &Vzctl, id: &str) -> Tool<Entrance> {
    let container = running(vzctl, id)?;
    let entrances = vzctl.control(Access::Read)?.entrances(&container.selector());
    let gone = || Refusal::new(exit::NOT_RUNNING, "Container is not running");
    entrances.map_err(|error| Refusal::of(exit::NOT_RUNNING, &error))?.into_iter().next().ok_or_else(gone)
}

/// Without a terminal, by a shell of the container's.
const OF_SHELL: (bool, Option<u8>) = (false, Some(exit::NO_SHELL));

/// Becomes the program; comes back only if that fails. On a terminal or not, and how it ends if there is no such program.
fn run(
    vzctl: &Vzctl,
    entrance: Entrance,
    argv: Vec<String>,
    (terminal, missing): (bool, Option<u8>),
) -> Tool {
    let command = runtime::Command { argv, env: environment(Vec::new()), cwd: "/".into() };
    let failure = become_inside(Order { missing, ..order(&vzctl.settings, entrance, command, terminal) });
    let code = if failure.exit == NOT_ENTERED { exit::SYSTEM } else { failure.exit };
    Err(Refusal::new(code, failure.message))
}
