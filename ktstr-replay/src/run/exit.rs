//! The scheduler's exit, as the trace has it.

use super::Run;
use super::dump::named;
use crate::trace::record::{CaptureKind, Sample, Stage};
use crate::units::GuestNs;

/// How a scheduler ended, by the kernel or its process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulerExit {
    /// Guest time, in ns.
    pub at_ns: GuestNs,
    /// `scx_exit_kind`; 0 when the kernel's record of it was not captured.
    pub kind: u64,
    /// Name of that kind.
    pub kind_name: Option<String>,
    /// The kernel's reason.
    pub reason: Option<String>,
    /// The kernel's (or the scheduler's own) message.
    pub message: Option<String>,
    /// The kernel's dump.
    pub dump: Option<String>,
    /// How the scheduler's process ended.
    pub process: Option<String>,
    /// Index of the sample that has the state at the exit.
    pub sample: Option<u32>,
}

/// First `scx_exit_kind` that is an error (`SCX_EXIT_ERROR`). Source: `kernel/sched/ext_internal.h`.
const SCX_EXIT_ERROR: u64 = 1024;

impl Run<'_> {
    /// The sample with the scheduler's state at its exit, or as near to it as there is one.
    fn exit_sample(&self) -> Option<&Sample> {
        let has_exit = |s: &&Sample| s.scx.as_ref().is_some_and(|scx| scx.exit_kind != 0);
        let at_exit = |s: &&Sample| s.kind == CaptureKind::SchedulerExit;
        // The earliest that has it is the nearest to the exit; the capture at the exit itself comes before all.
        self.taken().find(|s| at_exit(s) && has_exit(s)).or_else(|| self.taken().find(has_exit))
    }

    /// How the scheduler ended, if it ended while it should have run, or with an error.
    ///
    /// It should run until the body has ended; the kernel's kinds below `SCX_EXIT_ERROR` (1024) are orderly ends,
    /// which after that are expected.
    pub fn scheduler_exit(&self) -> Option<SchedulerExit> {
        self.stage(Stage::SchedulerEnabled)?;
        let body_ended = self.body_end().map(|(i, _)| i);
        let exited = self.stage(Stage::SchedulerExited);
        let early = exited.filter(|(i, ..)| body_ended.is_none_or(|end| *i < end));
        let sample = self.exit_sample();
        let scx = sample.and_then(|s| s.scx.as_ref());
        let died = scx.is_some_and(|scx| scx.exit_kind >= SCX_EXIT_ERROR);
        // A capture at an exit that came before the end of the body, although nobody heard of the process.
        let exit_capture = self.samples.iter().find(|s| s.kind == CaptureKind::SchedulerExit);
        let ejected = exit_capture.is_some() && body_ended.is_none() && exited.is_none();
        if early.is_none() && !died && !ejected {
            return None;
        }
        let process = exited.map(|(_, _, detail)| detail.to_owned()).filter(|d| !d.is_empty());
        let at_ns = sample.or(exit_capture).map(|s| s.guest_ns).or(exited.map(|(_, e, _)| e.guest_ns));
        let said = |text: Option<&String>| text.filter(|t| !t.trim().is_empty()).cloned();
        Some(SchedulerExit {
            at_ns: at_ns.unwrap_or_default(),
            kind: scx.map_or(0, |scx| scx.exit_kind),
            kind_name: said(scx.and_then(|scx| scx.exit_kind_name.as_ref())),
            reason: said(scx.and_then(|scx| scx.exit_reason.as_ref())),
            message: said(scx.and_then(|scx| scx.exit_message.as_ref())),
            dump: said(scx.and_then(|scx| scx.exit_dump.as_ref())),
            process,
            sample: sample.or(exit_capture.filter(|s| s.missed.is_none())).map(|s| s.index),
        })
    }
}

impl SchedulerExit {
    /// The kind's name and number, or how its process ended.
    pub(crate) fn title(&self) -> String {
        match (&self.kind_name, self.kind, &self.process) {
            (Some(name), kind, _) if kind != 0 => format!("{name} ({kind})"),
            (None, kind, _) if kind != 0 => format!("exit kind {kind}"),
            (_, _, Some(process)) => process.clone(),
            _ => "exited".to_owned(),
        }
    }

    /// Command name and pid of the task that the message names, as in `stalled[105] failed to run for 2.004s`.
    pub(crate) fn named_task(&self) -> Option<(String, i64)> {
        named(self.message.as_deref()?.split_once(" failed to run for ")?.0)
    }

    /// Reason and message on one line, as far as they are known.
    pub(crate) fn cause(&self) -> Option<String> {
        match (&self.reason, &self.message) {
            (Some(reason), Some(message)) if reason != message => Some(format!("{reason}: {message}")),
            (Some(one), _) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_names_its_task() {
        let named = |message: &str| {
            SchedulerExit { message: Some(message.to_owned()), ..SchedulerExit::default() }.named_task()
        };
        assert_eq!(named("a[b[105] failed to run for 2.004s"), Some(("a[b".to_owned(), 105)));
        assert_eq!(named("watchdog failed to check in for 2.004s"), None);
    }
}
