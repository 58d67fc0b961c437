//! Taking what projections name out of samples, and out of the checkpoints that were taken with them.

use std::collections::HashMap;

use crate::kernel::query::{QueryError, follow, number};
use crate::kernel::{KernelProfile, KernelView};
use crate::path::{EntryKey, Fold, MapPath, Projection, RqField, ScxField};
use crate::trace::record::{CpuState, Sample, ScxState};
use crate::trace::{CheckpointMemory, Trace};
use crate::units::Cpu;
use crate::value::{MapEntry, Scalar, Snapshot, ValueError};

use super::{Absent, Column, Series};

/// The value of `projection` in a sample.
pub(super) fn read(projection: &Projection, snapshot: &Snapshot<'_>) -> Result<Scalar, Absent> {
    let sample = snapshot.sample();
    let unreadable = |e: ValueError| Absent::Unreadable(e.to_string());
    if projection.needs_kernel() {
        let why = format!("`{projection}` is in the kernel's memory, which only claims and `--var` read");
        return Err(Absent::Unreadable(why));
    }
    match projection {
        Projection::Var(path) => snapshot.var(path).and_then(|v| v.scalar()).map_err(unreadable),
        Projection::Map(path) => {
            entry(snapshot, path).and_then(|e| e.get(&path.field)?.scalar()).map_err(unreadable)
        }
        Projection::MapOnCpu(path, cpu) => {
            entry(snapshot, path).and_then(|e| e.cpu(*cpu)?.path(&path.field)?.scalar()).map_err(unreadable)
        }
        Projection::MapFolded(fold, path) => {
            let folded = entry(snapshot, path).and_then(|e| match fold {
                Fold::Sum => e.cpu_sum(&path.field),
                Fold::Min => e.cpu_min(&path.field).map(|(_, v)| v),
                Fold::Max => e.cpu_max(&path.field).map(|(_, v)| v),
            });
            folded.map_err(unreadable)
        }
        Projection::Rq(cpu, field) => {
            let state = sample.cpus.iter().find(|c| c.cpu == *cpu).ok_or_else(|| no_cpu(sample, *cpu))?;
            rq_field(state, *field)
                .ok_or_else(|| not_recorded(sample, &format!("rq[{cpu}].{}", field.name())))
        }
        Projection::RqFolded(fold, field) => all_cpus(sample, *fold, *field),
        Projection::Scx(field) => scx_field(scx(sample)?, *field)
            .ok_or_else(|| not_recorded(sample, &format!("scx.{}", field.name()))),
        Projection::Kernel(path) => Err(not_recorded(sample, &path.to_string())),
        Projection::Alive => Ok(Scalar::Bool(scx(sample)?.state == "enabled")),
        Projection::Closure(label) => Err(Absent::Unreadable(format!(
            "`{label}` is computed by the test itself, which has to be run for it"
        ))),
    }
}

fn entry<'s>(snapshot: &'s Snapshot<'_>, path: &MapPath) -> Result<MapEntry<'s>, ValueError> {
    let map = snapshot.map(&path.map)?;
    match path.entry {
        EntryKey::At(index) => map.at(index),
        // Keys are taken by their bytes: the upper half of u64 is the same bytes as negative numbers.
        EntryKey::Key(key) => map.get_key(key.cast_signed()),
    }
}

fn scx(sample: &Sample) -> Result<&ScxState, Absent> {
    sample.scx.as_ref().ok_or_else(|| not_recorded(sample, "sched_ext's state"))
}

fn all_cpus(sample: &Sample, fold: Fold, field: RqField) -> Result<Scalar, Absent> {
    let mut values = Vec::new();
    for cpu in &sample.cpus {
        let value = rq_field(cpu, field).and_then(Scalar::to_i128);
        values.push(value.ok_or_else(|| not_recorded(sample, &format!("rq[{}].{}", cpu.cpu, field.name())))?);
    }
    let folded = match fold {
        Fold::Sum if values.is_empty() => None,
        Fold::Sum => Some(values.iter().fold(0, |a: i128, b| a.saturating_add(*b))),
        Fold::Min => values.iter().min().copied(),
        Fold::Max => values.iter().max().copied(),
    };
    folded.map(Scalar::Int).ok_or_else(|| not_recorded(sample, "any runqueue"))
}

