//! Events.

use serde_json::{Value, json};

use crate::run::Run;
use crate::trace::record::{Event, EventBody};

/// One event as one object.
pub(super) fn to_json(run: &Run<'_>, event: &Event) -> Value {
    let mut object = json!({
        "record": "event",
        "since_start_ns": run.since_start_ns(event.guest_ns),
        "guest_ns": event.guest_ns,
        "host_ns": event.host_ns,
        "event": name(&event.body),
    });
    if let (Value::Object(object), Value::Object(details)) = (&mut object, details(&event.body)) {
        object.extend(details);
    }
    object
}

/// What kind of event it is.
pub(super) fn name(body: &EventBody) -> &'static str {
    match body {
        EventBody::Console(_) => "console",
        EventBody::Kmsg { .. } => "kmsg",
        EventBody::Output { .. } => "output",
        EventBody::Stage { .. } => "stage",
        EventBody::PhaseBegin { .. } => "phase_begin",
        EventBody::PhaseEnd { .. } => "phase_end",
        EventBody::Op { .. } => "op",
        EventBody::Worker(_) => "worker",
        EventBody::Body { .. } => "body",
        EventBody::End { .. } => "end",
    }
}

/// What it says, by name.
pub(super) fn details(body: &EventBody) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match body {
        EventBody::Console(bytes) => json!({ "text": text(bytes) }),
        EventBody::Kmsg { level, sequence, kernel_ns, text } => {
            json!({ "level": level, "sequence": sequence, "kernel_ns": kernel_ns, "text": text })
        }
        EventBody::Output { source, stderr, bytes } => {
            json!({ "source": format!("{source:?}"), "stderr": stderr, "text": text(bytes) })
        }
        EventBody::Stage { stage, detail } => json!({ "stage": format!("{stage:?}"), "text": detail }),
        EventBody::PhaseBegin { index, name } => json!({ "phase": index, "name": name }),
        EventBody::PhaseEnd { index } => json!({ "phase": index }),
        EventBody::Op { name, detail } => json!({ "name": name, "text": detail }),
        EventBody::Worker(w) => json!({
            "index": w.index,
            "pid": w.pid,
            "cgroup": w.cgroup,
            "work": w.work,
            "work_units": w.work_units,
            "iterations": w.iterations,
            "cpu_ns": w.cpu_ns,
            "wall_ns": w.wall_ns,
            "max_gap_ns": w.max_gap_ns,
            "max_gap_at_ns": w.max_gap_at_ns,
            "run_delay_ns": w.run_delay_ns,
            "migrations": w.migrations,
            "cpus_used": w.cpus_used,
            "fault": w.fault,
        }),
        EventBody::Body { error, failures } => json!({ "error": error, "failures": failures }),
        EventBody::End { end, detail } => json!({ "end": format!("{end:?}"), "text": detail }),
    }
}
