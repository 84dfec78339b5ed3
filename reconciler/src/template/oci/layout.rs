//! An OCI image layout on disk: `oci-layout`, `index.json`, and blobs by digest in `blobs/sha256`.
//!
//! Every blob is opened by its digest and never by a name that the image chose, through no symlink. Documents are
//! verified here as they are read; layers are by whoever reads them. Must not write to a layout but a new one.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::document::{Config, Descriptor, Digest, Document, MAX_DOCUMENT, Manifest, Platform, choose};
use super::error::ImageProblem;
use crate::template::error::TemplateError;
use crate::template::index::Stamp;
use crate::template::source;

const MARK: &str = "oci-layout";
const INDEX: &str = "index.json";
/// Where blobs lie.
pub(super) const BLOBS: &str = "blobs/sha256";
/// Indexes within indexes. Real images have one or two.
const MAX_DEPTH: usize = 4;

/// Whether a directory is an image layout.
pub(in crate::template) fn is_layout(dir: &Path) -> bool {
    dir.join(MARK).is_file()
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    image_layout_version: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NewIndex {
    schema_version: u32,
    manifests: Vec<Descriptor>,
}

/// A layout, open.
#[derive(Debug)]
pub(super) struct Layout {
    dir: OwnedFd,
}

/// One image of it, with its documents read and verified.
#[derive(Debug)]
pub(super) struct Image {
    /// Of the manifest.
    pub(super) descriptor: Descriptor,
    pub(super) manifest: Manifest,
    pub(super) config: Config,
}

impl Image {
    /// All that it is made of: manifest, configuration, layers.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        [&self.descriptor, &self.manifest.config].into_iter().chain(&self.manifest.layers)
    }
}

impl Layout {
    /// Opens one that belongs to root and nobody else can write to.
    pub(super) fn open(path: &Path) -> Result<Self, TemplateError> {
        let (dir, _) = source::open_dir(path)?;
        let (index, _) = source::open_file(&path.join(INDEX)).map_err(|e| no_layout(path, e))?;
        drop(index);
        let layout = Self { dir };
        layout.check_mark().map_err(|problem| TemplateError::image(path.display(), problem))?;
        Ok(layout)
    }

    fn check_mark(&self) -> Result<(), ImageProblem> {
        let bytes = self.small(MARK)?;
        let mark: Mark = serde_json::from_slice(&bytes)
            .map_err(|e| ImageProblem::NoLayout(format!("{MARK} cannot be read: {e}")))?;
        if mark.image_layout_version != "1.0.0" {
            return Err(ImageProblem::NoLayout(format!("its version is {:?}", mark.image_layout_version)));
        }
        Ok(())
    }

    /// Tells this content from another.
    pub(super) fn stamp(path: &Path) -> Option<Stamp> {
        rustix::fs::stat(path.join(INDEX)).ok().map(|stat| Stamp::of(&stat))
    }

    /// The image that is meant, for this host.
    pub(super) fn image(&self, tag: Option<&str>, pin: Option<&str>) -> Result<Image, ImageProblem> {
        let host = Platform::of_host();
        let top = Document::read(&self.small(INDEX)?, None)?;
        let Document::Index(mut all) = top else {
            return Err(ImageProblem::NoLayout(format!("{INDEX} is no index")));
        };
        let (mut tag, mut pin) = (tag, pin);
        for _ in 0..MAX_DEPTH {
            let descriptor = choose(&all, tag.take(), pin.take(), &host)?.clone();
            match Document::read(&self.document(&descriptor)?, Some(&descriptor.media_type))? {
                Document::Index(inner) => all = inner,
                Document::Manifest(manifest) => {
                    let config = Config::read(&self.document(&manifest.config)?)?;
                    if config.platform != host {
                        let found = vec![config.platform.to_string()];
                        return Err(ImageProblem::Platform { host: host.to_string(), found });
                    }
                    return Ok(Image { descriptor, manifest, config });
                }
            }
        }
        Err(ImageProblem::TooDeep(MAX_DEPTH))
    }

