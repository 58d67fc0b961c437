//! Getting what a run needs (an emulator, a kernel, a BPF toolchain) without root and without
//! changing the host.
//!
//! One mechanism serves all three: the host's own apt with a private state, so that its mirrors,
//! proxies and signature checks are used, and `dpkg -x` into the [`Cache`]. A path that the user
//! gives always wins, and a host without apt is told which program or file to supply. The whole
//! description, with the layout of the cache, is in `docs/provisioning.md`.
//!
//! [`Provisioner`] is the way in.

mod error;
mod progress;
mod place;
mod cache;
mod host;
mod run;
mod sources;
mod apt;
mod bundle;
mod emulator;
mod toolchain;
mod libraries;
mod crates;
mod package;
mod kernel;
mod provisioner;

pub use cache::{Cache, Lock};
pub use crates::{BadCrateSpec, CrateSpec, cargo};
pub use error::{Error, Result};
pub use host::Host;
pub use kernel::{
    KernelCheck, KernelListing, KernelRange, KernelSelection, KernelSpec, KernelVersion, Need, OptionCheck,
    PackageError,
};
pub use package::{PackageProgram, is_package_name};
pub use place::CachePlace;
pub use progress::{Progress, SAY};
pub use provisioner::{Clean, Provisioner};
pub use toolchain::BpfToolchain;
pub(crate) use toolchain::write_starter;