fn rq_field(cpu: &CpuState, field: RqField) -> Option<Scalar> {
    match field {
        RqField::NrRunning => cpu.nr_running.map(Scalar::from),
        RqField::ScxNrRunning => cpu.scx_nr_running.map(Scalar::from),
        RqField::LocalDsqNr => cpu.local_dsq_nr.map(Scalar::from),
        RqField::ScxFlags => cpu.scx_flags.map(Scalar::from),
        RqField::ClockNs => cpu.clock_ns.map(Scalar::from),
        RqField::CurrPid => cpu.curr_pid.map(Scalar::from),
    }
}

fn scx_field(scx: &ScxState, field: ScxField) -> Option<Scalar> {
    match field {
        ScxField::ExitKind => Some(scx.exit_kind.into()),
        ScxField::ExitCode => Some(scx.exit_code.into()),
        ScxField::EnableSeq => scx.enable_seq.map(Scalar::from),
        ScxField::BypassDepth => scx.bypass_depth.map(Scalar::from),
        ScxField::NrRejected => scx.nr_rejected.map(Scalar::from),
        ScxField::WatchdogTimeoutNs => scx.watchdog_timeout_ns.map(Scalar::from),
    }
}

fn no_cpu(sample: &Sample, cpu: Cpu) -> Absent {
    let have: Vec<_> = sample.cpus.iter().map(|c| c.cpu.to_string()).collect();
    if have.is_empty() {
        return not_recorded(sample, "any runqueue");
    }
    Absent::Unreadable(format!("there is no CPU {cpu}; there are {}", have.join(", ")))
}

fn not_recorded(sample: &Sample, what: &str) -> Absent {
    let mut why = format!("{what} was not recorded in this capture");
    if let Some(fault) = sample.faults.first() {
        why.push_str(&format!(" ({fault})"));
    }
    Absent::Unreadable(why)
}

impl Series {
    /// The columns of `projections`, in their order. Other than [`Series::column`] it has those of the kernel's memory
    /// too, for captures with a checkpoint in `trace`, which the series has to be of.
    pub fn columns_with(&self, trace: &Trace, projections: &[&Projection]) -> Vec<Column> {
        let wanted: Vec<&Projection> = projections.iter().copied().filter(|p| p.needs_kernel()).collect();
        let mut found = if wanted.is_empty() { HashMap::new() } else { self.in_checkpoints(trace, &wanted) };
        let column = |projection: &&Projection| match found.remove(*projection) {
            None => self.column(projection),
            Some(mut values) => self.build((*projection).clone(), |snapshot| {
                let lost = || Absent::Unreadable("it was not looked at".to_owned());
                values.remove(&snapshot.sample().index).unwrap_or_else(|| Err(lost()))
            }),
        };
        projections.iter().map(column).collect()
    }

    /// The values of each projection, by the sample's index. Each checkpoint is opened once.
    fn in_checkpoints<'p>(
        &self,
        trace: &Trace,
        wanted: &[&'p Projection],
    ) -> HashMap<&'p Projection, HashMap<u32, Result<Scalar, Absent>>> {
        let profile = KernelProfile::of_trace(trace).map_err(|error| error.to_string());
        let mut found: HashMap<&Projection, HashMap<u32, _>> = HashMap::new();
        for snapshot in self.snapshots() {
            let sample = snapshot.sample();
            let values = at_checkpoint(trace, &profile, &snapshot, wanted);
            for (projection, value) in wanted.iter().zip(values) {
                found.entry(projection).or_default().insert(sample.index, value);
            }
        }
        found
    }
}

