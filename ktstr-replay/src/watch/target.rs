//! What is watched: a number in the kernel's memory, or of the scheduler's variables.

use std::fmt;
use std::str::FromStr;

use crate::kernel::KernelView;
use crate::kernel::query::{
    Located, QueryError, locate, locate_variable, locate_with_end, pointers_in, pointers_of,
};
use crate::kernel::scx::holds;
use crate::path::parse::Parser;
use crate::path::{FieldPath, KernelPath, Projection, Root, SyntaxError};
use crate::text::Candidates;
use crate::units::KernelVirt;
use crate::value::ValueError;

/// A number that can be watched, by the name that its author gave it.
///
/// | text | what |
/// |---|---|
/// | `jiffies_64`, `scx_root->exit_kind` | a symbol of the kernel, or what is reached from it |
/// | `kernel.(struct rq)runqueues.cpu(1).nr_running`, `rq[1].curr->prio`, `task[105].prio` | the same as a claim names it |
/// | `scheduler(/below).nr_stalls` | that of one of several schedulers |
/// | `scheduler(/below)->exit_kind` | what the kernel keeps of it, which may come later |
/// | `bss.nr_stalls`, `nr_stalls`, `stats.nr[2]` | a variable of the scheduler; a symbol of the kernel's of that name comes first |
#[derive(Clone, Debug, PartialEq)]
pub struct WatchTarget {
    text: String,
    kernel: Option<KernelPath>,
    variable: Option<FieldPath>,
    /// Which scheduler's variable it is, where there are several.
    of: Option<String>,
}

/// Why the number is not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is not there yet, or not any more.
    Now(String),
    /// It never will be.
    Ever(String),
}

impl Missing {
    /// The reason.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Now(why) | Self::Ever(why) => why,
        }
    }
}

/// Symbols that change when a scheduler comes or goes; the first that the kernel has. Source: `kernel/sched/ext.c`.
const SCHEDULER_MARKS: [&str; 3] = ["scx_root", "scx_enable_state_var", "scx_ops_enable_state_var"];

/// The list of all schedulers, those below the root included. Source: `kernel/sched/ext/ext.c`.
const ALL_SCHEDULERS: &str = "scx_sched_all";

/// What is stored to when a scheduler comes or goes.
#[must_use]
pub fn scheduler_mark(view: &KernelView<'_>) -> Option<Located> {
    let at = SCHEDULER_MARKS.iter().find_map(|name| view.profile().symbols().address(name))?;
    let bytes = if at.0.is_multiple_of(8) { 8 } else { 4 };
    Some(Located { at, bytes, signed: false })
}

/// What is stored to when a scheduler below the root comes or goes.
#[must_use]
pub fn sub_scheduler_marks(view: &KernelView<'_>) -> Vec<Located> {
    sub_scheduler_mark(view).into_iter().chain(held(view)).collect()
}

/// What is stored to when a scheduler has ended whose maps are there yet.
fn held(view: &KernelView<'_>) -> impl Iterator<Item = Located> {
    let held = holds(view).unwrap_or_default();
    held.into_iter().map(|at| Located { at, bytes: 8, signed: false })
}

/// What is stored to when a scheduler below the root comes: the end of the list of all, which new ones are put at. `None` where the
/// kernel has no such list.
fn sub_scheduler_mark(view: &KernelView<'_>) -> Option<Located> {
    let list = view.profile().symbols().address(ALL_SCHEDULERS)?;
    let end = view.offset_of("list_head", "prev").ok()?;
    Some(Located { at: KernelVirt(list.0.wrapping_add(end)), bytes: 8, signed: false })
}

