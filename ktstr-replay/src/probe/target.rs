//! What is probed: a function, and what is read at its calls.

use std::fmt;
use std::str::FromStr;

use crate::path::parse::Parser;
use crate::path::{FieldPath, Step, SyntaxError, scheduler_path};

/// What begins the part of the text that asks for the return, too.
const RETURNS: &str = "returns";
/// What begins a text that says whose program is meant, where there are several schedulers.
const SCHEDULER: &str = "scheduler";
/// Most values of a call.
const MOST_VALUES: usize = 32;

/// A function whose calls are recorded, by the name that its author gave it.
///
/// | text | what |
/// |---|---|
/// | `enqueue_task_scx` | a function of the kernel: all its arguments |
/// | `enqueue_task_scx(p->pid, p->scx.dsq_vtime, flags)` | these of its arguments, and what they point at |
/// | `demo_enqueue(p->comm)` | a BPF program, or a function of one |
/// | `select_task_rq_scx(p->pid) returns` | with what it returns, and when |
/// | `"update_curr.isra.0"` | a name that is no word of C, in quotes |
/// | `scheduler(/below).demo_enqueue(p->pid)` | a program of one of several schedulers, which may come later |
///
/// ```
/// use ktstr_replay::probe::ProbeTarget;
///
/// let target: ProbeTarget = "enqueue_task_scx(p->pid, flags) returns".parse()?;
/// assert_eq!((target.function(), target.returns()), ("enqueue_task_scx", true));
/// # Ok::<(), ktstr_replay::path::SyntaxError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeTarget {
    text: String,
    scheduler: Option<String>,
    function: String,
    wanted: Option<Vec<FieldPath>>,
    returns: bool,
}

impl ProbeTarget {
    /// Which scheduler's program it is, where that is said.
    #[must_use]
    pub fn scheduler(&self) -> Option<&str> {
        self.scheduler.as_deref()
    }

    /// Name of the function or program.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.function
    }

    /// What is read at each call; `None`: every argument.
    #[must_use]
    pub fn wanted(&self) -> Option<&[FieldPath]> {
        self.wanted.as_deref()
    }

    /// Whether its returns are recorded, too.
    #[must_use]
    pub fn returns(&self) -> bool {
        self.returns
    }
}

/// What follows `scheduler(..).` in a target that begins so. A function may be called `scheduler`, too: then no dot follows.
pub(super) fn after_scheduler(text: &str) -> Option<&str> {
    let given = text.trim_start().strip_prefix(SCHEDULER)?.trim_start().strip_prefix('(')?;
    // A name in quotes may have any sign.
    let behind = match given.trim_start().strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?.1,
        None => given,
    };
    behind.split_once(')')?.1.trim_start().strip_prefix('.')
}

impl FromStr for ProbeTarget {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut p = Parser::path(text)?;
        let what = "the name of a function, as `enqueue_task_scx(p->pid)`";
        let mut function = p.name(what)?;
        let scheduler = match after_scheduler(text) {
            Some(_) => {
                let which = scheduler_path::which(&mut p)?;
                function = p.name(what)?;
                Some(which)
            }
            None => None,
        };
        let mut wanted = None;
        if p.eat("(") {
            let mut paths = Vec::new();
            while !p.eat(")") {
                if !paths.is_empty() {
                    p.expect(",")?;
                }
                if paths.len() >= MOST_VALUES {
                    return Err(p.expected(format!("`)`, as there are {MOST_VALUES} values already")));
                }
                let begin = p.expected("an argument, or what it points at, as `p->pid`");
                let path = FieldPath::parse_in(&mut p)?;
                if !matches!(path.steps().first(), Some(Step::Field(_))) {
                    return Err(begin);
                }
                paths.push(path);
            }
            wanted = Some(paths);
        }
        let returns = p.eat_word(RETURNS);
        p.end()?;
        Ok(Self { text: text.to_owned(), scheduler, function, wanted, returns })
    }
}

impl fmt::Display for ProbeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ProbeTarget {
        text.parse().unwrap_or_else(|error: SyntaxError| panic!("{}", error.render()))
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(read("enqueue_task_scx").wanted(), None);
        let some = read("f(p->pid, (u8)flags, ((struct foo *)q)->x[2]) returns");
        let wanted: Vec<String> = some.wanted().expect("values").iter().map(ToString::to_string).collect();
        assert_eq!(wanted, ["p->pid", "(u8)flags", "((struct foo *)q)->x[2]"]);
        assert!(some.returns());
        assert_eq!(read("f()").wanted(), Some(&[][..]));
        assert!(read("f() returns").returns() && !read("f").returns());
        assert_eq!(read("\"update_curr.isra.0\"(arg0)").function(), "update_curr.isra.0");
        assert_eq!(read(" f ( p ) ").to_string(), " f ( p ) ");
        for (text, scheduler, function) in [
            ("scheduler(/below).f(p->pid) returns", Some("/below"), "f"),
            (" scheduler ( qmap ) . f", Some("qmap"), "f"),
            ("scheduler(\"qmap on /a (b)\").\"f.isra.0\"()", Some("qmap on /a (b)"), "f.isra.0"),
            ("scheduler(p)", None, "scheduler"),
            ("scheduler", None, "scheduler"),
        ] {
            let target = read(text);
            assert_eq!((target.scheduler(), target.function()), (scheduler, function), "{text}");
        }
    }

    #[test]
    fn faults_are_pointed_at() {
        for (text, at) in [
            ("", 0..0),
            ("1", 0..1),
            ("f(", 2..2),
            ("f(p->)", 5..6),
            ("f(p q)", 4..5),
            ("f(,)", 2..3),
            ("f([0])", 2..3),
            ("f(p) when", 5..9),
            ("f return", 2..8),
            ("f.x", 1..2),
            ("scheduler(/a).", 14..14),
            ("scheduler().f", 10..11),
            ("scheduler(/a).f(", 16..16),
        ] {
            let error = text.parse::<ProbeTarget>().expect_err(text);
            assert_eq!(error.span, at, "{}", error.render());
        }
        let many = format!("f({})", vec!["p"; MOST_VALUES + 1].join(","));
        assert!(many.parse::<ProbeTarget>().is_err_and(|error| error.render().contains("32 values")));
    }
}
