//! Performance mode: a machine whose vCPUs have CPUs of the host to themselves, and what else keeps the host out of its way.
//!
//! CPUs and a cache of its own are what the mode is: a host that does not have them is refused. Each other part is in force, or was
//! refused with the reason; the manifest and the report have both.

use std::io;
use std::sync::Arc;

use ktstr_replay::trace::record::manifest::PerformancePart;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

use super::error::StartError;
use super::host_cpus::{HostCpus, listed};
use super::placing::Placement;
use super::ram::{GuestRam, HUGE_PAGE_BYTES, PageSize};

/// The lowest priority that is above all ordinary threads of the host.
const PRIORITY: i32 = 1;
/// From this release on the kernel takes time from real-time threads only where others starve on the same CPU (the fair server
/// of `kernel/sched/fair.c`), and a vCPU has its CPU to itself. Earlier ones have them rest by the clock.
const NO_THROTTLE: (u32, u32) = (6, 12);

/// A machine that is started in performance mode, and what came of each part.
#[derive(Debug)]
pub(super) struct Tuning {
    placement: Placement,
    /// The CPUs of its caches, a list for each.
    llcs: String,
    parts: Vec<PerformancePart>,
}

impl Tuning {
    /// With vCPUs on these CPUs of the host.
    pub(super) fn new(placement: Placement, host: &HostCpus) -> Self {
        let of = |&n: &usize| {
            let mut cpus: Vec<u32> = host.llcs[n].cpus().collect();
            cpus.sort_unstable();
            listed(&cpus)
        };
        let llcs = placement.llcs.iter().map(of).collect::<Vec<_>>().join(" and ");
        Self { placement, llcs, parts: Vec::new() }
    }

    /// Forget what came of an attempt that failed.
    pub(super) fn begin(&mut self) {
        self.parts.clear();
    }

    /// What came of each part, in the order of [`PerformancePart::ALL`].
    pub(super) fn into_parts(mut self) -> Vec<PerformancePart> {
        self.parts.sort_by_key(|part| PerformancePart::ALL.iter().position(|what| *what == part.what));
        self.parts
    }

    /// A part is in force, or was refused, with what there is to say.
    pub(super) fn note(&mut self, what: &'static str, came: Result<String, String>) {
        let (in_force, detail) = match came {
            Ok(detail) => (true, detail),
            Err(why) => (false, why),
        };
        self.parts.push(PerformancePart { what: what.to_owned(), in_force, detail });
    }

    /// Memory for a guest whose NUMA nodes have these sizes, on the nodes of its vCPUs, and in huge pages unless `small` says why not.
    pub(super) fn memory(&mut self, nodes: &[u64], small: Option<&str>) -> io::Result<Arc<GuestRam>> {
        let huge = match small {
            Some(why) => Err(why.to_owned()),
            None => self.huge(nodes),
        };
        let (ram, huge) = match huge {
            Ok(ram) => (ram, Ok(format!("{} of 2 MiB", ram_bytes(nodes) / HUGE_PAGE_BYTES))),
            Err(why) => (GuestRam::new(nodes)?, Err(why)),
        };
        let bound = self.bind(&ram);
        self.note(PerformancePart::NODES, bound);
        self.note(PerformancePart::HUGE_PAGES, huge);
        Ok(Arc::new(ram))
    }

    /// Memory in huge pages, all of which it has.
    fn huge(&self, nodes: &[u64]) -> Result<GuestRam, String> {
        if nodes.iter().any(|bytes| !bytes.is_multiple_of(HUGE_PAGE_BYTES)) {
            return Err(format!(
                "{} MiB of RAM are no multiple of 2 MiB, which a huge page has",
                ram_bytes(nodes) >> 20
            ));
        }
        let needed = ram_bytes(nodes) / HUGE_PAGE_BYTES;
        let refused = |error: io::Error| {
            let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
            let free = free.map_or_else(|_| "none".to_owned(), |text| text.trim().to_owned());
            format!(
                "{needed} of 2 MiB are needed, and the host has {free} free ({error}); /proc/sys/vm/nr_hugepages says how many it \
                 keeps"
            )
        };
        let ram = GuestRam::of(nodes, PageSize::Huge).map_err(refused)?;
        // Where a page comes from is decided when it is made. What went wrong with it is reported when the memory is complete.
        let _ = self.bind(&ram);
        // A page that is missing later would kill this process.
        ram.fill().map_err(refused)?;
        Ok(ram)
    }

