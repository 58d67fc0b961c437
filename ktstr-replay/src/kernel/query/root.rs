//! Where paths begin: symbols, runqueues, tasks, dispatch queues, schedulers.

use std::collections::BTreeSet;

use super::types::{of_symbol, of_words};
use super::{QueryError, TaskName};
use crate::btf::{CType, alike};
use crate::kernel::dsq::{Dsq, read_dsqs};
use crate::kernel::scx::{SchedulerObjects, identity};
use crate::kernel::task::task_addresses;
use crate::kernel::{Gaps, KernelView};
use crate::path::{Root, TaskKey};
use crate::text::Candidates;
use crate::trace::record::scheduler_maps::ROOT_CGROUP;
use crate::units::{Cpu, KernelVirt};
use crate::value::ValueError;

/// The symbol of the runqueues.
const RUNQUEUES: &str = "runqueues";
/// The symbol of the pointer to the root scheduler.
const ROOT: &str = "scx_root";
/// Most schedulers that an error names.
const NAMED: usize = 8;

/// Find the object: its address and its type.
pub(super) fn find(view: &KernelView<'_>, root: &Root) -> Result<(KernelVirt, CType), QueryError> {
    let typed = |at, words: &str| Ok((at, of_words(view.types(), words)?));
    match root {
        Root::Symbol { name, cast, cpu } => {
            let at = symbol(view, name)?;
            let of = match cast {
                Some(words) => of_words(view.types(), words)?,
                None => of_symbol(view.types(), name)?,
            };
            let at = on_cpu(view, name, at, *cpu)?;
            if let Some(cpu) = cpu.filter(|_| name == RUNQUEUES) {
                has_runqueue(view, cpu)?;
            }
            Ok((at, of))
        }
        Root::Rq(cpu) => {
            let at = place(view, view.symbol(RUNQUEUES)?, *cpu)?;
            has_runqueue(view, *cpu)?;
            typed(at, "struct rq")
        }
        Root::Task(key) => typed(task(view, key)?, "struct task_struct"),
        Root::Scheduler(name) => typed(scheduler(view, name)?, "struct scx_sched *"),
        Root::Dsq { id, of } => typed(dsq(view, *id, of.as_deref())?, "struct scx_dispatch_q"),
    }
}

/// Whether a CPU schedules. What the runqueue of one that is offline was left with says nothing of now; the sample has none of it either.
/// Other variables of that CPU keep what they counted.
fn has_runqueue(view: &KernelView<'_>, cpu: Cpu) -> Result<(), QueryError> {
    if view.cpus()?.is_online(cpu) { Ok(()) } else { Err(QueryError::Offline { cpu }) }
}

fn symbol(view: &KernelView<'_>, name: &str) -> Result<KernelVirt, QueryError> {
    let symbols = view.profile().symbols();
    symbols.address(name).ok_or_else(|| {
        let names = symbols.iter().map(|symbol| symbol.name).filter(|other| alike(name, other));
        QueryError::NoSymbol { name: name.to_owned(), candidates: Box::new(Candidates::new(name, names)) }
    })
}

/// A symbol's own address, or that of a CPU's copy, as the symbol has them.
fn on_cpu(
    view: &KernelView<'_>,
    name: &str,
    at: KernelVirt,
    cpu: Option<Cpu>,
) -> Result<KernelVirt, QueryError> {
    let symbols = view.profile().symbols();
    let bounds = symbols.address("__per_cpu_start").zip(symbols.address("__per_cpu_end"));
    let per_cpu = bounds.is_some_and(|(start, end)| (start..end).contains(&at));
    match (per_cpu, cpu) {
        (true, Some(cpu)) => place(view, at, cpu),
        (true, None) => Err(QueryError::PerCpu { name: name.to_owned() }),
        (false, None) => Ok(at),
        (false, Some(cpu)) => Err(QueryError::NotPerCpu { name: name.to_owned(), cpu }),
    }
}

fn place(view: &KernelView<'_>, at: KernelVirt, cpu: Cpu) -> Result<KernelVirt, QueryError> {
    let cpus = view.cpus()?;
    let have = cpus.possible().to_vec();
    let place = cpus.place(at, cpu).filter(|_| have.contains(&cpu));
    place.ok_or(QueryError::NoCpu { cpu, have })
}

