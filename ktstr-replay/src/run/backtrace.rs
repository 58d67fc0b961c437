//! The backtrace of a scheduler's exit: who asked for it. It stands in the kernel's dump.

use super::dump::frame;

/// Most frames that are taken.
const FRAMES: usize = 16;
/// What stands above it. Source: `scx_dump_state` in `kernel/sched/ext.c`.
const TITLE: &str = "Backtrace:";
/// Functions by which the kernel ends a scheduler, and takes the backtrace: those below them asked for it.
const OF_THE_EXIT: [&str; 6] =
    ["scx_exit", "scx_vexit", "scx_error", "scx_verror", "__scx_exit", "stack_trace_save"];
/// The watchdog: a stall is found there, and made elsewhere, so that nothing in its backtrace has led to it.
const OF_THE_WATCHDOG: [&str; 3] = ["scx_watchdog_workfn", "scx_tick", "check_rq_for_timeouts"];

/// A function that called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller<'d> {
    /// Its symbol, as the kernel prints it.
    pub name: &'d str,
    /// Where its call returns to, in bytes from its beginning.
    pub offset: u64,
}

/// The frames of the backtrace in a dump, the innermost first, without those that every exit has; none of a stall, whose
/// backtrace is the watchdog's.
pub(crate) fn backtrace(dump: &str) -> Vec<Caller<'_>> {
    let mut lines = dump.lines().map(str::trim).peekable();
    // A thread's name can be such a line, but is too short for a frame below it.
    while let Some(line) = lines.next() {
        if line == TITLE && lines.peek().is_some_and(|below| frame(below).is_some()) {
            break;
        }
    }
    let frames = lines.map_while(frame);
    let mut found: Vec<Caller<'_>> = Vec::new();
    for caller in frames.take(4 * FRAMES) {
        // gcc splits functions: `x.isra.0` and `x.cold` are of `x`.
        let base = caller.name.split('.').next().unwrap_or(caller.name);
        if OF_THE_EXIT.contains(&base) {
            // What was above it is the exit's own doing.
            found.clear();
        } else if OF_THE_WATCHDOG.contains(&base) {
            return Vec::new();
        } else if found.len() < FRAMES {
            found.push(caller);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kernel 7.3 printed it, shortened.
    const OF_AN_ERROR: &str = "\
demo[103] triggered exit kind 1025:
  scx_bpf_error (no room)

Backtrace:
  scx_vexit+0x5c/0xb0
  scx_bpf_error_bstr+0x7d/0x80
  bpf_prog_0123456789abcdef_demo_enqueue+0x101/0x3f0
  bpf__sched_ext_ops_enqueue+0x47/0x8f
  do_enqueue_task+0x13c/0x2d0
  enqueue_task_scx.isra.0+0x1bb/0x2b0

CPU states
----------
";

    #[test]
    fn it_has_who_asked_for_the_exit_and_not_how_it_is_made() {
        let found = backtrace(OF_AN_ERROR);
        assert_eq!(found.first(), Some(&Caller { name: "scx_bpf_error_bstr", offset: 0x7d }));
        assert!(found.iter().any(|caller| caller.name == "do_enqueue_task"), "{found:?}");
        assert!(!found.iter().any(|caller| ["scx_vexit", "CPU"].contains(&caller.name)), "{found:?}");
    }

    #[test]
    fn a_thread_that_is_called_as_the_title_is_hides_nothing() {
        let dump = OF_AN_ERROR.replace("demo[103]", "a\nBacktrace:\nb[103]");
        assert_eq!(backtrace(&dump), backtrace(OF_AN_ERROR));
    }

    #[test]
    fn the_watchdog_has_not_made_the_stall_that_it_found() {
        for watchdog in ["scx_watchdog_workfn", "scx_tick", "check_rq_for_timeouts.isra.0"] {
            let dump =
                format!("Backtrace:\n  __scx_exit+0x1/0x2\n  {watchdog}+0x1/0x2\n  kthread+0x1/0x2\n\n");
            assert_eq!(backtrace(&dump), []);
        }
        assert_eq!(backtrace("no backtrace+0x1/0x2\n"), []);
        assert_eq!(backtrace("Backtrace:\n  f+0xzz/0x2\n  f+0x11111111111111111/0x2\n"), []);
    }
}