    /// Keep `ram` on the nodes of the vCPUs.
    fn bind(&self, ram: &GuestRam) -> Result<String, String> {
        let mut said = Vec::new();
        for (node, on) in self.placement.nodes.iter().enumerate() {
            if on.is_empty() {
                return Err("the host's kernel tells of no NUMA nodes".into());
            }
            ram.bind(node, on).map_err(|error| {
                format!("the host refuses to bind memory to node {}: {error}", listed(on))
            })?;
            said.push(format!("node {node} on {}", listed(on)));
        }
        Ok(said.join(", "))
    }

    /// Put the threads of the vCPUs, ascending, on their CPUs, and above all others there.
    ///
    /// # Errors
    /// When they cannot be put there.
    pub(super) fn pin(&mut self, threads: &[u32]) -> Result<(), StartError> {
        let refused = |why: String| StartError::Performance { why };
        let cpus = &self.placement.cpus;
        if threads.len() != cpus.len() {
            return Err(refused(format!(
                "the machine has {} threads for {} vCPUs",
                threads.len(),
                cpus.len()
            )));
        }
        for (&thread, &cpu) in threads.iter().zip(cpus) {
            let set = set_of(&[cpu]);
            sched_setaffinity(pid(thread), &set).map_err(|error| {
                refused(format!("the host refuses to keep a vCPU's thread on CPU {cpu}: {error}"))
            })?;
        }
        let mut said = format!("vCPUs 0 to {} on {}", cpus.len() - 1, in_order(cpus));
        for differs in &self.placement.differs {
            said.push_str("; ");
            said.push_str(differs);
        }
        self.note(PerformancePart::CPUS, Ok(said));
        self.note(
            PerformancePart::LLC,
            Ok(format!("of CPUs {}: no other machine of tests runs there", self.llcs)),
        );
        let raised = real_time(threads);
        self.note(PerformancePart::REAL_TIME, raised);
        Ok(())
    }
}

fn ram_bytes(nodes: &[u64]) -> u64 {
    nodes.iter().sum()
}

/// CPUs in the order of the vCPUs that are on them.
fn in_order(cpus: &[u32]) -> String {
    match cpus.is_sorted() {
        true => listed(cpus),
        false => cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

fn pid(thread: u32) -> Option<Pid> {
    Pid::from_raw(thread.cast_signed())
}

fn set_of(cpus: &[u32]) -> CpuSet {
    let mut set = CpuSet::new();
    for &cpu in cpus.iter().filter(|cpu| (**cpu as usize) < CpuSet::MAX_CPU) {
        set.set(cpu as usize);
    }
    set
}

/// Make the threads real-time ones, where the host lets them run on.
fn real_time(threads: &[u32]) -> Result<String, String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let allowed = std::fs::read_to_string("/proc/sys/kernel/sched_rt_runtime_us").unwrap_or_default();
    if let Some(why) = throttled(&release, allowed.trim()) {
        return Err(why);
    }
    for &thread in threads {
        let parameter = libc::sched_param { sched_priority: PRIORITY };
        // SAFETY: it reads the parameter and keeps nothing of it; a thread that is gone is an error.
        if unsafe { libc::sched_setscheduler(thread.cast_signed(), libc::SCHED_FIFO, &raw const parameter) }
            != 0
        {
            let error = io::Error::last_os_error();
            return Err(format!("{error}: it needs CAP_SYS_NICE, or RLIMIT_RTPRIO of {PRIORITY}"));
        }
    }
    Ok(format!("SCHED_FIFO {PRIORITY}"))
}

/// Why real-time threads would be stopped by the clock on a host of this kernel, if they would.
fn throttled(release: &str, runtime_us: &str) -> Option<String> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let release: (u32, u32) = (numbers.next()?, numbers.next()?);
    (release < NO_THROTTLE && runtime_us != "-1").then(|| {
        format!(
            "kernels before 6.12 stop a real-time thread that does not rest, after {runtime_us} us of each second: a vCPU would \
             stand still; /proc/sys/kernel/sched_rt_runtime_us says it, and -1 there is never"
        )
    })
}

