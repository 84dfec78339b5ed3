//! Tests of images on a real file system, as root: what layers make of each other, and hostile images above all.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vzd_schema::v1::OciImage;

use super::document::{Digest, Platform};
use crate::template::tests::{Fixture, Tar, chain, is_root, list, read};
use crate::template::{Limits, Source, Template, TemplateError};

const OCI: &str = "application/vnd.oci.image";

/// A layout in the making: blobs are put by content, and documents may say anything.
struct Layout {
    path: PathBuf,
}

impl Layout {
    fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        let layout = Self { path };
        layout.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        layout
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path.join(name), bytes).unwrap();
    }

    fn blob(&self, bytes: &[u8], kind: &str) -> Value {
        let digest = Digest::of(bytes);
        self.write(&format!("blobs/sha256/{}", digest.hex()), bytes);
        json!({ "mediaType": format!("{OCI}.{kind}"), "digest": digest.to_string(), "size": bytes.len() })
    }

    fn document(&self, value: &Value, kind: &str) -> Value {
        self.blob(value.to_string().as_bytes(), kind)
    }

    fn config(&self) -> Value {
        let Platform { architecture, os } = Platform::of_host();
        let config =
            json!({ "architecture": architecture, "os": os, "rootfs": { "type": "layers", "diff_ids": [] } });
        self.document(&config, "config.v1+json")
    }

    /// The manifest of layers that are blobs already.
    fn manifest(&self, layers: &[Value]) -> Value {
        let manifest = json!({ "schemaVersion": 2, "config": self.config(), "layers": layers });
        self.document(&manifest, "manifest.v1+json")
    }

    fn index(&self, manifests: &[Value]) {
        self.write(
            "index.json",
            json!({ "schemaVersion": 2, "manifests": manifests }).to_string().as_bytes(),
        );
    }

    /// The one image of these layers.
    fn image(&self, layers: &[Vec<u8>]) {
        let layers: Vec<_> = layers.iter().map(|layer| self.blob(layer, "layer.v1.tar")).collect();
        self.index(&[self.manifest(&layers)]);
    }

    fn source(&self) -> Source {
        named(&self.path.display().to_string())
    }
}

fn named(image: &str) -> Source {
    Source::Image(Box::new(image.parse::<OciImage>().unwrap()))
}

/// Makes a root of these layers, and looks whether anything got out of it.
fn unpack(fixture: &Fixture, layers: &[Vec<u8>]) -> Result<Template, TemplateError> {
    let layout = Layout::new(fixture.path("layout"));
    layout.image(layers);
    ensure(fixture, &layout)
}

fn ensure(fixture: &Fixture, layout: &Layout) -> Result<Template, TemplateError> {
    let template = fixture.store.ensure(&layout.source());
    assert_eq!(list(&fixture.path("outside")), ["secret"]);
    assert_eq!(read(&fixture.path("outside/secret")), "untouched");
    let left: Vec<String> = fixture.own().into_iter().filter(|n| n.starts_with('.')).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    template
}

/// The error of an image that must leave nothing behind, with its cause.
fn refused(fixture: &Fixture, layout: &Layout) -> String {
    let error = ensure(fixture, layout).expect_err("it was unpacked");
    assert!(!fixture.own().iter().any(|n| n.starts_with("oci-")), "{:?}", fixture.own());
    chain(&error)
}

fn tree(root: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for name in list(&dir) {
            let path = dir.join(name);
            all.push(path.strip_prefix(root).unwrap().display().to_string());
            if path.symlink_metadata().unwrap().is_dir() {
                pending.push(path);
            }
        }
    }
    all.sort();
    all
}

