//! The table of workers.

use crate::run::Run;
use crate::text::seconds;

use super::Section;
use crate::text::clean;
use crate::text::table::{Align, layout};

/// Workers that are shown.
const SHOWN: usize = 32;

pub(super) fn table(run: &Run<'_>) -> Option<Section> {
    use Align::{Left, Right};
    let time = |ns: u64| seconds(i64::try_from(ns).unwrap_or(i64::MAX));
    let head =
        ["worker", "pid", "work", "units", "CPU", "share", "longest gap", "waited", "migrations", "CPUs", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for w in run.workers().take(SHOWN) {
        let share = match w.wall_ns {
            0 => "-".to_owned(),
            wall => format!("{:.1}%", w.cpu_ns as f64 / wall as f64 * 100.0),
        };
        let cpus: Vec<_> = w.cpus_used.iter().take(16).map(ToString::to_string).collect();
        rows.push(vec![
            clean(&format!("{}/{}", w.cgroup, w.index)),
            w.pid.to_string(),
            clean(&w.work),
            w.work_units.to_string(),
            time(w.cpu_ns),
            share,
            time(w.max_gap_ns),
            time(w.run_delay_ns),
            w.migrations.to_string(),
            cpus.join(","),
            clean(w.fault.as_deref().unwrap_or_default()),
        ]);
    }
    if rows.len() == 1 {
        return None;
    }
    let align = [Left, Right, Left, Right, Right, Right, Right, Right, Right, Left, Left];
    let mut lines = layout(&align, &rows);
    let more = run.workers().count().saturating_sub(SHOWN);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    Some(Section { title: "workers".to_owned(), lines })
}
