//! Whose BPF maps are, where a guest has more than one scheduler.

use rkyv::{Archive, Deserialize, Serialize};

/// The maps of a scheduler: those of its object, and those that its programs use. Ids of maps are never given twice, so that this holds
/// in every capture of the run.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulerMapsV1 {
    /// Its `ops.name`.
    pub scheduler: String,
    /// How deep below the root it is; 0 for the root.
    pub level: u32,
    /// Path of the cgroup that it schedules; empty where the kernel does not say.
    pub cgroup: String,
    /// Kernel ids of the maps, ascending.
    pub maps: Vec<u32>,
}

impl SchedulerMapsV1 {
    /// What it is called: `qmap`, or `qmap on /below` of one below the root.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self.level > 0 && !self.cgroup.is_empty() {
            true => format!("{} on {}", self.scheduler, self.cgroup),
            false => self.scheduler.clone(),
        }
    }

    /// What paths call it, in `scheduler(..)`: its cgroup, or its name where that is not known.
    #[must_use]
    pub fn path_name(&self) -> &str {
        if self.cgroup.is_empty() { &self.scheduler } else { &self.cgroup }
    }

    /// Whether paths may call it that.
    #[must_use]
    pub fn goes_by(&self, name: &str) -> bool {
        self.path_name() == name || self.scheduler == name || self.in_words() == name
    }
}

/// The current maps of a scheduler.
pub type SchedulerMaps = SchedulerMapsV1;
