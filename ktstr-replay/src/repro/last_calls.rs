//! The way of the task that a scheduler died of, through the functions that the second machine probed: from call to return, with
//! what it was given and what had changed since the call before.

use std::collections::HashMap;

use super::chain::{EXIT_KIND, EXIT_KIND_BELOW};
use super::failure::Failure;
use crate::probe::ProbeCall;
use crate::run::{Checkpoints, Run};
use crate::text::{Align, clean, counted, escaped, layout, seconds, shorten};
use crate::trace::record::{EventBody, ProbeValue, WatchNews};
use crate::units::{Cpu, GuestNs};
use crate::view::probes::returned;

/// Calls that are told, the last ones.
const TOLD: usize = 24;
/// Longest cell, in characters.
const CELL_CHARS: usize = 110;
/// What the pid of a call's task is read as.
const PID: &str = "p->pid";
/// Its name.
const COMM: &str = "p->comm";

/// The last calls of the task that the scheduler of `second` died of, a line for each; empty where nothing was probed.
pub(crate) fn last_calls(second: &Run<'_>) -> Vec<String> {
    let log = second.probes();
    let end = ended_at(second);
    let mut calls: Vec<(&str, &ProbeCall)> = log
        .probes
        .iter()
        .flat_map(|probe| probe.calls.iter().map(|call| (probe.function(), call)))
        .filter(|(_, call)| end.is_none_or(|(end, _)| call.at <= end))
        .collect();
    calls.sort_by_key(|(_, call)| call.at);
    let Some((pid, named)) = task_of(second, &calls, end.map(|(_, cpu)| cpu)) else { return Vec::new() };
    calls.retain(|(_, call)| task(call) == Some(pid));
    let comm = calls.iter().rev().find_map(|(_, call)| call.text(COMM));
    let Some(comm) = comm else { return without_calls(second, pid, &named) };
    let mut lines = vec![format!(
        "the way of {}[{pid}] to the end, in the functions that were probed: {}",
        clean(&escaped(comm)),
        match calls.len().checked_sub(TOLD) {
            None | Some(0) => counted(calls.len(), "call"),
            Some(_) => format!("the last {TOLD} of {}", counted(calls.len(), "call")),
        }
    )];
    lines.extend(table(second, &calls).into_iter().map(|line| format!("  {line}")));
    lines
}

/// When the scheduler was told to end, and the CPU that told it so: the store to its exit kind, which was watched for the second
/// machine's sake; of several schedulers that it may have been, that of the one that did end.
fn ended_at(second: &Run<'_>) -> Option<(GuestNs, Cpu)> {
    let targets = second.manifest.repro.as_ref().map(|info| info.targets.as_slice()).unwrap_or_default();
    let is_end = |target: &String| match targets {
        [] => target == EXIT_KIND,
        // Of a second machine that was taken in later the test's own watches are among them.
        targets => target.ends_with(EXIT_KIND_BELOW) && targets.contains(target),
    };
    second.events.iter().find_map(|event| match &event.body {
        EventBody::Watch(news) if is_end(&news.target) => match &news.what {
            WatchNews::Fired(fire) if fire.new != 0 => Some((event.guest_ns, fire.cpu)),
            _ => None,
        },
        _ => None,
    })
}

/// The task that the end names; of a stall that names none, the one that was seen to wait last; or else the one of the last call on the
/// CPU that ended the scheduler. With its name, where it is not of a call.
fn task_of(second: &Run<'_>, calls: &[(&str, &ProbeCall)], cpu: Option<Cpu>) -> Option<(i128, String)> {
    let is_there = |(_, cpu_of_call): &(i128, Cpu)| cpu.is_none_or(|cpu| *cpu_of_call == cpu);
    let by_call = || {
        let pids = calls.iter().rev().filter_map(|(_, call)| Some((task(call)?, call.hit.cpu)));
        pids.into_iter().find(is_there).map(|(pid, _)| (pid, String::new()))
    };
    let failure = Failure::of(second, Checkpoints::of(second).ok().as_ref());
    let named = failure.as_ref().and_then(|failure| failure.exit().named_task());
    let named = named.map(|(comm, pid)| (i128::from(pid), comm));
    let is_stall = failure.as_ref().is_some_and(Failure::is_stall);
    let waited = || {
        let mut waits = second.long_waits().filter(|_| is_stall).rev();
        waits.find_map(|(_, wait)| Some((i128::from(wait.pid?), wait.comm.clone())))
    };
    named.or_else(waited).or_else(by_call)
}

