//! What a scenario has made: frames of cgroups, workers and ways back, one for the backdrop and one for the step.

use guest_init::message::{FromTest, SchedulerOrder};
use ktstr_replay::run::{DetachedTimes, SpawnedWorkers};
use ktstr_replay::text::Candidates;
use rustix::process::Pid;

use super::error::{Fault, ScenarioError};
use super::undo::{Attached, Undo, restore_file};
use crate::cgroup::{Cgroup, CgroupDef, CgroupError};
use crate::cpu_set::CpuSet;
use crate::ctx::Ctx;
use crate::payload::Running;
use crate::probe::ProbeSpec;
use crate::watch::WatchSpec;
use crate::worker::{Affinity, WorkSpec, WorkerCount, WorkerGroup, WorkloadHandle};

/// A scenario that is being executed.
pub(super) struct Engine<'a> {
    pub(super) ctx: &'a Ctx,
    frames: Vec<Frame>,
    attached: Attached,
    /// What was asked to be watched.
    pub(super) watched: Vec<WatchSpec>,
    /// What was asked to be probed.
    pub(super) probed: Vec<ProbeSpec>,
}

/// What one step made and changed.
struct Frame {
    /// For errors: ``step `quiet` ``.
    whose: String,
    cgroups: Vec<Live>,
    /// With the names of their cgroups.
    workloads: Vec<(String, WorkloadHandle)>,
    payloads: Vec<Running>,
    undos: Vec<Undo>,
}

/// A cgroup that is there.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) cgroup: Cgroup,
    /// Its own CPUs as they were set last; empty: those of the one that it is in.
    pub(super) cpuset: String,
    pub(super) is_frozen: bool,
}

/// An error of one thing becomes that of a scenario.
pub(super) fn failed<E: Into<Fault>>(what: &str, whose: &str) -> impl FnOnce(E) -> ScenarioError {
    let (what, whose) = (what.to_owned(), whose.to_owned());
    move |source| ScenarioError::Step { what, whose, source: Box::new(source.into()) }
}

impl<'a> Engine<'a> {
    pub(super) fn new(ctx: &'a Ctx) -> Self {
        Self {
            ctx,
            frames: Vec::new(),
            attached: Attached::default(),
            watched: Vec::new(),
            probed: Vec::new(),
        }
    }

    /// What is made from now on belongs to a new frame.
    pub(super) fn begin_frame(&mut self, whose: String) {
        self.frames.push(Frame {
            whose,
            cgroups: Vec::new(),
            workloads: Vec::new(),
            payloads: Vec::new(),
            undos: Vec::new(),
        });
    }

    /// Whether the scheduler still schedules.
    ///
    /// # Errors
    /// [`ScenarioError::Died`].
    pub(super) fn alive(&self, when: &str) -> Result<(), ScenarioError> {
        self.ctx.life.check().map_err(|died| ScenarioError::Died { died, when: when.to_owned() })
    }

    /// For errors: whose turn it is.
    pub(super) fn whose(&self) -> String {
        self.frames.last().map_or_else(String::new, |frame| frame.whose.clone())
    }

    /// Note a way back, if this frame has none of the same thing yet: what it was before the first change is what counts.
    pub(super) fn undo_with(&mut self, undo: Undo) {
        let Some(frame) = self.frames.last_mut() else { return };
        match undo {
            Undo::Move { to, mut pids } => {
                let moved = |pid: &Pid| frame.undos.iter().any(|earlier| earlier.moves(*pid));
                pids.retain(|pid| !moved(pid));
                if !pids.is_empty() {
                    frame.undos.push(Undo::Move { to, pids });
                }
            }
            undo if frame.undos.iter().any(|earlier| earlier.is_of_same(&undo)) => {}
            undo => frame.undos.push(undo),
        }
    }

    /// Make cgroups, then all their workers, and let these begin at one moment.
    pub(super) fn set_up(&mut self, defs: &[CgroupDef]) -> Result<(), ScenarioError> {
        let whose = self.whose();
        for def in defs {
            self.make(def).map_err(failed(&format!("cgroup `{}`", def.name), &whose))?;
        }
        let mut begun = Vec::new();
        for def in defs {
            let spawned = self.spawn(&def.name, &def.groups());
            begun.extend(spawned.map_err(failed(&format!("the workers of cgroup `{}`", def.name), &whose))?);
        }
        self.start(begun).map_err(failed("the start", &whose))?;
        for def in defs {
            let run = self.run_payloads(&def.payloads);
            run.map_err(failed(&format!("the payloads of cgroup `{}`", def.name), &whose))?;
        }
        Ok(())
    }

