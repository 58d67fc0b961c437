//! What tools put before each line: times, hosts, programs, quoting.

use std::sync::LazyLock;

use regex_lite::Regex;

/// Prefixes of one line that are taken off, one after the other: a quoted excerpt of a journal of a scheduler that logs has three.
const MAX_PREFIXES: usize = 6;

/// `comm-123 [001] d..1. 12.345: sched_ext_dump: `, as a trace pipe, `trace-cmd report` and `perf script` print it.
static TRACE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"^ *\S.{0,32}?[- ] ?\d+ +(?:\( *[\d-]+\) +)?\[\d+\] +(?:\S{4,6} +)?\d+\.\d+: +(?:sched_ext:)?sched_ext_dump:(?: |$)",
    )
});
/// `Nov 26 12:00:00 host program[123]: `, with the times of `-o short`, `short-full`, `short-iso`, `short-unix`, `short-monotonic` and
/// `short-delta`. One blank is between its parts: behind the time of `dmesg` two are before the line of a task, `  R kworker/1:1[34] ...`.
static JOURNAL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(concat!(
        r"^(?:[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d(?:\.\d+)?",
        r"|(?:[A-Z][a-z]{2} )?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?Z| ?[+-]\d\d:?\d\d| [A-Z]{2,5})?",
        r"|\d{9,11}\.\d+",
        r"|\[ *\d+\.\d+(?: <[^>]{0,20}>)? *\])",
        r" [^\s:\[\]]+ ([^\s:\[\]]{1,64}(?:\[\d+\])?): ?"
    ))
});
/// `[   12.345678] `, with the level, the thread or the date that `dmesg` can add.
static DMESG: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(concat!(
        r"^(?:<\d+>)?\[(?: *\d+\.\d+|[A-Z][a-z]{2} [A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d \d{4})\]",
        r"(?:\[ *[TC]\d+\])? ?"
    ))
});
/// `12:34:56 [INFO] `, `[ERROR] `: a scheduler's own log.
static LOG: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(concat!(
        r"^(?:(?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d:\d\d(?:[.,]\d+)?Z? +)?",
        r"\[(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR)\] "
    ))
});

/// A pattern of this file is sound, as its tests show; one that were not would match nothing.
fn regex(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

/// A line without what tools put before it, and the program that wrote it, if that is said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stripped<'l> {
    pub rest: &'l str,
    /// `bash[123]`, `kernel`.
    pub program: Option<&'l str>,
}

/// Take the prefixes off a line.
pub(super) fn strip(line: &str) -> Stripped<'_> {
    let mut found = Stripped { rest: line, program: None };
    for _ in 0..MAX_PREFIXES {
        let Some((rest, program)) = one(found.rest) else { break };
        found = Stripped { rest, program: program.or(found.program) };
    }
    found
}

/// Take one prefix off.
fn one(line: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = line.strip_prefix('>') {
        return Some((rest.strip_prefix(' ').unwrap_or(rest), None));
    }
    let first = line.trim_start_matches(' ').bytes().next()?;
    let of = |regex: &LazyLock<Option<Regex>>, program: usize| {
        let found = regex.as_ref()?.captures(line)?;
        let program = found.get(program).filter(|_| program > 0).map(|one| one.as_str());
        let rest = line.get(found.get(0)?.end()..)?;
        // `[   12.345678] CPU 1000: nr_run=1` has neither host nor program.
        (!rest.starts_with("nr_run=")).then_some((rest, program))
    };
    let dated = first.is_ascii_digit() || matches!(first, b'[' | b'<') || first.is_ascii_uppercase();
    let plain = || dated.then(|| of(&JOURNAL, 1).or_else(|| of(&DMESG, 0)).or_else(|| of(&LOG, 0))).flatten();
    let traced = || line.contains("sched_ext_dump:").then(|| of(&TRACE, 0)).flatten();
    traced().or_else(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_many_tools_are_taken_off() {
        for (prefix, program) in [
            ("", None),
            ("> > ", None),
            (">> ", None),
            ("[   12.345678] ", None),
            ("<3>[   12.345678][  T123] ", None),
            ("[Thu Nov 26 12:00:00 2026] ", None),
            ("Nov 26 12:00:00 host scx_lavd[123]: ", Some("scx_lavd[123]")),
            ("Nov  6 12:00:00.123456 host bash[9]: 12:00:00 [INFO] ", Some("bash[9]")),
            ("2025-01-17T21:09:11+0300 dx bash[1022]: ", Some("bash[1022]")),
            ("2025-01-17T21:09:11,123456+03:00 dx bash[1022]: ", Some("bash[1022]")),
            ("Thu 2026-11-26 12:00:00 UTC host kernel: ", Some("kernel")),
            ("[ 1234.567890] host kernel: ", Some("kernel")),
            ("[ 1234.567890 <    0.000123 >] host kernel: ", Some("kernel")),
            ("1764158400.123456 host bash[1]: ", Some("bash[1]")),
            ("     kworker/u8:0-12      [001] d..1.    12.345678: sched_ext_dump: ", None),
            ("     a b c-12      (   7) [001] .....    12.345678: sched_ext_dump: ", None),
            ("swapper     0 [000]    12.345678: sched_ext:sched_ext_dump: ", None),
            ("> 12:00:00 [ERROR] ", None),
        ] {
            for text in [
                " *R a[1] +0ms",
                "  R kworker/1:1[34] *root -9ms",
                "CPU 1000: nr_run=5 flags=0x1",
                "",
                "sched_ext: demo: it said so",
            ] {
                let line = format!("{prefix}{text}");
                assert_eq!(strip(&line), Stripped { rest: text, program }, "{line:?}");
            }
        }
    }

    #[test]
    fn lines_of_dumps_lose_nothing() {
        for line in [
            "kworker/u16:4[173] triggered exit kind 1026:",
            "  runnable task stall (yes[1632] failed to run for 5.314s)",
            "  R x-1 [0] [104] *root -1000ms",
            "      scx_state/flags=4/0xb dsq_flags=0x0 ops_state/qseq=0/0",
            "sched_ext: demo: watchdog timeout 2000ms",
            "CPU 1000: nr_run=5 flags=0x1 cpu_rel=0",
            "----------",
        ] {
            assert_eq!(strip(line), Stripped { rest: line, program: None });
        }
    }
}
