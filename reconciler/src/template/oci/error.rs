//! What can be wrong with an image, and what the operator can do about it.

use std::io;

use thiserror::Error;

/// Why an image cannot be used.
#[derive(Debug, Error)]
pub enum ImageProblem {
    /// A system call failed.
    #[error("cannot {op}")]
    Sys {
        /// The operation, as a verb with its object.
        op: String,
        /// The errno.
        source: io::Error,
    },
    /// It is no OCI image layout.
    #[error("it is no OCI image layout: {0}")]
    NoLayout(String),
    /// A document that describes it cannot be read.
    #[error("{what} in it cannot be read: {why}")]
    Document {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// It needs something that is not supported.
    #[error("{0} not supported")]
    Unsupported(String),
    /// Something that it names is not there.
    #[error("{0} is missing in it")]
    Missing(String),
    /// A file is longer or shorter than said.
    #[error("{digest} has {found} bytes, not {said}")]
    Size {
        /// What it is named.
        digest: String,
        /// Bytes that it should have.
        said: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// Content is not what was named.
    #[error("{wanted} is named, but what is there has sha256:{found}")]
    Digest {
        /// What was named.
        wanted: String,
        /// The SHA-256 that was found.
        found: String,
    },
    /// A document is longer than can be.
    #[error("{digest} is a document of {size} bytes; no more than {most} are read")]
    TooLong {
        /// What it is named.
        digest: String,
        /// Its size in bytes.
        size: u64,
        /// The bound in bytes.
        most: u64,
    },
    /// Indexes lead to indexes.
    #[error("its indexes are nested more than {0} deep")]
    TooDeep(usize),
    /// There is no image of that name.
    #[error("there is no image {wanted} in it")]
    NotThere {
        /// The tag or digest that was asked for; empty for none.
        wanted: String,
        /// What is there.
        known: Vec<String>,
    },
    /// There are several.
    #[error("it holds several images")]
    Several(Vec<String>),
    /// It is for other machines.
    #[error("it is for {}, and this host is {host}", if found.is_empty() { "no platform".to_owned() } else { found.join(", ") })]
    Platform {
        /// The host's.
        host: String,
        /// The image's.
        found: Vec<String>,
    },
    /// The program that fetches images is not there.
    #[error("skopeo, which fetches images from registries, cannot be run")]
    NoSkopeo(#[source] io::Error),
    /// It could not be fetched.
    #[error("skopeo cannot fetch it: {0}")]
    Fetch(String),
}

impl ImageProblem {
    pub(super) fn sys(op: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Sys { op: op.into(), source: source.into() }
    }

    /// What the operator can do about it, where that can be said.
    pub(in crate::template) fn help(&self) -> Option<String> {
        let of = |known: &[String]| known.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
        Some(match self {
            Self::NoLayout(_) => {
                "`skopeo copy docker://NAME oci:DIRECTORY:TAG` makes one, and so does `docker buildx build -o type=oci,tar=false`"
                    .into()
            }
            Self::Missing(_) | Self::Size { .. } | Self::Digest { .. } => {
                "the image is incomplete or was tampered with: fetch it again from where you trust".into()
            }
            Self::NotThere { known, .. } if !known.is_empty() => format!("there are {}", of(known)),
            Self::Several(known) => format!("add the tag of one of them: {}", of(known)),
            Self::NoSkopeo(_) => "apt-get install skopeo".into(),
            Self::Fetch(why) if why.contains("server gave HTTP response to HTTPS client") => {
                "a registry without TLS is asked only if /etc/containers/registries.conf says `insecure = true` of it".into()
            }
            Self::Fetch(why) if why.contains("unauthorized") || why.contains("authentication required") => {
                "does it exist, and may it be had? `skopeo login REGISTRY` keeps a password".into()
            }
            _ => return None,
        })
    }
}
