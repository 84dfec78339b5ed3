//! Where the first content of a VE's disk comes from.

use super::oci::OciImage;
use super::scalars::{AbsPath, ScalarError, text_scalar};
use std::fmt;
use std::str::FromStr;

/// The source of a new VE's disk: a template's name, or where to find one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TemplateSource {
    /// `debian-12`: a template that the host knows by that name.
    Name(Box<str>),
    /// `dir:/path`: a directory on the host that is used in place.
    Dir(AbsPath),
    /// `copy:/path`: a directory on the host whose files the VE gets as its own.
    Copy(AbsPath),
    /// `file:/path`: an archive on the host that is unpacked.
    File(AbsPath),
    /// `oci:registry/image:tag`, `oci:/path:tag`: an image of a container, from a registry or a layout on the host.
    Oci(Box<OciImage>),
}

impl FromStr for TemplateSource {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        if let Some(path) = text.strip_prefix("dir:") {
            return path.parse().map(Self::Dir);
        }
        if let Some(path) = text.strip_prefix("copy:") {
            return path.parse().map(Self::Copy);
        }
        if let Some(path) = text.strip_prefix("file:") {
            return path.parse().map(Self::File);
        }
        if let Some(image) = text.strip_prefix("oci:") {
            return image.parse().map(|image| Self::Oci(Box::new(image)));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= 128
            && text.bytes().all(allowed)
        {
            return Ok(Self::Name(text.into()));
        }
        let allowed = "give a name such as debian-12, dir:/path, copy:/path, file:/path or oci:image";
        Err(ScalarError::not(text, "a template", allowed))
    }
}

impl fmt::Display for TemplateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Dir(path) => write!(f, "dir:{path}"),
            Self::Copy(path) => write!(f, "copy:{path}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Oci(image) => write!(f, "oci:{image}"),
        }
    }
}

text_scalar!(TemplateSource, "a template such as debian-12", {
    "type": "string",
    "pattern": "^([A-Za-z0-9][-_.A-Za-z0-9]*|(dir|copy|file):/.*|oci:[-_./:@+A-Za-z0-9]+)$",
    "examples": ["debian-12", "dir:/srv/rootfs", "file:/srv/debian-12.tar.zst", "oci:docker.io/library/nginx:1.27"]
});
