//! What looking into a recorded kernel costs, from the file on: a view opens the trace, reads symbols and types out of it, and
//! decodes the pages that it walks over.
//!
//! No trace with memory is small enough to be committed: `KTSTR_TRACE=FILE cargo bench -p ktstr-replay --bench views`, or
//! nothing is measured. One of a scheduler that stalled shows the whole report.

use std::ops::Range;
use std::path::PathBuf;

use divan::Bencher;
use ktstr_replay::judge::CheckSource;
use ktstr_replay::kernel::task::read_tasks;
use ktstr_replay::kernel::unwind::Unwinder;
use ktstr_replay::kernel::waits::{read_waits, read_watchdog_waits};
use ktstr_replay::kernel::{Caps, KernelProfile, KernelView, SampleReader, Symbols, VirtualMemory};
use ktstr_replay::memory::{Memory, MemoryError};
use ktstr_replay::report::render;
use ktstr_replay::repro::Chain;
use ktstr_replay::run::Checkpoints;
use ktstr_replay::run::Run;
use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::{BlobRole, MapContents, PAGE_BYTES};
use ktstr_replay::units::GuestPhys;
use ktstr_replay::view::View;
use ktstr_replay::why;

fn main() {
    if path().is_none() {
        eprintln!("views: nothing is measured; KTSTR_TRACE is to name a trace with checkpoints");
        return;
    }
    divan::main();
}

fn path() -> Option<PathBuf> {
    std::env::var_os("KTSTR_TRACE").map(PathBuf::from)
}

fn show(views: &[View]) -> usize {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    let run = Run::load(&trace);
    let checkpoints = Checkpoints::of(&run).expect("it has checkpoints");
    let checkpoint = checkpoints.at(None).expect("a checkpoint");
    views.iter().map(|view| view.show(&checkpoint).expect("the view").lines.len()).sum()
}

/// Opening and all that a view needs, without one.
#[divan::bench]
fn open() -> usize {
    show(&[])
}

/// To be at most 150 ms.
#[divan::bench]
fn open_tasks_queues_and_maps() -> usize {
    show(&[View::Tasks, View::Dsqs, View::Maps])
}

/// The stacks of a checkpoint's tasks, over and over until they are 200; to be at most 200 ms.
#[divan::bench]
fn stacks_of_200_tasks(bencher: Bencher<'_, '_>) {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    let run = Run::load(&trace);
    let checkpoints = Checkpoints::of(&run).expect("it has checkpoints");
    let info = *checkpoints.all().last().expect("a checkpoint");
    bencher.bench_local(|| {
        // Opened anew, so that no page is decoded before.
        let checkpoint = checkpoints.open(info).expect("a checkpoint");
        let kernel = checkpoint.kernel();
        let tasks = read_tasks(&kernel).expect("tasks").tasks;
        let unwinder = Unwinder::new(&kernel, checkpoint.vcpus());
        let stacks = tasks.iter().cycle().take(200).map(|task| unwinder.task(task.at).1.lines().len());
        stacks.sum::<usize>()
    });
}

/// Symbols out of the kernel's own tables in guest memory, once a run; to be at most 150 ms.
#[divan::bench]
fn symbols_from_memory(bencher: Bencher<'_, '_>) {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    let flat = Flat::last(&trace);
    let profile = KernelProfile::of_trace(&trace).expect("a kernel");
    let memory = VirtualMemory::new(&flat, *profile.page_table());
    bencher.bench_local(|| Symbols::from_memory(&memory, profile.vmcoreinfo()).expect("symbols").len());
}

/// Symbols out of the trace's own blob, the file's decompression included; to be at most 20 ms.
#[divan::bench]
fn symbols_from_blob(bencher: Bencher<'_, '_>) {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    let id = *trace.blobs(BlobRole::KernelSymbols).last().expect("symbols");
    bencher.bench_local(|| Symbols::decode(trace.blob(&id).expect("a blob")).expect("symbols").len());
}

/// What the recorder reads while the guest stands still, out of flat memory as a live guest's is: to be at most 5 ms for 16
/// maps with 10,000 entries of a hash (`cargo ktstr test ten_thousand_entries -- --run-ignored all` records such a trace).
#[divan::bench]
fn sample(bencher: Bencher<'_, '_>) {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    let flat = Flat::last(&trace);
    let profile = KernelProfile::of_trace(&trace).expect("a kernel");
    let mut reader = SampleReader::new(Caps::default());
    let first = reader.read(&KernelView::new(&profile, &flat));
    let maps = first.maps.iter().map(|map| match &map.contents {
        MapContents::Hash { keys, .. } => keys.len() / (map.key_size as usize).max(1),
        _ => 0,
    });
    eprintln!("sample: {} maps, {} entries of hashes", first.maps.len(), maps.sum::<usize>());
    bencher.bench_local(|| reader.read(&KernelView::new(&profile, &flat)).maps.len());
}

/// A checkpoint's memory as one array, without decoding of pages.
struct Flat(Vec<u8>);

impl Flat {
    /// The last checkpoint of a trace; pages that it does not have are zero.
    fn last(trace: &Trace) -> Self {
        let info = *trace.checkpoints().last().expect("a checkpoint");
        let memory = trace.checkpoint_memory(info.index).expect("its memory");
        let end = memory.ram().iter().map(|range| range.end).max().unwrap_or(0);
        let mut bytes = vec![0; end as usize];
        for (at, page) in (0..).step_by(PAGE_BYTES).zip(bytes.chunks_mut(PAGE_BYTES)) {
            if memory.read(GuestPhys(at), page).is_err() {
                page.fill(0);
            }
        }
        Self(bytes)
    }
}

impl Memory for Flat {
    fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError> {
        let start = at.0 as usize;
        let found = self.0.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(MemoryError::OutOfRange { at, len: out.len() })?);
        Ok(())
    }

    fn populated(&self) -> Vec<Range<u64>> {
        std::iter::once(0..self.0.len() as u64).collect()
    }
}

/// What the recorder looks at every 100 ms while the guest runs, to see who waits for long: to be at most 1 ms.
#[divan::bench]
fn look_for_long_waits(bencher: Bencher<'_, '_>) {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    let flat = Flat::last(&trace);
    let profile = KernelProfile::of_trace(&trace).expect("a kernel");
    bencher.bench_local(|| {
        let view = KernelView::new(&profile, &flat);
        let watchdog = read_watchdog_waits(&view).expect("sched_ext").len();
        watchdog + read_waits(&view, 2_000_000_000).expect("tasks").len()
    });
}

#[divan::bench(args = View::plain())]
fn view(bencher: Bencher<'_, '_>, view: &View) {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    let run = Run::load(&trace);
    let checkpoints = Checkpoints::of(&run).expect("it has checkpoints");
    let checkpoint = checkpoints.at(None).expect("a checkpoint");
    bencher.bench_local(|| view.show(&checkpoint).expect("the view").lines.len());
}

/// To be at most 300 ms.
#[divan::bench]
fn open_judge_and_report() -> usize {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    let run = Run::load(&trace);
    let verdict = run.judge(None, CheckSource::Recorded);
    render(&run, &verdict).len()
}

/// To be at most 300 ms.
#[divan::bench]
fn open_and_why() -> usize {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    let run = Run::load(&trace);
    let verdict = run.judge(None, CheckSource::Recorded);
    why::explain(&run, &verdict).expect("an explanation").render().len()
}

/// What a second machine is to look at. To be at most 300 ms.
#[divan::bench]
fn open_and_repro_chain() -> usize {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    Chain::of(&Run::load(&trace)).expect("a failure").targets.len()
}