    /// Make a cgroup, without its workers.
    pub(super) fn make(&mut self, def: &CgroupDef) -> Result<(), Fault> {
        let ctx = self.ctx;
        let cgroup = ctx.cgroups.create(&def.name)?;
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        frame.undos.push(Undo::Remove { name: def.name.clone() });
        frame.cgroups.push(Live { cgroup: cgroup.clone(), cpuset: String::new(), is_frozen: false });
        ctx.op("add_cgroup", def.name.as_str())?;
        for limit in def.limits.files() {
            ctx.cgroups.enable(limit.controller, &def.name)?;
            cgroup.set(limit.file, &limit.value)?;
            ctx.op(limit.op, format!("{}: {}", def.name, limit.value))?;
        }
        if let Some(spec) = &def.cpuset {
            let set = spec.resolve(&ctx.topo)?;
            self.write_cpuset(&def.name, &set.to_string())?;
        }
        Ok(())
    }

    /// Fork workers into a cgroup; they wait for their start.
    pub(super) fn spawn(&mut self, name: &str, groups: &[WorkSpec]) -> Result<Option<WorkloadHandle>, Fault> {
        let ctx = self.ctx;
        let allowed = self.allowed(name)?;
        let mut wanted = Vec::new();
        for group in groups {
            let count =
                group.count.unwrap_or(WorkerCount::Exactly(ctx.workers_per_cgroup)).of(allowed.len())?;
            let affinity = group.affinity.as_ref().unwrap_or(&Affinity::Inherit);
            let cpus = affinity.resolve(&ctx.topo, &allowed, count, ctx.seed)?;
            let (cgroup, work, settings) = (name.to_owned(), group.work.clone(), group.settings.clone());
            if count > 0 {
                wanted.push(WorkerGroup { cgroup, count, work, settings, cpus });
            }
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        let workload = WorkloadHandle::spawn(&wanted)?;
        let cgroup = &self.live(name)?.cgroup;
        for (pid, _) in workload.pids() {
            cgroup.add(pid)?;
        }
        for group in &wanted {
            let spawned =
                SpawnedWorkers { cgroup: name.to_owned(), count: group.count, work: group.work.to_string() };
            ctx.op(SpawnedWorkers::OP, spawned.to_string())?;
            if let Some(nice) = group.settings.nice {
                ctx.op("set_nice", format!("{name}: {nice}"))?;
            }
            if let Some(policy) = group.settings.policy {
                ctx.op("set_policy", format!("{name}: {policy}"))?;
            }
            if !group.cpus.is_empty() {
                ctx.op("set_affinity", format!("{name}: {}", listed(&group.cpus)))?;
            }
        }
        Ok(Some(workload))
    }

    /// Let workers begin at one moment; they are the frame's from now on.
    pub(super) fn start(&mut self, workloads: Vec<WorkloadHandle>) -> Result<(), Fault> {
        let ctx = self.ctx;
        if workloads.is_empty() {
            return Ok(());
        }
        let workers: usize = workloads.iter().map(WorkloadHandle::worker_count).sum();
        let mut workloads = workloads;
        WorkloadHandle::start_together(&mut workloads.iter_mut().collect::<Vec<_>>())?;
        for workload in workloads {
            let name = workload.pids().next().map_or_else(String::new, |(_, name)| name.to_owned());
            if let Some(frame) = self.frames.last_mut() {
                frame.workloads.push((name, workload));
            }
        }
        Ok(ctx.op("start", format!("{workers} workers"))?)
    }

    /// Undo what the latest frame made and changed. All of it is tried.
    ///
    /// # Errors
    /// The first thing that could not be undone.
    pub(super) fn end_frame(&mut self) -> Result<(), ScenarioError> {
        let whose = self.whose();
        let mut first = Ok(());
        // A frozen worker could neither end nor report.
        let thawed = self.thaw().map_err(failed("undoing freeze", &whose));
        first = first.and(thawed);
        let workloads = self.frames.last_mut().map(|frame| std::mem::take(&mut frame.workloads));
        let workloads = workloads.unwrap_or_default();
        if !workloads.is_empty() {
            let stopped = self.stop(workloads, "all workers").map_err(failed("the stop", &whose));
            first = first.and(stopped);
        }
        let payloads = self.frames.last_mut().map(|frame| std::mem::take(&mut frame.payloads));
        let ended = self.end_payloads(payloads.unwrap_or_default());
        first = first.and(ended.map_err(failed("the end of its payloads", &whose)));
        while let Some(undo) = self.frames.last_mut().and_then(|frame| frame.undos.pop()) {
            let what = undo.to_string();
            let undone = self.undo(undo).map_err(failed(&format!("undoing `{what}`"), &whose));
            first = first.and(undone);
        }
        self.frames.pop();
        first
    }

    fn thaw(&mut self) -> Result<(), Fault> {
        let frame = self.frames.last_mut();
        let undos = frame.map(|frame| frame.undos.extract_if(.., |undo| undo.thaws()).collect::<Vec<_>>());
        undos.into_iter().flatten().rev().try_for_each(|undo| self.undo(undo))
    }

    /// End workers; their reports go into the trace.
    pub(super) fn stop(&mut self, workloads: Vec<(String, WorkloadHandle)>, whom: &str) -> Result<(), Fault> {
        let workloads = workloads.into_iter().map(|(_, workload)| workload).collect();
        for report in WorkloadHandle::stop_together(workloads) {
            self.ctx.tell(FromTest::Worker(Box::new(report)))?;
        }
        Ok(self.ctx.op("stop", whom)?)
    }

    /// End the workers that were started in a cgroup, whichever step did.
    pub(super) fn stop_workers_of(&mut self, name: &str) -> Result<(), Fault> {
        self.live(name)?;
        let mut stopped = Vec::new();
        for frame in &mut self.frames {
            stopped.extend(frame.workloads.extract_if(.., |(cgroup, _)| cgroup == name));
        }
        self.set_frozen(name, false)?;
        self.kill_payloads(|running| running.cgroup.as_deref() == Some(name))?;
        self.stop(stopped, name)
    }

    /// Kill what is left in a cgroup when all that was started there has ended: a payload may leave processes of its own.
    fn kill_leftovers(&mut self, name: &str) -> Result<(), Fault> {
        let cgroup = self.live(name)?.cgroup.clone();
        // Of one whose processes cannot be read the removal says more.
        let left = cgroup.pids().map_or(0, |pids| pids.len());
        if left == 0 {
            return Ok(());
        }
        cgroup.kill()?;
        Ok(self.ctx.op("kill_leftovers", format!("{name}: {left} processes"))?)
    }

    /// Remove a cgroup that has no processes.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), Fault> {
        self.live(name)?.cgroup.remove()?;
        for frame in &mut self.frames {
            frame.cgroups.retain(|live| live.cgroup.name() != name);
            // Nothing of it is left to be as before.
            frame.undos.retain(|undo| undo.cgroup() != Some(name));
        }
        Ok(self.ctx.op("remove_cgroup", name)?)
    }

