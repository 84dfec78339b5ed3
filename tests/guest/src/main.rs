//! A static program that runs inside a VE and reports what it sees, as JSON.
fn main() {}
