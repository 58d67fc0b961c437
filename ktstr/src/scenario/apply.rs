//! Doing an operation.

use std::fs;
use std::path::{Path, PathBuf};

use guest_init::message::Sysctl;
use rustix::process::Pid;
use rustix::thread::{CpuSet as KernelSet, sched_getaffinity, sched_setaffinity};

use super::engine::{Engine, failed, listed, move_task};
use super::error::{Fault, ScenarioError};
use super::op::{Kind, Op, SchedulerOp};
use super::undo::{Attached, Undo, write_file};
use crate::cpu_set::CpuSet;
use crate::worker::Affinity;

impl Engine<'_> {
    /// Do an operation, and note how it is undone.
    ///
    /// # Errors
    /// What could not be done, with the operation and its step.
    pub(super) fn apply(&mut self, op: &Op) -> Result<(), ScenarioError> {
        let whose = self.whose();
        self.perform(&op.0).map_err(failed(&format!("`{op}`"), &whose))
    }

    fn perform(&mut self, op: &Kind) -> Result<(), Fault> {
        let ctx = self.ctx;
        match op {
            Kind::AddCgroup(def) => {
                self.make(def)?;
                let workload = self.spawn(&def.name, &def.groups())?;
                self.start(workload.into_iter().collect())?;
                self.run_payloads(&def.payloads)
            }
            Kind::RemoveCgroup(name) => {
                self.stop_workers_of(name)?;
                self.remove(name)
            }
            Kind::StopCgroup(name) => self.stop_workers_of(name),
            Kind::SetCpuset(name, spec) => {
                let set = spec.resolve(&ctx.topo)?;
                self.change_cpuset(name, &set.to_string())
            }
            Kind::ClearCpuset(name) => self.change_cpuset(name, ""),
            Kind::SwapCpusets(one, other) => {
                let of_one = self.own_cpuset(one)?;
                let of_other = self.own_cpuset(other)?;
                self.change_cpuset(one, &of_other)?;
                self.change_cpuset(other, &of_one)
            }
            Kind::SetCpuWeight(name, weight) => {
                ctx.cgroups.enable("cpu", name)?;
                let before = self.live(name)?.cgroup.get("cpu.weight")?;
                self.undo_with(Undo::CpuWeight { name: name.clone(), before });
                self.write_cpu_weight(name, &weight.to_string())
            }
            Kind::Spawn(name, group) => {
                let workload = self.spawn(name, std::slice::from_ref(group))?;
                self.start(workload.into_iter().collect())
            }
            Kind::SetAffinity(name, affinity) => self.change_affinity(name, affinity),
            Kind::MoveTasks { from, to } => {
                let target = self.live(to)?.cgroup.clone();
                let source = self.live(from)?.cgroup.clone();
                let pids = source.pids()?;
                self.undo_with(Undo::Move { to: source, pids: pids.clone() });
                for pid in &pids {
                    move_task(&target, *pid)?;
                }
                Ok(ctx.op("move_tasks", format!("{} from {from} to {to}", pids.len()))?)
            }
            Kind::Freeze(name) => self.change_frozen(name, true),
            Kind::Unfreeze(name) => self.change_frozen(name, false),
            Kind::Capture(name) => {
                ctx.capture_snapshot(name)?;
                Ok(ctx.op("capture_snapshot", name.as_str())?)
            }
            Kind::Watch(watch) => {
                if self.watched.contains(watch) {
                    return Ok(());
                }
                self.watched.push((**watch).clone());
                ctx.watch_snapshot((**watch).clone())?;
                Ok(ctx.op("watch_snapshot", watch.to_string())?)
            }
            Kind::Probe(probe) => {
                if self.probed.contains(probe) {
                    return Ok(());
                }
                self.probed.push((**probe).clone());
                ctx.probe((**probe).clone())?;
                Ok(ctx.op("probe", probe.to_string())?)
            }
            Kind::Online { cpu, online } => {
                if !self.set_online(*cpu, *online)? {
                    let state = if *online { "online" } else { "offline" };
                    return Err(Fault::Already { what: format!("CPU {cpu}"), state });
                }
                self.undo_with(Undo::Online { cpu: *cpu, online: !online });
                Ok(())
            }
            Kind::IrqAffinity(irq, cpus) => {
                let path = ctx.path(format!("proc/irq/{irq}/smp_affinity_list"));
                self.write(&path, &cpus.to_string())?;
                Ok(ctx.op("irq_affinity", format!("{irq}: {cpus}"))?)
            }
            Kind::WriteFile(path, text) => {
                let path = ctx.path(path);
                self.write(&path, text)?;
                Ok(ctx.op("write_file", format!("{}: {}", path.display(), text.trim_end()))?)
            }
            Kind::ReadKernel(target) => Ok(ctx.read_kernel(target).map(drop)?),
            Kind::WriteKernel(target, value) => {
                let before = ctx.write_kernel(target, *value)?;
                self.undo_with(Undo::Kernel { target: target.clone(), before });
                Ok(())
            }
            Kind::Scheduler(op) => self.with_scheduler(*op),
            Kind::RunPayload(spec) => self.run_payloads(std::slice::from_ref(spec)),
            Kind::WaitPayload(name) => self.wait_payload(name),
            Kind::KillPayload(name) => self.kill_payloads(|running| running.name == *name),
            Kind::Sysctl(name, value) => {
                let file = ctx.path(Sysctl::path(name));
                if !file.exists() {
                    return Err(Fault::NoSysctl { name: name.clone(), file });
                }
                self.write(&file, value)?;
                Ok(ctx.op("sysctl", format!("{name}: {value}"))?)
            }
        }
    }

    fn with_scheduler(&mut self, op: SchedulerOp) -> Result<(), Fault> {
        let before = self.attached().clone();
        let what = || format!("the scheduler `{}`", self.ctx.life.name().unwrap_or_default());
        match (op, &before) {
            (SchedulerOp::Detach, Attached::None) => {
                return Err(Fault::Already { what: what(), state: "detached" });
            }
            (SchedulerOp::Attach, Attached::Own) => {
                return Err(Fault::Already { what: what(), state: "attached" });
            }
            _ => {}
        }
        self.undo_with(Undo::Scheduler { before });
        let wanted = match op {
            SchedulerOp::Detach => Attached::None,
            SchedulerOp::Attach | SchedulerOp::Restart => Attached::Own,
            SchedulerOp::Replace(other) => Attached::Staged(other.name.to_owned()),
        };
        self.attach(wanted)
    }

    fn write(&mut self, path: &Path, text: &str) -> Result<(), Fault> {
        if let Some(undo) = write_file(path, text)? {
            self.undo_with(undo);
        }
        Ok(())
    }

    fn change_cpuset(&mut self, name: &str, cpus: &str) -> Result<(), Fault> {
        let before = self.live(name)?.cpuset.clone();
        self.undo_with(Undo::Cpuset { name: name.to_owned(), before });
        self.write_cpuset(name, cpus)
    }

    fn own_cpuset(&mut self, name: &str) -> Result<String, Fault> {
        let cpuset = self.live(name)?.cpuset.clone();
        if cpuset.is_empty() { Err(Fault::NoCpuset { name: name.to_owned() }) } else { Ok(cpuset) }
    }

    fn change_frozen(&mut self, name: &str, freeze: bool) -> Result<(), Fault> {
        if !self.set_frozen(name, freeze)? {
            let state = if freeze { "frozen" } else { "not frozen" };
            return Err(Fault::Already { what: format!("cgroup `{name}`"), state });
        }
        self.undo_with(Undo::Freeze { name: name.to_owned(), freeze: !freeze });
        Ok(())
    }

    fn change_affinity(&mut self, name: &str, affinity: &Affinity) -> Result<(), Fault> {
        let ctx = self.ctx;
        let allowed = self.allowed(name)?;
        let threads = self.live(name)?.cgroup.get("cgroup.threads")?;
        let tids: Vec<Pid> =
            threads.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)).collect();
        let mut sets = affinity.resolve(&ctx.topo, &allowed, tids.len(), ctx.seed)?;
        if sets.is_empty() {
            sets = vec![allowed; tids.len()];
        }
        for (tid, set) in tids.iter().zip(&sets) {
            match sched_getaffinity(Some(*tid)) {
                Ok(before) => self.undo_with(Undo::Affinity { tid: *tid, before }),
                // It has ended.
                Err(rustix::io::Errno::SRCH) => continue,
                Err(errno) => {
                    let (what, source) = ("read the CPUs", errno.into());
                    return Err(Fault::Process { what, pid: *tid, source });
                }
            }
            set_affinity(*tid, &kernel_set(set))?;
        }
        Ok(ctx.op("set_affinity", format!("{name}: {}", listed(&sets)))?)
    }

    /// Bring a CPU in or out. Returns whether it was not so before.
    pub(super) fn set_online(&mut self, cpu: u32, online: bool) -> Result<bool, Fault> {
        let ctx = self.ctx;
        let file = online_file(ctx.path("sys/devices/system/cpu"), cpu);
        if !ctx.topo.cpus.contains(cpu) {
            return Err(Fault::NoCpu { cpu, cpus: ctx.topo.cpus.clone() });
        }
        if !file.exists() {
            return Err(Fault::Fixed { cpu, file });
        }
        let fault = |what: String| {
            let path = file.clone();
            move |source| Fault::File { what, path, source }
        };
        let wanted = if online { "1" } else { "0" };
        let is = fs::read_to_string(&file).map_err(fault("read".to_owned()))?;
        if is.trim() == wanted {
            return Ok(false);
        }
        fs::write(&file, wanted).map_err(fault(format!("write `{wanted}` to")))?;
        ctx.op(if online { "online" } else { "offline" }, cpu.to_string())?;
        Ok(true)
    }
}

/// The file by which a CPU is brought in or out.
pub(super) fn online_file(cpus: PathBuf, cpu: u32) -> PathBuf {
    cpus.join(format!("cpu{cpu}/online"))
}

/// Let a thread use these CPUs. One that has ended needs none.
pub(super) fn set_affinity(tid: Pid, cpus: &KernelSet) -> Result<(), Fault> {
    match sched_setaffinity(Some(tid), cpus) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(Fault::Process { what: "set the CPUs", pid: tid, source: errno.into() }),
    }
}

fn kernel_set(cpus: &CpuSet) -> KernelSet {
    let mut set = KernelSet::new();
    // Panics beyond what it can hold, which is more than an x86 kernel of a distribution has.
    cpus.iter().filter(|&&cpu| (cpu as usize) < KernelSet::MAX_CPU).for_each(|&cpu| set.set(cpu as usize));
    set
}
