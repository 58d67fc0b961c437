//! A store as JSON, the same in views and exports.

use serde_json::{Value as Json, json};

use crate::trace::record::WatchFire;
use crate::value::Scalar;

/// A store.
pub(crate) fn of_fire(fire: &WatchFire) -> Json {
    json!({
        "number": fire.number,
        "cpu": fire.cpu,
        "rip": format!("{:#x}", fire.rip),
        "place": fire.place,
        "source": fire.source,
        "pid": fire.pid,
        "comm": fire.comm,
        "stack": fire.stack,
        "old": Scalar::Int(fire.old).to_json(),
        "new": Scalar::Int(fire.new).to_json(),
        "sample": fire.sample,
        "phase": fire.phase,
    })
}