/// The calling thread, and all that it starts meanwhile, keeps to some CPUs until this is dropped.
pub(super) struct KeptTo {
    before: CpuSet,
}

impl KeptTo {
    /// Keep to `cpus`.
    pub(super) fn these(cpus: &[u32]) -> io::Result<Self> {
        let before = sched_getaffinity(None)?;
        sched_setaffinity(None, &set_of(cpus))?;
        Ok(Self { before })
    }
}

impl Drop for KeptTo {
    fn drop(&mut self) {
        // These were its own: it is refused only where the host has taken them away meanwhile.
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{KeptTo, PerformancePart, Tuning, in_order, throttled};
    use crate::machine::host_cpus::hosts::host;
    use crate::machine::host_cpus::usable;
    use crate::machine::placing::Placing;
    use crate::spec::Topology;

    fn tuning() -> Tuning {
        let topology = Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 1, threads_per_core: 1 };
        let host = host(1, 2, 1);
        let placement = Placing::of(topology, &host).unwrap().place(&host, |_| true).unwrap();
        Tuning::new(placement, &host)
    }

    #[test]
    fn a_thread_and_what_it_starts_keep_to_their_cpus_for_a_while() {
        let all = usable();
        let kept = KeptTo::these(&all[..1]).unwrap();
        assert_eq!(usable(), all[..1]);
        assert_eq!(std::thread::spawn(usable).join().unwrap(), all[..1]);
        drop(kept);
        assert_eq!(usable(), all);
    }

    #[test]
    fn real_time_threads_are_refused_where_the_kernel_stops_them_by_the_clock() {
        for (release, runtime) in [("6.12.1", "950000"), ("7.3.4+deb13", "950000"), ("5.15.0", "-1")] {
            assert_eq!(throttled(release, runtime), None, "{release}");
        }
        let why = throttled("6.11.5-cloud", "950000").unwrap();
        assert!(why.contains("after 950000 us of each second"), "{why}");
    }

    #[test]
    fn memory_is_bound_and_in_huge_pages_or_the_reason_is_said() {
        let mut tuning = tuning();
        let ram = tuning.memory(&[8 << 20], None).unwrap();
        // Only this thread's RAM: other tests map some, too.
        let at = format!("{:x} ", ram.mapped()[0].host);
        let maps = fs::read_to_string("/proc/self/numa_maps").unwrap_or_default();
        let line = maps.lines().find(|line| line.starts_with(&at)).unwrap_or_default();
        let says = |word: &str| line.split_whitespace().any(|has| has == word);
        let parts = tuning.into_parts();
        let of = |what: &str| parts.iter().find(|part| part.what == what).unwrap();
        let bound = of(PerformancePart::NODES);
        assert_eq!(says("bind:0"), bound.in_force, "{line}: {bound:?}");
        assert!(bound.detail.contains(if bound.in_force { "node 0 on 0" } else { "refuses" }), "{bound:?}");
        let huge = of(PerformancePart::HUGE_PAGES);
        assert_eq!(says("huge"), huge.in_force, "{line}: {huge:?}");
        let says = if huge.in_force { "4 of 2 MiB" } else { "4 of 2 MiB are needed, and the host has " };
        assert!(huge.detail.starts_with(says), "{huge:?}");
    }

    #[test]
    fn what_huge_pages_cannot_hold_is_said() {
        let mut tuning = tuning();
        tuning.memory(&[(8 << 20) + 4096], None).unwrap();
        tuning.memory(&[8 << 20], Some("not here")).unwrap();
        let parts = tuning.into_parts();
        let huge: Vec<_> = parts.iter().filter(|part| part.what == PerformancePart::HUGE_PAGES).collect();
        assert!(huge[0].detail.contains("no multiple of 2 MiB"), "{huge:?}");
        assert_eq!((huge[1].in_force, huge[1].detail.as_str()), (false, "not here"));
    }

    #[test]
    fn cpus_are_listed_in_the_order_of_vcpus() {
        assert_eq!((in_order(&[4, 5, 6]).as_str(), in_order(&[0, 8, 1]).as_str()), ("4-6", "0,8,1"));
    }
}
