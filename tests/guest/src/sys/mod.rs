//! The few raw system calls behind everything in this crate, and the only files of it with `unsafe`.
//!
//! Must not know what a probe or a report is, and must not hide an errno: the errno is what the callers came for.

mod call;
mod child;
mod errno;
pub(crate) mod packet;
pub(crate) mod signal;

pub(crate) use call::{Arg, Block, call, call_i386, isolated_mounts, open, text};
pub(crate) use child::{NoAnswer, in_child};
pub(crate) use errno::Errno;
