//! Probes, as a test describes them.

use std::fmt;

use guest_init::message::ProbeOrder;
use ktstr_replay::path::SyntaxError;
use ktstr_replay::probe::ProbeTarget;

/// A function whose calls are recorded: each with the task that called, the arguments and what they point at, and where it was called
/// from.
///
/// ```
/// use ktstr::prelude::*;
///
/// let probe = ProbeSpec::on("select_task_rq_scx(p->pid, prev_cpu) returns").max_hits(100);
/// assert_eq!(probe.to_string(), "select_task_rq_scx(p->pid, prev_cpu) returns");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSpec(ProbeOrder);

impl ProbeSpec {
    /// Every call of `target`, up to 16384 of them: a function of the kernel (`enqueue_task_scx`) or a BPF program by its name
    /// (`demo_enqueue`). What is read at each call may follow: `enqueue_task_scx(p->pid, p->scx.dsq_vtime)`; without that it is every
    /// argument, and pid and name of a task. At the end `returns` asks for the return as well.
    pub fn on(target: impl Into<String>) -> Self {
        Self(ProbeOrder::of(target.into().trim()))
    }

    /// After this many recorded calls it is taken away; 16384 if nobody says.
    #[must_use]
    pub fn max_hits(mut self, hits: u32) -> Self {
        self.0.max_hits = hits.max(1);
        self
    }

    /// What the recorder is asked for.
    ///
    /// # Errors
    /// A target that cannot be read.
    pub(crate) fn order(&self) -> Result<ProbeOrder, SyntaxError> {
        let _target: ProbeTarget = self.0.target.parse()?;
        Ok(self.0.clone())
    }
}

impl<T: Into<String>> From<T> for ProbeSpec {
    fn from(target: T) -> Self {
        Self::on(target)
    }
}

impl fmt::Display for ProbeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_an_error_before_anything_runs() {
        for good in ["enqueue_task_scx", "f(p->pid, (u8)flags) returns", "\"f.isra.0\"()"] {
            assert!(ProbeSpec::on(good).order().is_ok(), "{good}");
        }
        for bad in ["", "f(", "f(p->)", "f when x", "f return"] {
            assert!(ProbeSpec::on(bad).order().is_err(), "{bad}");
        }
        assert_eq!(ProbeSpec::on(" f ").max_hits(0).order().map(|order| order.max_hits), Ok(1));
    }
}
