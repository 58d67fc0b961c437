//! What a claim is about: the number that it takes from each sample.

use std::fmt;

use super::error::SyntaxError;
use super::field::{FieldPath, Step, parse_casts, write_cast};
use super::kernel_path::KernelPath;
use super::lex::TokenKind;
use super::map_path::MapPath;
use super::parse::{Parser, names};
use super::payload_path::PayloadPath;
use super::rows::{Aggregate, CellPath, RowsPath, TableName};
use super::scheduler_path::{self, SchedulerName};
use super::stats_path::StatsPath;
use super::watch_path::WatchPath;
use crate::units::Cpu;

/// What is read from each sample.
///
/// | text | what it reads |
/// |---|---|
/// | `nr_dispatched`, `stats.nr[2]`, `bss.x` | a variable of the scheduler's global data |
/// | `map(ctrs).at(0).hits` | a field of an array map's entry |
/// | `map(tasks).key(42).vtime` | a field of a hash map's entry, by a whole-number key |
/// | `map(stats).at(STAT_HITS)`, `hist[SLOT_MAX]` | the same by an enumerator of the program |
/// | `(s64)x`, `((struct ctx *)map(m).key(1).data)->vtime` | the same as another type |
/// | `map(pcpu).at(0).cpu(1).nr` | one CPU's value of a per-CPU map |
/// | `cpu_sum(map(pcpu).at(0).nr)`, `cpu_min`, `cpu_max` | all CPUs' values of it as one number |
/// | `rq[1].nr_running`, `cpu_max(rq.local_dsq_nr)` | a field of one runqueue, or of all as one number |
/// | `scx.nr_rejected` | a field of sched_ext's state |
/// | `kernel.SYMBOL`, `kernel.(TYPE)SYMBOL.field`, `rq[1].curr->pid`, `task[105].prio`, `dsq[0x1].nr` | the kernel's memory, where a checkpoint was taken |
/// | `task_ctx->vtime` | what a scheduler's pointer points at, where a checkpoint was taken |
/// | `max(tasks.runnable_ms where class == ext)`, `dsqs[0x1].nr` | rows and cells of the views' tables, where a checkpoint was taken |
/// | `count(root)`, `root[0].pid` | the nodes of a program's tree or list, where a checkpoint was taken |
/// | `payload(fio).jobs.0.read.iops` | a metric of the run of a payload that had ended last; in claims and `--var` |
/// | `alive` | whether a scheduler was enabled |
/// | `scheduler(/below).nr_enqueued`, `scheduler(/).map(ctrs).at(0)`, `scheduler(/below).dsq[0x1].nr` | the same of one of several schedulers, by the cgroup that it schedules |
/// | `scheduler(/below)->exit_kind` | what the kernel keeps of that scheduler: a field of its `struct scx_sched` |
/// | `stats(top).nr_migrations` | a member of the statistics that the scheduler serves |
/// | `watch("bss.x").new`, `.old`, `.fires`, `.cpu` | the last fire of a watch, or how many there were; in claims and `--var` |
///
/// ```
/// use ktstr_replay::path::{Projection, SyntaxError};
///
/// let projection: Projection = "map(pcpu).at(0).cpu(1).hist[0x10]".parse()?;
/// assert_eq!(projection.to_string(), "map(pcpu).at(0).cpu(1).hist[16]");
/// # Ok::<(), SyntaxError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Projection {
    /// A variable of the scheduler, or a part of it.
    Var(FieldPath),
    /// A map's entry.
    Map(MapPath),
    /// One CPU's value of a per-CPU map's entry.
    MapOnCpu(MapPath, Cpu),
    /// All CPUs' values of a per-CPU map's entry, folded into one.
    MapFolded(Fold, MapPath),
    /// A field of one runqueue.
    Rq(Cpu, RqField),
    /// A field of all runqueues, folded into one.
    RqFolded(Fold, RqField),
    /// A field of sched_ext's state.
    Scx(ScxField),
    /// A number of the kernel's memory, out of the checkpoint of each capture.
    Kernel(KernelPath),
    /// The rows of a table, folded into one number.
    Rows(Aggregate, RowsPath),
    /// One cell of a table.
    Cell(CellPath),
    /// How many nodes a program's tree or list has.
    Count(Box<Projection>),
    /// A number as another type, in C's words. Only of those that have no path of fields, whose casts are steps of it.
    Cast(String, Box<Projection>),
    /// A metric of a payload.
    Payload(PayloadPath),
    /// Whether a scheduler was enabled.
    Alive,
    /// What a closure of the test made; by label, since only the test binary can make it again.
    Closure(String),
    /// A member of the statistics that the scheduler served.
    Stats(StatsPath),
    /// What a watch had seen.
    Watch(WatchPath),
    /// A variable or a map's entry of one of several schedulers, which is named as
    /// [`Snapshot::of_scheduler`](crate::value::Snapshot::of_scheduler) has it.
    OfScheduler(String, Box<Projection>),
}

