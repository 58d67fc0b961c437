//! What the emulated machine can hold.

use crate::machine::error::StartError;
use crate::machine::limits::{HostLimits, check_topology};
use crate::spec::{MachineSpec, Topology};

/// vCPUs that the emulated board has room for.
const MAX_VCPUS: u32 = 255;
/// What the emulator takes beside the guest's RAM, in MiB (measured: 97 of translated code and heap for 2 vCPUs).
const OVERHEAD_MIB: u64 = 160;

/// Whether `spec` can be emulated on this host.
pub(super) fn check(spec: &MachineSpec, host: &HostLimits) -> Result<(), StartError> {
    check_topology(spec.topology)?;
    check_vcpus(spec.topology)?;
    host.check(spec, "emulate", OVERHEAD_MIB)
}

/// Whether the emulated board has room for the vCPUs.
fn check_vcpus(topology: Topology) -> Result<(), StartError> {
    let Topology { llcs, cores_per_llc, threads_per_core, .. } = topology;
    let cpus = topology.cpus();
    let too_many = |limit: String| Err(StartError::TooManyCpus { topology, cpus, limit });
    if cpus > MAX_VCPUS {
        return too_many(format!("but the emulated board has room for {MAX_VCPUS}"));
    }
    // An APIC id has a field of whole bits for each level (Intel SDM 3A, 10.12.8), so that three cores take the
    // room of four. Its last value is the broadcast.
    let apic_ids = u64::from(llcs)
        * u64::from(cores_per_llc.next_power_of_two())
        * u64::from(threads_per_core.next_power_of_two());
    if apic_ids > u64::from(MAX_VCPUS) {
        return too_many(format!(
            "which spread over {apic_ids} APIC ids (cores and threads round up to powers of two) of the \
             {MAX_VCPUS} that the emulated board has"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::machine::error::StartError;
    use crate::machine::limits::HostLimits;
    use crate::spec::{MachineSpec, Topology, test_spec};

    const HOST: HostLimits = HostLimits { cpus: 16, free_mib: 8000 };

    fn spec(numa_nodes: u32, llcs: u32, cores_per_llc: u32, threads_per_core: u32) -> MachineSpec {
        MachineSpec {
            topology: Topology { numa_nodes, llcs, cores_per_llc, threads_per_core },
            ..test_spec()
        }
    }

    fn refusal(spec: &MachineSpec) -> String {
        check(spec, &HOST).unwrap_err().to_string()
    }

    #[test]
    fn usual_machines_are_fine() {
        for (n, l, c, t) in [(1, 1, 2, 1), (2, 4, 4, 2), (1, 15, 8, 2), (1, 1, 128, 1), (3, 15, 2, 2)] {
            check(&spec(n, l, c, t), &HOST).unwrap();
        }
    }

    #[test]
    fn impossible_topologies_are_named() {
        assert!(refusal(&spec(0, 1, 2, 1)).contains("numa_nodes is 0"));
        assert!(refusal(&spec(1, 1, 0, 1)).contains("cores is 0"));
        assert!(refusal(&spec(2, 3, 2, 1)).contains("3 LLCs do not divide among 2 NUMA nodes"));
        assert!(
            refusal(&spec(1, 16, 16, 1)).contains("has 256 vCPUs, but the emulated board has room for 255")
        );
        assert!(refusal(&spec(1, 14, 9, 2)).contains("448 APIC ids"));
        assert!(refusal(&spec(1, u32::MAX, u32::MAX, 2)).contains("room for 255"));
    }

    #[test]
    fn a_small_host_refuses_many_vcpus() {
        let small = HostLimits { cpus: 2, free_mib: 8000 };
        let message = check(&spec(1, 1, 33, 1), &small).unwrap_err().to_string();
        assert!(message.contains("this host's 2 CPUs can emulate 32 (16 each)"), "{message}");
        check(&spec(1, 1, 32, 1), &small).unwrap();
    }

    #[test]
    fn memory_must_be_free_and_enough() {
        let mut machine = spec(1, 1, 2, 1);
        machine.memory_mib = 8000;
        assert!(refusal(&machine).contains("the host has 8000 MiB free"));
        machine.memory_mib = 64;
        assert!(refusal(&machine).contains("64 MiB of RAM are too few"));
        let mut nodes = spec(8, 8, 1, 1);
        nodes.memory_mib = 511;
        assert!(refusal(&nodes).contains("need 512 MiB"));
    }

    #[test]
    fn kaslr_needs_a_bzimage() {
        let mut machine = spec(1, 1, 2, 1);
        machine.kaslr = true;
        assert!(matches!(check(&machine, &HOST), Err(StartError::NoBzImage { .. })));
    }
}
