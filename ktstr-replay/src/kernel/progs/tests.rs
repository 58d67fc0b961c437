//! Programs of a kernel whose structs are laid out unlike any real one's.

use proptest::prelude::*;

use super::*;
use crate::kernel::testing::{Chaos, Guest};
use crate::kernel::{KernelError, KernelView};

const TAG: u64 = 0x3045_7b7e_35f7_ee6d;

fn guest() -> Guest {
    let mut guest = Guest::new();
    let b = &mut guest.types;
    let (u8, u32, u64) = (b.unsigned("u8", 1), b.unsigned("u32", 4), b.unsigned("u64", 8));
    let char = b.signed("char", 1);
    let pointer = b.pointer(u64);
    let (name, long_name) = (b.array(char, 16), b.array(char, 512));
    let tag = b.array(u8, 8);
    let kind = b.enumeration("bpf_prog_type", &[("BPF_PROG_TYPE_STRUCT_OPS", 27)]);
    b.structure(
        "bpf_prog",
        56,
        &[
            ("aux", pointer, 0, 0),
            ("tag", tag, 64, 0),
            ("bpf_func", pointer, 128, 0),
            ("stats", pointer, 192, 0),
            ("type", kind, 256, 0),
            ("len", u32, 288, 0),
            ("jited_len", u32, 320, 0),
        ],
    );
    b.structure(
        "bpf_prog_aux",
        72,
        &[
            ("name", name, 0, 0),
            ("id", u32, 128, 0),
            ("func_cnt", u32, 160, 0),
            ("func", pointer, 192, 0),
            ("used_map_cnt", u32, 256, 0),
            ("used_maps", pointer, 320, 0),
            ("btf", pointer, 384, 0),
            ("attach_func_name", pointer, 448, 0),
            ("load_time", u64, 512, 0),
        ],
    );
    let wrapped = b.structure("u64_stats_t", 8, &[("v", u64, 0, 0)]);
    b.structure("bpf_prog_stats", 16, &[("nsecs", wrapped, 0, 0), ("cnt", wrapped, 64, 0)]);
    let link = b.structure("list_head", 16, &[("next", pointer, 0, 0), ("prev", pointer, 64, 0)]);
    b.structure(
        "bpf_ksym",
        544,
        &[("lnode", link, 0, 0), ("end", u64, 128, 0), ("start", u64, 192, 0), ("name", long_name, 256, 0)],
    );
    let xarray = b.structure("xarray", 8, &[("xa_head", pointer, 0, 0)]);
    b.structure("idr", 8, &[("idr_rt", xarray, 0, 0)]);
    let slots = b.array(pointer, 64);
    b.structure("xa_node", 520, &[("slots", slots, 0, 0), ("shift", u8, 4096, 0)]);
    b.structure(
        "bpf_map",
        64,
        &[
            ("id", u32, 0, 0),
            ("name", name, 32, 0),
            ("map_type", u32, 160, 0),
            ("key_size", u32, 192, 0),
            ("value_size", u32, 224, 0),
            ("max_entries", u32, 256, 0),
            ("btf", pointer, 320, 0),
            ("btf_key_type_id", u32, 384, 0),
            ("btf_value_type_id", u32, 416, 0),
            ("btf_vmlinux_value_type_id", u32, 448, 0),
        ],
    );
    guest.cpus(2);
    guest
}

/// A `struct bpf_prog` whose code is at `code`, and its aux.
fn program(guest: &mut Guest, code: u64) -> (u64, u64) {
    let (prog, aux) = (guest.alloc(56), guest.alloc(72));
    guest.write_u64(prog, aux);
    guest.write_u64(prog + 8, TAG);
    guest.write_u64(prog + 16, code);
    guest.write_u32(prog + 32, 27);
    guest.write_u32(prog + 36, 70);
    guest.write_u32(prog + 40, 0x100);
    (prog, aux)
}

