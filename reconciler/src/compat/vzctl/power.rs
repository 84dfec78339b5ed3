//! Starting and stopping. The order is given first, then the manifest is made to say the same, so that no later
//! change of it starts or stops anything.

use std::path::Path;

use vzd_schema::edit::{Change, Value};
use vzd_schema::v1::{DISABLED, ManifestPolicy};

use super::super::args::{self, Opt, Said, flag};
use super::super::exit::{self, OK, Refusal, Tool};
use super::super::manifests::Manifests;
use super::{Container, Vzctl};
use crate::control::{Control, MountRequest, PowerAction, PowerRequest};
use crate::engine::Access;
use crate::runtime::checkpoint::archive;

const START: &[Opt] =
    &[flag("wait"), flag("force"), flag("skip-fsck"), flag("skip-remount"), flag("skip_ve_setup")];
const STOP: &[Opt] = &[flag("fast"), flag("skip-umount")];

pub(super) fn options(known: &[&[Opt]], words: &[String]) -> Tool<Said> {
    let known = known.concat();
    let said = args::parse(&known, words).map_err(|why| Refusal::new(exit::BAD_VALUE, why))?;
    match said.words.first() {
        Some(word) => Err(Refusal::new(exit::SYNTAX, format!("Invalid syntax: `{word}` is not expected"))),
        None => Ok(said),
    }
}

/// Starts one that is down.
pub fn start(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let said = options(&[START], words)?;
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    if container.runs() {
        return Err(Refusal::new(exit::RUNNING, "Container is already running"));
    }
    may_start(&container, &said)?;
    vzctl.say("Starting container...");
    up(vzctl, &*control, &container, said.has("wait"))
}

/// One that is disabled is started by force alone.
fn may_start(container: &Container, said: &Said) -> Tool<()> {
    if container.document.metadata.annotations.contains_key(DISABLED) && !said.has("force") {
        return Err(Refusal::new(exit::DISABLED, "Container start disabled"));
    }
    Ok(())
}

fn up(vzctl: &Vzctl, control: &dyn Control, container: &Container, wait: bool) -> Tool {
    order(control, container, PowerAction::Start, false, exit::CREATE)?;
    say_state(vzctl, container, "running")?;
    vzctl.say("Container start in progress...");
    if wait {
        const LONG: u64 = 300_000;
        let ready = control.wait(&container.selector(), "Ready", "True", LONG);
        if !ready.map_err(|error| Refusal::of(exit::WAIT, &error))? {
            return Err(Refusal::new(exit::WAIT, "the container does not become ready"));
        }
    }
    Ok(OK)
}

/// Stops one that runs; one that is down is as it is to be.
pub fn stop(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let said = options(&[STOP], words)?;
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    if !container.runs() {
        vzctl.say("Container is not running");
        // It may be about to be started.
        say_state(vzctl, &container, "stopped")?;
        return Ok(OK);
    }
    vzctl.say("Stopping container ...");
    order(&*control, &container, PowerAction::Stop, said.has("fast"), exit::STOP)?;
    vzctl.say("Container was stopped");
    say_state(vzctl, &container, "stopped")?;
    if said.has("skip-umount") {
        return show(vzctl, &*control, &container);
    }
    vzctl.say("Container is unmounted");
    Ok(OK)
}

/// Stops it, if it runs, and starts it.
pub fn restart(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let said = options(&[START, STOP], words)?;
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    may_start(&container, &said)?;
    vzctl.say("Restarting container");
    if container.runs() {
        order(&*control, &container, PowerAction::Stop, said.has("fast"), exit::STOP)?;
        vzctl.say("Container was stopped");
    }
    vzctl.say("Starting container...");
    up(vzctl, &*control, &container, said.has("wait"))
}

/// Freezes it in memory.
pub fn pause(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    options(&[], words)?;
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    if !container.runs() {
        return Err(Refusal::new(exit::NOT_RUNNING, "Container is not running"));
    }
    order(&*control, &container, PowerAction::Pause, false, exit::SUSPEND)?;
    Ok(OK)
}

/// Writes it to disk, at once or in OpenVZ's stages: `--suspend` freezes it, `--dump` writes it down and ends it, so that
/// there is nothing left to do for `--kill`, and `--resume` has it go on from wherever it is.
pub fn suspend(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    const KNOWN: &[Opt] = &[
        flag("suspend"),
        flag("dump"),
        flag("resume"),
        flag("kill"),
        args::value("dumpfile"),
        args::value("flags"),
        args::value("context"),
        flag("skip_arpdetect"),
    ];
    let said = options(&[KNOWN], words)?;
    let stages =
        ["suspend", "dump", "resume", "kill"].into_iter().filter(|stage| said.has(stage)).collect::<Vec<_>>();
    match stages[..] {
        ["suspend"] => pause(vzctl, id, &[]),
        ["resume"] => resume(vzctl, id, &["--resume".to_owned()]),
        ["kill"] => {
            let control = vzctl.control(Access::Read)?;
            match vzctl.find(&*control, id)?.is_suspended(&*control)? {
                true => Ok(OK),
                false => {
                    Err(Refusal::new(exit::SUSPEND, "nothing of it is written down yet: --dump comes first"))
                }
            }
        }
        [] | ["dump"] => {
            let control = vzctl.control(Access::Write)?;
            let container = vzctl.find(&*control, id)?;
            if !container.runs() {
                return Err(Refusal::new(exit::NOT_RUNNING, "Container is not running"));
            }
            vzctl.say("Setting up checkpoint...");
            order(&*control, &container, PowerAction::Suspend, false, exit::SUSPEND)?;
            if let Some(file) = said.last("dumpfile") {
                let packed =
                    vzctl.checkpoint_of(&container).and_then(|dir| archive::pack(&dir, Path::new(file)));
                packed.map_err(|e| {
                    Refusal::new(exit::SUSPEND, format!("it is suspended, but not in {file}: {e}"))
                })?;
            }
            vzctl.say("Checkpointing completed successfully");
            Ok(OK)
        }
        _ => Err(Refusal::new(exit::SYNTAX, "only one of --suspend, --dump, --resume, --kill can be given")),
    }
}

