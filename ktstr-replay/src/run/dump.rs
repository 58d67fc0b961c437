//! The kernel's dump of a scheduler's end, as far as it says who waited.
//!
//! Source: `scx_dump_state`, `scx_dump_cpu` and `scx_dump_task` in `kernel/sched/ext.c` of Linux. It is text for people, and
//! not all kernels write the same: a line that is not understood is passed over.

use crate::units::Cpu;

/// Most lines that are looked at.
const MAX_LINES: usize = 20_000;

/// What a dump says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// The CPUs, in the order of the dump.
    pub cpus: Vec<DumpCpu>,
    /// The runnable tasks, in the order of the dump.
    pub tasks: Vec<DumpTask>,
}

/// A CPU of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpCpu {
    /// CPU number.
    pub cpu: Cpu,
    /// Runnable tasks of the ext class.
    pub nr_run: u64,
    /// Command name and pid of the task that ran.
    pub curr: Option<(String, i64)>,
}

/// A runnable task of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpTask {
    /// Thread id.
    pub pid: i64,
    /// Command name.
    pub comm: String,
    /// CPU whose runqueue it was on.
    pub cpu: Cpu,
    /// It was running.
    pub running: bool,
    /// How long it had been runnable, in ms.
    pub runnable_ms: u64,
    /// The id of its queue, in hexadecimal, if it was in one.
    pub dsq: Option<u64>,
    /// Its stack as the kernel printed it, the innermost function first.
    pub stack: Vec<String>,
}

impl Dump {
    /// Read a dump.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines().take(MAX_LINES) {
            let line = line.trim();
            if let Some(cpu) = cpu(line) {
                found.cpus.push(cpu);
            } else if let (Some(curr), Some(cpu)) = (line.strip_prefix("curr="), found.cpus.last_mut()) {
                cpu.curr = curr.split(" class=").next().and_then(named);
            } else if let Some(task) = found.cpus.last().and_then(|cpu| task(line, cpu.cpu)) {
                found.tasks.push(task);
            } else if let (Some(id), Some(task)) = (field(line, "dsq_id="), found.tasks.last_mut()) {
                task.dsq = id.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok());
            } else if let Some(task) = found.tasks.last_mut().filter(|_| is_frame(line)) {
                task.stack.push(line.to_owned());
            }
        }
        found
    }

    /// The task that had waited longest for a CPU.
    #[must_use]
    pub fn longest(&self) -> Option<&DumpTask> {
        // The first of those that waited equally long: it comes first on its runqueue too.
        self.tasks.iter().rev().filter(|task| !task.running).max_by_key(|task| task.runnable_ms)
    }
}

impl DumpTask {
    /// Which queue it was in, for people.
    pub(crate) fn place(&self) -> String {
        self.dsq.map_or_else(|| "in no queue".to_owned(), |id| format!("in queue {id:#x}"))
    }
}

/// `CPU 1   : nr_run=5 flags=0x1 ...`
fn cpu(line: &str) -> Option<DumpCpu> {
    let (number, rest) = line.strip_prefix("CPU ")?.split_once(':')?;
    let nr_run = field(rest, "nr_run=")?.parse().ok()?;
    Some(DumpCpu { cpu: Cpu(number.trim().parse().ok()?), nr_run, curr: None })
}

/// `*R stalled[103] *root -1540ms`: marker, state, name, scheduler (on newer kernels), when it became runnable.
fn task(line: &str, cpu: Cpu) -> Option<DumpTask> {
    let (rest, age) = line.rsplit_once(' ')?;
    let runnable_ms =
        age.strip_suffix("ms")?.strip_prefix('-').or_else(|| age.strip_suffix("ms")?.strip_prefix('+'));
    let runnable_ms = runnable_ms?.parse().ok()?;
    let running = rest.starts_with('*');
    let rest = rest.trim_start_matches('*');
    let (state, name) = rest.split_once(' ')?;
    if state.chars().count() != 1 {
        return None;
    }
    let (comm, pid) = named(name.get(..=name.rfind(']')?)?)?;
    Some(DumpTask { pid, comm, cpu, running, runnable_ms, dsq: None, stack: Vec::new() })
}

/// `comm[pid]`; a comm may have brackets of its own.
pub(super) fn named(text: &str) -> Option<(String, i64)> {
    let (comm, pid) = text.trim().strip_suffix(']')?.rsplit_once('[')?;
    Some((comm.to_owned(), pid.parse().ok()?))
}

/// `schedule+0x2d/0xb0`.
fn is_frame(line: &str) -> bool {
    let offset = line.split_once("+0x").filter(|(name, _)| !name.is_empty() && !name.contains(' '));
    offset.is_some_and(|(_, rest)| rest.split_once("/0x").is_some_and(|(offset, _)| !offset.contains(' ')))
}

/// The word after `key`.
fn field<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    line.split_once(key)?.1.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DUMP: &str = "\
CPU 1   : nr_run=5 flags=0x1 cpu_rel=0 ksync=311
          curr=a b[x][103] class=ext_sched_class

 *R a b[x][103] *root -1540ms
      scx_state/flags=4/0x5 dsq_flags=0x0 ops_state/qseq=0/0
      sticky/holding_cpu=-1/-1 dsq_id=(n/a)

    scx_dump_cpu+0x5e1/0x630

  R old[105] -1516ms
      sticky/holding_cpu=-1/-1 dsq_id=0x1f
";

    #[test]
    fn newer_and_older_tasks_are_understood() {
        let dump = Dump::parse(DUMP);
        assert_eq!(dump.cpus, [DumpCpu { cpu: Cpu(1), nr_run: 5, curr: Some(("a b[x]".to_owned(), 103)) }]);
        let [first, second] = dump.tasks.as_slice() else { panic!("{dump:?}") };
        assert_eq!((first.comm.as_str(), first.pid, first.running), ("a b[x]", 103, true));
        assert_eq!((first.runnable_ms, first.dsq), (1540, None));
        assert_eq!(first.stack, ["scx_dump_cpu+0x5e1/0x630"]);
        assert_eq!((second.pid, second.cpu, second.runnable_ms, second.dsq), (105, Cpu(1), 1516, Some(0x1f)));
        assert_eq!(dump.longest(), Some(second));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(CPU [0-9]{0,3} ?: nr_run=[0-9]{0,22}\n| ?\\*?R ?[a\\[\\]0-9é ]{0,9} [-+][0-9]{0,22}ms\n|dsq_id=0?x?[0-9a-g]{0,20}\n){0,20}") {
            let dump = Dump::parse(&text);
            prop_assert!(dump.tasks.len() <= 20);
        }
    }
}
