//! A trace, decoded once.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::exit::SchedulerExit;
use crate::history::HistoryLog;
use crate::path::Projection;
use crate::probe::ProbeLog;
use crate::series::{Column, ReportedWorker, Samples, Series, reported};
use crate::text::time_ns;
use crate::timeline::{Logs, Timeline};
use crate::trace::Trace;
use crate::trace::record::{
    CaptureKind, ClaimRecord, Event, EventBody, GuestEnd, Loss, LossKind, Manifest, OutputSource, PayloadRun,
    Sample, Stage, WorkerReport,
};
use crate::units::GuestNs;
use crate::verdict::Verdict;
use crate::watch::WatchLog;

/// When periodic capture `index` of `count` over a workload window is due, from the start of the body:
/// `0.1 d + (i + 1) * 0.8 d / (N + 1)`. The first and the last tenth of the window are left to warm-up and wind-down.
#[must_use]
pub fn periodic_due(window: Duration, count: u32, index: u32) -> Duration {
    let step = window.mul_f64(0.8) / count.saturating_add(1);
    window.mul_f64(0.1) + step.saturating_mul(index.saturating_add(1))
}

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
    /// How often and how the scheduler left. Made on first use.
    pub(super) exits: OnceLock<Vec<SchedulerExit>>,
    /// What the CPUs did. Made on first use: a run may have millions of steps.
    history: OnceLock<Arc<HistoryLog>>,
    /// What watches and probes saw. Likewise.
    watches: OnceLock<Arc<WatchLog>>,
    probes: OnceLock<Arc<ProbeLog>>,
    /// What happened in it, for claims. Likewise.
    timeline: OnceLock<Timeline>,
}

impl<'t> Run<'t> {
    /// Decode what judges and reports need. Damage is not an error: it is found, and reported.
    pub fn load(trace: &'t Trace) -> Self {
        let events = trace.events();
        let samples = trace.decoded_samples(|| Samples::with_events(trace, &events));
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
        // What `repair` and `slim` could not carry over was damaged in the trace that this one was made of.
        let is_lost =
            |loss: &&Loss| loss.kind == LossKind::Records && loss.count > 0 && !loss.is_on_purpose();
        damage.extend(
            losses.iter().filter(is_lost).map(|loss| format!("{} lost: {}", loss.count, loss.detail)),
        );
        if whole.newer_bodies > 0 {
            damage.push(format!("{} records are of a newer release and were not read", whole.newer_bodies));
        }
        Self {
            trace,
            manifest,
            events,
            samples,
            claims,
            losses,
            damage,
            exits: OnceLock::new(),
            history: OnceLock::new(),
            watches: OnceLock::new(),
            probes: OnceLock::new(),
            timeline: OnceLock::new(),
        }
    }

    /// What the CPUs of the run did.
    pub(crate) fn history(&self) -> &Arc<HistoryLog> {
        self.history.get_or_init(|| Arc::new(HistoryLog::of(&self.events)))
    }

    /// What its watches saw.
    pub(crate) fn watches(&self) -> &Arc<WatchLog> {
        self.watches.get_or_init(|| Arc::new(WatchLog::of(&self.events)))
    }

    /// What its probes saw.
    pub(crate) fn probes(&self) -> &Arc<ProbeLog> {
        self.probes.get_or_init(|| Arc::new(ProbeLog::of(&self.events)))
    }

    /// What happened in the run, as claims about events name it.
    pub(crate) fn timeline(&self) -> &Timeline {
        self.timeline.get_or_init(|| {
            let logs = Logs {
                history: Arc::clone(self.history()),
                watches: Arc::clone(self.watches()),
                probes: Arc::clone(self.probes()),
            };
            Timeline::new(self.trace, &self.events, &self.losses, logs)
        })
    }

    /// The verdict that was recorded; `None`: none was, it cannot be read, or it says that it is of another run.
    pub fn recorded_verdict(&self) -> Option<Verdict> {
        let verdict: Verdict = serde_json::from_str(&self.trace.verdict_json().ok()??).ok()?;
        (verdict.run.is_empty() || verdict.run == self.identity()).then_some(verdict)
    }

    /// What tells this run from others: its test and when it began.
    pub(crate) fn identity(&self) -> String {
        format!("{} {}", self.manifest.test.name, self.manifest.started_at)
    }

