//! What a claim is about: the number that it takes from each sample.

use std::fmt;

use super::error::SyntaxError;
use super::field::{Dotted, FieldPath, Step, write_steps};
use super::kernel_path::KernelPath;
use super::lex::TokenKind;
use super::parse::{Parser, names};
use crate::units::Cpu;

/// What is read from each sample.
///
/// | text | what it reads |
/// |---|---|
/// | `nr_dispatched`, `stats.nr[2]`, `bss.x` | a variable of the scheduler's global data |
/// | `map(ctrs).at(0).hits` | a field of an array map's entry |
/// | `map(tasks).key(42).vtime` | a field of a hash map's entry, by a whole-number key |
/// | `map(pcpu).at(0).cpu(1).nr` | one CPU's value of a per-CPU map |
/// | `cpu_sum(map(pcpu).at(0).nr)`, `cpu_min`, `cpu_max` | all CPUs' values of it as one number |
/// | `rq[1].nr_running`, `cpu_max(rq.local_dsq_nr)` | a field of one runqueue, or of all as one number |
/// | `scx.nr_rejected` | a field of sched_ext's state |
/// | `kernel.SYMBOL`, `kernel.(TYPE)SYMBOL.field`, `rq[1].curr->pid`, `task[105].prio`, `dsq[0x1].nr` | the kernel's memory, where a checkpoint was taken |
/// | `task_ctx->vtime` | what a scheduler's pointer points at, where a checkpoint was taken |
/// | `alive` | whether a scheduler was enabled |
///
/// ```
/// use ktstr_replay::path::{Projection, SyntaxError};
///
/// let projection: Projection = "map(pcpu).at(0).cpu(1).hist[0x10]".parse()?;
/// assert_eq!(projection.to_string(), "map(pcpu).at(0).cpu(1).hist[16]");
/// assert!(!projection.needs_kernel());
/// assert!("rq[1].curr->pid".parse::<Projection>()?.needs_kernel());
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
    /// Whether a scheduler was enabled.
    Alive,
    /// What a closure of the test made; by label, since only the test binary can make it again.
    Closure(String),
}

/// A place in a map.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MapPath {
    /// The map's name.
    pub map: String,
    /// Which entry.
    pub entry: EntryKey,
    /// The part of its value; empty: the value itself.
    pub field: FieldPath,
}

/// An entry of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKey {
    /// By index, of an array.
    At(u32),
    /// By key, of a hash.
    Key(u64),
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

const SELECTORS: [(&str, bool); 2] = [("at", true), ("key", false)];

impl Projection {
    /// Read one where the parser stands.
    pub(crate) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        // A name in quotes is that of a variable, whatever it is.
        let quoted = matches!(p.peek(), TokenKind::Quoted(_));
        let name = p.name("a variable, `map(..)`, `rq[..]`, `scx.` or `alive`")?;
        let called = *p.peek() == TokenKind::Sign("(");
        if let (true, Some((_, fold))) = (called, Fold::ALL.iter().find(|(n, _)| *n == name)) {
            p.expect("(")?;
            let inner = match p.ident("`map(..)` or `rq.`")?.0.as_str() {
                "map" => Self::MapFolded(*fold, MapPath::parse(p)?),
                "rq" => {
                    p.expect(".")?;
                    Self::RqFolded(*fold, p.name_of("runqueue field", RqField::ALL)?)
                }
                _ => return Err(p.expected(format!("`map(..)` or `rq.` inside of `{name}`"))),
            };
            p.expect(")")?;
            return Ok(inner);
        }
        if called && name == "map" {
            return Self::parse_map(p);
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
            _ => Self::parse_var(p, name),
        }
    }

    fn parse_var(p: &mut Parser<'_>, name: String) -> Result<Self, SyntaxError> {
        let mut path = FieldPath::of_name(name);
        path.parse_more(p)?;
        Ok(Self::Var(path))
    }

    /// Whether it takes the kernel's memory to read it, and not a sample alone.
    pub fn needs_kernel(&self) -> bool {
        match self {
            Self::Kernel(_) => true,
            Self::Var(path) => path.has_pointer(),
            Self::Map(path) | Self::MapOnCpu(path, _) => path.field.has_pointer(),
            Self::MapFolded(..)
            | Self::Rq(..)
            | Self::RqFolded(..)
            | Self::Scx(_)
            | Self::Alive
            | Self::Closure(_) => false,
        }
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

impl MapPath {
    /// `(name).at(0).field`, after the word `map`.
    fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let (map, entry) = Self::parse_head(p)?;
        let mut field = FieldPath::default();
        field.parse_more(p)?;
        Ok(Self { map, entry, field })
    }

    /// `(name).at(0)`.
    fn parse_head(p: &mut Parser<'_>) -> Result<(String, EntryKey), SyntaxError> {
        p.expect("(")?;
        let map = match p.peek() {
            TokenKind::Quoted(name) => {
                let name = name.clone();
                p.advance();
                name
            }
            _ => {
                let mut name = p.ident("the name of a map")?.0;
                while p.eat(".") {
                    name.push('.');
                    name.push_str(&p.ident("the rest of the map's name")?.0);
                }
                name
            }
        };
        p.expect(")")?;
        if !p.eat(".") {
            return Err(p.expected("`.at(index)` or `.key(number)`, to say which entry of the map"));
        }
        let by_index = p.name_of("map accessor", &SELECTORS)?;
        p.expect("(")?;
        let entry = if by_index {
            EntryKey::At(p.index("an index")?)
        } else {
            EntryKey::Key(p.index("a whole-number key")?)
        };
        p.expect(")")?;
        Ok((map, entry))
    }
}

impl fmt::Display for MapPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.tail(f)
    }
}

impl MapPath {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "map({})", Dotted(&self.map))?;
        match self.entry {
            EntryKey::At(i) => write!(f, ".at({i})"),
            EntryKey::Key(k) => write!(f, ".key({k})"),
        }
    }

    fn tail(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_steps(f, false, self.field.steps())
    }
}

/// In quotes where the first name would be taken for a word of the grammar.
fn write_var(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    let own = match steps {
        [Step::Field(name)] => name == "alive",
        [Step::Field(name), Step::Field(_), ..] => matches!(name.as_str(), "scx" | "kernel"),
        [Step::Field(name), Step::Index(_), ..] => matches!(name.as_str(), "rq" | "task" | "dsq"),
        _ => false,
    };
    match steps {
        [Step::Field(name), rest @ ..] if own => {
            write!(f, "\"{name}\"")?;
            write_steps(f, false, rest)
        }
        _ => write_steps(f, true, steps),
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Var(path) => write_var(f, path.steps()),
            Self::Map(path) => write!(f, "{path}"),
            Self::MapOnCpu(path, cpu) => {
                path.head(f)?;
                write!(f, ".cpu({cpu})")?;
                path.tail(f)
            }
            Self::MapFolded(fold, path) => write!(f, "{}({path})", fold.name()),
            Self::Rq(cpu, field) => write!(f, "rq[{cpu}].{}", field.name()),
            Self::RqFolded(fold, field) => write!(f, "{}(rq.{})", fold.name(), field.name()),
            Self::Scx(field) => write!(f, "scx.{}", field.name()),
            Self::Kernel(path) => write!(f, "{path}"),
            Self::Alive => f.write_str("alive"),
            Self::Closure(label) => write!(f, "<{label}>"),
        }
    }
}

impl std::str::FromStr for Projection {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut p = Parser::path(text)?;
        let projection = Self::parse(&mut p)?;
        p.end()?;
        Ok(projection)
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
