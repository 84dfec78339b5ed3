//! The static program that goes into VEs: where it is, or how it is built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::Must;

/// Where cargo puts what it builds: the test program itself lies in `<target>/debug/deps`.
pub(crate) fn target_dir() -> PathBuf {
    let this = std::env::current_exe().must("find the test program");
    this.ancestors().nth(3).must("the target directory above the test program").to_owned()
}

/// Path of the guest program; it is built the first time where xtask hasn't done that.
pub(crate) fn guest_binary() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(path) = std::env::var_os("VZD_GUEST") {
            return path.into();
        }
        let path = target_dir().join("x86_64-unknown-linux-gnu/release/guest");
        if !path.exists() {
            build();
        }
        path
    })
}

fn build() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", "xtask", "--", "guest"]);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().must("the workspace"));
    let status = command.stdin(Stdio::null()).status().must("start cargo xtask guest");
    assert!(status.success(), "cargo xtask guest: {status}");
}
