//! What an operator does with images as templates: take one in under a name, compare it with what was unpacked of it.
//!
//! One that is taken in is a layout of its own in the templates directory, with all of its blobs.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use vzd_schema::v1::{OciImage, OciPlace};

use super::error::ImageProblem;
use super::layout::{self, BLOBS, Layout};
use crate::template::Template;
use crate::template::error::TemplateError;
use crate::template::index::hex;
use crate::template::manage::{Origin, discard};
use crate::template::source;
use crate::template::store::Store;

impl Store {
    /// Takes an image in under a name, in place of the template of that name if vzd took that in too, and unpacks it. With
    /// `sha256` its manifest has to have that digest. On an error nothing is left of it.
    pub fn add_image(
        &self,
        name: &str,
        image: &OciImage,
        sha256: Option<&str>,
    ) -> Result<Template, TemplateError> {
        source::checked_name(name)?;
        self.sweep();
        let partial = self.partial(name);
        let done = self.add_image_at(&partial, name, image, sha256);
        // After a rename there is nothing of this name, or what was there before.
        drop(discard(&partial));
        done
    }

    fn add_image_at(
        &self,
        partial: &Path,
        name: &str,
        image: &OciImage,
        sha256: Option<&str>,
    ) -> Result<Template, TemplateError> {
        let shown = format!("oci:{image}");
        match &image.place {
            OciPlace::Registry(repository) => self.fetch(image, repository, partial)?,
            OciPlace::Layout(path) => copy(path.as_path(), image, &shown, partial)?,
        }
        let about = |e: TemplateError| e.about(Path::new(&shown));
        // What cannot be unpacked does not get the name.
        let template = self.ensure_layout(partial, None, None).map_err(about)?;
        if let Some(wanted) = sha256.filter(|wanted| !wanted.eq_ignore_ascii_case(&template.digest)) {
            let wanted = format!("sha256:{wanted}");
            return Err(TemplateError::image(
                &shown,
                ImageProblem::Digest { wanted, found: template.digest },
            ));
        }
        let origin = Origin { image: Some(shown), sha256: Some(template.digest), ..Origin::default() };
        self.publish(partial, name, "", &origin)
    }

    /// Reads a layout again: whether its image is the one that was taken in, and whether what was unpacked of it is what
    /// would be unpacked now.
    pub(in crate::template) fn verify_image(
        &self,
        path: &Path,
        taken: Option<&str>,
        template: &Template,
    ) -> Result<(), TemplateError> {
        let shown = path.display().to_string();
        let layout = Layout::open(path)?;
        let image = layout.image(None, None).map_err(|problem| TemplateError::image(&shown, problem))?;
        let digest = &image.descriptor.digest;
        if let Some(taken) = taken.filter(|taken| *taken != digest.hex()) {
            let (wanted, found) = (format!("sha256:{taken}"), digest.hex().to_owned());
            return Err(TemplateError::image(&shown, ImageProblem::Digest { wanted, found }));
        }
        self.verify_root(template, |root| self.unpack_image(&layout, &image, &shown, root).map(drop))
    }
}

/// Makes a layout of one image of another, and verifies what it copies.
fn copy(from: &Path, image: &OciImage, shown: &str, into: &Path) -> Result<(), TemplateError> {
    let about = |problem| TemplateError::image(shown, problem);
    let layout = Layout::open(from)?;
    let found = layout.image(image.tag.as_deref(), image.pin.as_deref()).map_err(about)?;
    layout::prepare(into)?;
    for blob in found.blobs() {
        let to = into.join(BLOBS).join(blob.digest.hex());
        let copied = layout.blob(blob).map_err(about)?;
        let digest = copy_file(&copied, &to).map_err(|e| TemplateError::io("copy a blob to", &to, e))?;
        if digest != blob.digest.hex() {
            let wanted = blob.digest.to_string();
            return Err(about(ImageProblem::Digest { wanted, found: digest }));
        }
    }
    let mut descriptor = found.descriptor;
    (descriptor.platform, descriptor.annotations) = (None, Default::default());
    layout::complete(into, descriptor)
}

/// Returns the SHA-256 of what was copied. A blob that is there already is written again: it is the same.
fn copy_file(mut from: &File, to: &Path) -> io::Result<String> {
    let mut out = File::create(to)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(n) => {
                hash.update(&buffer[..n]);
                out.write_all(&buffer[..n])?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
