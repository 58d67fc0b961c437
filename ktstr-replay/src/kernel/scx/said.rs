//! What sched_ext writes into the kernel's log when a scheduler ends, or does not begin.
//!
//! Sources, in Linux: `scx_log_sched_disable` and `scx_root_enable_workfn` in `kernel/sched/ext/ext.c` of 7.3, `scx_ops_disable_workfn` and
//! `scx_ops_enable` in `kernel/sched/ext.c` of 6.12; the words are the same.

/// How sched_ext begins its lines.
const OWN: &str = "sched_ext: ";

/// syslog's `KERN_ERR`, the level of what tells of an error; lower is worse.
pub(crate) const KERN_ERR: u8 = 3;

/// What became of a scheduler: `sched_ext: BPF scheduler "demo" disabled (runnable task stall)`, or `enabled`, which has ` (partial)` behind
/// it where not all tasks are switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SchedulerLine<'l> {
    /// The scheduler's `ops.name`.
    pub name: &'l str,
    /// It is below another one.
    pub is_sub: bool,
    /// Why it ended, as the kernel calls that; `None`: it was enabled.
    pub end: Option<&'l str>,
}

impl<'l> SchedulerLine<'l> {
    /// `None`: the line is another one.
    pub(crate) fn read(line: &'l str) -> Option<Self> {
        let rest = words(line)?.strip_prefix("BPF ")?;
        let sub = rest.strip_prefix("sub-");
        let (is_sub, rest) = (sub.is_some(), sub.unwrap_or(rest).strip_prefix("scheduler \"")?);
        if let Some((name, reason)) = rest.split_once("\" disabled (") {
            return Some(Self { name, is_sub, end: Some(reason.strip_suffix(')')?) });
        }
        let (name, rest) = rest.split_once("\" enabled")?;
        (rest.is_empty() || rest.starts_with(' ')).then_some(Self { name, is_sub, end: None })
    }

    /// The same, if it is of one that is below no other.
    pub(crate) fn of_root(line: &'l str) -> Option<Self> {
        Self::read(line).filter(|line| !line.is_sub)
    }
}

/// Name and message of `sched_ext: demo: victim[7] failed to run for 30.1s`.
pub(crate) fn said(line: &str) -> Option<(&str, &str)> {
    words(line)?.split_once(": ")
}

/// The words of a line of sched_ext's own: `Not compatible with "isolcpus=" domain isolation`.
pub(crate) fn words(line: &str) -> Option<&str> {
    line.trim().strip_prefix(OWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let line = |name, is_sub, end| Some(SchedulerLine { name, is_sub, end });
        let of_sub = "sched_ext: BPF sub-scheduler \"a\" disabled (parent exiting)";
        assert_eq!(SchedulerLine::read(of_sub), line("a", true, Some("parent exiting")));
        assert_eq!(SchedulerLine::of_root(of_sub), None);
        let of_root = "sched_ext: BPF scheduler \"a\" disabled (runtime error)";
        assert_eq!(SchedulerLine::read(of_root), line("a", false, Some("runtime error")));
        assert_eq!(SchedulerLine::of_root(of_root), SchedulerLine::read(of_root));
        for enabled in
            ["sched_ext: BPF scheduler \"a\" enabled", "sched_ext: BPF scheduler \"a\" enabled (partial)"]
        {
            assert_eq!(SchedulerLine::of_root(enabled), line("a", false, None), "{enabled}");
        }
        assert_eq!(SchedulerLine::read("sched_ext: BPF scheduler \"a\" enabledx"), None);
        let sub_enabled = "sched_ext: BPF sub-scheduler \"a\" enabled";
        assert_eq!(SchedulerLine::read(sub_enabled), line("a", true, None));
        assert_eq!(SchedulerLine::of_root(sub_enabled), None);
        assert_eq!(said("sched_ext: demo: it: said"), Some(("demo", "it: said")));
        assert_eq!(words("sched_ext: Not compatible"), Some("Not compatible"));
        assert_eq!(words("clocksource: sched_ext: x"), None);
    }
}
