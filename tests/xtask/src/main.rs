//! The one door for everything a developer or CI runs.
fn main() {}
