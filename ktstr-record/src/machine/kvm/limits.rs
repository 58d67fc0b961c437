//! What a machine of KVM can hold.

use super::boot::{APIC_ID_MAX, ApicIds};
use crate::machine::error::StartError;
use crate::machine::limits::{HostLimits, check_topology};
use crate::spec::MachineSpec;

/// What the machine takes beside the guest's RAM, in MiB: page tables of KVM, stacks of threads, the kernel's file while it is
/// loaded.
const OVERHEAD_MIB: u64 = 96;

/// Whether a host with such a KVM has room for `spec`.
pub(super) fn check(spec: &MachineSpec, host: &HostLimits) -> Result<(), StartError> {
    let topology = spec.topology;
    check_topology(topology)?;
    let cpus = topology.cpus();
    let beyond = |what: String| {
        let limit = format!(
            "{what} (cores, threads, LLCs and nodes each round up to powers of two), but interrupts reach ids up to \
             {APIC_ID_MAX}"
        );
        StartError::TooManyCpus { topology, cpus, limit }
    };
    let ids =
        ApicIds::new(topology).map_err(|_| beyond("which need APIC ids of more than 31 bits".into()))?;
    let largest = ids.id(cpus - 1);
    if largest > APIC_ID_MAX {
        return Err(beyond(format!("which have APIC ids up to {largest}")));
    }
    host.check(spec, "run", OVERHEAD_MIB)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::machine::limits::HostLimits;
    use crate::spec::{MachineSpec, Topology, test_spec};

    const HOST: HostLimits = HostLimits { cpus: 16, free_mib: 8000 };

    fn spec(numa_nodes: u32, llcs: u32, cores_per_llc: u32, threads_per_core: u32) -> MachineSpec {
        let topology = Topology { numa_nodes, llcs, cores_per_llc, threads_per_core };
        MachineSpec { topology, ..test_spec() }
    }

    #[test]
    fn usual_machines_are_fine() {
        for (n, l, c, t) in
            [(1, 1, 1, 1), (1, 1, 2, 1), (2, 4, 4, 2), (1, 1, 252, 1), (1, 15, 8, 2), (1, 14, 9, 2)]
        {
            check(&spec(n, l, c, t), &HOST).unwrap();
        }
    }

    #[test]
    fn what_does_not_fit_is_said_with_its_bound() {
        let refusal = |spec: &MachineSpec| check(spec, &HOST).unwrap_err().to_string();
        assert!(refusal(&spec(1, 3, 0, 1)).contains("cores is 0"));
        let ids = refusal(&spec(1, 200, 129, 1));
        assert!(ids.contains("has 25800 vCPUs, which have APIC ids up to 51072"), "{ids}");
        assert!(ids.contains("interrupts reach ids up to 32767"), "{ids}");
        assert!(refusal(&spec(1, u32::MAX, u32::MAX, 2)).contains("more than 31 bits"));
        let small = HostLimits { cpus: 2, free_mib: 8000 };
        let crowded = check(&spec(1, 1, 33, 1), &small).unwrap_err().to_string();
        assert!(crowded.contains("this host's 2 CPUs can run 32 (16 each)"), "{crowded}");
        let mut large = spec(1, 1, 2, 1);
        large.memory_mib = 8000;
        assert!(refusal(&large).contains("the host has 8000 MiB free"));
        let mut placed = spec(1, 1, 2, 1);
        placed.kaslr = true;
        assert!(refusal(&placed).contains("kaslr needs the bzImage"));
    }
}
