//! Maps whose entries are not tables of bytes.

use super::*;
use crate::kernel::maps::{ArenaState, BpfObjects, MapDetail, RingState};
use crate::kernel::query::follow;
use crate::kernel::testing::map_page;
use crate::value::{Scalar, Value};

/// The structs that these maps are made of, after those of [`types`].
fn more_types(b: &mut Builder) {
    let u32 = b.unsigned("u32", 4);
    let u64 = b.unsigned("u64", 8);
    let char = b.signed("char", 1);
    let bytes = b.array(char, 0);
    let name = b.array(char, 16);
    let pointer = b.pointer(u64);
    b.structure(
        "bpf_queue_stack",
        128,
        &[("size", u32, 768, 0), ("head", u32, 800, 0), ("tail", u32, 832, 0), ("elements", bytes, 896, 0)],
    );
    let head = b.structure("hlist_head", 8, &[("first", pointer, 0, 0)]);
    let node = b.structure("hlist_node", 16, &[("pprev", pointer, 0, 0), ("next", pointer, 64, 0)]);
    b.structure("bpf_local_storage_map", 112, &[("bucket_log", u32, 768, 0), ("buckets", pointer, 832, 0)]);
    b.structure("bpf_local_storage_map_bucket", 16, &[("lock", u64, 0, 0), ("list", head, 64, 0)]);
    let data = b.structure("bpf_local_storage_data", 8, &[("smap", pointer, 0, 0), ("data", bytes, 64, 0)]);
    b.structure(
        "bpf_local_storage_elem",
        40,
        &[("local_storage", pointer, 0, 0), ("map_node", node, 64, 0), ("sdata", data, 192, 0)],
    );
    b.structure("bpf_local_storage", 16, &[("owner", pointer, 64, 0)]);
    b.structure("task_struct", 32, &[("pid", u32, 64, 0), ("comm", name, 128, 0)]);
    b.structure("cgroup", 16, &[("kn", pointer, 64, 0)]);
    b.structure("kernfs_node", 16, &[("id", u64, 64, 0)]);
    b.structure(
        "bpf_prog",
        56,
        &[
            ("aux", pointer, 0, 0),
            ("tag", u64, 64, 0),
            ("bpf_func", pointer, 128, 0),
            ("stats", pointer, 192, 0),
            ("type", u32, 256, 0),
            ("len", u32, 288, 0),
            ("jited_len", u32, 320, 0),
        ],
    );
    b.structure(
        "bpf_prog_aux",
        64,
        &[
            ("name", name, 0, 0),
            ("id", u32, 128, 0),
            ("func_cnt", u32, 160, 0),
            ("func", pointer, 192, 0),
            ("used_map_cnt", u32, 256, 0),
            ("used_maps", pointer, 320, 0),
            ("btf", pointer, 384, 0),
        ],
    );
    b.structure("bpf_struct_ops_map", 128, &[("uvalue", pointer, 768, 0), ("kvalue", u64, 832, 0)]);
    b.structure("bpf_ringbuf_map", 104, &[("rb", pointer, 768, 0)]);
    b.structure(
        "bpf_ringbuf",
        24,
        &[
            ("mask", u64, 0, 0),
            ("consumer_pos", u64, 64, 0),
            ("producer_pos", u64, 128, 0),
            ("data", bytes, 192, 0),
        ],
    );
    b.structure(
        "bpf_arena",
        128,
        &[("user_vm_start", u64, 768, 0), ("user_vm_end", u64, 832, 0), ("kern_vm", pointer, 896, 0)],
    );
    b.structure("vm_struct", 16, &[("addr", pointer, 64, 0)]);
}

fn fixture() -> Fixture {
    let mut f = Fixture::new();
    more_types(&mut f.guest.types);
    f
}

