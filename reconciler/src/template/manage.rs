//! What an operator does with templates: list them, take an archive in, have one built, take one out.
//!
//! A template that is taken in is an archive `NAME.tar.*` in the templates directory, put there under another name, synced
//! and renamed; beside it `.NAME.json` says how it was made. Must not touch what the operator put there by hand in
//! another way (directories), nor anything in the store but through it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::codec::Codec;
use super::error::TemplateError;
use super::recipe::Recipe;
use super::source::{self, Found};
use super::store::{Store, hash};
use super::{Source, Template};

/// How an archive's name ends while it is being written, after the number of the process that writes.
const PARTIAL: &str = ".partial";

/// A template by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// What manifests say.
    pub name: String,
    /// `archive`, `directory` or `built-in`.
    pub kind: &'static str,
    /// Where it lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Bytes of the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How it was made, if vzd knows.
    #[serde(flatten)]
    pub origin: Origin,
}

/// How a template came to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Origin {
    /// The recipe that it was built by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// The file that it was taken from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// SHA-256 of the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Store {
    /// Every name that a manifest may say, with what it stands for.
    pub fn list(&self) -> Result<Vec<Listed>, TemplateError> {
        let listed = |name: String| {
            let found = source::find(self.dir(), &Source::Named(name.clone()))?;
            let (kind, path) = match found {
                Found::Tiny => ("built-in", None),
                Found::Dir(path) => ("directory", Some(path)),
                Found::File(path) => ("archive", Some(path)),
            };
            let bytes = path.as_ref().filter(|_| kind == "archive");
            let bytes = bytes.and_then(|path| Some(std::fs::metadata(path).ok()?.len()));
            let origin = self.origin(&name);
            Ok(Listed { name, kind, path, bytes, origin })
        };
        self.names().into_iter().map(listed).collect()
    }

    /// Takes an archive in under a name, and unpacks it. With `sha256` it has to be that file. On an error nothing is left
    /// of it.
    pub fn add(&self, name: &str, file: &Path, sha256: Option<&str>) -> Result<Template, TemplateError> {
        let (archive, _) = source::open_file(file)?;
        let origin = Origin { file: Some(file.to_owned()), ..Origin::default() };
        self.take_in(name, origin, sha256, |out| {
            io::copy(&mut &archive, out).map(drop).map_err(|e| TemplateError::io("copy", file, e))
        })
    }

    /// Has a template built by its recipe, in place of the one of that name if there is one. VEs that exist keep theirs.
    pub fn build(&self, name: &str, recipe: &Recipe) -> Result<Template, TemplateError> {
        let origin = Origin { recipe: Some(recipe.name.to_owned()), ..Origin::default() };
        self.take_in(name, origin, None, |out| {
            let failed = |source| TemplateError::Builder { recipe: recipe.name, source };
            let mut builder = recipe.command()?.spawn().map_err(failed)?;
            let mut root = builder.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
            let packed = zstd::stream::copy_encode(&mut root, out, 3);
            drop(root);
            let status = builder.wait().map_err(failed)?;
            // A builder that failed is the reason of a short archive.
            if !status.success() {
                return Err(failed(io::Error::other(format!("it ended with {status}; see above"))));
            }
            packed.map_err(failed)
        })
    }

    /// Builds one anew by the recipe that it was built by.
    pub fn update(&self, name: &str) -> Result<Template, TemplateError> {
        match self.origin(name).recipe {
            Some(recipe) => self.build(name, Recipe::named(&recipe)?),
            None => Err(TemplateError::NoRecipe(name.to_owned())),
        }
    }

    /// Takes a template out of the directory. VEs that were made of it keep their root.
    pub fn remove(&self, name: &str) -> Result<(), TemplateError> {
        match source::find(self.dir(), &Source::Named(name.to_owned()))? {
            Found::File(path) => {
                let _lock = self.lock()?;
                std::fs::remove_file(&path).map_err(|e| TemplateError::io("remove", &path, e))?;
                match std::fs::remove_file(self.origin_path(name)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        Err(TemplateError::io("remove", &self.origin_path(name), e))
                    }
                    _ => Ok(()),
                }
            }
            Found::Dir(path) => {
                Err(TemplateError::Unfit { path, why: "it is a directory of yours: remove it yourself" })
            }
            Found::Tiny => Err(TemplateError::Unfit { path: name.into(), why: "it is built in" }),
        }
    }

    /// Reads a template's archive again: whether it is the one that was taken in, and whether what was unpacked of it is
    /// what would be unpacked now. Returns the archive's SHA-256.
    pub fn verify(&self, name: &str) -> Result<String, TemplateError> {
        let template = self.ensure(&Source::Named(name.to_owned()))?;
        if let Found::File(path) = source::find(self.dir(), &Source::Named(name.to_owned()))? {
            let (file, _) = source::open_file(&path)?;
            let found = hash(&file, &path)?;
            let taken = self.origin(name).sha256;
            if taken.as_ref().is_some_and(|taken| *taken != found) {
                return Err(TemplateError::Digest { path, wanted: taken.unwrap_or_default(), found });
            }
            self.verify_root(&file, &path, &template)?;
        }
        Ok(template.digest)
    }

    /// Writes an archive under a name with what `write` gives, and unpacks it.
    fn take_in(
        &self,
        name: &str,
        mut origin: Origin,
        sha256: Option<&str>,
        write: impl FnOnce(&mut dyn Write) -> Result<(), TemplateError>,
    ) -> Result<Template, TemplateError> {
        source::checked_name(name)?;
        self.sweep();
        let partial = self.dir().join(format!(".{name}.{}{PARTIAL}", std::process::id()));
        let done = self.take_in_at(&partial, name, &mut origin, sha256, write);
        // After a rename there is nothing of this name.
        drop(std::fs::remove_file(&partial));
        done
    }

    /// Takes away archives that were being written by processes that are gone.
    fn sweep(&self) {
        for entry in std::fs::read_dir(self.dir()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let stem = name
                .to_str()
                .filter(|name| name.starts_with('.'))
                .and_then(|name| name.strip_suffix(PARTIAL));
            let writer = stem.and_then(|stem| stem.rsplit_once('.')?.1.parse::<u32>().ok());
            if writer.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                // It is in nobody's way; only its space is lost until the next try.
                drop(std::fs::remove_file(entry.path()));
            }
        }
    }

    fn take_in_at(
        &self,
        partial: &Path,
        name: &str,
        origin: &mut Origin,
        sha256: Option<&str>,
        write: impl FnOnce(&mut dyn Write) -> Result<(), TemplateError>,
    ) -> Result<Template, TemplateError> {
        let failed = |op: &'static str| move |e: io::Error| TemplateError::io(op, partial, e);
        let mut file =
            File::options().read(true).write(true).create_new(true).open(partial).map_err(failed("make"))?;
        write(&mut file)?;
        file.sync_all().map_err(failed("sync"))?;
        let (file, _) = source::open_file(partial)?;
        let found = hash(&file, partial)?;
        if let Some(wanted) = sha256.filter(|wanted| !wanted.eq_ignore_ascii_case(&found)) {
            let path = origin.file.clone().unwrap_or_default();
            return Err(TemplateError::Digest { path, wanted: wanted.to_owned(), found });
        }
        origin.sha256 = Some(found);
        let suffix = suffix(&file, partial)?;
        // What cannot be unpacked does not get the name.
        let file = origin.file.as_deref();
        self.ensure(&Source::File(partial.to_owned()))
            .map_err(|e| e.about(file.unwrap_or(Path::new(name))))?;
        let before = match source::find(self.dir(), &Source::Named(name.to_owned())) {
            Ok(Found::File(path)) => Some(path),
            Ok(Found::Dir(path)) => {
                return Err(TemplateError::Unfit { path, why: "a directory has this name already" });
            }
            Ok(Found::Tiny) => {
                return Err(TemplateError::Unfit {
                    path: name.into(),
                    why: "the name is taken: it is built in",
                });
            }
            Err(_) => None,
        };
        let path = self.dir().join(format!("{name}{suffix}"));
        std::fs::rename(partial, &path)
            .map_err(|e| TemplateError::io("rename the finished archive to", &path, e))?;
        if let Some(before) = before.filter(|before| *before != path) {
            std::fs::remove_file(&before).map_err(|e| TemplateError::io("remove", &before, e))?;
        }
        self.write_origin(name, origin)?;
        File::open(self.dir())
            .and_then(|dir| dir.sync_all())
            .map_err(|e| TemplateError::io("sync", self.dir(), e))?;
        self.ensure(&Source::Named(name.to_owned()))
    }

    fn origin_path(&self, name: &str) -> PathBuf {
        self.dir().join(format!(".{name}.json"))
    }

    /// How it was made; nothing is known of what came here in another way.
    fn origin(&self, name: &str) -> Origin {
        let text = std::fs::read(self.origin_path(name)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn write_origin(&self, name: &str, origin: &Origin) -> Result<(), TemplateError> {
        let path = self.origin_path(name);
        let text = serde_json::to_vec_pretty(origin).unwrap_or_default();
        let written = crate::store::atomic::write(&path, &text, &crate::store::Writes::default());
        written.map(drop).map_err(|e| TemplateError::io("write", &path, io::Error::other(e)))
    }
}

/// How an archive's name ends, by its content.
fn suffix(file: &File, path: &Path) -> Result<&'static str, TemplateError> {
    let mut head = [0; 512];
    let read = rustix::io::pread(file, &mut head, 0).map_err(|e| TemplateError::io("read", path, e))?;
    let codec = Codec::of(&head[..read])
        .map_err(|problem| TemplateError::Archive { archive: path.to_owned(), source: Box::new(problem) })?;
    Ok(match codec {
        Codec::Plain => ".tar",
        Codec::Gzip => ".tar.gz",
        Codec::Xz => ".tar.xz",
        Codec::Zstd => ".tar.zst",
    })
}
