//! `vzctl snapshot` and its kin: of disks. A snapshot is known by its uuid; what a container has in memory is not kept.

use std::path::{Path, PathBuf};

use super::super::args::{self, Opt, Said, flag, value};
use super::super::exit::{self, OK, Refusal, Tool};
use super::{Vzctl, power, print};
use crate::cli::output::harmless;
use crate::cli::snapshot as cli;
use crate::control::{Control, PowerAction, Snapshot, SnapshotAction, SnapshotNote, SnapshotRequest};
use crate::engine::Access;

const KNOWN: &[Opt] = &[
    value("id"),
    value("uuid"),
    value("name"),
    value("description"),
    value("target"),
    flag("skip-suspend"),
    flag("skip-config"),
    flag("skip-resume"),
    flag("must-resume"),
    flag("skip_arpdetect"),
];

fn options(words: &[String]) -> Tool<Said> {
    let said = args::parse(KNOWN, words).map_err(|why| Refusal::new(exit::BAD_VALUE, why))?;
    match said.words.first() {
        Some(word) => Err(Refusal::new(exit::SYNTAX, format!("Invalid syntax: `{word}` is not expected"))),
        None => Ok(said),
    }
}

/// The id, without the braces that ploop writes it in.
fn id_of(said: &Said) -> Option<String> {
    let id = said.last("id").or(said.last("uuid"))?;
    Some(id.trim_matches(['{', '}']).to_ascii_lowercase())
}

fn needed(said: &Said) -> Tool<String> {
    id_of(said).ok_or_else(|| Refusal::new(exit::SYNTAX, "Invalid syntax: --id is missing"))
}

/// Takes one.
pub fn create(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let said = options(words)?;
    let text = |option| said.last(option).unwrap_or_default().to_owned();
    let note = SnapshotNote { title: text("name"), description: text("description") };
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    let memory = container.runs() && !said.has("skip-suspend");
    let snapshot = match id_of(&said) {
        Some(id) => id,
        None => fresh_uuid().map_err(|why| Refusal::new(exit::SYSTEM, why))?,
    };
    vzctl.say("Creating snapshot");
    let request =
        SnapshotRequest { memory, note, ..request(&container.name, &snapshot, SnapshotAction::Create) };
    control.snapshot(&request).map_err(|error| {
        let code = if error.code == "VZ0405" { exit::BAD_VALUE } else { exit::SNAPSHOT };
        Refusal::of(code, &error)
    })?;
    vzctl.say(&format!("Snapshot {{{snapshot}}} has been successfully created"));
    Ok(OK)
}

fn fresh_uuid() -> Result<String, String> {
    const RANDOM: &str = "/proc/sys/kernel/random/uuid";
    let uuid = std::fs::read_to_string(RANDOM).map_err(|error| format!("cannot read {RANDOM}: {error}"))?;
    Ok(uuid.trim().to_owned())
}

fn order(control: &dyn Control, ve: &str, snapshot: &str, action: SnapshotAction, code: u8) -> Tool<()> {
    control.snapshot(&request(ve, snapshot, action)).map_err(|error| Refusal::of(code, &error))
}

fn request(ve: &str, snapshot: &str, action: SnapshotAction) -> SnapshotRequest {
    let note = SnapshotNote::default();
    SnapshotRequest {
        ve: ve.to_owned(),
        snapshot: snapshot.to_owned(),
        action,
        memory: false,
        note,
        archive: None,
    }
}

/// Throws one away.
pub fn delete(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let snapshot = needed(&options(words)?)?;
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    vzctl.say(&format!("Deleting snapshot {{{snapshot}}}"));
    order(&*control, &container.name, &snapshot, SnapshotAction::Delete, exit::SNAPSHOT_DELETE)?;
    vzctl.say("Snapshot has been successfully deleted");
    Ok(OK)
}

/// Goes back to one. What the container was doing is thrown away; one that ran starts anew.
pub fn switch(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let said = options(words)?;
    let snapshot = needed(&said)?;
    if said.has("skip-resume") && said.has("must-resume") {
        return Err(Refusal::new(exit::SYNTAX, "--skip-resume and --must-resume exclude each other"));
    }
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    let known =
        control.snapshots(&container.name).map_err(|error| Refusal::of(exit::SNAPSHOT_SWITCH, &error))?;
    let one = known
        .iter()
        .find(|one| one.name == snapshot)
        .ok_or_else(|| Refusal::new(exit::SNAPSHOT_SWITCH, format!("there is no snapshot {{{snapshot}}}")))?;
    let memory = one.memory && !said.has("skip-resume");
    if said.has("must-resume") && !memory {
        return Err(Refusal::new(
            exit::SNAPSHOT_SWITCH,
            "the snapshot was taken without what ran in the container",
        ));
    }
    vzctl.say(&format!("Switching to snapshot {{{snapshot}}}"));
    let ran = container.runs();
    if ran {
        power::order(&*control, &container, PowerAction::Stop, true, exit::SNAPSHOT_SWITCH)?;
    }
    if memory {
        let request =
            SnapshotRequest { memory, ..request(&container.name, &snapshot, SnapshotAction::Revert) };
        let gone_back =
            control.snapshot(&request).map_err(|error| Refusal::of(exit::SNAPSHOT_SWITCH, &error));
        let resumed = gone_back.and_then(|()| {
            power::order(&*control, &container, PowerAction::Resume, false, exit::SNAPSHOT_SWITCH)
        });
        match resumed {
            Ok(()) => {
                vzctl.say("Container has been successfully switched to another snapshot");
                return Ok(OK);
            }
            Err(refusal) if said.has("must-resume") => return Err(refusal),
            Err(refusal) => {
                vzctl.say(&format!("Warning: what ran in it is not resumed: {}", refusal.message));
                // It gives the checkpoint up.
                power::order(&*control, &container, PowerAction::Stop, true, exit::SNAPSHOT_SWITCH)?;
            }
        }
    }
    let switched =
        order(&*control, &container.name, &snapshot, SnapshotAction::Revert, exit::SNAPSHOT_SWITCH);
    if (ran || memory) && (switched.is_err() || !said.has("skip-resume")) {
        power::order(&*control, &container, PowerAction::Start, false, exit::SNAPSHOT_SWITCH)?;
    }
    switched?;
    vzctl.say("Container has been successfully switched to another snapshot");
    Ok(OK)
}

