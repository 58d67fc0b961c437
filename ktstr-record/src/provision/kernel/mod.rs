//! Kernels: what the user asks for, what the archive has, and what is inside an image.

mod payload;
mod image;
mod spec;
mod entry;
mod resolve;

pub use resolve::KernelListing;
pub(super) use resolve::{list, list_cached, resolve};
pub use spec::{KernelSpec, KernelVersion};
