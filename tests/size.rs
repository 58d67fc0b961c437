//! How big a trace is, and how much memory recording it takes: sizes are promises, and unlike times they do not depend on
//! the machine.

use ktstr::prelude::*;
use ktstr_replay::slim::{SlimOptions, slim};
use ktstr_replay::trace::Kind;
use ktstr_replay::trace::record::CaptureKind;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// 512 MiB of guest, 2 vCPUs, 12 s, 20 captures with a checkpoint each, workers that only compute.
#[ktstr_test(scheduler = DEMO, memory_mib = 512, duration_s = 12, num_snapshots = 18, check = small_enough)]
fn twenty_checkpoints(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

/// The same without captures: what recording costs the guest is measured against it (`tests/benches/recording.rs`).
#[ktstr_test(scheduler = DEMO, memory_mib = 512, duration_s = 12, checkpoint = "never", ignore, check = told_by_the_benchmark)]
fn without_captures(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

fn told_by_the_benchmark(_: &Trace, _: &mut Verdict) -> Result<()> {
    say_what_recording_took()
}

/// A line for `tests/benches/recording.rs`: CPU time of this process so far, which has recorded the guest and not read the
/// trace yet. The emulator's is not in it. Source: `utime` and `stime` of proc_pid_stat(5), in hundredths of a second.
fn say_what_recording_took() -> Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/self/stat")?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(11).take(2).filter_map(|tick| tick.parse().ok()).collect();
    ensure!(ticks.len() == 2, "no times in /proc/self/stat");
    println!("recorder's CPU time: {} ms", 10 * ticks.iter().sum::<u64>());
    Ok(())
}

fn small_enough(trace: &Trace, v: &mut Verdict) -> Result<()> {
    say_what_recording_took()?;
    // Of this process, which has recorded the guest and not read the trace yet.
    let peak = peak_resident_bytes()?;
    let guest = 512 * MIB;
    // On a host that is busy somebody may wait for long, of which there is a capture besides.
    let taken = trace.samples().flatten().filter(|sample| sample.missed.is_none());
    let taken: Vec<CaptureKind> = taken.map(|sample| sample.kind).collect();
    let asked = taken.iter().filter(|kind| **kind != CaptureKind::HalfWatchdog).count();
    claim!(v, asked).eq(20).because("18 captures on cadence, and those of begin and end");
    claim!(v, trace.checkpoints().len()).eq(taken.len()).because("each capture has one");
    claim!(v, trace.len_bytes()).at_most(16 * MIB).because("it is attached to a bug report");

    println!("peak of resident memory while recording: {} MiB, shared memory of the guest in it", peak / MIB);
    claim!(v, peak).at_most(guest + 256 * MIB).because("recording leaves memory for others");

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("slim.trace.zst");
    let slimmed = slim(trace.path(), &path, &SlimOptions::default())?;
    ensure!(slimmed.faults.is_empty(), "{:?}", slimmed.faults);
    claim!(v, slimmed.to_bytes).at_most(8 * MIB).because("slim is for keeping");

    let mut later = later_checkpoints(trace);
    later.sort_unstable();
    println!("later checkpoints, bytes: {later:?}; trace {}, slim {}", trace.len_bytes(), slimmed.to_bytes);
    let median = later.get(later.len() / 2).copied().unwrap_or(u64::MAX);
    claim!(v, median)
        .at_most(64 * KIB)
        .because("little changes between two captures of workers that only compute");
    Ok(())
}

/// The most memory that this process had resident so far, in bytes: `VmHWM` of proc(5).
fn peak_resident_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"));
    Ok(kib.context("no VmHWM in /proc/self/status")?.trim().parse::<u64>()? * KIB)
}

/// Stored bytes of the checkpoints of periodic captures but the first, with their pages.
fn later_checkpoints(trace: &Trace) -> Vec<u64> {
    let periodic: Vec<u32> = trace
        .samples()
        .filter_map(Result::ok)
        .filter(|sample| sample.kind == CaptureKind::Periodic)
        .filter_map(|sample| sample.checkpoint)
        .collect();
    let (mut checkpoints, mut stored) = (Vec::new(), 0);
    for record in trace.records() {
        match Kind::from_code(record.kind) {
            Some(Kind::PageChunk) => stored += record.stored_len,
            Some(Kind::Checkpoint) => checkpoints.push(std::mem::take(&mut stored) + record.stored_len),
            _ => {}
        }
    }
    // What the test's processes are made of changes before the first one.
    let of = |index: &u32| checkpoints.get(*index as usize).copied();
    periodic.iter().skip(1).filter_map(of).collect()
}
