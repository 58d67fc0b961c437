//! One kind of work after the other.

use std::time::Duration;

use ktstr_replay::units::nanos;

use super::bursty::Bursty;
use super::spin_wait::SpinWait;
use super::{Ended, Gang, Never, RangeError, Work, WorkType, Worker, range};

/// Kinds of work, each for its time, over and over. Stresses a scheduler's memory of what a task was.
///
/// Units are those of its kinds. A kind of which workers work together, and another sequence, are refused. A time is 1 µs to 10 s, and
/// ends with the turn that it ends in. Default: 20 ms of [`SpinWait`](struct@SpinWait), 20 ms of [`Bursty`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence(
    /// Each kind, and for how long.
    pub Vec<(WorkType, Duration)>,
);

impl Default for Sequence {
    fn default() -> Self {
        let time = Duration::from_millis(20);
        Self(vec![(SpinWait.into(), time), (Bursty::default().into(), time)])
    }
}

impl Work for Sequence {
    fn check(&self) -> Result<(), RangeError> {
        let steps = self.0.len();
        range::good(
            (1..=64).contains(&steps),
            "the length of a Sequence",
            || steps.to_string(),
            "from 1 to 64",
        )?;
        for (work, time) in &self.0 {
            let is_alone = work.gang() == Gang::Alone && !matches!(work, WorkType::Sequence(_));
            let allowed = "a kind whose workers work alone, and no Sequence";
            range::good(is_alone, "a kind of a Sequence", || work.name().to_owned(), allowed)?;
            range::time("a time of a Sequence", *time)?;
            work.check()?;
        }
        Ok(())
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        loop {
            for (work, time) in &self.0 {
                worker.until_ns = worker.now_ns().saturating_add(nanos(*time));
                let ended = work.run(worker);
                worker.until_ns = u64::MAX;
                if ended != Ended::Told || worker.stopping() {
                    return Err(ended);
                }
            }
        }
    }
}
