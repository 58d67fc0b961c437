//! The machines of the gauntlet.

use proc_macro2::TokenStream;
use quote::quote;

/// Each with a name, which is that of its variant of a test, and its NUMA nodes, LLCs, cores of each LLC and threads of each
/// core. From a few CPUs to more than most kernels are tried on; with and without SMT and NUMA; counts that are no powers
/// of two; LLCs with many CPUs, and many LLCs with few.
#[rustfmt::skip]
pub const PRESETS: &[(&str, [u32; 4])] = &[
    ("llcs1_cpus4",              [1, 1, 4, 1]),
    ("llcs1_cpus4_smt",          [1, 1, 2, 2]),
    ("llcs2_cpus4",              [1, 2, 2, 1]),
    ("llcs2_cpus8_smt",          [1, 2, 2, 2]),
    ("llcs4_cpus8",              [1, 4, 2, 1]),
    ("llcs3_cpus9",              [1, 3, 3, 1]),
    ("llcs1_cpus16_smt",         [1, 1, 8, 2]),
    ("nodes2_llcs2_cpus8",       [2, 2, 4, 1]),
    ("nodes2_llcs4_cpus16_smt",  [2, 4, 2, 2]),
    ("llcs4_cpus32_smt",         [1, 4, 4, 2]),
    ("nodes4_llcs8_cpus32",      [4, 8, 4, 1]),
    ("llcs8_cpus64_smt",         [1, 8, 4, 2]),
    ("llcs15_cpus120",           [1, 15, 8, 1]),
    ("nodes2_llcs8_cpus128_smt", [2, 8, 8, 2]),
    ("llcs12_cpus192_smt",       [1, 12, 8, 2]),
    ("llcs14_cpus252_smt",       [1, 14, 9, 2]),
];

/// The table as an array of tuples.
pub fn expand() -> TokenStream {
    let rows = PRESETS
        .iter()
        .map(|(name, [nodes, llcs, cores, threads])| quote!((#name, [#nodes, #llcs, #cores, #threads])));
    quote!([#(#rows),*])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_name_says_what_the_machine_is() {
        for (name, [nodes, llcs, cores, threads]) in PRESETS {
            let node = if *nodes > 1 { format!("nodes{nodes}_") } else { String::new() };
            let smt = if *threads > 1 { "_smt" } else { "" };
            assert_eq!(*name, format!("{node}llcs{llcs}_cpus{}{smt}", llcs * cores * threads));
            assert_eq!(llcs % nodes, 0, "{name}");
        }
        let names: BTreeSet<_> = PRESETS.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), PRESETS.len(), "a name is there twice");
    }

    #[test]
    fn the_page_for_authors_has_the_same_rows() {
        let page = include_str!("../../docs/gauntlet.md");
        for (name, [nodes, llcs, cores, threads]) in PRESETS {
            let row = format!(
                "| `{name}` | {nodes} | {llcs} | {cores} | {threads} | {} |\n",
                llcs * cores * threads
            );
            assert!(page.contains(&row), "docs/gauntlet.md must have:\n{row}");
        }
    }

    #[test]
    fn the_table_reaches_from_4_to_252_cpus_and_from_1_to_15_llcs() {
        let cpus: Vec<u32> =
            PRESETS.iter().map(|(_, [_, llcs, cores, threads])| llcs * cores * threads).collect();
        assert_eq!((cpus.iter().min(), cpus.iter().max()), (Some(&4), Some(&252)));
        let llcs: Vec<u32> = PRESETS.iter().map(|(_, [_, llcs, ..])| *llcs).collect();
        assert_eq!((llcs.iter().min(), llcs.iter().max()), (Some(&1), Some(&15)));
    }
}
