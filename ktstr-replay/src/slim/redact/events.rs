//! Events: what happened and when stays; what programs and people said of it goes.

use std::mem::take;
use std::sync::LazyLock;

use regex_lite::Regex;
use serde_json::Value;

use super::{REDACTED, Redactor, hide, hide_all};
use crate::judge::splat_without_text;
use crate::run::sub_scheduler_without_text;
use crate::trace::record::{
    EventBody, MetricCheck, PayloadRun, ProbeEvent, ProbeHit, ProbeNews, ProbeReturn, ProbeValue, Stage,
    StatsAnswer, WatchEvent, WatchFire, WatchNews, WorkerReport,
};

/// Operations whose detail has nothing but names of the test, numbers and lists of CPUs.
const PLAIN_OPS: [&str; 22] = [
    "add_cgroup",
    "remove_cgroup",
    "spawn",
    "start",
    "stop",
    "set_cpuset",
    "clear_cpuset",
    "set_cpu_weight",
    "set_nice",
    "set_policy",
    "set_affinity",
    "move_tasks",
    "capture_snapshot",
    "irq_affinity",
    "offline",
    "online",
    "run_payload",
    "wait_payload",
    "kill_payload",
    "kill_leftovers",
    "freeze",
    "unfreeze",
];

/// What a trace that is to have no kernel log keeps of a line of it, so that the run is judged as before: that the kernel reported a
/// fault, and the life of a sub-scheduler.
pub(in crate::slim) fn log_without_text(text: &str) -> Option<String> {
    sub_scheduler_without_text(text).or_else(|| splat_without_text(text))
}

impl Redactor {
    /// An event; `None`: it is removed.
    pub(in crate::slim) fn event(&self, body: EventBody) -> Option<EventBody> {
        Some(match body {
            EventBody::Console(_) | EventBody::Output { .. } => return None,
            EventBody::Kmsg { level, sequence, kernel_ns, text } => {
                let text = log_without_text(&text)?;
                EventBody::Kmsg { level, sequence, kernel_ns, text }
            }
            EventBody::Stage { stage, detail } => {
                EventBody::Stage { stage, detail: self.stage_detail(stage, detail) }
            }
            EventBody::PhaseBegin { index, name } => EventBody::PhaseBegin { index, name },
            EventBody::PhaseEnd { index } => EventBody::PhaseEnd { index },
            EventBody::Op { name, detail } => {
                let detail = op_detail(&name, detail);
                EventBody::Op { name, detail }
            }
            EventBody::Worker(report) => EventBody::Worker(worker(report)),
            EventBody::Body { error, failures } => {
                EventBody::Body { error: error.map(hide), failures: hide_all(failures) }
            }
            EventBody::End { end, detail } => EventBody::End { end, detail: hide(detail) },
            // Numbers, and a policy's name.
            EventBody::WorkerDetail(detail) => EventBody::WorkerDetail(detail),
            EventBody::Stats(answer) => EventBody::Stats(Box::new(stats(*answer))),
            EventBody::Payload(run) => EventBody::Payload(Box::new(payload(*run))),
            EventBody::Watch(event) => {
                let WatchEvent { watch, target, what } = *event;
                EventBody::Watch(Box::new(WatchEvent { watch, target, what: watch_news(what) }))
            }
            // Numbers, and a task's name.
            EventBody::LongWait(wait) => EventBody::LongWait(wait),
            EventBody::History(mut history) => {
                // Names of tasks stay, as those of samples do; those of sched_ext's events are the kernel's own.
                for name in &mut history.names {
                    if !matches(r"^SCX_EV_[A-Z0-9_]+$", name) {
                        *name = hide(take(name));
                    }
                }
                EventBody::History(history)
            }
            EventBody::Probe(event) => {
                let ProbeEvent { probe, target, what } = *event;
                EventBody::Probe(Box::new(ProbeEvent { probe, target, what: probe_news(what) }))
            }
            // Names that the authors of schedulers and tests gave, and numbers.
            EventBody::SchedulerMaps(maps) => EventBody::SchedulerMaps(maps),
        })
    }

