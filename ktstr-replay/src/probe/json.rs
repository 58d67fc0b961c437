//! A call and a return as JSON, the same in views and exports.

use serde_json::{Value as Json, json};

use crate::trace::record::{ProbeHit, ProbeReturn, ProbeValue};
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
