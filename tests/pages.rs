//! A checkpoint of the kernel's pages, or of those that views read, is as good as one of all pages, for everything that reads
//! checkpoints.

use std::fs;
use std::sync::Arc;

use ktstr::prelude::*;
use ktstr_replay::export::vmcore::write_vmcore;
use ktstr_replay::kernel::{Caps, KernelProfile, PageClassifier, SampleReader};
use ktstr_replay::memory::LeftOut;
use ktstr_replay::memory::Memory;
use ktstr_replay::run::Run;
use ktstr_replay::run::{Checkpoints, OpenCheckpoint};
use ktstr_replay::slim::{KeepPages, SlimOptions, slim};
use ktstr_replay::trace::record::PAGE_BYTES;
use ktstr_replay::units::GuestPhys;
use ktstr_replay::view::View;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// What is left out of a guest at work.
const LEFT_OUT: [(KeepPages, &[LeftOut]); 2] = [
    (
        KeepPages::Kernel,
        &[
            LeftOut::Free,
            LeftOut::PageCache,
            LeftOut::User,
            LeftOut::KernelText,
            LeftOut::KernelTypes,
            LeftOut::KernelSymbols,
        ],
    ),
    (KeepPages::Read, &[LeftOut::NotRead, LeftOut::KernelTypes, LeftOut::KernelSymbols]),
];

/// Every page of a guest at work is recorded, and what decoders read out of all of them they read out of the kernel's.
#[ktstr_test(
    scheduler = DEMO,
    duration_s = 2,
    num_snapshots = 3,
    pages = "all",
    kargs = ["note=QLEAK-kernel-argument"],
    extra_sched_args = ["--exit-message", "QLEAK-scheduler-argument"],
    check = same_without_the_rest
)]
fn the_kernels_pages_are_enough(ctx: &Ctx) -> Result<AssertResult> {
    println!("QLEAK-output");
    fs::create_dir_all("/tmp")?;
    fs::write("/tmp/QLEAK-name-of-a-file", "QLEAK-contents-of-a-file")?;
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

fn same_without_the_rest(trace: &Trace, v: &mut Verdict) -> Result<()> {
    ensure!(trace.checkpoints().len() >= 4, "only {} checkpoints", trace.checkpoints().len());
    for (pages, left_out) in LEFT_OUT {
        same_with(trace, pages, left_out, v).with_context(|| format!("with `--pages {pages}`"))?;
    }
    redacted_has_no_mark(trace)?;
    read_only_data_stays(trace)
}

/// What arguments, output and files of this run begin with.
const MARK: &[u8] = b"QLEAK-";

/// Of a redacted trace no byte, and no byte of a core of its last checkpoint, has a text of the run; and it is there before.
fn redacted_has_no_mark(trace: &Trace) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("redacted.trace.zst");
    slim(trace.path(), &path, &SlimOptions { level: 1, redact: true, ..SlimOptions::default() })?;
    let redacted = Trace::open(&path)?;
    for (trace, is_redacted) in [(trace, false), (&redacted, true)] {
        let decompressed = zstd::stream::decode_all(fs::File::open(trace.path())?)?;
        let run = Run::load(trace);
        let checkpoints = Checkpoints::of(&run)?;
        let core = folder.path().join("core");
        write_vmcore(&checkpoints.at(None)?, &core)?;
        for (what, bytes) in [("the trace", decompressed), ("the core", fs::read(&core)?)] {
            let marks = marks(&bytes);
            let as_it_should = if is_redacted { marks.is_empty() } else { marks.len() >= 5 };
            ensure!(
                as_it_should,
                "{what} of {} has {} marks: {marks:?}",
                trace.path().display(),
                marks.len()
            );
        }
        fs::remove_file(core)?;
    }
    Ok(())
}

/// What begins with the mark, with what follows it.
fn marks(bytes: &[u8]) -> Vec<String> {
    let places = bytes.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let text = |at: usize| String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 32)]).into_owned();
    places.map(|(at, _)| text(at)).collect()
}

/// A slimmed trace with these pages has the same samples and views, and leaves pages out for these reasons.
fn same_with(trace: &Trace, pages: KeepPages, reasons: &[LeftOut], v: &mut Verdict) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("slim.trace.zst");
    slim(trace.path(), &path, &SlimOptions { level: 1, pages, ..SlimOptions::default() })?;
    let slimmed = Trace::open(&path)?;
    let (all_run, few_run) = (Run::load(trace), Run::load(&slimmed));
    let (all_checkpoints, few_checkpoints) = (Checkpoints::of(&all_run)?, Checkpoints::of(&few_run)?);
    for (all, few) in all_checkpoints.all().iter().zip(few_checkpoints.all()) {
        let (all, few) = (all_checkpoints.open(*all)?, few_checkpoints.open(*few)?);
        let of_all = all.memory().left_out();
        ensure!(
            of_all.iter().all(|(_, why)| *why == LeftOut::Channel),
            "of all pages these were left out: {of_all:?}"
        );
        let left_out = few.memory().left_out();
        for why in reasons {
            ensure!(
                left_out.iter().any(|(_, found)| found == why),
                "no page at {} was left out as {}",
                few.tag(),
                why.as_str()
            );
        }
        ensure!(
            sampled(&all)? == sampled(&few)?,
            "the sample at {} reads otherwise without the rest",
            few.tag()
        );
        for view in View::plain() {
            let name = view.name();
            let (all, few) = (view.show(&all)?, view.show(&few)?);
            ensure!(!all.lines.is_empty(), "{name} is empty");
            ensure!(
                all.lines == few.lines && all.json == few.json,
                "{name} reads otherwise without the rest"
            );
        }
    }
    claim!(v, slimmed.checkpoints().len() as u64)
        .eq(trace.checkpoints().len() as u64)
        .because("all are kept");
    Ok(())
}

fn read_only_data_stays(trace: &Trace) -> Result<()> {
    let run = Run::load(trace);
    let checkpoints = Checkpoints::of(&run)?;
    let (first, last) = (checkpoints.at(Some("attach"))?, checkpoints.at(Some("end"))?);
    let profile = Arc::new(KernelProfile::of_trace(trace)?);
    let classes = PageClassifier::new(profile)?.classify(first.memory(), first.memory().ram())?;
    let (mut before, mut after, mut pages) = ([0; PAGE_BYTES], [0; PAGE_BYTES], 0);
    for gfn in classes.constant().iter().cloned().flatten() {
        let at = GuestPhys(gfn * PAGE_BYTES as u64);
        first.memory().read(at, &mut before)?;
        last.memory().read(at, &mut after)?;
        ensure!(before == after, "the page at {at} is read once, as read-only data, but it changed");
        pages += 1;
    }
    ensure!(pages > 1000, "only {pages} pages are read-only data");
    Ok(())
}

/// A sample with every map, read anew.
fn sampled(checkpoint: &OpenCheckpoint<'_>) -> Result<String> {
    let state = SampleReader::new(Caps::default()).read(&checkpoint.kernel());
    ensure!(state.maps.len() >= 10, "only {} maps", state.maps.len());
    ensure!(state.scx.is_some() && state.cpus.len() == 2, "no sched_ext, or not the CPUs");
    ensure!(state.faults.is_empty(), "{:?}", state.faults);
    Ok(format!("{:?} {:?} {:?}", state.scx, state.cpus, state.maps))
}
