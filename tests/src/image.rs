//! OCI images for tests: layouts on disk that are made of directories, and a registry to push them to.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::run::{Ended, Guarded};
use crate::{Must, eventually};

const KIND: &str = "application/vnd.oci.image";

/// An image layout of one image, `latest`.
pub struct Image {
    dir: PathBuf,
    digest: String,
}

impl Image {
    /// Makes one in the new directory `dir`: each of `layers` is a directory, and `config` says how its program is run.
    pub fn make(dir: &Path, layers: &[&Path], config: &Value) -> Image {
        std::fs::create_dir_all(dir.join("blobs/sha256")).must("make an image layout");
        let mut image = Image { dir: dir.to_owned(), digest: String::new() };
        let (mut descriptors, mut contents) = (Vec::new(), Vec::new());
        for layer in layers {
            let (tar, packed) = (dir.join("layer.tar"), dir.join("layer.tar.gz"));
            run(Command::new("tar")
                .arg("--numeric-owner")
                .arg("-C")
                .arg(layer)
                .arg("-cf")
                .arg(&tar)
                .arg("."));
            contents.push(format!("sha256:{}", sha256(&tar)));
            run(Command::new("gzip").arg("-nf").arg(&tar));
            descriptors.push(image.take(&packed, "layer.v1.tar+gzip"));
        }
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let rootfs = json!({ "type": "layers", "diff_ids": contents });
        let config =
            json!({ "architecture": architecture, "os": "linux", "config": config, "rootfs": rootfs });
        let config = image.put(&config, "config.v1+json");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": format!("{KIND}.manifest.v1+json"), "config": config, "layers": descriptors,
        });
        let mut manifest = image.put(&manifest, "manifest.v1+json");
        manifest["digest"].as_str().must("its digest").clone_into(&mut image.digest);
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string();
        std::fs::write(dir.join("index.json"), index).must("write the index");
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).must("mark the layout");
        image
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The digest of its manifest, `sha256:...`.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    fn put(&self, document: &Value, kind: &str) -> Value {
        let file = self.dir.join("document");
        std::fs::write(&file, document.to_string()).must("write a document");
        self.take(&file, kind)
    }

    /// Makes a file a blob; its descriptor.
    fn take(&self, file: &Path, kind: &str) -> Value {
        let digest = sha256(file);
        let size = std::fs::metadata(file).must("look at a blob").len();
        std::fs::rename(file, self.dir.join("blobs/sha256").join(&digest)).must("name a blob");
        json!({ "mediaType": format!("{KIND}.{kind}"), "digest": format!("sha256:{digest}"), "size": size })
    }
}

/// A registry without TLS, on the loopback of the network that the test is in.
pub struct Registry {
    _server: Guarded,
    home: PathBuf,
}

impl Registry {
    /// Its host and port.
    pub const AT: &'static str = "127.0.0.1:5000";

    /// Starts it, with its files in `dir`.
    pub fn start(dir: &Path) -> Registry {
        let home = dir.join("home");
        std::fs::create_dir_all(home.join(".config/containers")).must("make a home");
        let trust = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", Self::AT);
        std::fs::write(home.join(".config/containers/registries.conf"), trust).must("write registries.conf");
        let settings = json!({
            "version": "0.1",
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": dir.join("registry") } },
            "http": { "addr": Self::AT },
        });
        let file = dir.join("registry.yml");
        std::fs::write(&file, settings.to_string()).must("write the registry's settings");
        let mut server = Command::new("docker-registry");
        server.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Guarded::spawn(&mut server);
        eventually("the registry answers", || std::net::TcpStream::connect(Self::AT).is_ok());
        Registry { _server: server, home }
    }

    /// A home directory whose owner lets the registry be asked without TLS.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Pushes an image; its reference is `AT/name`.
    pub fn push(&self, image: &Image, name: &str) {
        let from = format!("oci:{}:latest", image.dir.display());
        let to = format!("docker://{}/{name}", Self::AT);
        run(Command::new("skopeo").args(["copy", "--quiet", "--dest-tls-verify=false", &from, &to]));
    }
}

fn sha256(file: &Path) -> String {
    let said = run(Command::new("sha256sum").arg(file)).stdout;
    said.split_whitespace().next().must("a checksum").to_owned()
}

fn run(command: &mut Command) -> Ended {
    Ended::of(command).ok()
}
