//! Executing steps.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_init::message::FromTest;
use ktstr_replay::run::SpawnedWorkers;
use rustix::io::Errno;
use rustix::process::{Pid, setpriority_process};

use super::step::{HoldError, HoldSpec, Step};
use crate::assert::AssertResult;
use crate::cgroup::{Cgroup, CgroupDef, CgroupError, CpusetError};
use crate::channel::ChannelError;
use crate::ctx::Ctx;
use crate::scheduler_life::SchedulerDied;
use crate::worker::{Settings, WorkerError, WorkerGroup, WorkloadHandle};

/// How often a hold checks the scheduler's state.
const LIFE_CHECK: Duration = Duration::from_millis(100);

/// Why a scenario could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The scheduler died.
    #[error("{died}, {when}")]
    Died {
        /// Which, and what the kernel says.
        died: SchedulerDied,
        /// When it was noticed.
        when: String,
    },
    /// A cgroup could not be had.
    #[error("cgroup `{name}` of step `{step}`")]
    Cgroup {
        /// Its name.
        name: String,
        /// The step's name.
        step: String,
        /// Why not.
        source: CgroupError,
    },
    /// A cpuset that the machine does not have.
    #[error("cpuset of cgroup `{name}`")]
    Cpuset {
        /// The cgroup's name.
        name: String,
        /// Why not.
        source: CpusetError,
    },
    /// A value out of its range.
    #[error("{what} of cgroup `{name}` is {value}; it must be {range}")]
    Range {
        /// Which value.
        what: &'static str,
        /// The cgroup's name.
        name: String,
        /// What was given.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// A worker could not be set up.
    #[error("could not set the {what} of worker {pid} of cgroup `{name}`")]
    Setup {
        /// Which property.
        what: &'static str,
        /// The worker.
        pid: Pid,
        /// The cgroup's name.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// Workers could not be had.
    #[error("workers of step `{step}`")]
    Workers {
        /// The step's name.
        step: String,
        /// Why not.
        source: WorkerError,
    },
    /// A hold that cannot be.
    #[error("hold of step `{step}`")]
    Hold {
        /// The step's name.
        step: String,
        /// Why not.
        source: HoldError,
    },
    /// The host could not be told.
    #[error("could not record what the scenario does")]
    Channel(#[from] ChannelError),
}

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
/// `ScenarioError`.
pub fn execute_defs(ctx: &Ctx, defs: Vec<CgroupDef>) -> anyhow::Result<AssertResult> {
    execute_steps(ctx, vec![Step::new(defs, HoldSpec::FULL)])
}

/// Run steps one after the other, each one a phase.
///
/// A step makes its cgroups and workers, lets all workers begin at one moment, holds, ends the workers (their
/// reports go into the trace) and removes the cgroups, also when it failed. A hold is clipped to what is left of
/// the workload window, and the trace says so. The scheduler's life is tested before and after each step and
/// every 100 ms of a hold.
///
/// ```
/// use ktstr::prelude::*;
///
/// fn body(ctx: &Ctx) -> Result<AssertResult> {
///     let quiet = Step::new(vec![ctx.cgroup_def("cg_0")], HoldSpec::Frac(0.5)).named("quiet");
///     let bursts = CgroupDef::named("cg_1").work_type(Bursty::default());
///     execute_steps(ctx, vec![quiet, Step::new(vec![ctx.cgroup_def("cg_0"), bursts], HoldSpec::Frac(0.5))])
/// }
/// ```
///
/// # Errors
/// `ScenarioError` of the first step that failed; later steps are not begun.
pub fn execute_steps(ctx: &Ctx, steps: Vec<Step>) -> anyhow::Result<AssertResult> {
    for step in steps {
        execute_step(ctx, &step)?;
    }
    Ok(AssertResult::pass())
}

fn execute_step(ctx: &Ctx, step: &Step) -> Result<(), ScenarioError> {
    let index = ctx.next_phase();
    let name = step.name.clone().unwrap_or_else(|| format!("step_{index}"));
    let phase = Phase { ctx, step, name };
    phase.alive("before the step")?;
    ctx.tell(FromTest::PhaseBegin { index, name: phase.name.clone() })?;
    let mut made = Vec::new();
    let ran = phase.run(&mut made);
    // The step's cgroups are removed however it ended; the step's own failure is the one to report.
    let torn_down = phase.tear_down(&made);
    let ended = ctx.tell(FromTest::PhaseEnd { index });
    ran?;
    torn_down?;
    ended?;
    phase.alive("after the step")
}

/// A step that is being executed.
struct Phase<'a> {
    ctx: &'a Ctx,
    step: &'a Step,
    name: String,
}

impl Phase<'_> {
    fn run(&self, made: &mut Vec<Cgroup>) -> Result<(), ScenarioError> {
        let wanted = self.step.hold.wanted(self.ctx.duration);
        let wanted = wanted.map_err(|source| ScenarioError::Hold { step: self.name.clone(), source })?;
        for def in &self.step.setup {
            self.make(def, made)?;
        }
        let mut workload = self.spawn(made)?;
        workload.start().map_err(|source| self.workers(source))?;
        self.ctx.op("start", format!("{} workers", workload.pids().count()))?;
        let held = self.hold(wanted);
        // Reports are wanted most of all when the scheduler died.
        for report in workload.stop_and_collect() {
            self.ctx.tell(FromTest::Worker(report))?;
        }
        self.ctx.op("stop", "all workers")?;
        held
    }

    fn make(&self, def: &CgroupDef, made: &mut Vec<Cgroup>) -> Result<(), ScenarioError> {
        check_ranges(def)?;
        let fault =
            |source| ScenarioError::Cgroup { name: def.name.clone(), step: self.name.clone(), source };
        let cgroup = self.ctx.cgroups.create(&def.name).map_err(fault)?;
        made.push(cgroup.clone());
        self.ctx.op("add_cgroup", def.name.as_str())?;
        if let Some(spec) = &def.cpuset {
            let set = spec.resolve(&self.ctx.topo);
            let set = set.map_err(|source| ScenarioError::Cpuset { name: def.name.clone(), source })?;
            self.ctx.cgroups.enable("cpuset").map_err(fault)?;
            cgroup.set("cpuset.cpus", &set.to_string()).map_err(fault)?;
            self.ctx.op("set_cpuset", format!("{}: {set}", def.name))?;
        }
        if let Some(weight) = def.cpu_weight {
            self.ctx.cgroups.enable("cpu").map_err(fault)?;
            cgroup.set("cpu.weight", &weight.to_string()).map_err(fault)?;
            self.ctx.op("set_cpu_weight", format!("{}: {weight}", def.name))?;
        }
        Ok(())
    }

    fn spawn(&self, made: &[Cgroup]) -> Result<WorkloadHandle, ScenarioError> {
        let groups: Vec<WorkerGroup> = self.step.setup.iter().filter_map(|def| self.group(def)).collect();
        let workload = WorkloadHandle::spawn(&groups).map_err(|source| self.workers(source))?;
        for (pid, name) in workload.pids() {
            let def = self.step.setup.iter().find(|def| def.name == name);
            let cgroup = made.iter().find(|cgroup| cgroup.name() == name);
            if let (Some(def), Some(cgroup)) = (def, cgroup) {
                self.place(pid, def, cgroup)?;
            }
        }
        for group in &groups {
            let (cgroup, work) = (group.cgroup.clone(), group.work.to_string());
            let spawned = SpawnedWorkers { cgroup, count: group.count, work };
            self.ctx.op(SpawnedWorkers::OP, spawned.to_string())?;
        }
        for def in &self.step.setup {
            if let Some(nice) = def.nice {
                self.ctx.op("set_nice", format!("{}: {nice}", def.name))?;
            }
        }
        Ok(workload)
    }

    fn group(&self, def: &CgroupDef) -> Option<WorkerGroup> {
        let count = def.workers.unwrap_or(self.ctx.workers_per_cgroup);
        (count > 0).then(|| WorkerGroup {
            cgroup: def.name.clone(),
            count,
            work: def.work.clone(),
            settings: Settings { comm: def.comm.clone(), ..Settings::default() },
            cpus: Vec::new(),
        })
    }

    fn place(&self, pid: Pid, def: &CgroupDef, cgroup: &Cgroup) -> Result<(), ScenarioError> {
        cgroup.add(pid).map_err(|source| ScenarioError::Cgroup {
            name: def.name.clone(),
            step: self.name.clone(),
            source,
        })?;
        let fault = |what, source| ScenarioError::Setup { what, pid, name: def.name.clone(), source };
        if let Some(nice) = def.nice {
            setpriority_process(Some(pid), nice).map_err(|errno: Errno| fault("nice value", errno.into()))?;
        }
        Ok(())
    }

    fn hold(&self, wanted: Duration) -> Result<(), ScenarioError> {
        let granted = self.ctx.take_hold(wanted);
        if granted < wanted {
            let detail = format!(
                "step `{}` holds for {} ms of the {} ms it asks for: no more is left of the workload window",
                self.name,
                granted.as_millis(),
                wanted.as_millis()
            );
            println!("note: {detail}");
            self.ctx.op("clip_hold", detail)?;
        }
        let began = Instant::now();
        loop {
            let left = granted.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(LIFE_CHECK));
            self.alive(&format!("{} ms into the hold of step `{}`", began.elapsed().as_millis(), self.name))?;
        }
    }

    fn tear_down(&self, made: &[Cgroup]) -> Result<(), ScenarioError> {
        for cgroup in made {
            cgroup.remove().map_err(|source| ScenarioError::Cgroup {
                name: cgroup.name().to_owned(),
                step: self.name.clone(),
                source,
            })?;
            self.ctx.op("remove_cgroup", cgroup.name())?;
        }
        Ok(())
    }

    fn alive(&self, when: &str) -> Result<(), ScenarioError> {
        self.ctx.life.check().map_err(|died| ScenarioError::Died { died, when: when.to_owned() })
    }

    fn workers(&self, source: WorkerError) -> ScenarioError {
        ScenarioError::Workers { step: self.name.clone(), source }
    }
}

fn check_ranges(def: &CgroupDef) -> Result<(), ScenarioError> {
    let fault =
        |what, value: String, range| Err(ScenarioError::Range { what, name: def.name.clone(), value, range });
    if let Some(weight) = def.cpu_weight.filter(|weight| !(1..=10_000).contains(weight)) {
        return fault("cpu_weight", weight.to_string(), "from 1 to 10000");
    }
    if let Some(nice) = def.nice.filter(|nice| !(-20..=19).contains(nice)) {
        return fault("nice", nice.to_string(), "from -20 to 19");
    }
    Ok(())
}