names! {
    /// How the values of all CPUs become one.
    Fold {
        /// Their sum.
        Sum = "cpu_sum",
        /// The least.
        Min = "cpu_min",
        /// The greatest.
        Max = "cpu_max",
    }
}

names! {
    /// A number of a runqueue; see [`CpuState`](crate::trace::record::CpuState).
    RqField {
        /// Runnable tasks of all classes.
        NrRunning = "nr_running",
        /// Runnable tasks of the ext class.
        ScxNrRunning = "scx_nr_running",
        /// Tasks in the local dispatch queue.
        LocalDsqNr = "local_dsq_nr",
        /// `scx_rq.flags`.
        ScxFlags = "scx_flags",
        /// The runqueue's clock, in ns.
        ClockNs = "clock_ns",
        /// Pid of the running task.
        CurrPid = "curr_pid",
    }
}

names! {
    /// A number of sched_ext's state; see [`ScxState`](crate::trace::record::ScxState).
    ScxField {
        /// `scx_exit_kind`, 0 while the scheduler runs.
        ExitKind = "exit_kind",
        /// The scheduler's exit code.
        ExitCode = "exit_code",
        /// Times a scheduler was enabled since boot.
        EnableSeq = "enable_seq",
        /// Depth of bypass mode.
        BypassDepth = "bypass_depth",
        /// Tasks that were refused.
        NrRejected = "nr_rejected",
        /// Watchdog timeout, in ns.
        WatchdogTimeoutNs = "watchdog_timeout_ns",
    }
}