/// Of a task none of whose calls was recorded there is its history.
fn without_calls(second: &Run<'_>, pid: i128, comm: &str) -> Vec<String> {
    if second.probes().probes.is_empty() {
        return Vec::new();
    }
    let number = second.trace.segment_number();
    vec![
        format!(
            "no call of {}[{pid}] was recorded, of which the scheduler died: it made none, or the probes rested",
            clean(&escaped(comm))
        ),
        format!("  what it did: ktstr replay TRACE --segment {number} --events --task {pid}"),
    ]
}

fn task(call: &ProbeCall) -> Option<i128> {
    call.int(PID)
}

fn table(second: &Run<'_>, calls: &[(&str, &ProbeCall)]) -> Vec<String> {
    use Align::{Left, Right};
    let mut rows = vec![["time", "CPU", "function", "with", "returned", "from"].map(str::to_owned).to_vec()];
    let mut before: HashMap<&str, &ProbeValue> = HashMap::new();
    let first = calls.len().saturating_sub(TOLD);
    for (nth, (function, call)) in calls.iter().enumerate() {
        let values = changes(call, &mut before);
        if nth < first {
            continue;
        }
        let short = |text: &str| shorten(&clean(text), CELL_CHARS);
        rows.push(vec![
            seconds(second.since_start_ns(call.at)),
            call.hit.cpu.to_string(),
            short(function),
            short(&values),
            short(&returned(call)),
            short(call.hit.source.as_ref().unwrap_or(&call.hit.caller)),
        ]);
    }
    layout(&[Right, Right, Left, Left, Left, Left], &rows)
}

