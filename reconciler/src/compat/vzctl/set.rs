//! `vzctl set`: every parameter of OpenVZ, as a change of the manifest.
//!
//! It is saved only if all of it was applied: the manifest is edited and applied, and put back when anything of it
//! could not be done. Without `--save` a running container has it until it stops, and no manifest is touched. No
//! container is started or stopped by it, but for `--setmode restart`.

use std::collections::BTreeMap;

use vzd_schema::edit::{Change, Value};
use vzd_schema::v1::ManifestPolicy;
use vzd_schema::{Code, UpdateClass, update_class};
use vzd_state::transient;

use super::super::args::{self, Opt, flag, value};
use super::super::draft::{Draft, json};
use super::super::exit::{self, OK, Refusal, Tool};
use super::super::manifests::{Edited, Manifests};
use super::super::params::{self, PARAMS, Written, rate};
use super::super::samples;
use super::create::{exit_of, unfit};
use super::{Container, Vzctl, password, power};
use crate::control::{Control, PlanRequest, PowerAction, TransientChange, TransientRequest};
use crate::engine::Access;

/// What steers the command, or belongs to another option.
const CONTROL: &[Opt] = &[
    flag("save"),
    flag("force"),
    value("setmode"),
    flag("reset_ub"),
    value("applyconfig"),
    value("applyconfig_map"),
    flag("offline-resize"),
    value("ifname"),
    value("mac"),
    value("host_ifname"),
    value("host_mac"),
    value("bridge"),
    value("mac_filter"),
    value("gw"),
    value("gw6"),
    value("dhcp"),
    value("dhcp6"),
    value("network"),
    value("configure"),
    flag("crypted"),
];
/// What belongs to `--ifname`.
const OF_INTERFACE: &[&str] = &[
    "mac",
    "host_ifname",
    "host_mac",
    "bridge",
    "mac_filter",
    "gw",
    "gw6",
    "dhcp",
    "dhcp6",
    "network",
    "configure",
];
/// Addresses are those of an interface, once one is named.
const ALSO_OF_INTERFACE: [&str; 3] = ["ipadd", "ip", "ipdel"];
/// Counters that have a letter too.
const LETTERS: [(&str, char); 10] = [
    ("kmemsize", 'k'),
    ("lockedpages", 'l'),
    ("numproc", 'p'),
    ("numflock", 'f'),
    ("numpty", 't'),
    ("numsiginfo", 'i'),
    ("tcprcvbuf", 'b'),
    ("numiptent", 'e'),
    ("numfile", 'n'),
    ("dcachesize", 'x'),
];

/// Of CT 0, the host, nothing can be set: tells why, with the code of what was to be set.
pub fn set_host(words: &[String]) -> Tool {
    let said = args::parse(&options(), words).map_err(|why| Refusal::new(exit::BAD_VALUE, why))?;
    let params = said.options.iter().filter_map(|(option, value)| Some((params::by_option(option)?, value)));
    let mut code = None;
    for (param, value) in params {
        let put = param.put(&mut Draft::default(), value, Written::Option);
        put.map_err(|why| {
            Refusal::new(exit::BAD_VALUE, format!("Bad parameter for --{}: {why}", param.option))
        })?;
        let of_host = matches!(param.exit, exit::SET_UBC | exit::SET_CPU | exit::IO);
        code = code.or(Some(if of_host { param.exit } else { exit::BAD_VALUE }));
    }
    let message = "CT 0 is the host: the kernel limits what is in a control group, and what runs outside of VEs is in groups of the \
                   host's own init; `systemctl set-property system.slice` sets limits of these";
    Err(Refusal::new(code.unwrap_or(exit::BAD_VALUE), message))
}

fn options() -> Vec<Opt> {
    let params = PARAMS.iter().filter(|param| !param.option.is_empty()).map(|param| {
        let letter = LETTERS.iter().find(|(option, _)| *option == param.option);
        letter.map_or(value(param.option), |(_, letter)| value(param.option).short(*letter))
    });
    CONTROL.iter().copied().chain(params).collect()
}

/// What `--applyconfig` leaves as it is, beside names and notes.
const KEPT: [&str; 6] = [
    "spec.hostname",
    "spec.description",
    "spec.template",
    "spec.state",
    "spec.ctid",
    "spec.network.addresses",
];

