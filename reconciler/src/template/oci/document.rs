//! The documents that describe an image, as the OCI image specification (1.1) and Docker's version 2 schema 2 have them.
//!
//! Pure: bytes to typed documents, or why not. What an image cannot say here it cannot say at all: members that are not
//! named are not looked at.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::ImageProblem;
use crate::template::index::hex;
use sha2::{Digest as _, Sha256};

/// Most bytes of one document. Real ones have a few kilobytes.
pub(super) const MAX_DOCUMENT: u64 = 1 << 20;
/// Most layers. Docker makes no more than 127.
const MAX_LAYERS: usize = 256;

const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const LAYERS: [&str; 5] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];
/// The name of an image within an index.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A SHA-256, in hexadecimal digits. Other algorithms are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Digest(String);

impl Digest {
    /// Of these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(hex(&Sha256::digest(bytes)))
    }

    /// The digits alone.
    pub(super) fn hex(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(digit) => Ok(Self(hex.to_owned())),
            _ => Err(format!("{text:?} is not sha256: and 64 hexadecimal digits")),
        }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// What another document, or a layer, is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// The name that an index gives it.
    pub(super) fn tag(&self) -> Option<&str> {
        self.annotations.get(REF_NAME).map(String::as_str)
    }
}

/// What an image runs on, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
}

impl Platform {
    /// This machine's.
    pub(super) fn of_host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned() }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// The layers of an image and its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// What a descriptor of an image leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Document {
    /// One image for each of several platforms, or several images.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest(Manifest),
}

impl Document {
    /// Its media type, when nothing else says it.
    pub(super) fn media_type(&self) -> &'static str {
        match self {
            Self::Index(_) => INDEXES[0],
            Self::Manifest(_) => MANIFESTS[0],
        }
    }

    /// Reads an index or a manifest; `media_type` is what its descriptor says.
    pub(super) fn read(bytes: &[u8], media_type: Option<&str>) -> Result<Self, ImageProblem> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            schema_version: u32,
            media_type: Option<String>,
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
        }
        let raw: Raw = json("a manifest", bytes)?;
        if raw.schema_version != 2 {
            return Err(ImageProblem::Unsupported(format!("manifest schema {} is", raw.schema_version)));
        }
        let said = || raw.media_type.as_deref().into_iter().chain(media_type);
        let is_all = |known: &[&str]| match said().find(|is| !known.contains(is)) {
            Some(other) => Err(ImageProblem::Unsupported(format!("a document of type {other:?} there is"))),
            None => Ok(()),
        };
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, None) => {
                is_all(&INDEXES)?;
                Ok(Self::Index(manifests))
            }
            (None, Some(config), Some(layers)) => {
                is_all(&MANIFESTS)?;
                Manifest { config, layers }.checked().map(Self::Manifest)
            }
            // One that could be read as either is a trick: those who look at it would see different images.
            _ => Err(ImageProblem::Document {
                what: "a manifest",
                why: "it is neither an index nor a manifest".to_owned(),
            }),
        }
    }
}

impl Manifest {
    /// Of its configuration and its layers, as they lie in a registry.
    pub(super) fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).fold(self.config.size, u64::saturating_add)
    }

    fn checked(self) -> Result<Self, ImageProblem> {
        let unsupported = |what: String| Err(ImageProblem::Unsupported(what));
        if !CONFIGS.contains(&self.config.media_type.as_str()) {
            return unsupported(format!("an artifact of type {:?} is no image and", self.config.media_type));
        }
        if self.layers.len() > MAX_LAYERS {
            return unsupported(format!("{} layers are", self.layers.len()));
        }
        match self.layers.iter().find(|layer| !LAYERS.contains(&layer.media_type.as_str())) {
            Some(layer) => unsupported(format!("a layer of type {:?} is", layer.media_type)),
            None => Ok(self),
        }
    }
}

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Config {
    #[serde(flatten)]
    pub(super) platform: Platform,
    /// How its program is run.
    #[serde(default, rename = "config")]
    pub(super) run: Option<Run>,
}

/// How an image's program is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Run {
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) working_dir: Option<String>,
    pub(super) user: Option<String>,
    pub(super) stop_signal: Option<String>,
}

impl Config {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ImageProblem> {
        json("a configuration", bytes)
    }
}

fn json<'b, T: Deserialize<'b>>(what: &'static str, bytes: &'b [u8]) -> Result<T, ImageProblem> {
    serde_json::from_slice(bytes).map_err(|e| ImageProblem::Document { what, why: e.to_string() })
}

