//! The kernel's dump of a scheduler's end, as far as it says who waited.
//!
//! Source: `scx_dump_state`, `scx_dump_cpu` and `scx_dump_task` in `kernel/sched/ext.c` of Linux. It is text for people, and
//! not all kernels write the same: a line that is not understood is passed over.
//!
//! ```text
//! rt-hog[104] triggered exit kind 1025 on CPU 1:  who ran when the dump was made (the CPU on newer kernels)
//!
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

use super::Caller;
use crate::kernel::task::{DsqId, Task};
use crate::text::escaped;
use crate::units::{Cpu, CpuList};

/// Most lines that are looked at.
const MAX_LINES: usize = 20_000;
/// Most lines that a task's name can make of its head.
const HEAD_LINES: usize = 17;
/// Most CPUs that there are: `NR_CPUS` of distribution kernels.
const MAX_CPUS: u32 = 8192;
/// Most words of a CPU mask that are looked at.
const MAX_MASK_WORDS: u32 = MAX_CPUS / 32;
/// What the kernel writes at the end of a dump that has not all.
const CUT: &str = "~~~~ TRUNCATED ~~~~";

/// What a dump says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// What ran when it was made.
    pub trigger: Option<DumpTrigger>,
    /// The CPUs, in the order of the dump.
    pub cpus: Vec<DumpCpu>,
    /// The runnable tasks, in the order of the dump.
    pub tasks: Vec<DumpTask>,
    /// The kernel cut it: there may be more CPUs and tasks.
    pub cut: bool,
}

/// The first line of a dump. The kernel makes the dump in an interrupt that it asks for where it ends the scheduler, on the same CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpTrigger {
    /// Command name, on one line, and pid of the task that ran on that CPU when the dump was made.
    pub task: (String, i64),
    /// Exit kind.
    pub kind: u64,
    /// The CPU that the exit is of; `None` on kernels that do not say it.
    pub cpu: Option<Cpu>,
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
    /// The class of that task: `ext`, `rt`, `idle`, ...
    pub curr_class: Option<String>,
}

