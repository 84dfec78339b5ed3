//! What can go wrong with a template, and what the operator can do about it.
//!
//! A message names the operation, the object and the value; the cause is its `source()` and is not repeated.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::oci::ImageProblem;
use super::recipe::{RECIPES, Recipe};

/// Why there is no template.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// A system call on a path of the store or of the operator failed.
    #[error("cannot {op} {path:?}")]
    Io {
        /// The operation, as a verb.
        op: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// An archive as a whole could not be used.
    #[error("cannot unpack archive {archive:?}")]
    Archive {
        /// The archive file.
        archive: PathBuf,
        /// Why.
        source: Box<Problem>,
    },
    /// One entry of an archive could not be used.
    #[error("cannot unpack entry {entry:?} (number {number}) of archive {archive:?}")]
    Entry {
        /// The archive file.
        archive: PathBuf,
        /// The entry's name; bytes that are not UTF-8 are replaced.
        entry: String,
        /// Its place in the archive, from 1.
        number: u64,
        /// Why.
        source: Box<Problem>,
    },
    /// An archive was written to while it was being read.
    #[error("archive {0:?} changed while it was being unpacked")]
    Changed(PathBuf),
    /// An image could not be used.
    #[error("cannot use image {image}")]
    Image {
        /// What it was called by.
        image: String,
        /// Why.
        source: Box<ImageProblem>,
    },
    /// A path in the source is not one that can be used.
    #[error("cannot use {path:?} as a template: {why}")]
    Unfit {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no static busybox on this machine.
    #[error("cannot make the tiny template: {}", match found { Some(p) => format!("{} is not statically linked", p.display()), None => "no busybox on this machine".to_owned() })]
    NoStaticBusybox {
        /// A busybox that is there, but needs libraries.
        found: Option<PathBuf>,
    },
    /// The tiny template could not be written.
    #[error("cannot make the tiny template")]
    Tiny {
        /// Why.
        source: Box<Problem>,
    },
    /// The host's busybox could not list its applets.
    #[error("cannot list the applets of {busybox:?}: {why}")]
    Applets {
        /// The program that was run.
        busybox: PathBuf,
        /// What it did instead.
        why: String,
    },
    /// No recipe has this name.
    #[error("there is no recipe named {0:?}")]
    UnknownRecipe(String),
    /// Nothing is known of how a template was made.
    #[error("template {0:?} was not built by a recipe")]
    NoRecipe(String),
    /// The machine has no source of packages that a root could be made of.
    #[error("cannot find a mirror of Debian in /etc/apt")]
    NoMirror,
    /// The program that makes a root failed.
    #[error("cannot build {recipe} with mmdebstrap")]
    Builder {
        /// The recipe.
        recipe: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file is not the one that was asked for, or that was taken in.
    #[error("archive {path:?} has SHA-256 {found}, not {wanted}")]
    Digest {
        /// The file.
        path: PathBuf,
        /// The digest that it should have.
        wanted: String,
        /// The one that it has.
        found: String,
    },
    /// An unpacked root is not what its archive or image holds.
    #[error("{path:?} of template {root:?} is not what it was made of: {what}")]
    Differs {
        /// The unpacked root.
        root: PathBuf,
        /// Where, within it.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A name that cannot be a template's.
    #[error("{0:?} cannot be the name of a template")]
    BadName(String),
    /// No template has this name.
    #[error("there is no template named {name:?} in {dir:?}")]
    UnknownName {
        /// The name that was asked for.
        name: String,
        /// Where it was looked for.
        dir: PathBuf,
        /// The names that are there.
        known: Vec<String>,
    },
}

/// What is wrong with an archive or an entry of it.
#[derive(Debug, Error)]
pub enum Problem {
    /// A system call failed.
    #[error("cannot {op}")]
    Sys {
        /// The operation, as a verb with its object.
        op: String,
        /// The errno.
        source: io::Error,
    },
    /// The file or the decompressor gave an error.
    #[error("cannot read past byte {at} of the unpacked stream")]
    Read {
        /// Bytes of tar stream read so far.
        at: u64,
        /// What the decompressor or the file said.
        source: io::Error,
    },
    /// It is not a tar archive in a compression that is known.
    #[error("{0}")]
    Format(&'static str),
    /// It ends too early.
    #[error("the archive is cut off at byte {0} of the unpacked stream")]
    Truncated(u64),
    /// It breaks the rules of tar.
    #[error("malformed archive: {what} at byte {at} of the unpacked stream")]
    Malformed {
        /// The rule.
        what: &'static str,
        /// Bytes of tar stream before the header.
        at: u64,
    },
    /// There is nothing in it.
    #[error("the archive is empty")]
    Empty,
    /// It goes on after its end.
    #[error("there is data after the archive's end marker, at byte {0} of the unpacked stream")]
    Trailing(u64),
    /// It uses a feature of tar that is not supported.
    #[error("{0} not supported")]
    Unsupported(String),
    /// An owner that no VE can have.
    #[error("{what} {id} is outside 0..65535")]
    Owner {
        /// `uid` or `gid`.
        what: &'static str,
        /// Its value.
        id: i64,
    },
    /// A name that cannot be a path inside the root.
    #[error("the {what} {why}")]
    Name {
        /// `name` or `link target`.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file capability that a VE could not have.
    #[error("bad file capability: {0}")]
    Capability(&'static str),
    /// It has more entries than allowed.
    #[error("more than {0} entries")]
    TooMany(u64),
    /// It is bigger than allowed.
    #[error("unpacked it takes more than {0} bytes")]
    TooBig(u64),
    /// It does not fit.
    #[error("needs {need} bytes more, but only {free} bytes are free beside the reserve of {reserve}")]
    NoSpace {
        /// Bytes that the next write takes.
        need: u64,
        /// Bytes that are free beside the reserve.
        free: u64,
        /// Bytes that are left alone.
        reserve: u64,
    },
}

impl Problem {
    pub(super) fn sys(op: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Sys { op: op.into(), source: source.into() }
    }
}

impl TemplateError {
    pub(super) fn io(op: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { op, path: path.to_owned(), source: source.into() }
    }

    pub(super) fn image(image: impl std::fmt::Display, problem: ImageProblem) -> Self {
        Self::Image { image: image.to_string(), source: Box::new(problem) }
    }

    /// The same about what the archive or image is a copy of.
    #[must_use]
    pub(super) fn about(mut self, file: &Path) -> Self {
        match &mut self {
            Self::Archive { archive, .. } | Self::Entry { archive, .. } => file.clone_into(archive),
            Self::Image { image, .. } => *image = file.display().to_string(),
            _ => {}
        }
        self
    }

    /// What the operator can do about it, where that can be said.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoStaticBusybox { .. } => Some("apt-get install busybox-static".into()),
            Self::UnknownName { name, .. } if Recipe::named(name).is_ok() => {
                Some(format!("`vzd template build {name}` makes it"))
            }
            Self::UnknownName { dir, known, name } => Some(format!(
                "put a directory {name} or an archive {name}.tar.zst (.xz, .gz) into {}; known: {}",
                dir.display(),
                known.join(", ")
            )),
            Self::BadName(_) => Some(
                "a name starts with a letter or digit, and holds letters, digits and . _ + - only".into(),
            ),
            Self::Changed(_) => Some(
                "wait until it has been written in full, or write it under another name and rename it".into(),
            ),
            Self::Archive { source, .. } | Self::Entry { source, .. } | Self::Tiny { source } => {
                source.help()
            }
            Self::UnknownRecipe(_) => {
                let names: Vec<_> = RECIPES.iter().map(|recipe| recipe.name).collect();
                Some(format!("the recipes are {}", names.join(", ")))
            }
            Self::Image { source, .. } => source.help(),
            Self::NoRecipe(name) => Some(format!("`vzd template add {name} FILE` takes a new archive in")),
            Self::NoMirror => Some("add a source of Debian to /etc/apt/sources.list.d".into()),
            Self::Builder { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("apt-get install mmdebstrap".into())
            }
            Self::Digest { .. } => Some("fetch the archive again, from somebody whom you trust".into()),
            Self::Differs { .. } => {
                Some("VEs of it may have been harmed: look who wrote there; `vzd template add` under another name makes a sound one".into())
            }
            Self::Builder { .. } | Self::Io { .. } | Self::Unfit { .. } | Self::Applets { .. } => None,
        }
    }
}

impl Problem {
    fn help(&self) -> Option<String> {
        Some(
            match self {
                Self::Owner { .. } => {
                    "make the archive from a root with plain ids, or give tar --owner-map and --group-map"
                }
                Self::Capability(_) => {
                    "file capabilities of a VE with shifted ids do not travel; set them again with setcap"
                }
                Self::Unsupported(what) if what.starts_with("sparse") => {
                    "make the archive without tar's --sparse"
                }
                Self::Truncated(_) | Self::Read { .. } => {
                    "fetch the archive again; it is probably incomplete"
                }
                Self::NoSpace { .. } => {
                    "free space in the state directory, or remove templates that no VE uses"
                }
                Self::Trailing(_) => "unpack joined archives one by one and make one archive of the result",
                Self::Format(_) => "a template is a tar archive, plain or compressed with gzip, xz or zstd",
                _ => return None,
            }
            .into(),
        )
    }
}
