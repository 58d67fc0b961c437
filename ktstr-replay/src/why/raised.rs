//! Who raised the error that ended the scheduler, by the backtrace in the kernel's dump and the programs in memory.

use super::exit::at_exit;
use super::{Evidence, SchedulerEnd, Sentence};
use crate::kernel::BpfPrograms;
use crate::run::{Caller, OpenCheckpoint, backtrace};
use crate::text::escaped;

/// Functions that are named where the kernel itself raised it.
const NAMED: usize = 3;
/// How the kernel's names for BPF programs begin, before their tags.
const PROGRAM: &str = "bpf_prog_";
/// How its names for the operations of a scheduler begin, through which it calls them.
const OPERATION: &str = "bpf__sched_ext_ops_";
/// How its names for the entries of interrupts and exceptions begin, and that of one that does not begin so. Sources:
/// `arch/x86/include/asm/idtentry.h`, `arch/x86/entry/entry_64.S`.
const INTERRUPT: &str = "asm_";
/// Likewise.
const NMI: &str = "end_repeat_nmi";
/// Digits of a program's tag.
const TAG: usize = 16;

/// Who raised an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raised {
    /// The functions, the innermost first, each as the kernel prints it: `do_enqueue_task+0x13c`.
    pub frames: Vec<String>,
    /// The innermost of the scheduler's programs, if it was one.
    pub program: Option<RaisingProgram>,
}

/// The program of the scheduler that did it, or in which the kernel did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RaisingProgram {
    /// Its name, or that of the subprogram.
    pub name: String,
    /// The kernel's symbol for it.
    symbol: String,
    /// Where its call returns to.
    offset: u64,
    /// The kernel's function that it called, if it called one of the kernel's.
    pub called: Option<String>,
    /// The operation that it is run for: `enqueue`.
    pub operation: Option<String>,
    /// The source line of the call, or why it cannot be read, and the tag of the checkpoint that was asked.
    pub line: Option<(String, String)>,
}

impl Raised {
    /// Who raised it, by the kernel's dump. `None` where nobody asked for it: the watchdog found it.
    pub(super) fn of(dump: &str) -> Option<Self> {
        let callers = backtrace(dump);
        let frames = callers.iter().map(|caller| format!("{}+{:#x}", caller.name, caller.offset)).collect();
        let name = |caller: &Caller<'_>| program_name(caller.name).map(str::to_owned);
        // What an interrupt came into has not called it.
        let is_interrupt = |caller: &Caller<'_>| caller.name.starts_with(INTERRUPT) || caller.name == NMI;
        let at = callers
            .iter()
            .take_while(|caller| !is_interrupt(caller))
            .position(|caller| program_name(caller.name).is_some());
        let program = at.and_then(|at| {
            let caller = callers.get(at)?;
            let outer = callers.get(at + 1..).unwrap_or_default();
            let operation = outer.iter().find_map(|caller| caller.name.strip_prefix(OPERATION));
            Some(RaisingProgram {
                name: name(caller)?,
                symbol: caller.name.to_owned(),
                offset: caller.offset,
                called: at.checked_sub(1).and_then(|inner| callers.get(inner)).map(|f| f.name.to_owned()),
                operation: operation.map(str::to_owned),
                line: None,
            })
        });
        (!callers.is_empty()).then_some(Self { frames, program })
    }

    /// Look the program's source line up in the memory of `checkpoint`. Where that cannot be read, the rest is known nevertheless.
    pub(super) fn find_line(&mut self, checkpoint: &OpenCheckpoint<'_>) {
        let Some(program) = &mut self.program else { return };
        let view = checkpoint.kernel();
        let line = match BpfPrograms::read(&view) {
            Ok(programs) => programs.line_of_call(&view, &program.symbol, program.offset),
            Err(why) => Err(why),
        };
        let line = line.unwrap_or_else(|why| Some(format!("its line cannot be read: {why}")));
        program.line = line.map(|line| (line, checkpoint.tag().to_owned()));
    }
}

/// The name of a program, by the kernel's symbol for its code: of `bpf_prog_0123456789abcdef_demo_enqueue`.
fn program_name(symbol: &str) -> Option<&str> {
    let (tag, name) = symbol.strip_prefix(PROGRAM)?.split_at_checked(TAG)?;
    let is_tag = tag.bytes().all(|digit| digit.is_ascii_hexdigit());
    name.strip_prefix('_').filter(|name| is_tag && !name.is_empty())
}

/// The sentences about it.
pub(crate) fn raised(end: &SchedulerEnd) -> Vec<Sentence> {
    let Some(raised) = &end.raised else { return Vec::new() };
    let mut sentences = vec![by_whom(raised, end)];
    sentences.extend(end.raised_on().map(|trigger| {
        let (comm, pid) = &trigger.task;
        let on = trigger.cpu.map_or_else(
            || "on the CPU that raised it".to_owned(),
            |cpu| format!("on CPU {cpu}, which raised it"),
        );
        at_exit(end, format!("{}[{pid}] ran {on}, when the kernel made its dump there", escaped(comm)))
    }));
    sentences
}

