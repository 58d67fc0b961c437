//! The watches of a run: what they are of, and every store that they saw. They are no memory: a trace without checkpoints has
//! them, too.

use serde_json::{Value as Json, json};

use super::Shown;
use crate::run::Run;
use crate::text::{Align, both_ends, clean, counted, escaped, layout, seconds, shorten};
use crate::trace::record::WatchFire;
use crate::units::GuestNs;
use crate::watch::json::of_fire;
use crate::watch::{AskedEnd, WatchSeen};

/// Fires of one watch that are shown of the beginning, and of the end.
const EACH_END: usize = 16;
/// Longest place or source line in a cell, in characters.
const CELL_CHARS: usize = 80;

/// There is nothing to show.
#[derive(Debug, thiserror::Error)]
#[error(
    "nothing was watched: `watch = [\"bss.x\"]` of #[ktstr_test] and `Op::watch_snapshot(\"bss.x\")` do so"
)]
pub struct NoWatches;

/// Show all watches.
///
/// # Errors
/// [`NoWatches`].
pub fn show_watches(run: &Run<'_>) -> Result<Shown, NoWatches> {
    let log = run.watches();
    if log.watches.is_empty() {
        return Err(NoWatches);
    }
    let lines = log.watches.iter().flat_map(|watch| lines(run, watch)).collect();
    let json = json!({ "watches": log.watches.iter().map(|watch| of_watch(run, watch)).collect::<Vec<_>>() });
    Ok(Shown { lines, json })
}

/// The lines of one watch, for the report as well.
pub(crate) fn lines(run: &Run<'_>, watch: &WatchSeen) -> Vec<String> {
    let when = watch.when.as_ref().map(|when| format!(" when {when}")).unwrap_or_default();
    let end = watch.end();
    let what = end.in_words().unwrap_or_else(|| match (end, watch.fires.len()) {
        (AskedEnd::Seen, count) if count as u64 >= u64::from(watch.max_fires) => {
            format!("fired {}, the most that it may", counted(count, "time"))
        }
        (AskedEnd::Seen, count) => format!("fired {}", counted(count, "time")),
        _ => "did not fire".to_owned(),
    });
    let mut out = vec![clean(&format!("{}{when}: {what}", watch.target))];
    out.extend(watch.dropped().map(|dropped| format!("  {dropped}")));
    out.extend(table(run, watch).iter().map(|line| format!("  {line}")));
    if let Some((_, last)) = watch.fires.last().filter(|(_, fire)| !fire.stack.is_empty()) {
        out.push("  how the last got there:".to_owned());
        out.extend(last.stack.iter().map(|frame| clean(&format!("    {frame}"))));
    }
    out
}

fn table(run: &Run<'_>, watch: &WatchSeen) -> Vec<String> {
    use Align::{Left, Right};
    if watch.fires.is_empty() {
        return Vec::new();
    }
    let head = ["time", "CPU", "task", "old", "new", "by", "line", "phase"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let row = |(at, fire): &(GuestNs, WatchFire)| {
        let task = fire.pid.map_or_else(|| "-".to_owned(), |pid| format!("{pid} {}", escaped(&fire.comm)));
        let phase =
            fire.phase.as_ref().map_or_else(|| "-".to_owned(), |(index, name)| format!("{index} {name}"));
        let source = fire.source.clone().unwrap_or_else(|| "-".to_owned());
        let short = |text: &str| shorten(&clean(text), CELL_CHARS);
        vec![
            seconds(run.since_start_ns(*at)),
            fire.cpu.to_string(),
            short(&task),
            fire.old.to_string(),
            fire.new.to_string(),
            short(&fire.place),
            short(&source),
            short(&phase),
        ]
    };
    rows.extend(both_ends(&watch.fires, EACH_END, row, |left_out| format!("{left_out} more")));
    layout(&[Right, Right, Left, Right, Right, Left, Left, Left], &rows)
}

fn of_watch(run: &Run<'_>, watch: &WatchSeen) -> Json {
    let fire = |(at, fire): &(GuestNs, WatchFire)| {
        let mut json = of_fire(fire);
        json["guest_ns"] = json!(at);
        json["since_start_ns"] = run.since_start_ns(*at).into();
        json
    };
    json!({
        "watch": watch.number,
        "target": watch.target,
        "when": watch.when,
        "max_fires": watch.max_fires,
        "by_body": watch.by_body,
        "armed": watch.armed.len(),
        "not_armed_because": watch.end().why(),
        "fires": watch.fires.iter().map(fire).collect::<Vec<_>>(),
        "totals": watch.totals,
    })
}
