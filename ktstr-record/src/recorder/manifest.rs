//! The manifest of a run.

use jiff::Timestamp;
use ktstr_replay::trace::record::Manifest;
use ktstr_replay::trace::record::manifest::KernelInfo;

use super::request::RecordRequest;
use crate::machine::{self, Start};

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
    machine::describe(spec, &mut manifest);
    if start.is_some_and(|start| !start.faults.is_empty()) {
        manifest.taints.push(String::from("start-retried"));
    }
    manifest
}
