//! Manifests as commands change them: which file a VE stands in, editing it, and the host's word on whether
//! that may be done. Files are exchanged whole, symbolic links are followed, owner and mode stay.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vzd_schema::edit::{Change, NewVe, Value, clone, edit, to_yaml};
use vzd_schema::render::{Style, render};
use vzd_schema::v1::{ManifestPolicy, Peer};
use vzd_schema::{Code, Diagnostic, Document, Kind, Node, Set, parse};
use vzd_state::desired::Desired;
use vzd_state::lower::lower;

use crate::engine::host_device;
use crate::error::{At, SysResult};
use crate::settings::Settings;
use crate::store::{Writes, atomic};
use crate::watch::{Revision, Scanner, Trust};

/// The manifest directory as it is now.
#[derive(Debug)]
pub struct Manifests {
    dir: PathBuf,
    patches: PathBuf,
    revision: Arc<Revision>,
}

/// A file with another text.
#[derive(Debug)]
pub struct Edited {
    /// The file itself, behind all links.
    path: PathBuf,
    /// What messages call it.
    file: String,
    old: String,
    new: String,
}

/// Why a manifest cannot be changed.
#[derive(Debug)]
pub struct Unfit {
    /// What is wrong, in words, each with its place.
    pub message: String,
    /// The code of the first thing that is wrong.
    pub code: Option<Code>,
}

impl Unfit {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: None }
    }

    /// What the format has against a text.
    pub fn of(problems: &[Diagnostic], text: &str) -> Self {
        let text: Arc<str> = text.into();
        let shown = problems.iter().map(|is| render(is, Style::Plain, |_| Some(Arc::clone(&text))));
        let message = shown.collect::<Vec<_>>().join("\n");
        Self { message, code: problems.first().map(|is| is.code) }
    }
}

impl Manifests {
    /// Reads the directory.
    pub fn read(settings: &Settings) -> Self {
        let revision = Scanner::new(&settings.manifests, Trust::of(settings)).scan();
        Self { dir: settings.manifests.clone(), patches: settings.state_dir.join("patches"), revision }
    }

    /// What the host wants done about changes by commands.
    pub fn policy(&self) -> ManifestPolicy {
        let host = self.revision.host().and_then(|held| held.document.host());
        host.and_then(|host| host.spec.manifest_policy).unwrap_or(ManifestPolicy::Edit)
    }

    /// A host of that name, if the host's manifest knows it.
    pub fn peer(&self, name: &str) -> Option<Peer> {
        let host = self.revision.host().and_then(|held| held.document.host())?;
        host.spec.peers.iter().find(|peer| peer.name.as_str() == name).cloned()
    }

    /// Whether there is a profile of that name.
    pub fn has_profile(&self, name: &str) -> bool {
        self.revision.documents.iter().any(|held| {
            held.document.kind == Some(Kind::Profile) && held.document.name.as_deref() == Some(name)
        })
    }

    /// The profile of VEs that name none.
    pub fn default_profile(&self) -> Option<String> {
        let host = self.revision.host().and_then(|held| held.document.host())?;
        host.spec.default_profile.as_ref().map(ToString::to_string)
    }

    /// Whether the host's manifest says a template for VEs that have no other.
    pub fn has_default_template(&self) -> bool {
        let host = self.revision.host().and_then(|held| held.document.host());
        host.is_some_and(|host| host.spec.default_template.is_some())
    }

    /// Whether a profile says something of a field.
    pub fn profile_says(&self, profile: &str, field: &str) -> bool {
        let is_it = |document: &Document| {
            document.kind == Some(Kind::Profile) && document.name.as_deref() == Some(profile)
        };
        let found = self.revision.documents.iter().find(|held| is_it(&held.document));
        found.is_some_and(|held| held.document.tree.get(field).is_some_and(|node| !node.is_null()))
    }

    /// Fields of a VE's manifest, but for these, of which a profile says something too, or says it in its other way.
    pub fn said_by_both(&self, ve: &str, profile: &str, but: &[&str]) -> Vec<String> {
        let Some(written) = self.written(ve) else { return Vec::new() };
        let mut fields = Vec::new();
        leaves(written.get("spec"), "spec", &mut fields);
        fields.retain(|field| {
            let twin = twin(field);
            let said = self.profile_says(profile, field)
                || twin.is_some_and(|twin| self.profile_says(profile, twin));
            said && !but.contains(&field.as_str())
        });
        fields
    }

    /// Whether a manifest describes that VE.
    pub fn has(&self, name: &str) -> bool {
        self.revision.ve(name).is_some()
    }

