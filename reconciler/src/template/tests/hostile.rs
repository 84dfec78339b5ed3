//! Archives that try to write elsewhere, to outgrow the disk, or to make something that is no template.

use std::os::unix::fs::MetadataExt;

use super::*;

#[test]
fn a_symlink_is_followed_inside_the_root_only() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    // To a directory that the root has as well: the file lands in the root's.
    let tar = Tar::default()
        .dir("etc")
        .symlink("absolute", "/etc")
        .symlink("up", "../../../../../../etc")
        .symlink("loop", "loop")
        .file("absolute/a", "1")
        .file("up/b", "2")
        .end();
    let template = fixture.unpack(&tar).unwrap();
    assert_eq!(list(&template.root.join("etc")), ["a", "b"]);
    // To one that only the host has.
    for target in [fixture.outside(), "../../../outside".into(), "../../../../../../../tmp".into()] {
        let fixture = Fixture::new();
        let error = fixture.refused(&Tar::default().symlink("evil", &target).file("evil/file", "x").end());
        assert!(error.contains("cannot unpack entry \"evil/file\" (number 2)"), "{error}");
    }
    let error = Fixture::new().refused(&Tar::default().symlink("l", "l").file("l/x", "x").end());
    assert!(error.contains("Too many levels of symbolic links"), "{error}");
    let error =
        Fixture::new().refused(&Tar::default().symlink("fd", "/proc/self/root").file("fd/x", "x").end());
    assert!(error.contains("fd/x"), "{error}");
}

#[test]
fn the_last_component_is_never_followed() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let secret = format!("{}/secret", fixture.outside());
    let tar = Tar::default()
        .symlink("file", &secret)
        .file("file", "mine")
        .symlink("dir", &fixture.outside())
        .dir("dir")
        .file("dir/x", "y")
        .symlink("fifo", &secret)
        .put(Head { flag: b'6', name: b"fifo", mode: 0o777, ..Head::default() }, b"")
        .symlink("link", &secret)
        .symlink("link", "elsewhere")
        .end();
    let before = std::fs::metadata(&secret).unwrap();
    let template = fixture.unpack(&tar).unwrap();
    assert_eq!(read(&template.root.join("file")), "mine");
    assert!(std::fs::symlink_metadata(template.root.join("dir")).unwrap().is_dir());
    assert_eq!(read(&template.root.join("dir/x")), "y");
    assert_eq!(std::fs::read_link(template.root.join("link")).unwrap(), Path::new("elsewhere"));
    let after = std::fs::metadata(&secret).unwrap();
    assert_eq!((before.mode(), before.ctime_nsec()), (after.mode(), after.ctime_nsec()));
}

#[test]
fn dot_dot_and_absolute_names_stay_inside() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let absolute = format!("{}/new", fixture.outside());
    let tar = Tar::default()
        .file("../../../outside/a", "1")
        .file(&absolute, "2")
        .file("b/../../../c", "3")
        .file("//d//./e", "4")
        .dir("../..")
        .end();
    let template = fixture.unpack(&tar).unwrap();
    assert_eq!(read(&template.root.join("outside/a")), "1");
    assert_eq!(read(&template.root.join(absolute.trim_start_matches('/'))), "2");
    assert_eq!(read(&template.root.join("c")), "3");
    assert_eq!(read(&template.root.join("d/e")), "4");
}

#[test]
fn the_root_itself_stays_a_directory() {
    for head in [
        Head { name: b"./", link: b"/etc", flag: b'2', ..Head::default() },
        Head { name: b"..", flag: b'0', ..Head::default() },
        Head { name: b"/", flag: b'6', ..Head::default() },
        Head { name: b"", flag: b'0', ..Head::default() },
    ] {
        if is_root() {
            let error = Fixture::new().refused(&Tar::default().file("a", "").put(head, b"").end());
            assert!(error.contains("the name is that of the root itself"), "{error}");
        }
    }
}

