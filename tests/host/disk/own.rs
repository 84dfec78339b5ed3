//! `template: copy:/path`: a root whose files are all the VE's own, with the ids of its range; as private areas of OpenVZ come over.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use serde_json::json;
use vzd_tests::{Sandbox, needs};

use super::{On, World, check, on_each, on_images, on_projects, on_subvolumes};

on_each!(a_private_area_becomes_the_ves_own);

#[test]
fn a_private_area_becomes_the_ves_own_directory() {
    needs!(Root, Cgroups, Busybox);
    a_private_area_becomes_the_ves_own(On::Directory);
}

const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 7, 0, 33, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
    0x10, 0, 7, 0, 255, 255, 255, 255, 0x20, 0, 4, 0, 255, 255, 255, 255,
];
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A private area with one of each of what a copy might lose.
fn private_area(sandbox: &Sandbox) -> PathBuf {
    let area = sandbox.host_dir("private").join("101");
    let copied = Command::new("cp").arg("-a").arg(sandbox.template_dir()).arg(&area).status();
    assert!(copied.unwrap().success());
    let root = area.join("root");
    let write = |name: &str| {
        let path = root.join(name);
        std::fs::write(&path, name).unwrap();
        path
    };
    let owned = write("owned");
    chown(&owned, Some(33), Some(34)).unwrap();
    std::fs::set_permissions(&owned, PermissionsExt::from_mode(0o4750)).unwrap();
    std::fs::hard_link(&owned, area.join("etc/linked")).unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(b"end", (8 << 20) - 3).unwrap();
    let marked = write("marked");
    for (name, value) in [
        ("system.posix_acl_access", ACL),
        ("security.capability", CAPABILITY),
        ("user.note", b"kept"),
        ("trusted.overlay.opaque", b"y"),
    ] {
        lsetxattr(&marked, name, value, XattrFlags::empty()).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
    let made = Command::new("mknod").arg(root.join("device")).args(["b", "7", "0"]).status();
    assert!(made.unwrap().success());
    area
}

fn attribute(of: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = lgetxattr(of, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

fn a_private_area_becomes_the_ves_own(on: On) {
    let sandbox = World::new(on);
    let area = private_area(&sandbox);
    let conf = sandbox.host_dir("conf");
    std::fs::write(conf.join("101.conf"), "HOSTNAME=\"old\"\nONBOOT=\"yes\"\n").unwrap();
    let private = area.parent().unwrap().display().to_string();
    let import = ["import", "openvz", "--conf", conf.to_str().unwrap(), "--private", &private, "--copy"];
    sandbox.vzd(&import).ok().says("without 1 device node, 1 extended attribute");
    let manifest = std::fs::read_to_string(sandbox.manifests().join("101.yaml")).unwrap();
    let template = format!("template: copy:{}", std::fs::canonicalize(&area).unwrap().display());
    assert!(manifest.contains(&template), "{manifest}");
    let disk = match on {
        On::Directory => json!({}),
        On::Image => json!({ "backend": "image", "diskspace": "64M" }),
        _ => json!({ "diskspace": "64M" }),
    };
    let spec = format!("spec:\n  init: [/bin/guest, init]\n  disk: {disk}\n");
    sandbox.write("101.yaml", &manifest.replace("spec:\n", &spec));
    sandbox.apply();
    // It is not needed any more.
    std::fs::remove_dir_all(&area).unwrap();
    sandbox.vzd(&["start", "101"]).ok();
    let look = "cd /root; stat -c '%n %u %g %a %h %s' owned /etc/linked sparse .; cat owned; echo; readlink link; tail -c 3 sparse; \
                echo; ls device 2>&1 | tail -n 1; [ $(du -k sparse | cut -f 1) -lt 512 ] && echo holes; echo more >> /etc/passwd";
    let said = sandbox.sh("101", look);
    let root = std::fs::metadata(sandbox.template_dir().join("root")).unwrap();
    let expected = format!(
        "owned 33 34 4750 2 5\n/etc/linked 33 34 4750 2 5\nsparse 0 0 644 1 8388608\n. 0 0 {:o} ",
        root.mode() & 0o7777
    );
    assert!(said.starts_with(&expected), "with {on:?}: {said}");
    assert!(
        said.ends_with("owned\n/etc/passwd\nend\nls: device: No such file or directory\nholes"),
        "{said}"
    );
    if on == On::Directory {
        let ves = std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap();
        let marked =
            ves.map(|ve| ve.unwrap().path().join("fs/upper/root/marked")).find(|path| path.exists()).unwrap();
        let base = std::fs::metadata(&marked).unwrap().uid().to_le_bytes();
        let acl = attribute(&marked, "system.posix_acl_access").unwrap();
        let inside = u32::from_le_bytes(acl[16..20].try_into().unwrap()) - u32::from_le_bytes(base);
        assert_eq!((inside, &acl[..16], &acl[20..]), (33, &ACL[..16], &ACL[20..]));
        // Of the VE's root, and of no other.
        let of_root = [&CAPABILITY[..3], &[3], &CAPABILITY[4..], &base].concat();
        assert_eq!(attribute(&marked, "security.capability").unwrap(), of_root);
        assert_eq!(attribute(&marked, "user.note").unwrap(), b"kept");
        assert_eq!(attribute(&marked, "trusted.overlay.opaque"), None);
    }
    // What is not there any more makes no other root, and takes nothing away.
    sandbox.vzd(&["stop", "101"]).ok();
    sandbox.vzd(&["reinstall", "101", "--skip-backup"]).ends(1).says("VZ0304");
    sandbox.vzd(&["start", "101"]).ok();
    assert_eq!(sandbox.sh("101", "tail -n 1 /etc/passwd"), "more");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    sandbox.vzd(&["stop", "101"]).ok();
    sandbox.images().iter().for_each(|image| check(image));
}

#[test]
fn what_no_ve_can_have_is_not_copied() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let area = private_area(&sandbox);
    chown(area.join("root/owned"), Some(70_000), Some(0)).unwrap();
    sandbox.ve("web", json!({ "template": format!("copy:{}", area.display()), "state": "stopped" }));
    sandbox.vzd(&["apply"]).ends(1).says("beyond the 65536 ids of a VE");
    chown(area.join("root/owned"), Some(7), Some(0)).unwrap();
    sandbox.apply();
    // Nor what others than root could have put there.
    std::fs::set_permissions(&area, PermissionsExt::from_mode(0o777)).unwrap();
    sandbox.ve("db", json!({ "template": format!("copy:{}", area.display()) }));
    sandbox.vzd(&["apply"]).ends(1).says("VZ0304");
}