impl Projection {
    /// Read one where the parser stands, with the casts before it.
    pub(crate) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let casts = parse_casts(p)?;
        let inner = if p.enter_group()? {
            let inner = Self::parse(p)?;
            p.expect(")")?;
            p.leave_group();
            let mut more = FieldPath::default();
            more.parse_more(p)?;
            inner.then(p, more.steps().to_vec())?
        } else {
            Self::parse_plain(p)?
        };
        inner.then(p, casts)
    }

    /// The same with further steps, which were just read.
    fn then(self, p: &Parser<'_>, steps: Vec<Step>) -> Result<Self, SyntaxError> {
        let more = |mut path: MapPath, steps| {
            path.field = path.field.then(steps);
            path
        };
        Ok(match self {
            Self::Var(path) => Self::Var(path.then(steps)),
            Self::Map(path) => Self::Map(more(path, steps)),
            Self::MapOnCpu(path, cpu) => Self::MapOnCpu(more(path, steps), cpu),
            Self::OfScheduler(name, of) => Self::OfScheduler(name, Box::new(of.then(p, steps)?)),
            Self::Kernel(KernelPath { root, rest }) => {
                Self::Kernel(KernelPath { root, rest: rest.then(steps) })
            }
            mut number => {
                for step in steps {
                    let Step::Cast(words) = step else {
                        return Err(p.expected("nothing more: this is a number, which has no parts"));
                    };
                    number = Self::Cast(words, Box::new(number));
                }
                number
            }
        })
    }

    fn parse_plain(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        // A name in quotes always names a variable.
        let quoted = matches!(p.peek(), TokenKind::Quoted(_));
        let name = p.name("a variable, `map(..)`, `rq[..]`, `scx.` or `alive`")?;
        let called = !quoted && *p.peek() == TokenKind::Sign("(");
        if let (true, Some((_, fold))) = (called, Fold::ALL.iter().find(|(n, _)| *n == name)) {
            p.expect("(")?;
            let inner = Self::parse_folded(p, *fold)?;
            p.expect(")")?;
            return Ok(inner);
        }
        if let (true, Some((_, of))) = (called, Aggregate::ALL.iter().find(|(n, _)| *n == name)) {
            p.expect("(")?;
            let inner = Self::parse_aggregate(p, *of)?;
            p.expect(")")?;
            return Ok(inner);
        }
        if called && name == "map" {
            return Self::parse_map(p);
        }
        if called && name == "payload" {
            return PayloadPath::parse(p).map(Self::Payload);
        }
        if called && name == "stats" {
            return StatsPath::parse(p).map(Self::Stats);
        }
        if called && name == "watch" {
            return WatchPath::parse(p).map(Self::Watch);
        }
        if called && name == "scheduler" {
            return scheduler_path::parse(p);
        }
        match name.as_str() {
            _ if quoted => Self::parse_var(p, name),
            "alive" if !matches!(p.peek(), TokenKind::Sign("." | "[" | "->")) => Ok(Self::Alive),
            "scx" if p.eat(".") => Ok(Self::Scx(p.name_of("sched_ext field", ScxField::ALL)?)),
            "rq" if p.eat("[") => {
                let cpu = Cpu(p.index("a CPU number")?);
                p.expect("]")?;
                p.expect(".")?;
                let field = p.name("a field of the runqueue")?;
                let known = RqField::ALL.iter().find(|(name, _)| *name == field);
                // A sample's own field, unless it goes on: those are numbers.
                match known.filter(|_| !matches!(p.peek(), TokenKind::Sign("." | "[" | "->"))) {
                    Some((_, known)) => Ok(Self::Rq(cpu, *known)),
                    None => KernelPath::parse_rq(p, cpu, field).map(Self::Kernel),
                }
            }
            "kernel" if p.eat(".") => KernelPath::parse_symbol(p).map(Self::Kernel),
            "task" if p.eat("[") => KernelPath::parse_task(p).map(Self::Kernel),
            "dsq" if p.eat("[") => KernelPath::parse_dsq(p).map(Self::Kernel),
            _ => match TableName::of_word(&name).filter(|_| p.eat("[")) {
                Some(table) => CellPath::parse(p, table).map(Self::Cell),
                None => Self::parse_var(p, name),
            },
        }
    }

    /// What stands between the parentheses of `cpu_sum(..)`.
    fn parse_folded(p: &mut Parser<'_>, fold: Fold) -> Result<Self, SyntaxError> {
        if matches!(p.peek(), TokenKind::Ident(name) if name == "rq") {
            p.advance();
            p.expect(".")?;
            return Ok(Self::RqFolded(fold, p.name_of("runqueue field", RqField::ALL)?));
        }
        let what = format!("`map(..)` or `rq.` inside of `{}`", fold.name());
        match p.peek() {
            TokenKind::Sign("(") => {}
            TokenKind::Ident(name) if name == "map" => {}
            _ => return Err(p.expected(what)),
        }
        match Self::parse(p)? {
            Self::Map(path) => Ok(Self::MapFolded(fold, path)),
            _ => Err(p.expected(what)),
        }
    }

    /// What stands between the parentheses of `max(..)`.
    fn parse_aggregate(p: &mut Parser<'_>, of: Aggregate) -> Result<Self, SyntaxError> {
        let table = match p.peek() {
            TokenKind::Ident(name) if name != "cgroup" => TableName::of_word(name),
            _ => None,
        };
        if let Some(table) = table {
            p.advance();
            return Ok(Self::Rows(of, RowsPath::parse(p, table, of)?));
        }
        if of != Aggregate::Count {
            let tables: Vec<_> = TableName::ALL.iter().map(|(name, _)| *name).collect();
            return Err(p.expected(format!("a table: {}", tables.join(", "))));
        }
        match Self::parse(p)? {
            path @ (Self::Var(_) | Self::Map(_) | Self::MapOnCpu(..) | Self::Kernel(_)) => {
                Ok(Self::Count(Box::new(path)))
            }
            _ => Err(p.expected("a table, or a program's tree or list, before this")),
        }
    }

    fn parse_var(p: &mut Parser<'_>, name: String) -> Result<Self, SyntaxError> {
        let mut path = FieldPath::of_name(name);
        path.parse_more(p)?;
        Ok(Self::Var(path))
    }

    fn parse_map(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let (map, entry) = MapPath::parse_head(p)?;
        let (cpu, field) = FieldPath::parse_on_cpu(p)?;
        let path = MapPath { map, entry, field };
        Ok(match cpu {
            Some(cpu) => Self::MapOnCpu(path, cpu),
            None => Self::Map(path),
        })
    }
}

/// In quotes where the first name would be taken for a word of the grammar.
fn write_var(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    let own = match steps {
        [Step::Field(name)] | [Step::Field(name), Step::Cast(_), ..] => name == "alive",
        [Step::Field(name), Step::Field(_), ..] => matches!(name.as_str(), "scx" | "kernel"),
        [Step::Field(name), Step::Index(_) | Step::Named(_), ..] => {
            matches!(name.as_str(), "rq" | "task" | "dsq") || TableName::of_word(name).is_some()
        }
        _ => false,
    };
    match steps {
        [Step::Field(name), rest @ ..] if own => write_cast(f, &format!("\"{name}\""), rest),
        _ => write_cast(f, "", steps),
    }
}