#[test]
fn hard_links_stay_inside() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let secret = format!("{}/secret", fixture.outside());
    for target in [&secret, "../../../outside/secret", "/etc/passwd", "", "/", "."] {
        let error = Fixture::new().refused(&Tar::default().file("a", "").hard_link("b", target).end());
        assert!(error.contains("cannot link to"), "{target}: {error}");
    }
    // Through a symlink, and to one.
    let error = fixture
        .refused(&Tar::default().symlink("out", &fixture.outside()).hard_link("b", "out/secret").end());
    assert!(error.contains("No such file"), "{error}");
    let error =
        fixture.refused(&Tar::default().symlink("s", &secret).hard_link("h", "s").file("s/x", "").end());
    assert!(error.contains("s/x"), "{error}");
    let tar = Tar::default()
        .symlink("s", &secret)
        .hard_link("h", "s")
        .file("h", "new")
        .file("etc/f", "1")
        .symlink("e", "/etc")
        .hard_link("inside", "e/f")
        .hard_link("etc/f", "./etc/f")
        .end();
    let template = fixture.unpack(&tar).unwrap();
    assert_eq!(std::fs::read_link(template.root.join("s")).unwrap(), Path::new(&secret));
    assert_eq!(read(&template.root.join("h")), "new");
    assert_eq!(std::fs::metadata(template.root.join("inside")).unwrap().nlink(), 2);
    let error = Fixture::new().refused(&Tar::default().dir("d").hard_link("h", "d").end());
    assert!(error.contains("Is a directory"), "{error}");
    let data = Head { flag: b'1', name: b"h", link: b"a", ..Head::default() };
    let error = Fixture::new().refused(&Tar::default().file("a", "").put(data, b"data").end());
    assert!(error.contains("hard links with data are not supported"), "{error}");
}

#[test]
fn the_last_of_several_entries_wins() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let tar = Tar::default()
        .file("a", "old")
        .hard_link("b", "a")
        .file("a", "new")
        .dir("d")
        .file("d/x/y/z", "1")
        .symlink("d", &fixture.outside())
        .dir("e")
        .file("e/kept", "1")
        .put(Head { flag: b'5', name: b"e", mode: 0o700, ..Head::default() }, b"")
        .file("f/g", "")
        .file("f", "flat")
        .symlink("h", "a")
        .hard_link("h", "a")
        .end();
    let template = fixture.unpack(&tar).unwrap();
    let root = &template.root;
    assert_eq!((read(&root.join("a")), read(&root.join("b"))), ("new".into(), "old".into()));
    assert_eq!(std::fs::read_link(root.join("d")).unwrap(), Path::new(&fixture.outside()));
    assert_eq!(read(&root.join("e/kept")), "1");
    assert_eq!(std::fs::metadata(root.join("e")).unwrap().mode() & 0o777, 0o700);
    assert_eq!(read(&root.join("f")), "flat");
    assert!(!std::fs::symlink_metadata(root.join("h")).unwrap().is_symlink());
    // A directory that became a symlink is not gone through to set its time, nor to make files.
    let error = fixture.refused_beside(
        &Tar::default().dir("d").file("d/x", "").symlink("d", &fixture.outside()).file("d/y", "").end(),
    );
    assert!(error.contains("\"d/y\""), "{error}");
    let error = fixture.refused_beside(&Tar::default().file("a", "").file("a/b", "").end());
    assert!(error.contains("Not a directory"), "{error}");
}

#[test]
fn device_nodes_and_whiteouts_are_left_out_and_counted() {
    if !is_root() {
        return;
    }
    let node = |flag, name| Head { flag, name, mode: 0o666, ..Head::default() };
    let tar = Tar::default()
        .put(node(b'3', b"dev/null"), b"")
        .put(node(b'4', b"dev/sda"), b"")
        .put(node(b'3', b"whiteout"), b"")
        .put(node(b'V', b"label"), b"")
        .file("kept", "")
        .end();
    let template = Fixture::new().unpack(&tar);
    assert_eq!(template.as_ref().unwrap().skipped.devices, 3);
    let fixture = Fixture::new();
    let template = fixture.unpack(&tar).unwrap();
    assert_eq!(list(&template.root), ["kept"]);
    drop(template);
    assert_eq!(fixture.unpack(&tar).unwrap().skipped.devices, 3, "counts are remembered");
}