    /// A blob of the size that is said. Whoever reads it verifies its digest.
    pub(super) fn blob(&self, of: &Descriptor) -> Result<File, ImageProblem> {
        let (file, size) = self.file(&format!("{BLOBS}/{}", of.digest.hex()), &of.digest.to_string())?;
        if size != of.size {
            return Err(ImageProblem::Size { digest: of.digest.to_string(), said: of.size, found: size });
        }
        Ok(file)
    }

    /// The bytes of a document that have the digest that is said.
    fn document(&self, of: &Descriptor) -> Result<Vec<u8>, ImageProblem> {
        let digest = of.digest.to_string();
        if of.size > MAX_DOCUMENT {
            return Err(ImageProblem::TooLong { digest, size: of.size, most: MAX_DOCUMENT });
        }
        let bytes = read(&self.blob(of)?, &digest)?;
        let found = Digest::of(&bytes);
        if found == of.digest {
            Ok(bytes)
        } else {
            Err(ImageProblem::Digest { wanted: digest, found: found.hex().to_owned() })
        }
    }

    /// A document of the layout itself.
    fn small(&self, name: &str) -> Result<Vec<u8>, ImageProblem> {
        let (file, size) = self.file(name, name)?;
        if size > MAX_DOCUMENT {
            return Err(ImageProblem::TooLong { digest: name.to_owned(), size, most: MAX_DOCUMENT });
        }
        read(&file, name)
    }

    fn file(&self, path: &str, shown: &str) -> Result<(File, u64), ImageProblem> {
        // Non-blocking, or the open of a fifo waits for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let fd = match rustix::fs::openat2(self.dir.as_fd(), path, flags, Mode::empty(), resolve) {
            Err(Errno::NOENT) => return Err(ImageProblem::Missing(shown.to_owned())),
            done => done.map_err(|e| ImageProblem::sys(format!("open {path}"), e))?,
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| ImageProblem::sys(format!("stat {path}"), e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ImageProblem::sys(format!("read {path}"), Errno::INVAL));
        }
        Ok((File::from(fd), u64::try_from(stat.st_size).unwrap_or_default()))
    }
}

/// At most [`MAX_DOCUMENT`] bytes and one.
fn read(file: &File, name: &str) -> Result<Vec<u8>, ImageProblem> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes);
    read.map_err(|e| ImageProblem::sys(format!("read {name}"), e))?;
    Ok(bytes)
}

fn no_layout(path: &Path, error: TemplateError) -> TemplateError {
    match error {
        TemplateError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            let problem = ImageProblem::NoLayout(format!("there is no {INDEX}"));
            TemplateError::image(path.display(), problem)
        }
        other => other,
    }
}

/// Makes the directories of a new layout, for its owner only.
pub(super) fn prepare(path: &Path) -> Result<(), TemplateError> {
    let dir = path.join(BLOBS);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    made.map_err(|e| TemplateError::io("make directory", &dir, e))
}

/// Completes a new layout of one image whose blobs are there.
pub(super) fn complete(path: &Path, image: Descriptor) -> Result<(), TemplateError> {
    let write = |name: &str, text: Vec<u8>| {
        let path = path.join(name);
        std::fs::write(&path, text).map_err(|e| TemplateError::io("write", &path, e))
    };
    let index = NewIndex { schema_version: 2, manifests: vec![image] };
    write(INDEX, serde_json::to_vec(&index).unwrap_or_default())?;
    let mark = Mark { image_layout_version: "1.0.0".to_owned() };
    write(MARK, serde_json::to_vec(&mark).unwrap_or_default())?;
    let dir = File::open(path).map_err(|e| TemplateError::io("open", path, e))?;
    rustix::fs::syncfs(&dir).map_err(|e| TemplateError::io("sync", path, e))
}

/// Bytes of all blobs of a layout.
pub(in crate::template) fn bytes(path: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(path.join(BLOBS)).ok()?;
    Some(entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|is| is.len()).sum())
}
