//! The stacks as text: tasks that are at the same place, together.

use super::{OpenCheckpoint, Shown};
use crate::kernel::KernelError;
use crate::kernel::task::read_tasks;
use crate::kernel::unwind::{Stack, Stacks, TaskStack, Unwinder};
use crate::text::{clean, escaped};
use crate::units::Cpu;

/// The stacks of all tasks: those that run first.
pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let kernel = checkpoint.kernel();
    let tasks = read_tasks(&kernel)?;
    let mut stacks = Unwinder::new(&kernel, checkpoint.vcpus()).all(&tasks);
    if let Some(debuginfo) = checkpoint.debuginfo() {
        debuginfo.annotate(&mut stacks);
    }
    Ok(Shown::new(lines(&stacks), &stacks.gaps, &stacks))
}

fn lines(stacks: &Stacks) -> Vec<String> {
    let mut groups: Vec<(Vec<String>, Vec<&TaskStack>)> = Vec::new();
    for task in &stacks.tasks {
        let lines = frames(&task.stack);
        match groups
            .iter_mut()
            .find(|(of, tasks)| *of == lines && tasks[0].running_on.is_none() && task.running_on.is_none())
        {
            Some((_, tasks)) => tasks.push(task),
            None => groups.push((lines, vec![task])),
        }
    }
    groups.sort_by_key(|(_, tasks)| tasks[0].running_on.is_none());
    let mut out = Vec::new();
    for (cpu, stack) in &stacks.vcpus {
        out.push(format!("CPU {cpu}{}, no task that is known", offline(stacks, *cpu)));
        out.extend(frames(stack));
    }
    for (lines, tasks) in groups {
        out.extend(tasks.iter().map(|task| title(stacks, task)));
        out.extend(lines);
    }
    out
}

fn offline(stacks: &Stacks, cpu: Cpu) -> &'static str {
    if stacks.offline.contains(&cpu) { ", which is offline" } else { "" }
}

fn title(stacks: &Stacks, task: &TaskStack) -> String {
    let on = |cpu| format!(" on CPU {cpu}{}", offline(stacks, cpu));
    let on = task.running_on.map(on).unwrap_or_default();
    clean(&format!("{} {} ({}){on}", task.pid, escaped(&task.comm), task.state))
}

/// The lines of a stack, indented.
pub(crate) fn frames(stack: &Stack) -> Vec<String> {
    stack.lines().iter().map(|line| format!("    {}", clean(line))).collect()
}
