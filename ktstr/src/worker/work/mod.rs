//! The kinds of work, one file each; the list is the table at the end.

mod affinity_churn;
mod buffer;
mod bursty;
mod cache_pressure;
mod cache_yield;
mod cgroup_churn;
mod custom;
mod epoll_storm;
mod fork_exit;
mod futex_fan_out;
mod futex_ping_pong;
mod idle_churn;
mod io_rand_read;
mod io_sync_write;
mod lock;
mod mixed;
mod mutex_contention;
mod nice_sweep;
mod numa_sweep;
mod page_fault_churn;
#[cfg(test)]
mod parameters;
mod pipe_io;
mod policy_churn;
mod post;
mod preempt_storm;
mod priority_inversion;
mod producer_consumer;
mod range;
mod rt_starvation;
mod sequence;
mod signal_storm;
mod spin_wait;
mod temp_file;
#[cfg(test)]
mod tests;
mod thundering_herd;
mod timer_latency;
mod wake_chain;
mod yield_heavy;

use std::fmt;

use rustix::io::Errno;

use super::links::{LinkFault, Wants};
use super::member::{Ended, Worker};
use super::settings::RangeError;
pub(super) use cgroup_churn::{CHURN_PREFIX, cgroup2_mount};

/// How many workers work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gang {
    /// Each on its own.
    Alone,
    /// So many; a group has a multiple of it.
    Of(usize),
    /// The whole group.
    Group {
        /// How many it must have at least.
        min: usize,
    },
}

/// A kind of work, with its parameters.
trait Work {
    /// Workers that work together. They share a board and have a mailbox each.
    const GANG: Gang = Gang::Alone;

    /// The files that a gang has in common.
    fn files(&self) -> Wants {
        Wants::Nothing
    }

    /// Whether all parameters are in their bounds.
    ///
    /// # Errors
    /// The first that is not.
    fn check(&self) -> Result<(), RangeError> {
        Ok(())
    }

    /// Do turns until [`Worker::turn`] says no.
    ///
    /// Runs in a forked child: it must not allocate, take a lock of the process, print or panic.
    ///
    /// # Errors
    /// How it ended. There is no other end.
    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended>;
}

/// Nothing that can be: a work's loop ends by its `Ended` alone.
enum Never {}

