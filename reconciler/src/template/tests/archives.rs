//! What archives hold comes out as it went in, in every compression.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::*;

fn sample() -> Vec<u8> {
    Tar::default().dir("./").dir("etc").file("etc/hostname", "a\n").symlink("bin", "/usr/bin").end()
}

fn check_sample(template: &Template) {
    assert_eq!(list(&template.root), ["bin", "etc"]);
    assert_eq!(read(&template.root.join("etc/hostname")), "a\n");
    assert_eq!(std::fs::read_link(template.root.join("bin")).unwrap(), Path::new("/usr/bin"));
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(data).unwrap();
    gz.finish().unwrap()
}

fn xz(data: &[u8]) -> Vec<u8> {
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(data).unwrap();
    xz.finish().unwrap()
}

fn zst(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).unwrap()
}

#[test]
fn every_compression_in_one_piece_or_two() {
    if !is_root() {
        return;
    }
    let (tar, pieces) = (sample(), 700);
    for pack in [|d: &[u8]| d.to_vec(), gzip, xz, zst] {
        let fixture = Fixture::new();
        check_sample(&fixture.unpack(&pack(&tar)).unwrap());
        let two = [pack(&tar[..pieces]), pack(&tar[pieces..])].concat();
        check_sample(&fixture.unpack(&two).unwrap());
    }
}

#[test]
fn a_cut_in_any_compression_is_noticed_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let mut seed = 1_u32;
    let mut random = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b' ' + (seed >> 26) as u8)
    };
    let noise: String = (0..40_000).map(|_| random()).collect();
    let tar = Tar::default().file("a", &noise).file("b", &noise).end();
    for pack in [|d: &[u8]| d.to_vec(), gzip, xz, zst] {
        let whole = pack(&tar);
        for keep in [whole.len() / 3, whole.len() / 2, whole.len() - 1025, whole.len() - 3] {
            if whole.len() == tar.len() && keep == whole.len() - 3 {
                continue; // One block of zeros is left, which is an end marker.
            }
            let fixture = Fixture::new();
            let error = fixture.refused(&whole[..keep]);
            assert!(error.contains("cut off") || error.contains("cannot read"), "{keep}: {error}");
        }
    }
    // Cut between two entries: only the missing end marker tells.
    let error = Fixture::new().refused(&tar[..512 + 40_448]);
    assert!(error.contains("the archive is cut off at byte 40960"), "{error}");
}

#[test]
fn a_flipped_byte_is_noticed() {
    if !is_root() {
        return;
    }
    for pack in [gzip, xz] {
        let mut bytes = pack(&sample());
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        Fixture::new().refused(&bytes);
    }
    let mut bytes = sample();
    bytes[1030] ^= 1;
    assert!(Fixture::new().refused(&bytes).contains("a wrong header checksum at byte 1024"));
}

#[test]
fn what_is_no_archive_is_named() {
    for (bytes, why) in [
        (&b""[..], "the file is empty"),
        (b"BZh91AY&SY", "bzip2"),
        (b"hsqs....", "squashfs"),
        (&[0; 10240], "the archive is empty"),
        (&[b'x'; 600], "no tar header"),
        (b"#!/bin/sh\n", "cut off"),
    ] {
        let error = Fixture::new().refused(bytes);
        assert!(error.contains(why), "{error}");
    }
    let two = [sample(), sample()].concat();
    if is_root() {
        assert!(Fixture::new().refused(&two).contains("data after the archive's end marker"));
    }
}

#[test]
fn owners_modes_times_and_kinds_survive() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let tar = Tar::default()
        .put(Head { flag: b'5', name: b".", mode: 0o750, uid: 3, ..Head::default() }, b"")
        .put(Head { name: b"su", mode: 0o4755, uid: 0, gid: 65535, ..Head::default() }, b"x")
        .put(Head { name: b"sg", mode: 0o2711, uid: 1000, gid: 42, ..Head::default() }, b"")
        .put(Head { flag: b'5', name: b"tmp/", mode: 0o1777, ..Head::default() }, b"")
        .file("tmp/later", "")
        .put(Head { flag: b'6', name: b"pipe", mode: 0o622, uid: 7, ..Head::default() }, b"")
        .put(Head { flag: b'2', name: b"link", link: b"su", uid: 9, gid: 9, ..Head::default() }, b"")
        .hard_link("su2", "su")
        .file("implied/dir/file", "")
        .pax(&[("mtime", b"-1.5")])
        .file("old", "")
        .end();
    let template = fixture.unpack(&tar).unwrap();
    let meta = |name: &str| std::fs::symlink_metadata(template.root.join(name)).unwrap();
    let all = |m: &std::fs::Metadata| (m.mode() & 0o7777, m.uid(), m.gid(), m.mtime());
    assert_eq!(all(&meta("")), (0o750, 3, 0, 1_000_000_000));
    assert_eq!(all(&meta("su")), (0o4755, 0, 65535, 1_000_000_000));
    assert_eq!(all(&meta("sg")), (0o2711, 1000, 42, 1_000_000_000));
    assert_eq!(all(&meta("tmp")), (0o1777, 0, 0, 1_000_000_000));
    assert_eq!(all(&meta("pipe")), (0o622, 7, 0, 1_000_000_000));
    assert!(meta("pipe").file_type().is_fifo());
    let link = meta("link");
    assert_eq!((link.is_symlink(), link.uid(), link.gid(), link.mtime()), (true, 9, 9, 1_000_000_000));
    assert_eq!(meta("su").ino(), meta("su2").ino());
    assert_eq!((meta("implied").mode() & 0o7777, meta("implied/dir").mode() & 0o7777), (0o755, 0o755));
    assert_eq!((meta("old").mtime(), meta("old").mtime_nsec()), (-2, 500_000_000));
}