/// Shows one in a directory of the host, read-only.
pub fn mount(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let said = options(words)?;
    let snapshot = needed(&said)?;
    let target = said.last("target");
    let target = target.ok_or_else(|| Refusal::new(exit::SYNTAX, "Invalid syntax: --target is missing"))?;
    let container = vzctl.find(&*vzctl.control(Access::Read)?, id)?;
    cli::show(&vzctl.settings, &container.name, &snapshot, Path::new(target))
        .map_err(|failure| Refusal::new(exit::SNAPSHOT_MOUNT, failure.message))?;
    vzctl.say(&format!("Snapshot {{{snapshot}}} has been mounted to {target}"));
    Ok(OK)
}

/// Takes it away from there.
pub fn umount(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let snapshot = needed(&options(words)?)?;
    let container = vzctl.find(&*vzctl.control(Access::Read)?, id)?;
    cli::hide(&vzctl.settings, &container.name, &snapshot)
        .map_err(|failure| Refusal::new(exit::SNAPSHOT_UMOUNT, failure.message))?;
    vzctl.say(&format!("Snapshot {{{snapshot}}} has been unmounted"));
    Ok(OK)
}

const FIELDS: &[(&str, &str, usize)] = &[
    ("parent_uuid", "PARENT_UUID", 38),
    ("current", "C", 1),
    ("uuid", "UUID", 38),
    ("date", "DATE", 19),
    ("name", "NAME", 32),
    ("desc", "DESC", 32),
    ("device", "DEVICE", 16),
    ("target", "TARGET", 32),
];

/// Lists them, the oldest first.
pub fn list(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let known: &[Opt] =
        &[flag("no-header").short('H'), value("output").short('o'), value("id"), flag("list").short('L')];
    let said = args::parse(known, words).map_err(|why| Refusal::new(exit::BAD_VALUE, why))?;
    if let Some(word) = said.words.first() {
        return Err(Refusal::new(exit::SYNTAX, format!("Invalid syntax: `{word}` is not expected")));
    }
    if said.has("list") {
        FIELDS.iter().for_each(|(name, header, _)| print(&format!("{name:<15} {header}\n")));
        return Ok(OK);
    }
    let fields: Vec<_> = said
        .last("output")
        .unwrap_or("parent_uuid,current,uuid,date,name")
        .split(',')
        .map(|name| {
            let name = match name {
                "id" => "uuid",
                "parent_id" => "parent_uuid",
                name => name,
            };
            let field = FIELDS.iter().find(|(known, ..)| *known == name);
            field.ok_or_else(|| Refusal::new(exit::BAD_VALUE, format!("Unknown field: {name}")))
        })
        .collect::<Tool<_>>()?;
    let control = vzctl.control(Access::Read)?;
    let container = vzctl.find(&*control, id)?;
    let mut all =
        control.snapshots(&container.name).map_err(|error| Refusal::of(exit::SNAPSHOT_LIST, &error))?;
    if let Some(id) = id_of(&said) {
        let at = all.iter().position(|one| one.name == id);
        let at =
            at.ok_or_else(|| Refusal::new(exit::SNAPSHOT_LIST, format!("there is no snapshot {{{id}}}")))?;
        all.truncate(at + 1);
    }
    // Who may not look into disks is not told where they are mounted.
    let shown = cli::shown(&vzctl.settings, &container.name).unwrap_or_default();
    let line = |cell: &dyn Fn(&str, &'static str) -> String| {
        let cells = fields.iter().map(|(name, header, width)| format!("{:<width$}", cell(name, header)));
        format!("{}\n", cells.collect::<Vec<_>>().join(" ").trim_end())
    };
    if !said.has("no-header") {
        print(&line(&|_, header| header.to_owned()));
    }
    for one in &all {
        print(&line(&|name, _| cell(one, shown.get(&one.name), name)));
    }
    Ok(OK)
}

/// Snapshots are copies: none has a parent, and none is what the disk goes on from.
fn cell(one: &Snapshot, shown: Option<&PathBuf>, field: &str) -> String {
    match field {
        "target" => shown.map(|at| harmless(&at.display().to_string()).to_string()).unwrap_or_default(),
        "uuid" => format!("{{{}}}", one.name),
        "name" => harmless(&one.note.title).to_string(),
        "desc" => harmless(&one.note.description).to_string(),
        "date" => one.created_at.to_string().chars().take(19).collect::<String>().replace('T', " "),
        _ => String::new(),
    }
}
