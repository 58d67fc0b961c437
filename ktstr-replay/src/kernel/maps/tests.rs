//! Maps of a kernel whose structs are laid out unlike any real one's: what is read is where its BTF says.

use proptest::prelude::*;

use super::*;
use crate::btf::TypeId;
use crate::btf::testing::Builder;
use crate::kernel::testing::{Chaos, Guest};
use crate::kernel::{Caps, KernelView, SampleReader, SampleState};
use crate::trace::record::{BlobRole, MapContents};
use crate::units::KernelVirt;

mod kinds;

const MAP_BYTES: u64 = 96;

/// `struct bpf_map` with its fields in another order than any kernel has them.
fn types(b: &mut Builder) {
    let u8 = b.unsigned("u8", 1);
    let u32 = b.unsigned("u32", 4);
    let u64 = b.unsigned("u64", 8);
    let char = b.signed("char", 1);
    let name = b.array(char, 16);
    let pointer = b.pointer(u64);
    let kind = b.enumeration(
        "bpf_map_type",
        &[
            ("BPF_MAP_TYPE_HASH", 1),
            ("BPF_MAP_TYPE_ARRAY", 2),
            ("BPF_MAP_TYPE_PERCPU_HASH", 5),
            ("BPF_MAP_TYPE_PERCPU_ARRAY", 6),
            ("BPF_MAP_TYPE_PROG_ARRAY", 3),
            ("BPF_MAP_TYPE_LRU_HASH", 9),
            ("BPF_MAP_TYPE_ARRAY_OF_MAPS", 12),
            ("BPF_MAP_TYPE_HASH_OF_MAPS", 13),
            ("BPF_MAP_TYPE_QUEUE", 22),
            ("BPF_MAP_TYPE_STACK", 23),
            ("BPF_MAP_TYPE_STRUCT_OPS", 26),
            ("BPF_MAP_TYPE_RINGBUF", 27),
            ("BPF_MAP_TYPE_TASK_STORAGE", 29),
            ("BPF_MAP_TYPE_BLOOM_FILTER", 30),
            ("BPF_MAP_TYPE_CGRP_STORAGE", 32),
            ("BPF_MAP_TYPE_ARENA", 33),
        ],
    );
    let map = b.structure(
        "bpf_map",
        MAP_BYTES as u32,
        &[
            ("name", name, 0, 0),
            ("max_entries", u32, 128, 0),
            ("value_size", u32, 160, 0),
            ("key_size", u32, 192, 0),
            ("map_type", kind, 224, 0),
            ("btf", pointer, 256, 0),
            ("id", u32, 320, 0),
            ("btf_key_type_id", u32, 352, 0),
            ("btf_value_type_id", u32, 384, 0),
            ("btf_vmlinux_value_type_id", u32, 416, 0),
        ],
    );
    let values = b.array(char, 0);
    let pointers = b.array(pointer, 0);
    let inner = b.union("", 0, &[("value", values, 0, 0), ("pptrs", pointers, 0, 0)]);
    b.structure("bpf_array", 104, &[("map", map, 0, 0), ("elem_size", u32, 768, 0), ("", inner, 832, 0)]);
    b.structure(
        "bpf_htab",
        112,
        &[("map", map, 0, 0), ("n_buckets", u32, 768, 0), ("buckets", pointer, 832, 0)],
    );
    let head = b.structure("hlist_nulls_head", 8, &[("first", pointer, 0, 0)]);
    b.structure("bucket", 24, &[("lock", u64, 0, 0), ("head", head, 64, 0)]);
    let node = b.structure("hlist_nulls_node", 16, &[("pprev", pointer, 0, 0), ("next", pointer, 64, 0)]);
    b.structure(
        "htab_elem",
        24,
        &[("hash_node", node, 0, 0), ("hash", u32, 128, 0), ("key", values, 192, 0)],
    );
    let xarray = b.structure("xarray", 16, &[("xa_head", pointer, 64, 0)]);
    b.structure("idr", 24, &[("idr_rt", xarray, 64, 0)]);
    let slots = b.array(pointer, 64);
    b.structure("xa_node", 520, &[("slots", slots, 0, 0), ("shift", u8, 4096, 0)]);
    b.structure(
        "btf",
        32,
        &[("id", u32, 0, 0), ("data_size", u32, 32, 0), ("kernel_btf", u8, 64, 0), ("data", pointer, 128, 0)],
    );
}

struct Fixture {
    guest: Guest,
    node: u64,
    count: u64,
}

impl Fixture {
    fn new() -> Self {
        let mut guest = Guest::new();
        types(&mut guest.types);
        guest.cpus(2);
        let node = guest.alloc(520);
        let idr = guest.variable("map_idr", 24);
        guest.write_u64(idr + 16, node + 2);
        Self { guest, node, count: 0 }
    }

    /// A map of that type with `rest` bytes after `struct bpf_map`; its address.
    fn map(&mut self, name: &str, kind: u32, key: u32, value: u32, entries: u32, rest: u64) -> u64 {
        self.count += 1;
        let at = self.guest.alloc(MAP_BYTES + rest);
        self.guest.write(at, name.as_bytes());
        for (offset, word) in [(16, entries), (20, value), (24, key), (28, kind), (40, self.count as u32)] {
            self.guest.write_u32(at + offset, word);
        }
        self.guest.write_u64(self.node + self.count * 8, at);
        at
    }

