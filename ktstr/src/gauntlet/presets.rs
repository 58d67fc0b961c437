//! The machines of the gauntlet. Their table is in `macros/src/presets.rs`, because the macro makes a function of each.

use std::borrow::Cow;

use ktstr_record::spec::Topology;

/// Begins the name of the module with a test's variants.
const VARIANTS: &str = "gauntlet_";
/// RAM of the smallest machines, in MiB.
const BASE_MIB: u32 = 448;
/// What the kernel takes for each CPU besides, in MiB: its per-CPU areas, stacks and caches.
const MIB_PER_CPU: u32 = 4;
/// RAM comes in steps of this size, in MiB, so that machines share templates.
const STEP_MIB: u32 = 128;

/// A machine that tests can be run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Its name, as `llcs2_cpus8_smt`.
    pub name: &'static str,
    /// Its CPUs.
    pub topology: Topology,
}

const ROWS: [(&str, [u32; 4]); COUNT] = ktstr_macros::presets!();
const COUNT: usize = ktstr_macros::presets!().len();

/// All of them, the smaller ones first.
pub const PRESETS: [Preset; COUNT] = {
    let mut presets = [Preset { name: "", topology: topology([1; 4]) }; COUNT];
    let mut index = 0;
    while index < COUNT {
        let (name, counts) = ROWS[index];
        presets[index] = Preset { name, topology: topology(counts) };
        index += 1;
    }
    presets
};

const fn topology([numa_nodes, llcs, cores_per_llc, threads_per_core]: [u32; 4]) -> Topology {
    Topology { numa_nodes, llcs, cores_per_llc, threads_per_core }
}

/// Name of the test that a variant is one of; another test's own name.
pub fn test_of_variant(name: &str) -> Cow<'_, str> {
    let parts = || {
        let (module, machine) = name.rsplit_once("::")?;
        let at = module.rfind("::").map_or(0, |at| at + 2);
        let test = module[at..].strip_prefix(VARIANTS)?;
        Preset::named(machine).map(|_| format!("{}{test}", &module[..at]))
    };
    parts().map_or(Cow::Borrowed(name), Cow::Owned)
}

impl Preset {
    /// The machine of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// Name of the variant of a test on this machine, as the macro makes it of the test's.
    pub fn variant_of(&self, test: &str) -> String {
        let at = test.rfind("::").map_or(0, |at| at + 2);
        let (module, function) = test.split_at(at);
        format!("{module}{VARIANTS}{function}::{}", self.name)
    }

    /// RAM that a test which asks for `asked_mib` has on this machine, in MiB.
    #[must_use]
    pub fn memory_mib(&self, asked_mib: u32) -> u32 {
        let needed = BASE_MIB + MIB_PER_CPU.saturating_mul(self.topology.cpus());
        asked_mib.max(needed.next_multiple_of(STEP_MIB))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_the_macro() {
        assert_eq!(PRESETS[0], Preset { name: "llcs1_cpus4", topology: topology([1, 1, 4, 1]) });
        assert!(PRESETS.iter().all(|preset| !preset.name.is_empty()));
    }

    /// The KVM machine has other interrupt controllers for it (`docs/machines.md`).
    #[test]
    fn one_machine_alone_has_apic_ids_beyond_254() {
        let beyond = |preset: &&Preset| {
            let ids = ktstr_record::machine::boot::ApicIds::new(preset.topology).expect("ids");
            ids.ids().max() > Some(254)
        };
        let beyond: Vec<_> = PRESETS.iter().filter(beyond).map(|preset| preset.name).collect();
        assert_eq!(beyond, ["llcs14_cpus252_smt"]);
    }

    #[test]
    fn a_variants_name_leads_back_to_its_test() {
        for test in ["two", "inner::two", "gauntlet_of_two"] {
            let variant = PRESETS[0].variant_of(test);
            assert!(variant.ends_with("two::llcs1_cpus4"), "{variant}");
            assert_eq!(test_of_variant(&variant), test);
            assert_eq!(test_of_variant(test), test);
        }
        assert_eq!(PRESETS[0].variant_of("inner::two"), "inner::gauntlet_two::llcs1_cpus4");
        assert_eq!(test_of_variant("gauntlet_two::another"), "gauntlet_two::another");
    }

    #[test]
    fn memory_grows_with_the_cpus_and_is_never_less_than_asked_for() {
        assert_eq!(PRESETS[0].memory_mib(512), 512);
        assert_eq!(PRESETS[0].memory_mib(4096), 4096);
        let largest = PRESETS.iter().max_by_key(|preset| preset.topology.cpus()).expect("one");
        assert_eq!(largest.memory_mib(512), 1536);
    }
}