fn task(view: &KernelView<'_>, key: &TaskKey) -> Result<KernelVirt, QueryError> {
    // A task that cannot be read is not the one that was asked for; idle tasks share pid 0, the first is CPU 0's.
    let addresses = task_addresses(view, &mut Gaps::default())?;
    let named: Vec<(KernelVirt, TaskName)> =
        addresses.into_iter().filter_map(|at| Some((at, view.mirror(at).ok()?))).collect();
    let missing = |wanted: String, names: Vec<String>, asked: &str| QueryError::NoTask {
        wanted,
        candidates: Box::new(Candidates::new(asked, names)),
    };
    match key {
        TaskKey::Pid(pid) => {
            named.iter().find(|(_, task)| task.pid == *pid).map(|(at, _)| *at).ok_or_else(|| {
                let pids = named.iter().map(|(_, task)| task.pid.to_string()).collect();
                missing(pid.to_string(), pids, &pid.to_string())
            })
        }
        TaskKey::Comm(comm) => {
            let found: Vec<_> = named.iter().filter(|(_, task)| task.comm.0 == *comm).collect();
            match found.as_slice() {
                [(at, _)] => Ok(*at),
                [] => {
                    let names = named.iter().map(|(_, task)| task.comm.0.clone()).collect();
                    Err(missing(format!("called `{comm}`"), names, comm))
                }
                several => Err(QueryError::SeveralTasks {
                    comm: comm.clone(),
                    pids: several.iter().map(|(_, task)| task.pid).collect(),
                }),
            }
        }
    }
}

/// Where the kernel keeps its pointer to the scheduler of that name.
fn scheduler(view: &KernelView<'_>, name: &str) -> Result<KernelVirt, QueryError> {
    let objects = SchedulerObjects::read(view)?;
    if objects.is_root_alone(name) {
        return symbol(view, ROOT);
    }
    match *objects.pointers(view, name).as_slice() {
        [at] => Ok(at),
        [] => {
            let names = objects.names();
            let candidates = Candidates::new(name, names.iter().map(String::as_str));
            Err(ValueError::NoScheduler { name: name.to_owned(), candidates: Box::new(candidates) }.into())
        }
        _ => {
            let which = objects.several(name).unwrap_or_default();
            Err(ValueError::SeveralSchedulers { name: name.to_owned(), which }.into())
        }
    }
}

/// A queue that BPF made; `of`: which scheduler's.
fn dsq(view: &KernelView<'_>, id: u64, of: Option<&str>) -> Result<KernelVirt, QueryError> {
    let all = read_dsqs(view)?;
    let user = || all.dsqs.iter().filter(|dsq| !dsq.id.is_builtin());
    let whose = |dsq: &Dsq| dsq.scheduler.and_then(|at| identity(view, at).ok());
    // Where one table has the queues of all, there is no scheduler but the root.
    let goes_by = |dsq: &Dsq, name: &str| match dsq.scheduler {
        Some(_) => whose(dsq).is_some_and(|its| its.goes_by(name)),
        None => name == ROOT_CGROUP,
    };
    let is_its = |dsq: &&Dsq| of.is_none_or(|name| goes_by(dsq, name));
    let found: Vec<&Dsq> = user().filter(|dsq| dsq.id.number == id).filter(is_its).collect();
    // A table that has an id twice is damaged, and one alone has nothing to be told apart.
    let is_of_several =
        found.windows(2).any(|pair| matches!(pair, [one, next] if one.scheduler != next.scheduler));
    match *found.as_slice() {
        [dsq, ..] if !is_of_several => Ok(dsq.at),
        [] => Err(QueryError::NoDsq { id, have: user().filter(is_its).map(|dsq| dsq.id.number).collect() }),
        ref several => {
            let of = several.iter().filter_map(|dsq| whose(dsq));
            let of: BTreeSet<String> = of.map(|its| its.path_name().to_owned()).collect();
            Err(QueryError::SeveralDsqs { id, of: of.into_iter().take(NAMED).collect() })
        }
    }
}