    /// A hash map of `u32` keys whose chains are lists of (key, bytes after the key, padded to 8).
    fn hash(&mut self, name: &str, kind: u32, value: u32, chains: &[&[(u32, Vec<u8>)]]) -> u64 {
        let at = self.map(name, kind, 4, value, 8, 16);
        let buckets = self.guest.alloc(chains.len() as u64 * 24);
        self.guest.write_u32(at + 96, chains.len() as u32);
        self.guest.write_u64(at + 104, buckets);
        for (bucket, chain) in chains.iter().enumerate() {
            let mut link = buckets + bucket as u64 * 24 + 8;
            for (key, tail) in *chain {
                let element = self.guest.alloc(24 + 8 + tail.len() as u64);
                self.guest.write_u64(link, element);
                self.guest.write_u32(element + 24, *key);
                self.guest.write(element + 32, tail);
                link = element + 8;
            }
            self.guest.write_u64(link, (bucket as u64) << 1 | 1);
        }
        at
    }

    fn read(&self, caps: MapCaps) -> SampleState {
        let profile = self.guest.profile();
        let mut reader = SampleReader::new(Caps { maps: caps });
        let mut state = reader.read(&KernelView::new(&profile, &self.guest.ram));
        state.faults.retain(|fault| !fault.starts_with("runqueues"));
        state
    }
}

#[test]
fn values_of_an_array_lose_their_padding() {
    let mut f = Fixture::new();
    let at = f.map("demo.bss", 2, 4, 5, 3, 64);
    f.guest.write_u32(at + 96, 8);
    f.guest.write(at + 104, b"aaaaa...bbbbb...ccccc...");
    let state = f.read(MapCaps::default());
    assert_eq!(state.faults, [""; 0]);
    let map = &state.maps[0];
    assert_eq!((map.id, map.name.as_str(), map.max_entries, map.btf), (1, "demo.bss", 3, None));
    assert_eq!(map.contents, MapContents::Array { values: b"aaaaabbbbbccccc".to_vec() });
}

#[test]
fn per_cpu_values_are_read_for_each_cpu() {
    let mut f = Fixture::new();
    let at = f.map("counts", 6, 4, 4, 2, 32);
    for (index, place) in [(0, 0x40u64), (1, 0x80)] {
        f.guest.write_u64(at + 104 + index * 8, place);
        for cpu in 0..2 {
            f.guest.write_u32(Guest::on_cpu(place, cpu), (index * 10 + cpu) as u32);
        }
    }
    let state = f.read(MapCaps::default());
    let values = [0u32, 1, 10, 11].iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(state.maps[0].contents, MapContents::PerCpuArray { cpus: vec![0, 1], values });
}

#[test]
fn chains_of_all_buckets_are_walked() {
    let mut f = Fixture::new();
    let entry = |key: u32| (key, vec![key as u8; 8]);
    f.hash("by_pid", 1, 6, &[&[entry(7), entry(8)], &[], &[entry(9)]]);
    f.hash("lru", 9, 8, &[&[entry(3)]]);
    for cpu in 0..2 {
        f.guest.write_u32(Guest::on_cpu(0x200, cpu), 50 + cpu as u32);
    }
    f.hash("per_cpu", 5, 4, &[&[(1, 0x200u64.to_le_bytes().to_vec())]]);
    let state = f.read(MapCaps::default());
    assert_eq!(state.faults, [""; 0]);
    let keys = |list: &[u32]| list.iter().flat_map(|key| key.to_le_bytes()).collect::<Vec<u8>>();
    let contents: Vec<&MapContents> = state.maps.iter().map(|map| &map.contents).collect();
    assert_eq!(
        contents,
        [
            &MapContents::Hash { keys: keys(&[7, 8, 9]), values: [[7; 6], [8; 6], [9; 6]].concat() },
            &MapContents::Hash { keys: keys(&[3]), values: vec![3; 8] },
            &MapContents::PerCpuHash { cpus: vec![0, 1], keys: keys(&[1]), values: keys(&[50, 51]) },
        ]
    );
}