/// What a call was given. What is of the task and was the same at the call before is left out.
fn changes<'c>(call: &'c ProbeCall, before: &mut HashMap<&'c str, &'c ProbeValue>) -> String {
    let mut said = Vec::new();
    for (name, value) in call.values().filter(|(name, _)| *name != PID && *name != COMM) {
        let is_member = name.contains("->");
        match before.insert(name, value).filter(|_| is_member) {
            Some(last) if last == value => {}
            Some(last) => said.push(format!("{name}={value} (was {last})")),
            None => said.push(format!("{name}={value}")),
        }
    }
    if said.is_empty() { "-".to_owned() } else { said.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TraceBuilder, stalled as stalled_sample};
    use crate::trace::record::manifest::ReproInfo;
    use crate::trace::record::{LongWait, ProbeEvent, ProbeHit, ProbeNews, WaitLimit, WatchEvent, WatchFire};

    fn probe(number: u32, function: &str, what: ProbeNews) -> EventBody {
        EventBody::Probe(Box::new(ProbeEvent { probe: number, target: format!("{function}(p->pid)"), what }))
    }

    fn armed() -> ProbeNews {
        let names = ["p->pid", "p->comm", "p->scx.slice", "flags"].map(str::to_owned).to_vec();
        ProbeNews::Armed { at: 1, place: "f".to_owned(), names }
    }

    fn call(number: u32, cpu: u32, pid: i128, slice: i128) -> ProbeNews {
        let comm = format!("task{pid}");
        let values =
            vec![ProbeValue::Int(pid), ProbeValue::Text(comm), ProbeValue::Int(slice), ProbeValue::Int(4)];
        let hit = ProbeHit {
            number,
            cpu: Cpu(cpu),
            values,
            caller: "above+0x1/0x2".to_owned(),
            ..ProbeHit::default()
        };
        ProbeNews::Hit(Box::new(hit))
    }

    #[test]
    fn the_task_on_the_cpu_that_ended_the_scheduler_is_followed_and_what_changed_is_told() {
        let fire = WatchFire { new: 1025, cpu: Cpu(1), ..WatchFire::default() };
        let fired = EventBody::Watch(Box::new(WatchEvent {
            watch: 0,
            target: "scx_root->exit_kind".to_owned(),
            what: WatchNews::Fired(Box::new(fire)),
        }));
        let trace = TraceBuilder::begun()
            .event(100, probe(0, "enqueue", armed()))
            .event(100, probe(1, "running", armed()))
            .event(200, probe(0, "enqueue", call(1, 1, 7, 20)))
            .event(300, probe(0, "enqueue", call(2, 0, 8, 30)))
            .event(400, probe(1, "running", call(1, 1, 7, 20)))
            .event(450, probe(1, "running", call(2, 1, 7, 0)))
            .event(470, probe(1, "running", call(3, 0, 8, 0)))
            .event(500, fired)
            .event(600, probe(0, "enqueue", call(3, 1, 7, 99)))
            .ended()
            .trace();
        let lines = last_calls(&Run::load(&trace));
        assert_eq!(lines[0], "the way of task7[7] to the end, in the functions that were probed: 3 calls");
        let told: Vec<&str> = lines[2..].iter().map(|line| line.trim_end()).collect();
        assert_eq!(told.len(), 3, "{lines:#?}");
        assert!(told[0].contains("enqueue") && told[0].contains("p->scx.slice=20 flags=4"), "{told:#?}");
        assert!(told[1].contains("running") && !told[1].contains("slice"), "{told:#?}");
        assert!(told[2].contains("p->scx.slice=0 (was 20) flags=4"), "{told:#?}");
    }

    #[test]
    fn of_several_schedulers_that_may_have_ended_the_one_that_did_is_meant() {
        let fire = WatchFire { new: 1025, cpu: Cpu(1), ..WatchFire::default() };
        let fired = |target: &str| {
            let (target, what) = (target.to_owned(), WatchNews::Fired(Box::new(fire.clone())));
            EventBody::Watch(Box::new(WatchEvent { watch: 1, target, what }))
        };
        let mut run = TraceBuilder::begun()
            .event(100, probe(0, "enqueue", armed()))
            .event(150, fired("bss.x"))
            .event(200, probe(0, "enqueue", call(1, 1, 7, 20)))
            .event(300, probe(0, "enqueue", call(2, 0, 8, 30)))
            .event(500, fired("scheduler(/b)->exit_kind"));
        let targets = ["bss.x", "scheduler(/a)->exit_kind", "scheduler(/b)->exit_kind"];
        run.manifest.repro =
            Some(ReproInfo { targets: targets.map(str::to_owned).to_vec(), ..ReproInfo::default() });
        let lines = last_calls(&Run::load(&run.ended().trace()));
        assert!(lines[0].starts_with("the way of task7[7] to the end"), "{lines:#?}");
    }

    #[test]
    fn the_task_that_waited_is_followed_where_the_stall_names_none() {
        let stalled = |waits: Option<u32>| {
            let wait = LongWait {
                limit: WaitLimit::Watchdog,
                limit_ns: 2_000_000_000,
                waited_ns: 1_000_000_000,
                pid: waits,
                comm: waits.map_or_else(String::new, |pid| format!("task{pid}")),
                cpu: Some(Cpu(0)),
                sample: None,
            };
            let mut end = stalled_sample(500, &[]);
            let scx = end.scx.as_mut().expect("sched_ext's state");
            scx.exit_message = Some("watchdog failed to check in for 2.012s".to_owned());
            TraceBuilder::begun()
                .event(100, probe(0, "enqueue", armed()))
                .event(200, probe(0, "enqueue", call(1, 1, 7, 20)))
                .event(300, probe(0, "enqueue", call(2, 0, 8, 30)))
                .event(350, probe(0, "enqueue", call(3, 1, 7, 30)))
                .event(400, EventBody::LongWait(Box::new(wait)))
                .sample(end)
                .ended()
                .trace()
        };
        let first = |trace: &_| last_calls(&Run::load(trace)).first().cloned().unwrap_or_default();
        assert!(first(&stalled(Some(8))).starts_with("the way of task8[8] to the end"));
        // Nobody is known to have waited: who was called last.
        assert!(first(&stalled(None)).starts_with("the way of task7[7] to the end"));
        let trace = stalled(Some(9));
        let lines = last_calls(&Run::load(&trace));
        assert!(lines[0].starts_with("no call of task9[9] was recorded"), "{lines:?}");
        assert!(lines[1].ends_with("--segment 0 --events --task 9"), "{lines:?}");
    }

    #[test]
    fn a_machine_without_probes_has_no_way_to_tell() {
        assert_eq!(last_calls(&Run::load(&TraceBuilder::begun().ended().trace())), Vec::<String>::new());
    }
}
