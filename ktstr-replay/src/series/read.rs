//! Taking what projections name out of samples, and out of the memory that was kept with them.

use crate::kernel::query::{QueryError, Reading, Start, count, count_at, follow, number, of_value};
use crate::path::{Fold, MapPath, Projection, RqField, ScxField};
use crate::trace::Trace;
use crate::trace::record::{CpuState, Sample, ScxState};
use crate::units::Cpu;
use crate::value::{MapEntry, Scalar, Snapshot, StatsError, Value, ValueError, cast_scalar};

use super::memory::Open;
use super::payloads::Payloads;
use super::watches::Watches;
use super::{Absent, Column, Series};

/// Width of computed numbers, and of numbers without a recorded width.
const WIDE: u32 = 64;

/// The value of `projection` in a sample. `open` gives the kernel's memory, for what the sample does not hold.
pub(super) fn read(
    projection: &Projection,
    snapshot: &Snapshot<'_>,
    open: &Open<'_>,
) -> Result<Reading, Absent> {
    let sample = snapshot.sample();
    let wide = |scalar: Scalar| Reading { scalar, bits: WIDE };
    match projection {
        Projection::Var(path) => {
            let (value, name, rest) = snapshot.locate(path.steps()).map_err(unreadable)?;
            of_sample(&value, Start { root: &name, steps: rest }, open)
        }
        Projection::Map(path) => of_entry(&entry(snapshot, path)?, path, None, open),
        Projection::MapOnCpu(path, cpu) => of_entry(&entry(snapshot, path)?, path, Some(*cpu), open),
        Projection::MapFolded(fold, path) => {
            let entry = entry(snapshot, path)?;
            let of_cpu = |cpu: &Cpu| of_entry(&entry, path, Some(*cpu), open);
            let values: Vec<Reading> = entry.cpus().iter().map(of_cpu).collect::<Result<_, _>>()?;
            let bits = values.iter().map(|one| one.bits).max().unwrap_or(WIDE);
            let scalars: Vec<Scalar> = values.iter().map(|one| one.scalar).collect();
            let folded = folded(*fold, &scalars).ok_or_else(|| unreadable(entry.no_cpu(Cpu(0))))?;
            // A sum is of as many bits as it takes; it wraps at none of its parts' widths.
            Ok(Reading { scalar: folded, bits: if *fold == Fold::Sum { WIDE } else { bits } })
        }
        Projection::Rq(cpu, field) => {
            let state = sample.cpus.iter().find(|c| c.cpu == *cpu).ok_or_else(|| no_cpu(sample, *cpu))?;
            rq_field(state, *field)
                .map(wide)
                .ok_or_else(|| not_recorded(sample, &format!("rq[{cpu}].{}", field.name())))
        }
        Projection::RqFolded(fold, field) => all_cpus(sample, *fold, *field).map(wide),
        Projection::Scx(field) => scx_field(scx(sample)?, *field)
            .map(wide)
            .ok_or_else(|| not_recorded(sample, &format!("scx.{}", field.name()))),
        Projection::Kernel(path) => number(&open()?.view, path).map_err(unreadable),
        Projection::Rows(of, path) => {
            open()?.table(path.table, |rows| rows.fold(*of, path)).map(wide).map_err(Absent::Unreadable)
        }
        Projection::Cell(path) => {
            open()?.table(path.table, |rows| rows.cell(path)).map(wide).map_err(Absent::Unreadable)
        }
        Projection::Count(of) => counted(of, snapshot, open).map(|nr| wide(Scalar::from(nr as u64))),
        Projection::Cast(words, of) => {
            let inner = read(of, snapshot, open)?;
            let (scalar, bits) = cast_scalar(inner.scalar, words).map_err(unreadable)?;
            Ok(Reading { scalar, bits })
        }
        Projection::OfScheduler(name, of) => {
            read(of, &snapshot.of_scheduler(name).map_err(unreadable)?, open)
        }
        Projection::Payload(_) | Projection::Watch(_) => Err(Absent::Unreadable(format!(
            "`{projection}` is out of the trace's events, and is not read as another type"
        ))),
        Projection::Alive => Ok(wide(Scalar::Bool(scx(sample)?.is_enabled()))),
        Projection::Stats(path) => {
            let found = snapshot.stats_at(path).and_then(|found| found.scalar());
            found.map(wide).map_err(|error| match error {
                ValueError::Stats(StatsError::NotAsked | StatsError::NoAnswer { .. }) => {
                    Absent::Unanswered(error.to_string())
                }
                other => unreadable(other),
            })
        }
        Projection::Closure(label) => Err(Absent::Unreadable(format!(
            "`{label}` is computed by the test itself, which has to be run for it"
        ))),
    }
}