    /// What is said of a stage, where it is a status, a time, or a name that is known.
    fn stage_detail(&self, stage: Stage, detail: String) -> String {
        let known = match stage {
            Stage::SchedulerEnabled | Stage::Ready => self.names.contains(detail.as_bytes()),
            Stage::SchedulerExited | Stage::TestExited => {
                let status =
                    r"^(exited with status|exit code) -?\d+$|^(killed by )?signal \d+( \([A-Z0-9]+\))?$";
                matches(status, &detail)
            }
            Stage::Booting | Stage::Restored => {
                let took = r"^\d+\.\d+ s(, saved as a template|, with the scheduler enabled; what is above is of the template)?$|^\d+ attempts$";
                matches(took, &detail)
            }
            _ => false,
        };
        if known { detail } else { hide(detail) }
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
}

fn op_detail(name: &str, detail: String) -> String {
    match name {
        // The judgement asks for this.
        EventBody::MENDED if detail.contains(EventBody::UNKNOWN_BREAKPOINT) => {
            format!("{REDACTED}: {}", EventBody::UNKNOWN_BREAKPOINT)
        }
        _ if PLAIN_OPS.contains(&name) => detail,
        _ => hide(detail),
    }
}

/// A worker's numbers. Each field is named, here and below, so that a new one does not compile until somebody decides what becomes
/// of it.
fn worker(mut report: WorkerReport) -> WorkerReport {
    let WorkerReport {
        index: _,
        pid: _,
        cgroup: _,
        work: _,
        work_units: _,
        iterations: _,
        cpu_ns: _,
        wall_ns: _,
        max_gap_ns: _,
        max_gap_at_ns: _,
        run_delay_ns: _,
        migrations: _,
        cpus_used: _,
        fault,
    } = &mut report;
    *fault = fault.take().map(hide);
    report
}

/// An answer with its numbers. Names of its members are kept; an answer that is no JSON is a text.
fn stats(answer: StatsAnswer) -> StatsAnswer {
    let StatsAnswer { sample, target, asked_ns, line, fault } = answer;
    let line = match serde_json::from_slice::<Value>(&line) {
        Ok(value) => without_texts(value).to_string().into_bytes(),
        Err(_) if line.is_empty() => line,
        Err(_) => Value::from(REDACTED).to_string().into_bytes(),
    };
    StatsAnswer { sample, target, asked_ns, line, fault: fault.map(hide) }
}

fn without_texts(value: Value) -> Value {
    match value {
        Value::String(text) => hide(text).into(),
        Value::Array(values) => values.into_iter().map(without_texts).collect(),
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (name, without_texts(value)));
            Value::Object(members.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// What happened to a watch: its target and condition are the test's, as claims are; names of code are kept, lines of its source
/// are not.
fn watch_news(news: WatchNews) -> WatchNews {
    match news {
        WatchNews::Asked { when, max_fires, min_interval_ns, by_body } => {
            WatchNews::Asked { when, max_fires, min_interval_ns, by_body }
        }
        WatchNews::Waiting { why } => WatchNews::Waiting { why: hide(why) },
        WatchNews::Armed { at, bytes, value } => WatchNews::Armed { at, bytes, value },
        WatchNews::Disarmed { why } => WatchNews::Disarmed { why: hide(why) },
        WatchNews::Refused { why } => WatchNews::Refused { why: hide(why) },
        WatchNews::Fired(fire) => WatchNews::Fired(Box::new(watch_fire(*fire))),
        WatchNews::Totals(totals) => WatchNews::Totals(totals),
    }
}

fn watch_fire(mut fire: WatchFire) -> WatchFire {
    let WatchFire {
        number: _,
        cpu: _,
        rip: _,
        place,
        source,
        pid: _,
        comm: _,
        stack,
        old: _,
        new: _,
        sample: _,
        phase: _,
    } = &mut fire;
    for text in [place].into_iter().chain(stack) {
        *text = code_name(take(text));
    }
    *source = source.take().map(hide);
    fire
}

/// What happened to a probe, likewise. Text that was read is not kept: nothing says whose it is.
fn probe_news(news: ProbeNews) -> ProbeNews {
    match news {
        ProbeNews::Asked { max_hits, by_body } => ProbeNews::Asked { max_hits, by_body },
        ProbeNews::Waiting { why } => ProbeNews::Waiting { why: hide(why) },
        ProbeNews::Armed { at, place, names } => ProbeNews::Armed { at, place: code_name(place), names },
        ProbeNews::Disarmed { why } => ProbeNews::Disarmed { why: hide(why) },
        ProbeNews::Refused { why } => ProbeNews::Refused { why: hide(why) },
        ProbeNews::Hit(hit) => {
            let ProbeHit { number, cpu, pid, comm, values, caller, source } = *hit;
            let values = values.into_iter().map(probe_value).collect();
            let (caller, source) = (code_name(caller), source.map(hide));
            ProbeNews::Hit(Box::new(ProbeHit { number, cpu, pid, comm, values, caller, source }))
        }
        ProbeNews::Returned(back) => {
            let ProbeReturn { number, cpu, value } = *back;
            let value = value.map(probe_value);
            ProbeNews::Returned(Box::new(ProbeReturn { number, cpu, value }))
        }
        ProbeNews::Totals(totals) => ProbeNews::Totals(totals),
    }
}

fn probe_value(value: ProbeValue) -> ProbeValue {
    match value {
        ProbeValue::Int(_) | ProbeValue::Pointer(_) => value,
        ProbeValue::Text(text) => ProbeValue::Text(hide(text)),
        ProbeValue::Unread { why } => ProbeValue::Unread { why: hide(why) },
    }
}

/// The name of a place in code, as `schedule+0x2d/0xb0`, with a `? ` before a guess.
fn code_name(text: String) -> String {
    // A trace has many stacks.
    static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"^(\? )?[A-Za-z0-9_.$]+(\+0x[0-9a-f]+(/0x[0-9a-f]+)?)?( \[[A-Za-z0-9_]+\])?$").ok()
    });
    if NAME.as_ref().is_some_and(|name| name.is_match(&text)) { text } else { hide(text) }
}