impl WatchTarget {
    /// Where it is now.
    ///
    /// # Errors
    /// [`Missing`]: why it is nowhere, with candidates for a misspelt name.
    pub fn find(&self, view: &KernelView<'_>) -> Result<Located, Missing> {
        if let Some(path) = self.kernel_path(view) {
            return locate(view, path).map_err(|error| self.explain(view, error));
        }
        let Some(path) = &self.variable else {
            return Err(Missing::Ever("it names nothing".to_owned()));
        };
        locate_variable(view, self.of.as_deref(), path).map_err(|error| self.explain(view, error))
    }

    /// The path that it is in this kernel; `None` where it is a variable of the scheduler.
    fn kernel_path(&self, view: &KernelView<'_>) -> Option<&KernelPath> {
        let path = self.kernel.as_ref()?;
        let Root::Symbol { name, .. } = &path.root else { return Some(path) };
        // A function of that name is not meant.
        let symbols = view.profile().symbols();
        let is_code = |at: KernelVirt| {
            let within = |(from, to): (&str, &str)| {
                symbols
                    .address(from)
                    .zip(symbols.address(to))
                    .is_some_and(|(from, to)| (from..to).contains(&at))
            };
            [("_stext", "_etext"), ("_sinittext", "_einittext")].into_iter().any(within)
        };
        let is_there = symbols.named(name).any(|symbol| !is_code(symbol.address));
        (self.variable.is_none() || is_there).then_some(path)
    }

    /// It is a variable of the scheduler, which is there only with it.
    #[must_use]
    pub fn is_variable(&self, view: &KernelView<'_>) -> bool {
        self.kernel_path(view).is_none()
    }

    /// It is a variable that the scheduler which is there will not have, unlike what is behind a pointer that is null so far.
    #[must_use]
    pub fn is_of_no_scheduler(&self, view: &KernelView<'_>) -> bool {
        let Some(path) = self.variable.as_ref().filter(|_| self.is_variable(view)) else { return false };
        locate_variable(view, self.of.as_deref(), path).is_err_and(|error| {
            // One below the root may come at any time.
            let may_come = matches!(
                error,
                QueryError::Value(ValueError::NoScheduler { .. }) | QueryError::NoScheduler { .. }
            );
            !may_come && !matches!(error, QueryError::NullPointer { .. } | QueryError::Kernel(_))
        })
    }

    /// Where those pointers are with which it moves, and what shows that a scheduler comes or goes.
    #[must_use]
    pub fn moves_with(&self, view: &KernelView<'_>) -> Vec<Located> {
        match self.kernel_path(view) {
            Some(path) => {
                let pointers = pointers_of(path);
                let pointers = pointers.iter().filter_map(|pointer| locate(view, pointer).ok());
                // Another of that name may come, before or after the end of the one that there is.
                let of_scheduler = matches!(path.root, Root::Scheduler(_));
                let marks = [scheduler_mark(view), sub_scheduler_mark(view)];
                marks.into_iter().flatten().filter(|_| of_scheduler).chain(pointers).collect()
            }
            None => {
                let pointers = self.variable.iter().flat_map(pointers_in);
                let of = self.of.as_deref();
                let pointers = pointers.filter_map(|pointer| locate_variable(view, of, &pointer).ok());
                let below = self.of.as_ref().and_then(|_| sub_scheduler_mark(view));
                // Its memory is another's once it has gone, and stores to that are none of it. While it is not found, or is not known to
                // be of one of them, the end of any can be what is waited for.
                let path = self.variable.as_ref();
                let end = path.and_then(|path| locate_with_end(view, of, path).ok()).map(|(_, end)| end);
                let end = end.filter(|end| !end.is_empty()).unwrap_or_else(|| held(view).collect());
                scheduler_mark(view).into_iter().chain(below).chain(end).chain(pointers).collect()
            }
        }
    }

