//! The sentence about a vtime that is far from those of the other tasks of a queue.

use crate::kernel::dsq::{Dsq, DsqOrder};
use crate::text::{escaped, seconds};

use super::{SchedState, Sentence};

/// Vtimes that are apart by more than this are far apart. Schedulers count it in ns of a task of weight 100: fifty slices of the
/// default length.
const FAR: u64 = 1_000_000_000;
/// ... and by so many times as much as the others are apart.
const TIMES: u64 = 10;
/// Tasks of a queue that are looked at, the next ones: each is held against all others.
const COMPARED: usize = 256;
/// Tasks that are named.
const NAMED: usize = 4;

/// A task that competes for a queue's place: it is in it, or runs.
struct Rival {
    name: String,
    vtime: u64,
    runs: bool,
}

/// The tasks whose vtime is far from that of the others, in a queue that is ordered by it. Those that run are looked at with it:
/// the one that is always ahead of the others is seldom found waiting.
pub(super) fn far(state: &SchedState, dsq: &Dsq) -> Option<Sentence> {
    if dsq.order != DsqOrder::Vtime {
        return None;
    }
    let rivals = rivals(state, dsq);
    let values: Vec<u64> = rivals.iter().map(|rival| rival.vtime).collect();
    let far: Vec<(&Rival, i64)> =
        rivals.iter().enumerate().filter_map(|(at, rival)| Some((rival, distance(at, &values)?))).collect();
    if far.is_empty() {
        return None;
    }
    let told: Vec<String> = far.iter().take(NAMED).map(|(rival, by)| one(rival, *by)).collect();
    let near: Vec<u64> = rivals
        .iter()
        .filter(|rival| !far.iter().any(|(other, _)| other.name == rival.name))
        .map(|r| r.vtime)
        .collect();
    let others = match (near.iter().min(), near.iter().max()) {
        (Some(least), Some(most)) if least == most => format!("; the other's is {least}"),
        (Some(least), Some(most)) => format!("; the others' are {least} to {most}"),
        _ => String::new(),
    };
    let text = format!("in queue {}, ordered by vtime, {}{others}", dsq.id, told.join(", "));
    Some(Sentence::seen_at(state, text))
}

fn rivals(state: &SchedState, dsq: &Dsq) -> Vec<Rival> {
    let queued = dsq.tasks.iter().take(COMPARED).map(|task| Rival {
        name: format!("{}[{}]", escaped(&task.comm), task.pid),
        vtime: task.vtime,
        runs: false,
    });
    let running = state.tasks.tasks.iter().filter(|task| task.on_cpu && task.class == "ext").take(COMPARED);
    let running = running.filter_map(|task| {
        let name = format!("{}[{}]", escaped(&task.comm), task.pid);
        Some(Rival { name, vtime: task.scx.as_ref()?.vtime, runs: true })
    });
    queued.chain(running).collect()
}

/// How far the vtime at `at` is from the nearest of the others, if that is far: negative before it, as the kernel's comparison
/// has it, which is that of the signed difference.
fn distance(at: usize, values: &[u64]) -> Option<i64> {
    let own = *values.get(at)?;
    let others = || values.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, value)| *value);
    let nearest =
        others().map(|other| own.wrapping_sub(other).cast_signed()).min_by_key(|by| by.unsigned_abs())?;
    let base = others().next()?;
    let offsets = || others().map(|other| other.wrapping_sub(base).cast_signed());
    let spread = offsets().max()?.abs_diff(offsets().min()?);
    let is_far = nearest.unsigned_abs() > FAR.max(spread.saturating_mul(TIMES));
    is_far.then_some(nearest)
}

fn one(rival: &Rival, by: i64) -> String {
    let runs = if rival.runs { ", which runs," } else { "" };
    let side = if by < 0 { "before" } else { "behind" };
    let by = seconds(i64::try_from(by.unsigned_abs()).unwrap_or(i64::MAX));
    format!("{}{runs} has vtime {}, {by} {side} the next one", rival.name, rival.vtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_task_that_runs_is_held_against_those_that_wait() {
        use crate::kernel::dsq::QueuedTask;
        use crate::kernel::task::{DsqId, Entity, Task, Tasks};
        use crate::units::KernelVirt;
        let queued = |pid, vtime| QueuedTask {
            pid,
            comm: "waits".into(),
            cpu: None,
            vtime,
            slice_ns: 0,
            cpus_allowed: None,
            runnable_age_ns: None,
            at: KernelVirt(0),
        };
        let tasks = vec![queued(5, 100 * MS), queued(6, 120 * MS)];
        let (id, whose) = (DsqId::of_dump(9), "user".to_owned());
        let mut dsq = Dsq {
            id,
            whose,
            nr: 2,
            order: DsqOrder::Vtime,
            seq: None,
            tasks,
            at: KernelVirt(0),
            scheduler: None,
        };
        let scx = Some(Entity { vtime: 10_100 * MS, ..Entity::default() });
        let runs =
            Task { pid: 7, comm: "far".into(), on_cpu: true, class: "ext".into(), scx, ..Task::default() };
        let state =
            SchedState { tasks: Tasks { tasks: vec![runs], ..Tasks::default() }, ..SchedState::default() };
        let told = "in queue 0x9, ordered by vtime, far[7], which runs, has vtime 10100000000, 9.980s behind the next one; the \
                    others' are 100000000 to 120000000";
        assert_eq!(far(&state, &dsq).map(|sentence| sentence.text).as_deref(), Some(told));
        dsq.order = DsqOrder::Fifo;
        assert_eq!(far(&state, &dsq), None);
    }

    #[test]
    fn a_vtime_is_far_by_the_kernels_signed_comparison() {
        let values = [100 * MS, 120 * MS, (1 << 63) + 10_000 * MS];
        assert_eq!(distance(0, &values), None);
        assert_eq!(distance(2, &values), Some(i64::MIN + (10_000 * MS - 100 * MS).cast_signed()));
        // A clock that wraps is near what it was.
        assert_eq!(distance(0, &[u64::MAX - 5 * MS, 5 * MS]), None);
        // Behind by more than others are apart.
        assert_eq!(distance(1, &[5 * MS, 2_800 * MS, 9 * MS]), Some(2_791 * MS.cast_signed()));
        // Evenly spread ones are far from none.
        assert_eq!(distance(2, &[0, 2_000 * MS, 4_000 * MS]), None);
        assert_eq!(distance(0, &[5]), None);
    }
}
