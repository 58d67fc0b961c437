//! What a claim is about: the number that it takes from each sample.

use std::fmt;

use super::error::SyntaxError;
use super::kernel_path::{KernelPath, is_word, steps};
use super::lex::TokenKind;
use super::parse::Parser;

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Projection {
    /// A variable of the scheduler, by path.
    Var(String),
    /// A map's entry.
    Map(MapPath),
    /// One CPU's value of a per-CPU map's entry.
    MapCpu(MapPath, u32),
    /// The values of all CPUs as one.
    CpuMap(Fold, MapPath),
    /// A field of one runqueue.
    Rq(u32, RqField),
    /// A field of all runqueues as one.
    CpuRq(Fold, RqField),
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
    /// The field of its value; empty: the value itself.
    pub field: String,
}

/// An entry of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKey {
    /// By index, of an array.
    At(u32),
    /// By key, of a hash.
    Key(u64),
}

/// How the values of all CPUs become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fold {
    /// Their sum.
    Sum,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

/// A list of names: an enum without data, its names in claims, and its docs.
macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// All of them, by name.
            pub const ALL: &'static [(&'static str, Self)] = &[$(($text, Self::$variant)),*];

            /// Its name in a claim.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
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

const FOLDS: [(&str, Fold); 3] = [("cpu_sum", Fold::Sum), ("cpu_min", Fold::Min), ("cpu_max", Fold::Max)];
const SELECTORS: [(&str, bool); 2] = [("at", true), ("key", false)];

impl Projection {
    /// Read one where the parser stands.
    pub(crate) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let (name, _) = p.ident("a variable, `map(..)`, `rq[..]`, `scx.` or `alive`")?;
        let called = *p.peek() == TokenKind::Sign("(");
        if let (true, Some((_, fold))) = (called, FOLDS.iter().find(|(n, _)| *n == name)) {
            p.expect("(")?;
            let inner = match p.ident("`map(..)` or `rq.`")?.0.as_str() {
                "map" => Self::CpuMap(*fold, MapPath::parse(p)?),
                "rq" => {
                    p.expect(".")?;
                    Self::CpuRq(*fold, p.name_of("runqueue field", RqField::ALL)?)
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
            "alive" if !matches!(p.peek(), TokenKind::Sign("." | "[")) => Ok(Self::Alive),
            "scx" if p.eat(".") => Ok(Self::Scx(p.name_of("sched_ext field", ScxField::ALL)?)),
            "rq" if p.eat("[") => {
                let cpu = p.index("a CPU number")?;
                p.expect("]")?;
                p.expect(".")?;
                let (field, _) = p.ident("a field of the runqueue")?;
                let known = RqField::ALL.iter().find(|(name, _)| *name == field);
                // A sample's own field, unless it goes on: those are numbers.
                match known.filter(|_| !matches!(p.peek(), TokenKind::Sign("." | "[" | "->"))) {
                    Some((_, known)) => Ok(Self::Rq(cpu, *known)),
                    None => KernelPath::parse_rq(p, cpu, &field).map(Self::Kernel),
                }
            }
            "kernel" if p.eat(".") => KernelPath::parse_symbol(p).map(Self::Kernel),
            "task" if p.eat("[") => KernelPath::parse_task(p).map(Self::Kernel),
            "dsq" if p.eat("[") => KernelPath::parse_dsq(p).map(Self::Kernel),
            _ => {
                let mut path = name;
                field_path(p, &mut path, false)?;
                Ok(Self::Var(path))
            }
        }
    }

    /// Whether it takes the kernel's memory to read it, and not a sample alone.
    pub fn needs_kernel(&self) -> bool {
        match self {
            Self::Kernel(_) => true,
            Self::Var(path) => path.contains("->"),
            Self::Map(path) | Self::MapCpu(path, _) => path.field.contains("->"),
            Self::CpuMap(..)
            | Self::Rq(..)
            | Self::CpuRq(..)
            | Self::Scx(_)
            | Self::Alive
            | Self::Closure(_) => false,
        }
    }

    fn parse_map(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let (map, entry) = MapPath::parse_head(p)?;
        let mut field = String::new();
        let mut cpu = None;
        if p.eat(".") {
            let (name, _) = p.ident("a field, or `cpu(..)`")?;
            if name == "cpu" && p.eat("(") {
                cpu = Some(p.index("a CPU number")?);
                p.expect(")")?;
                field_path(p, &mut field, true)?;
            } else {
                field = name;
                field_path(p, &mut field, false)?;
            }
        } else {
            field_path(p, &mut field, true)?;
        }
        let path = MapPath { map, entry, field };
        Ok(match cpu {
            Some(cpu) => Self::MapCpu(path, cpu),
            None => Self::Map(path),
        })
    }
}

impl MapPath {
    /// `(name).at(0).field`, after the word `map`.
    fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let (map, entry) = Self::parse_head(p)?;
        let mut field = String::new();
        field_path(p, &mut field, true)?;
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

/// Append `.name`, `[index]` and `->name` to `path` for as long as they follow. `bare`: what is appended begins the path,
/// so the first point is left out.
fn field_path(p: &mut Parser<'_>, path: &mut String, bare: bool) -> Result<(), SyntaxError> {
    let mut followed = String::new();
    steps(p, &mut followed)?;
    path.push_str(followed.strip_prefix('.').filter(|_| bare).unwrap_or(&followed));
    Ok(())
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FOLDS.iter().find(|(_, fold)| fold == self).map_or("cpu_sum", |(name, _)| name))
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
        if self.map.split('.').all(is_word) {
            write!(f, "map({})", self.map)?;
        } else {
            write!(f, "map(\"{}\")", self.map)?;
        }
        match self.entry {
            EntryKey::At(i) => write!(f, ".at({i})"),
            EntryKey::Key(k) => write!(f, ".key({k})"),
        }
    }

    fn tail(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() || self.field.starts_with('[') {
            return f.write_str(&self.field);
        }
        write!(f, ".{}", self.field)
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Var(path) => f.write_str(path),
            Self::Map(path) => write!(f, "{path}"),
            Self::MapCpu(path, cpu) => {
                path.head(f)?;
                write!(f, ".cpu({cpu})")?;
                path.tail(f)
            }
            Self::CpuMap(fold, path) => write!(f, "{fold}({path})"),
            Self::Rq(cpu, field) => write!(f, "rq[{cpu}].{}", field.name()),
            Self::CpuRq(fold, field) => write!(f, "{fold}(rq.{})", field.name()),
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
        let mut p = Parser::new(text)?;
        let projection = Self::parse(&mut p)?;
        match p.peek() {
            TokenKind::End => Ok(projection),
            _ => Err(p.expected("the end of the path")),
        }
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
        assert_eq!("bss.alive".parse(), Ok(Projection::Var("bss.alive".to_owned())));
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
        assert_eq!(of("rq[1].nr_running"), Projection::Rq(1, RqField::NrRunning));
        assert!(matches!(of("rq[1].nr_switches"), Projection::Kernel(_)));
        assert_eq!(of("head->vtime"), Projection::Var("head->vtime".into()));
    }
}
