//! Maps whose entries are not tables of bytes.

use super::*;
use crate::btf::TypeId;
use crate::kernel::maps::{ArenaState, BpfObjects, MapDetail, RingState};
use crate::kernel::query::{Start, follow};
use crate::path::FieldPath;
use crate::testing::memory::map_page;
use crate::value::{Scalar, Value};

fn words(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Fixture {
    /// A queue of 4-byte values in 4 slots.
    fn queue(&mut self, kind: u32, head: u32, tail: u32) {
        let map = self.map("queue", "bpf_queue_stack", kind, [0, 4, 3], 16);
        for (field, word) in [("size", 4), ("head", head), ("tail", tail)] {
            self.guest.set(map, field, word);
        }
        let elements = self.guest.at(map, "elements");
        self.guest.write(elements, &words(&[10, 11, 12, 13]));
    }

    /// Local storage with two buckets; the first holds elements of these owners with values 0, 1, ... And its buckets.
    fn storage(&mut self, kind: u32, owners: &[u64]) -> (Object, Object) {
        let map = self.map("storage", "bpf_local_storage_map", kind, [4, 4, 0], 0);
        let buckets = self.guest.array("bpf_local_storage_map_bucket", 2);
        self.guest.set(map, "bucket_log", 1u32);
        self.guest.set(map, "buckets", buckets[0]);
        let mut link = self.guest.part(buckets[0], "list.first");
        for (owner, value) in owners.iter().zip(0u32..) {
            let element = self.guest.add_with("bpf_local_storage_elem", 4);
            let storage = self.guest.add("bpf_local_storage");
            self.guest.set(storage, "owner", *owner);
            self.guest.set(element, "local_storage", storage);
            let data = self.guest.at(element, "sdata.data");
            self.guest.write_u32(data, value);
            self.guest.set(link, "", self.guest.at(element, "map_node"));
            link = self.guest.part(element, "map_node.next");
        }
        (map, buckets[0])
    }

    fn task(&mut self, pid: u32) -> u64 {
        let task = self.guest.add("task_struct");
        self.guest.set(task, "pid", pid);
        task.at
    }

    fn ring(&mut self, consumer: u64, producer: u64, headers: &[(u64, u32)]) {
        let map = self.map("ring", "bpf_ringbuf_map", 27, [0, 0, 64], 0);
        let ring = self.guest.add_with("bpf_ringbuf", 64);
        self.guest.set(map, "rb", ring);
        for (field, word) in [("mask", 63), ("consumer_pos", consumer), ("producer_pos", producer)] {
            self.guest.set(ring, field, word);
        }
        for (place, header) in headers {
            self.guest.write_u32(self.guest.at(ring, "data") + place, *header);
        }
    }

    /// An arena of `pages` pages at most, which user space has at `user` and the kernel from `base` on.
    fn arena(&mut self, name: &str, pages: u32, user: std::ops::Range<u64>, base: u64) {
        let map = self.map(name, "bpf_arena", 33, [0, 0, pages], 0);
        let area = self.guest.add("vm_struct");
        self.guest.set(area, "addr", base - (1 << 15));
        self.guest.set(map, "user_vm_start", user.start);
        self.guest.set(map, "user_vm_end", user.end);
        self.guest.set(map, "kern_vm", area);
    }

    fn objects(&mut self) -> BpfObjects {
        self.guest.variable("prog_idr", "idr");
        let profile = self.guest.profile();
        BpfObjects::read(&KernelView::new(&profile, &self.guest.ram)).unwrap()
    }
}

#[test]
fn queues_and_stacks_are_read_in_the_order_of_popping() {
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
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
}

#[test]
fn local_storage_is_keyed_by_its_owner() {
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
        let owners = [f.task(105), f.task(7), 0];
        f.storage(29, &owners);
        let (node, cgroup) = (f.guest.add("kernfs_node"), f.guest.add("cgroup"));
        f.guest.set(node, "id", 0x1_0000_002au64);
        f.guest.set(cgroup, "kn", node);
        f.storage(32, &[cgroup.at]);
        let state = f.read(MapCaps::default());
        assert_eq!(state.faults, ["BPF map 1 `storage`: 1 of its entries have lost their owner"]);
        let hash =
            |keys: &[u32], values: &[u32]| MapContents::Hash { keys: words(keys), values: words(values) };
        assert_eq!(state.maps[0].contents, hash(&[105, 7], &[0, 1]));
        assert_eq!(state.maps[1].contents, hash(&[42], &[0]));
    }
}

#[test]
fn storage_that_loops_or_claims_too_much_is_unread() {
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
        let owner = f.task(1);
        let (map, bucket) = f.storage(29, &[owner]);
        let node = f.guest.word(f.guest.at(bucket, "list.first"));
        let next = node + f.guest.offset("hlist_node", "next");
        f.guest.write_u64(next, node);
        let state = f.read(MapCaps::default());
        assert!(state.faults[0].contains("it goes on after 65536 links"), "{:?}", state.faults);
        f.guest.set(map, "bucket_log", 40u32);
        let state = f.read(MapCaps::default());
        assert!(state.faults[0].contains("it claims 2^40 buckets"), "{:?}", state.faults);
    }
}

