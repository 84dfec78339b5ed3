//! Makes a root of an image's layers.
//!
//! Each layer goes over what those before it have left: first it takes away what it has whiteouts for, then it adds its
//! own. Both are passes over the same blob, which is verified each time: what a whiteout takes away is only what lies
//! below, wherever in the layer it stands. Must not publish the root: on an error the caller throws it away.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use super::error::ImageProblem;
use super::layout::{Image, Layout};
use crate::template::error::TemplateError;
use crate::template::unpack::{Part, Unpacker};
use crate::template::{Limits, Skipped, Tally};

/// Unpacks an image into `root`. `trash` is a directory on the same file system as `root` and outside of it; `shown` is
/// what the image is called in messages.
pub(super) fn unpack(
    layout: &Layout,
    image: &Image,
    shown: &str,
    root: OwnedFd,
    trash: BorrowedFd<'_>,
    (limits, tally): (&Limits, &Tally),
) -> Result<Skipped, TemplateError> {
    let failed =
        |problem| TemplateError::Archive { archive: PathBuf::from(shown), source: Box::new(problem) };
    let mut unpacker = Unpacker::new(root, trash, limits).map_err(failed)?;
    for (number, layer) in image.manifest.layers.iter().enumerate() {
        let digest = layer.digest.to_string();
        let about = |problem| TemplateError::image(shown, problem);
        let file = layout.blob(layer).map_err(about)?;
        // Below the first there is nothing to take away.
        let parts = if number == 0 { &[Part::Additions][..] } else { &[Part::Removals, Part::Additions] };
        for part in parts {
            rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))
                .map_err(|e| about(ImageProblem::sys(format!("seek in {digest}"), e)))?;
            tally
                .reading(format!("unpacking layer {} of {}", number + 1, image.manifest.layers.len()), &file);
            let found = unpacker.archive(&file, &PathBuf::from(&digest), *part)?;
            if found != layer.digest.hex() {
                return Err(about(ImageProblem::Digest { wanted: digest, found }));
            }
        }
    }
    unpacker.finish().map_err(failed)
}
