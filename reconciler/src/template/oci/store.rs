//! Images in the store: one directory a manifest, whatever layout or registry it came from.
//!
//! An image of a registry is asked for once: as long as the store has what a name meant then, that is what it means. Only
//! `vzd template add` and `update` ask again. A digest means the same everywhere.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use vzd_schema::v1::{OciImage, OciPlace};

use super::document::{Descriptor, Digest, Document, MAX_DOCUMENT, Platform, choose};
use super::error::ImageProblem;
use super::layout::{self, BLOBS, Image, Layout};
use super::{application, layers, skopeo};
use crate::template::error::TemplateError;
use crate::template::index::{Record, Stamp, key};
use crate::template::store::{Store, flock};
use crate::template::{Skipped, Tally, Template};

/// How the names of roots that were made of images begin; with the version of the unpacker.
pub(in crate::template) const IMAGE: &str = "oci-v1-";

/// A directory that is removed again.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left goes with the next one that is made.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Store {
    /// The root that an image makes.
    pub(in crate::template) fn ensure_image(&self, image: &OciImage) -> Result<Template, TemplateError> {
        let name = match &image.place {
            OciPlace::Layout(path) => {
                return self.ensure_layout(path.as_path(), image.tag.as_deref(), image.pin.as_deref());
            }
            OciPlace::Registry(name) => name,
        };
        // Nothing on this machine changes when a name comes to mean another image.
        let key = key(IMAGE, Path::new(&format!("//{image}")));
        let once = || self.known(&key, &Stamp::never());
        if let Some(template) = once()? {
            return Ok(template);
        }
        let _one_at_a_time = self.fetching()?;
        if let Some(template) = once()? {
            return Ok(template);
        }
        tracing::info!(image = %image, "fetching an image");
        self.sweep();
        let scratch = Scratch(self.partial(".oci"));
        self.fetch(image, name, &scratch.0)?;
        let layout = Layout::open(&scratch.0)?;
        let shown = format!("oci:{image}");
        let found = layout.image(None, None).map_err(|problem| TemplateError::image(&shown, problem))?;
        self.ensure_found(&layout, &found, &shown, key, Stamp::never())
    }

    /// The root that an image of a layout makes.
    pub(in crate::template) fn ensure_layout(
        &self,
        path: &Path,
        tag: Option<&str>,
        pin: Option<&str>,
    ) -> Result<Template, TemplateError> {
        let shown = format!(
            "oci:{}{}{}",
            path.display(),
            tag.map(|tag| format!(":{tag}")).unwrap_or_default(),
            pin.map(|pin| format!("@sha256:{pin}")).unwrap_or_default(),
        );
        let key = key(IMAGE, Path::new(&shown));
        // Of a layout that cannot be looked at the open below tells more.
        let stamp = Layout::stamp(path);
        if let Some(stamp) = &stamp
            && let Some(template) = self.known(&key, stamp)?
        {
            return Ok(template);
        }
        let layout = Layout::open(path)?;
        let image = layout.image(tag, pin).map_err(|problem| TemplateError::image(&shown, problem))?;
        self.ensure_found(&layout, &image, &shown, key, stamp.unwrap_or_else(Stamp::never))
    }

    fn ensure_found(
        &self,
        layout: &Layout,
        image: &Image,
        shown: &str,
        key: String,
        stamp: Stamp,
    ) -> Result<Template, TemplateError> {
        let _lock = self.lock()?;
        let digest = image.descriptor.digest.hex().to_owned();
        let name = format!("{IMAGE}{digest}");
        let skipped = self.index().of_dir(&name).map_or_else(Skipped::default, |known| known.skipped);
        let mut record = Record { stamp, dir: name, digest, skipped, application: None };
        let read = |root: BorrowedFd<'_>| {
            let read = application::read(&image.config, root);
            read.map_err(|problem| TemplateError::image(shown, problem))
        };
        if let Some(there) = self.open_own(&record)? {
            record.application = read(there.dir())?;
        } else {
            tracing::info!(image = shown, digest = record.digest, "unpacking an image");
            self.make(&record.dir, |root| {
                let again = root.try_clone().map_err(|e| TemplateError::io("open", &self.own_path, e))?;
                record.skipped = self.unpack_image(layout, image, shown, root)?;
                record.application = read(again.as_fd())?;
                Ok(())
            })?;
        }
        self.remember(key, &mut record)
    }

    /// Unpacks an image into an empty directory beside the store's own.
    pub(super) fn unpack_image(
        &self,
        layout: &Layout,
        image: &Image,
        shown: &str,
        root: OwnedFd,
    ) -> Result<Skipped, TemplateError> {
        layers::unpack(layout, image, shown, root, self.own.as_fd(), (&self.limits, &self.tally))
    }

    /// Makes a layout of one image of a registry.
    pub(super) fn fetch(&self, image: &OciImage, name: &str, into: &Path) -> Result<(), TemplateError> {
        layout::prepare(into)?;
        let blobs = into.join(BLOBS);
        let descriptor = fetch(image, name, &blobs, &self.tally)
            .map_err(|problem| TemplateError::image(format!("oci:{image}"), problem))?;
        layout::complete(into, descriptor)
    }

    /// Waits until nobody else fetches an image. The store is free meanwhile.
    fn fetching(&self) -> Result<OwnedFd, TemplateError> {
        let failed =
            |op| move |e: std::io::Error| TemplateError::io(op, &self.own_path.join("fetch.lock"), e);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.own, "fetch.lock", flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| failed("open")(e.into()))?;
        flock(&fd, FlockOperation::LockExclusive).map_err(failed("lock"))?;
        Ok(fd)
    }
}

