//! NUMA: the nodes of a worker's pages, and its migrations between nodes.

use super::cpusets::{Allowed, Cpus, allowed};
use super::limit::{Bound, Limit, Measures, name, number};
use super::{NO_DETAIL, Worker, Workers};
use crate::run::Run;
use crate::trace::record::Thresholds;
use crate::verdict::Finding;

/// Why nothing can be measured on a machine that has no other node.
const ONE_NODE: &str = "the machine has one NUMA node";

pub(super) fn judge(run: &Run<'_>, limits: &Thresholds, workers: &Workers<'_>) -> Vec<Finding> {
    let nodes = Nodes::parse(&run.manifest.machine.topology);
    let mut findings = Vec::new();
    if let Some(part) = limits.min_page_locality {
        let limit =
            Limit { what: "min_page_locality", bound: Bound::AtLeast(part), show: percent, clock: None };
        findings.push(page_locality(limit, run, &nodes, workers));
    }
    if let Some(part) = limits.max_cross_node_migration_ratio {
        let what = "max_cross_node_migration_ratio";
        let limit = Limit { what, bound: Bound::AtMost(part), show: percent, clock: None };
        findings.push(cross_node(limit, &nodes, workers));
    }
    findings
}

fn percent(part: f64) -> String {
    format!("{}%", number(part * 100.0))
}

/// Which CPUs a NUMA node has. The machine numbers its CPUs node by node.
struct Nodes {
    count: u32,
    cpus_each: u32,
}

impl Nodes {
    /// Of a topology as the manifest has it, `2n4l3c1t`: nodes, LLCs of all, cores of each, threads of each.
    fn parse(topology: &str) -> Result<Self, String> {
        let fault = || format!("the trace does not say how many NUMA nodes the machine has: {topology:?}");
        let mut rest = topology;
        let mut next = |unit: char| -> Option<u32> {
            let (digits, after) = rest.split_once(unit)?;
            rest = after;
            digits.parse().ok().filter(|number| *number > 0)
        };
        let parts = (|| Some((next('n')?, next('l')?, next('c')?, next('t')?)))();
        let (count, llcs, cores, threads) = parts.ok_or_else(fault)?;
        let cpus_each = (llcs / count).checked_mul(cores).and_then(|cores| cores.checked_mul(threads));
        Ok(Self { count, cpus_each: cpus_each.filter(|cpus| *cpus > 0).ok_or_else(fault)? })
    }

    fn of(&self, cpu: u32) -> u32 {
        cpu / self.cpus_each
    }
}

/// A worker's part of pages that are on the nodes of the CPUs that it was for: those of its cgroup's cpuset, else those that
/// it ran on. Where these are of all nodes, no page can be on another.
fn page_locality(
    limit: Limit,
    run: &Run<'_>,
    nodes: &Result<Nodes, String>,
    workers: &Workers<'_>,
) -> Finding {
    let allowed = allowed(run);
    let (mut measures, mut nothing) = (Measures::default(), workers.nobody);
    for worker in &workers.alive {
        let who = name(worker.report);
        let (nodes, detail) = match (nodes, worker.detail) {
            (Err(why), _) => {
                measures.add(who, Err(why.clone()));
                continue;
            }
            (Ok(nodes), _) if nodes.count < 2 => {
                nothing = ONE_NODE;
                continue;
            }
            (_, None) => {
                measures.add(who, Err(NO_DETAIL.to_owned()));
                continue;
            }
            (Ok(nodes), Some(detail)) => (nodes, detail),
        };
        let cpus: Cpus = match allowed.get(worker.number) {
            Some(Allowed::Cpus(cpus)) => cpus.clone(),
            Some(Allowed::Unknown(why)) => {
                measures.add(who, Err(why.clone()));
                continue;
            }
            Some(Allowed::Any) | None => worker.report.cpus_used.iter().map(|cpu| cpu.0).collect(),
        };
        let own: Cpus = cpus.iter().map(|cpu| nodes.of(*cpu)).collect();
        let pages = |of_own: bool| -> u64 {
            let these = detail.node_pages.iter().filter(|on| !of_own || own.contains(&on.node));
            these.fold(0, |sum, on| sum.saturating_add(on.pages))
        };
        if pages(false) == 0 {
            nothing = "no worker has memory of which it could say on which node it is";
        } else if own.len() >= nodes.count as usize {
            nothing = "the CPUs of every worker with memory are of all NUMA nodes";
        } else {
            measures.add(who, Ok(pages(true) as f64 / pages(false) as f64));
        }
    }
    limit.judge(measures, nothing)
}

/// The part of a worker's migrations that left its node. One that never migrated left none.
fn cross_node(limit: Limit, nodes: &Result<Nodes, String>, workers: &Workers<'_>) -> Finding {
    let (mut measures, mut nothing) = (Measures::default(), workers.nobody);
    let part = |worker: &Worker<'_>| -> Result<f64, String> {
        let crossed = worker.detail.and_then(|detail| detail.cross_node_migrations);
        match (crossed, worker.report.migrations) {
            (None, _) => Err(NO_DETAIL.to_owned()),
            (Some(0), 0) => Ok(0.0),
            (Some(crossed), all) if crossed > all => {
                Err(format!("{crossed} of its {all} migrations left the node"))
            }
            (Some(crossed), all) => Ok(crossed as f64 / all as f64),
        }
    };
    for worker in &workers.alive {
        match nodes {
            Err(why) => measures.add(name(worker.report), Err(why.clone())),
            Ok(nodes) if nodes.count < 2 => nothing = ONE_NODE,
            Ok(_) => measures.add(name(worker.report), part(worker)),
        }
    }
    limit.judge(measures, nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_numbered_node_by_node() {
        let nodes = Nodes::parse("2n4l3c2t").expect("a topology");
        assert_eq!([0, 11, 12, 23].map(|cpu| nodes.of(cpu)), [0, 0, 1, 1]);
        for text in ["", "1n2l", "0n1l1c1t", "2n1l1c1t", "1n4000000000l4c1t"] {
            assert!(Nodes::parse(text).is_err(), "{text}");
        }
    }
}
