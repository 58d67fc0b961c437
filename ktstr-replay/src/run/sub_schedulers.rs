//! The lives of sub-schedulers, as the kernel's log tells them: captures have the state of the root scheduler alone, and a sub-scheduler's
//! own is gone with the process that loaded it.
//!
//! Source: `scx_sub_enable_workfn` of `kernel/sched/ext/sub.c` and `scx_log_sched_disable` of `kernel/sched/ext/ext.c` of Linux.

use std::collections::HashMap;

use crate::kernel::scx::said::{KERN_ERR, SchedulerLine, said};
use crate::units::GuestNs;

use super::{Run, STALL_REASON, frame};

/// Most functions of a backtrace that are kept (`SCX_EXIT_BT_LEN`).
const MAX_FRAMES: usize = 64;
/// How a backtrace begins that is of something else, as of a warning of the kernel's.
const OTHER_TRACE: &str = "Call Trace:";

/// Something that happened to a sub-scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubSchedulerNews {
    /// When.
    pub at: GuestNs,
    /// Its `ops.name`, which several may share.
    pub name: String,
    /// Its end; `None`: it was enabled.
    pub end: Option<SubSchedulerEnd>,
}

/// The end of a sub-scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubSchedulerEnd {
    /// The kernel's reason: `unregistered from user space`, `runtime error`, ...
    pub reason: String,
    /// The kernel's, or its own, message.
    pub message: Option<String>,
    /// It was an error, not somebody's wish.
    pub is_error: bool,
    /// The functions that led to the error, the innermost first, as the kernel prints them: `scx_vexit+0x5c/0xb0`.
    pub backtrace: Vec<String>,
}

impl SubSchedulerEnd {
    /// Whether the watchdog ended it.
    pub(crate) fn is_stall(&self) -> bool {
        self.is_error && self.reason == STALL_REASON
    }
}

impl SubSchedulerNews {
    /// In words: `sub-scheduler qmap ended: runtime error: it gave up`.
    pub(crate) fn in_words(&self) -> String {
        let Some(end) = &self.end else { return format!("sub-scheduler {} was enabled", self.name) };
        let message = end.message.as_ref().map_or_else(String::new, |message| format!(": {message}"));
        format!("sub-scheduler {} ended: {}{message}", self.name, end.reason)
    }
}

impl Run<'_> {
    /// What the kernel's log tells of sub-schedulers, in its order.
    pub(crate) fn sub_schedulers(&self) -> Vec<SubSchedulerNews> {
        let mut found: Vec<SubSchedulerNews> = Vec::new();
        let mut is_its = false;
        for (level, at, text) in self.kmsg() {
            if let Some((name, end)) = told(text, level) {
                is_its = true;
                found.push(SubSchedulerNews { at, name: name.to_owned(), end });
            } else if let Some(last) = found.last_mut()
                && let Some(end) = last.end.as_mut().filter(|end| end.is_error && end.message.is_none())
                && let Some((name, message)) = said(text)
                && name == last.name
            {
                end.message = Some(message.to_owned());
            } else if text.trim_start().starts_with(OTHER_TRACE) {
                is_its = false;
            } else if is_its
                && let Some(end) = found.last_mut().and_then(|last| last.end.as_mut())
                && end.is_error
                && text.starts_with(' ')
                && end.backtrace.len() < MAX_FRAMES
                && frame(text.trim()).is_some()
            {
                end.backtrace.push(text.trim().to_owned());
            }
        }
        found
    }

    /// The ends by an error, in the order of the log; with `allow_restarts` without those after which one of the same name was enabled.
    pub(crate) fn sub_scheduler_failures(&self) -> Vec<SubSchedulerNews> {
        let news = self.sub_schedulers();
        // When each was enabled last: whoever writes into the kernel's log may have any number of them end.
        let enabled = news.iter().enumerate().filter(|(_, one)| one.end.is_none());
        let last: HashMap<&str, usize> = enabled.map(|(at, one)| (one.name.as_str(), at)).collect();
        let is_back = |at: usize, name: &str| last.get(name).is_some_and(|last| *last > at);
        let is_failure = |(at, one): &(usize, &SubSchedulerNews)| {
            one.end.as_ref().is_some_and(|end| end.is_error)
                && !(self.manifest.test.allow_restarts && is_back(*at, &one.name))
        };
        news.iter().enumerate().filter(is_failure).map(|(_, one)| one.clone()).collect()
    }
}

