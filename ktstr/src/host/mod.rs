//! Host mode: from a test's description to its verdict.

mod claims;
pub mod environment;
mod failure;
mod judge;
mod prepare;
pub mod results;
mod scheduler;

pub use failure::TestFailure;

use environment::Environment;
use ktstr_record::recorder::record;

use crate::guest;
use crate::test_def::TestDef;

/// Run a test, wherever this process is: the one function that `#[ktstr_test]` calls.
///
/// # Errors
/// [`TestFailure`] when the test did not pass.
pub fn run(def: &'static TestDef) -> Result<(), TestFailure> {
    match guest::place() {
        Ok(guest::Place::Guest(socket)) => guest::run(def, socket),
        Ok(guest::Place::Host) => on_host(def),
        Err(error) => Err(TestFailure::from_error(error)),
    }
}

fn on_host(def: &TestDef) -> Result<(), TestFailure> {
    let request = prepare::prepare(def, &Environment::read())?;
    let recording = record(request).map_err(TestFailure::from_error)?;
    judge::judge(def, recording)
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
