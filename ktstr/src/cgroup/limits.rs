//! What a cgroup may use, as files of its controllers. Source: `Documentation/admin-guide/cgroup-v2.rst`.

use crate::cpu_set::CpuSet;
use crate::worker::RangeError;

/// Length of the period of `cpu.max`, in us: the kernel's default.
const QUOTA_PERIOD_US: u64 = 100_000;

/// What a cgroup may use; what is not given is the kernel's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    pub(super) cpuset_mems: Option<CpuSet>,
    pub(super) cpu_weight: Option<u32>,
    pub(super) cpu_quota_pct: Option<f64>,
    pub(super) memory_max: Option<u64>,
    pub(super) memory_high: Option<u64>,
    pub(super) io_weight: Option<u32>,
    pub(super) pids_max: Option<u64>,
}

/// A file of a cgroup and what is to be written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitFile {
    /// The controller that it belongs to.
    pub controller: &'static str,
    /// The file.
    pub file: &'static str,
    /// What is written.
    pub value: String,
    /// Name of the operation in the trace.
    pub op: &'static str,
}

impl Limits {
    /// The files, each with what is to be written to it.
    pub fn files(&self) -> Vec<LimitFile> {
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let weight = |value: Option<u32>| value.map(|value| value.to_string());
        let quota = |percent: f64| {
            let quota_us = (QUOTA_PERIOD_US as f64 * percent / 100.0).round() as u64;
            format!("{quota_us} {QUOTA_PERIOD_US}")
        };
        let files = [
            ("cpuset", "cpuset.mems", self.cpuset_mems.as_ref().map(CpuSet::to_string), "set_cpuset_mems"),
            ("cpu", "cpu.weight", weight(self.cpu_weight), "set_cpu_weight"),
            ("cpu", "cpu.max", self.cpu_quota_pct.map(quota), "set_cpu_max"),
            ("memory", "memory.max", number(self.memory_max), "set_memory_max"),
            ("memory", "memory.high", number(self.memory_high), "set_memory_high"),
            ("io", "io.weight", weight(self.io_weight), "set_io_weight"),
            ("pids", "pids.max", number(self.pids_max), "set_pids_max"),
        ];
        let given = files.into_iter().filter_map(|(controller, file, value, op)| {
            Some(LimitFile { controller, file, value: value?, op })
        });
        given.collect()
    }

    /// Whether all are in their ranges.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), RangeError> {
        let fault = |what, value: String, range| Err(RangeError { what, value, range });
        for (what, weight) in [("cpu_weight", self.cpu_weight), ("io_weight", self.io_weight)] {
            if let Some(weight) = weight.filter(|weight| !(1..=10_000).contains(weight)) {
                return fault(what, weight.to_string(), "from 1 to 10000");
            }
        }
        // The kernel takes no quota below 1 ms.
        if let Some(percent) = self.cpu_quota_pct.filter(|percent| !(1.0..=1_000_000.0).contains(percent)) {
            return fault("cpu_quota_pct", percent.to_string(), "from 1 to 1000000");
        }
        if self.cpuset_mems.as_ref().is_some_and(CpuSet::is_empty) {
            return fault("cpuset_mems", "empty".to_owned(), "at least one NUMA node");
        }
        if self.pids_max == Some(0) {
            return fault("pids_max", "0".to_owned(), "at least 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_written_and_nothing_else() {
        assert!(Limits::default().files().is_empty());
        let limits = Limits { cpu_quota_pct: Some(150.0), pids_max: Some(7), ..Limits::default() };
        let written: Vec<_> = limits.files().into_iter().map(|file| (file.file, file.value)).collect();
        assert_eq!(written, [("cpu.max", "150000 100000".to_owned()), ("pids.max", "7".to_owned())]);
    }

    #[test]
    fn what_the_kernel_would_refuse_is_named() {
        for (limits, what) in [
            (Limits { cpu_weight: Some(0), ..Limits::default() }, "cpu_weight"),
            (Limits { io_weight: Some(10_001), ..Limits::default() }, "io_weight"),
            (Limits { cpu_quota_pct: Some(0.5), ..Limits::default() }, "cpu_quota_pct"),
            (Limits { cpu_quota_pct: Some(f64::NAN), ..Limits::default() }, "cpu_quota_pct"),
            (Limits { cpuset_mems: Some(CpuSet::new()), ..Limits::default() }, "cpuset_mems"),
            (Limits { pids_max: Some(0), ..Limits::default() }, "pids_max"),
        ] {
            assert_eq!(limits.check().map_err(|fault| fault.what), Err(what));
        }
    }
}
