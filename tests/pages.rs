//! A checkpoint of the kernel's pages is as good as one of all pages, for everything that reads checkpoints.

use ktstr::prelude::*;
use ktstr_replay::kernel::{Caps, KernelProfile, KernelView, SampleReader};
use ktstr_replay::trace::record::LeftOut;
use ktstr_replay::trace::{CheckpointMemory, SlimOptions, slim};

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// Every page of a guest at work is recorded, and what decoders read out of all of them they read out of the kernel's.
#[ktstr_test(
    scheduler = DEMO,
    duration_s = 2,
    num_snapshots = 3,
    pages = "all",
    check = same_without_the_rest
)]
fn the_kernels_pages_are_enough(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

fn same_without_the_rest(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("kernel.trace.zst");
    slim(trace.path(), &path, &SlimOptions { level: 1, kernel_pages: true, ..SlimOptions::default() })?;
    let slimmed = Trace::open(&path)?;
    ensure!(trace.checkpoints().len() >= 4, "only {} checkpoints", trace.checkpoints().len());
    for info in trace.checkpoints() {
        let (all, few) = (trace.checkpoint_memory(info.index)?, slimmed.checkpoint_memory(info.index)?);
        let left_out = |why| few.left_out().iter().any(|(_, found)| *found == why);
        for why in [LeftOut::Free, LeftOut::PageCache, LeftOut::User, LeftOut::KernelText] {
            ensure!(left_out(why), "no page of checkpoint {} was left out as {}", info.index, why.as_str());
        }
        let (all, few) = (decoded(&all)?, decoded(&few)?);
        ensure!(all == few, "checkpoint {} reads otherwise without the rest", info.index);
    }
    claim!(v, slimmed.checkpoints().len() as u64)
        .eq(trace.checkpoints().len() as u64)
        .because("all are kept");
    Ok(())
}

/// What the decoders make of a checkpoint: symbols, types, and a sample with every map.
fn decoded(memory: &CheckpointMemory<'_>) -> Result<(String, Vec<u8>, String)> {
    let profile = KernelProfile::from_memory(memory)?;
    let state = SampleReader::new(Caps::default()).read(&KernelView::new(&profile, memory));
    ensure!(state.maps.len() >= 10, "only {} maps", state.maps.len());
    ensure!(state.scx.is_some() && state.cpus.len() == 2, "no sched_ext, or not the CPUs");
    ensure!(state.faults.is_empty(), "{:?}", state.faults);
    let symbols = format!("{:?}", profile.to_blobs().map(|blob| blob.id));
    let sample = format!("{:?} {:?} {:?}", state.scx, state.cpus, state.maps);
    Ok((symbols, profile.types().bytes().to_vec(), sample))
}
