//! How the program is linked. It must not look at the machine: a build is the same everywhere.

fn main() {
    // Half a megabyte of relocations, all of which the loader touches, becomes a few kilobytes. glibc has
    // understood them since 2.36 (Debian 12); a linker that does not know the word says so and goes on.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    println!("cargo::rerun-if-changed=build.rs");
}
