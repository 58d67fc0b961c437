//! The probes of a run: what they are of, and every call that was recorded. They are no memory: a trace without checkpoints has
//! them, too.

use serde_json::{Value as Json, json};

use super::Shown;
use crate::probe::json::{of_hit, of_return, of_value};
use crate::probe::{ProbeCall, ProbeSeen};
use crate::run::Run;
use crate::text::{Align, both_ends, clean, counted, escaped, layout, seconds, shorten};
use crate::watch::AskedEnd;

/// Calls of one probe that are shown of the beginning, and of the end.
const EACH_END: usize = 16;
/// The same in a report.
const EACH_END_OF_REPORT: usize = 3;
/// Longest place or source line in a cell, in characters.
const CELL_CHARS: usize = 80;
/// Longest list of values in a cell, in characters.
const VALUES_CHARS: usize = 120;

/// There is nothing to show.
#[derive(Debug, thiserror::Error)]
#[error(
    "nothing was probed: `probe = [\"f(p->pid)\"]` of #[ktstr_test] and `Op::probe(\"f(p->pid)\")` do so"
)]
pub struct NoProbes;

/// Show all probes.
///
/// # Errors
/// [`NoProbes`].
pub fn show_probes(run: &Run<'_>) -> Result<Shown, NoProbes> {
    let log = run.probes();
    if log.probes.is_empty() {
        return Err(NoProbes);
    }
    let lines = log.probes.iter().flat_map(|probe| lines(run, probe, EACH_END)).collect();
    let json = json!({ "probes": log.probes.iter().map(|probe| of_probe(run, probe)).collect::<Vec<_>>() });
    Ok(Shown { lines, json })
}

/// The lines of one probe for a report.
pub(crate) fn short(run: &Run<'_>, probe: &ProbeSeen) -> Vec<String> {
    lines(run, probe, EACH_END_OF_REPORT)
}

fn lines(run: &Run<'_>, probe: &ProbeSeen, each_end: usize) -> Vec<String> {
    let end = probe.end();
    let what = end.in_words().unwrap_or_else(|| match (end, probe.calls.len()) {
        (AskedEnd::Seen, count) if count as u64 >= u64::from(probe.max_hits) => {
            format!("{}, the most that it may", counted(count, "call"))
        }
        (AskedEnd::Seen, count) => counted(count, "call"),
        _ => "was not called".to_owned(),
    });
    let mut out = vec![clean(&format!("{}: {what}", probe.target))];
    out.extend(probe.dropped().map(|dropped| format!("  {dropped}")));
    out.extend(table(run, probe, each_end).iter().map(|line| format!("  {line}")));
    out
}

fn table(run: &Run<'_>, probe: &ProbeSeen, each_end: usize) -> Vec<String> {
    use Align::{Left, Right};
    if probe.calls.is_empty() {
        return Vec::new();
    }
    let head = ["time", "CPU", "task", "with", "returned", "from", "line"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let row = |call: &ProbeCall| {
        let hit = &call.hit;
        let task = hit.pid.map_or_else(|| "-".to_owned(), |pid| format!("{pid} {}", escaped(&hit.comm)));
        let short = |text: &str| shorten(&clean(text), CELL_CHARS);
        vec![
            seconds(run.since_start_ns(call.at)),
            hit.cpu.to_string(),
            short(&task),
            shorten(&clean(&values(call)), VALUES_CHARS),
            short(&returned(call)),
            short(&hit.caller),
            short(hit.source.as_deref().unwrap_or("-")),
        ]
    };
    rows.extend(both_ends(&probe.calls, each_end, row, |left_out| format!("{left_out} more")));
    layout(&[Right, Right, Left, Left, Left, Left, Left], &rows)
}

/// `p->pid=105 p->comm="worker"`.
pub(crate) fn values(call: &ProbeCall) -> String {
    let all: Vec<String> = call.values().map(|(name, value)| format!("{name}={value}")).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(" ") }
}

/// `1 after 0.021 ms`; `-` where the return was not asked for, or not seen.
pub(crate) fn returned(call: &ProbeCall) -> String {
    let (Some((_, back)), Some(took)) = (&call.returned, call.took_ns()) else { return "-".to_owned() };
    let value = back.value.as_ref().map(|value| format!("{value} ")).unwrap_or_default();
    format!("{value}after {:.3} ms", took as f64 / 1e6)
}

fn of_probe(run: &Run<'_>, probe: &ProbeSeen) -> Json {
    let call = |call: &ProbeCall| {
        let mut json = of_hit(&call.hit);
        let values = call.values().map(|(name, value)| (name.to_owned(), of_value(value)));
        json["values"] = values.collect::<serde_json::Map<String, Json>>().into();
        json["guest_ns"] = json!(call.at);
        json["since_start_ns"] = run.since_start_ns(call.at).into();
        json["returned"] = call.returned.as_ref().map_or(Json::Null, |(at, back)| {
            let mut json = of_return(back);
            json["guest_ns"] = json!(at);
            json
        });
        json
    };
    json!({
        "probe": probe.number,
        "target": probe.target,
        "max_hits": probe.max_hits,
        "by_body": probe.by_body,
        "armed": probe.armed.iter().map(|(_, place)| place).collect::<Vec<_>>(),
        "not_armed_because": probe.end().why(),
        "calls": probe.calls.iter().map(call).collect::<Vec<_>>(),
        "totals": probe.totals,
    })
}
