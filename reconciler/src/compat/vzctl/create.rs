//! Containers come and go: `create`, `destroy`. A container is a manifest first.

use vzd_schema::edit::{Change, Value};
use vzd_schema::v1::{ALIAS, ManifestPolicy, Name, is_alias};
use vzd_schema::{Code, Kind};

use super::super::args::{self, Opt, value};
use super::super::draft::Draft;
use super::super::exit::{self, OK, Refusal, Tool};
use super::super::manifests::{Manifests, Unfit};
use super::super::params::{self, Home, Written};
use super::super::samples;
use super::Vzctl;
use crate::control::{Control, PlanRequest, Selector};
use crate::engine::Access;

/// Options of `create`; those of `set` that it takes are in the table of parameters.
const KNOWN: &[Opt] = &[
    value("ostemplate"),
    value("config"),
    value("layout"),
    value("ve_layout"),
    value("velayout"),
    value("private"),
    value("root"),
    value("ipadd"),
    value("hostname"),
    value("name"),
    value("description"),
    value("diskspace"),
    value("diskinodes"),
    value("local_uid"),
    value("local_gid"),
];

/// Writes a manifest and makes what it describes; it is left stopped.
pub fn create(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    let said = args::parse(KNOWN, words).map_err(|why| Refusal::new(exit::BAD_VALUE, why))?;
    if let Some(word) = said.words.first() {
        return Err(Refusal::new(exit::SYNTAX, format!("Invalid syntax: `{word}` is not expected")));
    }
    let is_number = id.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && id.parse::<u32>().is_ok_and(|number| number <= 100) {
        return Err(Refusal::new(exit::BAD_VALUE, format!("{id}: ids up to 100 are reserved")));
    }
    let called = said.last("name").unwrap_or(id).to_owned();
    // What is no name of a manifest's can be one beside the number.
    let is_alias = is_number && is_alias(&called) && called.parse::<Name>().is_err();
    let name = if is_alias { id.to_owned() } else { called.clone() };
    if let Err(wrong) = name.parse::<Name>() {
        return Err(Refusal::new(exit::NAME, format!("{wrong}")));
    }
    let control = vzctl.control(Access::Write)?;
    for known in [id, &*called] {
        if vzctl.look(&*control, known)?.is_some() {
            return Err(Refusal::new(exit::EXISTS, format!("Container {known} exists already")));
        }
    }
    let mut manifests = Manifests::read(&vzctl.settings);
    let mut draft = Draft::default();
    if is_number {
        draft.set("spec.ctid", Value::word(id));
    }
    let global = &vzctl.global;
    if let Some(sample) = said.last("config").or_else(|| global.sample(&manifests)) {
        if let Some(path) =
            samples::provide(&vzctl.settings, &manifests, sample).map_err(|wrong| unfit(&wrong))?
        {
            vzctl.say(&format!("Sample {sample} is the profile {} now", path.display()));
            manifests = Manifests::read(&vzctl.settings);
        }
        let profile = samples::profile_name(sample);
        if !manifests.has_profile(&profile) {
            let message = format!("no profile `{sample}` in the manifests, and no sample of this name");
            return Err(Refusal::new(exit::SAMPLE, message));
        }
        draft.set("spec.profile", Value::Text(profile));
    }
    draft.set("spec.state", Value::word("stopped"));
    if is_alias {
        draft.set(&format!("metadata.annotations.{ALIAS}"), Value::Text(called));
    }
    for (option, value) in &said.options {
        let option = match option.as_str() {
            "config" | "name" => continue,
            "ve_layout" | "velayout" => "layout",
            option => option,
        };
        let param = params::by_option(option).ok_or_else(|| Refusal::new(exit::BAD_VALUE, option))?;
        if let Home::Needless(why) = param.home {
            vzctl.say(&format!("--{option} changes nothing: {why}"));
            continue;
        }
        let put = match option {
            "ostemplate" => param.put(&mut draft, &global.source(&vzctl.settings, value), Written::Option),
            _ => param.put(&mut draft, value, Written::Option),
        };
        put.map_err(|why| Refusal::new(exit::BAD_VALUE, format!("Bad parameter for --{option}: {why}")))?;
    }
    let profile = draft.get("spec.profile").and_then(|is| is.as_str()).map(str::to_owned);
    let profile = profile.or_else(|| manifests.default_profile());
    let profile_says = |field: &str| profile.as_ref().is_some_and(|is| manifests.profile_says(is, field));
    global.fill(&mut draft, profile_says);
    let has_template = draft.get("spec.template").is_some()
        || profile_says("spec.template")
        || manifests.has_default_template();
    if let Some(template) = global.template().filter(|_| !has_template) {
        draft.set("spec.template", Value::Text(global.source(&vzctl.settings, template)));
    }
    let text = draft.document(Kind::Ve, &name);
    match manifests.policy() {
        ManifestPolicy::Edit => {}
        ManifestPolicy::Refuse | ManifestPolicy::Patch => {
            let message = format!(
                "the host's manifestPolicy does not let commands write manifests; this would be it:\n{text}"
            );
            return Err(Refusal::new(exit::SAVE, message));
        }
    }
    let path = manifests.add(id, &text).map_err(|wrong| unfit(&wrong))?;
    vzctl.say(&format!(
        "Creating container private area ({})",
        said.last("ostemplate").unwrap_or("default template")
    ));
    let made = make(&*control, &name);
    if made.is_err() {
        // What was never made is not to be tried again and again.
        let _ = std::fs::remove_file(&path);
        let _ = make_all(&*control);
    }
    made?;
    vzctl.say(&format!("Container is described in {}", path.display()));
    vzctl.say("Container private area was created");
    Ok(OK)
}

