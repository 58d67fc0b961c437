//! Work that changes its scheduling policy.

use super::super::member::burn;
use super::super::settings::{SchedPolicy, Settings};
use super::super::sys::{policy, policy_number, set_policy};
use super::{Ended, Never, RangeError, Work, Worker, range, turn};

/// Computes with one scheduling policy after the other. Stresses the way of a task between scheduling classes: a sched_ext
/// scheduler sees it leave and come back (`disable`, `enable`).
///
/// A unit is a change that the kernel tells back. At the end its policy is the first of the list. Real-time policies need root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyChurn {
    /// The policies, in turn; at least two. Default: `Normal`, `Batch`, `Idle`, `Fifo(1)`, `RoundRobin(1)`.
    pub policies: Vec<SchedPolicy>,
    /// Rounds of arithmetic with each, 1 to 10000000. Default: 4096.
    pub rounds: u32,
}

impl Default for PolicyChurn {
    fn default() -> Self {
        let policies = vec![
            SchedPolicy::Normal,
            SchedPolicy::Batch,
            SchedPolicy::Idle,
            SchedPolicy::Fifo(1),
            SchedPolicy::RoundRobin(1),
        ];
        Self { policies, rounds: 4096 }
    }
}

impl Work for PolicyChurn {
    fn check(&self) -> Result<(), RangeError> {
        let count = self.policies.len();
        range::good(count >= 2, "the number of PolicyChurn.policies", || count.to_string(), "at least 2")?;
        for policy in &self.policies {
            Settings { policy: Some(*policy), ..Settings::default() }.check()?;
        }
        range::rounds("PolicyChurn.rounds", self.rounds)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let ended = 'end: loop {
            for wanted in &self.policies {
                let set = set_policy(*wanted).and_then(|()| policy());
                let units = match set {
                    Ok(now) => u64::from(now == policy_number(*wanted)),
                    Err(errno) => break 'end errno.into(),
                };
                burn(self.rounds);
                if let Err(ended) = turn(worker, units) {
                    break 'end ended;
                }
            }
        };
        if let Some(first) = self.policies.first() {
            // For the next work of a sequence. It was set before; if not now, the worker ends all the same.
            let _ = set_policy(*first);
        }
        Err(ended)
    }
}
