//! Which image of a container is meant: one of a layout on disk, or of a registry. Whether there is such an image is
//! not known here.

use super::scalars::{AbsPath, ScalarError};
use std::fmt;
use std::str::FromStr;

/// What follows `oci:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OciImage {
    /// Where it is.
    pub place: OciPlace,
    /// Its name there, if it is called by one.
    pub tag: Option<Box<str>>,
    /// The SHA-256 that its manifest, or the index that it is looked up in, must have: 64 hexadecimal digits.
    pub pin: Option<Box<str>>,
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OciPlace {
    /// `/path`: a directory on the host that is an OCI image layout.
    Layout(AbsPath),
    /// `docker.io/library/debian`: a repository of a registry.
    Registry(Box<str>),
}

/// Longest text.
const MOST: usize = 512;
/// How skopeo and others write that a registry is meant.
const REGISTRY: &str = "docker://";
const SHA256: &str = "sha256:";

impl FromStr for OciImage {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let no = |cure| ScalarError::not(text, "an image", cure);
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@+".contains(&b);
        if text.len() > MOST || !text.bytes().all(allowed) {
            return Err(no("give oci:registry/name:tag or oci:/path/of/layout:tag"));
        }
        let (rest, pin) = match text.split_once('@') {
            None => (text, None),
            Some((rest, pin)) => {
                let hex = pin.strip_prefix(SHA256).filter(|hex| is_sha256(hex));
                (
                    rest,
                    Some(
                        hex.ok_or_else(|| no("after the @ comes sha256: and 64 hexadecimal digits"))?.into(),
                    ),
                )
            }
        };
        let rest = rest.strip_prefix(REGISTRY).unwrap_or(rest);
        // The port of a registry is no tag.
        let last = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[last..].split_once(':') {
            None => (rest, None),
            Some((name, tag)) => (&rest[..last + name.len()], Some(tag)),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(no("a tag is a letter, digit or _, then up to 127 of them and . or -"));
        }
        let place = if name.starts_with('/') {
            OciPlace::Layout(name.parse()?)
        } else if name.split('/').all(is_part) {
            OciPlace::Registry(name.into())
        } else {
            return Err(no("give oci:registry/name:tag or oci:/path/of/layout:tag"));
        };
        Ok(Self { place, tag: tag.map(Into::into), pin })
    }
}

impl fmt::Display for OciImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            OciPlace::Layout(path) => write!(f, "{path}")?,
            OciPlace::Registry(name) => f.write_str(name)?,
        }
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.pin.as_ref().map_or(Ok(()), |pin| write!(f, "@{SHA256}{pin}"))
    }
}

fn is_sha256(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// A registry or a step of a repository's path. The host's name may have a port.
fn is_part(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_alphanumeric()) && !part.contains('+')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant() {
        let hex = "0123456789abcdef".repeat(4);
        let (path, pinned) = (format!("/srv/a@sha256:{hex}"), format!("r.io:5000/a/b:1@sha256:{hex}"));
        for (text, place, tag, pin) in [
            ("/srv/images/web", "/srv/images/web", None, false),
            ("/srv/images/web:1.0", "/srv/images/web", Some("1.0"), false),
            (path.as_str(), "/srv/a", None, true),
            ("debian:12", "debian", Some("12"), false),
            ("docker://docker.io/library/debian", "docker.io/library/debian", None, false),
            ("localhost:5000/a", "localhost:5000/a", None, false),
            (pinned.as_str(), "r.io:5000/a/b", Some("1"), true),
        ] {
            let image: OciImage = text.parse().unwrap();
            let is = match &image.place {
                OciPlace::Layout(path) => path.as_str(),
                OciPlace::Registry(name) => name,
            };
            assert_eq!((is, image.tag.as_deref(), image.pin.is_some()), (place, tag, pin), "{text}");
            assert_eq!(image.to_string(), text.trim_start_matches("docker://"));
        }
        for bad in [
            "",
            "/",
            ":1",
            "a:",
            "a:-x",
            "a b",
            "a//b",
            "../a",
            "-a",
            "a/-b",
            "a@sha256:12",
            "a@md5:1",
            "docker://",
            "/srv/../a",
            "a:1:2",
        ] {
            let read = bad.parse::<OciImage>();
            assert!(read.is_err() || bad == "/", "{bad}: {read:?}");
        }
    }
}
