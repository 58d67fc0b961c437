//! Tests whose body runs on the host: no machine is booted, and what it said and wrote is in a trace that is judged like others.

use std::fs;
use std::process;

use ktstr::prelude::*;
use ktstr_replay::trace::record::manifest::MachineInfo;
use ktstr_tests::{fixture, written};

const SAID: &str = "said on the host";

/// What needs a guest says so, and does nothing to the host.
#[ktstr_test(host_only, duration_s = 1, seed = 7, check = it_was_on_the_host)]
fn runs_here(ctx: &Ctx) -> Result<AssertResult> {
    let cmdline = fs::read_to_string("/proc/cmdline")?;
    ensure!(!cmdline.contains("ktstr.channel="), "this is a guest: {cmdline}");
    ensure!(ctx.seed == 7 && !ctx.topo.cpus.is_empty(), "{ctx:?}");
    println!("{SAID}");
    let mut result = AssertResult::pass();
    let tried: [(&str, Result<()>); 5] = [
        ("scenario", execute_defs(ctx, vec![ctx.cgroup_def("cg_0")]).map(drop)),
        ("capture", ctx.capture_snapshot("here").map_err(Into::into)),
        ("watch", ctx.watch_snapshot("jiffies_64").map_err(Into::into)),
        ("probe", ctx.probe("enqueue_task_scx").map_err(Into::into)),
        ("memory", ctx.read_kernel("jiffies_64").map(drop).map_err(Into::into)),
    ];
    for (what, done) in tried {
        let said = done.map_or_else(|error| format!("{error:#}"), |()| "done".to_owned());
        result.check(said.contains("host_only"), format!("{what}: {said}"));
    }
    result.check(ctx.cgroups.create("cg_0").is_err(), "a cgroup of the host");
    Ok(result)
}

fn it_was_on_the_host(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let on_host = trace.manifest()?.machine.kind == MachineInfo::HOST;
    claim!(v, u8::from(on_host)).eq(1).because("the trace says where it ran");
    let written = written(trace);
    claim!(v, written.matches(SAID).count()).eq(1).because("what it wrote is in the trace");
    claim!(v, trace.samples().count()).eq(0).because("there is nothing to capture");
    Ok(())
}

#[ktstr_test(host_only, ignore, duration_s = 1)]
fn fails(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::fail("two is not three"))
}

#[ktstr_test(host_only, ignore, duration_s = 1)]
fn dies(_ctx: &Ctx) -> Result<AssertResult> {
    process::abort()
}

#[ktstr_test(host_only, ignore, duration_s = 1, expect_err)]
fn passes_and_was_to_fail(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

#[ktstr_test(host_only, ignore, duration_s = 1, check = nothing_to_look_at)]
fn is_inconclusive(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

#[ktstr_test(host_only, ignore, duration_s = 1, allow_inconclusive, check = nothing_to_look_at)]
fn may_be_inconclusive(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

#[ktstr_test(host_only, ignore, duration_s = 1, allow_inconclusive, check = nothing_to_look_at)]
fn may_be_inconclusive_and_fails(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::fail("two is not three"))
}

fn nothing_to_look_at(trace: &Trace, v: &mut Verdict) -> Result<()> {
    trace.captures().var("nr_dispatched").nondecreasing(v);
    Ok(())
}

#[test]
fn an_inconclusive_verdict_passes_where_it_is_allowed_and_a_failure_never() {
    for (name, passes, outcome) in [
        ("is_inconclusive", false, "INCONCLUSIVE"),
        ("may_be_inconclusive", true, "INCONCLUSIVE"),
        ("may_be_inconclusive_and_fails", false, "FAIL"),
    ] {
        let run = fixture(name).run();
        assert_eq!(run.status.success(), passes, "{run}");
        assert!(run.report().starts_with(outcome), "{name} is not {outcome}:\n{run}");
        run.assert_replays();
    }
}

#[test]
fn what_fails_on_the_host_fails_the_test_and_replays() {
    for (name, words) in [
        ("fails", "fails: two is not three"),
        ("dies", "began and did not end; how the test binary ended: signal 6"),
        ("passes_and_was_to_fail", "did not fail, although a failure is expected"),
    ] {
        let run = fixture(name).run();
        assert!(!run.status.success(), "{name} passed:\n{run}");
        assert!(run.report().contains(words), "{name}: no `{words}` in:\n{run}");
        run.assert_replays();
    }
}

#[test]
fn no_kernel_and_no_cache_are_needed() {
    let empty = tempfile::tempdir().expect("a folder");
    let run =
        fixture("fails").env("XDG_CACHE_HOME", empty.path()).env("KTSTR_KERNEL", "no such kernel").run();
    assert!(run.report().contains("two is not three"), "{run}");
    assert_eq!(empty.path().read_dir().expect("a folder").count(), 0, "nothing was fetched");
}
