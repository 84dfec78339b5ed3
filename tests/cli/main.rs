//! What the command line says, to the letter: the built binary is run and its output compared with
//! snapshots. Needs no root and touches nothing but a temporary directory.

mod errors;
mod generated;
mod harness;
mod help;
mod usage;
mod validate;
