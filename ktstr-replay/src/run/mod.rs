//! A trace as judges and reports read it: everything decoded once.

mod checkpoints;

use std::sync::Arc;

pub use checkpoints::{CheckpointError, Checkpoints, OpenCheckpoint};

use crate::path::Projection;
use crate::series::{Column, Samples, Series};
use crate::trace::Trace;
use crate::trace::record::{
    CaptureKind, ClaimRecord, Event, EventBody, GuestEnd, Loss, Manifest, OutputSource, Sample, Stage,
    WorkerReport,
};
use crate::verdict::Verdict;

/// A trace, decoded for judging and reporting.
pub struct Run<'t> {
    pub(crate) trace: &'t Trace,
    pub(crate) manifest: Manifest,
    pub(crate) events: Vec<Event>,
    pub(crate) samples: Arc<Samples>,
    pub(crate) claims: Vec<ClaimRecord>,
    pub(crate) losses: Vec<Loss>,
    /// What is damaged, or was written by a newer release; one line each.
    pub(crate) damage: Vec<String>,
}

/// A scheduler's death, as the kernel or its process tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerExit {
    /// Guest time, in ns.
    pub at_ns: u64,
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

impl<'t> Run<'t> {
    /// Decode what judges and reports need. Damage is not an error: it is found, and reported.
    pub fn load(trace: &'t Trace) -> Self {
        let events = trace.events();
        let samples = Samples::with_origin(trace, crate::series::origin_ns(&events));
        let claims = trace.claims();
        let losses = trace.losses();
        let manifest = trace.manifest().cloned().unwrap_or_default();
        let mut damage: Vec<_> = trace.faults().iter().map(ToString::to_string).collect();
        let whole = trace.completeness();
        if whole.absent_records > 0 {
            damage.push(format!(
                "{} records are not there, by the numbering of the others",
                whole.absent_records
            ));
        }
        if whole.newer_bodies > 0 {
            damage.push(format!("{} records are of a newer release and were not read", whole.newer_bodies));
        }
        Self { trace, manifest, events, samples: Arc::new(samples), claims, losses, damage }
    }

    /// The verdict that was recorded; `None`: none was, or it cannot be read.
    pub fn recorded_verdict(&self) -> Option<Verdict> {
        serde_json::from_str(&self.trace.verdict_json().ok()??).ok()
    }

    /// The samples that claims are about.
    pub fn subject(&self) -> Series {
        Series::subject(&self.samples)
    }

    /// All samples.
    pub fn captures(&self) -> Series {
        Series::all(&self.samples)
    }

    /// What `projections` name in each capture, in their order, out of samples and checkpoints.
    pub fn columns(&self, projections: &[Projection]) -> Vec<Column> {
        self.captures().columns_with(self.trace, &projections.iter().collect::<Vec<_>>())
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// A guest time in ns since the body began; negative before it. Since the guest's boot if it never began.
    pub(crate) fn since_start_ns(&self, guest_ns: u64) -> i64 {
        let ns = i128::from(guest_ns) - i128::from(self.samples.origin_ns());
        i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
    }

    /// Position, event and detail of the first time that a stage was reached.
    pub(crate) fn stage(&self, wanted: Stage) -> Option<(usize, &Event, &str)> {
        self.events.iter().enumerate().find_map(|(i, e)| match &e.body {
            EventBody::Stage { stage, detail } if *stage == wanted => Some((i, e, detail.as_str())),
            _ => None,
        })
    }

    /// Position and event of the body's end: its result or the stage, or the end of a test binary that died before
    /// there was one.
    pub(crate) fn body_end(&self) -> Option<(usize, &Event)> {
        self.events.iter().enumerate().find(|(_, e)| {
            let stages = [Stage::BodyEnded, Stage::TestExited];
            match &e.body {
                EventBody::Body { .. } => true,
                EventBody::Stage { stage, .. } => stages.contains(stage),
                _ => false,
            }
        })
    }

    /// Whether something may have happened that the trace does not have: it has no end, or is damaged. What is
    /// absent from such a trace is unknown, not undone.
    pub(crate) fn is_partial(&self) -> bool {
        self.end().is_none() || !self.damage.is_empty()
    }

    pub(crate) fn end(&self) -> Option<(GuestEnd, &str)> {
        self.events.iter().rev().find_map(|e| match &e.body {
            EventBody::End { end, detail } => Some((*end, detail.as_str())),
            _ => None,
        })
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = &WorkerReport> {
        self.events.iter().filter_map(|e| match &e.body {
            EventBody::Worker(report) => Some(report),
            _ => None,
        })
    }

    /// Level and text of each line of the kernel log, in order.
    pub(crate) fn kmsg(&self) -> impl DoubleEndedIterator<Item = (u8, u64, &str)> {
        self.events.iter().filter_map(|e| match &e.body {
            EventBody::Kmsg { level, text, .. } => Some((*level, e.guest_ns, text.as_str())),
            _ => None,
        })
    }

    /// Everything that a program wrote, both streams in the order in which they came.
    pub(crate) fn output(&self, wanted: OutputSource) -> String {
        let chunks = self.events.iter().filter_map(|e| match &e.body {
            EventBody::Output { source, bytes, .. } if *source == wanted => Some(bytes.as_slice()),
            _ => None,
        });
        String::from_utf8_lossy(&chunks.collect::<Vec<_>>().concat()).into_owned()
    }

    /// Everything on the console.
    pub(crate) fn console(&self) -> String {
        let chunks = self.events.iter().filter_map(|e| match &e.body {
            EventBody::Console(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        String::from_utf8_lossy(&chunks.collect::<Vec<_>>().concat()).into_owned()
    }

    /// Whether a scheduler was to be tested.
    pub(crate) fn has_scheduler(&self) -> bool {
        self.manifest.scheduler.is_some() || self.stage(Stage::SchedulerStarted).is_some()
    }

    /// The sample with the scheduler's state at its exit, or as near to it as there is one.
    fn exit_sample(&self) -> Option<&Sample> {
        let told = |s: &&Sample| s.missed.is_none() && s.scx.as_ref().is_some_and(|scx| scx.exit_kind != 0);
        let at_exit = |s: &&Sample| s.kind == CaptureKind::SchedulerExit && s.missed.is_none();
        // The earliest that tells is the nearest to the exit; the capture at the exit itself comes before all.
        self.samples.iter().find(|s| at_exit(s) && told(s)).or_else(|| self.samples.iter().find(told))
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
        let ejected = self.samples.iter().any(|s| s.kind == CaptureKind::SchedulerExit)
            && body_ended.is_none()
            && exited.is_none();
        if early.is_none() && !died && !ejected {
            return None;
        }
        let process = exited.map(|(_, _, detail)| detail.to_owned()).filter(|d| !d.is_empty());
        let exit_capture = self.samples.iter().find(|s| s.kind == CaptureKind::SchedulerExit);
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
    pub fn title(&self) -> String {
        match (&self.kind_name, self.kind, &self.process) {
            (Some(name), kind, _) if kind != 0 => format!("{name} ({kind})"),
            (None, kind, _) if kind != 0 => format!("exit kind {kind}"),
            (_, _, Some(process)) => process.clone(),
            _ => "exited".to_owned(),
        }
    }

    /// Reason and message on one line, as far as they are known.
    pub fn cause(&self) -> Option<String> {
        match (&self.reason, &self.message) {
            (Some(reason), Some(message)) if reason != message => Some(format!("{reason}: {message}")),
            (Some(one), _) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        }
    }
}
