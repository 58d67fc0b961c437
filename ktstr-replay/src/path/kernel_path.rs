//! Places in the kernel's memory, as claims name them: `kernel.(u64)jiffies_64`, `rq[1].curr->pid`,
//! `task[comm=stress-ng].scx.dsq_vtime`, `dsq[0x1].nr`, `scheduler(/below)->exit_kind`.
//!
//! They are read out of checkpoints, by [`crate::kernel::query`].

use std::fmt;

use super::error::SyntaxError;
use super::field::{FieldPath, c_type, write_cast};
use super::lex::TokenKind;
use super::parse::Parser;
use super::rows::word;
use super::scheduler_path::SchedulerName;
use crate::units::Cpu;

/// A number somewhere in the kernel's memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelPath {
    /// The object where it begins.
    pub root: Root,
    /// What follows.
    pub rest: FieldPath,
}

/// An object of the kernel that can be named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Root {
    /// A symbol.
    Symbol {
        /// Its name in kallsyms.
        name: String,
        /// Its type in C's words, as `struct rq` or `u64`; `None` where the kernel's BTF or our own list says it.
        cast: Option<String>,
        /// For per-CPU symbols, whose copy.
        cpu: Option<Cpu>,
    },
    /// `struct rq` of a CPU.
    Rq(Cpu),
    /// `struct task_struct` of a thread.
    Task(TaskKey),
    /// `struct scx_dispatch_q`.
    Dsq {
        /// The queue's id.
        id: u64,
        /// Whose it is, where several schedulers have one of that id; as paths name a scheduler.
        of: Option<String>,
    },
    /// A pointer to the `struct scx_sched` of a scheduler, as paths name one.
    Scheduler(String),
}

/// How a task is named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TaskKey {
    /// By the pid of the thread.
    Pid(u32),
    /// By its name, which one thread alone may have.
    Comm(String),
}

impl KernelPath {
    /// What follows `kernel.`.
    pub(crate) fn parse_symbol(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let mut cast = if p.eat("(") { Some(c_type(p, ")")?) } else { None };
        let (name, _) = p.ident("the name of a kernel symbol, or its type in parentheses")?;
        if cast.is_none() && p.eat(":") {
            cast = Some(p.ident("a type, such as `u64`")?.0);
        }
        let (cpu, rest) = FieldPath::parse_on_cpu(p)?;
        Ok(Self { root: Root::Symbol { name, cast, cpu }, rest })
    }

    /// What follows `rq[1].field` where the field is none of a sample's, or `rq[1]` where none follows.
    pub(crate) fn parse_rq(p: &mut Parser<'_>, cpu: Cpu, field: String) -> Result<Self, SyntaxError> {
        let mut rest = FieldPath::of_name(field);
        rest.parse_more(p)?;
        Ok(Self { root: Root::Rq(cpu), rest })
    }

    /// What follows `task[`.
    pub(crate) fn parse_task(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let key = if p.eat_word("comm") {
            p.expect("=")?;
            let comm = match p.peek() {
                TokenKind::Quoted(name) => name.clone(),
                _ => p.raw_until("]"),
            };
            if comm.is_empty() {
                return Err(p.expected("the name of a task, in quotes if it is not made of words"));
            }
            p.advance();
            TaskKey::Comm(comm)
        } else {
            TaskKey::Pid(p.index("a pid, or `comm=` and a name")?)
        };
        Self::object(p, Root::Task(key))
    }

    /// What follows `dsq[`.
    pub(crate) fn parse_dsq(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let id = p.index("the id of a dispatch queue")?;
        Self::object(p, Root::Dsq { id, of: None })
    }

    /// What follows `scheduler(/below)`, from the arrow on.
    pub(super) fn parse_scheduler(p: &mut Parser<'_>, name: String) -> Result<Self, SyntaxError> {
        let mut rest = FieldPath::default();
        rest.parse_more(p)?;
        Ok(Self { root: Root::Scheduler(name), rest })
    }

    fn object(p: &mut Parser<'_>, root: Root) -> Result<Self, SyntaxError> {
        p.expect("]")?;
        let mut rest = FieldPath::default();
        rest.parse_more(p)?;
        if rest.steps().is_empty() {
            return Err(p.expected("`.` and a field"));
        }
        Ok(Self { root, rest })
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol { name, cast, cpu } => {
                f.write_str("kernel.")?;
                if let Some(cast) = cast {
                    write!(f, "({cast})")?;
                }
                f.write_str(name)?;
                cpu.map_or(Ok(()), |cpu| write!(f, ".cpu({cpu})"))
            }
            Self::Rq(cpu) => write!(f, "rq[{cpu}]"),
            Self::Task(TaskKey::Pid(pid)) => write!(f, "task[{pid}]"),
            Self::Task(TaskKey::Comm(comm)) => write!(f, "task[comm={}]", word(comm)),
            Self::Dsq { id, of } => {
                if let Some(name) = of {
                    write!(f, "{}.", SchedulerName(name))?;
                }
                write!(f, "dsq[{id:#x}]")
            }
            Self::Scheduler(name) => SchedulerName(name).fmt(f),
        }
    }
}

impl fmt::Display for KernelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_cast(f, &self.root.to_string(), self.rest.steps())
    }
}

#[cfg(test)]
mod tests {
    use crate::path::{Projection, SyntaxError};

    #[test]
    fn every_form_parses_and_prints() {
        for text in [
            "kernel.scx_watchdog_timestamp",
            "kernel.(u64)jiffies_64",
            "kernel.(struct scx_sched *)scx_root->ops.timeout_ms",
            "kernel.(struct rq)runqueues.cpu(1).nr_running",
            "kernel.init_task.tasks.next->next",
            "rq[1].scx.flags",
            "rq[0].curr->se.sum_exec_runtime",
            "task[105].scx.dsq_vtime",
            "task[comm=stress].scx.dsq_vtime",
            "task[comm=\"stress-ng\"].prio",
            "task[comm=\"kworker/0:1\"]->x",
            "dsq[0x1].nr",
            "scheduler(/below)->exit_kind",
        ] {
            let parsed: Projection = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert!(matches!(parsed, Projection::Kernel(_)), "{text}");
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn other_ways_to_write_it_print_in_the_one_form() {
        for (text, printed) in [
            ("kernel.jiffies_64:u64", "kernel.(u64)jiffies_64"),
            ("kernel.( struct  rq * )x", "kernel.(struct rq *)x"),
            ("kernel.(char**)x", "kernel.(char **)x"),
            ("task[comm=stress-ng].prio", "task[comm=\"stress-ng\"].prio"),
            ("dsq[1].nr", "dsq[0x1].nr"),
        ] {
            let parsed: Projection = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert_eq!(parsed.to_string(), printed);
            assert_eq!(printed.parse(), Ok(parsed));
        }
    }

    #[test]
    fn faults_are_pointed_at() {
        for (text, at) in [
            ("kernel.", 7..7),
            ("kernel.(u64", 11..11),
            ("kernel.(u64 * x)y", 14..15),
            ("kernel.x:", 9..9),
            ("kernel.x->", 10..10),
            ("task[]", 5..6),
            ("task[comm=].x", 10..11),
            ("task[1]", 7..7),
            ("dsq[x].nr", 4..5),
            ("rq[1].scx.[2]", 10..11),
        ] {
            let error = text.parse::<Projection>().expect_err(text);
            assert_eq!(error.span, at, "{}", error.render());
        }
    }
}
