//! Programs of a kernel, whatever its layouts.

use proptest::prelude::*;

use super::*;
use crate::testing::memory::Chaos;
use crate::testing::{Guest, Object, SEEDS};

const TAG: u64 = 0x3045_7b7e_35f7_ee6d;

/// A `struct bpf_prog` whose code is at `code`, and its aux.
fn program(guest: &mut Guest, code: u64) -> (Object, Object) {
    let (prog, aux) = (guest.add("bpf_prog"), guest.add("bpf_prog_aux"));
    guest.set(prog, "aux", aux);
    guest.write_u64(guest.at(prog, "tag"), TAG);
    guest.set(prog, "bpf_func", code);
    guest.set(prog, "type", 27u32);
    guest.set(prog, "len", 70u32);
    guest.set(prog, "jited_len", 0x100u32);
    (prog, aux)
}

/// One program `dispatch` of id 9 with a subprogram, two CPUs' counts and a map.
fn loaded(seed: u64) -> (Guest, Object) {
    let mut guest = Guest::new(seed);
    guest.cpus(2);
    let (prog, aux) = program(&mut guest, 0x5000);
    guest.text(aux, "name", "dispatch");
    guest.set(aux, "id", 9u32);
    let subprogram = program(&mut guest, 0x6000).0;
    let functions = guest.put(&subprogram.at.to_le_bytes());
    guest.set(aux, "func_cnt", 1u32);
    guest.set(aux, "func", functions);
    let map = guest.add("bpf_map");
    guest.set(map, "id", 4u32);
    let maps = guest.put(&map.at.to_le_bytes());
    guest.set(aux, "used_map_cnt", 1u32);
    guest.set(aux, "used_maps", maps);
    guest.point_at_text(aux, "attach_func_name", "dispatch");
    let stats = guest.per_cpu("", "bpf_prog_stats");
    guest.set(prog, "stats", stats);
    for cpu in 0..2 {
        let stats = guest.on_cpu(stats, cpu);
        guest.set(stats, "nsecs", 1000 + cpu);
        guest.set(stats, "cnt", 10 + cpu);
    }
    let idr = guest.variable("prog_idr", "idr");
    guest.set(idr, "idr_rt.xa_head", prog);
    (guest, prog)
}

fn kallsyms(guest: &mut Guest, symbols: &[(u64, u64, &str)]) {
    let mut links = vec![guest.variable("bpf_kallsyms", "list_head").at];
    for (start, end, name) in symbols {
        let symbol = guest.add("bpf_ksym");
        guest.set(symbol, "start", *start);
        guest.set(symbol, "end", *end);
        guest.text(symbol, "name", name);
        links.push(guest.at(symbol, "lnode"));
    }
    guest.ring(&links);
}

fn read(guest: &Guest) -> BpfPrograms {
    let profile = guest.profile();
    BpfPrograms::read(&KernelView::new(&profile, &guest.ram)).unwrap()
}

#[test]
fn a_program_is_read_with_counts_of_all_cpus() {
    for seed in SEEDS {
        let (mut guest, _) = loaded(seed);
        kallsyms(&mut guest, &[]);
        let programs = read(&guest);
        assert_eq!(programs.faults(), [""; 0]);
        let expected = BpfProgram {
            id: 9,
            name: "dispatch".into(),
            kind: "struct_ops".into(),
            tag: "6deef7357e7b4530".into(),
            attach_to: Some("dispatch".into()),
            insns: 70,
            verified_insns: None,
            jited_at: KernelVirt(0x5000),
            jited_bytes: 0x100,
            main_bytes: 0x100,
            loaded_at_ns: Some(0),
            map_ids: vec![4],
            run_count: 21,
            run_time_ns: 2001,
            recursion_misses: None,
            of_scheduler: false,
            scheduler: None,
            btf: KernelVirt(0),
        };
        assert_eq!(programs.programs(), [expected]);
        assert_eq!(programs.program(9).map(|program| program.insns), Some(70));
    }
}

#[test]
fn an_address_is_named_by_the_code_that_it_is_in() {
    for seed in SEEDS {
        let (mut guest, _) = loaded(seed);
        kallsyms(
            &mut guest,
            &[
                (0x7000, 0x7080, "bpf_trampoline_1"),
                (0x6000, 0x6040, "bpf_prog_0_sub"),
                (0x5000, 0x5100, "bpf_prog_0_dispatch"),
                (0x9000, 0x9000, "nothing"),
            ],
        );
        let programs = read(&guest);
        let at = |address: u64| {
            programs.at(KernelVirt(address)).map(|(symbol, off)| (symbol.name.as_str(), off, symbol.program))
        };
        assert_eq!(at(0x50ff), Some(("bpf_prog_0_dispatch", 0xff, Some(9))));
        assert_eq!(at(0x6001), Some(("bpf_prog_0_sub", 1, Some(9))));
        assert_eq!(at(0x7000), Some(("bpf_trampoline_1", 0, None)));
        assert_eq!([at(0x4fff), at(0x5100), at(0x7080), at(0x9000), at(0)], [None; 5]);
    }
}

#[test]
fn without_the_kernels_names_programs_have_those_that_it_would_give() {
    for seed in SEEDS {
        let (guest, _) = loaded(seed);
        let programs = read(&guest);
        assert!(programs.faults()[0].contains("has no symbol `bpf_kallsyms`"), "{:?}", programs.faults());
        let (symbol, offset) = programs.at(KernelVirt(0x5004)).unwrap();
        assert_eq!((symbol.name.as_str(), offset), ("bpf_prog_6deef7357e7b4530_dispatch", 4));
    }
}

#[test]
fn a_program_that_cannot_be_read_is_a_fault() {
    for seed in SEEDS {
        let (mut guest, prog) = loaded(seed);
        kallsyms(&mut guest, &[]);
        guest.set(prog, "aux", 0x1234u32);
        let programs = read(&guest);
        assert_eq!(programs.programs(), []);
        assert!(programs.faults()[0].starts_with("BPF program 0: "), "{:?}", programs.faults());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn hostile_memory_ends(layout in SEEDS, seed: u64) {
        let (mut guest, _) = loaded(layout);
        kallsyms(&mut guest, &[]);
        let profile = guest.profile();
        // Whatever comes of it, it comes.
        let _: Result<BpfPrograms, KernelError> =
            BpfPrograms::read(&KernelView::new(&profile, &Chaos(seed)));
    }

    #[test]
    fn words_that_a_guest_overwrote_are_no_harm(layout in SEEDS, at in 0u64..0x1_8000, word: u64) {
        let (mut guest, prog) = loaded(layout);
        kallsyms(&mut guest, &[(0x5000, 0x5100, "x")]);
        guest.write_u64((prog.at & !0xfff) + at / 8 * 8 % 0x4000, word);
        let profile = guest.profile();
        let _ = BpfPrograms::read(&KernelView::new(&profile, &guest.ram));
    }
}
