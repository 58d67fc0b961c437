//! Whose BPF maps are, where a guest has more than one scheduler.

use rkyv::{Archive, Deserialize, Serialize};

/// The cgroup of the root scheduler, which is its name in paths.
pub(crate) const ROOT_CGROUP: &str = "/";

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

    /// Whether paths may call it that. The root has its cgroup also on a kernel that does not say so, as none but it is there.
    #[must_use]
    pub fn goes_by(&self, name: &str) -> bool {
        let is_root = self.level == 0 && self.cgroup.is_empty() && name == ROOT_CGROUP;
        is_root || self.path_name() == name || self.scheduler == name || self.in_words() == name
    }
}

/// The current maps of a scheduler.
pub type SchedulerMaps = SchedulerMapsV1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_goes_by_its_cgroup_also_where_the_kernel_names_none() {
        let root = SchedulerMaps { scheduler: "qmap".to_owned(), ..SchedulerMaps::default() };
        assert!(root.goes_by("/") && root.goes_by("qmap") && !root.goes_by("/below"));
        let below = SchedulerMaps { level: 1, cgroup: "/below".to_owned(), ..root };
        assert!(below.goes_by("/below") && below.goes_by("qmap on /below") && !below.goes_by("/"));
    }
}
