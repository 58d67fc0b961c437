//! The scheduler and its tasks when the run went wrong: who waited, its variables, and the kernel's dump.

use crate::run::Run;
use crate::text::{Align, layout};
use crate::text::{clean, escaped, seconds, shorten, wrapped};
use crate::trace::record::Sample;
use crate::value::{Leaf, Snapshot, Value, changing};
use crate::view::{dsqs, runqueues};
use crate::why::{SchedState, SchedulerEnd, hogs, may_be_hogged, raised as who_raised};

use super::{Detail, Section};

/// Checkpoints before the end that tell for how long a task had a CPU.
const CHECKPOINTS: usize = 8;
/// Width of a sentence's lines, in characters.
const WIDTH: usize = 140;
/// Tasks of a queue that are listed.
const QUEUED: usize = 12;
/// Frames of a stack that are shown.
const FRAMES: usize = 12;
/// Variables at the exit that are shown.
const VARIABLES: usize = 28;
/// Longest value, in characters.
const VALUE_CHARS: usize = 48;
/// Longest list of the variables that are zero, in characters.
const ZERO_CHARS: usize = 160;
/// Lines of the dump that are shown.
const DUMP_LINES: usize = 40;
/// Variables that changed that are shown.
const CHANGED: usize = 20;

/// The scheduler's end, as far as the report needs it; `None` where there was no scheduler.
///
/// # Errors
/// A section that says why the memory cannot be read.
pub(super) fn end(run: &Run<'_>) -> Result<Option<SchedulerEnd>, Section> {
    if !run.has_scheduler() {
        return Ok(None);
    }
    let end = SchedulerEnd::of(run, 1).and_then(|end| match may_be_hogged(&end) {
        true => SchedulerEnd::of(run, CHECKPOINTS),
        false => Ok(end),
    });
    end.map(Some).map_err(|error| {
        let mut lines = vec![clean(&error.to_string())];
        lines.extend(std::error::Error::source(&error).map(|cause| clean(&format!("  {cause}"))));
        Section { title: "the kernel's memory could not be read".to_owned(), lines }
    })
}

/// Who waited when the run went wrong: the task, its queue and its stack, then all runqueues and dispatch queues of the last
/// checkpoint before.
pub(super) fn waiting(end: &SchedulerEnd, detail: Detail) -> Vec<Section> {
    let mut sections = vec![Section { title: "who waited".to_owned(), lines: stalled_task(end, detail) }];
    if let Some(last) = end.last() {
        let at = |what: &str| format!("{what} ({})", last.title);
        let rqs = runqueues::table(&last.runqueues.runqueues);
        sections.push(Section { title: at("runqueues"), lines: rqs });
        sections.push(Section { title: at("dispatch queues"), lines: dsqs::queues(&last.dsqs.dsqs) });
    }
    sections
}

/// The task that waited longest, or that the exit names: at the exit, and at the last checkpoint before.
fn stalled_task(end: &SchedulerEnd, detail: Detail) -> Vec<String> {
    let Some(pid) = end.stalled_task() else { return Vec::new() };
    let mut lines: Vec<String> =
        hogs(end).iter().flat_map(|sentence| wrapped(&sentence.text, WIDTH)).collect();
    if end.dump.cut {
        lines.push("the kernel's dump was cut for want of room: it does not have all that waited".to_owned());
    }
    let dumped = end.dump.tasks.iter().find(|task| task.pid == pid);
    if let Some(task) = dumped {
        lines.push(format!(
            "at the exit (the kernel's dump): {}[{}] had been runnable for {:.3}s, {}{}",
            task.comm,
            task.pid,
            task.runnable_ms as f64 / 1e3,
            task.place(),
            task.cpu.map_or_else(String::new, |cpu| format!(", on CPU {cpu}"))
        ));
        // The kernel cannot follow a stack that begins in an interrupt's; our own tables can.
        if end.last().is_none_or(|last| last.stack.is_none()) {
            lines.extend(task.stack.iter().take(detail.most(FRAMES)).map(|frame| format!("    {frame}")));
        }
    }
    if let Some(last) = end.last() {
        lines.extend(at_checkpoint(last, pid, detail));
    }
    lines.iter().map(|line| clean(line)).collect()
}

fn at_checkpoint(last: &SchedState, pid: i64, detail: Detail) -> Vec<String> {
    let Some(task) = last.tasks.by_pid(pid) else { return Vec::new() };
    let Some(waiting) = SchedState::waiting(task) else { return Vec::new() };
    let mut cpu = waiting.cpu.map_or_else(String::new, |cpu| format!(", on CPU {cpu}"));
    if let Some(usable) = last.bound_to(task) {
        cpu.push_str(&format!(", may run on {usable} only"));
    }
    let who = format!(
        "in {}: {}[{pid}] had been runnable for {}",
        last.title,
        escaped(&task.comm),
        seconds(waiting.age_ns)
    );
    let own = last.stack.as_ref().filter(|(of, _)| *of == pid);
    let stack = own.map(|(_, stack)| stack.lines()).unwrap_or_default();
    let stack = stack.iter().take(detail.most(FRAMES)).map(|frame| format!("    {frame}"));
    let Some((dsq, position)) = last.queue_of(pid) else {
        return std::iter::once(format!("{who}, in no queue{cpu}")).chain(stack).collect();
    };
    let count = dsq.tasks.len();
    let mut lines = vec![format!("{who}, {position} of {count} in queue {} ({}){cpu}", dsq.id, dsq.whose)];
    lines.extend(stack);
    lines.extend(dsqs::tasks(dsq, detail.most(QUEUED)).iter().map(|line| format!("  {line}")));
    lines
}