#[test]
fn capabilities_and_user_attributes_survive_others_do_not() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    // CAP_DAC_OVERRIDE and CAP_FOWNER: the value has a newline in it.
    let cap = [1, 0, 0, 2, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::default()
        .pax(&[
            ("SCHILY.xattr.security.capability", &cap),
            ("SCHILY.xattr.user.note", b"a=b\nc"),
            ("SCHILY.xattr.user.none", b""),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.security.selinux", b"x"),
            ("SCHILY.xattr.system.posix_acl_access", b"x"),
            ("SCHILY.acl.access", b"user::rw-"),
        ])
        .put(Head { name: b"ping", mode: 0o4755, uid: 5, ..Head::default() }, b"x")
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y"), ("SCHILY.xattr.user.d", b"1")])
        .dir("dir")
        .end();
    let template = fixture.unpack(&tar).unwrap();
    let attributes = |name: &str| {
        let mut names = vec![0; 1000];
        let n = rustix::fs::llistxattr(template.root.join(name), &mut names).unwrap();
        String::from_utf8(names[..n].to_vec()).unwrap()
    };
    let value = |name: &str| {
        let mut value = vec![0; 100];
        let n = rustix::fs::lgetxattr(template.root.join("ping"), name, &mut value).unwrap();
        value[..n].to_vec()
    };
    let mut names: Vec<String> = attributes("ping").split_terminator('\0').map(str::to_owned).collect();
    names.retain(|n| n != "security.selinux"); // A host's own label.
    names.sort();
    assert_eq!(names, ["security.capability", "user.none", "user.note"]);
    assert_eq!(value("security.capability"), cap);
    assert_eq!(value("user.note"), b"a=b\nc");
    assert!(attributes("dir").contains("user.d") && !attributes("dir").contains("trusted"));
    assert_eq!(std::fs::metadata(template.root.join("ping")).unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(template.skipped.xattrs, 6);
}

#[test]
fn names_are_bytes_and_may_be_long() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    let longer = format!("{}{}", "e/".repeat(1000), "g".repeat(250));
    let target = "t/".repeat(150);
    let tar = Tar::default()
        .put(Head { name: b"caf\xe9", ..Head::default() }, b"latin-1")
        .pax(&[("path", b"pax-\xff\n=x")])
        .file("ignored", "pax")
        .put(Head { flag: b'L', name: b"././@LongLink", ..Head::default() }, format!("{long}\0").as_bytes())
        .file("cut", "long")
        .pax(&[("path", longer.as_bytes())])
        .file("cut", "longer")
        .put(Head { flag: b'K', name: b"././@LongLink", ..Head::default() }, target.as_bytes())
        .symlink("sym", "cut")
        .end();
    let template = fixture.unpack(&tar).unwrap();
    let at = |name: &[u8]| template.root.join(std::ffi::OsStr::from_bytes(name));
    assert_eq!(read(&at(b"caf\xe9")), "latin-1");
    assert_eq!(read(&at(b"pax-\xff\n=x")), "pax");
    assert_eq!(read(&at(long.as_bytes())), "long");
    assert_eq!(read(&at(longer.as_bytes())), "longer");
    assert_eq!(std::fs::read_link(at(b"sym")).unwrap(), Path::new(&target));
}

#[test]
fn gnu_tar_and_this_agree() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let from = fixture.path("from");
    std::fs::create_dir_all(from.join("etc/deep")).unwrap();
    std::fs::write(from.join("etc/deep").join("x".repeat(120)), "1").unwrap();
    std::os::unix::fs::symlink("/etc", from.join("link")).unwrap();
    for format in ["gnu", "pax", "ustar", "v7"] {
        let file = fixture.path(&format!("{format}.tar"));
        let mut tar = std::process::Command::new("tar");
        tar.arg("-C").arg(&from).arg("-cf").arg(&file).arg(format!("--format={format}"));
        if matches!(format, "v7" | "ustar") {
            tar.arg("--exclude=xxx*");
        }
        if !tar.arg(".").status().is_ok_and(|s| s.success()) {
            println!("skipped: no tar program");
            return;
        }
        let template = fixture.store.ensure(&Source::File(file)).unwrap();
        let compared = std::process::Command::new("diff")
            .args(["-r", "--no-dereference", "--exclude=xxx*"])
            .args([&from, &template.root])
            .status();
        assert!(compared.unwrap().success(), "{format}");
        if matches!(format, "gnu" | "pax") {
            assert_eq!(list(&template.root.join("etc/deep")), ["x".repeat(120)]);
        }
    }
}
