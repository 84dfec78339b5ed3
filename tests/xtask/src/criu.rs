//! CRIU for the tests of checkpoints: Debian's newest, in a folder of its own, since no stable release has one that can
//! dump the sockets of new kernels.
//!
//! Must not install anything into the machine's own system: CRIU runs with the libraries and the loader that it came with.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::lab::Apt;
use crate::run::{Context, Result, is_root, on_path};

/// Where tests look for it; see `vzd_tests::CRIU`.
pub(crate) const FOLDER: &str = "/usr/local/lib/vzd/criu";
/// The suite that has a recent one.
const SUITE: &str = "sid";

/// Started through its own loader, wherever the folder is.
const PROGRAM: &str = r#"#!/bin/sh
root=${0%/*}/root
exec "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root/usr/sbin/criu" "$@"
"#;

/// Unpacks it, unless it is there.
pub(crate) fn provide() -> Result<()> {
    let folder = Path::new(FOLDER);
    let works = |folder: &Path| {
        Command::new(folder.join("criu")).arg("--version").output().is_ok_and(|said| said.status.success())
    };
    // Other machines, and users who may not, do without: the tests that need it say so.
    if works(folder) || !is_root() || on_path("apt-get").is_none() || cfg!(not(target_arch = "x86_64")) {
        return Ok(());
    }
    println!("unpacking criu of Debian {SUITE} into {FOLDER}");
    let new = folder.with_extension("new");
    drop(std::fs::remove_dir_all(&new));
    std::fs::create_dir_all(&new).context(new.display())?;
    let cache = crate::lab::cache();
    std::fs::create_dir_all(&cache).context(cache.display())?;
    Apt::new(&cache, SUITE)?.unpack(&["criu"], true, &new.join("root"))?;
    let program = new.join("criu");
    std::fs::write(&program, PROGRAM).context(program.display())?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).context(program.display())?;
    drop(std::fs::remove_dir_all(folder));
    std::fs::rename(&new, folder).context(FOLDER)
}
