//! The kernel's dump of a scheduler's end, as far as it says who waited.
//!
//! Source: `scx_dump_state`, `scx_dump_cpu` and `scx_dump_task` in `kernel/sched/ext.c` of Linux. It is text for people, and
//! not all kernels write the same: a line that is not understood is passed over.
//!
//! ```text
//! CPU 1   : nr_run=2 flags=0x1 ...                a CPU
//!           curr=rt-hog[104] class=...            what it runs
//!
//!   R stalled[103] *root -3044ms                  a task: marker, name, scheduler (on newer kernels), when it became runnable
//!       scx_state/flags=4/0xb ...                 always below it
//!       sticky/holding_cpu=-1/-1 dsq_id=0x0
//!
//!     schedule+0x2d/0xb0                          its stack
//!
//! ~~~~ TRUNCATED ~~~~                             the kernel's buffer was too small for the rest
//! ```
//!
//! Threads choose their names, of up to 15 bytes of any kind, and the kernel prints them as they are. So a task is only what stands
//! above its state, however many lines that is, and no line counts that a name can be the whole of.

use std::borrow::Cow;

use crate::kernel::task::{DsqId, Task};
use crate::text::escaped;
use crate::units::Cpu;

/// Most lines that are looked at.
const MAX_LINES: usize = 20_000;
/// Most lines that a task's name can make of its head.
const HEAD_LINES: usize = 17;
/// What the kernel writes at the end of a dump that has not all.
const CUT: &str = "~~~~ TRUNCATED ~~~~";

/// What a dump says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// The CPUs, in the order of the dump.
    pub cpus: Vec<DumpCpu>,
    /// The runnable tasks, in the order of the dump.
    pub tasks: Vec<DumpTask>,
    /// The kernel cut it: there may be more CPUs and tasks.
    pub cut: bool,
}

/// A CPU of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpCpu {
    /// CPU number.
    pub cpu: Cpu,
    /// Runnable tasks of the ext class.
    pub nr_run: u64,
    /// Command name, on one line, and pid of the task that ran.
    pub curr: Option<(String, i64)>,
}

/// A runnable task of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpTask {
    /// Thread id.
    pub pid: i64,
    /// Command name, on one line: see [`escaped`].
    pub comm: String,
    /// CPU whose runqueue it was on.
    pub cpu: Cpu,
    /// It was running.
    pub running: bool,
    /// How long it had been runnable, in ms.
    pub runnable_ms: u64,
    /// The id of its queue, if it was in one.
    pub dsq: Option<DsqId>,
    /// Its stack as the kernel printed it, the innermost function first.
    pub stack: Vec<String>,
}

impl Dump {
    /// Read a dump.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut found = Self { cut: text.trim_end().ends_with(CUT), ..Self::default() };
        // Lines that may be the head of the next task.
        let mut head: Vec<&str> = Vec::new();
        for line in text.lines().take(MAX_LINES) {
            let raw = line;
            let line = line.trim();
            if let Some(cpu) = cpu(line) {
                found.cpus.push(cpu);
            } else if let Some(curr) = line.strip_prefix("curr=")
                && let Some(cpu) = found.cpus.last_mut().filter(|cpu| cpu.curr.is_none())
                && line.contains(" class=")
            {
                cpu.curr = curr.split(" class=").next().and_then(named);
            } else if line.starts_with("scx_state/flags=") {
                found.tasks.extend(found.cpus.last().and_then(|cpu| task(&head, cpu.cpu)));
            } else if line.starts_with("sticky/holding_cpu=") {
                if let (Some(id), Some(task)) = (field(line, "dsq_id="), found.tasks.last_mut()) {
                    let number = id.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok());
                    task.dsq = number.map(DsqId::of_dump);
                }
            } else if let Some(task) = found.tasks.last_mut().filter(|_| is_frame(line)) {
                task.stack.push(line.to_owned());
            } else {
                head.push(raw);
                continue;
            }
            head.clear();
        }
        found
    }

    /// The text of a dump with the names of these tasks on one line, wherever they stand: see [`escaped`].
    pub(crate) fn names_on_one_line<'t>(text: &'t str, tasks: &[Task]) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for task in tasks {
            let shown = escaped(&task.comm);
            let raw = format!("{}[{}]", task.comm, task.pid);
            if shown != task.comm && text.contains(&raw) {
                text = Cow::Owned(text.replace(&raw, &format!("{shown}[{}]", task.pid)));
            }
        }
        text
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
        self.dsq.as_ref().map_or_else(|| "in no queue".to_owned(), |id| format!("in queue {id}"))
    }
}

/// `CPU 1   : nr_run=5 flags=0x1 ...`
fn cpu(line: &str) -> Option<DumpCpu> {
    let (number, rest) = line.strip_prefix("CPU ")?.split_once(':')?;
    let nr_run = field(rest, "nr_run=")?.parse().ok()?;
    // What a name can hold is shorter than this.
    field(rest, "flags=0x")?;
    Some(DumpCpu { cpu: Cpu(number.trim().parse().ok()?), nr_run, curr: None })
}

