//! The lines that say which scheduler ended, and how.

/// `enum scx_exit_kind` of `kernel/sched/ext/internal.h` of Linux 7.3: number, name and what `scx_exit_reason` says of it. Kernels from
/// 6.12 on have the same numbers, as far as they have these kinds. Traces have the names from the kernel's own types; text has none.
const KINDS: [(u64, &str, &str); 11] = [
    (64, "SCX_EXIT_UNREG", "unregistered from user space"),
    (65, "SCX_EXIT_UNREG_BPF", "unregistered from BPF"),
    (66, "SCX_EXIT_UNREG_KERN", "unregistered from the main kernel"),
    (67, "SCX_EXIT_SYSRQ", "disabled by sysrq-S"),
    (68, "SCX_EXIT_PARENT", "parent exiting"),
    (69, "SCX_EXIT_PARENT_KILL", "killed by parent scheduler"),
    (1024, "SCX_EXIT_ERROR", "runtime error"),
    (1025, "SCX_EXIT_ERROR_BPF", "scx_bpf_error"),
    (1026, "SCX_EXIT_ERROR_STALL", "runnable task stall"),
    (1027, "SCX_EXIT_ERROR_REENQ", "reenqueue limit"),
    (1028, "SCX_EXIT_ERROR_RESCUE", "rescue bandwidth overload"),
];

/// Name of an exit kind.
pub(super) fn kind_name(kind: u64) -> Option<&'static str> {
    KINDS.iter().find(|(number, ..)| *number == kind).map(|(_, name, _)| *name)
}

/// The kind that has this reason; 0 for none.
pub(super) fn kind_of_reason(reason: &str) -> u64 {
    KINDS.iter().find(|(.., text)| *text == reason).map_or(0, |(kind, ..)| *kind)
}

/// `demo: root`, `demo: sub1-4711 /a/b`: name and place of the scheduler that is dumped, on kernels with sub-schedulers.
pub(super) fn placed(line: &str) -> Option<(&str, &str)> {
    let (name, place) = line.split_once(": ")?;
    let is_sub = place.strip_prefix("sub").is_some_and(|rest| {
        let (level, rest) = rest.split_once('-').unwrap_or_default();
        let id = rest.split(' ').next().unwrap_or_default();
        is_number(level) && is_number(id)
    });
    let is_name = !name.is_empty() && !name.contains(char::is_whitespace);
    (is_name && (place == "root" || is_sub)).then_some((name, place))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `Debug dump triggered by SysRq-D`
pub(super) fn requested(line: &str) -> Option<&str> {
    line.trim().strip_prefix("Debug dump triggered by ")
}

/// Reason and message of `runnable task stall (watchdog failed to check in for 2.004s)`, which may go on behind the parenthesis.
pub(super) fn reason(text: &str) -> Option<(&str, Option<&str>)> {
    let text = text.trim();
    let Some((reason, rest)) = text.split_once(" (") else { return Some((text, None)) };
    let message = rest.get(..rest.rfind(')')?)?;
    Some((reason, Some(message).filter(|message| !message.is_empty())))
}

/// `EXIT: reason (message) on CPU 1`, wherever it is in a line: schedulers print it as an error of theirs.
pub(super) fn exit_line(line: &str) -> Option<(&str, Option<&str>)> {
    let (before, said) = line.split_once("EXIT: ")?;
    let is_own = before.is_empty() || before.ends_with(' ');
    let (text, message) = reason(said)?;
    let text = text.split(" on CPU ").next().unwrap_or(text);
    (is_own && !text.is_empty()).then_some((text, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood() {
        assert_eq!(placed("demo: root"), Some(("demo", "root")));
        assert_eq!(placed("demo: sub1-4711 /a b"), Some(("demo", "sub1-4711 /a b")));
        assert_eq!(placed("demo: subway"), None);
        assert_eq!(reason("  stall (a (b) c)"), Some(("stall", Some("a (b) c"))));
        assert_eq!(reason("  stall ()"), Some(("stall", None)));
        assert_eq!(exit_line("Error: EXIT: stall (a[1]) on CPU 3"), Some(("stall", Some("a[1]"))));
        assert_eq!(
            exit_line("EXIT: unregistered from user space"),
            Some(("unregistered from user space", None))
        );
        assert_eq!(exit_line("ATEXIT: x"), None);
        assert_eq!(
            (kind_of_reason("runnable task stall"), kind_name(1026)),
            (1026, Some("SCX_EXIT_ERROR_STALL"))
        );
    }
}
