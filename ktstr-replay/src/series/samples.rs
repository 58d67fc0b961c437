//! The samples of a trace, decoded once.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::btf::Types;
use crate::kernel::KernelProfile;
use crate::trace::record::{BlobId, BlobRole, CaptureKind, Event, EventBody, Sample, Stage};
use crate::trace::{Trace, TraceError};
use crate::units::GuestNs;
use crate::value::snapshot::{BlobError, Blobs};
use crate::value::{MapOwners, Snapshot, StatsAnswers};

use super::Series;
use super::memory::Kernel;

/// The samples of a trace, decoded, with the types of their maps.
pub struct Samples {
    pub(super) all: Vec<Decoded>,
    types: HashMap<BlobId, Result<Arc<Types>, BlobError>>,
    /// Guest time at which the body began, in ns; 0 if it never did.
    pub(super) origin_ns: GuestNs,
    /// What the scheduler answered after captures.
    stats: StatsAnswers,
    /// Whose maps are.
    owners: MapOwners,
    /// The trace, for what is not decoded here: its memory and its events.
    trace: Option<Trace>,
    /// The kernel that the memory is of.
    kernel: OnceLock<Result<KernelProfile, String>>,
}

/// A sample as it was decoded.
pub(super) enum Decoded {
    Whole(Box<Sample>),
    Damaged { index: u32, at_ns: GuestNs, why: String },
}

impl Samples {
    /// Decode all samples of `trace`. Damaged ones keep their place.
    pub fn load(trace: &Trace) -> Self {
        Self::with_events(trace, &trace.events())
    }

    /// As [`Samples::load`], where the trace's events are decoded already.
    pub(crate) fn with_events(trace: &Trace, events: &[Event]) -> Self {
        let mut all = Vec::new();
        let mut at_ns = GuestNs(0);
        for (i, sample) in trace.samples().enumerate() {
            all.push(match sample {
                Ok(sample) => {
                    at_ns = sample.guest_ns;
                    Decoded::Whole(Box::new(sample))
                }
                Err(e) => {
                    let index = u32::try_from(i).unwrap_or(u32::MAX);
                    Decoded::Damaged { index, at_ns, why: format!("damaged: {e}") }
                }
            });
        }
        let wanted = all.iter().filter_map(Decoded::whole).flat_map(|s| &s.maps).filter_map(|m| m.btf);
        let mut types = HashMap::new();
        for id in wanted {
            types.entry(id).or_insert_with(|| parse_types(trace, &id));
        }
        let (origin_ns, stats) = (origin_ns(events), StatsAnswers::of_events(events));
        let owners = MapOwners::of_events(events);
        let trace = trace.segment(trace.segment_number());
        Self { all, types, origin_ns, stats, owners, trace, kernel: OnceLock::new() }
    }

    /// Guest time at which the test's body began, in ns; 0 if it never did.
    pub(crate) fn origin_ns(&self) -> GuestNs {
        self.origin_ns
    }

