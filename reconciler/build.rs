//! How the program is linked, so that little of it is resident. It must not decide what is built.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Half a megabyte of relocations, all of which the loader touches, becomes a few kilobytes. glibc has
    // understood them since 2.36 (Debian 12); a linker that does not know the word says so and goes on.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // Functions of the same code are kept once: a tenth of the program. LLD, which Rust brings for x86-64, can do it, GNU's
    // linker cannot. Traces of a debug build name the function that was written.
    const FOLD: &str = "-Wl,--icf=all";
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") && linker_takes(FOLD) {
        println!("cargo::rustc-link-arg-bins={FOLD}");
    }
}

/// Whether an empty program can be linked with it.
fn linker_takes(argument: &str) -> bool {
    let (Ok(rustc), Ok(out), Ok(target)) = (env::var("RUSTC"), env::var("OUT_DIR"), env::var("TARGET"))
    else {
        return false;
    };
    let source = Path::new(&out).join("empty.rs");
    if std::fs::write(&source, "fn main() {}").is_err() {
        return false;
    }
    let mut command = Command::new(rustc);
    command
        .arg(&source)
        .args(["--target", &target, "--out-dir", &out, "-C"])
        .arg(format!("link-arg={argument}"));
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        command.args(["-C", &format!("linker={linker}")]);
    }
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    command.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