/// The one of an index's images that is meant: by its tag or digest, if one is given, and for this platform.
pub(super) fn choose<'d>(
    all: &'d [Descriptor],
    tag: Option<&str>,
    pin: Option<&str>,
    host: &Platform,
) -> Result<&'d Descriptor, ImageProblem> {
    let named: Vec<_> = all
        .iter()
        .filter(|is| tag.is_none_or(|tag| is.tag() == Some(tag)))
        .filter(|is| pin.is_none_or(|pin| is.digest.hex() == pin))
        .collect();
    if named.is_empty() {
        let known =
            all.iter().map(|is| is.tag().map_or_else(|| is.digest.to_string(), str::to_owned)).collect();
        let wanted = tag.map(str::to_owned).or(pin.map(|pin| format!("sha256:{pin}"))).unwrap_or_default();
        return Err(ImageProblem::NotThere { wanted, known });
    }
    let fits = |is: &&&Descriptor| is.platform.as_ref().is_none_or(|of| of == host);
    let fitting: Vec<_> = named.iter().filter(fits).collect();
    let Some(first) = fitting.first() else {
        let found = named.iter().filter_map(|is| is.platform.as_ref()).map(Platform::to_string).collect();
        return Err(ImageProblem::Platform { host: host.to_string(), found });
    };
    // Several for one platform: the specification says the first, but of several names none is the first.
    match fitting.iter().find(|is| is.tag() != first.tag()) {
        Some(_) => {
            let known = fitting.iter().filter_map(|is| is.tag()).map(str::to_owned).collect();
            Err(ImageProblem::Several(known))
        }
        None => Ok(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(tag: Option<&str>, arch: Option<&str>, byte: u8) -> Descriptor {
        Descriptor {
            media_type: MANIFESTS[0].into(),
            digest: Digest::of(&[byte]),
            size: 1,
            platform: arch.map(|arch| Platform { architecture: arch.into(), os: "linux".into() }),
            annotations: tag.map(|tag| (REF_NAME.to_owned(), tag.to_owned())).into_iter().collect(),
        }
    }

    #[test]
    fn the_image_for_the_host_is_chosen() {
        let host = Platform { architecture: "arm64".into(), os: "linux".into() };
        let all = [
            descriptor(Some("a"), Some("amd64"), 1),
            descriptor(Some("a"), Some("arm64"), 2),
            descriptor(Some("b"), None, 3),
            descriptor(None, Some("unknown"), 4),
        ];
        assert_eq!(choose(&all, Some("a"), None, &host).unwrap(), &all[1]);
        assert_eq!(choose(&all, Some("b"), None, &host).unwrap(), &all[2]);
        assert_eq!(choose(&all, None, Some(all[2].digest.hex()), &host).unwrap(), &all[2]);
        assert_eq!(choose(&all[..2], None, None, &host).unwrap(), &all[1]);
        assert!(
            matches!(choose(&all, None, None, &host), Err(ImageProblem::Several(known)) if known == ["a", "b"])
        );
        assert!(matches!(choose(&all[..1], None, None, &host), Err(ImageProblem::Platform { .. })));
        assert!(matches!(choose(&all, Some("c"), None, &host), Err(ImageProblem::NotThere { .. })));
        assert!(matches!(choose(&[], None, None, &host), Err(ImageProblem::NotThere { .. })));
    }

    #[test]
    fn documents_are_one_thing_or_refused() {
        let one = format!(r#"{{"mediaType":"{}","digest":"{}","size":2}}"#, CONFIGS[0], Digest::of(b"{}"));
        let manifest = |more: &str| format!(r#"{{"schemaVersion":2,{more}"config":{one},"layers":[]}}"#);
        let read = |text: &str| Document::read(text.as_bytes(), None);
        assert!(matches!(read(&manifest("")), Ok(Document::Manifest(_))));
        assert!(matches!(read(r#"{"schemaVersion":2,"manifests":[]}"#), Ok(Document::Index(_))));
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"schemaVersion":1,"layers":[]}"#,
            r#"{"schemaVersion":2}"#,
            &manifest(r#""manifests":[],"#),
            &manifest(r#""mediaType":"application/vnd.oci.image.index.v1+json","#),
            &manifest("").replace(CONFIGS[0], "application/vnd.wasm.config.v1+json"),
            &manifest("").replace("sha256:", "sha512:"),
            &manifest("").replace("sha256:", "sha256:../"),
            &manifest("").replace("\"size\":2", "\"size\":-2"),
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let index = Document::read(manifest("").as_bytes(), Some(INDEXES[0]));
        assert!(index.is_err(), "its descriptor says otherwise");
        let layer = |kind: &str| {
            let layer = one.replace(CONFIGS[0], kind);
            read(&manifest("").replace("[]", &format!("[{layer}]"))).map(drop)
        };
        LAYERS.iter().for_each(|kind| layer(kind).unwrap());
        for foreign in [
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "text/plain",
        ] {
            assert!(layer(foreign).unwrap_err().to_string().contains(foreign));
        }
        let many = manifest("")
            .replace("[]", &format!("[{}]", vec![one.replace(CONFIGS[0], LAYERS[0]); 257].join(",")));
        assert!(read(&many).unwrap_err().to_string().contains("257 layers"));
    }
}