/// Fetches what is meant into a directory of blobs. Which image that is, is decided here and not by skopeo: it is asked for
/// by its digest, and has to have it.
fn fetch(image: &OciImage, name: &str, blobs: &Path, tally: &Tally) -> Result<Descriptor, ImageProblem> {
    let meant = match (&image.pin, &image.tag) {
        (Some(pin), _) => format!("{name}@sha256:{pin}"),
        (None, Some(tag)) => format!("{name}:{tag}"),
        (None, None) => name.to_owned(),
    };
    let bytes = skopeo::manifest(&meant)?;
    let top = Digest::of(&bytes);
    if image.pin.as_deref().is_some_and(|pin| pin != top.hex()) {
        return Err(ImageProblem::Digest { wanted: meant, found: top.hex().to_owned() });
    }
    let (digest, size) = match Document::read(&bytes, None)? {
        Document::Manifest(manifest) => (top, Some(manifest.bytes())),
        Document::Index(all) => {
            let digest = choose(&all, None, None, &Platform::of_host())?.digest.clone();
            // Only to be shown: what it holds is verified when all is there.
            let manifest = skopeo::manifest(&format!("{name}@{digest}")).ok();
            let size = manifest.and_then(|bytes| match Document::read(&bytes, None).ok()? {
                Document::Manifest(manifest) => Some(manifest.bytes()),
                Document::Index(_) => None,
            });
            (digest, size)
        }
    };
    tally.filling("fetching", blobs, size);
    skopeo::fetch(&format!("{name}@{digest}"), blobs)?;
    let failed = |op: &'static str| move |e| ImageProblem::sys(op, e);
    let manifest = blobs.join("manifest.json");
    let file = File::open(&manifest).map_err(failed("open the manifest that skopeo brought"))?;
    let size = file.metadata().map_err(failed("stat the manifest that skopeo brought"))?.len();
    if size > MAX_DOCUMENT {
        return Err(ImageProblem::TooLong { digest: digest.to_string(), size, most: MAX_DOCUMENT });
    }
    let bytes = std::fs::read(&manifest).map_err(failed("read the manifest that skopeo brought"))?;
    if Digest::of(&bytes) != digest {
        let found = Digest::of(&bytes).hex().to_owned();
        return Err(ImageProblem::Digest { wanted: digest.to_string(), found });
    }
    let media_type = Document::read(&bytes, None)?.media_type().to_owned();
    std::fs::rename(&manifest, blobs.join(digest.hex())).map_err(failed("rename the manifest"))?;
    std::fs::remove_file(blobs.join("version")).map_err(failed("remove skopeo's mark"))?;
    Ok(Descriptor { media_type, digest, size, platform: None, annotations: Default::default() })
}