    /// The samples that could be read, in the order in which they were taken, placeholders included.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Sample> {
        self.all.iter().filter_map(Decoded::whole)
    }

    /// A sample with the types of its maps.
    pub fn snapshot<'s>(&'s self, sample: &'s Sample) -> Snapshot<'s> {
        Snapshot::new(sample, self).with_stats(&self.stats).with_owners(&self.owners).of_origin(self)
    }

    /// The trace that they are of.
    pub(super) fn trace(&self) -> Option<&Trace> {
        self.trace.as_ref()
    }

    /// The kernel of the trace, at whatever sample.
    pub(super) fn kernel(&self) -> Kernel<'_> {
        Kernel::new(self.trace.as_ref(), &self.kernel)
    }

    /// The same, read by way of `trace`, whose cache of memory its other readers have filled.
    pub(super) fn kernel_in<'s>(&'s self, trace: &'s Trace) -> Kernel<'s> {
        Kernel::new(Some(trace), &self.kernel)
    }

    /// What the scheduler answered after captures when it was asked for its statistics.
    pub(crate) fn stats(&self) -> &StatsAnswers {
        &self.stats
    }

    /// What claims are about unless they say otherwise: the periodic captures if the trace has any (placeholders
    /// count, so that missing ones are missed), else all captures but those of watches, of long waits and of the ends of
    /// sub-schedulers, of which there are as many as there happen to be. A damaged sample counts as either.
    pub(crate) fn subject(&self) -> Vec<usize> {
        let periodic = |one: &Decoded| one.whole().is_some_and(|s| s.kind == CaptureKind::Periodic);
        let any = self.all.iter().any(periodic);
        let positions = self.all.iter().enumerate();
        let happened = [CaptureKind::Watch, CaptureKind::HalfWatchdog, CaptureKind::SubSchedulerExit];
        let happened = |one: &Decoded| one.whole().is_some_and(|s| happened.contains(&s.kind));
        let counts =
            |one: &Decoded| if any { one.whole().is_none() || periodic(one) } else { !happened(one) };
        positions.filter(|(_, one)| counts(one)).map(|(i, _)| i).collect()
    }
}

impl Trace {
    /// All captures. The samples are decoded when they are first asked for, and kept as long as the trace is.
    pub fn captures(&self) -> Series {
        Series::all(&self.decoded_samples(|| Samples::load(self)))
    }

    /// The samples, which `decode` makes if they were not asked for before.
    pub(crate) fn decoded_samples(&self, decode: impl FnOnce() -> Samples) -> Arc<Samples> {
        self.kept(decode)
    }

    /// The captures on the cadence of `num_snapshots`, with those that were missed or are damaged.
    pub fn periodic(&self) -> Series {
        self.captures().of_kind(CaptureKind::Periodic)
    }

    /// The captures of one tag.
    pub fn tagged(&self, tag: &str) -> Series {
        self.captures().filter(|s| s.tag == tag)
    }
}

impl Decoded {
    pub(super) fn whole(&self) -> Option<&Sample> {
        match self {
            Self::Whole(sample) => Some(sample),
            Self::Damaged { .. } => None,
        }
    }
}

impl Blobs for Samples {
    fn types(&self, id: &BlobId) -> Result<Arc<Types>, BlobError> {
        self.types.get(id).cloned().unwrap_or(Err(BlobError::Absent))
    }
}

/// Guest time at which the body began, in ns; 0 if it never did.
fn origin_ns(events: &[Event]) -> GuestNs {
    let began = |e: &&Event| matches!(e.body, EventBody::Stage { stage: Stage::BodyStarted, .. });
    events.iter().find(began).map_or(GuestNs(0), |e| e.guest_ns)
}

fn parse_types(trace: &Trace, id: &BlobId) -> Result<Arc<Types>, BlobError> {
    if !trace.blobs(BlobRole::ProgramBtf).contains(id) && !trace.blobs(BlobRole::KernelBtf).contains(id) {
        return Err(BlobError::Absent);
    }
    let bytes = trace.blob(id).map_err(|e| match e {
        TraceError::Missing { .. } => BlobError::Absent,
        other => BlobError::Damaged(other.to_string()),
    })?;
    Ok(Arc::new(Types::parse(bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Run;
    use crate::testing::TraceBuilder;

    #[test]
    fn samples_are_decoded_once_for_a_trace() {
        let trace = TraceBuilder::new().periodic(&[1, 2]).trace();
        let captures = trace.captures();
        assert_eq!(captures.snapshots().count(), 2);
        for again in [trace.captures(), trace.periodic(), trace.tagged("x")] {
            assert!(Arc::ptr_eq(&captures.samples, &again.samples));
        }
        assert!(Arc::ptr_eq(&captures.samples, &Run::load(&trace).samples));
        // What is of another type is made, and takes nobody's place.
        assert_eq!((*trace.kept(|| 1u8), *trace.kept(|| 2u8)), (1, 2));
        assert!(Arc::ptr_eq(&captures.samples, &trace.captures().samples));
    }
}
