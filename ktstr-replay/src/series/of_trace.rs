//! The series of a trace.

use std::sync::Arc;

use crate::trace::Trace;
use crate::trace::record::CaptureKind;

use super::{Samples, Series};

impl Trace {
    /// All captures. The samples are decoded at this call; keep the series rather than making it again.
    pub fn captures(&self) -> Series {
        Series::all(&Arc::new(Samples::load(self)))
    }

    /// The captures on the cadence of `num_snapshots`, with those that were missed or are damaged.
    pub fn periodic(&self) -> Series {
        self.captures().of_kind(CaptureKind::Periodic)
    }

    /// The captures of one tag.
    pub fn tagged(&self, tag: &str) -> Series {
        self.captures().filter(|s| s.tag == tag)
    }
}
