//! What was noted, as the records of a trace.

use std::collections::HashMap;
use std::hash::Hash;

use crate::kernel::history::{CpuNews, Noted, NotedWhat};
use crate::trace::record::{History, HistoryStep, HistoryWhat};

/// Most steps of one record.
const STEPS: usize = 4096;

/// The records of what is new on a CPU. Of more than `keep` the oldest are left out, and counted.
#[must_use]
pub fn pack(news: &CpuNews, keep: usize) -> Vec<History> {
    let left_out = news.noted.len().saturating_sub(keep);
    let mut rest = news.noted.get(left_out..).unwrap_or_default();
    let mut records = Vec::new();
    while records.is_empty() || !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(STEPS));
        records.push(record(news, now));
        rest = later;
    }
    // What is missing is missing before the first of them.
    if let Some(first) = records.first_mut() {
        (first.overwritten, first.left_out) = (news.overwritten, left_out as u64);
    }
    records
}

fn record(news: &CpuNews, noted: &[Noted]) -> History {
    let first_ns = noted.first().map_or_else(Default::default, |first| first.at);
    let mut record = History { cpu: news.cpu, first_ns, ..History::default() };
    let (mut tasks, mut names) = (HashMap::new(), HashMap::new());
    let mut before = first_ns;
    for Noted { at, what } in noted {
        let mut task = |task| place(&mut tasks, &mut record.tasks, task);
        let what = match what {
            NotedWhat::Switch { prev, state, next } => {
                HistoryWhat::Switch { prev: task(prev), state: *state, next: task(next) }
            }
            NotedWhat::Wakeup { task: of, by, to, is_new } => {
                HistoryWhat::Wakeup { task: task(of), by: *by, to: *to, is_new: *is_new }
            }
            NotedWhat::Migrate { task: of, by, from, to } => {
                HistoryWhat::Migrate { task: task(of), by: *by, from: *from, to: *to }
            }
            NotedWhat::SchedExt { name, by, count } => HistoryWhat::SchedExt {
                name: place(&mut names, &mut record.names, name),
                by: *by,
                count: *count,
            },
        };
        // The clock of one CPU does not go back.
        record.steps.push(HistoryStep { after_ns: at.saturating_since(before), what });
        before = before.max(*at);
    }
    record
}

/// The position of `one` in `all`, where it is put if it is not there.
pub(crate) fn place<T: Clone + Eq + Hash>(known: &mut HashMap<T, u32>, all: &mut Vec<T>, one: &T) -> u32 {
    if let Some(at) = known.get(one) {
        return *at;
    }
    let at = u32::try_from(all.len()).unwrap_or(u32::MAX);
    known.insert(one.clone(), at);
    all.push(one.clone());
    at
}
