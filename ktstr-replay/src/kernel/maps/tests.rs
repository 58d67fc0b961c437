//! Maps of a kernel, whatever its layouts: what is read is where its BTF says.

use proptest::prelude::*;

use super::*;
use crate::kernel::{Caps, KernelView, SampleReader, SampleState};
use crate::testing::btf::Builder;
use crate::testing::memory::Chaos;
use crate::testing::{Guest, Object, SEEDS};
use crate::trace::record::{BlobRole, MapContents};
use crate::units::Cpu;

mod kinds;

struct Fixture {
    guest: Guest,
    node: Object,
    count: u32,
}

impl Fixture {
    fn new(seed: u64) -> Self {
        let mut guest = Guest::new(seed);
        guest.cpus(2);
        let node = guest.add("xa_node");
        let idr = guest.variable("map_idr", "idr");
        guest.set(idr, "idr_rt.xa_head", node.at + 2);
        Self { guest, node, count: 0 }
    }

    /// A map that is a struct `of` with `rest` bytes after it.
    fn map(&mut self, name: &str, of: &str, kind: u32, sizes: [u32; 3], rest: u64) -> Object {
        self.count += 1;
        let map = self.guest.add_with(of, rest);
        let prefix = if of == "bpf_map" { "" } else { "map." };
        self.guest.text(map, &format!("{prefix}name"), name);
        let [key, value, entries] = sizes;
        for (field, word) in [
            ("key_size", key),
            ("value_size", value),
            ("max_entries", entries),
            ("map_type", kind),
            ("id", self.count),
        ] {
            self.guest.set(map, &format!("{prefix}{field}"), word);
        }
        self.guest.set(self.node, &format!("slots[{}]", self.count), map);
        map
    }

    /// An array of values of that size, with room for 64 bytes.
    fn array(&mut self, name: &str, value: u32, entries: u32) -> Object {
        let map = self.map(name, "bpf_array", 2, [4, value, entries], 64);
        self.guest.set(map, "elem_size", value.next_multiple_of(8));
        map
    }

    /// A hash map of `u32` keys whose chains are lists of (key, bytes after the key, padded to 8).
    fn hash(&mut self, name: &str, kind: u32, value: u32, chains: &[&[(u32, Vec<u8>)]]) -> Object {
        let map = self.map(name, "bpf_htab", kind, [4, value, 8], 0);
        let buckets = self.guest.array("bucket", chains.len() as u64);
        self.guest.set(map, "n_buckets", chains.len() as u64);
        self.guest.set(map, "buckets", buckets[0]);
        for (n, chain) in chains.iter().enumerate() {
            let mut link = self.guest.part(buckets[n], "head.first");
            for (key, tail) in *chain {
                let element = self.guest.add_with("htab_elem", 8 + tail.len() as u64);
                self.guest.set(link, "", element);
                let key_at = self.guest.at(element, "key");
                self.guest.write_u32(key_at, *key);
                self.guest.write(key_at + 8, tail);
                link = self.guest.part(element, "hash_node.next");
            }
            self.guest.set(link, "", (n as u64) << 1 | 1);
        }
        map
    }

    /// A per-CPU `u32` whose copies are `first`, `first + 1`, ...; its place.
    fn per_cpu(&mut self, first: u32) -> u64 {
        let object = self.guest.per_cpu("", "u32");
        for cpu in 0..2u32 {
            self.guest.set(self.guest.on_cpu(object, cpu.into()), "", first + cpu);
        }
        object.at
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
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
        let map = f.array("demo.bss", 5, 3);
        let values = f.guest.at(map, "value");
        f.guest.write(values, b"aaaaa...bbbbb...ccccc...");
        let state = f.read(MapCaps::default());
        assert_eq!(state.faults, [""; 0]);
        let map = &state.maps[0];
        assert_eq!((map.id, map.name.as_str(), map.max_entries, map.btf), (1, "demo.bss", 3, None));
        assert_eq!(map.contents, MapContents::Array { values: b"aaaaabbbbbccccc".to_vec() });
    }
}

#[test]
fn per_cpu_values_are_read_for_each_cpu() {
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
        let map = f.map("counts", "bpf_array", 6, [4, 4, 2], 32);
        for (index, first) in [(0, 0), (1, 10)] {
            let place = f.per_cpu(first);
            f.guest.set(map, &format!("pptrs[{index}]"), place);
        }
        let state = f.read(MapCaps::default());
        let values = [0u32, 1, 10, 11].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(state.maps[0].contents, MapContents::PerCpuArray { cpus: vec![Cpu(0), Cpu(1)], values });
    }
}