fn words(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Fixture {
    /// A queue of 4-byte values in 4 slots.
    fn queue(&mut self, kind: u32, head: u32, tail: u32) -> u64 {
        let at = self.map("queue", kind, 0, 4, 3, 48);
        for (offset, word) in [(96, 4), (100, head), (104, tail)] {
            self.guest.write_u32(at + offset, word);
        }
        self.guest.write(at + 112, &words(&[10, 11, 12, 13]));
        at
    }

    /// Local storage with two buckets; the first holds elements of these owners with values 0, 1, ...
    fn storage(&mut self, kind: u32, owners: &[u64]) -> u64 {
        let at = self.map("storage", kind, 4, 4, 0, 16);
        let buckets = self.guest.alloc(32);
        self.guest.write_u32(at + 96, 1);
        self.guest.write_u64(at + 104, buckets);
        let mut link = buckets + 8;
        for (owner, value) in owners.iter().zip(0u32..) {
            let element = self.guest.alloc(40);
            let storage = self.guest.alloc(16);
            self.guest.write_u64(storage + 8, *owner);
            self.guest.write_u64(element, storage);
            self.guest.write_u32(element + 32, value);
            self.guest.write_u64(link, element + 8);
            link = element + 16;
        }
        at
    }

    fn task(&mut self, pid: u32) -> u64 {
        let at = self.guest.alloc(32);
        self.guest.write_u32(at + 8, pid);
        at
    }

    fn ring(&mut self, consumer: u64, producer: u64, headers: &[(u64, u32)]) -> u64 {
        let at = self.map("ring", 27, 0, 0, 64, 8);
        let ring = self.guest.alloc(24 + 64);
        self.guest.write_u64(at + 96, ring);
        for (offset, word) in [(0, 63), (8, consumer), (16, producer)] {
            self.guest.write_u64(ring + offset, word);
        }
        for (place, header) in headers {
            self.guest.write_u32(ring + 24 + place, *header);
        }
        at
    }

    fn objects(&mut self) -> BpfObjects {
        let idr = self.guest.variable("prog_idr", 24);
        self.guest.write_u64(idr + 16, 0);
        let profile = self.guest.profile();
        BpfObjects::read(&KernelView::new(&profile, &self.guest.ram)).unwrap()
    }
}

#[test]
fn queues_and_stacks_are_read_in_the_order_of_popping() {
    let mut f = fixture();
    f.queue(22, 2, 0);
    f.queue(22, 1, 3);
    f.queue(23, 1, 3);
    f.queue(22, 2, 2);
    let state = f.read(MapCaps::default());
    assert_eq!(state.faults, [""; 0]);
    let expected = [words(&[10, 11]), words(&[13, 10]), words(&[10, 13]), vec![]];
    for (map, values) in state.maps.iter().zip(expected) {
        assert_eq!(map.contents, MapContents::Array { values });
    }
    f.queue(22, 9, 0);
    let state = f.read(MapCaps::default());
    assert!(state.faults[0].contains("ends 0 and 9 are not below its size 4"), "{:?}", state.faults);
}

#[test]
fn local_storage_is_keyed_by_its_owner() {
    let mut f = fixture();
    let owners = [f.task(105), f.task(7), 0];
    f.storage(29, &owners);
    let node = f.guest.alloc(16);
    f.guest.write_u64(node + 8, 0x1_0000_002a);
    let cgroup = f.guest.alloc(16);
    f.guest.write_u64(cgroup + 8, node);
    f.storage(32, &[cgroup]);
    let state = f.read(MapCaps::default());
    assert_eq!(state.faults, ["BPF map 1 `storage`: 1 of its entries have lost their owner"]);
    let hash = |keys: &[u32], values: &[u32]| MapContents::Hash { keys: words(keys), values: words(values) };
    assert_eq!(state.maps[0].contents, hash(&[105, 7], &[0, 1]));
    assert_eq!(state.maps[1].contents, hash(&[42], &[0]));
}

#[test]
fn storage_that_loops_or_claims_too_much_is_unread() {
    let mut f = fixture();
    let owner = f.task(1);
    let at = f.storage(29, &[owner]);
    let profile = f.guest.profile();
    let view = KernelView::new(&profile, &f.guest.ram);
    let node = view.u64(KernelVirt(view.u64(KernelVirt(at + 104)).unwrap() + 8)).unwrap();
    f.guest.write_u64(node + 8, node);
    let state = f.read(MapCaps::default());
    assert!(state.faults[0].contains("it goes on after 65536 links"), "{:?}", state.faults);
    f.guest.write_u32(at + 96, 40);
    let state = f.read(MapCaps::default());
    assert!(state.faults[0].contains("it claims 2^40 buckets"), "{:?}", state.faults);
}

#[test]
fn maps_of_maps_and_programs_hold_ids() {
    let mut f = fixture();
    let inner = f.map("inner", 2, 4, 4, 1, 64);
    f.guest.write_u32(inner + 96, 8);
    let outer = f.map("outer", 12, 4, 4, 2, 64);
    f.guest.write_u64(outer + 112, inner);
    f.hash("by_key", 13, 4, &[&[(5, inner.to_le_bytes().to_vec())]]);
    let (program, aux) = (f.guest.alloc(56), f.guest.alloc(64));
    f.guest.write_u64(program, aux);
    f.guest.write_u32(aux + 16, 77);
    let calls = f.map("calls", 3, 4, 4, 2, 64);
    f.guest.write_u64(calls + 104, program);
    let state = f.read(MapCaps::default());
    assert_eq!(state.faults, [""; 0]);
    let contents: Vec<_> = state.maps[1..].iter().map(|map| map.contents.clone()).collect();
    assert_eq!(
        contents,
        [
            MapContents::Array { values: words(&[0, 1]) },
            MapContents::Hash { keys: words(&[5]), values: words(&[1]) },
            MapContents::Array { values: words(&[77, 0]) },
        ]
    );
}

#[test]
fn a_ring_buffer_tells_what_waits_in_it() {
    let mut f = fixture();
    // Positions past the end wrap: a whole record of 8 bytes at 56, a busy one at 8 (72), a discarded one at 24.
    f.ring(56, 56 + 16 + 16 + 16, &[(56, 8), (8, 1 << 31 | 8), (24, 1 << 30 | 5)]);
    f.ring(0, 65, &[]);
    let objects = f.objects();
    let expected =
        RingState { size_bytes: 64, consumer_pos: 56, producer_pos: 104, ready: 1, busy: 1, discarded: 1 };
    assert_eq!(objects.maps()[0].detail, Some(MapDetail::Ring(expected)));
    assert_eq!((objects.maps()[0].kind.as_str(), expected.pending_bytes()), ("ringbuf", 48));
    assert_eq!(objects.maps()[1].detail, None);
    assert!(objects.faults()[1].ends_with("65 bytes wait in a buffer of 64"), "{:?}", objects.faults());
}

#[test]
fn an_arena_counts_its_pages() {
    let mut f = fixture();
    let at = f.map("arena", 33, 0, 0, 1 << 20, 32);
    let area = f.guest.alloc(16);
    let base = 0xffff_c900_4000_0000u64;
    f.guest.write_u64(area + 8, base - (1 << 15));
    let (start, end) = (0x7f00_ffff_e000u64, 0x7f01_ffff_e000u64);
    for (offset, word) in [(96, start), (104, end), (112, area)] {
        f.guest.write_u64(at + offset, word);
    }
    let mut free = 0x8000;
    // Two pages below the point where the lower half wraps, two after it, one far above: 0x0000_0000 is behind it.
    for low in [0xffff_e000u64, 0xffff_f000, 0, 0x1000, 0x4000_3000] {
        map_page(&mut f.guest.ram, 0x1000, 4, base + low, 0x9000, 1, &mut free);
    }
    let objects = f.objects();
    assert_eq!(objects.faults().len(), 1, "{:?}", objects.faults());
    let expected = ArenaState {
        user_start: start,
        user_end: end,
        kernel_base: base,
        max_pages: 1 << 20,
        mapped_pages: 5,
    };
    assert_eq!(objects.maps()[0].detail, Some(MapDetail::Arena(expected)));
}

#[test]
fn pointers_into_an_arena_are_followed_by_their_user_addresses() {
    let mut f = fixture();
    let base = 0xffff_c900_4000_0000u64;
    let user = 0x7f00_0000_0000u64;
    let arena = |f: &mut Fixture, name: &str, base: u64| {
        let at = f.map(name, 33, 0, 0, 4, 32);
        let area = f.guest.alloc(16);
        f.guest.write_u64(area + 8, base - (1 << 15));
        for (offset, word) in [(96, user), (104, user + 0x4000), (112, area)] {
            f.guest.write_u64(at + offset, word);
        }
    };
    arena(&mut f, "arena", base);
    map_page(&mut f.guest.ram, 0x1000, 4, base + 0x1000, 0x9000, 1, &mut 0x8000);
    f.guest.ram.write_u64(0x9010, 77);
    f.guest.ram.write_u64(0x9018, user + 0x1030);
    f.guest.ram.write_u64(0x9030, 78);

    let mut program = Builder::new();
    let u64 = program.unsigned("u64", 8);
    // The next type's own id: a node points at a node.
    let to_node = program.pointer(TypeId(u64.0 + 2));
    program.structure("node", 16, &[("number", u64, 0, 0), ("next", to_node, 64, 0)]);
    let program = program.types();
    let ask = |f: &Fixture, at: u64, rest: &str| {
        let profile = f.guest.profile();
        let bytes = at.to_le_bytes();
        let pointer = Value::new(&program, to_node, &bytes).unwrap();
        let path = format!("head->{rest}").parse().unwrap();
        follow(&KernelView::new(&profile, &f.guest.ram), &pointer, &path).map_err(|e| e.to_string())
    };
    assert_eq!(ask(&f, user + 0x1010, "number"), Ok(Scalar::Int(77)));
    assert_eq!(ask(&f, user + 0x1010, "next->number"), Ok(Scalar::Int(78)));
    let outside = ask(&f, user + 0x4000, "number").unwrap_err();
    assert!(outside.starts_with("`head` is 0x7f0000004000: an address of a process"), "{outside}");
    let unmapped = ask(&f, user + 0x2000, "number").unwrap_err();
    assert!(unmapped.contains("0xffffc90040002000"), "{unmapped}");
    // Another process may have an arena of its own there.
    arena(&mut f, "other", base + (1 << 33));
    let several = ask(&f, user + 0x1010, "number").unwrap_err();
    assert!(several.ends_with("in the BPF arenas arena, other of different processes"), "{several}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A sound kernel with some words of its memory replaced.
    #[test]
    fn damaged_maps_of_every_kind_end(damage in prop::collection::vec((0usize..64 << 10, any::<u64>()), 1..40)) {
        let mut f = fixture();
        let owner = f.task(1);
        f.queue(22, 2, 0);
        f.storage(29, &[owner]);
        f.ring(0, 48, &[(0, 8)]);
        let arena = f.map("arena", 33, 0, 0, 1 << 10, 32);
        let area = f.guest.alloc(16);
        f.guest.write_u64(arena + 112, area);
        let outer = f.map("outer", 12, 4, 4, 2, 64);
        f.guest.write_u64(outer + 112, outer);
        for (place, word) in damage {
            f.guest.ram.write_u64((0x1_0000 + place as u64) & !7, word);
        }
        let profile = f.guest.profile();
        let _ = BpfObjects::read(&KernelView::new(&profile, &f.guest.ram));
    }
}