    /// The samples that claims are about.
    pub(crate) fn subject(&self) -> Series {
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

    /// The samples that were taken: those that were not missed. Those of watches are not among them: they are of instants in the middle of
    /// what the kernel does, such as the end of a scheduler that was told to leave, and at the host's estimate of the time.
    pub(crate) fn taken(&self) -> impl DoubleEndedIterator<Item = &Sample> {
        self.samples.iter().filter(|sample| sample.missed.is_none() && sample.kind != CaptureKind::Watch)
    }

    /// The samples that have the scheduler's maps, and so its variables.
    pub(crate) fn with_maps(&self) -> impl DoubleEndedIterator<Item = &Sample> {
        self.taken().filter(|sample| !sample.maps.is_empty())
    }

    /// The sample of that index, if it could be read.
    pub(crate) fn sample(&self, index: u32) -> Option<&Sample> {
        self.samples.iter().find(|sample| sample.index == index)
    }

    /// The capture tagged `at`, the last of several; or, where `at` is a time such as `2.5s` or `-300ms`, the last one at or before
    /// it.
    pub(crate) fn capture_at(&self, at: &str) -> Option<&Sample> {
        self.samples.iter().rev().find(|sample| sample.tag == at).or_else(|| {
            let until = time_ns(at)?;
            self.samples.iter().rev().find(|sample| self.since_start_ns(sample.guest_ns) <= until)
        })
    }

    /// What the scheduler is called.
    pub(crate) fn scheduler_name(&self) -> &str {
        self.manifest.scheduler.as_ref().map_or("the scheduler", |scheduler| scheduler.name.as_str())
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// A guest time in ns since the body began; negative before it. Since the guest's boot if it never began.
    pub(crate) fn since_start_ns(&self, guest_ns: GuestNs) -> i64 {
        guest_ns.since(self.samples.origin_ns())
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

    /// What the test's body returned: its error, and its failed assertions. `None` where that was not recorded.
    pub(crate) fn body_result(&self) -> Option<(Option<&str>, &[String])> {
        self.events.iter().rev().find_map(|e| match &e.body {
            EventBody::Body { error, failures } => Some((error.as_deref(), failures.as_slice())),
            _ => None,
        })
    }

    /// Whether a periodic capture was due after the body had ended, whenever its placeholder was made.
    pub(crate) fn is_after_body(&self, sample: &Sample) -> bool {
        let Some((_, ended)) = self.body_end() else { return false };
        let number = sample.tag.strip_prefix("periodic_").and_then(|number| number.parse::<u32>().ok());
        let test = &self.manifest.test;
        let due = number
            .filter(|_| sample.kind == CaptureKind::Periodic)
            .map(|number| periodic_due(Duration::from_millis(test.duration_ms), test.num_snapshots, number));
        let due_ns = due.map(|due| i64::try_from(due.as_nanos()).unwrap_or(i64::MAX));
        due_ns.is_some_and(|due_ns| due_ns > self.since_start_ns(ended.guest_ns))
    }

    /// Whether something may have happened that the trace does not have: it has no end, or is damaged. What is
    /// absent from such a trace is unknown, not undone.
    pub(crate) fn is_partial(&self) -> bool {
        self.end().is_none() || !self.damage.is_empty()
    }

    /// How the machine ended.
    pub(crate) fn end(&self) -> Option<(GuestEnd, &str)> {
        self.events.iter().rev().find_map(|e| match &e.body {
            EventBody::End { end, detail } => Some((*end, detail.as_str())),
            _ => None,
        })
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = &WorkerReport> {
        self.reported_workers().into_iter().map(|one| one.report)
    }

    /// The reports of workers, each with what belongs to it.
    pub(crate) fn reported_workers(&self) -> Vec<ReportedWorker<'_>> {
        reported(&self.events)
    }

    /// The runs of payloads, in the order in which they ended, with the guest's time of it.
    pub(crate) fn payloads(&self) -> impl Iterator<Item = (GuestNs, &PayloadRun)> {
        self.events.iter().filter_map(|e| match &e.body {
            EventBody::Payload(run) => Some((e.guest_ns, &**run)),
            _ => None,
        })
    }

    /// Level and text of each line of the kernel log, in order.
    pub(crate) fn kmsg(&self) -> impl DoubleEndedIterator<Item = (u8, GuestNs, &str)> {
        self.events.iter().filter_map(|e| match &e.body {
            EventBody::Kmsg { level, text, .. } => Some((*level, e.guest_ns, text.as_str())),
            _ => None,
        })
    }

    /// Everything that a program wrote, both streams in the order in which they came.
    pub(crate) fn output(&self, wanted: OutputSource) -> String {
        self.text(|body| match body {
            EventBody::Output { source, bytes, .. } if *source == wanted => Some(bytes),
            _ => None,
        })
    }

    /// Everything on the console.
    pub(crate) fn console(&self) -> String {
        self.text(|body| match body {
            EventBody::Console(bytes) => Some(bytes),
            _ => None,
        })
    }

    fn text(&self, chunk: impl Fn(&EventBody) -> Option<&Vec<u8>>) -> String {
        let chunks = self.events.iter().filter_map(|event| chunk(&event.body)).map(Vec::as_slice);
        String::from_utf8_lossy(&chunks.collect::<Vec<_>>().concat()).into_owned()
    }

    /// Whether a scheduler was to be tested.
    pub(crate) fn has_scheduler(&self) -> bool {
        self.manifest.scheduler.is_some() || self.stage(Stage::SchedulerStarted).is_some()
    }
}