#[test]
fn what_is_not_understood_is_refused() {
    if !is_root() {
        return;
    }
    let sparse = Head { flag: b'S', name: b"s", ..Head::default() };
    let error = Fixture::new().refused(&Tar::default().put(sparse, b"").end());
    assert!(
        error.contains("entry \"s\" (number 1)") && error.ends_with("sparse files are not supported"),
        "{error}"
    );
    for key in ["GNU.sparse.major", "GNU.sparse.map", "SCHILY.realsize"] {
        let error = Fixture::new().refused(&Tar::default().pax(&[(key, b"1")]).file("f", "").end());
        assert!(error.contains("sparse"), "{error}");
    }
    for (flag, why) in [(b'M', "several volumes"), (b'Z', "type 'Z'"), (b'A', "type 'A'")] {
        let error = Fixture::new()
            .refused(&Tar::default().put(Head { flag, name: b"f", ..Head::default() }, b"").end());
        assert!(error.contains(why), "{error}");
    }
    let global = Head { flag: b'g', name: b"g", ..Head::default() };
    let error = Fixture::new().refused(&Tar::default().put(global, b"9 uid=42\n").file("f", "").end());
    assert!(error.contains("global pax defaults"), "{error}");
    let comment = Head { flag: b'g', name: b"g", ..Head::default() };
    Fixture::new().unpack(&Tar::default().put(comment, b"13 comment=a\n").file("f", "").end()).unwrap();
    let v3 = [&[1, 0, 0, 3][..], &[0; 16], &[0xa0, 0x86, 1, 0]].concat();
    let tar = Tar::default().pax(&[("SCHILY.xattr.security.capability", &v3)]).file("f", "").end();
    assert!(Fixture::new().refused(&tar).contains("user namespace"));
}

#[test]
fn owners_beyond_a_ves_range_are_refused() {
    if !is_root() {
        return;
    }
    let big = Head { name: b"f", uid: 70_000, ..Head::default() };
    let error = Fixture::new().refused(&Tar::default().put(big, b"").end());
    assert!(error.contains("entry \"f\" (number 1) of archive"), "{error}");
    assert!(error.ends_with(": uid 70000 is outside 0..65535"), "{error}");
    let error = Fixture::new().refused(&Tar::default().pax(&[("gid", b"65536")]).dir("d").end());
    assert!(error.contains("gid 65536"), "{error}");
    let error = Fixture::new().refused(&Tar::default().pax(&[("uid", b"-1")]).symlink("d", "x").end());
    assert!(error.contains("uid -1"), "{error}");
}