/// `count(..)` of a variable.
fn write_counted(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    f.write_str("count(")?;
    match steps {
        [Step::Field(name), rest @ ..] if TableName::of_word(name).is_some() => {
            write_cast(f, &format!("\"{name}\""), rest)?;
        }
        _ => write_var(f, steps)?,
    }
    f.write_str(")")
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Var(path) => write_var(f, path.steps()),
            Self::Map(path) => write!(f, "{path}"),
            Self::MapOnCpu(path, cpu) => {
                write_cast(f, &format!("{}.cpu({cpu})", path.head()), path.field.steps())
            }
            Self::MapFolded(fold, path) => write!(f, "{}({path})", fold.name()),
            Self::Rq(cpu, field) => write!(f, "rq[{cpu}].{}", field.name()),
            Self::RqFolded(fold, field) => write!(f, "{}(rq.{})", fold.name(), field.name()),
            Self::Scx(field) => write!(f, "scx.{}", field.name()),
            Self::Kernel(path) => write!(f, "{path}"),
            Self::Rows(of, rows) => write!(f, "{}({rows})", of.name()),
            Self::Cell(cell) => write!(f, "{cell}"),
            Self::Count(of) => match &**of {
                // A table's name would be taken for the table.
                Self::Var(path) => write_counted(f, path.steps()),
                of => write!(f, "count({of})"),
            },
            Self::Cast(words, of) => write!(f, "({words}){of}"),
            Self::Payload(path) => write!(f, "{path}"),
            Self::Watch(path) => write!(f, "{path}"),
            Self::Alive => f.write_str("alive"),
            Self::Closure(label) => write!(f, "<{label}>"),
            Self::Stats(path) => write!(f, "{path}"),
            Self::OfScheduler(name, of) => write!(f, "{}.{of}", SchedulerName(name)),
        }
    }
}

impl std::str::FromStr for Projection {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Parser::whole(text, Self::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_table_parses_and_prints() {
        for text in [
            "nr_dispatched",
            "stats.nr[2]",
            "bss.x",
            "map(ctrs).at(0).hits",
            "map(ctrs).at(0)",
            "map(ctrs).at(0)[3].x",
            "map(demo.bss).at(0).x",
            "map(\".data.uei\").at(0).kind",
            "map(tasks).key(42).vtime",
            "map(stats).at(STAT_HITS)",
            "map(stats).key(STAT_HITS).x[SLOT]",
            "(s64)x",
            "(s64)rq[1].nr_running",
            "(u8)(s64)alive",
            "((struct task_ctx *)map(sdt_task_map).key(136).data)->vtime",
            "((struct foo)map(m).at(0)).x",
            "cpu_sum((u32)map(m).at(0))",
            "(u32)cpu_sum(map(m).at(0))",
            "(u32)((struct rq *)kernel.x)->y",
            "map(pcpu).at(0).cpu(1).nr",
            "map(pcpu).at(0).cpu(1)",
            "cpu_sum(map(pcpu).at(0).nr)",
            "cpu_max(rq.local_dsq_nr)",
            "rq[1].nr_running",
            "scx.nr_rejected",
            "alive",
            "alive.x",
        ] {
            let projection: Projection =
                text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert_eq!(projection.to_string(), text);
        }
        assert_eq!("alive".parse(), Ok(Projection::Alive));
        assert_eq!("bss.alive".parse(), "bss.alive".parse().map(Projection::Var));
        assert_eq!("\"alive\"".parse(), Ok(Projection::Var(FieldPath::of_name("alive"))));
    }

    #[test]
    fn an_unknown_field_is_an_error_of_the_text_with_candidates() {
        let error = "scx.nr_rejectd".parse::<Projection>().unwrap_err();
        assert_eq!(error.span, 4..14);
        assert!(error.render().contains("did you mean `nr_rejected`?"), "{}", error.render());
        assert!(error.render().contains("bypass_depth"));
    }

    #[test]
    fn a_runqueues_other_fields_are_the_kernels_own() {
        let of = |text: &str| text.parse::<Projection>().unwrap();
        assert_eq!(of("rq[1].nr_running"), Projection::Rq(Cpu(1), RqField::NrRunning));
        assert!(matches!(of("rq[1].nr_switches"), Projection::Kernel(_)));
        assert_eq!("head->vtime".parse().map(Projection::Var), Ok(of("head->vtime")));
    }
}
