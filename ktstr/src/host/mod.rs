//! Host mode: from a test's description to its verdict.

pub mod environment;
mod judge;
mod prepare;
mod program;
pub mod results;

use environment::Environment;
use ktstr_record::recorder::record;

use crate::test_def::TestDef;

/// Record a run of a test, and judge the recording.
///
/// # Errors
/// A test that did not pass; what could not be had, recorded or judged.
pub fn run(def: &TestDef) -> anyhow::Result<()> {
    let request = prepare::prepare(def, &Environment::read())?;
    judge::judge(def, record(request)?)
}

#[cfg(test)]
mod tests {
    use crate::assert::AssertResult;
    use crate::test_def::{Checkpoint, Pages, TestDef, resolve_topology};

    /// A test with all defaults.
    pub const TEST: TestDef = TestDef {
        path: "demo::two",
        package: "demo",
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
        not_starved: false,
        expect_err: false,
        expect_scx_error_contains: None,
        allow_inconclusive: false,
        kaslr: true,
        kargs: &[],
        extra_sched_args: &[],
        include_files: None,
    };
}
