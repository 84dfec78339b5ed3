//! What an operator does with templates: list them, take an archive in, have one built, take one out.
//!
//! A template that is taken in is an archive `NAME.tar.*` or an image layout `NAME/` in the templates directory, put there under another name, synced
//! and renamed; beside it `.NAME.json` says how it was made. Must not touch what the operator put there by hand in
//! another way (directories), nor anything in the store but through it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use serde::{Deserialize, Serialize};

use super::codec::Codec;
use super::error::TemplateError;
use super::oci;
use super::recipe::Recipe;
use super::source::{self, Found};
use super::store::{Store, hash};
use super::{Source, Template, unpack};

/// How an archive's name ends while it is being written, after the number of the process that writes.
const PARTIAL: &str = ".partial";

/// A template by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// What manifests say.
    pub name: String,
    /// `archive`, `image`, `directory` or `built-in`.
    pub kind: &'static str,
    /// Where it lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Bytes of the archive or image.
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
    /// The image that it was taken from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// SHA-256 of the archive, or of the image's manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Store {
    /// Every name that a manifest may say, with what it stands for.
    pub fn list(&self) -> Result<Vec<Listed>, TemplateError> {
        let listed = |name: String| {
            let found = source::find(self.dir(), &name)?;
            let (kind, path) = match found {
                Found::Tiny => ("built-in", None),
                Found::Dir(path) => ("directory", Some(path)),
                Found::File(path) => ("archive", Some(path)),
                Found::Layout(path) => ("image", Some(path)),
            };
            let bytes = path.as_deref().and_then(|path| match kind {
                "archive" => Some(std::fs::metadata(path).ok()?.len()),
                "image" => oci::bytes(path),
                _ => None,
            });
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
            self.tally.reading("copying", &archive);
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

    /// Builds one anew by the recipe that it was built by, or takes in what its image is now.
    pub fn update(&self, name: &str) -> Result<Template, TemplateError> {
        let Origin { recipe, image, .. } = self.origin(name);
        let image = image.as_deref().and_then(|image| image.strip_prefix("oci:")?.parse().ok());
        match (recipe, image) {
            (Some(recipe), _) => self.build(name, Recipe::named(&recipe)?),
            (None, Some(image)) => self.add_image(name, &image, None),
            (None, None) => Err(TemplateError::NoRecipe(name.to_owned())),
        }
    }

    /// Takes a template out of the directory. VEs that were made of it keep their root.
    pub fn remove(&self, name: &str) -> Result<(), TemplateError> {
        let found = source::find(self.dir(), name)?;
        match found {
            Found::File(path) | Found::Layout(path) if self.may_replace(name, &path) => {
                let _lock = self.lock()?;
                self.throw_away(name, &path)?;
                match std::fs::remove_file(self.origin_path(name)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        Err(TemplateError::io("remove", &self.origin_path(name), e))
                    }
                    _ => Ok(()),
                }
            }
            Found::Dir(path) | Found::Layout(path) | Found::File(path) => {
                Err(TemplateError::Unfit { path, why: "it is a directory of yours: remove it yourself" })
            }
            Found::Tiny => Err(TemplateError::Unfit { path: name.into(), why: "it is built in" }),
        }
    }

    /// Reads a template's archive or image again: whether it is the one that was taken in, and whether what was unpacked of
    /// it is what would be unpacked now. Returns its SHA-256.
    pub fn verify(&self, name: &str) -> Result<String, TemplateError> {
        let template = self.ensure(&Source::Named(name.to_owned()))?;
        let taken = self.origin(name).sha256;
        match source::find(self.dir(), name)? {
            Found::Tiny | Found::Dir(_) => {}
            Found::Layout(path) => self.verify_image(&path, taken.as_deref(), &template)?,
            Found::File(path) => {
                let (file, _) = source::open_file(&path)?;
                self.tally.reading("reading", &file);
                let found = hash(&file, &path)?;
                if taken.as_ref().is_some_and(|taken| *taken != found) {
                    return Err(TemplateError::Digest { path, wanted: taken.unwrap_or_default(), found });
                }
                self.verify_root(&template, |root| {
                    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))
                        .map_err(|e| TemplateError::io("seek in", &path, e))?;
                    self.tally.reading("unpacking to compare", &file);
                    unpack::unpack(&file, &path, root, self.own.as_fd(), (&self.limits, 0)).map(drop)
                })?;
            }
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
        let partial = self.partial(name);
        let done = self.take_in_at(&partial, name, &mut origin, sha256, write);
        // After a rename there is nothing of this name, or what was there before.
        drop(discard(&partial));
        done
    }

    /// What is being written under a name.
    pub(super) fn partial(&self, name: &str) -> PathBuf {
        self.dir().join(format!(".{name}.{}{PARTIAL}", std::process::id()))
    }

    /// Takes away what was being written by processes that are gone.
    pub(super) fn sweep(&self) {
        for entry in std::fs::read_dir(self.dir()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let stem = name
                .to_str()
                .filter(|name| name.starts_with('.'))
                .and_then(|name| name.strip_suffix(PARTIAL));
            let writer = stem.and_then(|stem| stem.rsplit_once('.')?.1.parse::<u32>().ok());
            if writer.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                // It is in nobody's way; only its space is lost until the next try.
                drop(discard(&entry.path()));
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
        self.tally.writing("building", &file);
        write(&mut file)?;
        file.sync_all().map_err(failed("sync"))?;
        let (file, _) = source::open_file(partial)?;
        self.tally.reading("reading", &file);
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
        self.publish(partial, name, suffix, origin)
    }

    /// Gives what is complete at `partial` its name, in place of what vzd took in under it before. What that was may lie at
    /// `partial` then.
    pub(super) fn publish(
        &self,
        partial: &Path,
        name: &str,
        suffix: &str,
        origin: &Origin,
    ) -> Result<Template, TemplateError> {
        let before = match source::find(self.dir(), name) {
            Ok(Found::File(path) | Found::Layout(path)) if self.may_replace(name, &path) => Some(path),
            Ok(Found::Dir(path) | Found::Layout(path) | Found::File(path)) => {
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
        // A directory takes another's place only by changing with it.
        let flags = match &before {
            Some(before) if *before == path && partial.is_dir() => RenameFlags::EXCHANGE,
            _ => RenameFlags::empty(),
        };
        rustix::fs::renameat_with(CWD, partial, CWD, &path, flags)
            .map_err(|e| TemplateError::io("rename what is finished to", &path, e))?;
        if let Some(before) = before.filter(|before| *before != path) {
            self.throw_away(name, &before)?;
        }
        self.write_origin(name, origin)?;
        File::open(self.dir())
            .and_then(|dir| dir.sync_all())
            .map_err(|e| TemplateError::io("sync", self.dir(), e))?;
        self.ensure(&Source::Named(name.to_owned()))
    }

    /// Whether what has this name is an archive, or was taken in by vzd: directories of the operator's are his.
    fn may_replace(&self, name: &str, path: &Path) -> bool {
        !path.is_dir() || (path.parent() == Some(self.dir()) && self.origin(name).image.is_some())
    }

    /// Removes an archive or a layout, so that there is all of it or nothing.
    fn throw_away(&self, name: &str, path: &Path) -> Result<(), TemplateError> {
        let failed = |e| TemplateError::io("remove", path, e);
        if !path.is_dir() {
            return std::fs::remove_file(path).map_err(failed);
        }
        let aside = self.partial(&format!("{name}.old"));
        std::fs::rename(path, &aside).map_err(failed)?;
        std::fs::remove_dir_all(&aside).map_err(failed)
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

/// Removes a file or a directory that nobody uses.
pub(super) fn discard(path: &Path) -> io::Result<()> {
    if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
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