/// A runnable task of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpTask {
    /// Thread id.
    pub pid: i64,
    /// Command name, on one line: see [`escaped`].
    pub comm: String,
    /// CPU whose runqueue it was on; `None` where the dump lacks the line of that CPU.
    pub cpu: Option<Cpu>,
    /// It was running.
    pub running: bool,
    /// How long it had been runnable, in ms.
    pub runnable_ms: u64,
    /// The id of its queue, if it was in one.
    pub dsq: Option<DsqId>,
    /// That queue gives its tasks by vtime (`SCX_TASK_DSQ_ON_PRIQ` of `include/linux/sched/ext.h`).
    pub by_vtime: bool,
    /// Who had it: `NONE`, `QUEUEING`, `QUEUED` (the BPF scheduler), `DISPATCHING`.
    pub ops_state: Option<&'static str>,
    /// Its vtime.
    pub vtime: Option<u64>,
    /// Which CPUs it might run on.
    pub cpus_allowed: Option<CpuList>,
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
        // Whether what is below is of the last task: not if the head above it was not understood.
        let mut in_task = false;
        for (number, line) in text.lines().enumerate() {
            if number == MAX_LINES {
                found.cut = true;
                break;
            }
            let raw = line;
            let line = line.trim();
            if found.trigger.is_none()
                && found.cpus.is_empty()
                && let Some(trigger) = trigger(line)
            {
                found.trigger = Some(trigger);
            } else if let Some(cpu) = cpu(line) {
                found.cpus.push(cpu);
                in_task = false;
            } else if let Some(curr) = line.strip_prefix("curr=")
                && let Some(cpu) = found.cpus.last_mut().filter(|cpu| cpu.curr.is_none())
                && line.contains(" class=")
            {
                cpu.curr = curr.split(" class=").next().and_then(named);
                cpu.curr_class = field(line, " class=").map(class);
            } else if line.starts_with("scx_state/flags=") {
                let task = task(&head, found.cpus.last().map(|cpu| cpu.cpu));
                in_task = task.is_some();
                found.tasks.extend(task);
                if let Some(task) = found.tasks.last_mut().filter(|_| in_task) {
                    task.state_line(line);
                }
            } else if let Some(task) = found.tasks.last_mut().filter(|_| in_task)
                && task.line_below(line)
            {
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
    /// `scx_state/flags=4/0xb dsq_flags=0x0 ops_state/qseq=0/0`
    fn state_line(&mut self, line: &str) {
        // The names of `enum scx_ops_state` of `kernel/sched/ext/internal.h`, in its order.
        const OPS_STATES: [&str; 4] = ["NONE", "QUEUEING", "QUEUED", "DISPATCHING"];
        self.by_vtime = field(line, "dsq_flags=").and_then(hex).is_some_and(|flags| flags & 1 != 0);
        let state = field(line, "ops_state/qseq=").and_then(|text| text.split('/').next());
        let state = state.and_then(|number| number.parse::<usize>().ok());
        self.ops_state = state.and_then(|state| OPS_STATES.get(state)).copied();
    }

    /// Take one of the lines that stand below that of the state; says whether it is one.
    fn line_below(&mut self, line: &str) -> bool {
        if line.starts_with("sticky/holding_cpu=") {
            let id = field(line, "dsq_id=").filter(|id| id.starts_with("0x")).and_then(hex);
            self.dsq = id.map(DsqId::of_dump).or(self.dsq.take());
            self.vtime = field(line, "dsq_vtime=").and_then(|text| text.parse().ok()).or(self.vtime);
        } else if let Some(vtime) = line.strip_prefix("dsq_vtime=") {
            self.vtime = vtime.split_whitespace().next().and_then(|text| text.parse().ok());
        } else if let Some(mask) = line.strip_prefix("cpus=").filter(|_| self.stack.is_empty()) {
            self.cpus_allowed = mask.split_whitespace().next().and_then(cpu_mask);
        } else if frame(line).is_some() {
            self.stack.push(line.to_owned());
        } else {
            return false;
        }
        true
    }

    /// Which queue it was in, for people.
    pub(crate) fn place(&self) -> String {
        self.dsq.as_ref().map_or_else(|| "in no queue".to_owned(), |id| format!("in queue {id}"))
    }
}

/// `kworker/u8:0[12] triggered exit kind 1026 on CPU 3:`
pub(crate) fn trigger(line: &str) -> Option<DumpTrigger> {
    let (task, rest) = line.trim().rsplit_once(" triggered exit kind ")?;
    let rest = rest.strip_suffix(':')?;
    let (kind, cpu) = match rest.split_once(" on CPU ") {
        Some((kind, cpu)) => (kind, Some(Cpu(cpu.parse().ok().filter(|cpu| *cpu < MAX_CPUS)?))),
        None => (rest, None),
    };
    Some(DumpTrigger { task: named(task)?, kind: kind.parse().ok()?, cpu })
}

/// `CPU 1   : nr_run=5 flags=0x1 ...`
fn cpu(line: &str) -> Option<DumpCpu> {
    let (number, rest) = line.strip_prefix("CPU ")?.split_once(':')?;
    let nr_run = field(rest, "nr_run=")?.parse().ok()?;
    // What a name can hold is shorter than this.
    field(rest, "flags=0x")?;
    // Whoever counts up to the highest number has an end.
    let number = number.trim().parse::<u32>().ok().filter(|number| *number < MAX_CPUS)?;
    Some(DumpCpu { cpu: Cpu(number), nr_run, curr: None, curr_class: None })
}

/// `ext_sched_class` is `ext`.
fn class(symbol: &str) -> String {
    escaped(symbol.strip_suffix("_sched_class").unwrap_or(symbol))
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// The CPUs of a mask as the kernel prints it: `f`, `3,ffffffff`, in words of 32 bits, the highest first.
fn cpu_mask(text: &str) -> Option<CpuList> {
    let mut cpus = Vec::new();
    for (word, digits) in (0u32..MAX_MASK_WORDS).zip(text.rsplit(',')) {
        let bits = u32::from_str_radix(digits, 16).ok()?;
        cpus.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| Cpu(word * 32 + bit)));
    }
    Some(cpus.into_iter().collect())
}

/// `*R stalled[103] *root -1540ms`: marker, state, name, scheduler (on newer kernels), when it became runnable. `head` ends with
/// it; a name with line breaks is on several lines.
fn task(head: &[&str], cpu: Option<Cpu>) -> Option<DumpTask> {
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
    Some(DumpTask {
        pid,
        comm,
        cpu,
        running,
        runnable_ms,
        dsq: None,
        by_vtime: false,
        ops_state: None,
        vtime: None,
        cpus_allowed: None,
        stack: Vec::new(),
    })
}