/// Whether a line of the kernel's log, of this level, tells that a sub-scheduler ended by an error.
#[must_use]
pub fn tells_of_sub_scheduler_error(text: &str, level: u8) -> bool {
    told(text, level).and_then(|(_, end)| end).is_some_and(|end| end.is_error)
}

/// The sub-scheduler that a line of the log tells of, and its end if it is that.
fn told(text: &str, level: u8) -> Option<(&str, Option<SubSchedulerEnd>)> {
    let line = SchedulerLine::read(text).filter(|line| line.is_sub)?;
    let end = line.end.map(|reason| {
        // An orderly end is told at `KERN_INFO`.
        let (reason, is_error) = (reason.to_owned(), level <= KERN_ERR);
        SubSchedulerEnd { reason, message: None, is_error, backtrace: Vec::new() }
    });
    Some((line.name, end))
}

/// A line that tells of a sub-scheduler, with its name alone, for a trace that is to have no log; `None`: it tells of none. Whoever
/// may write into the log could write such a line: what is no name of BPF's is hidden.
pub(crate) fn sub_scheduler_without_text(text: &str) -> Option<String> {
    let (name, end) = told(text, 0)?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    let name = if name.bytes().all(is_name) { name } else { "redacted" };
    let what = if end.is_some() { "disabled (redacted)" } else { "enabled" };
    Some(format!("sched_ext: BPF sub-scheduler \"{name}\" {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TraceBuilder;

    #[test]
    fn lives_are_told_with_reason_and_message() {
        let log = [
            (6, "sched_ext: BPF sub-scheduler \"qmap\" enabled"),
            (6, "sched_ext: BPF scheduler \"qmap\" enabled"),
            (3, "sched_ext: BPF sub-scheduler \"qmap\" disabled (runtime error)"),
            (3, "sched_ext: qmap: it gave up"),
            (3, "sched_ext: qmap: another line"),
            (4, "   scx_vexit+0x5c/0xb0"),
            (4, "unlike this one+0x1/0x2"),
            (4, "   bpf_prog_0123456789abcdef_qmap_enqueue+0x1/0x2"),
            (4, "Call Trace:"),
            (4, " warned_of_later+0x1/0x2"),
            (6, "sched_ext: BPF sub-scheduler \"other\" disabled (unregistered from user space)"),
        ];
        let run =
            (1..).zip(log).fold(TraceBuilder::begun(), |run, (at, (level, text))| run.kmsg(at, level, text));
        let trace = run.ended().trace();
        let run = crate::run::Run::load(&trace);
        let words: Vec<String> = run.sub_schedulers().iter().map(SubSchedulerNews::in_words).collect();
        assert_eq!(
            words,
            [
                "sub-scheduler qmap was enabled",
                "sub-scheduler qmap ended: runtime error: it gave up",
                "sub-scheduler other ended: unregistered from user space",
            ]
        );
        let errors: Vec<bool> =
            run.sub_schedulers().iter().filter_map(|one| Some(one.end.as_ref()?.is_error)).collect();
        assert_eq!(errors, [true, false]);
        let failures = run.sub_scheduler_failures();
        let backtraces: Vec<_> =
            failures.iter().filter_map(|one| Some(&one.end.as_ref()?.backtrace)).collect();
        assert_eq!(
            backtraces,
            [&["scx_vexit+0x5c/0xb0", "bpf_prog_0123456789abcdef_qmap_enqueue+0x1/0x2"].map(str::to_owned)]
        );
    }

    #[test]
    fn what_only_looks_like_it_tells_nothing() {
        for text in [
            "sched_ext: BPF sub-scheduler \"x",
            "sched_ext: BPF sub-scheduler \"x\" ",
            "sched_ext: BPF sub-scheduler \"x\" disabled (no end",
            "x sched_ext: BPF sub-scheduler \"x\" enabled",
        ] {
            assert_eq!(told(text, 3), None, "{text}");
        }
    }

    #[test]
    fn without_its_text_a_line_has_the_name_and_what_became_of_it() {
        let without = |text: &str| sub_scheduler_without_text(text);
        let enabled = "sched_ext: BPF sub-scheduler \"qmap\" enabled";
        assert_eq!(without(enabled).as_deref(), Some(enabled));
        let forged = "sched_ext: BPF sub-scheduler \"my key\" disabled (my password)";
        let hidden = "sched_ext: BPF sub-scheduler \"redacted\" disabled (redacted)";
        assert_eq!(without(forged).as_deref(), Some(hidden));
        assert_eq!(without("sched_ext: my password"), None);
    }
}
