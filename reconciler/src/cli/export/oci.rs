//! A root as an OCI image: a directory with a layout of one image of one layer (opencontainers/image-spec 1.1), which is there
//! whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::cannot;
use crate::cli::failure::Failure;

/// What the image is to say of itself.
#[derive(Debug)]
pub struct Image {
    /// Its name in the index.
    pub name: String,
    /// What it executes.
    pub init: Vec<String>,
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes the layout into a directory that is not there yet. The archive is a tar in zstd, and stays.
pub fn write(archive: &Path, to: &Path, image: &Image) -> Result<(), Failure> {
    let mut new = to.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let done = fill(archive, &new, image)
        .and_then(|()| fs::rename(&new, to).map_err(|error| cannot("rename", &new, error)));
    if done.is_err() {
        let _ = fs::remove_dir_all(&new);
    }
    done
}

fn fill(archive: &Path, dir: &Path, image: &Image) -> Result<(), Failure> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir(dir).map_err(|error| cannot("make", dir, error))?;
    fs::create_dir_all(&blobs).map_err(|error| cannot("make", &blobs, error))?;
    let (layer, size) = copied(archive, &blobs).map_err(|error| cannot("copy", archive, error))?;
    let plain = unpacked(archive).map_err(|error| cannot("unpack", archive, error))?;
    let blob = |value: &Value, media: &str| {
        let bytes = value.to_string().into_bytes();
        let digest = hex(&Sha256::digest(&bytes));
        let path = blobs.join(&digest);
        put(&path, &bytes)?;
        Ok::<_, Failure>(descriptor(media, &digest, bytes.len() as u64))
    };
    let config = blob(&config(image, &plain), CONFIG)?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [descriptor(LAYER, &layer, size)],
    });
    let mut manifest = blob(&manifest, MANIFEST)?;
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": image.name });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
    put(&dir.join("index.json"), index.to_string().as_bytes())?;
    put(&dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)
}

fn config(image: &Image, layer: &str) -> Value {
    // As Go names them.
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": image.init,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        "history": [{ "created_by": concat!("vzd ", env!("CARGO_PKG_VERSION")) }],
    })
}

fn descriptor(media: &str, digest: &str, size: u64) -> Value {
    json!({ "mediaType": media, "digest": format!("sha256:{digest}"), "size": size })
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|error| cannot("write", path, error))
}

/// What is read is digested.
struct Digesting<R> {
    inner: R,
    digest: Sha256,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.digest.update(&into[..n]);
        Ok(n)
    }
}

/// Copies a file into a directory under the name of its digest, which it gives with the size.
fn copied(from: &Path, into: &Path) -> io::Result<(String, u64)> {
    let mut from = Digesting { inner: File::open(from)?, digest: Sha256::new() };
    let new = into.join("layer");
    let mut to = File::create_new(&new)?;
    let size = io::copy(&mut from, &mut to)?;
    to.flush()?;
    let digest = hex(&from.digest.finalize());
    fs::rename(new, into.join(&digest))?;
    Ok((digest, size))
}

/// The digest of what a file in zstd holds.
fn unpacked(archive: &Path) -> io::Result<String> {
    let plain = zstd::Decoder::new(File::open(archive)?)?;
    let mut plain = Digesting { inner: plain, digest: Sha256::new() };
    io::copy(&mut plain, &mut io::sink())?;
    Ok(hex(&plain.digest.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_blob_bears_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let (archive, to) = (dir.path().join("a.tar.zst"), dir.path().join("a.oci"));
        fs::write(&archive, zstd::encode_all(&b"a layer"[..], 0).unwrap()).unwrap();
        let image = Image { name: "web".to_owned(), init: vec!["/sbin/init".to_owned()] };
        write(&archive, &to, &image).unwrap();
        let read =
            |path: &str| -> Value { serde_json::from_slice(&fs::read(to.join(path)).unwrap()).unwrap() };
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = fs::read(to.join("blobs/sha256").join(digest)).unwrap();
            assert_eq!(
                (hex(&Sha256::digest(&bytes)).as_str(), bytes.len() as u64),
                (digest, descriptor["size"].as_u64().unwrap())
            );
            bytes
        };
        assert_eq!(read("oci-layout")["imageLayoutVersion"], "1.0.0");
        let manifest: Value = serde_json::from_slice(&blob(&read("index.json")["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(config["config"]["Entrypoint"], json!(["/sbin/init"]));
        assert_eq!(zstd::decode_all(&blob(&manifest["layers"][0])[..]).unwrap(), b"a layer");
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&Sha256::digest(b"a layer"))));
        assert_eq!(fs::read_dir(to.join("blobs/sha256")).unwrap().count(), 3);
        // Whole or not at all.
        assert!(write(&dir.path().join("nothing"), &dir.path().join("b.oci"), &image).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