macro_rules! work_types {
    ($($name:ident in $module:ident;)+) => {
        /// All kinds.
        pub mod kinds {
            $(pub use super::$module::$name;)+
        }
        use kinds::*;

        /// What a worker does until it is told to end: one of the kinds, with its parameters.
        ///
        /// A kind is written as it is, wherever a `WorkType` is wanted:
        ///
        /// ```
        /// use ktstr::prelude::*;
        /// use std::time::Duration;
        ///
        /// let spin = CgroupDef::named("cg_0").work_type(SpinWait);
        /// let bursts = CgroupDef::named("cg_1")
        ///     .work_type(Bursty { burst: Duration::from_millis(1), ..Bursty::default() });
        /// ```
        ///
        /// All of them, with their default parameters:
        ///
        /// ```
        /// use ktstr::prelude::*;
        ///
        /// let kinds: Vec<WorkType> = vec![
        ///     SpinWait.into(), Bursty::default().into(), YieldHeavy::default().into(), Mixed::default().into(),
        ///     IdleChurn::default().into(), CachePressure::default().into(), CacheYield::default().into(),
        ///     PipeIo::default().into(), FutexPingPong::default().into(), FutexFanOut::default().into(),
        ///     WakeChain::default().into(), ThunderingHerd::default().into(), EpollStorm::default().into(),
        ///     ProducerConsumer::default().into(), TimerLatency::default().into(), ForkExit::default().into(),
        ///     NiceSweep::default().into(), AffinityChurn::default().into(), PolicyChurn::default().into(),
        ///     CgroupChurn::default().into(), PageFaultChurn::default().into(), NumaSweep::default().into(),
        ///     MutexContention::default().into(), PriorityInversion::default().into(), SignalStorm::default().into(),
        ///     PreemptStorm::default().into(), RtStarvation::default().into(), IoSyncWrite::default().into(),
        ///     IoRandRead::default().into(), Sequence::default().into(), Custom::default().into(),
        /// ];
        /// assert_eq!(kinds.len(), WorkType::defaults().len());
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum WorkType {
            $(
                #[doc = concat!("See [`", stringify!($name), "`](struct@", stringify!($name), ").")]
                $name($name),
            )+
        }

        $(
            impl From<$name> for WorkType {
                fn from(work: $name) -> Self {
                    Self::$name(work)
                }
            }
        )+

        impl WorkType {
            /// Every kind, with its default parameters.
            pub fn defaults() -> Vec<Self> {
                vec![$($name::default().into()),+]
            }

            /// The kind's name, as in reports.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)+
                }
            }

            /// How many workers work together.
            pub fn gang(&self) -> Gang {
                match self {
                    $(Self::$name(_) => <$name as Work>::GANG,)+
                }
            }

            /// Whether all parameters are in their bounds.
            ///
            /// # Errors
            /// The first that is not.
            pub fn check(&self) -> Result<(), RangeError> {
                match self {
                    $(Self::$name(work) => work.check(),)+
                }
            }

            pub(super) fn files(&self) -> Wants {
                match self {
                    $(Self::$name(work) => work.files(),)+
                }
            }

            /// See [`Work::run`].
            pub(super) fn run(&self, worker: &mut Worker<'_>) -> Ended {
                let ended = match self {
                    $(Self::$name(work) => work.run(worker),)+
                };
                match ended {
                    Err(ended) => ended,
                    Ok(never) => match never {},
                }
            }
        }
    };
}

work_types! {
    SpinWait in spin_wait;
    YieldHeavy in yield_heavy;
    Mixed in mixed;
    Bursty in bursty;
    IdleChurn in idle_churn;
    CachePressure in cache_pressure;
    CacheYield in cache_yield;
    PipeIo in pipe_io;
    FutexPingPong in futex_ping_pong;
    FutexFanOut in futex_fan_out;
    WakeChain in wake_chain;
    ThunderingHerd in thundering_herd;
    EpollStorm in epoll_storm;
    ProducerConsumer in producer_consumer;
    TimerLatency in timer_latency;
    ForkExit in fork_exit;
    NiceSweep in nice_sweep;
    AffinityChurn in affinity_churn;
    PolicyChurn in policy_churn;
    CgroupChurn in cgroup_churn;
    PageFaultChurn in page_fault_churn;
    NumaSweep in numa_sweep;
    MutexContention in mutex_contention;
    PriorityInversion in priority_inversion;
    SignalStorm in signal_storm;
    PreemptStorm in preempt_storm;
    RtStarvation in rt_starvation;
    IoSyncWrite in io_sync_write;
    IoRandRead in io_rand_read;
    Sequence in sequence;
    Custom in custom;
}

impl WorkType {
    /// Whether its workers move between cgroups.
    pub(super) fn changes_cgroup(&self) -> bool {
        match self {
            Self::CgroupChurn(_) => true,
            Self::Sequence(Sequence(steps)) => steps.iter().any(|(work, _)| work.changes_cgroup()),
            _ => false,
        }
    }
}

impl Default for WorkType {
    fn default() -> Self {
        SpinWait.into()
    }
}

impl fmt::Display for WorkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<LinkFault> for Ended {
    fn from(fault: LinkFault) -> Self {
        match fault {
            LinkFault::Closed => Self::PeerGone,
            LinkFault::Errno(errno) => Self::Failed(errno),
        }
    }
}

impl From<Errno> for Ended {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

/// Count a turn; an error when the worker is to end.
fn turn(worker: &mut Worker<'_>, units: u64) -> Result<(), Ended> {
    if worker.turn(units) { Ok(()) } else { Err(Ended::Told) }
}