#[test]
fn chains_of_all_buckets_are_walked() {
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
        let entry = |key: u32| (key, vec![key as u8; 8]);
        f.hash("by_pid", 1, 6, &[&[entry(7), entry(8)], &[], &[entry(9)]]);
        f.hash("lru", 9, 8, &[&[entry(3)]]);
        let place = f.per_cpu(50);
        f.hash("per_cpu", 5, 4, &[&[(1, place.to_le_bytes().to_vec())]]);
        let state = f.read(MapCaps::default());
        assert_eq!(state.faults, [""; 0]);
        let keys = |list: &[u32]| list.iter().flat_map(|key| key.to_le_bytes()).collect::<Vec<u8>>();
        let contents: Vec<&MapContents> = state.maps.iter().map(|map| &map.contents).collect();
        assert_eq!(
            contents,
            [
                &MapContents::Hash { keys: keys(&[7, 8, 9]), values: [[7; 6], [8; 6], [9; 6]].concat() },
                &MapContents::Hash { keys: keys(&[3]), values: vec![3; 8] },
                &MapContents::PerCpuHash {
                    cpus: vec![Cpu(0), Cpu(1)],
                    keys: keys(&[1]),
                    values: keys(&[50, 51])
                },
            ]
        );
    }
}

#[test]
fn a_chain_that_loops_keeps_what_was_found_and_says_so() {
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
        let map = f.hash("loop", 1, 4, &[&[(1, vec![1; 8])]]);
        let buckets = f.guest.word(f.guest.at(map, "buckets"));
        let element = f.guest.word(buckets + f.guest.offset("bucket", "head.first"));
        let next = element + f.guest.offset("htab_elem", "hash_node.next");
        f.guest.write_u64(next, element);
        let state = f.read(MapCaps::default());
        assert_eq!(state.faults, ["BPF map 1 `loop`: its chains go in circles after 9 entries"]);
        match &state.maps[0].contents {
            MapContents::Hash { keys, .. } => assert_eq!(keys.len(), 9 * 4),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_goes_over_the_caps_is_cut_and_said() {
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
        for name in ["one", "two", "three"] {
            f.array(name, 8, 4);
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
}

#[test]
fn a_map_without_a_reader_and_one_that_is_torn_are_unread() {
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
        f.map("bloom", "bpf_map", 30, [0, 8, 4], 64);
        f.map("future", "bpf_map", 99, [4, 8, 4], 64);
        let map = f.hash("torn", 1, 4, &[&[]]);
        f.guest.set(map, "buckets", 0xffff_c900_0000_0000u64);
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
}

#[test]
fn the_types_of_maps_are_given_once() {
    for seed in SEEDS {
        let mut f = Fixture::new(seed);
        let mut program = Builder::new();
        program.unsigned("u32", 4);
        let blob = program.blob();
        let data = f.guest.put(&blob);
        let btf = f.guest.add("btf");
        f.guest.set(btf, "id", 77u32);
        f.guest.set(btf, "data_size", blob.len() as u64);
        f.guest.set(btf, "data", data);
        for name in ["one", "two"] {
            let map = f.array(name, 4, 1);
            f.guest.set(map, "map.btf", btf);
            f.guest.set(map, "map.btf_value_type_id", 1u32);
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
}

#[test]
fn a_kernel_that_lacks_a_field_is_named() {
    for seed in SEEDS {
        let mut guest = Guest::lacking(seed, &["idr.idr_rt"]);
        guest.variable("map_idr", "idr");
        let node = guest.add("xa_node");
        let state = Fixture { guest, node, count: 0 }.read(MapCaps::default());
        assert!(
            state
                .faults
                .contains(&"BPF maps: `struct idr` of kernel 6.99-test has no field `idr_rt.xa_head`".into()),
            "{:?}",
            state.faults
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Memory in which everything points everywhere: reading ends, within its caps.
    #[test]
    fn hostile_memory_is_read_within_bounds(layout in SEEDS, seed in any::<u64>()) {
        let f = Fixture::new(layout);
        let profile = f.guest.profile();
        let memory = Chaos(seed);
        let caps = MapCaps { maps: 64, total_bytes: 1 << 20, bucket_bytes: 1 << 20, ..MapCaps::default() };
        let state = SampleReader::new(Caps { maps: caps }).read(&KernelView::new(&profile, &memory));
        prop_assert!(state.maps.len() <= 64);
    }

    /// A sound kernel with some words of its memory replaced.
    #[test]
    fn damaged_memory_never_panics(
        layout in SEEDS, damage in prop::collection::vec((0usize..64 << 10, any::<u64>()), 1..40), seed in any::<u8>(),
    ) {
        let mut f = Fixture::new(layout);
        let entry = |key: u32| (key, vec![seed; 8]);
        f.hash("by_pid", 1, 6, &[&[entry(7), entry(8)], &[entry(9)]]);
        let place = f.per_cpu(0);
        f.hash("per_cpu", 5, 4, &[&[(1, place.to_le_bytes().to_vec())]]);
        let map = f.map("counts", "bpf_array", 6, [4, 4, 2], 32);
        f.guest.set(map, "pptrs[0]", place);
        for (place, word) in damage {
            f.guest.ram.write_u64((0x1_0000 + place as u64) & !7, word);
        }
        let caps = MapCaps { total_bytes: 1 << 20, bucket_bytes: 1 << 20, ..MapCaps::default() };
        f.read(caps);
    }
}
