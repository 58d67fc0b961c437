//! A call, a return and the totals of a probe as JSON, the same in views and exports.

use serde_json::{Value as Json, json};

use crate::trace::record::{ProbeHit, ProbeReturn, ProbeTotals, ProbeValue};
use crate::value::Scalar;

/// Something that was read. Numbers are numbers, addresses are text in hexadecimal; what could not be read says why.
pub(crate) fn of_value(value: &ProbeValue) -> Json {
    match value {
        ProbeValue::Int(number) => Scalar::Int(*number).to_json(),
        ProbeValue::Pointer(at) => format!("{at:#x}").into(),
        ProbeValue::Text(text) => text.clone().into(),
        ProbeValue::Unread { why } => json!({ "unread": why }),
    }
}

/// A call.
pub(crate) fn of_hit(hit: &ProbeHit) -> Json {
    json!({
        "number": hit.number,
        "cpu": hit.cpu,
        "pid": hit.pid,
        "comm": hit.comm,
        "values": hit.values.iter().map(of_value).collect::<Vec<_>>(),
        "caller": hit.caller,
        "source": hit.source,
    })
}

/// A return.
pub(crate) fn of_return(back: &ProbeReturn) -> Json {
    json!({ "number": back.number, "cpu": back.cpu, "value": back.value.as_ref().map(of_value) })
}

/// What there was in all.
pub(crate) fn of_totals(totals: &ProbeTotals) -> Json {
    json!({
        "calls": totals.calls,
        "hits": totals.hits,
        "returns": totals.returns,
        "returns_lost": totals.returns_lost,
        "backed_off": totals.backed_off,
        "blind_ns": totals.blind_ns,
        "longest_stop_us": totals.longest_stop_us,
        "stopped_us": totals.stopped_us,
    })
}
