//! A tiny guest on a whole machine, recorded as a test is, and its trace read.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ktstr_replay::judge::CheckSource;
use ktstr_replay::memory::Memory;
use ktstr_replay::report;
use ktstr_replay::run::Run;
use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::{ClaimOrigin, ClaimRecord, EventBody, GuestEnd, Manifest, Stage};
use ktstr_replay::units::GuestPhys;

use super::{Checked, said};
use crate::job::{JobBuilder, JobLimits, PackedJob};
use crate::machine::{StartPolicy, tiny_kernel};
use crate::recorder::{CapturePlan, CheckpointPolicy, PageSelection, RecordRequest, record};
use crate::spec::{MachineSpec, Topology};

/// How long each part may take. The longest sleeps for 12 s; all others take a fraction of a second, or on the emulated machine some
/// seconds, of which a busy host makes many.
const LIMIT: Duration = Duration::from_secs(180);

/// A job with this test program and no scheduler.
pub(super) fn job(program: &Path, args: &[String]) -> Result<PackedJob, String> {
    let limit = LIMIT.as_millis() as u64;
    let mut job = JobBuilder::new();
    job.test(program, args, &[]).map_err(|error| said(&error))?;
    let limits = JobLimits { enable_ms: limit, restart_ms: limit, test_ms: limit, exit_ms: limit };
    job.build(limits).map_err(|error| said(&error))
}

/// The trace of a run of `job` on `machine`, of which this is claimed, in `folder`.
pub(super) fn trace(
    folder: &Path,
    machine: MachineSpec,
    job: PackedJob,
    pages: PageSelection,
    claims: &[&str],
) -> Result<Trace, String> {
    let claim = |text: &&str| ClaimRecord { text: (*text).to_owned(), origin: ClaimOrigin::Data };
    let request = RecordRequest {
        trace: folder.join("selftest.trace.zst"),
        cache: folder.to_owned(),
        machine,
        policy: StartPolicy { cold: true, ..StartPolicy::default() },
        attached: false,
        job,
        captures: CapturePlan {
            periodic: 0,
            window: Duration::ZERO,
            gap_limit: None,
            failure_at: None,
            checkpoint: CheckpointPolicy::Every,
            pages,
            history: false,
        },
        manifest: Manifest::default(),
        config: None,
        claims: claims.iter().map(claim).collect(),
        fail_fast: false,
        watches: Vec::new(),
        probes: Vec::new(),
        shell: false,
        run_timeout: LIMIT,
    };
    let recording = record(request).map_err(|error| said(&error))?;
    if let Some(error) = &recording.write_error {
        return Err(said(error));
    }
    recording.writer.finish().map_err(|error| said(&error))?;
    Trace::open(&recording.path).map_err(|error| said(&error))
}

pub(super) fn tiny_guest() -> Checked {
    let folder = tempfile::tempdir().map_err(|error| said(&error))?;
    let topology = Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 2, threads_per_core: 1 };
    let machine = tiny_kernel::machine(folder.path(), topology).map_err(|error| said(&error))?;
    let program = folder.path().join("nothing");
    fs::write(&program, "nothing that anybody executes").map_err(|error| said(&error))?;
    let trace = trace(folder.path(), machine, job(&program, &[])?, PageSelection::All, &[])?;

    let manifest = trace.manifest().map_err(|error| said(&error))?;
    ensure(manifest.machine.kind == "kvm" && !manifest.is_emulated(), || format!("{:?}", manifest.machine))?;
    let samples = trace.samples().collect::<Result<Vec<_>, _>>().map_err(|error| said(&error))?;
    let tags: Vec<&str> = samples.iter().map(|sample| sample.tag.as_str()).collect();
    ensure(tags == tiny_kernel::TAGS, || format!("captures {tags:?}"))?;
    for sample in &samples {
        let whole = sample.missed.is_none() && sample.vcpus.len() == 2;
        ensure(whole, || format!("{}: {:?}, {} vCPUs", sample.tag, sample.missed, sample.vcpus.len()))?;
    }
    written_pages(&trace)?;
    let events = trace.events();
    let has = |wanted: &dyn Fn(&EventBody) -> bool| events.iter().any(|event| wanted(&event.body));
    let console: Vec<u8> = events
        .iter()
        .filter_map(
            |event| if let EventBody::Console(bytes) = &event.body { Some(bytes.clone()) } else { None },
        )
        .flatten()
        .collect();
    ensure(console == tiny_kernel::SAYS.as_bytes(), || {
        format!("console {:?}", String::from_utf8_lossy(&console))
    })?;
    let spoke =
        has(&|body| matches!(body, EventBody::Output { bytes, .. } if bytes == tiny_kernel::LAST_WORDS));
    ensure(spoke, || "its last words are not in the trace".into())?;
    let ended = has(&|body| matches!(body, EventBody::End { end: GuestEnd::PoweredOff, .. }));
    ensure(ended, || "its end is not in the trace".into())?;
    ensure(trace.losses().is_empty(), || format!("{:?}", trace.losses()))?;

    // Judged and told as any trace is, whatever the verdict on a run without a test.
    let run = Run::load(&trace);
    let verdict = run.judge(None, CheckSource::Recorded);
    let text = report::render(&run, &verdict);
    ensure(text.contains("KVM of Linux"), || format!("the report does not name the machine:\n{text}"))?;
    ensure(text == report::render(&run, &run.judge(None, CheckSource::Recorded)), || {
        "two reports differ".into()
    })?;
    Ok(format!(
        "{} events, {} captures with memory, {} bytes; {} pages that were written are in the second and not in the first",
        events.len(),
        samples.len(),
        trace.len_bytes(),
        tiny_kernel::PAGES
    ))
}

/// Fails unless the job's program did what it was to do, and the guest powered itself off then.
pub(super) fn ended_well(trace: &Trace) -> Result<(), String> {
    let events = trace.events();
    let exited = events.iter().find_map(|event| match &event.body {
        EventBody::Stage { stage: Stage::TestExited, detail } => Some(detail.as_str()),
        _ => None,
    });
    ensure(exited == Some("exit code 0"), || format!("the test's process: {exited:?}"))?;
    let end = events.iter().find_map(|event| match &event.body {
        EventBody::End { end, detail } => Some((*end, detail.as_str())),
        _ => None,
    });
    ensure(matches!(end, Some((GuestEnd::PoweredOff, _))), || format!("the guest's end: {end:?}"))
}

/// Between the two checkpoints are just the stores that the guest made.
fn written_pages(trace: &Trace) -> Result<(), String> {
    let checkpoints = trace.checkpoints();
    ensure(checkpoints.len() == 2, || format!("{} checkpoints", checkpoints.len()))?;
    for checkpoint in checkpoints {
        let memory = trace.checkpoint_memory(checkpoint.index).map_err(|error| said(&error))?;
        for n in 0..tiny_kernel::PAGES {
            let at = tiny_kernel::WRITTEN + n * tiny_kernel::STRIDE;
            let mut word = [0; 8];
            memory.read(GuestPhys(at), &mut word).map_err(|error| said(&error))?;
            let expected = if checkpoint.index == 0 { 0 } else { tiny_kernel::PAGES - n };
            let found = u64::from_le_bytes(word);
            ensure(found == expected, || {
                format!("checkpoint {} has {found} at {at:#x}, expected {expected}", checkpoint.index)
            })?;
        }
    }
    Ok(())
}

/// Fails with the text unless it holds.
pub(super) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