fn unreadable(error: impl std::fmt::Display) -> Absent {
    Absent::Unreadable(error.to_string())
}

fn entry<'s>(snapshot: &'s Snapshot<'_>, path: &MapPath) -> Result<MapEntry<'s>, Absent> {
    let map = snapshot.map(&path.map).map_err(unreadable)?;
    map.entry_of(&path.entry).map_err(unreadable)
}

fn of_entry(
    entry: &MapEntry<'_>,
    path: &MapPath,
    cpu: Option<Cpu>,
    open: &Open<'_>,
) -> Result<Reading, Absent> {
    let whole = entry.whole(cpu).map_err(unreadable)?;
    of_sample(&whole, Start { root: &path.head(), steps: path.field.steps() }, open)
}

/// The number that `start` leads to from a value of the sample, through memory where it goes on there.
fn of_sample(value: &Value<'_>, start: Start<'_>, open: &Open<'_>) -> Result<Reading, Absent> {
    match value.walk(start.root, start.steps, 0) {
        Ok(found) => of_value(&found).map_err(|error| match error {
            QueryError::Value(ValueError::WrongKind { .. }) => Absent::NotANumber(error.to_string()),
            other => unreadable(other),
        }),
        Err(error) if error.may_be_in_memory() => {
            let memory = in_memory(&error, open)?;
            follow(&memory.view, value, start).map_err(unreadable)
        }
        Err(error) => Err(unreadable(error)),
    }
}

/// The memory where a walk goes on that ended with `error`; where there is none, the reason that says more.
fn in_memory<'o>(error: &ValueError, open: &Open<'o>) -> Result<&'o super::memory::Memory<'o>, Absent> {
    open().map_err(|absent| match error {
        ValueError::NeedsMemory { .. } => absent,
        other => unreadable(other),
    })
}

/// How many nodes the tree or list has that a path names.
fn counted(of: &Projection, snapshot: &Snapshot<'_>, open: &Open<'_>) -> Result<usize, Absent> {
    let nodes = |value: &Value<'_>, start: Start<'_>| count(&open()?.view, value, start).map_err(unreadable);
    let of_map = |path: &MapPath, cpu| {
        let whole = entry(snapshot, path)?.whole(cpu).map_err(unreadable)?;
        nodes(&whole, Start { root: &path.head(), steps: path.field.steps() })
    };
    match of {
        Projection::Var(path) => {
            let (value, name, rest) = snapshot.locate(path.steps()).map_err(unreadable)?;
            nodes(&value, Start { root: &name, steps: rest })
        }
        Projection::Map(path) => of_map(path, None),
        Projection::MapOnCpu(path, cpu) => of_map(path, Some(*cpu)),
        Projection::Kernel(path) => count_at(&open()?.view, path).map_err(unreadable),
        other => Err(Absent::Unreadable(format!("`{other}` is a number, which has no nodes"))),
    }
}

/// All CPUs' values as one; integers exactly.
fn folded(fold: Fold, values: &[Scalar]) -> Option<Scalar> {
    match fold {
        Fold::Sum if values.is_empty() => None,
        Fold::Sum => {
            let whole: Option<Vec<i128>> = values.iter().map(|value| value.to_i128()).collect();
            Some(match whole {
                Some(whole) => Scalar::Int(whole.into_iter().fold(0, i128::saturating_add)),
                None => Scalar::Float(values.iter().map(|value| value.to_f64()).sum()),
            })
        }
        Fold::Min => values.iter().copied().min_by(|this, that| this.order(*that)),
        Fold::Max => values.iter().copied().max_by(|this, that| this.order(*that)),
    }
}

