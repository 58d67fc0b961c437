//! Kernels: what the user asks for, what the archive has, and what is inside an image.

mod archive;
mod entry;
mod image;
mod inspect;
mod payload;
mod resolve;
mod spec;
#[cfg(test)]
mod synthetic;

pub use image::ImageError;
pub use resolve::KernelListing;
pub(super) use resolve::{list, list_cached, resolve};
pub use spec::{KernelSpec, KernelVersion};
