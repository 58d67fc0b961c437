//! The explanation of a dump or a message that was pasted: the sentences of a trace's explanation, as far as it has what they rest on.

use std::collections::BTreeMap;

use crate::kernel::dsq::{Dsq, DsqOrder, Dsqs, QueuedTask};
use crate::kernel::runqueue::{RunnableTask, Runqueue, Runqueues};
use crate::kernel::task::{Entity, Task, Tasks};
use crate::pasted::PastedEnd;
use crate::run::{Dump, DumpTask};
use crate::text::escaped;
use crate::units::{Cpu, CpuList, KernelVirt};

use super::cpus::{self, class_is_above};
use super::raised::{Raised, raised};
use super::stalled::{self, on_cpus};
use super::{Explanation, SchedState, SchedulerEnd, Sentence, exit};

/// What the kernel's dump is called as evidence.
const DUMP: &str = "dump";
/// CPUs that are named one by one.
const NAMED: usize = 8;

/// Explain what a pasted text says of a scheduler's end, in the words that a trace's explanation has for the same evidence.
#[must_use]
pub fn explain_pasted(pasted: &PastedEnd) -> Explanation {
    let end = SchedulerEnd::of_pasted(pasted);
    let mut all = Vec::new();
    if let Some(by) = &pasted.requested_by {
        let text = format!("the dump was asked for by {by}: it tells of no scheduler's end");
        all.push(exit::at_exit(&end, text));
    } else if pasted.exit.is_none() {
        let text = "how the scheduler ended is not said: the dump's beginning is not there";
        all.push(exit::at_exit(&end, text.to_owned()));
    }
    all.extend(exit::exit(&end));
    all.extend(raised(&end));
    all.extend(exit::dump(&end));
    all.extend(short(pasted, &end));
    all.extend(stalled::stalled(None, &end));
    all.extend(absent(&end));
    all.extend(cpus::cpus(&end));
    all.extend(above(&end));
    all.extend(left_out(pasted, &end));
    Explanation { verdict: title(pasted), sentences: all, not_told: not_told(pasted) }
}

/// What it is, and where it stands.
fn title(pasted: &PastedEnd) -> String {
    let what = match (&pasted.dump, &pasted.exit) {
        (Some(_), _) => "the dump",
        (None, _) => "a message of the end",
    };
    let name = pasted.scheduler.as_deref().unwrap_or("a scheduler");
    let place = pasted.place.as_deref().map_or_else(String::new, |place| format!(" ({place})"));
    let lines = match pasted.lines.as_ref().map(|lines| (*lines.start(), *lines.end())) {
        Some((first, last)) if first == last => format!(", line {first}"),
        Some((first, last)) => format!(", lines {first} to {last}"),
        None => String::new(),
    };
    format!("not judged: {what} of {name}{place}{lines}")
}

impl SchedulerEnd {
    /// What a pasted text says of a scheduler's end.
    fn of_pasted(pasted: &PastedEnd) -> Self {
        let exit = pasted.exit.clone();
        let dump = pasted.dump.clone().unwrap_or_default();
        let named = exit.as_ref().and_then(|exit| exit.named_task()).map(|(_, pid)| pid);
        let states = pasted.dump.as_ref().map(SchedState::of_dump).into_iter().collect();
        let scheduler = pasted.scheduler.clone().unwrap_or_else(|| "the scheduler".to_owned());
        let exit_tag = Some(pasted.told_by().to_owned());
        let raised = exit.as_ref().and_then(|exit| exit.dump.as_deref()).and_then(Raised::of);
        Self { scheduler, exit_tag, exit, states, dump, named, raised, ..Self::default() }
    }
}

