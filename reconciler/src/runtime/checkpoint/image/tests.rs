//! Checkpoints on disk that are whole, that are not, and that come from elsewhere.

use vzd_state::units::Timestamp;

use super::super::received;
use super::*;

pub(in crate::runtime::checkpoint) fn contents() -> Contents {
    Contents {
        format: 0,
        uid: "u".into(),
        id_base: 7,
        id_count: 65536,
        at: Timestamp(1),
        kernel: "6.18".into(),
        tty: "tty[1:2]".into(),
        mounts: BTreeMap::new(),
        dev: Vec::new(),
        groups: BTreeMap::new(),
        groups_inside: Vec::new(),
        users: None,
        closes_tcp: false,
        ahead: 0,
        files: BTreeMap::new(),
    }
}

#[test]
fn only_what_was_written_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::lock(&dir.path().join("checkpoint")).unwrap();
    let file = image.dir().join("pages-1.img");
    let make = || {
        image.make(None).unwrap();
        std::fs::write(&file, b"pages").unwrap();
        image.seal(contents(), false).unwrap();
    };
    let refused = || image.check("u", (7, 65536)).unwrap_err().to_string();
    make();
    assert_eq!(look(image.dir()).unwrap(), Checkpoint { at: Timestamp(1), bytes: 5 });
    assert!(image.check("u", (7, 65536)).is_ok());
    assert!(image.check("v", (7, 65536)).unwrap_err().to_string().contains("it is of VE u"));
    assert!(image.check("u", (8, 65536)).is_err());
    std::fs::write(&file, b"pagez").unwrap();
    assert!(refused().contains("pages-1.img is not as it was written"));
    std::fs::remove_file(&file).unwrap();
    assert!(refused().contains("pages-1.img is missing"));
    make();
    std::fs::write(image.dir().join("fs-1.img"), b"").unwrap();
    assert!(refused().contains("fs-1.img does not belong"));
    make();
    let list = image.dir().join(LIST);
    let text = std::fs::read_to_string(&list).unwrap();
    std::fs::write(&list, text.replace("\"format\":2", "\"format\":6")).unwrap();
    assert!(refused().contains("format 6"));
    // As an earlier version has written it.
    let sums = serde_json::json!({ "pages-1.img": {
        "bytes": 5, "sha256": "bfa062de040f55a15ce910800757061ec3d2fc31d6b7c72d9fa02b75a9ad1133"
    } });
    let mut before: serde_json::Value = serde_json::from_str(&text).unwrap();
    (before["format"], before["files"]) = (1.into(), sums);
    std::fs::write(&list, before.to_string()).unwrap();
    assert!(image.check("u", (7, 65536)).is_ok());
    std::fs::write(&list, &text[..text.len() / 2]).unwrap();
    assert!(image.check("u", (7, 65536)).is_err());
}

#[test]
fn memory_that_has_come_as_it_was_sent_is_not_read_again_unless_somebody_wrote_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::lock(&dir.path().join("checkpoint")).unwrap();
    image.make(None).unwrap();
    let file = image.dir().join("pages-1.img");
    std::fs::write(&file, b"pages").unwrap();
    // By its list it is another: who reads it refuses it.
    let other = Sum::Now { bytes: 5, blake3: "0".repeat(64) };
    image.seal(contents(), false).unwrap();
    let list = image.dir().join(LIST);
    let text = std::fs::read_to_string(&list).unwrap();
    let wrong = Contents {
        files: [("pages-1.img".to_owned(), other)].into(),
        ..serde_json::from_str(&text).unwrap()
    };
    std::fs::write(&list, serde_json::to_string(&wrong).unwrap()).unwrap();
    let check = || image.check("u", (7, 65536));
    assert!(check().is_err());
    // A file that was written to just now is not vouched for.
    let begun = std::time::Instant::now();
    received::note(&image).unwrap();
    while check().is_err() {
        assert!(begun.elapsed().as_secs() < 10, "it is read for ever");
        received::note(&image).unwrap();
    }
    std::fs::write(&file, b"pagez").unwrap();
    assert!(check().unwrap_err().to_string().contains("pages-1.img is not as it was written"));
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, b"pages").unwrap();
    assert!(check().is_err());
}

#[test]
fn one_that_is_used_is_there_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::lock(&dir.path().join("checkpoint")).unwrap();
    image.make(None).unwrap();
    image.seal(contents(), false).unwrap();
    image.use_up().unwrap();
    assert!(look(image.dir()).unwrap_err().is_absent());
    image.take_back().unwrap();
    assert!(look(image.dir()).is_ok());
    image.remove().unwrap();
    image.remove().unwrap();
    assert!(look(image.dir()).unwrap_err().is_absent());
}

#[test]
fn rounds_that_came_to_nothing_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::lock(&dir.path().join("checkpoint")).unwrap();
    image.make(None).unwrap();
    for name in ["ahead-1/pages-1.img", "ahead-2/pages-1.img", "ahead-3/pages-1.img", "pages-1.img"] {
        image.make_part(name, 0o644).unwrap();
    }
    let list = |ahead, files| {
        image.seal(Contents { ahead, files, ..contents() }, false).unwrap();
        image.tie().unwrap();
        image.check("u", (7, 65536)).unwrap();
    };
    list(
        2,
        [1, 2].map(ahead::directory).iter().flat_map(|round| image.sums_of(round, false).unwrap()).collect(),
    );
    std::fs::remove_file(image.dir().join(PARENT)).unwrap();
    list(0, BTreeMap::new());
    assert!(!is_ahead(image.dir()));
}

#[test]
fn files_that_come_from_elsewhere_stay_in_it_and_come_once() {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::lock(&dir.path().join("checkpoint")).unwrap();
    image.make(None).unwrap();
    std::os::unix::fs::symlink(dir.path().join("evil"), image.dir().join("link.img")).unwrap();
    image.make_part("core-1.img", 0o644).unwrap();
    image.make_part("ahead-1/core-1.img", 0o644).unwrap();
    for name in [
        "",
        ".",
        "..",
        "../evil",
        "/evil",
        "a/b",
        ".hidden",
        "nul\0",
        "core-1.img",
        "link.img",
        "ahead-1/../evil",
        "ahead-1/..",
        "ahead-1/a/b",
        "ahead-1/core-1.img",
        "ahead-01/core-1.img",
        "ahead-/x",
    ] {
        assert!(image.make_part(name, 0o644).is_err(), "{name:?}");
    }
    assert!(!dir.path().join("evil").exists());
    assert_eq!(std::fs::read_dir(image.dir()).unwrap().count(), 3);
}