#[test]
fn maps_of_maps_and_programs_hold_ids() {
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
        let inner = f.array("inner", 4, 1);
        let outer = f.map("outer", "bpf_array", 12, [4, 4, 2], 64);
        f.guest.set(outer, "pptrs[1]", inner);
        f.hash("by_key", 13, 4, &[&[(5, inner.at.to_le_bytes().to_vec())]]);
        let (program, aux) = (f.guest.add("bpf_prog"), f.guest.add("bpf_prog_aux"));
        f.guest.set(program, "aux", aux);
        f.guest.set(aux, "id", 77u32);
        let calls = f.map("calls", "bpf_array", 3, [4, 4, 2], 64);
        f.guest.set(calls, "pptrs[0]", program);
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
}

#[test]
fn a_ring_buffer_tells_what_waits_in_it() {
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
        // Positions past the end wrap: a whole record of 8 bytes at 56, a busy one at 8 (72), a discarded one at 24.
        f.ring(56, 56 + 16 + 16 + 16, &[(56, 8), (8, 1 << 31 | 8), (24, 1 << 30 | 5)]);
        f.ring(0, 65, &[]);
        let objects = f.objects();
        let expected = RingState {
            size_bytes: 64,
            consumer_pos: 56,
            producer_pos: 104,
            ready: 1,
            busy: 1,
            discarded: 1,
        };
        assert_eq!(objects.maps()[0].detail, Some(MapDetail::Ring(expected)));
        assert_eq!((objects.maps()[0].kind.as_str(), expected.pending_bytes()), ("ringbuf", 48));
        assert_eq!(objects.maps()[1].detail, None);
        assert!(objects.faults()[1].ends_with("65 bytes wait in a buffer of 64"), "{:?}", objects.faults());
    }
}

#[test]
fn an_arena_counts_its_pages() {
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
        let base = 0xffff_c900_4000_0000u64;
        let (start, end) = (0x7f00_ffff_e000u64, 0x7f01_ffff_e000u64);
        f.arena("arena", 1 << 20, start..end, base);
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
}

#[test]
fn pointers_into_an_arena_are_followed_by_their_user_addresses() {
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
        let base = 0xffff_c900_4000_0000u64;
        let user = 0x7f00_0000_0000u64;
        f.arena("arena", 4, user..user + 0x4000, base);
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
            let path: FieldPath = format!("->{rest}").parse().unwrap();
            let start = Start { root: &"head", steps: path.steps() };
            let read = follow(&KernelView::new(&profile, &f.guest.ram), &pointer, start);
            read.map(|reading| reading.scalar).map_err(|e| e.to_string())
        };
        assert_eq!(ask(&f, user + 0x1010, "number"), Ok(Scalar::Int(77)));
        assert_eq!(ask(&f, user + 0x1010, "next->number"), Ok(Scalar::Int(78)));
        let outside = ask(&f, user + 0x4000, "number").unwrap_err();
        assert!(outside.starts_with("`head` is 0x7f0000004000: a user-space address"), "{outside}");
        let unmapped = ask(&f, user + 0x2000, "number").unwrap_err();
        assert!(unmapped.contains("0xffffc90040002000"), "{unmapped}");
        // Another process may have an arena of its own there.
        f.arena("other", 4, user..user + 0x4000, base + (1 << 33));
        let several = ask(&f, user + 0x1010, "number").unwrap_err();
        assert!(several.ends_with("in the BPF arenas arena, other of different processes"), "{several}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A sound kernel with some words of its memory replaced.
    #[test]
    fn damaged_maps_of_every_kind_end(
        layout in SEEDS, damage in prop::collection::vec((0usize..64 << 10, any::<u64>()), 1..40),
    ) {
        let mut f = Fixture::new(layout);
        let owner = f.task(1);
        f.queue(22, 2, 0);
        f.storage(29, &[owner]);
        f.ring(0, 48, &[(0, 8)]);
        let arena = f.map("arena", "bpf_arena", 33, [0, 0, 1 << 10], 0);
        let area = f.guest.add("vm_struct");
        f.guest.set(arena, "kern_vm", area);
        let outer = f.map("outer", "bpf_array", 12, [4, 4, 2], 64);
        f.guest.set(outer, "pptrs[1]", outer);
        for (place, word) in damage {
            f.guest.ram.write_u64((0x1_0000 + place as u64) & !7, word);
        }
        let profile = f.guest.profile();
        let _ = BpfObjects::read(&KernelView::new(&profile, &f.guest.ram));
    }
}
