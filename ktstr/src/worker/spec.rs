//! What a group of workers is to do, as a test writes it.

use super::affinity::Affinity;
use super::settings::{CloneMode, MemPolicy, SchedPolicy, Settings};
use super::work::WorkType;

/// How many workers there are and how they are treated, said of a group of them or of a whole cgroup: the setters for the fields `count`,
/// `affinity` and `settings`.
macro_rules! worker_setters {
    () => {
        /// How many workers; 0 are none.
        pub fn workers(mut self, count: usize) -> Self {
            self.count = Some(WorkerCount::Exactly(count));
            self
        }

        /// How many workers, in percent of the CPUs that the cgroup may use, at least one.
        pub fn workers_pct(mut self, percent: f64) -> Self {
            self.count = Some(WorkerCount::Percent(percent));
            self
        }

        /// Their scheduling policy.
        pub fn sched_policy(mut self, policy: SchedPolicy) -> Self {
            self.settings.policy = Some(policy);
            self
        }

        /// Which CPUs they may use, among those of the cgroup.
        pub fn affinity(mut self, affinity: Affinity) -> Self {
            self.affinity = Some(affinity);
            self
        }

        /// Where their memory is taken from.
        pub fn mem_policy(mut self, policy: MemPolicy) -> Self {
            self.settings.mem_policy = Some(policy);
            self
        }

        /// Their nice value, -20 to 19.
        pub fn nice(mut self, nice: i32) -> Self {
            self.settings.nice = Some(nice);
            self
        }

        /// Their command name, 1 to 15 bytes. Without one each has its cgroup's, cut, and its number: `cg_0/3`.
        pub fn comm(mut self, comm: impl Into<String>) -> Self {
            self.settings.comm = Some(comm.into());
            self
        }

        /// The user that they run as.
        pub fn uid(mut self, uid: u32) -> Self {
            self.settings.uid = Some(uid);
            self
        }

        /// The group that they run as.
        pub fn gid(mut self, gid: u32) -> Self {
            self.settings.gid = Some(gid);
            self
        }

        /// Whether they are processes or threads of one process.
        pub fn clone_mode(mut self, mode: CloneMode) -> Self {
            self.settings.clone_mode = Some(mode);
            self
        }
    };
}
pub(crate) use worker_setters;

/// How many workers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WorkerCount {
    /// So many.
    Exactly(usize),
    /// So many percent of the CPUs that the cgroup may use, at least one.
    Percent(f64),
}

/// A number of workers that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("workers_pct is {0}; it must be above 0 and at most 10000")]
pub struct CountError(f64);

/// A group of workers of one kind.
///
/// ```
/// use ktstr::prelude::*;
///
/// let hog = WorkSpec::new(SpinWait).workers(1).sched_policy(SchedPolicy::Fifo(50)).affinity(Affinity::SingleCpu);
/// let def = CgroupDef::named("cg_0").workers(4).work(hog);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a specification does nothing until it is executed"]
pub struct WorkSpec {
    pub(crate) work: WorkType,
    pub(crate) count: Option<WorkerCount>,
    pub(crate) affinity: Option<Affinity>,
    pub(crate) settings: Settings,
}

impl WorkSpec {
    /// Workers of this kind, `Ctx::workers_per_cgroup` of them.
    pub fn new(work: impl Into<WorkType>) -> Self {
        Self { work: work.into(), count: None, affinity: None, settings: Settings::default() }
    }

    worker_setters!();
}

impl WorkerCount {
    /// The number, for a cgroup that may use so many CPUs.
    ///
    /// # Errors
    /// `CountError`.
    pub fn of(self, cpus: usize) -> Result<usize, CountError> {
        match self {
            Self::Exactly(count) => Ok(count),
            Self::Percent(percent) if percent > 0.0 && percent <= 10_000.0 => {
                Ok(((cpus as f64 * percent / 100.0).round() as usize).max(1))
            }
            Self::Percent(percent) => Err(CountError(percent)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_of_the_cpus() {
        assert_eq!(WorkerCount::Percent(150.0).of(4), Ok(6));
        assert_eq!(WorkerCount::Percent(10.0).of(2), Ok(1));
        assert_eq!(WorkerCount::Exactly(3).of(2), Ok(3));
        for percent in [0.0, -1.0, 20_000.0, f64::NAN, f64::INFINITY] {
            assert!(WorkerCount::Percent(percent).of(2).is_err(), "{percent}");
        }
    }
}