    /// What a VE's manifest says, as it is written.
    pub fn written(&self, name: &str) -> Option<&Node> {
        self.revision.ve(name).map(|held| &held.document.tree)
    }

    /// The text of a VE's manifest with these changes, checked alone and together with all others.
    pub fn edit(&self, name: &str, changes: &[Change]) -> Result<Edited, Unfit> {
        let held = self.revision.ve(name).ok_or_else(|| {
            Unfit::new(format!("no manifest in {} describes the VE {name}", self.dir.display()))
        })?;
        let file = held.file.to_string();
        let path =
            fs::canonicalize(&file).map_err(|error| Unfit::new(format!("cannot find {file}: {error}")))?;
        let old = fs::read_to_string(&path)
            .map_err(|error| Unfit::new(format!("cannot read {}: {error}", path.display())))?;
        let new = edit(&file, &old, (Kind::Ve, name), changes).map_err(|wrong| Unfit::of(&wrong, &old))?;
        self.check(&file, &new)?;
        Ok(Edited { path, file, old, new })
    }

    /// Whether such a file could be made, and where it would be.
    pub fn try_add(&self, stem: &str, text: &str) -> Result<PathBuf, Unfit> {
        let path = self.dir.join(format!("{stem}.yaml"));
        let file = path.display().to_string();
        let wrong: Vec<_> =
            parse(&file, text.as_bytes()).diagnostics.into_iter().filter(Diagnostic::is_error).collect();
        if !wrong.is_empty() {
            return Err(Unfit::of(&wrong, text));
        }
        self.check(&file, text)?;
        if path.exists() {
            return Err(Unfit::new(format!("cannot write {file}: it is there already")));
        }
        Ok(path)
    }

    /// Makes a file for a VE that no manifest describes yet.
    pub fn add(&self, stem: &str, text: &str) -> Result<PathBuf, Unfit> {
        let path = self.try_add(stem, text)?;
        let file = path.display().to_string();
        let cannot = |error: std::io::Error| Unfit::new(format!("cannot write {file}: {error}"));
        // Under a name that no reader takes, then put in its place, unless something is there.
        let hidden = self.dir.join(format!(".{stem}.yaml.{}.tmp", std::process::id()));
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&hidden)
            .and_then(|mut out| out.write_all(text.as_bytes()).and_then(|()| out.sync_all()))
            .and_then(|()| fs::hard_link(&hidden, &path));
        let gone = fs::remove_file(&hidden);
        written.and(gone).map_err(cannot)?;
        atomic::sync(&self.dir).map_err(|error| Unfit::new(error.to_string()))?;
        Ok(path)
    }

    /// What is wrong with all documents together, if that file had this text, and concerns it.
    fn check(&self, file: &str, text: &str) -> Result<(), Unfit> {
        let own = parse(file, text.as_bytes()).documents;
        let others = self.revision.documents.iter().filter(|held| &*held.file != file);
        let all: Vec<&Document> = others.map(|held| &*held.document).chain(&own).collect();
        let set = Set::new(all.iter().copied());
        let together = set.check().into_iter().filter(|problem| {
            problem.is_error() && own.iter().any(|document| document.is_concerned_by(problem))
        });
        let resolved =
            own.iter().filter(|is| is.kind == Some(Kind::Ve)).filter_map(|is| set.resolve(is).err());
        let wrong: Vec<_> = together.chain(resolved.flatten()).filter(Diagnostic::is_error).collect();
        if wrong.is_empty() { Ok(()) } else { Err(Unfit::of(&wrong, text)) }
    }

    /// Writes what was to be changed where somebody will look at it.
    pub fn spool(&self, name: &str, edited: &Edited) -> SysResult<PathBuf> {
        fs::create_dir_all(&self.patches).at("make", self.patches.display())?;
        for count in 1.. {
            let path = self.patches.join(format!("{name}-{count:04}.patch"));
            match fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path) {
                Ok(mut out) => {
                    out.write_all(edited.diff().as_bytes()).at("write", path.display())?;
                    return Ok(path);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(crate::error::SysError::new("make", path.display(), error)),
            }
        }
        Ok(self.patches.clone())
    }

    /// The text of a VE's manifest, and of nothing else: as it is written, if it has a file of its own.
    pub fn text(&self, name: &str) -> SysResult<Option<String>> {
        let Some(held) = self.revision.ve(name) else { return Ok(None) };
        let of_file = self.revision.documents.iter().filter(|other| other.file == held.file).count();
        if of_file > 1 {
            return Ok(Some(to_yaml(&Value::of(&held.document.tree))));
        }
        fs::read_to_string(&*held.file).map(Some).at("read", &held.file)
    }

    /// The text of a manifest for a clone of a VE, and the fields that were left out.
    pub fn clone_of(&self, ve: &str, to: NewVe<'_>) -> Result<(String, Vec<String>), Unfit> {
        let text = self.text(ve).map_err(|error| Unfit::new(error.to_string()))?;
        let text = text.ok_or_else(|| {
            Unfit::new(format!("no manifest in {} describes the VE {ve}", self.dir.display()))
        })?;
        clone(&self.file(ve).unwrap_or_default(), &text, ve, to).map_err(|wrong| Unfit::of(&wrong, &text))
    }

    /// What a VE is to be of which a new file at that path has this text.
    pub fn desired(&self, path: &Path, text: &str) -> Result<Desired, Unfit> {
        let file = path.display().to_string();
        let own = parse(&file, text.as_bytes()).documents;
        let set = Set::new(self.revision.documents.iter().map(|held| &*held.document).chain(&own));
        let document = own.first().ok_or_else(|| Unfit::new(format!("{file} describes nothing")))?;
        let resolved = set.resolve(document).map_err(|wrong| Unfit::of(&wrong, text))?;
        lower(document, &resolved, &host_device).map_err(|wrong| {
            let told: Vec<_> = wrong.iter().map(ToString::to_string).collect();
            Unfit { message: told.join("\n"), code: Some(Code::BadValue) }
        })
    }

    /// The file that describes a VE.
    pub fn file(&self, name: &str) -> Option<String> {
        self.revision.ve(name).map(|held| held.file.to_string())
    }

    /// Takes a VE's file out of the directory, under a name with that at its end, which is passed over; false if the
    /// file describes more than that VE.
    pub fn retire(&self, name: &str, end: &str) -> SysResult<bool> {
        let Some(held) = self.revision.ve(name) else { return Ok(true) };
        let path = PathBuf::from(&*held.file);
        let of_file = self.revision.documents.iter().filter(|other| other.file == held.file).count();
        if of_file > 1 {
            return Ok(false);
        }
        let mut retired = path.clone().into_os_string();
        retired.push(end);
        fs::rename(&path, &retired).at("rename", path.display())?;
        Ok(true)
    }
}