#[test]
fn layers_lie_one_over_the_other() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let first = Tar::default().dir("etc").file("etc/a", "1").file("etc/b", "1").dir("old").file("old/x", "1");
    let first = first.dir("kept").file("kept/x", "1").symlink("lib", "usr/lib").dir("usr").dir("usr/lib");
    // The whiteouts stand after what the layer adds: they mean the layers below all the same.
    let second =
        Tar::default().file("etc/a", "2").dir("old").file("old/new", "2").hard_link("etc/c", "etc/b");
    let second = second.file("old/.wh..wh..opq", "").file(".wh.kept", "").file("lib/so", "2");
    let third = Tar::default().file("etc/.wh.b", "").file("etc/.wh.none", "").file("none/.wh.x", "");
    let third = third.file(".wh..wh.plnk/1.2", "").file("none2/.wh..wh..opq", "");
    let gzip = |bytes: Vec<u8>| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut out, &bytes).unwrap();
        out.finish().unwrap()
    };
    let layers =
        [first.end(), gzip(second.end()), zstd::encode_all(&*third.end(), 1).unwrap(), vec![0; 1024]];
    let template = unpack(&fixture, &layers).unwrap();
    let wanted = ["etc", "etc/a", "etc/c", "lib", "old", "old/new", "usr", "usr/lib", "usr/lib/so"];
    assert_eq!(tree(&template.root), wanted);
    assert_eq!(
        (read(&template.root.join("etc/a")), read(&template.root.join("etc/c"))),
        ("2".into(), "1".into())
    );
    assert_eq!(std::fs::metadata(template.root.join("etc")).unwrap().mtime(), 1_000_000_000);
    // The same image of another layout is the same root.
    let other = Layout::new(fixture.path("other"));
    other.image(&layers);
    assert_eq!(ensure(&fixture, &other).unwrap().root, template.root);
    assert_eq!(fixture.own().iter().filter(|name| name.starts_with("oci-v1-")).count(), 1);
}

#[test]
fn a_hard_link_reaches_into_the_layer_below() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let layers = [Tar::default().file("a", "1").end(), Tar::default().hard_link("b/c", "a").end()];
    let template = unpack(&fixture, &layers).unwrap();
    let inode = |name: &str| std::fs::metadata(template.root.join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("b/c"));
}

#[test]
fn nothing_points_out() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let outside = fixture.outside();
    let first =
        Tar::default().symlink("out", &outside).symlink("up", "../../../../../..").file("f", "1").end();
    // Links of the layer below lead nowhere but into the root, whatever stands behind them.
    for second in [
        Tar::default().file("out/.wh.secret", ""),
        Tar::default().file("out/.wh..wh..opq", ""),
        Tar::default().file("../../.wh.outside", ""),
        Tar::default().file(&format!("{outside}/.wh.secret"), ""),
        Tar::default().file(&format!("up{outside}/.wh.secret"), ""),
    ] {
        unpack(&fixture, &[first.clone(), second.end()]).unwrap();
    }
    for (second, why) in [
        (Tar::default().file("out/secret", "x"), "make the directory"),
        (Tar::default().file(".wh...", ""), "no name"),
        (Tar::default().file("a/.wh..", ""), "no name"),
        (Tar::default().file(".wh.f/x", ""), "whiteout for a directory"),
        (Tar::default().hard_link("x", "out/secret"), "link to"),
        (Tar::default().hard_link("x", &format!("{outside}/secret")), "link to"),
        (Tar::default().file(".wh.f", "").hard_link("g", "f"), "link to"),
    ] {
        let layout = Layout::new(fixture.path("hostile"));
        layout.image(&[first.clone(), second.end()]);
        let error = ensure(&fixture, &layout).expect_err(why);
        assert!(chain(&error).contains(why), "{}", chain(&error));
    }
}

