//! Programs that hand words of a map's value on, in ways that prove and in ways that do not.

use std::cell::Cell;

use proptest::prelude::*;

use super::code::{Function, Insn, callee};
use super::flow::{Code, Found, Met, Signature, follow};
use super::read::signature;
use super::*;
use crate::kernel::KernelView;
use crate::testing::btf::Builder;
use crate::testing::{Guest, SEEDS};

/// The one map, and its address in the programs.
const MAP: u32 = 7;
const MAP_AT: u64 = 0x1234_5678_9abc;
/// What a call of the kernel has as its distance that finds the value.
const FINDS: i32 = 77;
/// The struct that types name.
const NODE: u32 = 40;

fn insn(code: u8, dst: usize, src: usize, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

fn copy(dst: usize, src: usize) -> Insn {
    insn(0xbf, dst, src, 0, 0)
}

/// A cast into the kernel's form, as the verifier leaves it.
fn cast(dst: usize, src: usize) -> Insn {
    insn(0xbc, dst, src, 0, 0)
}

fn load(dst: usize, base: usize, off: i16) -> Insn {
    insn(0x79, dst, base, off, 0)
}

/// Through a pointer into an arena, 4 bytes.
fn load_arena(dst: usize, base: usize, off: i16) -> Insn {
    insn(0xa1, dst, base, off, 0)
}

fn store(base: usize, off: i16, value: usize) -> Insn {
    insn(0x7b, base, value, off, 0)
}

fn call(distance: i32, number: i16) -> Insn {
    insn(0x85, 0, 1, number, distance)
}

const EXIT: Insn = Insn { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 };
const FIND: Insn = Insn { code: 0x85, dst: 0, src: 0, off: 0, imm: FINDS };

/// Registers of `bpf_task_storage_get`: the map's address in r1. r1 was kept in r6.
fn find() -> [Insn; 4] {
    let half = |word: u64| (word as u32).cast_signed();
    [copy(6, 1), insn(0x18, 1, 0, 0, half(MAP_AT)), insn(0, 0, 0, 0, half(MAP_AT >> 32)), FIND]
}

/// A function's instructions, the parameters of its type and its result.
type Part<'p> = (&'p [Insn], &'p [Option<u32>], Option<u32>);

fn followed(parts: &[Part<'_>]) -> Found {
    let (mut insns, mut functions, mut signatures) = (Vec::new(), Vec::new(), Vec::new());
    for (code, parameters, returns) in parts {
        let from = insns.len();
        insns.extend_from_slice(code);
        functions.push(Function { from, until: insns.len(), type_id: 0 });
        signatures.push(Signature { parameters: parameters.to_vec(), returns: *returns });
    }
    let code = Code {
        insns: &insns,
        functions: &functions,
        maps: &|at| (at == MAP_AT).then_some(MAP),
        finds_value: &|insn| insn.imm == FINDS,
        steps: &Cell::new(1 << 16),
        signatures: &signatures,
    };
    follow(&code).expect("it comes to an end")
}

/// What is seen of the word at 16.
fn seen(found: &Found) -> Vec<(u32, Met)> {
    let all = found.seen.iter().flat_map(|(word, structs)| {
        assert_eq!(*word, (MAP, 16));
        structs.iter().map(|(id, met)| (*id, *met))
    });
    all.collect()
}

/// `untyped(p)`: the word at 16 of the value, or 0.
fn untyped() -> Vec<Insn> {
    let mut code = find().to_vec();
    code.extend([
        copy(7, 0),
        insn(0xb7, 0, 0, 0, 0),
        // To the end, where there is no entry.
        insn(0x15, 7, 0, 1, 0),
        load(0, 7, 16),
        EXIT,
    ]);
    code
}

#[test]
fn what_a_function_returns_is_of_its_type_through_another_that_has_none() {
    let untyped = untyped();
    // main: calls `typed`, reads 4 bytes at 8 of what it has.
    let main = [call(4, 1), cast(1, 0), insn(0x15, 1, 0, 1, 0), load_arena(2, 1, 8), EXIT];
    let typed = [call(1, 2), EXIT];
    let none = [None];
    let found = followed(&[(&main, &none, None), (&typed, &none, Some(NODE)), (&untyped, &none, None)]);
    assert_eq!(seen(&found), [(NODE, Met::Returned { function: 1 })]);
    let reached: Vec<_> = found.reached[&(MAP, 16)].iter().copied().collect();
    assert_eq!(reached, [(8, 4)]);
    // What nobody reads may be anything.
    let main = [call(2, 1), insn(0xb7, 0, 0, 0, 0), EXIT];
    let found = followed(&[(&main, &none, None), (&typed, &none, Some(NODE)), (&untyped, &none, None)]);
    assert!(found.seen.is_empty(), "{:?}", found.seen);
}

#[test]
fn an_argument_counts_where_each_parameter_is_read() {
    let untyped = untyped();
    // main: takes the word, over the stack, and gives it to `takes(p, word)`.
    let main =
        [copy(6, 1), call(7, 2), store(10, -8, 0), load(2, 10, -8), copy(1, 6), call(1, 1), EXIT, EXIT];
    let takes = |reads_first: bool| {
        let first = if reads_first { copy(6, 1) } else { insn(0xb7, 6, 0, 0, 0) };
        [first, load_arena(3, 2, 4), insn(0xb7, 0, 0, 0, 0), EXIT]
    };
    for (reads_first, expected) in
        [(true, vec![(NODE, Met::Given { function: 1, parameter: 1 })]), (false, vec![])]
    {
        let takes = takes(reads_first);
        let main = [
            main[0],
            call((main.len() + takes.len() - 2) as i32, 2),
            main[2],
            main[3],
            main[4],
            call(2, 1),
            EXIT,
            EXIT,
        ];
        let found = followed(&[
            (&main, &[None], None),
            (&takes, &[None, Some(NODE)], None),
            (&untyped, &[None], None),
        ]);
        assert_eq!(seen(&found), expected);
        // What the function reads through it counts either way.
        assert!(found.reached[&(MAP, 16)].contains(&(4, 4)));
    }
}

#[test]
fn what_is_written_is_of_the_type_of_who_had_it() {
    // keep(p): p goes to 16 of the value.
    let mut keep = find().to_vec();
    keep.extend([insn(0x15, 0, 0, 1, 0), store(0, 16, 6), EXIT]);
    let main = [load(1, 1, 0), call(1, 1), EXIT];
    let found = followed(&[(&main, &[None], None), (&keep, &[Some(NODE)], None)]);
    assert_eq!(seen(&found), [(NODE, Met::Written { function: 1 })]);
}

/// A hash of an address, say.
#[test]
fn half_of_a_pointer_is_a_number() {
    let mut keep = find().to_vec();
    keep.extend([insn(0x15, 0, 0, 2, 0), cast(7, 6), store(0, 16, 7), EXIT]);
    let main = [load(1, 1, 0), call(1, 1), EXIT];
    let found = followed(&[(&main, &[None], None), (&keep, &[Some(NODE)], None)]);
    assert!(found.seen.is_empty(), "{:?}", found.seen);
}

/// `hands_on` may be of a function that returns nothing: its last call is at its end either way.
#[test]
fn a_result_that_is_handed_on_counts_where_somebody_reads_it() {
    let untyped = untyped();
    let hands_on = [call(1, 2), EXIT];
    for (after, expected) in
        [(insn(0xb7, 0, 0, 0, 0), vec![]), (copy(3, 0), vec![(NODE, Met::Returned { function: 2 })])]
    {
        let main = [call(2, 1), after, EXIT];
        let found =
            followed(&[(&main, &[None], None), (&hands_on, &[None], None), (&untyped, &[None], Some(NODE))]);
        assert_eq!(seen(&found), expected);
    }
}

#[test]
fn where_ways_meet_with_different_words_nothing_is_known() {
    let code = |other: i16| {
        let mut code = find().to_vec();
        code.extend([
            insn(0x15, 0, 0, 4, 0),
            load(7, 0, 16),
            insn(0x15, 6, 0, 1, 3),
            load(7, 0, other),
            copy(0, 7),
            EXIT,
        ]);
        code
    };
    for (other, expected) in [(16, 1), (24, 0)] {
        let code = code(other);
        let main = [call(2, 1), copy(3, 0), EXIT];
        let found = followed(&[(&main, &[None], None), (&code, &[None], Some(NODE))]);
        assert_eq!(found.seen.len(), expected, "{other}");
    }
}

#[test]
fn a_slot_that_was_lent_out_or_written_over_is_forgotten() {
    let untyped = untyped();
    for (lent, expected) in [(-16, 0), (-4, 1)] {
        // typed(p): the word goes to the stack, the stack to the kernel, and the word comes back.
        let typed = [
            call(7, 2),
            store(10, -16, 0),
            copy(2, 10),
            insn(0x07, 2, 0, 0, lent),
            insn(0x85, 0, 0, 0, 1),
            load(0, 10, -16),
            EXIT,
            EXIT,
        ];
        let main = [call(2, 1), copy(3, 0), EXIT];
        let found =
            followed(&[(&main, &[None], None), (&typed, &[None], Some(NODE)), (&untyped, &[None], None)]);
        assert_eq!(found.seen.len(), expected, "{lent}");
    }
}

/// What was lent out holds the address of another slot.
#[test]
fn a_slot_whose_address_was_lent_out_is_forgotten() {
    let untyped = untyped();
    let typed = [
        call(9, 2),
        store(10, -16, 0),
        copy(7, 10),
        insn(0x07, 7, 0, 0, -16),
        store(10, -8, 7),
        copy(2, 10),
        insn(0x07, 2, 0, 0, -8),
        insn(0x85, 0, 0, 0, 1),
        load(0, 10, -16),
        EXIT,
    ];
    let main = [call(2, 1), copy(3, 0), EXIT];
    let found = followed(&[(&main, &[None], None), (&typed, &[None], Some(NODE)), (&untyped, &[None], None)]);
    assert!(found.seen.is_empty(), "{:?}", found.seen);
}

#[test]
fn a_program_that_jumps_to_where_a_register_says_proves_nothing() {
    let insns = [insn(0x0d, 0, 1, 0, 0), EXIT];
    let functions = [Function { from: 0, until: insns.len(), type_id: 0 }];
    let code = Code {
        insns: &insns,
        functions: &functions,
        maps: &|_| None,
        finds_value: &|_| false,
        steps: &Cell::new(1 << 12),
        signatures: &[Signature::default()],
    };
    assert!(follow(&code).is_none());
}

/// `may_goto` counts in a register that no program can name: that is not the frame pointer.
#[test]
fn the_verifiers_own_register_is_one_of_its_own() {
    let of = |registers: u8| {
        let insn = Insn::decode(&[0x79, registers, 0, 0, 0, 0, 0, 0]);
        (insn.dst, insn.src)
    };
    assert_eq!((of(0xab), of(0xff)), ((11, 10), (11, 11)));
}

#[test]
fn parameters_count_where_each_is_in_one_register() {
    let (mut b, node, _) = types();
    let u64 = b.unsigned("number", 8);
    let to_node = b.pointer(node);
    let mut function = |returns: TypeId, first: TypeId| {
        let prototype = b.raw("", 13 << 24 | 2, returns.0, &[0, first.0, 0, to_node.0]);
        b.raw("function", 12 << 24, prototype.0, &[])
    };
    let cases = [
        (function(u64, u64), vec![None, Some(node.0)]),
        (function(TypeId(0), to_node), vec![Some(node.0), Some(node.0)]),
        // Two registers, or an address; and an address that comes first.
        (function(u64, node), vec![None; 6]),
        (function(node, u64), vec![None; 6]),
    ];
    let types = b.types();
    for (function, expected) in cases {
        assert_eq!(signature(&types, function, &Cell::new(100)).parameters, expected);
    }
}

#[test]
fn a_program_that_takes_too_long_proves_nothing() {
    let insns = untyped();
    let functions = [Function { from: 0, until: insns.len(), type_id: 0 }];
    let follow_with = |steps: usize| {
        let code = Code {
            insns: &insns,
            functions: &functions,
            maps: &|_| None,
            finds_value: &|_| false,
            steps: &Cell::new(steps),
            signatures: &[Signature::default()],
        };
        follow(&code).is_some()
    };
    assert!(follow_with(1 << 12));
    assert!(!follow_with(40));
}

#[test]
fn calls_are_understood_in_both_forms_and_in_no_other() {
    let functions = [(0, 4), (4, 9), (9, 12)].map(|(from, until)| Function { from, until, type_id: 0 });
    assert_eq!(callee(insn(0x85, 0, 1, 2, 5), 3, &functions), Some(2));
    assert_eq!(callee(insn(0x85, 0, 1, 5, 2), 3, &functions), Some(2));
    assert_eq!(callee(insn(0x85, 0, 1, 5, 1), 3, &functions), None);
    assert_eq!(callee(insn(0x85, 0, 1, i16::MIN, i32::MIN), 0, &functions), None);
}

/// Types with `node`, 16 bytes long, and a function `node_of` that returns a pointer to it; the ids of both.
fn types() -> (Builder, TypeId, TypeId) {
    let mut b = Builder::new();
    let u64 = b.unsigned("u64", 8);
    let node = b.structure("node", 16, &[("a", u64, 0, 0), ("b", u64, 64, 0)]);
    let to_node = b.pointer(node);
    let prototype = b.raw("", 13 << 24 | 1, to_node.0, &[0, u64.0]);
    let node_of = b.raw("node_of", 12 << 24, prototype.0, &[]);
    (b, node, node_of)
}

#[test]
fn what_contradicts_itself_is_not_proven() {
    let (mut b, node, node_of) = types();
    let other = b.structure("other", 16, &[]);
    let types = Arc::new(b.types());
    let met = Met::Returned { function: node_of.0 as usize };
    let seen = |ids: &[u32]| BTreeMap::from([((MAP, 16), ids.iter().map(|id| (*id, met)).collect())]);
    let reached = |from, len| BTreeMap::from([((MAP, 16), [(from, len)].into())]);
    let mut proven = ProvenTypes::default();
    proven.weigh(&types, &seen(&[node.0]), &reached(8, 8));
    let proof = proven.at(MAP, 16).expect("proven");
    assert_eq!(
        (proof.type_name().as_str(), proof.by().to_string().as_str()),
        ("struct node *", "node_of() returns it")
    );
    assert_eq!(proven.of_map(MAP).count(), 1);
    assert!(proven.at(MAP, 8).is_none() && proven.at(MAP + 1, 16).is_none());
    // What a struct begins with is no contradiction: it is the outer one.
    let (mut b, inner, _) = self::types();
    let outer = b.structure("outer", 24, &[("node", inner, 0, 0)]);
    let nested = Arc::new(b.types());
    let mut proven = ProvenTypes::default();
    proven.weigh(&nested, &seen(&[inner.0, outer.0]), &reached(16, 8));
    assert_eq!(proven.at(MAP, 16).map(Proof::type_name).as_deref(), Some("struct outer *"));
    for (ids, from, len, why) in [
        (&[node.0, other.0][..], 0, 8, "for struct node and for struct other"),
        (&[node.0], 12, 8, "of 16 bytes, and reach 8 bytes at 12 of it"),
        (&[node.0], -8, 8, "reach 8 bytes at -8 of it"),
    ] {
        let mut proven = ProvenTypes::default();
        proven.weigh(&types, &seen(ids), &reached(from, len));
        assert!(proven.at(MAP, 16).is_none());
        assert!(proven.faults()[0].contains(why), "{:?}", proven.faults());
    }
    // Another object's programs have another struct there. That the first ones say so again does not make it right.
    let (mut b, inner, _) = self::types();
    let other = b.structure("other", 16, &[("node", inner, 0, 0)]);
    let others = Arc::new(b.types());
    let mut proven = ProvenTypes::default();
    for (types, id) in [(&types, node), (&others, other), (&types, node)] {
        proven.weigh(types, &seen(&[id.0]), &reached(8, 8));
    }
    assert!(proven.at(MAP, 16).is_none());
    assert_eq!(
        proven.faults(),
        ["map 7, offset 16: its programs take what it points at for struct node and for struct other"]
    );
}

/// A program in a kernel's memory, whose function `node_of` returns the word at 16 of a task's storage.
#[test]
fn a_program_is_read_out_of_memory() {
    for seed in SEEDS {
        let mut guest = Guest::new(seed);
        let (b, _, node_of) = types();
        let blob = b.blob();
        let map = guest.add("bpf_map");
        guest.set(map, "id", MAP);
        guest.set(map, "map_type", 29u32);
        let half = |word: u64| (word as u32).cast_signed();
        let base = 0x9000_0000u64;
        guest.symbol("__bpf_call_base", base);
        guest.symbol("bpf_task_storage_get", base + 0x500);
        let find = insn(0x85, 0, 0, 0, 0x500);
        let code = [
            call(2, 1),
            load_arena(1, 0, 8),
            EXIT,
            copy(6, 1),
            insn(0x18, 1, 0, 0, half(map.at)),
            insn(0, 0, 0, 0, half(map.at >> 32)),
            find,
            insn(0x15, 0, 0, 1, 0),
            load(0, 0, 16),
            EXIT,
        ];
        let bytes: Vec<u8> = code
            .iter()
            .flat_map(|one| {
                let [off0, off1] = one.off.to_le_bytes();
                let [a, b, c, d] = one.imm.to_le_bytes();
                [one.code, (one.src << 4 | one.dst) as u8, off0, off1, a, b, c, d]
            })
            .collect();
        let prog = guest.add_with("bpf_prog", bytes.len() as u64);
        let aux = guest.add("bpf_prog_aux");
        guest.set(prog, "aux", aux);
        guest.set(prog, "len", code.len() as u32);
        guest.write(guest.at(prog, "insnsi"), &bytes);
        let infos: Vec<u8> =
            [0, node_of.0, 3, node_of.0].iter().flat_map(|word| word.to_le_bytes()).collect();
        let infos = guest.put(&infos);
        guest.set(aux, "func_info", infos);
        guest.set(aux, "func_info_cnt", 2u32);
        let btf = guest.add("btf");
        let data = guest.put(&blob);
        guest.set(btf, "data", data);
        guest.set(btf, "data_size", blob.len() as u32);
        guest.set(aux, "btf", btf);
        let maps = guest.put(&map.at.to_le_bytes());
        guest.set(aux, "used_maps", maps);
        guest.set(aux, "used_map_cnt", 1u32);
        let idr = guest.variable("prog_idr", "idr");
        guest.set(idr, "idr_rt.xa_head", prog);
        let profile = guest.profile();
        let view = KernelView::new(&profile, &guest.ram);
        let proven = view.proven().unwrap();
        assert_eq!(proven.faults(), [""; 0]);
        let proof = proven.at(MAP, 16).unwrap_or_else(|| panic!("seed {seed}: nothing is proven"));
        assert_eq!(proof.by(), &Origin::Returned { function: "node_of".to_owned() });

        // At another checkpoint of the same kernel it is followed again only where it is another program, or uses other maps.
        let proven = |guest: &Guest, map: u32, at: u64| {
            let view = KernelView::new(&profile, &guest.ram);
            let proven = view.proven().unwrap();
            assert_eq!(proven.faults(), [""; 0]);
            let is_proven = proven.at(map, at).is_some();
            (is_proven, profile.followed().counted())
        };
        assert_eq!(proven(&guest, MAP, 16), (true, 1));
        assert_eq!(proven(&guest, MAP, 16), (true, 1));
        // The last load is of another word.
        guest.write(guest.at(prog, "insnsi") + 8 * 8 + 2, &[24, 0]);
        assert_eq!(proven(&guest, MAP, 24), (true, 2));
        assert_eq!(proven(&guest, MAP, 16), (false, 2));
        guest.set(map, "id", MAP + 1);
        assert_eq!(proven(&guest, MAP + 1, 24), (true, 3));
        // Types that are the same in other words: another name of the function.
        guest.write(data + at_of(&blob, b"node_of"), b"edon_fo");
        assert_eq!(proven(&guest, MAP + 1, 24), (true, 4));
        assert_eq!(proven(&guest, MAP + 1, 24), (true, 4));
    }
}

/// Where `text` begins in `bytes`.
fn at_of(bytes: &[u8], text: &[u8]) -> u64 {
    bytes.windows(text.len()).position(|window| window == text).expect("it is there") as u64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the instructions are: it ends, without a panic.
    #[test]
    fn any_bytes_are_followed(
        words in prop::collection::vec(any::<[u8; 8]>(), 1..200),
        starts in prop::collection::btree_set(1usize..200, 0..6),
    ) {
        let insns: Vec<Insn> = words.iter().map(Insn::decode).collect();
        let starts: Vec<usize> = [0].into_iter().chain(starts).filter(|at| *at < insns.len()).collect();
        let ends = starts.iter().skip(1).copied().chain([insns.len()]);
        let functions: Vec<Function> =
            starts.iter().zip(ends).map(|(&from, until)| Function { from, until, type_id: 0 }).collect();
        let signature = Signature { parameters: vec![Some(NODE); 2], returns: Some(NODE) };
        let signatures = vec![signature; functions.len()];
        let code = Code {
            insns: &insns,
            functions: &functions,
            maps: &|at| (at & 1 == 0).then_some(MAP),
            finds_value: &|insn| insn.imm & 1 == 0,
            steps: &Cell::new(1 << 20),
            signatures: &signatures,
        };
        let _ = follow(&code);
    }
}
