//! `cargo xtask guest`: builds the static programs that tests and benchmarks put into VEs.
//!
//! Must give flags by environment and not by a config file: they are for these two programs only.

use std::path::PathBuf;

use crate::run::{Result, cargo, fail, run, target};

/// Where they are.
pub(crate) struct Guest {
    /// Init, report, probes.
    pub(crate) witness: PathBuf,
    /// The benchmarks' payload.
    pub(crate) pause: PathBuf,
}

/// With --target given, flags don't reach build scripts and macros, which can't be static.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Aborting on panic lets the payload do without std; symbols would be copied into every VE's file system.
const FLAGS: &str = "-C target-feature=+crt-static -C panic=abort -C strip=symbols";

/// Builds both.
pub(crate) fn build() -> Result<Guest> {
    if !cfg!(target_arch = "x86_64") {
        return fail("the guest programs exist for x86-64 only");
    }
    let mut command = cargo(&["build", "--quiet", "--release", "--package", "vzd-guest", "--target", TRIPLE]);
    // Would win over RUSTFLAGS.
    command.env("RUSTFLAGS", FLAGS).env_remove("CARGO_ENCODED_RUSTFLAGS");
    run(&mut command)?;
    let directory = target().join(TRIPLE).join("release");
    let guest = Guest { witness: directory.join("guest"), pause: directory.join("guest-pause") };
    for program in [&guest.witness, &guest.pause] {
        if !is_static(program) {
            return fail(format!("{} needs an interpreter: it would not run in a VE", program.display()));
        }
    }
    Ok(guest)
}

/// A program that needs a dynamic linker names it in a program header of type PT_INTERP.
fn is_static(program: &PathBuf) -> bool {
    const PT_INTERP: u32 = 3;
    let Ok(bytes) = std::fs::read(program) else { return false };
    let number = |at: usize, length: usize| {
        let slice = bytes.get(at..at + length)?;
        Some(slice.iter().rev().fold(0usize, |number, byte| number << 8 | usize::from(*byte)))
    };
    // Offset, size and count of the program headers in a 64-bit ELF header.
    let (Some(offset), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return false;
    };
    let interpreter = usize::try_from(PT_INTERP).ok();
    bytes.starts_with(b"\x7fELF") && (0..count).all(|index| number(offset + index * size, 4) != interpreter)
}
