//! `register` and `unregister`: a container is taken off the host's books with its disk, and put on them again.
//!
//! What is registered is a manifest, as `unregister` has set one aside, or a private area of OpenVZ's with its `ve.conf` in it: its
//! files are used where they are, and stay as they are. Nothing is started by it.

use std::path::Path;

use vzd_schema::edit::{Change, Value, edit};
use vzd_schema::v1::ManifestPolicy;
use vzd_schema::{Kind, parse};

use super::super::args::{self, flag};
use super::super::exit::{self, OK, Refusal, Tool};
use super::super::import::{convert, files_of};
use super::super::manifests::{Manifests, Unfit};
use super::create::{make, make_all, unfit};
use super::{Vzctl, power};
use crate::control::{Control, PowerAction, Selector};
use crate::engine::Access;

/// What is set aside has this at its end.
const UNREGISTERED: &str = ".unregistered";

fn refused(message: impl Into<String>) -> Refusal {
    Refusal::new(exit::REGISTER, message)
}

/// Has a container known that is not.
pub fn register(vzctl: &Vzctl, words: &[String]) -> Tool {
    // It has no owner that could be another host: --force has nothing to force.
    let said = args::parse(&[flag("force")], words).map_err(|why| Refusal::new(exit::BAD_VALUE, why))?;
    let [path, id] = said.words.as_slice() else {
        return Err(Refusal::new(exit::SYNTAX, "Invalid syntax: register <path> <ctid>"));
    };
    let ctid = id.parse::<u32>().ok().filter(|number| (101..=super::MOST).contains(number));
    let ctid = ctid.ok_or_else(|| Refusal::new(exit::BAD_VALUE, format!("Invalid container id {id}")))?;
    let control = vzctl.control(Access::Write)?;
    if vzctl.look(&*control, id)?.is_some() {
        return Err(refused(format!("Container {id} exists already")));
    }
    let manifests = Manifests::read(&vzctl.settings);
    if manifests.policy() != ManifestPolicy::Edit {
        return Err(refused("the host's manifestPolicy does not let commands write manifests"));
    }
    let path = Path::new(path);
    let (name, text) = if path.is_dir() { private_area(path, ctid)? } else { manifest(path, ctid)? };
    if vzctl.look(&*control, &name)?.is_some() {
        return Err(refused(format!("Container {name} exists already")));
    }
    // Its disk may be here still.
    let kept = is_kept(&*control, &name, ctid)?;
    // What cannot be written brings nothing back.
    manifests.try_add(id, &text).map_err(|wrong| not_fit(&wrong))?;
    if kept {
        control.undelete(&name).map_err(|error| Refusal::of(exit::REGISTER, &error))?;
    }
    let file = manifests.add(id, &text).map_err(|wrong| not_fit(&wrong))?;
    if let Err(refusal) = make(&*control, &name) {
        let _ = std::fs::remove_file(&file);
        let _ = make_all(&*control);
        return Err(Refusal { exit: exit::REGISTER, ..refusal });
    }
    vzctl.say(&format!("Container {name} was registered: {}", file.display()));
    Ok(OK)
}

fn not_fit(wrong: &Unfit) -> Refusal {
    Refusal { exit: exit::REGISTER, ..unfit(wrong) }
}

fn is_kept(control: &dyn Control, name: &str, ctid: u32) -> Tool<bool> {
    let all = Selector { all: true, ..Selector::default() };
    let all = control.list(&all, true).map_err(|error| Refusal::of(exit::REGISTER, &error))?;
    let is_it = |ctid_of: Option<u32>, name_of: &str| ctid_of == Some(ctid) && name_of == name;
    let number = |document: &vzd_state::status::Document| document.status.ctid.map(|ctid| ctid.get());
    Ok(all.iter().any(|one| is_it(number(one), &one.metadata.name.to_string())))
}

/// The manifest of one container, to have that number and to be down.
fn manifest(path: &Path, ctid: u32) -> Tool<(String, String)> {
    let cannot = |error| refused(format!("cannot read {}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(cannot)?;
    let file = path.display().to_string();
    let documents = parse(&file, text.as_bytes()).documents;
    let [document] = &*documents else {
        return Err(refused(format!("{file} does not describe one container, and nothing else")));
    };
    let name = document.name.as_deref().filter(|_| document.kind == Some(Kind::Ve)).map(str::to_owned);
    let name = name.ok_or_else(|| refused(format!("{file} does not describe a container")))?;
    let changes =
        [Change::set("spec.ctid", Value::word(ctid)), Change::set("spec.state", Value::word("stopped"))];
    changed(&file, &text, name, &changes)
}

/// A manifest made of what OpenVZ keeps beside a container's files.
fn private_area(path: &Path, ctid: u32) -> Tool<(String, String)> {
    let conf = path.join("ve.conf");
    let bytes =
        std::fs::read(&conf).map_err(|error| refused(format!("cannot read {}: {error}", conf.display())))?;
    let imported = convert::container(ctid, &String::from_utf8_lossy(&bytes));
    for (line, message) in &imported.residue {
        let told = format!("{}:{line}: {message}", conf.display());
        crate::cli::output::note(&crate::cli::output::harmless(&told));
    }
    let files = files_of(path).ok_or_else(|| {
        refused(format!("{} has no files as they lie there: only those can be taken over", path.display()))
    })?;
    let template = Change::set("spec.template", Value::Text(format!("dir:{}", files.display())));
    changed(&conf.display().to_string(), &imported.text, imported.name, &[template])
}

fn changed(file: &str, text: &str, name: String, changes: &[Change]) -> Tool<(String, String)> {
    let new =
        edit(file, text, (Kind::Ve, &name), changes).map_err(|wrong| not_fit(&Unfit::of(&wrong, text)))?;
    Ok((name, new))
}

/// Leaves the disk: that is what taking the manifest away does. The manifest is set aside, to be registered again.
pub fn unregister(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    if let Some(word) = words.first() {
        return Err(Refusal::new(exit::SYNTAX, format!("Invalid syntax: `{word}` is not expected")));
    }
    let control = vzctl.control(Access::Write)?;
    let container = vzctl.find(&*control, id)?;
    if container.runs() {
        power::order(&*control, &container, PowerAction::Stop, false, exit::STOP)?;
    }
    let manifests = Manifests::read(&vzctl.settings);
    if manifests.policy() != ManifestPolicy::Edit || !manifests.has(&container.name) {
        return Err(Refusal::new(exit::UNREGISTER, "the manifest is not to be edited by commands"));
    }
    let file = manifests.file(&container.name).unwrap_or_default();
    let retired = manifests.retire(&container.name, UNREGISTERED);
    if !retired.map_err(|error| Refusal::new(exit::UNREGISTER, error.to_string()))? {
        return Err(Refusal::new(
            exit::UNREGISTER,
            "its file describes other containers too: take its document out by hand",
        ));
    }
    make_all(&*control).map_err(|refusal| Refusal { exit: exit::UNREGISTER, ..refusal })?;
    let ctid = container.ctid();
    vzctl.say(&format!(
        "Container is in quarantine: `vzctl register {file}{UNREGISTERED} {ctid}` brings it back"
    ));
    Ok(OK)
}
