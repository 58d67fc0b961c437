//! Bounds on what a trace may make its reader do.

/// Records of a trace at most.
pub(crate) const MAX_RECORDS: usize = 1 << 19;

/// Decoded bytes of all events of a trace at most: they are held in memory together.
pub(crate) const MAX_EVENT_BYTES: u64 = 256 << 20;

/// Decoded bytes of all samples of a trace at most: those who judge hold them together, too.
pub(crate) const MAX_SAMPLE_BYTES: u64 = 512 << 20;

/// Decoded bytes of all claims, losses or clocks of a trace at most.
pub(crate) const MAX_SMALL_BYTES: u64 = 64 << 20;

/// Tables between a checkpoint and its full table at most; the writer makes 15.
pub(crate) const MAX_PARENTS: usize = 64;

/// Runs of all tables of one checkpoint at most.
pub(crate) const MAX_RUNS: usize = 1 << 21;

/// Decoded page chunks that are kept, of 256 KiB each.
pub(crate) const CACHED_CHUNKS: usize = 128;
