//! The manifest of a run.

use jiff::Timestamp;
use ktstr_replay::trace::record::Manifest;
use ktstr_replay::trace::record::manifest::{KernelInfo, MachineInfo};

use super::request::RecordRequest;
use crate::machine::Start;

/// What the recorder knows, added to what the request says.
pub(super) fn complete(request: &RecordRequest, start: Option<&Start>) -> Manifest {
    let spec = &request.machine;
    let mut manifest = request.manifest.clone();
    env!("CARGO_PKG_VERSION").clone_into(&mut manifest.ktstr_version);
    manifest.started_at = Timestamp::now().to_string();
    manifest.test.checkpoint = request.captures.checkpoint.as_str().to_owned();
    manifest.test.num_snapshots = request.captures.periodic;
    manifest.test.duration_ms = u64::try_from(request.captures.window.as_millis()).unwrap_or(u64::MAX);
    manifest.kernel = KernelInfo {
        release: spec.kernel.release.clone(),
        asked: spec.kernel.asked.clone(),
        xxh3: spec.kernel.id.clone(),
        cmdline: spec.cmdline(),
    };
    manifest.machine = MachineInfo {
        kind: String::from("qemu"),
        why: String::from("the emulator is the only machine of this release"),
        version: format!("QEMU {} ({})", spec.emulator.version, spec.emulator.origin),
        topology: spec.topology.to_string(),
        cpus: spec.topology.cpus(),
        memory_mib: spec.memory_mib,
        host_cpus: std::thread::available_parallelism()
            .map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
    };
    manifest.taints.push(String::from(Manifest::EMULATED));
    if start.is_some_and(|start| !start.faults.is_empty()) {
        manifest.taints.push(String::from("start-retried"));
    }
    manifest
}
