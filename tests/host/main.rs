//! Host tests: real VEs on the real kernel, looked at from outside and from inside. One file a subject.

mod cgroup;
mod crash;
mod devices;
mod isolation;
mod lifecycle;
mod namespaces;
mod order;
mod removal;