    fn explain(&self, view: &KernelView<'_>, error: QueryError) -> Missing {
        let text = error.to_string();
        match error {
            QueryError::NullPointer { .. }
            | QueryError::NoScheduler { .. }
            | QueryError::NoTask { .. }
            | QueryError::NoDsq { .. }
            | QueryError::SeveralDsqs { .. }
            | QueryError::Offline { .. }
            | QueryError::Kernel(_) => Missing::Now(text),
            QueryError::Value(ValueError::NoVariable { .. }) if self.is_variable(view) => {
                Missing::Now(self.with_symbols(view, text))
            }
            QueryError::Value(ValueError::SeveralSchedulers { .. }) if self.variable.is_none() => {
                Missing::Now(text)
            }
            QueryError::Value(
                ValueError::AmbiguousVariable { .. }
                | ValueError::Unread { .. }
                | ValueError::NoScheduler { .. },
            ) => Missing::Now(text),
            _ => Missing::Ever(text),
        }
    }

    /// A name that is no variable may be a misspelt symbol of the kernel.
    fn with_symbols(&self, view: &KernelView<'_>, text: String) -> String {
        let Some(KernelPath { root: Root::Symbol { name, .. }, .. }) = &self.kernel else { return text };
        let symbols = view.profile().symbols();
        let names = symbols.iter().map(|symbol| symbol.name).filter(|other| crate::btf::alike(name, other));
        let names: Vec<&str> = names.collect();
        match names.is_empty() {
            true => text,
            false => format!("{text}; nor has the kernel a symbol `{name}`{}", Candidates::new(name, names)),
        }
    }
}

impl FromStr for WatchTarget {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let of_kernel = |text: &str| match format!("kernel.{text}").parse() {
            Ok(Projection::Kernel(path)) => Some(path),
            _ => None,
        };
        let mut of = None;
        let (kernel, variable) = match text.parse::<Projection>() {
            Ok(Projection::Kernel(path)) => (Some(path), None),
            Ok(Projection::Var(path)) => (of_kernel(text), Some(path)),
            Ok(Projection::OfScheduler(name, path)) => {
                of = Some(name);
                (None, if let Projection::Var(path) = *path { Some(path) } else { None })
            }
            Ok(_) => (None, None),
            Err(error) => (Some(of_kernel(text).ok_or(error)?), None),
        };
        if kernel.is_none() && variable.is_none() {
            return Err(Parser::path(text)?.expected(
                "a place in memory: a kernel symbol, as `scx_root->exit_kind`, or a variable of the scheduler, as `bss.x`",
            ));
        }
        Ok(Self { text: text.to_owned(), kernel, variable, of })
    }
}

impl fmt::Display for WatchTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::toy_kernel;

    #[test]
    fn bare_names_are_symbols_of_the_kernel_or_variables() {
        let (guest, _) = toy_kernel(0);
        let (profile, memory) = (guest.profile(), guest.ram);
        let view = KernelView::new(&profile, &memory);
        let target = |text: &str| text.parse::<WatchTarget>().unwrap_or_else(|e| panic!("{}", e.render()));
        let root = target("scx_root");
        assert!(!root.is_variable(&view));
        let found = root.find(&view).expect("it is there");
        assert_eq!((found.bytes, found.at.0 % 8), (8, 0));
        assert!(target("bss.no_such").is_variable(&view));
        // There is no scheduler whose variable it could be, yet.
        assert!(matches!(target("no_such_thing").find(&view), Err(Missing::Now(_))));
        assert!(matches!(target("scx_rot->exit_kind").find(&view), Err(Missing::Now(_))));
        let Err(Missing::Ever(why)) = target("kernel.scx_rot").find(&view) else { panic!("found") };
        assert!(why.contains("no symbol `scx_rot`") && why.contains("scx_root"), "{why}");
        let pointer = target("scx_root->exit_kind").moves_with(&view);
        assert_eq!(pointer, [found]);
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "alive",
            "scx.exit_kind",
            "cpu_sum(map(a).at(0).x)",
            "scheduler(/a).map(x).at(0).y",
            "",
            "a b",
            "map(x).at(0).y",
        ] {
            assert!(text.parse::<WatchTarget>().is_err(), "{text}");
        }
    }
}
