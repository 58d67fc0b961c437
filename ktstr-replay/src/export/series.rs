//! Captures with the scheduler's variables.

use serde_json::{Map, Value as Json, json};

use crate::run::Run;
use crate::trace::record::Sample;
use crate::value::leaves;

/// One capture as one object; `variables` by name, as [`crate::value::Value::to_json`] has them.
pub(super) fn to_json(run: &Run<'_>, sample: &Sample) -> Json {
    let snapshot = run.samples.snapshot(sample);
    let variables: Map<String, Json> =
        leaves(snapshot.vars()).into_iter().map(|(name, value)| (name, value.to_json())).collect();
    json!({
        "record": "capture",
        "since_start_ns": run.since_start_ns(sample.guest_ns),
        "guest_ns": sample.guest_ns,
        "host_ns": sample.host_ns,
        "sample": sample.index,
        "tag": sample.tag,
        "kind": format!("{:?}", sample.kind),
        "phase": sample.phase.as_ref().map(|(index, _)| index),
        "missed": sample.missed,
        "pause_us": sample.pause_us,
        "machine_us": sample.machine_us,
        "variables": variables,
    })
}