/// What becomes of parameters that a running container cannot take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SetMode {
    Warn,
    Restart,
    Ignore,
}

/// Sets parameters.
pub fn set(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let said = args::parse(&options(), words).map_err(|why| Refusal::new(exit::BAD_VALUE, why))?;
    if let Some(word) = said.words.first() {
        return Err(Refusal::new(exit::SYNTAX, format!("Invalid syntax: `{word}` is not expected")));
    }
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    if said.has("reset_ub") {
        return reset(&*control, &container, said.options.len());
    }
    let save = said.has("save");
    if said.has("force") && !save {
        return Err(Refusal::new(exit::BAD_VALUE, "--force must be used with --save"));
    }
    if said.has("name") && !save {
        return Err(Refusal::new(exit::NAME, "--name must be used with --save"));
    }
    if said.has("offline-resize") && !said.has("diskspace") {
        return Err(Refusal::new(exit::BAD_VALUE, "--offline-resize must be used with --diskspace"));
    }
    if container.runs() && (said.has("root") || said.has("private")) {
        return Err(Refusal::new(exit::RUNNING, "the root of a container that runs is where it is"));
    }
    let mode = match said.last("setmode") {
        None => SetMode::Warn,
        Some("restart") if save => SetMode::Restart,
        Some("restart") => {
            return Err(Refusal::new(exit::BAD_VALUE, "--setmode restart must be used with --save"));
        }
        Some("ignore") => SetMode::Ignore,
        Some(other) => {
            return Err(Refusal::new(exit::BAD_VALUE, format!("--setmode {other}: it is restart or ignore")));
        }
    };
    let mut manifests = Manifests::read(&vzctl.settings);
    if let Some(sample) = said.last("applyconfig")
        && samples::provide(&vzctl.settings, &manifests, sample).map_err(|wrong| unfit(&wrong))?.is_some()
    {
        manifests = Manifests::read(&vzctl.settings);
    }
    let status = &container.document.status;
    // What is saved is a change of the manifest; what is not, of what holds now.
    let mut draft = if save {
        let spec = transient::spec_under(&container.document.spec, &status.transient);
        Draft::new(&spec, manifests.written(&container.name))
    } else {
        Draft::new(&container.document.spec, None)
    };
    let codes = fill(&mut draft, &said, &manifests, &container.name)?;
    password::set(vzctl, &*control, &container, &said.all("userpasswd"), said.has("crypted"))?;
    if draft.changes().is_empty() {
        return Ok(OK);
    }
    if !save {
        return until_it_stops(&*control, &container, &draft, &codes);
    }
    let waits = draft.changes().iter().filter(|change| container.runs() && needs_restart(change)).count() > 0;
    if waits && mode == SetMode::Ignore {
        return Err(Refusal::new(exit::RUNNING, "a restart is needed for some of it: nothing is saved"));
    }
    let mut changes = draft.changes().to_vec();
    changes.extend(keep_state(&container));
    let edited = manifests.edit(&container.name, &changes).map_err(|wrong| {
        let refusal = unfit(&wrong);
        // What the format refuses is a bad value, or a parameter that cannot be set yet.
        if wrong.code == Some(Code::NotCarriedOut) { codes.of(refusal) } else { refusal }
    })?;
    if !edited.is_changed() {
        return end_transient(&*control, &container, &draft, &codes);
    }
    match manifests.policy() {
        ManifestPolicy::Edit => apply(&*control, &container, &edited, &codes)?,
        ManifestPolicy::Refuse => {
            let message = format!(
                "the host's manifestPolicy refuses edits by commands; change {} so:\n{}",
                edited.file(),
                edited.diff()
            );
            return Err(Refusal::new(exit::SAVE, message));
        }
        ManifestPolicy::Patch => {
            let path = manifests.spool(&container.name, &edited);
            let path = path.map_err(|error| Refusal::new(exit::SAVE, error.to_string()))?;
            vzctl.say(&format!("Nothing was changed: the patch is {}", path.display()));
            return Ok(OK);
        }
    }
    end_transient(&*control, &container, &draft, &codes)?;
    vzctl.say(&format!("CT configuration saved to {}", edited.file()));
    match mode {
        SetMode::Restart if waits => {
            power::order(&*control, &container, PowerAction::Restart, false, exit::STOP)?;
            vzctl.say("Container was restarted");
        }
        _ if waits => crate::cli::output::note(
            "WARNING: Some parameters will take effect only after the container is restarted",
        ),
        _ => {}
    }
    Ok(OK)
}

