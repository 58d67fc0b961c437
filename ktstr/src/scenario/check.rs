//! What can be found wrong with a scenario before anything is done.

use ktstr_replay::text::Candidates;
use ktstr_replay::watch::WatchTarget;

use super::apply::online_file;
use super::engine::failed;
use super::error::{Fault, ScenarioError};
use super::op::{Kind, Op, SchedulerOp};
use super::step::{Backdrop, HoldSpec, Step};
use crate::cgroup::{CgroupDef, CgroupError, check_name};
use crate::ctx::Ctx;
use crate::payload::PayloadSpec;
use crate::payload_call;
use crate::worker::{Affinity, RangeError, WorkSpec, WorkerCount, WorkerGroup};

/// Look through a scenario as if it was executed.
///
/// # Errors
/// The first thing that is wrong: a name, a range, CPUs that are not there.
pub(super) fn check(ctx: &Ctx, backdrop: &Backdrop, steps: &[(String, Step)]) -> Result<(), ScenarioError> {
    let mut names = Names { ctx, names: Vec::new(), payloads: Vec::new() };
    names.walk(&backdrop.setup, &backdrop.ops, "the backdrop")?;
    for (name, step) in steps {
        let whose = format!("step `{name}`");
        step.hold(ctx.duration).map_err(failed("the hold", &whose))?;
        let (outside, running) = (names.names.clone(), names.payloads.clone());
        names.walk(&step.setup, &step.ops, &whose)?;
        if matches!(step.hold, HoldSpec::Loop { .. }) {
            // What cannot be done twice is found now, and not in the second round.
            names.walk(&[], &step.ops, &whose)?;
        }
        // What the step made is gone, and so is what it removed.
        names.names.retain(|name| outside.contains(name));
        names.payloads = running;
    }
    Ok(())
}

/// The cgroups that there are.
struct Names<'a> {
    ctx: &'a Ctx,
    names: Vec<String>,
    /// Names of the payloads that were started.
    payloads: Vec<&'static str>,
}

impl Names<'_> {
    fn walk(&mut self, setup: &[CgroupDef], ops: &[Op], whose: &str) -> Result<(), ScenarioError> {
        for def in setup {
            self.add(def).map_err(failed(&format!("cgroup `{}`", def.name), whose))?;
        }
        ops.iter().try_for_each(|op| self.op(&op.0).map_err(failed(&format!("`{op}`"), whose)))
    }

    fn add(&mut self, def: &CgroupDef) -> Result<(), Fault> {
        check_name(&def.name)?;
        if self.names.contains(&def.name) {
            return Err(CgroupError::Exists { name: def.name.clone() }.into());
        }
        def.limits.check()?;
        let cpus = match &def.cpuset {
            Some(spec) => spec.resolve(&self.ctx.topo)?,
            None => self.ctx.topo.cpus.clone(),
        };
        for group in def.groups() {
            let count = self.group(&def.name, &group, cpus.len())?;
            if let Some(affinity) = &group.affinity {
                affinity.resolve(&self.ctx.topo, &cpus, count, self.ctx.seed)?;
            }
        }
        self.names.push(def.name.clone());
        def.payloads.iter().try_for_each(|payload| self.payload(payload))
    }

    /// Check a payload that is to be started.
    fn payload(&mut self, spec: &PayloadSpec) -> Result<(), Fault> {
        if let Some(cgroup) = &spec.cgroup {
            self.known(cgroup)?;
        }
        payload_call::check(self.ctx, spec)?;
        self.payloads.push(spec.def.name);
        Ok(())
    }

    /// Check a group of workers; returns their number.
    fn group(&self, name: &str, group: &WorkSpec, cpus: usize) -> Result<usize, Fault> {
        let count = group.count.unwrap_or(WorkerCount::Exactly(self.ctx.workers_per_cgroup)).of(cpus)?;
        group.settings.check()?;
        if count > 0 {
            WorkerGroup::new(name, count, group.work.clone()).check()?;
        }
        Ok(count)
    }

    fn op(&mut self, op: &Kind) -> Result<(), Fault> {
        match op {
            Kind::AddCgroup(def) => self.add(def),
            Kind::RemoveCgroup(name) => {
                self.known(name)?;
                self.names.retain(|other| other != name);
                Ok(())
            }
            Kind::SetCpuset(name, spec) => {
                self.known(name)?;
                Ok(spec.resolve(&self.ctx.topo).map(drop)?)
            }
            Kind::StopCgroup(name) | Kind::ClearCpuset(name) | Kind::Freeze(name) | Kind::Unfreeze(name) => {
                self.known(name)
            }
            Kind::SwapCpusets(one, other) | Kind::MoveTasks { from: one, to: other } => {
                self.known(one)?;
                self.known(other)
            }
            Kind::SetCpuWeight(name, weight) => {
                self.known(name)?;
                if !(1..=10_000).contains(weight) {
                    let (what, value, range) = ("cpu.weight", weight.to_string(), "from 1 to 10000");
                    return Err(RangeError { what, value, range }.into());
                }
                Ok(())
            }
            Kind::Spawn(name, group) => {
                self.known(name)?;
                self.group(name, group, self.ctx.topo.cpus.len()).map(drop)
            }
            Kind::SetAffinity(name, affinity) => {
                self.known(name)?;
                if *affinity == Affinity::Inherit {
                    return Ok(());
                }
                Ok(affinity.resolve(&self.ctx.topo, &self.ctx.topo.cpus, 1, self.ctx.seed).map(drop)?)
            }
            Kind::Online { cpu, .. } => {
                let file = online_file(self.ctx.path("sys/devices/system/cpu"), *cpu);
                match self.ctx.topo.cpus.contains(*cpu) {
                    false => Err(Fault::NoCpu { cpu: *cpu, cpus: self.ctx.topo.cpus.clone() }),
                    true if !file.exists() => Err(Fault::Fixed { cpu: *cpu, file }),
                    true => Ok(()),
                }
            }
            Kind::Scheduler(_) if self.ctx.life.name().is_none() => Err(Fault::NoScheduler),
            Kind::Scheduler(SchedulerOp::Replace(other)) if !self.ctx.staged.contains(&other.name) => {
                let candidates = Candidates::new(other.name, self.ctx.staged.iter().copied());
                Err(Fault::NotStaged { name: other.name.to_owned(), candidates })
            }
            Kind::Scheduler(_) => Ok(()),
            Kind::RunPayload(spec) => self.payload(spec),
            Kind::WaitPayload(name) | Kind::KillPayload(name) if !self.payloads.contains(name) => {
                let candidates = Candidates::new(name, self.payloads.iter().copied());
                Err(Fault::NoPayload { name, candidates })
            }
            Kind::WaitPayload(_) | Kind::KillPayload(_) => Ok(()),
            Kind::Watch(watch) => watch.order().map(drop).map_err(Fault::Syntax),
            Kind::Probe(probe) => probe.order().map(drop).map_err(Fault::Syntax),
            Kind::ReadKernel(target) | Kind::WriteKernel(target, _) => {
                target.parse::<WatchTarget>().map(drop).map_err(Fault::Syntax)
            }
            Kind::Capture(_) | Kind::IrqAffinity(..) | Kind::WriteFile(..) | Kind::Sysctl(..) => Ok(()),
        }
    }

    fn known(&self, name: &str) -> Result<(), Fault> {
        if self.names.iter().any(|other| other == name) {
            return Ok(());
        }
        let candidates = Candidates::new(name, self.names.iter().map(String::as_str));
        Err(Fault::NoCgroup { name: name.to_owned(), candidates })
    }
}