#[test]
fn what_is_not_what_was_named_is_refused() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let layout = Layout::new(fixture.path("layout"));
    let tar = Tar::default().file("f", "1").end();
    let layer = layout.blob(&tar, "layer.v1.tar");
    let path = |of: &Value| format!("blobs/sha256/{}", &of["digest"].as_str().unwrap()[7..]);
    let says = |text: &str| {
        let told = refused(&fixture, &layout);
        assert!(told.contains(text), "{text}: {told}");
    };
    layout.index(&[layout.manifest(std::slice::from_ref(&layer))]);
    layout.write(&path(&layer), &Tar::default().file("f", "2").end());
    says("is named, but what is there has sha256:");
    layout.write(&path(&layer), &tar[..tar.len() - 512]);
    says("bytes, not");
    std::fs::remove_file(layout.path.join(path(&layer))).unwrap();
    says("is missing in it");
    symlink("/etc/passwd", layout.path.join(path(&layer))).unwrap();
    says("cannot open blobs");
    std::fs::remove_file(layout.path.join(path(&layer))).unwrap();
    layout.write(&path(&layer), &tar);
    // A size that is a lie, of a layer and of a document.
    let mut lie = layer.clone();
    lie["size"] = json!(tar.len() + 1);
    layout.index(&[layout.manifest(&[lie])]);
    says("bytes, not");
    let mut manifest = layout.manifest(&[layer]);
    layout.write(&path(&manifest), b"{}");
    layout.index(std::slice::from_ref(&manifest));
    says("bytes, not 2".split(" 2").next().unwrap());
    manifest["size"] = json!(2);
    layout.index(std::slice::from_ref(&manifest));
    says("is named, but");
    manifest["size"] = json!(1_u64 << 40);
    layout.index(&[manifest]);
    says("no more than 1048576 are read");
    layout.write("index.json", &vec![b' '; (1 << 20) + 1]);
    says("no more than 1048576 are read");
}

#[test]
fn an_index_leads_to_an_image_or_nowhere() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let layout = Layout::new(fixture.path("layout"));
    let says = |text: &str| {
        let told = refused(&fixture, &layout);
        assert!(told.contains(text), "{text}: {told}");
    };
    // It names itself: no document can have its own digest in it, so that it says it with another's.
    let own = json!({ "mediaType": format!("{OCI}.index.v1+json"), "digest": Digest::of(b"x").to_string(), "size": 211 });
    layout.index(std::slice::from_ref(&own));
    let bytes = std::fs::read(layout.path.join("index.json")).unwrap();
    layout.write(&format!("blobs/sha256/{}", Digest::of(b"x").hex()), &bytes);
    let mut sized = own;
    sized["size"] = json!(bytes.len());
    layout.index(&[sized]);
    says("is named, but");
    // Deeper than anyone needs.
    let manifest = layout.manifest(&[layout.blob(&Tar::default().file("f", "1").end(), "layer.v1.tar")]);
    let nested = |depth| {
        (0..depth).fold(manifest.clone(), |inner, _| {
            layout.document(&json!({ "schemaVersion": 2, "manifests": [inner] }), "index.v1+json")
        })
    };
    layout.index(&[nested(4)]);
    says("nested more than 4 deep");
    layout.index(&[]);
    says("there is no image");
    layout.write("index.json", b"{\"schemaVersion\":2,\"manifests\":[{}]}");
    says("cannot be read");
    layout.write("oci-layout", b"{\"imageLayoutVersion\":\"9\"}");
    says("version is \"9\"");
    layout.write("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
    std::fs::remove_file(layout.path.join("index.json")).unwrap();
    says("there is no index.json");
    layout.index(&[nested(3)]);
    ensure(&fixture, &layout).unwrap();
}

#[test]
fn images_have_names() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let layout = Layout::new(fixture.path("layout"));
    let tagged = |tag: &str| {
        let layer = layout.blob(&Tar::default().file("f", tag).end(), "layer.v1.tar");
        let mut manifest = layout.manifest(&[layer]);
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        manifest
    };
    let (one, two) = (tagged("1.0"), tagged("2.0"));
    layout.index(&[one, two.clone()]);
    let path = layout.path.display();
    let content = |image: String| {
        Ok::<_, String>(read(&fixture.store.ensure(&named(&image)).map_err(|e| chain(&e))?.root.join("f")))
    };
    assert_eq!(content(format!("{path}:2.0")).unwrap(), "2.0");
    assert_eq!(content(format!("{path}:1.0")).unwrap(), "1.0");
    assert_eq!(content(format!("{path}@{}", two["digest"].as_str().unwrap())).unwrap(), "2.0");
    assert!(content(path.to_string()).unwrap_err().contains("several images"));
    assert!(content(format!("{path}:3.0")).unwrap_err().contains("no image 3.0"));
    let mut foreign = tagged("3.0");
    foreign["platform"] = json!({ "architecture": "s390x", "os": "plan9" });
    layout.index(&[foreign]);
    assert!(content(path.to_string()).unwrap_err().contains("plan9/s390x"));
}

