//! What the host hears from a guest.

use guest_init::message::ToHost;
use guest_init::ring::Loss;

/// One thing that a poll found.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// A message.
    Frame {
        /// The guest's `CLOCK_MONOTONIC` when it was sent, ns.
        guest_ns: u64,
        /// Its number; init counts those that it dropped, too.
        sequence: u64,
        /// What it says.
        message: ToHost,
    },
    /// Something that was sent, or that lies where frames are, cannot be had.
    Loss(ChannelLoss),
}

/// What was lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelLoss {
    /// Frames, or bytes that were none.
    #[error(transparent)]
    Ring(Loss),
    /// A frame was whole, but no message of this version.
    #[error("frame {sequence} is no message: {why}")]
    Undecodable {
        /// Its number.
        sequence: u64,
        /// What rkyv said.
        why: String,
    },
}

/// How far a guest's init says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestState {
    /// Not there yet.
    Empty,
    /// Up, and waiting for its job: the moment to save a template.
    Ready,
    /// At its job.
    Busy,
    /// About to power off; nothing will follow.
    Done,
    /// The init of another version of this program.
    OtherVersion {
        /// Its protocol's version.
        version: u32,
    },
    /// No state that there is: something wrote over it.
    Unknown {
        /// The word.
        state: u32,
    },
}
