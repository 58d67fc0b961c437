//! What happened to a watch, as JSON.

use serde_json::{Value as Json, json};

use crate::trace::record::{WatchEvent, WatchFire, WatchNews, WatchTotals};
use crate::value::Scalar;

/// What happened, by name.
pub(super) fn json(event: &WatchEvent) -> Json {
    let mut json = match &event.what {
        WatchNews::Asked { when, max_fires, min_interval_ns, by_body } => json!({
            "news": "asked",
            "when": when,
            "max_fires": max_fires,
            "min_interval_ns": min_interval_ns,
            "by_body": by_body,
        }),
        WatchNews::Waiting { why } => json!({ "news": "waiting", "why": why }),
        WatchNews::Armed { at, bytes, value } => {
            json!({ "news": "armed", "at": format!("{at:#x}"), "bytes": bytes, "value": Scalar::Int(*value).to_json() })
        }
        WatchNews::Disarmed { why } => json!({ "news": "disarmed", "why": why }),
        WatchNews::Refused { why } => json!({ "news": "refused", "why": why }),
        WatchNews::Fired(fire) => of_fire(fire),
        WatchNews::Totals(totals) => of_totals(totals),
    };
    json["watch"] = event.watch.into();
    json["target"] = event.target.clone().into();
    json
}

fn of_fire(fire: &WatchFire) -> Json {
    json!({
        "news": "fired",
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

fn of_totals(totals: &WatchTotals) -> Json {
    json!({
        "news": "totals",
        "stores": totals.stores,
        "fires": totals.fires,
        "excluded": totals.excluded,
        "too_soon": totals.too_soon,
        "backed_off": totals.backed_off,
        "blind_ns": totals.blind_ns,
        "unseen": totals.unseen,
        "longest_stop_us": totals.longest_stop_us,
    })
}
