//! Host tests: real VEs on the real kernel, looked at from outside and from inside. One file a subject.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests do: at the place, at once")]

mod beancounters;
mod cgroup;
mod checkpoint;
mod compat;
mod controller;
mod crash;
mod devices;
mod disk;
mod drift;
mod edits;
mod examples;
mod exec;
mod health;
mod images;
mod isolation;
mod lifecycle;
mod migrate;
mod namespaces;
mod network;
mod order;
mod packages;
mod removal;
mod templates;
mod users;
mod views;
