//! Times in which the host did not run the machine, as the recorder told of them.

use super::Trace;
use super::record::{Loss, LossKind};
use crate::units::HostNs;

/// A time in which the host did not run the machine: its emulator was stopped, or got no CPU. The guest's clock went on meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostGap {
    /// When it began, by the host's time since the recording began, which samples and events have as `host_ns`.
    pub begin: HostNs,
    /// When it was over, by the same clock.
    pub end: HostNs,
    /// How the recorder noticed it, in words.
    pub why: String,
}

impl HostGap {
    /// The gap that a loss tells of; `None`: it is of something else.
    pub(crate) fn of(loss: &Loss) -> Option<Self> {
        let begin = HostNs(loss.host_ns.0.saturating_sub(loss.count));
        (loss.kind == LossKind::HostTime).then(|| Self { begin, end: loss.host_ns, why: loss.detail.clone() })
    }

    /// Its length, in ns.
    #[must_use]
    pub fn ns(&self) -> u64 {
        self.end.0.saturating_sub(self.begin.0)
    }
}

impl Trace {
    /// The times in which the host did not run the machine, in the order in which they were over: what is judged by a clock may have
    /// gone wrong by them. Claims and thresholds of this kind that fail are inconclusive then; a check in code has to decide that
    /// itself, and its report says how long they were.
    ///
    /// ```
    /// use ktstr_replay::trace::Trace;
    ///
    /// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
    /// let lost_ns: u64 = trace.host_gaps().iter().map(|gap| gap.ns()).sum();
    /// assert_eq!(lost_ns, 0);
    /// # Ok::<(), ktstr_replay::trace::TraceError>(())
    /// ```
    pub fn host_gaps(&self) -> Vec<HostGap> {
        self.losses().iter().filter_map(HostGap::of).collect()
    }
}
