//! What happened to a probe, as JSON.

use serde_json::{Value as Json, json};

use super::watch::named;
use crate::probe::json::{of_hit, of_return};
use crate::trace::record::{ProbeEvent, ProbeNews};

/// What happened, by name.
pub(super) fn json(event: &ProbeEvent) -> Json {
    let mut json = match &event.what {
        ProbeNews::Asked { max_hits, by_body } => {
            json!({ "news": "asked", "max_hits": max_hits, "by_body": by_body })
        }
        ProbeNews::Waiting { why } => json!({ "news": "waiting", "why": why }),
        ProbeNews::Armed { at, place, names } => {
            json!({ "news": "armed", "at": format!("{at:#x}"), "place": place, "names": names })
        }
        ProbeNews::Disarmed { why } => json!({ "news": "disarmed", "why": why }),
        ProbeNews::Refused { why } => json!({ "news": "refused", "why": why }),
        ProbeNews::Hit(hit) => named("hit", of_hit(hit)),
        ProbeNews::Returned(back) => named("returned", of_return(back)),
        ProbeNews::Totals(totals) => named("totals", json!(totals)),
    };
    json["probe"] = event.probe.into();
    json["target"] = event.target.clone().into();
    json
}