/// Who raised the error, and through which functions.
pub(super) fn raised(end: &SchedulerEnd) -> Option<Section> {
    let frames = &end.raised.as_ref()?.frames;
    let mut lines: Vec<String> =
        who_raised(end).iter().flat_map(|sentence| wrapped(&sentence.text, WIDTH)).collect();
    lines.extend(frames.iter().map(|frame| format!("    {frame}")));
    let lines = lines.iter().map(|line| clean(line)).collect();
    Some(Section { title: "who raised the error".to_owned(), lines })
}

/// The variables of `.bss` and `.data` at the exit, beside what they were in the capture before it.
pub(super) fn variables(run: &Run<'_>, detail: Detail) -> Option<Section> {
    let index = run.scheduler_exit()?.sample?;
    let sample = run.sample(index)?;
    let before = run.with_maps().rev().find(|s| s.index < index);
    let now = run.samples.snapshot(sample);
    let then = before.map(|s| run.samples.snapshot(s));
    let title = format!(
        "scheduler's variables at its exit ({}, {})",
        clean(&sample.tag),
        seconds(run.since_start_ns(sample.guest_ns))
    );
    if now.vars().is_empty() {
        return Some(Section { title, lines: vec![absent(sample)] });
    }
    let (zero, shown): (Vec<Leaf<'_>>, Vec<_>) = changing(&now).into_iter().partition(|(_, v)| is_zero(v));
    let mut rows = vec![vec!["variable".to_owned(), "at exit".to_owned()]];
    if let Some(before) = before {
        let at = seconds(run.since_start_ns(before.guest_ns));
        rows[0].push(format!("in {} ({at})", clean(&before.tag)));
    }
    let most = detail.most(VARIABLES);
    for (name, value) in shown.iter().take(most) {
        let mut row = vec![clean(name), show(value)];
        if let Some(then) = &then {
            row.push(earlier(then, name, value));
        }
        rows.push(row);
    }
    let mut lines = layout(&[Align::Left, Align::Left, Align::Left], &rows);
    let more = shown.len().saturating_sub(most);
    if more > 0 {
        lines.push(format!("and {more} more; `ktstr replay TRACE --var NAME` prints any"));
    }
    if !zero.is_empty() {
        let names: Vec<_> = zero.iter().map(|(name, _)| clean(name)).collect();
        lines.push(shorten(&format!("zero: {}", names.join(", ")), detail.most(ZERO_CHARS)));
    }
    Some(Section { title, lines })
}

fn is_zero(value: &Value<'_>) -> bool {
    match value.scalar() {
        Ok(scalar) => scalar.to_f64() == 0.0,
        Err(_) => value.bytes().iter().all(|b| *b == 0),
    }
}

fn absent(sample: &Sample) -> String {
    match sample.faults.first() {
        Some(fault) => format!("none were captured: {}", clean(fault)),
        None => "none were captured: the scheduler's maps were gone by then".to_owned(),
    }
}

fn show(value: &Value<'_>) -> String {
    shorten(&clean(&value.render()), VALUE_CHARS)
}

/// The value in an earlier capture: only the difference matters.
fn earlier(then: &Snapshot<'_>, name: &str, now: &Value<'_>) -> String {
    match then.var(name) {
        Ok(value) if value.same(now) => "the same".to_owned(),
        Ok(value) => show(&value),
        Err(_) => "-".to_owned(),
    }
}

/// The variables that changed between the last two captures, where there is no exit that shows them.
pub(super) fn changed(run: &Run<'_>, detail: Detail) -> Option<Section> {
    if run.scheduler_exit().is_some_and(|exit| exit.sample.is_some()) {
        return None;
    }
    let mut with_maps = run.with_maps().rev();
    let (last, before) = (with_maps.next()?, with_maps.next()?);
    let (now, then) = (run.samples.snapshot(last), run.samples.snapshot(before));
    let at = |s: &Sample| clean(&format!("{} ({})", s.tag, seconds(run.since_start_ns(s.guest_ns))));
    let mut rows = vec![vec!["variable".to_owned(), at(before), at(last)]];
    let mut more = 0;
    for (name, value) in changing(&now) {
        let Ok(old) = then.var(&name) else { continue };
        if old.same(&value) {
            continue;
        }
        if rows.len() > detail.most(CHANGED) {
            more += 1;
            continue;
        }
        rows.push(vec![clean(&name), show(&old), show(&value)]);
    }
    if rows.len() == 1 {
        return None;
    }
    let mut lines = layout(&[Align::Left; 3], &rows);
    if more > 0 {
        lines.push(format!("and {more} more; `ktstr replay TRACE --var NAME` prints any"));
    }
    Some(Section {
        title: "scheduler's variables that changed between the last two captures".to_owned(),
        lines,
    })
}

/// The beginning of the kernel's dump of the scheduler's state.
pub(super) fn dump(run: &Run<'_>, end: Option<&SchedulerEnd>, detail: Detail) -> Option<Section> {
    let exit = end.and_then(|end| end.exit.as_ref()).or_else(|| run.scheduler_exit());
    let dump = exit?.dump.as_deref()?;
    let mut lines: Vec<_> = dump.lines().map(clean).collect();
    let most = detail.most(DUMP_LINES);
    let more = lines.len().saturating_sub(most);
    lines.truncate(most);
    if more > 0 {
        lines.push(format!("... {more} more lines; `ktstr replay TRACE --dump` prints all"));
    }
    Some(Section { title: "sched_ext's dump".to_owned(), lines })
}
