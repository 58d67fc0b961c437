//! Whose a variable, a map or a dispatch queue is, where a guest has several schedulers: `scheduler(/below).nr_enqueued`; and what the
//! kernel itself keeps of one: `scheduler(/below)->exit_kind`.

use std::fmt;

use super::error::{SyntaxError, SyntaxFault};
use super::kernel_path::{KernelPath, Root};
use super::lex::TokenKind;
use super::parse::Parser;
use super::projection::Projection;
use super::rows::plain;

/// A scheduler's name as paths write it: `scheduler(/below)`, `scheduler("qmap on /below")`.
pub(crate) struct SchedulerName<'n>(pub &'n str);

impl fmt::Display for SchedulerName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scheduler({})", plain(self.0))
    }
}

/// What stands behind `scheduler`, up to the dot: which one is meant.
pub(crate) fn which(p: &mut Parser<'_>) -> Result<String, SyntaxError> {
    let name = named(p)?;
    p.expect(".")?;
    Ok(name)
}

/// What stands behind `scheduler`, in parentheses.
fn named(p: &mut Parser<'_>) -> Result<String, SyntaxError> {
    p.expect("(")?;
    let name = match p.peek() {
        TokenKind::Quoted(name) => name.clone(),
        _ => p.raw_until(")"),
    };
    if name.is_empty() {
        return Err(p.expected("the cgroup of a scheduler, as `scheduler(/below)`, or its name"));
    }
    p.advance();
    p.expect(")")?;
    Ok(name)
}

/// What stands behind `scheduler`.
pub(super) fn parse(p: &mut Parser<'_>) -> Result<Projection, SyntaxError> {
    let name = named(p)?;
    if matches!(p.peek(), TokenKind::Sign("->")) {
        return KernelPath::parse_scheduler(p, name).map(Projection::Kernel);
    }
    p.expect(".")?;
    let begin = p.span().start;
    // What has one already is refused below, but only once it is read.
    p.deeper(p.span())?;
    let read = Projection::parse(p)?;
    p.leave_group();
    let end = p.span().start.max(begin);
    of(name, read).ok_or_else(|| {
        let (expected, found) =
            ("a variable, `map(..)` or `dsq[..]` of the scheduler", "what is of none, or has one already");
        p.fault(begin..end, SyntaxFault::Expected { expected: expected.to_owned(), found: found.to_owned() })
    })
}

/// The same of one scheduler; `None` where it is no scheduler's, or says already whose it is.
fn of(name: String, read: Projection) -> Option<Projection> {
    if let Projection::Kernel(KernelPath { root: Root::Dsq { id, of: None }, rest }) = read {
        return Some(Projection::Kernel(KernelPath { root: Root::Dsq { id, of: Some(name) }, rest }));
    }
    let mut within = &read;
    while let Projection::Count(inner) | Projection::Cast(_, inner) = within {
        within = inner;
    }
    let has = matches!(
        within,
        Projection::Var(_) | Projection::Map(_) | Projection::MapOnCpu(..) | Projection::MapFolded(..)
    );
    has.then(|| Projection::OfScheduler(name, Box::new(read)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_parses_and_prints() {
        for text in [
            "scheduler(/).nr_enqueued",
            "scheduler(/below/a).bss.nr_enqueued",
            "scheduler(qmap).stats.nr[2]",
            "scheduler(\"qmap on /below\").map(stats).at(0)",
            "scheduler(/below).map(pcpu).at(0).cpu(1).nr",
            "scheduler(/below).cpu_sum(map(pcpu).at(0).nr)",
            "scheduler(/below).count(root)",
            "scheduler(/below).(s64)x",
            "scheduler(/below).(u32)cpu_sum(map(m).at(0))",
            "scheduler(/below).dsq[0x1].nr",
            "scheduler(/below).\"alive\"",
            "scheduler(/below)->exit_kind",
            "scheduler(\"qmap on /below\")->exit_info->kind",
        ] {
            let parsed: Projection = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert_eq!(parsed.to_string(), text);
        }
        for (text, printed) in [
            ("(s64)scheduler(/below).x", "scheduler(/below).(s64)x"),
            ("scheduler( /a/b-1.slice ).x", "scheduler(\"/a/b-1.slice\").x"),
            ("((struct foo *)scheduler(/a).p)->x", "scheduler(/a).((struct foo *)p)->x"),
        ] {
            let parsed: Projection = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert_eq!(parsed.to_string(), printed);
            assert_eq!(printed.parse(), Ok(parsed));
        }
        // A variable of that name is one.
        assert!(matches!("scheduler.x".parse(), Ok(Projection::Var(_))));
    }

    #[test]
    fn what_is_of_no_scheduler_is_refused() {
        for (text, at) in [
            ("scheduler().x", 10..11),
            ("scheduler(/a)", 13..13),
            ("scheduler(/a)->", 15..15),
            ("scheduler(/a)[0]", 13..14),
            ("scheduler(/a).scheduler(/b)->x", 14..30),
            ("scheduler(/a).alive", 14..19),
            ("scheduler(/a).rq[1].nr_running", 14..30),
            ("scheduler(/a).scheduler(/b).x", 14..29),
            ("scheduler(/a).count(tasks)", 14..26),
        ] {
            let error = text.parse::<Projection>().expect_err(text);
            assert_eq!(error.span, at, "{}", error.render());
        }
        let deep = "scheduler(a).".repeat(300) + "x";
        assert!(matches!(
            *deep.parse::<Projection>().expect_err("too deep").fault,
            SyntaxFault::TooDeep { .. }
        ));
    }
}