/// Has it go on from what `suspend` has written, or thaws what is frozen. `--undump` brings it back frozen, and `--kill`
/// after that writes it down again.
pub fn resume(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    const KNOWN: &[Opt] = &[
        flag("undump"),
        flag("resume"),
        flag("kill"),
        args::value("dumpfile"),
        args::value("flags"),
        args::value("context"),
        flag("skip_arpdetect"),
        flag("skip-remount"),
        flag("skip-fsck"),
    ];
    let said = options(&[KNOWN], words)?;
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    let stages = ["undump", "resume", "kill"].into_iter().filter(|stage| said.has(stage)).collect::<Vec<_>>();
    let is_frozen = container.runs() && container.document.status.frozen;
    let action = match stages[..] {
        ["undump"] => PowerAction::Pause,
        ["kill"] => PowerAction::Suspend,
        [] | ["resume"] => PowerAction::Resume,
        _ => return Err(Refusal::new(exit::SYNTAX, "only one of --undump, --resume, --kill can be given")),
    };
    let is_suspended = container.is_suspended(&*control)?;
    if action == PowerAction::Suspend && is_suspended {
        return Ok(OK);
    }
    if is_frozen && action != PowerAction::Pause {
        order(&*control, &container, action, false, exit::RESUME)?;
        return Ok(OK);
    }
    if !is_suspended {
        return Err(Refusal::new(exit::RESUME, "there is nothing to resume"));
    }
    if let Some(file) = said.last("dumpfile") {
        let unpacked = vzctl.checkpoint_of(&container).and_then(|dir| archive::unpack(Path::new(file), &dir));
        unpacked.map_err(|e| Refusal::new(exit::RESUME, e.to_string()))?;
    }
    vzctl.say("Restoring container ...");
    order(&*control, &container, action, false, exit::RESUME)?;
    vzctl.say("Resuming...");
    Ok(OK)
}

/// Mounts the root of one that is down on the host; that of one that runs is mounted for itself.
pub fn mount(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    options(&[START], words)?;
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    if container.runs() || container.mounted()?.is_some() {
        vzctl.say("Container is already mounted");
        return Ok(OK);
    }
    show(vzctl, &*control, &container)
}

fn show(vzctl: &Vzctl, control: &dyn Control, container: &Container) -> Tool {
    let at = vzctl.global.root(&vzctl.settings, &container.ctid());
    let request = MountRequest { ve: container.name.clone(), at: Some(at.clone()) };
    control.mount(&request).map_err(|error| Refusal::of(exit::MOUNT, &error))?;
    vzctl.say(&format!("Container is mounted: {}", at.display()));
    Ok(OK)
}

/// Takes it away.
pub fn umount(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    options(&[], words)?;
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    if container.runs() {
        return Err(Refusal::new(exit::RUNNING, "Container is running: stop it first"));
    }
    if container.mounted()?.is_none() {
        return Err(Refusal::new(exit::NOT_MOUNTED, "Container is not mounted"));
    }
    let request = MountRequest { ve: container.name.clone(), at: None };
    control.mount(&request).map_err(|error| Refusal::of(exit::UMOUNT, &error))?;
    vzctl.say("Container is unmounted");
    Ok(OK)
}

/// Has one that is down run without anything of its own, so that programs can run in it.
pub fn start_bare(control: &dyn Control, container: &Container) -> Tool<()> {
    order(control, container, PowerAction::StartBare, false, exit::CREATE)
}

/// Has it be as it was before that.
pub fn stop_bare(control: &dyn Control, container: &Container) -> Tool<()> {
    order(control, container, PowerAction::Stop, true, exit::STOP)
}

/// Gives an order and waits for it.
pub fn order(
    control: &dyn Control,
    container: &Container,
    action: PowerAction,
    force: bool,
    code: u8,
) -> Tool<()> {
    let request = PowerRequest { select: container.selector(), action, force };
    let outcomes = control.power(&request).map_err(|error| Refusal::of(code, &error))?;
    match outcomes.into_values().flatten().next() {
        Some(error) => Err(Refusal::of(code, &error)),
        None => Ok(()),
    }
}

/// Makes the manifest say what was ordered; where commands may not edit manifests, the order stands above it.
fn say_state(vzctl: &Vzctl, container: &Container, state: &str) -> Tool<()> {
    let (name, said) = (&container.name, container.document.spec["state"].as_str());
    let manifests = Manifests::read(&vzctl.settings);
    if said.unwrap_or("running") == state
        || manifests.policy() != ManifestPolicy::Edit
        || !manifests.has(name)
    {
        return Ok(());
    }
    let change = Change::set("spec.state", Value::word(state));
    let saved = manifests.edit(name, &[change]).and_then(|edited| edited.write());
    saved.map_err(|wrong| Refusal::new(exit::SAVE, wrong.message))
}