#[test]
fn an_image_is_bounded_as_a_whole() {
    if !is_root() {
        return;
    }
    let limits = Limits { max_bytes: 1 << 20, max_entries: 50, ..Limits::default() };
    let fixture = Fixture::limited(limits);
    let layer = |n: usize, bytes: usize| Tar::default().file(&format!("f{n}"), &"x".repeat(bytes)).end();
    let big: Vec<_> = (0..4).map(|n| layer(n, 300_000)).collect();
    assert!(chain(&unpack(&fixture, &big).unwrap_err()).contains("more than 1048576 bytes"));
    let many: Vec<_> = (0..51).map(|_| layer(0, 1)).collect();
    assert!(chain(&unpack(&fixture, &many).unwrap_err()).contains("more than 50 entries"));
    unpack(&fixture, &many[..40]).unwrap();
}

#[test]
fn an_image_is_taken_in_and_out() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let store = &fixture.store;
    let layout = Layout::new(fixture.path("layout"));
    let set = |text: &str| layout.image(&[Tar::default().dir("etc").file("etc/f", text).end()]);
    let image: OciImage = layout.path.display().to_string().parse().unwrap();
    let web = || store.ensure(&Source::Named("web".into()));
    let names = || list(&fixture.path("templates"));
    set("1");
    let first = store.add_image("web", &image, None).unwrap();
    assert_eq!(names(), [".store", ".web.json", "web"]);
    assert_eq!(store.verify("web").unwrap(), first.digest);
    let listed = store.list().unwrap().into_iter().find(|is| is.name == "web").unwrap();
    assert_eq!((listed.kind, listed.origin.image), ("image", Some(format!("oci:{image}"))));
    assert!(listed.bytes.is_some_and(|bytes| bytes > 1536));
    // What it was taken from may go.
    set("2");
    assert_eq!(read(&web().unwrap().root.join("etc/f")), "1");
    assert!(store.add_image("web", &image, Some("00")).is_err());
    assert_eq!(names(), [".store", ".web.json", "web"]);
    store.update("web").unwrap();
    assert_eq!(names(), [".store", ".web.json", "web"]);
    assert_eq!(read(&web().unwrap().root.join("etc/f")), "2");
    assert_eq!(read(&first.root.join("etc/f")), "1", "VEs that run keep what they have");
    std::fs::write(web().unwrap().root.join("etc/f"), "3").unwrap();
    assert!(store.verify("web").unwrap_err().to_string().contains("/etc/f"));
    std::fs::write(web().unwrap().root.join("etc/f"), "2").unwrap();
    // An archive in its place, and back.
    store.add("web", &fixture.archive(&Tar::default().file("etc/f", "4").end()), None).unwrap();
    assert_eq!(names(), [".store", ".web.json", "web.tar"]);
    assert_eq!(read(&web().unwrap().root.join("etc/f")), "4");
    store.add_image("web", &image, None).unwrap();
    assert_eq!(names(), [".store", ".web.json", "web"]);
    store.remove("web").unwrap();
    assert_eq!(names(), [".store"]);
    // A layout that the operator put there is his.
    std::fs::rename(&layout.path, fixture.path("templates/mine")).unwrap();
    assert_eq!(read(&store.ensure(&Source::Named("mine".into())).unwrap().root.join("etc/f")), "2");
    assert!(store.remove("mine").unwrap_err().to_string().contains("yours"));
    let unused = store.remove_unused(&std::collections::BTreeSet::new()).unwrap();
    assert!(
        unused.failed.is_empty() && fixture.own().iter().filter(|name| name.starts_with("oci-")).count() < 2
    );
}

#[test]
fn what_a_killed_one_was_writing_goes_with_the_next() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    // No process has the number 0.
    for name in [".web.0.partial/blobs/sha256", ".web.old.0.partial", ".oci.0.partial/blobs"] {
        std::fs::create_dir_all(fixture.path("templates").join(name)).unwrap();
    }
    let layout = Layout::new(fixture.path("layout"));
    layout.image(&[Tar::default().file("f", "1").end()]);
    let image: OciImage = layout.path.display().to_string().parse().unwrap();
    fixture.store.add_image("web", &image, None).unwrap();
    assert_eq!(list(&fixture.path("templates")), [".store", ".web.json", "web"]);
}
