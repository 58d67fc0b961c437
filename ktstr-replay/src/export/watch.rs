//! What happened to a watch, as JSON.

use serde_json::{Value as Json, json};

use crate::trace::record::{WatchEvent, WatchNews};
use crate::value::Scalar;
use crate::watch::json::of_fire;

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
        WatchNews::Fired(fire) => named("fired", of_fire(fire)),
        WatchNews::Totals(totals) => named("totals", json!(totals)),
    };
    json["watch"] = event.watch.into();
    json["target"] = event.target.clone().into();
    json
}

/// News with its name.
pub(super) fn named(news: &str, mut json: Json) -> Json {
    json["news"] = news.into();
    json
}
