//! Events and captures, one a line: as JSON, and as CSV as RFC 4180 has it.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use crate::history::HistoryLog;
use crate::run::Run;
use crate::trace::record::{Event, EventBody, Latencies, Sample};
use crate::value::leaves;

/// Write the events and captures of a run as JSON lines: one object a line, each with `record` saying what it is
/// (`event` or `capture`), in the order of the guest's time. Times are in ns; `since_start_ns` counts from the begin of
/// the test's body.
///
/// # Errors
/// Those of `out`.
pub fn json_lines(run: &Run<'_>, out: &mut dyn Write) -> io::Result<()> {
    let events = run.events.iter().map(|event| (event.guest_ns, event_json(run, event)));
    let captures = run.samples.iter().map(|sample| (sample.guest_ns, capture_json(run, sample)));
    let mut all: Vec<_> = events.chain(captures).collect();
    // Stable: what came first at the same time stays first.
    all.sort_by_key(|(at, _)| *at);
    for (_, line) in all {
        writeln!(out, "{line}")?;
    }
    let losses = run.losses.iter().map(|loss| {
        json!({
            "record": "loss",
            "host_ns": loss.host_ns,
            "kind": format!("{:?}", loss.kind),
            "count": loss.count,
            "detail": loss.detail,
        })
    });
    for line in losses {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Write the captures, one a row: its tag, kind, times in ns, phase, why it was missed if it was, pause in us, and then a
/// column for each global variable of the scheduler. A cell without a value is empty.
///
/// # Errors
/// Those of `out`.
pub fn series_csv(run: &Run<'_>, out: &mut dyn Write) -> csv::Result<()> {
    let rows: Vec<(_, HashMap<String, String>)> = run
        .samples
        .iter()
        .map(|sample| {
            let snapshot = run.samples.snapshot(sample);
            let values = leaves(snapshot.vars());
            (sample, values.into_iter().map(|(name, value)| (name, value.render())).collect())
        })
        .collect();
    let variables: BTreeSet<&String> = rows.iter().flat_map(|(_, values)| values.keys()).collect();
    let mut csv = csv::Writer::from_writer(out);
    let fixed = ["tag", "kind", "since_start_ns", "guest_ns", "phase", "missed", "pause_us"];
    csv.write_record(fixed.into_iter().chain(variables.iter().map(|name| name.as_str())))?;
    for (sample, values) in &rows {
        let phase = sample.phase.as_ref().map_or_else(String::new, |(index, _)| index.to_string());
        let fixed = [
            sample.tag.clone(),
            format!("{:?}", sample.kind),
            run.since_start_ns(sample.guest_ns).to_string(),
            sample.guest_ns.0.to_string(),
            phase,
            sample.missed.clone().unwrap_or_default(),
            sample.pause_us.to_string(),
        ];
        let values = variables.iter().map(|&name| values.get(name).cloned().unwrap_or_default());
        csv.write_record(fixed.into_iter().chain(values))?;
    }
    csv.flush()?;
    Ok(())
}

/// Write the events, one a row: times in ns, what kind of event, and what it says as a JSON object.
///
/// # Errors
/// Those of `out`.
pub fn events_csv(run: &Run<'_>, out: &mut dyn Write) -> csv::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["since_start_ns", "guest_ns", "host_ns", "event", "details"])?;
    for event in &run.events {
        csv.write_record([
            run.since_start_ns(event.guest_ns).to_string(),
            event.guest_ns.0.to_string(),
            event.host_ns.0.to_string(),
            name(&event.body).to_owned(),
            details(event).to_string(),
        ])?;
    }
    csv.flush()?;
    Ok(())
}

/// One capture as one object; `variables` by name, as [`crate::value::Value::to_json`] has them.
fn capture_json(run: &Run<'_>, sample: &Sample) -> Json {
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

/// One event as one object.
fn event_json(run: &Run<'_>, event: &Event) -> Json {
    let mut object = json!({
        "record": "event",
        "since_start_ns": run.since_start_ns(event.guest_ns),
        "guest_ns": event.guest_ns,
        "host_ns": event.host_ns,
        "event": name(&event.body),
    });
    if let (Json::Object(object), Json::Object(details)) = (&mut object, details(event)) {
        object.extend(details);
    }
    object
}

/// What kind of event it is.
fn name(body: &EventBody) -> &'static str {
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
        EventBody::WorkerDetail(_) => "worker_detail",
        EventBody::Payload(_) => "payload",
        EventBody::Stats(_) => "stats",
        EventBody::Watch(_) => "watch",
        EventBody::LongWait(_) => "long_wait",
        EventBody::History(_) => "history",
        EventBody::Probe(_) => "probe",
        EventBody::SchedulerMaps(_) => "scheduler_maps",
    }
}

fn latencies(latencies: &Latencies) -> Json {
    json!({
        "total": latencies.total,
        "sum_ns": latencies.sum_ns,
        "max_ns": latencies.max_ns,
        "samples_ns": latencies.samples_ns,
    })
}

/// What it says, by name.
fn details(event: &Event) -> Json {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match &event.body {
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
        EventBody::WorkerDetail(w) => json!({
            "pid": w.pid,
            "policy": w.policy,
            "is_thread": w.is_thread,
            "max_off_cpu_ns": w.max_off_cpu_ns,
            "minor_faults": w.minor_faults,
            "major_faults": w.major_faults,
            "voluntary_switches": w.voluntary_switches,
            "involuntary_switches": w.involuntary_switches,
            "wakes": latencies(&w.wakes),
            "timers": latencies(&w.timers),
            "node_pages": w.node_pages.iter().map(|on| json!({ "node": on.node, "pages": on.pages })).collect::<Vec<_>>(),
            "cross_node_migrations": w.cross_node_migrations,
        }),
        EventBody::Payload(run) => super::payload::json(run),
        EventBody::Stats(answer) => json!({
            "sample": answer.sample,
            "target": answer.target,
            "asked_ns": answer.asked_ns,
            "line": text(&answer.line),
            "fault": answer.fault,
        }),
        EventBody::Watch(news) => super::watch::json(news),
        EventBody::LongWait(wait) => json!({
            "limit": format!("{:?}", wait.limit),
            "limit_ns": wait.limit_ns,
            "waited_ns": wait.waited_ns,
            "pid": wait.pid,
            "comm": wait.comm,
            "cpu": wait.cpu,
            "sample": wait.sample,
        }),
        EventBody::History(history) => {
            let log = HistoryLog::of(std::slice::from_ref(event));
            json!({
                "cpu": history.cpu,
                "overwritten": history.overwritten,
                "left_out": history.left_out,
                "steps": log.steps.iter().map(|step| log.json(step)).collect::<Vec<_>>(),
            })
        }
        EventBody::Probe(news) => super::probe::json(news),
        EventBody::SchedulerMaps(maps) => json!({
            "scheduler": maps.scheduler,
            "level": maps.level,
            "cgroup": maps.cgroup,
            "maps": maps.maps,
        }),
    }
}