/// Changes a running container, and no manifest.
fn until_it_stops(control: &dyn Control, container: &Container, draft: &Draft, codes: &Codes) -> Tool {
    if !container.runs() {
        let message = "Container is not running: without --save there is nothing to be changed";
        return Err(Refusal::new(exit::NOT_RUNNING, message));
    }
    let mut changes = BTreeMap::new();
    for change in draft.changes() {
        let (Change::Set(path, _) | Change::Remove(path)) = change;
        let field = path.join(".");
        if let Err(why) = transient::allowed(&field) {
            let code = if needs_restart(change) { exit::RUNNING } else { exit::SYNTAX };
            return Err(Refusal::new(code, format!("{why}: add --save")));
        }
        // The last of several options about one list has all of them.
        changes.insert(field, change);
    }
    let changes = changes.into_iter().map(|(field, change)| {
        let change = match change {
            Change::Set(_, value) => TransientChange::Set(json(value)),
            Change::Remove(_) => TransientChange::Unset,
        };
        (field, change)
    });
    let request = TransientRequest { ve: container.name.clone(), changes: changes.collect() };
    control.transient(&request).map_err(|error| {
        let refusal = Refusal::of(exit::SYSTEM, &error);
        match error.code.parse::<Code>() {
            _ if refusal.exit == exit::LOCKED => refusal,
            // What the format refuses is a bad value; all else is the parameter's own.
            Ok(code) if code != Code::NotCarriedOut && code.as_str().starts_with("VZ01") => {
                Refusal { exit: exit_of(code), ..refusal }
            }
            _ => codes.of(refusal),
        }
    })?;
    crate::cli::output::note(
        "WARNING: Settings were not saved and will be lost at the next start (use --save flag)",
    );
    Ok(OK)
}

/// What is saved ends what stood above it.
fn end_transient(control: &dyn Control, container: &Container, draft: &Draft, codes: &Codes) -> Tool {
    let above = &container.document.status.transient;
    let ended = draft.changes().iter().filter_map(|change| {
        let (Change::Set(path, _) | Change::Remove(path)) = change;
        let field = path.join(".");
        above.contains_key(&field).then_some((field, TransientChange::End))
    });
    let changes: BTreeMap<_, _> = ended.collect();
    if !changes.is_empty() {
        let request = TransientRequest { ve: container.name.clone(), changes };
        control.transient(&request).map_err(|error| codes.of(Refusal::of(exit::SYSTEM, &error)))?;
    }
    Ok(OK)
}

/// With which code the command ends when a field cannot be set.
#[derive(Debug, Default)]
struct Codes(Vec<(String, u8)>);

impl Codes {
    /// The same refusal with the code of the field that it is about; of the first, if that cannot be told.
    fn of(&self, refusal: Refusal) -> Refusal {
        let about = self.0.iter().find(|(field, _)| refusal.message.contains(field)).or(self.0.first());
        Refusal { exit: about.map_or(exit::SYSTEM, |(_, code)| *code), ..refusal }
    }

    /// Notes the code for what the draft has had changed since.
    fn note(&mut self, draft: &Draft, code: u8) {
        for change in draft.changes().iter().skip(self.0.len()) {
            let (Change::Set(path, _) | Change::Remove(path)) = change;
            self.0.push((path.join("."), code));
        }
    }
}

