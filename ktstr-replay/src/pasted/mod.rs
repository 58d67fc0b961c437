//! Dumps and kernel messages of sched_ext in text that people paste: the output of a scheduler, a journal, `dmesg`, a trace pipe, a mail.
//!
//! [`read_pasted`] takes away what tools put around the kernel's lines (prefixes, quoting, fences, wrapping, a reversed order), and
//! finds the [`PastedEnd`]s in what is left: each a dump, or messages that tell of a scheduler's end, or both. What a dump says is read
//! by [`crate::run::Dump`], as that of a trace is; what follows from it is told by [`crate::why`].
//!
//! Sources: `scx_dump_state`, `scx_log_sched_disable` in `kernel/sched/ext/ext.c` of Linux; `UEI_REPORT` in
//! `tools/sched_ext/include/scx/user_exit_info.h`; `journalctl(1)`, `-o`; `dmesg(1)`; `Documentation/trace/ftrace.rst`.
//!
//! ```
//! let text = "> Nov 26 12:00:00 host bash[7]: EXIT: runnable task stall (victim[9] failed to run for 30.0s)\n";
//! let pasted = ktstr_replay::pasted::read_pasted(text);
//! let exit = pasted.ends[0].exit.as_ref().map(|exit| (exit.kind, exit.message.as_deref()));
//! assert_eq!(exit, Some((1026, Some("victim[9] failed to run for 30.0s"))));
//! ```

mod ends;
mod lines;
mod messages;
mod prefix;
#[cfg(test)]
mod tests;

pub use ends::{Pasted, PastedEnd, Short, read_pasted};