/// Whether a line begins as that of a task: ` *R ` or `  S `.
fn is_marked(line: &str) -> bool {
    let rest = line.strip_prefix(" *").or_else(|| line.strip_prefix("  "));
    let mut rest = rest.unwrap_or_default().chars();
    rest.next().is_some_and(|state| state.is_ascii_alphabetic()) && rest.next() == Some(' ')
}

/// `comm[pid]`, the name on one line; it may have brackets of its own.
pub(crate) fn named(text: &str) -> Option<(String, i64)> {
    let (comm, pid) = text.strip_suffix(']')?.rsplit_once('[')?;
    Some((escaped(comm), pid.parse().ok()?))
}

/// The function of a line of a stack, and where in it: of `schedule+0x2d/0xb0`.
pub(super) fn frame(line: &str) -> Option<Caller<'_>> {
    let (name, rest) = line.split_once("+0x").filter(|(name, _)| !name.is_empty() && !name.contains(' '))?;
    let (offset, _) = rest.split_once("/0x")?;
    Some(Caller { name, offset: u64::from_str_radix(offset, 16).ok()? })
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
        let curr = Some(("a b[x]".to_owned(), 103));
        let cpu = DumpCpu { cpu: Cpu(1), nr_run: 5, curr, curr_class: Some("ext".to_owned()) };
        assert_eq!(dump.cpus, [cpu]);
        let [first, second] = dump.tasks.as_slice() else { panic!("{dump:?}") };
        assert_eq!((first.comm.as_str(), first.pid, first.running), ("a b[x]", 103, true));
        assert_eq!((first.runnable_ms, &first.dsq), (1540, &None));
        assert_eq!(first.stack, ["scx_dump_cpu+0x5e1/0x630"]);
        assert_eq!((second.pid, second.cpu, second.runnable_ms), (105, Some(Cpu(1)), 1516));
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
    fn the_first_line_says_what_ran_when_it_was_made() {
        let found = trigger("a b[x][12] triggered exit kind 1026 on CPU 3:").expect("a trigger");
        assert_eq!((found.task, found.kind, found.cpu), (("a b[x]".to_owned(), 12), 1026, Some(Cpu(3))));
        let older = trigger("x[1] triggered exit kind 65:").expect("a trigger");
        assert_eq!((older.kind, older.cpu), (65, None));
        for wrong in ["x[1] triggered exit kind many:", "x[1] triggered exit kind 65 on CPU 99999:"] {
            assert_eq!(trigger(wrong), None, "{wrong}");
        }
        let dump = Dump::parse("demo: root\nx[1] triggered exit kind 1025 on CPU 1:\n  it said so\n");
        assert_eq!(dump.trigger.map(|found| found.task), Some(("x".to_owned(), 1)));
    }

    /// All CPUs up to the highest were listed.
    #[test]
    fn a_number_that_no_cpu_has_is_none() {
        let with = |number: u32| Dump::parse(&format!("CPU {number}: nr_run=1 flags=0x1\n")).cpus.len();
        assert_eq!((with(8191), with(8192), with(u32::MAX)), (1, 0, 0));
    }

    #[test]
    fn cpu_masks_are_read_as_the_kernel_prints_them() {
        let text = |mask| cpu_mask(mask).map(|cpus| cpus.to_string());
        assert_eq!(text("2").as_deref(), Some("1"));
        assert_eq!(text("3,80000001").as_deref(), Some("0,31-33"));
        assert_eq!(text("fff").as_deref(), Some("0-11"));
        assert_eq!(text("x"), None);
    }

    #[test]
    fn a_name_that_looks_like_a_task_hides_none_and_makes_none() {
        let dump = Dump::parse(&HOSTILE.replace("R \x20", "R "));
        let [victim, cut] = dump.tasks.as_slice() else { panic!("{dump:?}") };
        assert_eq!((victim.comm.as_str(), victim.pid), ("\\nR [7] -9999ms\\n", 103));
        assert_eq!((victim.runnable_ms, victim.place().as_str()), (3044, "in queue GLOBAL"));
        assert_eq!(victim.cpus_allowed.as_ref().map(ToString::to_string).as_deref(), Some("1"));
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
