//! The part of a sample that comes out of the kernel's memory.

use super::maps::{MapCaps, MapReader, MapsRead};
use super::scx::OwnerReader;
use super::{KernelView, read_runqueues, read_scx};
use crate::trace::record::{Blob, CpuState, MapState, SchedulerMaps, ScxState};

/// How much a sample may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Bounds of the maps.
    pub maps: MapCaps,
}

/// What one sample has of the kernel; each field goes into the field of the same name of the sample's record.
#[derive(Debug, Default)]
pub struct SampleState {
    /// sched_ext's state; `None` where the kernel has none or it could not be read.
    pub scx: Option<ScxState>,
    /// BPF maps, ascending by id.
    pub maps: Vec<MapState>,
    /// Runqueues, by CPU.
    pub cpus: Vec<CpuState>,
    /// What could not be read, and why.
    pub faults: Vec<String>,
    /// BTF blobs that `maps` refers to and that no earlier sample of this reader gave; to be written before the sample.
    pub blobs: Vec<Blob>,
    /// Whose maps are, of each scheduler that no earlier sample of this reader had; empty while there is one alone.
    pub schedulers: Vec<SchedulerMaps>,
}

/// Reads samples of one run. Keeps what it has learnt between them, so that a blob is given once.
///
/// ```
/// use ktstr_replay::kernel::{Caps, KernelView, SampleReader};
///
/// # let (guest, _) = ktstr_replay::testing::toy_kernel(0);
/// # let (profile, memory) = (guest.profile(), guest.ram);
/// let sample = SampleReader::new(Caps::default()).read(&KernelView::new(&profile, &memory));
/// assert_eq!(sample.scx.and_then(|scx| scx.ops_name).as_deref(), Some("demo"));
/// ```
#[derive(Debug, Default)]
pub struct SampleReader {
    maps: MapReader,
    owners: OwnerReader,
}

impl SampleReader {
    /// A reader with these bounds.
    #[must_use]
    pub fn new(caps: Caps) -> Self {
        Self { maps: MapReader::new(caps.maps), owners: OwnerReader::default() }
    }

    /// Read maps, sched_ext's state and runqueues. Never fails: what could not be read is a fault.
    pub fn read(&mut self, view: &KernelView<'_>) -> SampleState {
        let mut faults = Vec::new();
        let read = self.maps.read(view).unwrap_or_else(|error| {
            faults.push(format!("BPF maps: {error}"));
            MapsRead::default()
        });
        let scx = read_scx(view, &read, &mut faults).unwrap_or_else(|error| {
            faults.push(format!("sched_ext: {error}"));
            None
        });
        let schedulers = self.owners.read(view, &read, &mut faults);
        let cpus = read_runqueues(view, &mut faults).unwrap_or_else(|error| {
            faults.push(format!("runqueues: {error}"));
            Vec::new()
        });
        faults.extend(read.faults);
        SampleState { scx, maps: read.maps, cpus, faults, blobs: read.blobs, schedulers }
    }
}