fn by_whom(raised: &Raised, end: &SchedulerEnd) -> Sentence {
    let Some(program) = &raised.program else {
        let named: Vec<_> = raised.frames.iter().take(NAMED).map(|frame| escaped(frame)).collect();
        let text = format!(
            "the kernel raised it in {}, not in a call of the scheduler's",
            named.join(", called by ")
        );
        return at_exit(end, text);
    };
    let mut text = format!("it was raised in the scheduler's program {}", escaped(&program.name));
    if let Some(operation) = &program.operation {
        text.push_str(&format!(", run for {}", escaped(operation)));
    }
    if let Some(called) = &program.called {
        text.push_str(&format!(", by {}", escaped(called)));
    }
    let mut sentence = at_exit(end, text);
    if let Some((line, tag)) = &program.line {
        sentence.text.push_str(&format!(": {}", escaped(line)));
        if let Evidence::Seen(tags) = &mut sentence.evidence
            && !tags.contains(tag)
        {
            tags.push(tag.clone());
        }
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(frames: &str) -> SchedulerEnd {
        let dump = format!("Backtrace:\n  scx_vexit+0x5c/0xb0\n{frames}\nCPU states\n");
        SchedulerEnd { raised: Raised::of(&dump), ..SchedulerEnd::default() }
    }

    fn told(frames: &str) -> Vec<String> {
        raised(&end(frames)).into_iter().map(|sentence| sentence.text).collect()
    }

    const OF_A_PROGRAM: &str = "  scx_bpf_error_bstr+0x7d/0x80
  bpf_prog_0123456789abcdef_give_up+0x31/0x3f
  bpf_prog_fedcba9876543210_demo_enqueue+0x101/0x3f0
  bpf__sched_ext_ops_enqueue+0x47/0x8f
  do_enqueue_task+0x13c/0x2d0
";

    #[test]
    fn the_innermost_program_raised_it_and_its_line_is_told() {
        let words =
            "it was raised in the scheduler's program give_up, run for enqueue, by scx_bpf_error_bstr";
        assert_eq!(told(OF_A_PROGRAM), [words]);
        let mut end = end(OF_A_PROGRAM);
        let program = end.raised.as_mut().unwrap().program.as_mut().unwrap();
        program.line =
            Some(("main.bpf.c:12: scx_bpf_error(\"no\\n\");".to_owned(), "periodic_001".to_owned()));
        let [sentence] = raised(&end).try_into().unwrap();
        assert_eq!(sentence.text, format!("{words}: main.bpf.c:12: scx_bpf_error(\"no\\n\");"));
        assert_eq!(sentence.evidence, Evidence::Seen(vec!["exit".to_owned(), "periodic_001".to_owned()]));
    }

    #[test]
    fn the_kernel_itself_can_have_raised_it() {
        let frames = "  task_can_run_on_remote_rq+0x1a/0x90\n  dispatch_to_local_dsq+0x2b/0x80\n  balance_one+0x3/0x4\n  a+0x1/0x2\n";
        let words = "the kernel raised it in task_can_run_on_remote_rq+0x1a, called by dispatch_to_local_dsq+0x2b, called by \
                     balance_one+0x3, not in a call of the scheduler's";
        assert_eq!(told(frames), [words]);
    }

    #[test]
    fn an_interrupt_is_not_of_the_program_that_it_came_into() {
        for entry in ["asm_sysvec_apic_timer_interrupt", "end_repeat_nmi"] {
            let frames =
                format!("  task_can_run_on_remote_rq+0x1a/0x90\n  {entry}+0x1a/0x20\n{OF_A_PROGRAM}");
            let words = format!(
                "the kernel raised it in task_can_run_on_remote_rq+0x1a, called by {entry}+0x1a, called by "
            );
            let told = told(&frames);
            assert!(matches!(told.as_slice(), [one] if one.starts_with(&words)), "{told:?}");
        }
    }

    #[test]
    fn the_watchdog_raised_what_others_made_and_a_name_that_only_looks_like_a_program_is_none() {
        assert_eq!(told("  scx_watchdog_workfn+0x1/0x2\n  kthread+0x1/0x2\n"), [""; 0]);
        assert_eq!(told(""), [""; 0]);
        for name in [
            "bpf_prog_x",
            "bpf_prog_0123456789abcdeg_x",
            "bpf_prog_0123456789abcdef",
            "bpf_prog_0123456789abcdéf_x",
        ] {
            assert_eq!(program_name(name), None, "{name}");
        }
    }
}
