//! What every part of provisioning needs at hand.

use super::cache::Cache;
use super::host::Host;
use super::progress::Progress;

/// The cache to fill, the host to fill it from, and whom to tell.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) cache: Cache,
    pub(super) host: Host,
    pub(super) progress: Progress,
}
