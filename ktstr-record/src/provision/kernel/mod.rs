//! Kernels: what the user asks for, what the archive has, and what is inside an image.

mod payload;
mod image;
mod spec;
mod config;
mod entry;
mod resolve;
mod source;

pub(super) use config::read as read_config;
pub use resolve::KernelListing;
pub(super) use resolve::{config_of, list, list_cached, resolve};
pub(super) use source::source_of;
pub use spec::{KernelSpec, KernelVersion};
