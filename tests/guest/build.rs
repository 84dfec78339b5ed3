//! Links `guest-pause` without the C start files: it brings its own `_start`. Must not touch the other binary.

fn main() {
    // `cargo::` instructions can only be given by printing them.
    let lines = ["cargo::rerun-if-changed=build.rs", "cargo::rustc-link-arg-bin=guest-pause=-nostartfiles"];
    std::io::Write::write_all(&mut std::io::stdout(), (lines.join("\n") + "\n").as_bytes())
        .expect("cargo reads what a build script prints");
}