    /// The cgroup of this name that was made last.
    pub(super) fn live(&mut self, name: &str) -> Result<&mut Live, Fault> {
        let names: Vec<String> = self.names();
        let all = self.frames.iter_mut().rev().flat_map(|frame| frame.cgroups.iter_mut().rev());
        all.into_iter().find(|live| live.cgroup.name() == name).ok_or_else(|| Fault::NoCgroup {
            name: name.to_owned(),
            candidates: Candidates::new(name, names),
        })
    }

    fn names(&self) -> Vec<String> {
        let all = self.frames.iter().flat_map(|frame| &frame.cgroups);
        all.map(|live| live.cgroup.name().to_owned()).collect()
    }

    /// CPUs that the tasks of a cgroup may use now.
    pub(super) fn allowed(&mut self, name: &str) -> Result<CpuSet, Fault> {
        let path = self.live(name)?.cgroup.path().to_owned();
        // Where the controller is not enabled there is no file, and the CPUs are those of the cgroup outside.
        let mount = self.ctx.cgroups.mount();
        let folders = path.ancestors().take_while(|folder| folder.starts_with(mount));
        let texts =
            folders.filter_map(|folder| std::fs::read_to_string(folder.join("cpuset.cpus.effective")).ok());
        let set = texts.filter_map(|text| text.parse::<CpuSet>().ok()).find(|set| !set.is_empty());
        Ok(set.unwrap_or_else(|| self.ctx.topo.cpus.clone()))
    }

    /// Give a cgroup its CPUs; empty: those of the one that it is in.
    pub(super) fn write_cpuset(&mut self, name: &str, cpus: &str) -> Result<(), Fault> {
        let ctx = self.ctx;
        ctx.cgroups.enable("cpuset", name)?;
        let live = self.live(name)?;
        live.cgroup.set("cpuset.cpus", cpus)?;
        live.cpuset = cpus.to_owned();
        let told = match cpus {
            "" => ctx.op("clear_cpuset", name),
            cpus => ctx.op("set_cpuset", format!("{name}: {cpus}")),
        };
        Ok(told?)
    }