/// Says in the draft what the options say.
fn fill(draft: &mut Draft, said: &args::Said, manifests: &Manifests, container: &str) -> Tool<Codes> {
    let bad = |option: &str, why: String| {
        Refusal::new(exit::BAD_VALUE, format!("Bad parameter for --{option}: {why}"))
    };
    rate::fits(said.last("rate"), said.last("ratebound"), rate::is_bound(draft))
        .map_err(|why| bad(if said.has("rate") { "rate" } else { "ratebound" }, why))?;
    let mut codes = Codes::default();
    let mut interface: Option<&str> = None;
    // What is reckoned from other parameters comes after them.
    let (last, first): (Vec<_>, Vec<_>) =
        said.options.iter().partition(|(option, _)| params::is_reckoned(option));
    for (option, value) in first.into_iter().chain(last) {
        match option.as_str() {
            "save" | "force" | "setmode" | "crypted" | "offline-resize" | "userpasswd" => continue,
            "applyconfig" if !manifests.has_profile(&samples::profile_name(value)) => {
                return Err(Refusal::new(
                    exit::APPLYCONFIG,
                    format!("no profile `{value}` in the manifests, and no sample of this name"),
                ));
            }
            "applyconfig" => {
                let profile = samples::profile_name(value);
                draft.set("spec.profile", Value::Text(profile.clone()));
                // What the manifest says itself would stand above it.
                for field in manifests.said_by_both(container, &profile, &KEPT) {
                    draft.remove(&field);
                }
                codes.note(draft, exit::APPLYCONFIG);
                continue;
            }
            // Names are in manifests: there is nothing to be restored.
            "applyconfig_map" if value == "name" => continue,
            "applyconfig_map" => return Err(bad(option, "it is `name`".to_owned())),
            "ifname" => {
                interface = Some(value);
                continue;
            }
            part if OF_INTERFACE.contains(&part)
                || interface.is_some() && ALSO_OF_INTERFACE.contains(&part) =>
            {
                let name = interface.ok_or_else(|| bad(part, "it must be used with --ifname".to_owned()))?;
                params::netif_change(draft, name, part, value).map_err(|why| bad(part, why))?;
                codes.note(draft, exit::VETH);
                continue;
            }
            _ => {}
        }
        let param = params::by_option(option).ok_or_else(|| bad(option, "it is not known".to_owned()))?;
        let put = param.put(draft, value, Written::Option);
        put.map_err(|why| {
            let refusal = bad(option, why);
            if option == "name" { Refusal { exit: param.exit, ..refusal } } else { refusal }
        })?;
        codes.note(draft, param.exit);
    }
    Ok(codes)
}

fn needs_restart(change: &Change) -> bool {
    let (Change::Set(path, _) | Change::Remove(path)) = change;
    update_class(&path.join(".")).is_some_and(|class| class == UpdateClass::Restart)
}

/// A change of the manifest ends orders that stand above it: so it says what is.
fn keep_state(container: &Container) -> Option<Change> {
    let said = container.document.spec["state"].as_str().unwrap_or("running");
    let is = match container.document.status.init_pid {
        Some(_) if container.document.status.frozen => "paused",
        Some(_) => "running",
        None => "stopped",
    };
    (said != is).then(|| Change::set("spec.state", Value::word(is)))
}

/// Saves and applies; what was not all applied is not saved.
fn apply(control: &dyn Control, container: &Container, edited: &Edited, codes: &Codes) -> Tool<()> {
    edited.write().map_err(|wrong| unfit(&wrong))?;
    let request = PlanRequest { only: container.selector(), ..PlanRequest::default() };
    let failed = match control.apply(&request) {
        Ok(outcome) => outcome.failed.into_values().next(),
        Err(error) => Some(error),
    };
    let Some(error) = failed else { return Ok(()) };
    let mut refusal = Refusal::of(exit::SYSTEM, &error);
    if refusal.exit != exit::LOCKED {
        refusal = codes.of(refusal);
    }
    match edited.revert() {
        // The error counts that led here; what this one leaves is in the conditions.
        Ok(()) => drop(control.apply(&request)),
        Err(wrong) => {
            refusal.message += &format!("\nand {} could not be put back: {}", edited.file(), wrong.message)
        }
    }
    Err(refusal)
}

/// All limits once more: what someone has changed by hand is put right.
fn reset(control: &dyn Control, container: &Container, options: usize) -> Tool {
    if options > 1 {
        return Err(Refusal::new(exit::BAD_VALUE, "--reset_ub must be the only option"));
    }
    if !container.runs() {
        return Err(Refusal::new(exit::NOT_RUNNING, "Container is not running"));
    }
    let request = PlanRequest { only: container.selector(), ..PlanRequest::default() };
    let outcome = control.apply(&request).map_err(|error| Refusal::of(exit::SET_UBC, &error))?;
    match outcome.failed.values().next() {
        Some(error) => Err(Refusal::of(exit::SET_UBC, error)),
        None => Ok(OK),
    }
}