/// `*R stalled[103] *root -1540ms`: marker, state, name, scheduler (on newer kernels), when it became runnable. `head` ends with
/// it; a name with line breaks is on several lines.
fn task(head: &[&str], cpu: Cpu) -> Option<DumpTask> {
    let head = head.get(head.len().saturating_sub(HEAD_LINES)..)?;
    // Two blanks, or one and a mark: a blank line is before them, and a name has its own after them.
    let begin = head.iter().position(|line| is_marked(line))?;
    let head = head.get(begin..)?.join("\n");
    let (rest, age) = head.trim().rsplit_once(' ')?;
    let runnable_ms =
        age.strip_suffix("ms")?.strip_prefix('-').or_else(|| age.strip_suffix("ms")?.strip_prefix('+'));
    let runnable_ms = runnable_ms?.parse().ok()?;
    let running = rest.starts_with('*');
    let rest = rest.trim_start_matches('*');
    let (_, name) = rest.split_once(' ')?;
    let (comm, pid) = named(name.get(..=name.rfind(']')?)?)?;
    Some(DumpTask { pid, comm, cpu, running, runnable_ms, dsq: None, stack: Vec::new() })
}

/// Whether a line begins as that of a task: ` *R ` or `  S `.
fn is_marked(line: &str) -> bool {
    let rest = line.strip_prefix(" *").or_else(|| line.strip_prefix("  "));
    let mut rest = rest.unwrap_or_default().chars();
    rest.next().is_some_and(|state| state.is_ascii_alphabetic()) && rest.next() == Some(' ')
}

/// `comm[pid]`, the name on one line; it may have brackets of its own.
pub(super) fn named(text: &str) -> Option<(String, i64)> {
    let (comm, pid) = text.strip_suffix(']')?.rsplit_once('[')?;
    Some((escaped(comm), pid.parse().ok()?))
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
      scx_state/flags=3/0x9 dsq_flags=0x0 ops_state/qseq=0/0
      sticky/holding_cpu=-1/-1 dsq_id=0x1f
";

    #[test]
    fn newer_and_older_tasks_are_understood() {
        let dump = Dump::parse(DUMP);
        assert_eq!(dump.cpus, [DumpCpu { cpu: Cpu(1), nr_run: 5, curr: Some(("a b[x]".to_owned(), 103)) }]);
        let [first, second] = dump.tasks.as_slice() else { panic!("{dump:?}") };
        assert_eq!((first.comm.as_str(), first.pid, first.running), ("a b[x]", 103, true));
        assert_eq!((first.runnable_ms, &first.dsq), (1540, &None));
        assert_eq!(first.stack, ["scx_dump_cpu+0x5e1/0x630"]);
        assert_eq!((second.pid, second.cpu, second.runnable_ms), (105, Cpu(1), 1516));
        assert_eq!(second.dsq.as_ref().map(ToString::to_string).as_deref(), Some("0x1f"));
        assert_eq!(dump.longest(), Some(second));
    }

    /// As kernel 7.3 printed it, of a thread that calls itself "\nR [7] -9999ms\n".
    const HOSTILE: &str = "\
CPU 1   : nr_run=2 flags=0x1 cpu_rel=0 ksync=112
          rescue=0 budget=0us rescuing=none[-1]
          curr=rt-hog[104] class=rt_sched_class

  R \x20
R [7] -9999ms
[103] *root -3044ms
      scx_state/flags=4/0xb dsq_flags=0x0 ops_state/qseq=0/0
      sticky/holding_cpu=-1/-1 dsq_id=0x8000000000000001
      dsq_vtime=0 slice=20000000 weight=100
      cpus=2 no_mig=0

    asm_sysvec_apic_timer_interrupt+0x1a/0x20

  R kworker/1:1[33] *root -2420ms
      scx_state/flags=4/0xb dsq_fl

~~~~ TRUNCATED ~~~~
";

    #[test]
    fn a_name_that_looks_like_a_task_hides_none_and_makes_none() {
        let dump = Dump::parse(&HOSTILE.replace("R \x20", "R "));
        let [victim, cut] = dump.tasks.as_slice() else { panic!("{dump:?}") };
        assert_eq!((victim.comm.as_str(), victim.pid), ("\\nR [7] -9999ms\\n", 103));
        assert_eq!((victim.runnable_ms, victim.place().as_str()), (3044, "in queue GLOBAL"));
        assert_eq!(victim.stack.len(), 1);
        assert_eq!((cut.pid, &cut.dsq), (33, &None));
        assert!(dump.cut);
        assert_eq!(dump.cpus[0].curr, Some(("rt-hog".to_owned(), 104)));
    }

    #[test]
    fn no_name_of_fifteen_bytes_makes_a_cpu_or_a_task_or_moves_one() {
        for name in
            ["\nCPU 9:nr_run=1", "\ncurr=a[7]\n", "\ndsq_id=0x99\n", "\n  R x[7] -9ms", "\na+0x1/0x2\n"]
        {
            let dump = Dump::parse(&HOSTILE.replace("R \x20\nR [7] -9999ms\n", &format!("R {name}")));
            assert_eq!(dump.cpus.len(), 1, "{name:?}: {dump:?}");
            assert!(dump.tasks.iter().all(|task| [103, 33].contains(&task.pid)), "{name:?}: {dump:?}");
            assert!(dump.tasks.iter().all(|task| task.runnable_ms > 2000), "{name:?}: {dump:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(CPU [0-9]{0,3} ?: nr_run=[0-9]{0,22}\n| ?\\*?R ?[a\\[\\]0-9é ]{0,9} [-+][0-9]{0,22}ms\n|dsq_id=0?x?[0-9a-g]{0,20}\n){0,20}") {
            let dump = Dump::parse(&text);
            prop_assert!(dump.tasks.len() <= 20);
        }
    }
}
