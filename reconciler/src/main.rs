//! The vzd binary.
fn main() {}
