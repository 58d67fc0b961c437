//! Kernels: what the user asks for, what the archive has, what is inside an image, a package or a source tree, and what is
//! known of a kernel before it is booted.

mod hash;
mod payload;
mod image;
mod spec;
mod range;
mod config;
mod kfuncs;
mod needs;
mod check;
mod package;
mod tree;
mod entry;
mod file;
mod source_state;
mod build;
mod resolve;
mod select;
mod source;

pub(super) use build::{FOLDER as BUILDS, build};
pub use check::KernelCheck;
pub(super) use check::check;
pub(super) use config::read as read_config;
pub use needs::{Need, OptionCheck};
pub use package::PackageError;
pub use range::KernelRange;
pub use resolve::KernelListing;
pub(super) use resolve::{config_of, list, list_cached, resolve};
pub use select::KernelSelection;
pub(super) use select::select;
pub(super) use source::source_of;
pub use spec::{KernelSpec, KernelVersion};