/// A payload's numbers. Metrics that its definition does not name are named by its output.
fn payload(mut run: PayloadRun) -> PayloadRun {
    let PayloadRun {
        name: _,
        program,
        package,
        args,
        cgroup: _,
        pid: _,
        began_ns: _,
        wall_ns: _,
        cpu_ns: _,
        timeout_ns: _,
        end: _,
        exit_code: _,
        signal: _,
        fault,
        output: _,
        stdout_bytes: _,
        stderr_bytes: _,
        stdout_tail,
        stderr_tail,
        metrics,
        metrics_left_out,
        metrics_fault,
        declared,
        checks,
    } = &mut run;
    let before = metrics.len();
    metrics.retain(|metric| {
        let of_check = |check: &MetricCheck| match check {
            MetricCheck::Min { path, .. }
            | MetricCheck::Max { path, .. }
            | MetricCheck::Range { path, .. }
            | MetricCheck::Exists { path } => *path == metric.path,
            MetricCheck::ExitCode { .. } => false,
        };
        declared.iter().any(|one| one.path == metric.path) || checks.iter().any(of_check)
    });
    *metrics_left_out = metrics_left_out.saturating_add((before - metrics.len()) as u64);
    for text in [program, package, stdout_tail, stderr_tail] {
        *text = hide(take(text));
    }
    for text in [fault, metrics_fault] {
        *text = text.take().map(hide);
    }
    if !args.is_empty() {
        *args = vec![REDACTED.to_owned()];
    }
    run
}