    /// Give a cgroup its weight.
    pub(super) fn write_cpu_weight(&mut self, name: &str, weight: &str) -> Result<(), Fault> {
        let ctx = self.ctx;
        self.live(name)?.cgroup.set("cpu.weight", weight)?;
        Ok(ctx.op("set_cpu_weight", format!("{name}: {weight}"))?)
    }

    /// Freeze a cgroup or let it go on. Returns whether it was not so before.
    pub(super) fn set_frozen(&mut self, name: &str, freeze: bool) -> Result<bool, Fault> {
        let ctx = self.ctx;
        let live = self.live(name)?;
        if live.is_frozen == freeze {
            return Ok(false);
        }
        live.cgroup.freeze(freeze)?;
        live.is_frozen = freeze;
        ctx.op(if freeze { "freeze" } else { "unfreeze" }, name)?;
        Ok(true)
    }

    /// A payload that is the frame's from now on.
    pub(super) fn keep_payload(&mut self, running: Running) {
        if let Some(frame) = self.frames.last_mut() {
            frame.payloads.push(running);
        }
    }

    /// Take payloads from whichever frame has them.
    pub(super) fn take_payloads(&mut self, which: impl Fn(&Running) -> bool) -> Vec<Running> {
        let frames = self.frames.iter_mut();
        frames.flat_map(|frame| frame.payloads.extract_if(.., |running| which(running))).collect()
    }

    /// Which scheduler is attached.
    pub(super) fn attached(&self) -> &Attached {
        &self.attached
    }

    /// End the scheduler, if one is attached, and start the wanted one. What the trace is told comes before the end and after the
    /// start, so that all captures without a scheduler are between them.
    pub(super) fn attach(&mut self, wanted: Attached) -> Result<(), Fault> {
        let ctx = self.ctx;
        let own = ctx.life.name().unwrap_or_default();
        let name = |attached: &Attached| match attached {
            Attached::Staged(name) => name.clone(),
            Attached::Own | Attached::None => own.to_owned(),
        };
        let before = std::mem::replace(&mut self.attached, Attached::None);
        if before != Attached::None {
            ctx.op(DetachedTimes::DETACH, name(&before))?;
            ctx.life.detached();
            ctx.order(SchedulerOrder::Detach)?;
        }
        let staged = match &wanted {
            Attached::None => return Ok(()),
            Attached::Own => None,
            Attached::Staged(name) => Some(name.clone()),
        };
        let pid = ctx.order(SchedulerOrder::Attach { name: staged })?;
        ctx.life.attached(pid);
        // It is attached whatever fails from here on: the way back and the trace must know.
        self.attached = wanted;
        ctx.op(DetachedTimes::ATTACH, name(&self.attached))?;
        Ok(ctx.set_watchdog()?)
    }

    fn undo(&mut self, undo: Undo) -> Result<(), Fault> {
        let ctx = self.ctx;
        match undo {
            Undo::File { path, before } => {
                restore_file(&path, before.as_deref())?;
                Ok(ctx.op("restore_file", path.display().to_string())?)
            }
            Undo::Online { cpu, online } => self.set_online(cpu, online).map(drop),
            Undo::Cpuset { name, before } => self.write_cpuset(&name, &before),
            Undo::CpuWeight { name, before } => self.write_cpu_weight(&name, &before),
            Undo::Move { to, pids } => {
                for pid in pids {
                    move_task(&to, pid)?;
                }
                Ok(ctx.op("move_tasks", format!("back to {}", to.name()))?)
            }
            Undo::Affinity { tid, before } => super::apply::set_affinity(tid, &before),
            Undo::Freeze { name, freeze } => self.set_frozen(&name, freeze).map(drop),
            Undo::Kernel { target, before } => Ok(ctx.write_kernel(target, before).map(drop)?),
            Undo::Scheduler { before } if before == self.attached => Ok(()),
            Undo::Scheduler { before } => self.attach(before),
            Undo::Remove { name } => {
                self.kill_leftovers(&name)?;
                self.remove(&name)
            }
        }
    }
}

/// Move a process; one that has ended is not there to be moved.
pub(super) fn move_task(to: &Cgroup, pid: Pid) -> Result<(), CgroupError> {
    match to.add(pid) {
        Err(CgroupError::Io { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        moved => moved,
    }
}

/// The sets in turn, each once in a row: `0 | 1 | 0`.
pub(super) fn listed(sets: &[CpuSet]) -> String {
    let mut texts: Vec<String> = sets.iter().map(CpuSet::to_string).collect();
    texts.dedup();
    texts.join(" | ")
}