fn at_checkpoint(
    trace: &Trace,
    profile: &Result<KernelProfile, String>,
    snapshot: &Snapshot<'_>,
    wanted: &[&Projection],
) -> Vec<Result<Scalar, Absent>> {
    let all = |why: &Absent| wanted.iter().map(|_| Err(why.clone())).collect();
    let unreadable = |why: String| Absent::Unreadable(why);
    let memory = match checkpoint_of(trace, snapshot.sample()) {
        Ok(memory) => memory,
        Err(why) => return all(&unreadable(why)),
    };
    match profile {
        Err(why) => all(&unreadable(format!("the kernel of the trace cannot be read: {why}"))),
        Ok(profile) => {
            let view = KernelView::new(profile, &memory);
            let one = |projection: &&Projection| {
                take(projection, snapshot, &view).map_err(|e| unreadable(e.to_string()))
            };
            wanted.iter().map(one).collect()
        }
    }
}

fn checkpoint_of<'t>(trace: &'t Trace, sample: &Sample) -> Result<CheckpointMemory<'t>, String> {
    let no = || "it is in the kernel's memory, and no checkpoint was taken with this capture (see `checkpoint` of #[ktstr_test])";
    trace.checkpoint_memory(sample.checkpoint.ok_or_else(no)?).map_err(|error| error.to_string())
}

fn take(
    projection: &Projection,
    snapshot: &Snapshot<'_>,
    view: &KernelView<'_>,
) -> Result<Scalar, QueryError> {
    match projection {
        Projection::Kernel(path) => number(view, path),
        Projection::Var(path) => follow(view, &snapshot.var(path.before_pointer())?, path),
        Projection::Map(path) => {
            follow(view, &entry(snapshot, path)?.get(path.field.before_pointer())?, &path.field)
        }
        Projection::MapOnCpu(path, cpu) => {
            let value = entry(snapshot, path)?.cpu(*cpu)?;
            follow(view, &value.path(path.field.before_pointer())?, &path.field)
        }
        other => read(other, snapshot)
            .map_err(|absent| ValueError::Unread { map: other.to_string(), why: absent.to_string() }.into()),
    }
}

#[cfg(test)]
mod tests {
    use crate::series::{Absent, Series};
    use crate::testing::{TraceBuilder, sample};
    use crate::trace::record::{CaptureKind, CpuState, ScxState};
    use crate::units::Cpu;

    fn series() -> Series {
        let mut one = sample("one", CaptureKind::Periodic, 1, &[]);
        one.scx = Some(ScxState { state: "enabled".into(), nr_rejected: Some(7), ..ScxState::default() });
        one.cpus = (0..2)
            .map(|cpu| CpuState {
                cpu: Cpu(cpu),
                nr_running: Some(u64::from(cpu) + 3),
                ..CpuState::default()
            })
            .collect();
        let mut two = sample("two", CaptureKind::Periodic, 2, &[]);
        two.missed = Some("late".into());
        TraceBuilder::new().sample(one).sample(two).trace().periodic()
    }

    fn first(text: &str) -> Result<String, String> {
        let column = series().column(&text.parse().unwrap());
        assert_eq!(column.points[1].value, Err(Absent::Missed("late".into())), "{text}");
        column.points[0].value.clone().map(|v| v.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn runqueues_and_sched_ext_are_read_by_field() {
        assert_eq!(first("rq[1].nr_running").as_deref(), Ok("4"));
        assert_eq!(first("cpu_sum(rq.nr_running)").as_deref(), Ok("7"));
        assert_eq!(first("cpu_min(rq.nr_running)").as_deref(), Ok("3"));
        assert_eq!(first("cpu_max(rq.nr_running)").as_deref(), Ok("4"));
        assert_eq!(first("scx.nr_rejected").as_deref(), Ok("7"));
        assert_eq!(first("alive").as_deref(), Ok("true"));
    }

    #[test]
    fn what_is_not_there_says_what_is() {
        assert_eq!(first("rq[9].nr_running").unwrap_err(), "there is no CPU 9; there are 0, 1");
        assert!(first("scx.bypass_depth").unwrap_err().contains("was not recorded"));
        assert!(first("nr_dispatched").unwrap_err().contains("no variable `nr_dispatched`"));
        assert!(first("map(ctrs).at(0).x").unwrap_err().contains("no map `ctrs`"));
    }
}
