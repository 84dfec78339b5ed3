//! Benchmarks of vzd against its peers.
fn main() {}
