//! A kernel whose types lack a field: the views say which, and have all else.

use ktstr::prelude::*;
use ktstr_replay::kernel::cgroup::read_cgroups;
use ktstr_replay::kernel::dsq::read_dsqs;
use ktstr_replay::kernel::runqueue::read_runqueue_details;
use ktstr_replay::kernel::scx::read_schedulers;
use ktstr_replay::kernel::task::{Tasks, read_tasks};
use ktstr_replay::kernel::{Gaps, KernelError, KernelProfile, KernelView};
use ktstr_replay::run::OpenCheckpoint;
use ktstr_replay::trace::record::BlobRole;

type Reader = fn(&KernelView<'_>) -> Result<Gaps, KernelError>;

/// What is read, the struct and its field that is taken away.
const LACKING: [(Reader, &str, &str); 6] = [
    (|view| Ok(read_tasks(view)?.gaps), "sched_ext_entity", "dsq_flags"),
    (|view| Ok(read_tasks(view)?.gaps), "task_struct", "cgroups"),
    (|view| Ok(read_runqueue_details(view)?.gaps), "rq", "cpu_released"),
    (|view| Ok(read_dsqs(view)?.gaps), "scx_dispatch_q", "seq"),
    (|view| Ok(read_cgroups(view, &Tasks::default())?.gaps), "task_group", "shares"),
    (|view| Ok(read_schedulers(view).map(|scx| scx.gaps).unwrap_or_default()), "scx_sched", "aborting"),
];

/// The kernel of the trace, with every field called `name` called something else.
fn without(trace: &Trace, name: &str) -> Result<KernelProfile> {
    let blob = |role: BlobRole| -> Result<Vec<u8>> {
        let id = *trace.blobs(role).last().context("a blob of the kernel")?;
        Ok(trace.blob(&id)?.to_vec())
    };
    let mut btf = blob(BlobRole::KernelBtf)?;
    let wanted = format!("\0{name}\0");
    let at = btf.windows(wanted.len()).position(|bytes| bytes == wanted.as_bytes());
    btf[at.with_context(|| format!("the kernel has no `{name}`"))? + 1] = b'-';
    Ok(KernelProfile::from_blobs(&blob(BlobRole::Vmcoreinfo)?, blob(BlobRole::KernelSymbols)?, btf)?)
}

pub(crate) fn fields_are_named(
    trace: &Trace,
    checkpoint: &OpenCheckpoint<'_>,
    v: &mut Verdict,
) -> Result<()> {
    let mut named = 0u64;
    for (read, of, field) in LACKING {
        let says = |gaps: &Gaps| {
            let says = |said: &str| said.contains(field) && said.contains(of);
            gaps.missing
                .iter()
                .any(|said| says(said) && said.contains(checkpoint.kernel().profile().release()))
        };
        // An older kernel lacks some by itself.
        let gaps = read(&checkpoint.kernel())?;
        if !says(&gaps) {
            let profile = without(trace, field)?;
            let view = KernelView::new(&profile, checkpoint.memory());
            let gaps = read(&view).with_context(|| format!("without `{field}`"))?;
            ensure!(gaps.faults.is_empty(), "without `{field}`: {gaps:?}");
            ensure!(says(&gaps), "without `{field}` of {of}: {gaps:?}");
        }
        named += 1;
    }
    v.check("fields that are named where a kernel lacks them", named).eq(LACKING.len() as u64);
    // A task of which no class can be said is a fault, which names the field too.
    let profile = without(trace, "sched_class")?;
    let said = match read_tasks(&KernelView::new(&profile, checkpoint.memory())) {
        Ok(tasks) => tasks.gaps.faults.join("; "),
        Err(error) => error.to_string(),
    };
    ensure!(said.contains("task_struct") && said.contains("sched_class"), "{said}");
    Ok(())
}