/// What one of the two says, the other says too.
const SYNONYMS: [(&str, &str); 2] =
    [("spec.memory.ram", "spec.beancounters.physpages"), ("spec.memory.swap", "spec.beancounters.swappages")];

/// The other field that says what this one does.
pub fn twin(field: &str) -> Option<&'static str> {
    SYNONYMS.iter().find_map(|(one, other)| match field {
        field if field == *one => Some(*other),
        field if field == *other => Some(*one),
        _ => None,
    })
}

/// The paths of all fields that are no maps.
fn leaves(node: Option<&Node>, path: &str, fields: &mut Vec<String>) {
    match node {
        Some(node) if node.entries().is_empty() => fields.push(path.to_owned()),
        Some(node) => {
            for entry in node.entries() {
                leaves(Some(&entry.value), &format!("{path}.{}", entry.key.text), fields);
            }
        }
        None => {}
    }
}

impl Edited {
    /// Whether anything is to be written.
    pub fn is_changed(&self) -> bool {
        self.old != self.new
    }

    /// What messages call the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What is changed, as diff(1) and git(1) show it.
    pub fn diff(&self) -> String {
        let name = self.file.trim_start_matches('/');
        similar::TextDiff::from_lines(&self.old, &self.new)
            .unified_diff()
            .header(&format!("a/{name}"), &format!("b/{name}"))
            .to_string()
    }

    /// Exchanges the file, if it is still what it was.
    pub fn write(&self) -> Result<(), Unfit> {
        self.exchange(&self.old, &self.new)
    }

    /// Puts back what was there, if nobody has changed it since.
    pub fn revert(&self) -> Result<(), Unfit> {
        self.exchange(&self.new, &self.old)
    }

    fn exchange(&self, from: &str, to: &str) -> Result<(), Unfit> {
        let now = fs::read(&self.path)
            .map_err(|error| Unfit::new(format!("cannot read {}: {error}", self.path.display())))?;
        if now != from.as_bytes() {
            return Err(Unfit::new(format!("{} was changed by somebody else meanwhile", self.file)));
        }
        replace(&self.path, to).map_err(|error| Unfit::new(error.to_string()))
    }
}

/// A file with another text: whole or not at all, with the owner and the mode it has.
fn replace(path: &Path, text: &str) -> SysResult<()> {
    atomic::replace(path, text.as_bytes(), &Writes::default())
}