impl SchedState {
    /// What a dump has of tasks, runqueues and queues.
    fn of_dump(dump: &Dump) -> Self {
        let runqueues: Vec<Runqueue> = dump.cpus.iter().map(runqueue).collect();
        let tasks: Vec<Task> = dump.tasks.iter().map(task).collect();
        // CPUs are numbered from 0, and a mask has a bit for each that there may be.
        let in_masks = dump.tasks.iter().filter_map(|task| task.cpus_allowed.as_ref());
        let most = in_masks.flat_map(CpuList::iter).chain(dump.cpus.iter().map(|cpu| cpu.cpu)).max();
        let known: CpuList = dump.cpus.iter().map(|cpu| cpu.cpu).collect();
        let other_cpus = most.map_or_else(Vec::new, |most| (0..=most.0).map(Cpu).collect());
        Self {
            tag: DUMP.to_owned(),
            title: "the dump".to_owned(),
            tasks: Tasks { tasks, ..Tasks::default() },
            runqueues: Runqueues { runqueues, ..Runqueues::default() },
            dsqs: Dsqs { dsqs: queues(dump), ..Dsqs::default() },
            of_dump: true,
            other_cpus: other_cpus.into_iter().filter(|cpu| !known.contains(*cpu)).collect(),
            ..Self::default()
        }
    }
}

fn runqueue(cpu: &crate::run::DumpCpu) -> Runqueue {
    let class = cpu.curr_class.clone().unwrap_or_else(|| "class not known".to_owned());
    let curr = cpu.curr.clone().map(|(comm, pid)| RunnableTask {
        pid,
        comm,
        class,
        on_cpu: true,
        ..RunnableTask::default()
    });
    Runqueue { cpu: cpu.cpu, online: true, curr, scx_nr_running: Some(cpu.nr_run), ..Runqueue::default() }
}