fn only(name: &str) -> PlanRequest {
    PlanRequest {
        only: Selector { names: vec![name.to_owned()], ..Selector::default() },
        ..PlanRequest::default()
    }
}

pub(super) fn make(control: &dyn Control, name: &str) -> Tool<()> {
    let outcome = control.apply(&only(name)).map_err(|error| Refusal::of(exit::CREATE, &error))?;
    match outcome.failed.values().next() {
        Some(error) if error.code == "VZ0304" => Err(Refusal::of(exit::NO_TEMPLATE, error)),
        Some(error) => Err(Refusal::of(exit::CREATE, error)),
        None => Ok(()),
    }
}

/// After a manifest is gone, so that nothing is left of it.
pub(super) fn make_all(control: &dyn Control) -> Tool<()> {
    control.apply(&PlanRequest::default()).map(drop).map_err(|error| Refusal::of(exit::CREATE, &error))
}

/// How `vzctl` ends for what is wrong with a manifest.
pub fn unfit(wrong: &Unfit) -> Refusal {
    Refusal::new(wrong.code.map_or(exit::SAVE, exit_of), wrong.message.clone())
}

/// How `vzctl` ends for an error that is one of manifests.
pub fn exit_of(code: Code) -> u8 {
    match code {
        Code::DuplicateAddress => exit::ADDRESS_IN_USE,
        Code::DuplicateName => exit::NAME,
        Code::NotEditable => exit::SAVE,
        _ => exit::BAD_VALUE,
    }
}

/// Stops nothing: a container that runs stays. What is down goes, with its disk, and its manifest is set aside.
pub fn destroy(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    if let Some(word) = words.first() {
        return Err(Refusal::new(exit::SYNTAX, format!("Invalid syntax: `{word}` is not expected")));
    }
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    if container.runs() {
        return Err(Refusal::new(exit::RUNNING, "Container is currently running. Stop it first"));
    }
    if container.mounted()?.is_some() {
        return Err(Refusal::new(exit::MOUNTED, "Container is currently mounted. Unmount it first"));
    }
    let manifests = Manifests::read(&vzctl.settings);
    if manifests.policy() != ManifestPolicy::Edit || !manifests.has(&container.name) {
        let message = "the manifest is not to be edited by commands: write `state: absent` into it";
        return Err(Refusal::new(exit::DELETE, message));
    }
    vzctl.say("Destroying container private area");
    let edited = manifests
        .edit(&container.name, &[Change::set("spec.state", Value::word("absent"))])
        .map_err(|wrong| unfit(&wrong))?;
    edited.write().map_err(|wrong| unfit(&wrong))?;
    make(&*control, &container.name).map_err(|refusal| Refusal { exit: exit::DELETE, ..refusal })?;
    let retired = Manifests::read(&vzctl.settings).retire(&container.name, ".destroyed");
    if !retired.map_err(|error| Refusal::new(exit::DELETE, error.to_string()))? {
        vzctl.say(&format!("{} describes other containers too: it says `state: absent` now", edited.file()));
    }
    vzctl.say("Container private area was destroyed");
    Ok(OK)
}
