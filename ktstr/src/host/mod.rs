//! Host mode: from a test's description to its verdict.

pub mod environment;
mod judge;
mod program;
mod payloads;
mod prepare;
pub mod results;
mod thresholds;

use environment::Environment;
use ktstr_record::recorder::record;
use ktstr_replay::trace::record::Manifest;

use crate::test_def::TestDef;

/// Record a run of a test, and judge the recording. A run in which the emulator failed says nothing of the test, and is
/// made once more; both traces stay.
///
/// # Errors
/// A test that did not pass; what could not be had, recorded or judged.
pub fn run(def: &TestDef) -> anyhow::Result<()> {
    let environment = Environment::read();
    if let Some(folder) = &environment.show_thresholds {
        return thresholds::show(def, folder);
    }
    let recording = record(prepare::prepare(def, &environment)?)?;
    if !judge::emulator_failed(&recording) {
        return judge::judge(def, recording);
    }
    let first = recording.path.clone();
    // It does not pass; its report is printed.
    let _inconclusive = judge::judge(def, recording);
    println!(
        "note: the emulator failed, so the test is run once more; the trace of that run is {}",
        first.display()
    );
    let mut request = prepare::prepare(def, &environment)?;
    request.manifest.taints.push(Manifest::RETRIED.to_owned());
    // What failed may be in the template.
    request.attached = false;
    judge::judge(def, record(request)?)
}

#[cfg(test)]
mod tests {
    use crate::assert::AssertResult;
    use crate::limits::Assert;
    use crate::test_def::{Checkpoint, Pages, TestDef, resolve_topology};

    /// A test with all defaults.
    pub const TEST: TestDef = TestDef {
        path: "demo::two",
        package: "demo",
        manifest_dir: "/demo",
        body: |_| Ok(AssertResult::pass()),
        scheduler: None,
        topology: resolve_topology(None, [None; 4], [1, 1, 2, 1]),
        memory_mib: 512,
        duration_s: 12,
        enable_timeout_s: None,
        watchdog_timeout_s: 5,
        num_snapshots: 0,
        checkpoint: Checkpoint::Every,
        pages: Pages::Kernel,
        seed: 1,
        claims: &[],
        check: None,
        assert: Assert::NONE,
        expect_err: false,
        expect_scx_error_contains: None,
        expect_scx_exit: None,
        allow_restarts: false,
        allow_splats: false,
        allow_inconclusive: false,
        kaslr: true,
        attached: true,
        kargs: &[],
        extra_sched_args: &[],
        sysctls: &[],
        config: None,
        staged_schedulers: &[],
        include_files: None,
        payloads: &[],
    };
}
