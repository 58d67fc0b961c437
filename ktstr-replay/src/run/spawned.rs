//! What a scenario says of the workers that it starts, so that their reports can be counted.

use std::fmt;
use std::str::FromStr;

use super::Run;
use crate::trace::record::EventBody;

/// Workers that were started for a cgroup: the detail of an operation `spawn`, as in `cg_0: 2 spin_wait`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnedWorkers {
    /// The cgroup, by name.
    pub cgroup: String,
    /// How many.
    pub count: usize,
    /// Name of the work type.
    pub work: String,
}

impl SpawnedWorkers {
    /// Name of the operation.
    pub const OP: &str = "spawn";
}

impl fmt::Display for SpawnedWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.cgroup, self.count, self.work)
    }
}

/// A text that no scenario writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form `CGROUP: COUNT WORK`")]
pub struct NotSpawned;

impl FromStr for SpawnedWorkers {
    type Err = NotSpawned;

    fn from_str(text: &str) -> Result<Self, NotSpawned> {
        // A cgroup's name may have a colon; a number and a work type have none.
        let (cgroup, rest) = text.rsplit_once(": ").ok_or(NotSpawned)?;
        let (count, work) = rest.split_once(' ').ok_or(NotSpawned)?;
        let count = count.parse().map_err(|_| NotSpawned)?;
        Ok(Self { cgroup: cgroup.to_owned(), count, work: work.to_owned() })
    }
}

impl Run<'_> {
    /// The workers that the scenario started, in order.
    pub(crate) fn spawned_workers(&self) -> impl Iterator<Item = SpawnedWorkers> {
        self.events.iter().filter_map(|e| match &e.body {
            EventBody::Op { name, detail } if name == SpawnedWorkers::OP => detail.parse().ok(),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for cgroup in ["cg_0", "a: 3 b", "x/y"] {
            let spawned = SpawnedWorkers { cgroup: cgroup.to_owned(), count: 12, work: "pipe_io".to_owned() };
            assert_eq!(spawned.to_string().parse(), Ok(spawned));
        }
        assert_eq!("2 spin_wait".parse::<SpawnedWorkers>(), Err(NotSpawned));
    }
}