#[test]
fn a_chain_that_loops_keeps_what_was_found_and_says_so() {
    let mut f = Fixture::new();
    let at = f.hash("loop", 1, 4, &[&[(1, vec![1; 8])]]);
    let first = f.guest.ram.bytes.len(); // The element is the last thing that was put there.
    assert!(first > 0);
    let profile = f.guest.profile();
    let view = KernelView::new(&profile, &f.guest.ram);
    let buckets = view.u64(KernelVirt(at + 104)).unwrap();
    let element = view.u64(KernelVirt(buckets + 8)).unwrap();
    f.guest.write_u64(element + 8, element);
    let state = f.read(MapCaps::default());
    assert_eq!(state.faults, ["BPF map 1 `loop`: its chains go in circles after 9 entries"]);
    match &state.maps[0].contents {
        MapContents::Hash { keys, .. } => assert_eq!(keys.len(), 9 * 4),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_goes_over_the_caps_is_cut_and_said() {
    let mut f = Fixture::new();
    for name in ["one", "two", "three"] {
        let at = f.map(name, 2, 4, 8, 4, 64);
        f.guest.write_u32(at + 96, 8);
    }
    let caps = MapCaps { maps: 2, entries: 3, map_bytes: 1 << 20, total_bytes: 40, bucket_bytes: 0 };
    let state = f.read(caps);
    assert_eq!(
        state.faults,
        [
            "there are more than 2 BPF maps: the rest was left out",
            "BPF map 1 `one`: only 3 of its 4 entries of 8 bytes were kept",
            "BPF map 2 `two`: only 2 of its 4 entries of 8 bytes were kept",
        ]
    );
    assert_eq!(state.maps.len(), 2);
}

#[test]
fn a_map_without_a_reader_and_one_that_is_torn_are_unread() {
    let mut f = Fixture::new();
    f.map("bloom", 30, 0, 8, 4, 64);
    f.map("future", 99, 4, 8, 4, 64);
    let at = f.hash("torn", 1, 4, &[&[]]);
    f.guest.write_u64(at + 104, 0xffff_c900_0000_0000);
    let state = f.read(MapCaps::default());
    let why: Vec<&str> = state
        .maps
        .iter()
        .map(|map| match &map.contents {
            MapContents::Unread { why } => why.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(why[0], "there is no reader for BPF_MAP_TYPE_BLOOM_FILTER");
    assert_eq!(why[1], "the kernel has no name for map type 99");
    assert!(why[2].starts_with("kernel address 0xffffc90000000000 is not mapped"), "{}", why[2]);
    assert_eq!(state.faults.len(), 1);
}

#[test]
fn the_types_of_maps_are_given_once() {
    let mut f = Fixture::new();
    let mut program = Builder::new();
    program.unsigned("u32", 4);
    let blob = program.blob();
    let data = f.guest.put(&blob);
    let btf = f.guest.alloc(32);
    f.guest.write_u32(btf, 77);
    f.guest.write_u32(btf + 4, blob.len() as u32);
    f.guest.write_u64(btf + 16, data);
    for name in ["one", "two"] {
        let at = f.map(name, 2, 4, 4, 1, 64);
        f.guest.write_u32(at + 96, 8);
        f.guest.write_u64(at + 32, btf);
        f.guest.write_u32(at + 48, 1);
    }
    let profile = f.guest.profile();
    let view = KernelView::new(&profile, &f.guest.ram);
    let mut reader = SampleReader::new(Caps::default());
    let first = reader.read(&view);
    assert_eq!(first.blobs.len(), 1);
    assert_eq!((first.blobs[0].role, &first.blobs[0].bytes), (BlobRole::ProgramBtf, &blob));
    for map in &first.maps {
        assert_eq!((map.btf, map.value_type_id), (Some(first.blobs[0].id), 1));
    }
    let second = reader.read(&view);
    assert_eq!((second.blobs.len(), &second.maps), (0, &first.maps));
}

#[test]
fn a_kernel_that_lacks_a_field_is_named() {
    let mut f = Fixture::new();
    f.guest.types = Builder::new();
    f.guest.types.structure("idr", 24, &[("other", TypeId(0), 0, 0)]);
    let state = f.read(MapCaps::default());
    assert!(
        state
            .faults
            .contains(&"BPF maps: `struct idr` of kernel 6.99-test has no field `idr_rt.xa_head`".into()),
        "{:?}",
        state.faults
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Memory in which everything points everywhere: reading ends, within its caps.
    #[test]
    fn hostile_memory_is_read_within_bounds(seed in any::<u64>()) {
        let f = Fixture::new();
        let profile = f.guest.profile();
        let memory = Chaos(seed);
        let caps = MapCaps { maps: 64, total_bytes: 1 << 20, bucket_bytes: 1 << 20, ..MapCaps::default() };
        let state = SampleReader::new(Caps { maps: caps }).read(&KernelView::new(&profile, &memory));
        prop_assert!(state.maps.len() <= 64);
    }

    /// A sound kernel with some words of its memory replaced.
    #[test]
    fn damaged_memory_never_panics(
        damage in prop::collection::vec((0usize..64 << 10, any::<u64>()), 1..40), seed in any::<u8>(),
    ) {
        let mut f = Fixture::new();
        let entry = |key: u32| (key, vec![seed; 8]);
        f.hash("by_pid", 1, 6, &[&[entry(7), entry(8)], &[entry(9)]]);
        f.hash("per_cpu", 5, 4, &[&[(1, 0x200u64.to_le_bytes().to_vec())]]);
        let at = f.map("counts", 6, 4, 4, 2, 32);
        f.guest.write_u64(at + 104, 0x40);
        for (place, word) in damage {
            f.guest.ram.write_u64((0x1_0000 + place as u64) & !7, word);
        }
        let caps = MapCaps { total_bytes: 1 << 20, bucket_bytes: 1 << 20, ..MapCaps::default() };
        f.read(caps);
    }
}