fn scx(sample: &Sample) -> Result<&ScxState, Absent> {
    sample.scx.as_ref().ok_or_else(|| not_recorded(sample, "sched_ext's state"))
}

fn all_cpus(sample: &Sample, fold: Fold, field: RqField) -> Result<Scalar, Absent> {
    let of_cpu = |cpu: &CpuState| {
        let value = rq_field(cpu, field);
        value.ok_or_else(|| not_recorded(sample, &format!("rq[{}].{}", cpu.cpu, field.name())))
    };
    let values: Vec<Scalar> = sample.cpus.iter().map(of_cpu).collect::<Result<_, _>>()?;
    folded(fold, &values).ok_or_else(|| not_recorded(sample, "any runqueue"))
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

pub(super) fn no_cpu(sample: &Sample, cpu: Cpu) -> Absent {
    let have: Vec<_> = sample.cpus.iter().map(|c| c.cpu.to_string()).collect();
    if have.is_empty() {
        return not_recorded(sample, "any runqueue");
    }
    // Registers are those of all vCPUs, runqueues those of the CPUs that run.
    if sample.vcpus.iter().any(|vcpu| vcpu.cpu == cpu) {
        return Absent::Unreadable(format!("CPU {cpu} is offline"));
    }
    Absent::Unreadable(format!("there is no CPU {cpu}; there are {}", have.join(", ")))
}

pub(super) fn not_recorded(sample: &Sample, what: &str) -> Absent {
    let mut why = format!("{what} was not recorded in this capture");
    if let Some(fault) = sample.faults.first() {
        why.push_str(&format!(" ({fault})"));
    }
    Absent::Unreadable(why)
}

impl Series {
    /// The columns of `projections`, in their order, of captures in `trace`, which the series has to be of. Each checkpoint is opened
    /// once.
    pub fn columns_with(&self, trace: &Trace, projections: &[&Projection]) -> Vec<Column> {
        let (kernel, payloads) = (self.samples.kernel_in(trace), Payloads::of(trace, projections));
        let watches = Watches::of(trace, projections);
        let mut found: Vec<Vec<Result<Reading, Absent>>> = vec![Vec::new(); projections.len()];
        for snapshot in self.snapshots().filter(|snapshot| snapshot.sample().missed.is_none()) {
            kernel.at(snapshot.sample(), |open| {
                for (projection, values) in projections.iter().zip(&mut found) {
                    values.push(match projection {
                        Projection::Payload(path) => payloads.read(path, snapshot.sample().guest_ns),
                        Projection::Watch(path) => watches.read(path, snapshot.sample().guest_ns),
                        _ => read(projection, &snapshot, open),
                    });
                }
            });
        }
        let column = |(projection, values): (&&Projection, Vec<Result<Reading, Absent>>)| {
            let mut values = values.into_iter();
            let lost = || Absent::Unreadable("it was not looked at".to_owned());
            self.build((*projection).clone(), |_| values.next().unwrap_or_else(|| Err(lost())))
        };
        projections.iter().zip(found).map(column).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::series::{Absent, Series};
    use crate::testing::{TraceBuilder, sample};
    use crate::trace::record::{CaptureKind, CpuState, ScxState, VcpuRegs};
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
        one.vcpus = (0..3).map(|cpu| VcpuRegs { cpu: Cpu(cpu), ..VcpuRegs::default() }).collect();
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
        assert_eq!(first("rq[2].nr_running").unwrap_err(), "CPU 2 is offline");
        assert!(first("scx.bypass_depth").unwrap_err().contains("was not recorded"));
        assert!(first("nr_dispatched").unwrap_err().contains("no variable `nr_dispatched`"));
        assert!(first("map(ctrs).at(0).x").unwrap_err().contains("no map `ctrs`"));
    }
}