#[test]
fn a_bomb_is_stopped_before_it_is_written() {
    if !is_root() {
        return;
    }
    let limits = Limits { max_bytes: 1 << 20, max_entries: 1000, reserve_bytes: 0 };
    let huge = |size| Tar::default().put(Head { name: b"f", size: Some(size), ..Head::default() }, b"").end();
    for size in [2 << 20, 1 << 32, 8 << 30] {
        let error = Fixture::limited(limits).refused(&huge(size));
        assert!(error.contains("takes more than 1048576 bytes"), "{error}");
    }
    let error =
        Fixture::new().refused(&Tar::default().pax(&[("size", b"18446744073709551000")]).file("f", "").end());
    assert!(error.contains("a size beyond all bounds"), "{error}");
    // Within the limit, but more than the disk has beside the reserve.
    let all = Limits { max_bytes: u64::MAX, ..Limits::default() };
    let error = Fixture::limited(all)
        .refused(&Tar::default().pax(&[("size", b"9007199254740992")]).file("f", "").end());
    assert!(error.contains("bytes are free beside the reserve"), "{error}");
    let reserved = Limits { reserve_bytes: u64::MAX, ..Limits::default() };
    assert!(Fixture::limited(reserved).refused(&huge(0)).contains("reserve of 18446744073709551615"));
    // Many small files, and directories that one name implies.
    let many = (0..1100).fold(Tar::default(), |tar, n| tar.hard_link(&format!("h{n}"), "f"));
    let many = Tar([Tar::default().file("f", "").0, many.0].concat()).end();
    assert!(Fixture::limited(limits).refused(&many).contains("more than 1000 entries"));
    let deep = "d/".repeat(1200);
    let deep = Tar::default().pax(&[("path", format!("{deep}f").as_bytes())]).file("f", "").end();
    assert!(Fixture::limited(limits).refused(&deep).contains("more than 1000 entries"));
    // A megabyte of zeros in a few bytes, skipped data and padding included.
    let stream = Limits { max_bytes: 1 << 20, max_entries: 10, reserve_bytes: 0 };
    let skipped =
        Tar::default().put(Head { flag: b'3', name: b"n", ..Head::default() }, &vec![0; 4 << 20]).end();
    let packed = zstd::encode_all(&skipped[..], 3).unwrap();
    assert!(packed.len() < 2000);
    assert!(Fixture::limited(stream).refused(&packed).contains("takes more than"));
    let long = Head { flag: b'L', name: b"l", size: Some(1 << 40), ..Head::default() };
    assert!(
        Fixture::new()
            .refused(&Tar::default().put(long, b"").end())
            .contains("extension header that is too long")
    );
}

#[test]
fn bad_names_are_refused() {
    if !is_root() {
        return;
    }
    let long = "x".repeat(256);
    let path = "y/".repeat(2100);
    for (name, why) in [
        (&b"a\0b"[..], "the name holds a NUL byte"),
        (long.as_bytes(), "the name has a component longer than 255 bytes"),
        (path.as_bytes(), "the name is longer than 4095 bytes"),
    ] {
        let error = Fixture::new().refused(&Tar::default().pax(&[("path", name)]).file("f", "").end());
        assert!(error.contains(why), "{error}");
    }
    let error = Fixture::new().refused(&Tar::default().symlink("s", "").end());
    assert!(error.contains("the link target is empty"), "{error}");
    let error = Fixture::new().refused(&Tar::default().pax(&[("path", b"x")]).end());
    assert!(error.contains("an extension of no entry"), "{error}");
}

#[test]
fn a_tree_deeper_than_any_path_is_removed_again() {
    if !is_root() {
        return;
    }
    let step = "d/".repeat(1500);
    let mut tar = Tar::default();
    let mut base = String::new();
    for n in 0..6 {
        tar = tar.pax(&[("path", format!("{base}{step}").as_bytes())]).dir("d");
        let link = format!("l{n}");
        tar = tar.put(Head { flag: b'K', name: b"k", ..Head::default() }, format!("{base}{step}").as_bytes());
        tar = tar.symlink(&link, "");
        base = format!("{link}/");
    }
    // Complete, it can be removed; with an error at the end, it leaves nothing.
    let fixture = Fixture::new();
    let error =
        fixture.refused(&tar.clone().put(Head { flag: b'Z', name: b"z", ..Head::default() }, b"").end());
    assert!(error.contains("type 'Z'"), "{error}");
    drop(fixture.unpack(&tar.end()).unwrap());
    let removal = fixture.store.remove_unused(&Default::default()).unwrap();
    assert_eq!((removal.removed.len(), removal.failed.len()), (1, 0), "{removal:?}");
    assert_eq!(fixture.own(), ["index.json", "lock"]);
}

impl Fixture {
    /// As `refused`, where an earlier archive was unpacked.
    fn refused_beside(&self, bytes: &[u8]) -> String {
        let before = self.own();
        let error = self.unpack(bytes).expect_err("it was unpacked");
        assert_eq!(self.own(), before);
        chain(&error)
    }
}