/// One program `dispatch` of id 9 with a subprogram, two CPUs' counts and a map.
fn loaded() -> (Guest, u64) {
    let mut guest = guest();
    let (prog, aux) = program(&mut guest, 0x5000);
    guest.write(aux, b"dispatch");
    guest.write_u32(aux + 16, 9);
    let subprogram = program(&mut guest, 0x6000).0;
    let functions = guest.put(&subprogram.to_le_bytes());
    guest.write_u32(aux + 20, 1);
    guest.write_u64(aux + 24, functions);
    let map = guest.alloc(64);
    guest.write_u32(map, 4);
    let maps = guest.put(&map.to_le_bytes());
    guest.write_u32(aux + 32, 1);
    guest.write_u64(aux + 40, maps);
    let attached = guest.put(b"dispatch\0");
    guest.write_u64(aux + 56, attached);
    guest.write_u64(prog + 24, 0x80);
    for cpu in 0..2 {
        guest.write_u64(Guest::on_cpu(0x80, cpu), 1000 + cpu);
        guest.write_u64(Guest::on_cpu(0x88, cpu), 10 + cpu);
    }
    let idr = guest.variable("prog_idr", 8);
    guest.write_u64(idr, prog);
    (guest, prog)
}

fn kallsyms(guest: &mut Guest, symbols: &[(u64, u64, &str)]) {
    let head = guest.variable("bpf_kallsyms", 16);
    let mut link = head;
    for (start, end, name) in symbols {
        let next = guest.alloc(544);
        guest.write_u64(link, next);
        guest.write_u64(next + 16, *end);
        guest.write_u64(next + 24, *start);
        guest.write(next + 32, name.as_bytes());
        link = next;
    }
    guest.write_u64(link, head);
}

fn read(guest: &Guest) -> BpfPrograms {
    let profile = guest.profile();
    BpfPrograms::read(&KernelView::new(&profile, &guest.ram)).unwrap()
}

#[test]
fn a_program_is_read_with_counts_of_all_cpus() {
    let (mut guest, _) = loaded();
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
        loaded_at_ns: Some(0),
        map_ids: vec![4],
        run_count: 21,
        run_time_ns: 2001,
        recursion_misses: None,
        of_scheduler: false,
        btf: KernelVirt(0),
    };
    assert_eq!(programs.programs(), [expected]);
    assert_eq!(programs.program(9).map(|program| program.insns), Some(70));
}

#[test]
fn an_address_is_named_by_the_code_that_it_is_in() {
    let (mut guest, _) = loaded();
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

#[test]
fn without_the_kernels_names_programs_have_those_that_it_would_give() {
    let (guest, _) = loaded();
    let programs = read(&guest);
    assert!(programs.faults()[0].contains("has no symbol `bpf_kallsyms`"), "{:?}", programs.faults());
    let (symbol, offset) = programs.at(KernelVirt(0x5004)).unwrap();
    assert_eq!((symbol.name.as_str(), offset), ("bpf_prog_6deef7357e7b4530_dispatch", 4));
}

#[test]
fn a_program_that_cannot_be_read_is_a_fault() {
    let (mut guest, prog) = loaded();
    kallsyms(&mut guest, &[]);
    guest.write_u64(prog, 0x1234);
    let programs = read(&guest);
    assert_eq!(programs.programs(), []);
    assert!(programs.faults()[0].starts_with("BPF program 0: "), "{:?}", programs.faults());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn hostile_memory_ends(seed: u64) {
        let (mut guest, _) = loaded();
        kallsyms(&mut guest, &[]);
        let profile = guest.profile();
        // Whatever comes of it, it comes.
        let _: Result<BpfPrograms, KernelError> =
            BpfPrograms::read(&KernelView::new(&profile, &Chaos(seed)));
    }

    #[test]
    fn words_that_a_guest_overwrote_are_no_harm(at in 0u64..0x1_8000, word: u64) {
        let (mut guest, prog) = loaded();
        kallsyms(&mut guest, &[(0x5000, 0x5100, "x")]);
        guest.write_u64((prog & !0xfff) + at / 8 * 8 % 0x4000, word);
        let profile = guest.profile();
        let _ = BpfPrograms::read(&KernelView::new(&profile, &guest.ram));
    }
}
