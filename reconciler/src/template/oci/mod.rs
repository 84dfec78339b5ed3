//! OCI images: a manifest names a configuration and layers by digest, and a root is its layers, one over the other.
//!
//! [`document`] reads and judges what describes an image, [`application`] how its program is run, [`layout`] finds it on disk, [`skopeo`] fetches it there from a
//! registry, [`layers`] unpacks it by the same unpacker that archives go through, and [`store`] and [`manage`] keep it.
//! An image is hostile until proven otherwise: nothing is used whose digest and size are not those that were named.

mod application;
mod document;
mod error;
mod layers;
mod layout;
mod manage;
mod skopeo;
mod store;
pub(super) mod whiteout;

#[cfg(test)]
mod tests;

pub use self::error::ImageProblem;
pub(super) use self::layout::{bytes, is_layout};
pub(super) use self::store::IMAGE;
