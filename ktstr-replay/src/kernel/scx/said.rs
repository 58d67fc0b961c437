//! What sched_ext writes into the kernel's log when a scheduler ends, or does not begin.
//!
//! Sources, in Linux: `scx_log_sched_disable` and `scx_root_enable_workfn` in `kernel/sched/ext/ext.c` of 7.3, `scx_ops_disable_workfn` and
//! `scx_ops_enable` in `kernel/sched/ext.c` of 6.12; the words are the same.

/// How sched_ext begins its lines.
const OWN: &str = "sched_ext: ";

/// Name and reason of `sched_ext: BPF scheduler "demo" disabled (runnable task stall)`, or of a sub-scheduler.
pub(crate) fn disabled(line: &str) -> Option<(&str, &str)> {
    let rest = line.trim().strip_prefix(OWN)?.strip_prefix("BPF ")?;
    let rest = rest.strip_prefix("sub-").unwrap_or(rest).strip_prefix("scheduler \"")?;
    let (name, reason) = rest.split_once("\" disabled (")?;
    Some((name, reason.strip_suffix(')')?))
}

/// The same of a scheduler that is below no other one.
pub(crate) fn root_disabled(line: &str) -> Option<(&str, &str)> {
    disabled(line).filter(|_| line.trim().starts_with("sched_ext: BPF scheduler "))
}

/// Name in `sched_ext: BPF scheduler "demo" enabled`, which has ` (partial)` behind it where not all tasks are switched.
pub(crate) fn root_enabled(line: &str) -> Option<&str> {
    let rest = line.trim().strip_prefix(OWN)?.strip_prefix("BPF scheduler \"")?;
    let (name, rest) = rest.split_once("\" enabled")?;
    (rest.is_empty() || rest.starts_with(' ')).then_some(name)
}

/// Name and message of `sched_ext: demo: victim[7] failed to run for 30.1s`.
pub(crate) fn said(line: &str) -> Option<(&str, &str)> {
    line.trim().strip_prefix(OWN)?.split_once(": ")
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
        let of_sub = "sched_ext: BPF sub-scheduler \"a\" disabled (parent exiting)";
        assert_eq!((disabled(of_sub), root_disabled(of_sub)), (Some(("a", "parent exiting")), None));
        let of_root = "sched_ext: BPF scheduler \"a\" disabled (runtime error)";
        assert_eq!(
            (disabled(of_root), root_disabled(of_root)),
            (Some(("a", "runtime error")), disabled(of_root))
        );
        assert_eq!(disabled("sched_ext: BPF scheduler \"a\" enabled"), None);
        assert_eq!(root_enabled("sched_ext: BPF scheduler \"a\" enabled"), Some("a"));
        assert_eq!(root_enabled("sched_ext: BPF scheduler \"a\" enabled (partial)"), Some("a"));
        assert_eq!(root_enabled("sched_ext: BPF scheduler \"a\" enabledx"), None);
        assert_eq!(root_enabled("sched_ext: BPF sub-scheduler \"a\" enabled"), None);
        assert_eq!(said("sched_ext: demo: it: said"), Some(("demo", "it: said")));
        assert_eq!(words("sched_ext: Not compatible"), Some("Not compatible"));
        assert_eq!(words("clocksource: sched_ext: x"), None);
    }
}
