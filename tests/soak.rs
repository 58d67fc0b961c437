//! The same run again and again, as only that shows what goes wrong once in thirty: the emulator's stale breakpoints above all, which the
//! kernel dies of while sched_ext is switched on or off. It takes half an hour, so one asks for it:
//!
//! ```text
//! cargo test -p ktstr-tests --test soak -- --ignored again_and_again --nocapture
//! KTSTR_SOAK_RUNS=20 cargo test ...                    so many, in the place of 300
//! cargo test -p ktstr-tests --test kernel_selftests -- --ignored again_and_again --nocapture      of reload_loop, for ten minutes
//! ```

use std::time::Instant;

use ktstr::prelude::*;
use ktstr_replay::trace::record::{CaptureKind, EventBody};
use ktstr_tests::{TestRun, fixture};

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 4, 1) });

/// How often the run is made where nobody says.
const RUNS: u32 = 300;
/// Says it.
const ASKED: &str = "KTSTR_SOAK_RUNS";

/// More vCPUs than a small host has CPUs, and a scheduler that is loaded each time: on a template, it would be enabled once.
#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 1,
    num_snapshots = 2,
    checkpoint = "never",
    attached = false,
    claims = ["each(nr_dispatched >= 1)"]
)]
fn for_a_second(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

#[test]
#[ignore = "takes half an hour"]
fn a_run_of_a_second_again_and_again() {
    let asked = std::env::var(ASKED)
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{ASKED}={text}: a number is wanted")));
    let runs = asked.unwrap_or(RUNS);
    assert!(runs > 0, "{ASKED}: no run shows nothing");
    let (began, mut mended, mut failed, mut again) = (Instant::now(), 0, Vec::new(), 0);
    for number in 1..=runs {
        let run = fixture("for_a_second").run();
        // The emulator's failure is none of the test's, and is to be seen here all the same.
        again += u32::from(run.stdout.contains("the test is run once more"));
        mended += stale_breakpoints(&run);
        if run.status.success() {
            assert_eq!(run.sample(CaptureKind::End).missed, None, "{run}");
        } else {
            eprintln!("run {number}: {run}");
            failed.push(number);
        }
        if number % 10 == 0 || number == runs {
            eprintln!(
                "{number} runs in {:.0} s: {} failed, {again} made once more, {mended} stale breakpoints mended",
                began.elapsed().as_secs_f64(),
                failed.len()
            );
        }
    }
    assert!(
        failed.is_empty() && again == 0,
        "of {runs} runs failed {failed:?}, and {again} were made once more"
    );
}

/// How many the machine had to mend.
fn stale_breakpoints(run: &TestRun) -> usize {
    let is_one = |body: &EventBody| matches!(body, EventBody::Op { name, .. } if name == EventBody::MENDED);
    run.trace().events().iter().filter(|event| is_one(&event.body)).count()
}
