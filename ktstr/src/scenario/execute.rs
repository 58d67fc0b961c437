//! Executing scenarios.

use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_init::message::FromTest;

use super::check;
use super::engine::{Engine, failed};
use super::error::ScenarioError;
use super::op::Op;
use super::step::{Backdrop, HoldSpec, Step};
use crate::assert::AssertResult;
use crate::cgroup::CgroupDef;
use crate::ctx::Ctx;

/// How often a hold checks the scheduler's state.
const LIFE_CHECK: Duration = Duration::from_millis(100);

/// Run the workers of these cgroups for the whole workload window: one phase.
///
/// ```
/// use ktstr::prelude::*;
///
/// fn body(ctx: &Ctx) -> Result<AssertResult> {
///     execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), CgroupDef::named("cg_1").workers(4).nice(5)])
/// }
/// ```
///
/// # Errors
/// `ScenarioError`, also where none of them has a worker or a payload: a test that ran nothing would pass.
pub fn execute_defs(ctx: &Ctx, defs: Vec<CgroupDef>) -> anyhow::Result<AssertResult> {
    if ctx.has_guest() && defs.iter().all(CgroupDef::is_idle) {
        return Err(ScenarioError::Idle.into());
    }
    execute_steps(ctx, vec![Step::new(defs, HoldSpec::FULL)])
}

/// Run steps one after the other, each one a phase: [`execute_scenario`] without a backdrop.
///
/// ```
/// use ktstr::prelude::*;
///
/// fn body(ctx: &Ctx) -> Result<AssertResult> {
///     let quiet = Step::new(vec![ctx.cgroup_def("cg_0")], HoldSpec::Frac(0.5)).named("quiet");
///     let busy = CgroupDef::named("cg_1").workers_pct(200.0);
///     execute_steps(ctx, vec![quiet, Step::new(vec![ctx.cgroup_def("cg_0"), busy], HoldSpec::Frac(0.5))])
/// }
/// ```
///
/// # Errors
/// As [`execute_scenario`].
pub fn execute_steps(ctx: &Ctx, steps: Vec<Step>) -> anyhow::Result<AssertResult> {
    execute_scenario(ctx, Backdrop::default(), steps)
}

/// Make the backdrop, run the steps one after the other, each one a phase, and remove the backdrop.
///
/// A step makes its cgroups and workers, lets all workers begin at one moment, does its operations, and holds. Then it ends its workers
/// (their reports go into the trace) and undoes all that it made and changed, the latest first, also when it failed. A hold is clipped
/// to what is left of the workload window, and the trace says so. The scheduler's life is tested before and after each step and
/// every 100 ms of a hold.
///
/// Everything that can be found wrong without doing it is found before anything is done: names, ranges, CPUs that are not there.
///
/// ```
/// use ktstr::prelude::*;
///
/// fn body(ctx: &Ctx) -> Result<AssertResult> {
///     let backdrop = Backdrop::new(vec![ctx.cgroup_def("cg_0").cpuset(CpusetSpec::Llc(0))]);
///     let steps = vec![
///         Step::new(vec![], HoldSpec::Frac(0.5)).named("narrow"),
///         Step::of_ops([Op::clear_cpuset("cg_0")], HoldSpec::Frac(0.5)).named("wide"),
///     ];
///     execute_scenario(ctx, backdrop, steps)
/// }
/// ```
///
/// # Errors
/// `ScenarioError` of the first step that failed; later steps are not begun.
pub fn execute_scenario(ctx: &Ctx, backdrop: Backdrop, steps: Vec<Step>) -> anyhow::Result<AssertResult> {
    if !ctx.has_guest() {
        return Err(ScenarioError::OnHost.into());
    }
    let steps = named(ctx, steps);
    check::check(ctx, &backdrop, &steps)?;
    let mut engine = Engine::new(ctx);
    let ran = run(&mut engine, &backdrop, &steps);
    // The backdrop is removed however the steps ended; their failure is the one to report.
    let removed = engine.end_frame();
    ran?;
    removed?;
    Ok(AssertResult::pass())
}

/// Each step with its name.
fn named(ctx: &Ctx, steps: Vec<Step>) -> Vec<(String, Step)> {
    let begun = ctx.phases_begun();
    let name = |(index, step): (u32, Step)| {
        (step.name.clone().unwrap_or_else(|| format!("step_{}", begun + index)), step)
    };
    (0..).zip(steps).map(name).collect()
}

fn run(engine: &mut Engine<'_>, backdrop: &Backdrop, steps: &[(String, Step)]) -> Result<(), ScenarioError> {
    engine.begin_frame("the backdrop".to_owned());
    if *backdrop != Backdrop::default() {
        engine.alive("before the backdrop")?;
        engine.set_up(&backdrop.setup)?;
        do_all(engine, &backdrop.ops)?;
    }
    steps.iter().try_for_each(|(name, step)| execute_step(engine, name, step))
}

fn execute_step(engine: &mut Engine<'_>, name: &str, step: &Step) -> Result<(), ScenarioError> {
    engine.alive("before the step")?;
    let index = engine.ctx.next_phase();
    engine.ctx.tell(FromTest::PhaseBegin { index, name: name.to_owned() })?;
    engine.begin_frame(format!("step `{name}`"));
    let ran = run_step(engine, name, step);
    // What the step made goes however it ended; the step's own failure is the one to report.
    let torn_down = engine.end_frame();
    let ended = engine.ctx.tell(FromTest::PhaseEnd { index });
    ran?;
    torn_down?;
    ended?;
    engine.alive("after the step")
}

fn run_step(engine: &mut Engine<'_>, name: &str, step: &Step) -> Result<(), ScenarioError> {
    engine.set_up(&step.setup)?;
    do_all(engine, &step.ops)?;
    hold(engine, name, step)
}

fn do_all(engine: &mut Engine<'_>, ops: &[Op]) -> Result<(), ScenarioError> {
    for op in ops {
        engine.apply(op)?;
        engine.alive(&format!("after `{op}`"))?;
    }
    Ok(())
}

fn hold(engine: &mut Engine<'_>, name: &str, step: &Step) -> Result<(), ScenarioError> {
    let ctx = engine.ctx;
    let wanted = step.hold(ctx.duration).map_err(failed("the hold", &format!("step `{name}`")))?;
    let granted = ctx.take_hold(wanted);
    let interval = match step.hold {
        HoldSpec::Loop { interval } => Some(interval),
        HoldSpec::Frac(_) | HoldSpec::Fixed(_) => None,
    };
    // A loop asks for what is left.
    if granted < wanted && (interval.is_none() || granted.is_zero()) {
        let detail = format!(
            "step `{name}` holds for {} ms of the {} ms it asks for: no more is left of the workload window",
            granted.as_millis(),
            wanted.as_millis()
        );
        println!("note: {detail}");
        ctx.op("clip_hold", detail)?;
    }
    let began = Instant::now();
    let mut round = interval;
    loop {
        let passed = began.elapsed();
        let left = granted.saturating_sub(passed);
        if left.is_zero() {
            return Ok(());
        }
        let until_round = round.map_or(left, |round| round.saturating_sub(passed));
        if let Some(interval) = interval.filter(|_| until_round.is_zero()) {
            do_all(engine, &step.ops)?;
            // Rounds that the operations took too long for are left out.
            round = round.map(|round| (round + interval).max(began.elapsed()));
            continue;
        }
        sleep(left.min(until_round).min(LIFE_CHECK));
        engine.alive(&format!("{} ms into the hold of step `{name}`", began.elapsed().as_millis()))?;
    }
}