fn age_ns(task: &DumpTask) -> i64 {
    i64::try_from(task.runnable_ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}

fn task(task: &DumpTask) -> Task {
    let entity = Entity {
        vtime: task.vtime.unwrap_or_default(),
        dsq: task.dsq.clone(),
        ops_state: task.ops_state.unwrap_or("not known").to_owned(),
        runnable: !task.running,
        runnable_age_ns: Some(age_ns(task)),
        ..Entity::default()
    };
    Task {
        pid: task.pid,
        comm: task.comm.clone(),
        cpu: task.cpu.map(|cpu| u64::from(cpu.0)),
        on_cpu: task.running,
        class: "ext".to_owned(),
        cpus_allowed: task.cpus_allowed.clone(),
        scx: Some(entity),
        ..Task::default()
    }
}

/// The queues that tasks of the dump are in; their order in them is not known.
fn queues(dump: &Dump) -> Vec<Dsq> {
    let mut queues: BTreeMap<(u64, Option<Cpu>), Dsq> = BTreeMap::new();
    for task in &dump.tasks {
        let Some(id) = &task.dsq else { continue };
        // Each CPU has a local queue of its own, and all have the same number.
        let local = id.to_string() == "LOCAL";
        let cpu = task.cpu.filter(|_| local);
        let whose = match cpu {
            _ if !id.is_builtin() => "user".to_owned(),
            Some(cpu) => format!("local CPU {cpu}"),
            None => id.to_string().to_lowercase(),
        };
        let queue = queues.entry((id.number, cpu)).or_insert_with(|| Dsq {
            id: id.clone(),
            whose,
            nr: 0,
            order: if task.by_vtime { DsqOrder::Vtime } else { DsqOrder::Fifo },
            seq: None,
            tasks: Vec::new(),
            at: KernelVirt(0),
            scheduler: None,
        });
        queue.nr += 1;
        queue.tasks.push(QueuedTask {
            pid: task.pid,
            comm: task.comm.clone(),
            cpu: task.cpu.map(|cpu| u64::from(cpu.0)),
            vtime: task.vtime.unwrap_or_default(),
            slice_ns: 0,
            cpus_allowed: task.cpus_allowed.clone(),
            runnable_age_ns: Some(age_ns(task)),
            at: KernelVirt(0),
        });
    }
    queues.into_values().collect()
}

/// What the text lacks of the dump.
fn short(pasted: &PastedEnd, end: &SchedulerEnd) -> Option<Sentence> {
    let one =
        |short: &crate::pasted::Short| format!("{} of {} of CPU {}", short.listed, short.runnable, short.cpu);
    let named: Vec<String> = pasted.short.iter().take(NAMED).map(one).collect();
    let more = if pasted.short.len() > NAMED { ", ..." } else { "" };
    let text = format!(
        "the text does not have all runnable tasks that the kernel counts: {}{more}; who else waited is not in it",
        named.join(", ")
    );
    (!named.is_empty()).then(|| exit::at_exit(end, text))
}

/// The task that the exit names and that is not in the dump.
fn absent(end: &SchedulerEnd) -> Option<Sentence> {
    let (pid, last) = (end.named?, end.last()?);
    if last.tasks.by_pid(pid).is_some() {
        return None;
    }
    let (comm, _) = end.exit.as_ref()?.named_task()?;
    let cut = if end.dump.cut { ", which was cut" } else { "" };
    Some(exit::at_exit(
        end,
        format!("{}[{pid}], which the exit names, is not in the dump{cut}", escaped(&comm)),
    ))
}

/// Tasks of higher classes on all CPUs that the stalled task may run on: one moment does not show for how long.
fn above(end: &SchedulerEnd) -> Option<Sentence> {
    let (pid, last) = (end.stalled_task()?, end.last()?);
    let task = last.tasks.by_pid(pid)?;
    let allowed = task.cpus_allowed.as_ref()?;
    let usable: CpuList = last.online().iter().filter(|cpu| allowed.contains(*cpu)).collect();
    let names: Option<Vec<String>> = usable
        .iter()
        .map(|cpu| {
            let rq = last.runqueues.runqueues.iter().find(|rq| rq.cpu == cpu)?;
            let curr = rq.curr.as_ref().filter(|curr| class_is_above(&curr.class))?;
            Some(format!("{}[{}] ({})", escaped(&curr.comm), curr.pid, curr.class))
        })
        .collect();
    let names = names.filter(|names| !names.is_empty())?;
    let who = format!("{}[{pid}]", escaped(&task.comm));
    let text = format!(
        "the scheduler may not be the cause: {who} may run on {}, where {} ran: sched_ext gets a CPU only when the classes before it \
         leave it; a dump does not tell for how long they had it",
        on_cpus(&usable, last),
        names.join(", ")
    );
    Some(Sentence::inferred(last, ["what the CPUs ran, and the allowed CPUs, in the dump".to_owned()], text))
}

/// CPUs that the dump leaves out.
fn left_out(pasted: &PastedEnd, end: &SchedulerEnd) -> Option<Sentence> {
    let last = end.last().filter(|last| !last.other_cpus.is_empty())?;
    if end.dump.cut || pasted.headless || !pasted.short.is_empty() || last.runqueues.runqueues.is_empty() {
        return None;
    }
    let cpus: CpuList = last.other_cpus.iter().copied().collect();
    let (s, were) = if cpus.len() == 1 { ("", "was") } else { ("s", "were") };
    let text =
        format!("CPU{s} {cpus} {were} idle with nothing runnable, or there {were} none of that number");
    let from = ["the kernel's dump leaves idle CPUs out, and so a text that was not cut".to_owned()];
    Some(Sentence::inferred(last, from, text))
}

/// What such a text does not have, and what has it.
fn not_told(pasted: &PastedEnd) -> Vec<String> {
    let mut all = Vec::new();
    if pasted.dump.is_none() {
        all.push(
            "who waited, where and on which CPUs: the dump has that, which the scheduler's process prints on stderr (`journalctl`, \
             without `-k`), and which the tracepoint sched_ext:sched_ext_dump gives"
                .to_owned(),
        );
    }
    all.push(
        "the scheduler's variables and maps, the order in queues, and what was before this moment: who ran while the task waited, how \
         queues moved, when a variable stopped. A test recorded with `cargo ktstr test` has them: `ktstr why TRACE`"
            .to_owned(),
    );
    all.push(
        "memory, cgroups, and the stacks of tasks that were not runnable: the checkpoints of such a test have them (`ktstr replay TRACE \
         --tasks --stacks`), as has a core of the machine, which drgn and crash read"
            .to_owned(),
    );
    all
}
