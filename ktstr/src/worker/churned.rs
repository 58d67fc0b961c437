//! The cgroups that workers of `CgroupChurn` make: where they are, and removing those that a killed worker left.

use std::ffi::{CStr, CString};
use std::fs;
use std::path::{Path, PathBuf};

use super::group::WorkerGroup;
use super::process::Process;
use super::work::{CHURN_PREFIX, cgroup2_mount};

/// Cgroups that workers may have made. Dropping it removes those that are left.
#[derive(Debug)]
pub struct Churned {
    /// Where the cgroup hierarchy is mounted; `None` where nobody moves between cgroups, or there is none.
    mount: Option<CString>,
    /// What workers may have left.
    made: Vec<PathBuf>,
}

impl Churned {
    /// Of these groups.
    pub fn new(groups: &[WorkerGroup]) -> Self {
        let is_wanted = groups.iter().any(|group| group.work.changes_cgroup());
        Self { mount: is_wanted.then(cgroup2_mount).flatten(), made: Vec::new() }
    }

    /// Where the cgroup hierarchy is mounted.
    pub fn mount(&self) -> Option<&CStr> {
        self.mount.as_deref()
    }

    /// Note where each process is, and so makes cgroups.
    pub fn note(&mut self, processes: &[Process]) {
        let Some(mount) = self.mount.as_ref().and_then(|mount| mount.to_str().ok()) else {
            return;
        };
        for pid in processes.iter().map(Process::pid) {
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::/")) else {
                continue;
            };
            let home = Path::new(mount).join(path);
            self.made.extend((0..2).map(|number| home.join(format!("{CHURN_PREFIX}{pid}_{number}"))));
        }
    }
}

impl Drop for Churned {
    fn drop(&mut self) {
        for path in &self.made {
            // Mostly the worker has removed it itself.
            let _ = fs::remove_dir(path);
        }
    }
}
