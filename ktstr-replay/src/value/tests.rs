//! Values over hand-made types: what each accessor gives, and what each error says.

use std::sync::Arc;

use proptest::prelude::*;

use super::snapshot::{BlobError, Blobs};
use super::*;
use crate::btf::{TypeId, Types};
use crate::testing::btf::Builder;
use crate::trace::record::{BlobId, CaptureKind, MapContents, MapState, Sample};
use crate::units::{Cpu, GuestNs, HostNs};

mod schedulers;

struct Fixture {
    types: Arc<Types>,
    task: TypeId,
    bss: TypeId,
    data: TypeId,
    u32: TypeId,
    counter: TypeId,
}

/// `struct task { u64 pid; char comm[8]; enum state state; union { u32 flags; u8 first; }; int low:3; u32 high:7;
/// struct counter { u64 nr[3]; double load; } ctr; void *next; bool on; }`
fn fixture() -> Fixture {
    let mut b = Builder::new();
    let u8 = b.unsigned("u8", 1);
    let u32 = b.unsigned("u32", 4);
    let u64 = b.unsigned("u64", 8);
    let int = b.signed("int", 4);
    let char = b.signed("char", 1);
    let double = b.float("double", 8);
    let boolean = b.boolean();
    let comm = b.array(char, 8);
    let state = b.enumeration("state", &[("RUNNING", 0), ("DEAD", -2)]);
    let nr = b.array(u64, 3);
    let counter = b.structure("counter", 32, &[("nr", nr, 0, 0), ("load", double, 192, 0)]);
    let counter_t = b.typedef("counter_t", counter);
    let inner = b.union("", 4, &[("flags", u32, 0, 0), ("first", u8, 0, 0)]);
    let pointer = b.pointer(counter);
    let task = b.structure(
        "task",
        80,
        &[
            ("pid", u64, 0, 0),
            ("comm", comm, 64, 0),
            ("state", state, 128, 0),
            ("", inner, 160, 0),
            ("low", int, 192, 3),
            ("high", u32, 195, 7),
            ("ctr", counter_t, 256, 0),
            ("next", pointer, 512, 0),
            ("on", boolean, 576, 0),
        ],
    );
    let bss =
        b.section(".bss", 96, &[("nr_dispatched", u64, 0, 8), ("task", task, 8, 80), ("shared", u64, 88, 8)]);
    let data = b.section(".data", 16, &[("knob", int, 0, 4), ("shared", u64, 8, 8)]);
    Fixture { types: Arc::new(b.types()), task, bss, data, u32, counter }
}

fn task_bytes() -> Vec<u8> {
    let mut bytes = vec![0u8; 80];
    bytes[0..8].copy_from_slice(&77u64.to_le_bytes());
    bytes[8..12].copy_from_slice(b"cat\0");
    bytes[16..20].copy_from_slice(&(-2i32).to_le_bytes());
    bytes[20..24].copy_from_slice(&0x1234_5678u32.to_le_bytes());
    // low = -3 in bits 0-2, high = 0x55 in bits 3-9.
    bytes[24..28].copy_from_slice(&(0b101u32 | 0x55 << 3).to_le_bytes());
    for (index, value) in [10u64, 20, u64::MAX].into_iter().enumerate() {
        bytes[32 + index * 8..40 + index * 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes[56..64].copy_from_slice(&1.5f64.to_le_bytes());
    bytes[64..72].copy_from_slice(&0xffff_8880_0000_1000u64.to_le_bytes());
    bytes[72] = 1;
    bytes
}

#[test]
fn every_sort_of_member_reads() {
    let f = fixture();
    let bytes = task_bytes();
    let task = Value::new(&f.types, f.task, &bytes).unwrap();
    let get = |path: &str| task.path(path).unwrap();
    assert_eq!(get("pid").as_u64().unwrap(), 77);
    assert_eq!(get("comm").as_str().unwrap(), "cat");
    assert_eq!(get("comm[1]").as_i64().unwrap(), i64::from(b'a'));
    assert_eq!(get("state").as_i64().unwrap(), -2);
    assert_eq!(get("state").as_str().unwrap(), "DEAD");
    assert_eq!(get("flags").as_u64().unwrap(), 0x1234_5678);
    assert_eq!(get("first").as_u64().unwrap(), 0x78);
    assert_eq!(get("low").as_i64().unwrap(), -3);
    assert_eq!(get("high").as_u64().unwrap(), 0x55);
    assert_eq!(get("ctr.nr[2]").as_u64().unwrap(), u64::MAX);
    assert_eq!(get("ctr.load").as_f64().unwrap(), 1.5);
    assert_eq!(get("next").as_u64().unwrap(), 0xffff_8880_0000_1000);
    assert!(get("on").as_bool().unwrap());
    let nr: Vec<u64> = get("ctr.nr").as_array().unwrap().iter().map(|one| one.as_u64().unwrap()).collect();
    assert_eq!(nr, [10, 20, u64::MAX]);
    assert_eq!(get("").type_id(), f.task);
}

#[test]
fn errors_say_how_far_a_path_got_and_what_is_there() {
    let f = fixture();
    let bytes = task_bytes();
    let task = Value::new(&f.types, f.task, &bytes).unwrap();
    let error = |path: &str| task.path(path).unwrap_err().to_string();
    assert_eq!(
        error("ctr.nt"),
        "`ctr.nt`: `ctr` is a `counter_t`, which has no `nt`; did you mean `nr`?; there are: nr, load"
    );
    assert_eq!(error("ctr.nr[3]"), "`ctr.nr[3]`: `ctr.nr` has 3 elements, so there is no [3]");
    assert_eq!(error("pid[0]"), "`pid[0]`: `pid` is a `u64`, not an array, so it has no [0]");
    assert_eq!(error("pid.x"), "`pid.x`: `pid` is a `u64` and has no members, so there is no `x` in it");
    let value = |path: &str| task.path(path).unwrap();
    assert_eq!(value("ctr").as_u64().unwrap_err().to_string(), "a `counter_t` is not a number");
    assert_eq!(value("state").as_u64().unwrap_err().to_string(), "-2 does not fit 64 unsigned bits");
    assert_eq!(value("ctr.load").as_i64().unwrap_err().to_string(), "a `double` is not an integer");
    assert_eq!(
        Value::new(&f.types, f.task, &bytes[..79]).unwrap_err().to_string(),
        "a `struct task` needs bytes up to 80, and 79 were recorded"
    );
}

#[test]
fn text_and_json_show_the_same() {
    let f = fixture();
    let bytes = task_bytes();
    let task = Value::new(&f.types, f.task, &bytes).unwrap();
    assert_eq!(
        task.render(),
        "{pid=77, comm=\"cat\", state=DEAD, {flags=305419896, first=120}, low=-3, high=85, \
         ctr={nr=[10, 20, 18446744073709551615], load=1.5}, next=0xffff888000001000, on=true}"
    );
    assert_eq!(
        task.to_json(),
        serde_json::json!({
            "pid": 77, "comm": "cat", "state": "DEAD", "flags": 305_419_896, "first": 120, "low": -3, "high": 85,
            "ctr": { "nr": [10, 20, u64::MAX], "load": 1.5 }, "next": "0xffff888000001000", "on": true,
        })
    );
}

#[test]
fn runs_of_equal_elements_are_shown_once() {
    let mut b = Builder::new();
    let u32 = b.unsigned("u32", 4);
    let many = b.array(u32, 7);
    let types = b.types();
    let mut bytes = [0u8; 28];
    bytes[0] = 9;
    let value = Value::new(&types, many, &bytes).unwrap();
    assert_eq!(value.render(), "[9, 0 x6]");
}

#[test]
fn comparison_is_exact_and_refuses_what_has_no_order() {
    let f = fixture();
    let bytes = task_bytes();
    let task = Value::new(&f.types, f.task, &bytes).unwrap();
    let get = |path: &str| task.path(path).unwrap();
    assert_eq!(get("ctr.nr[2]").compare(&get("state")), Some(std::cmp::Ordering::Greater));
    assert_eq!(get("ctr.load").compare(&get("low")), Some(std::cmp::Ordering::Greater));
    assert_eq!(get("comm").compare(&get("pid")), None);
    assert_eq!(get("ctr").compare(&get("ctr")), None);
    assert!(get("ctr").same(&get("ctr")));
    assert!(!get("ctr.nr[0]").same(&get("ctr.nr[1]")));
}

struct OneBlob(Arc<Types>);

impl Blobs for OneBlob {
    fn types(&self, id: &BlobId) -> Result<Arc<Types>, BlobError> {
        if id[0] == 0xee { Err(BlobError::Absent) } else { Ok(self.0.clone()) }
    }
}

fn map(id: u32, name: &str, value_type: TypeId, value_size: u32, contents: MapContents) -> MapState {
    MapState {
        id,
        name: name.into(),
        map_type: 2,
        key_size: 4,
        value_size,
        max_entries: 1,
        btf: Some([1; 16]),
        key_type_id: 0,
        value_type_id: value_type.0,
        contents,
    }
}

fn sample(maps: Vec<MapState>) -> Sample {
    Sample { maps, ..Sample::new(0, "periodic_000", CaptureKind::Periodic, GuestNs(0), HostNs(0)) }
}

fn sections(f: &Fixture) -> Vec<MapState> {
    let mut bss = vec![0u8; 96];
    bss[0] = 5;
    bss[8..88].copy_from_slice(&task_bytes());
    bss[88] = 6;
    let mut data = vec![0u8; 16];
    data[..4].copy_from_slice(&(-1i32).to_le_bytes());
    data[8] = 7;
    vec![
        map(1, "demo.bss", f.bss, 96, MapContents::Array { values: bss }),
        map(2, "demo.data", f.data, 16, MapContents::Array { values: data }),
    ]
}

#[test]
fn variables_are_found_by_bare_and_by_qualified_name() {
    let f = fixture();
    let sample = sample(sections(&f));
    let snapshot = Snapshot::new(&sample, &OneBlob(f.types.clone()));
    for path in ["nr_dispatched", "bss.nr_dispatched", ".bss.nr_dispatched", "demo.bss.nr_dispatched"] {
        assert_eq!(snapshot.var(path).unwrap().as_u64().unwrap(), 5, "{path}");
    }
    assert_eq!(snapshot.var("task.ctr.nr[1]").unwrap().as_u64().unwrap(), 20);
    assert_eq!(snapshot.var("knob").unwrap().as_i64().unwrap(), -1);
    assert_eq!(
        snapshot.var("shared").unwrap_err().to_string(),
        "`shared` is in several data sections: write demo.bss.shared or demo.data.shared"
    );
    assert_eq!(snapshot.var("data.shared").unwrap().as_u64().unwrap(), 7);
    assert_eq!(
        snapshot.var("nr_dispatchd").unwrap_err().to_string(),
        "there is no variable `nr_dispatchd` in the data sections of demo.bss, demo.data; did you mean \
         `nr_dispatched`?; there are: nr_dispatched, shared, task, knob"
    );
    assert!(matches!(snapshot.var("task.nope"), Err(ValueError::NoField { .. })));
    assert_eq!(snapshot.vars().len(), 5);
}

#[test]
fn a_second_object_does_not_shadow_the_scheduler() {
    let f = fixture();
    let mut maps = sections(&f);
    let mut other = maps[0].clone();
    (other.id, other.name, other.btf) = (3, "other.bss".into(), Some([2; 16]));
    maps.push(other);
    let both = sample(maps.clone());
    let snapshot = Snapshot::new(&both, &OneBlob(f.types.clone()));
    assert!(matches!(snapshot.var("nr_dispatched"), Err(ValueError::AmbiguousVariable { .. })));
    // A struct_ops map of the same object decides.
    let mut ops = map(4, "ops", TypeId(0), 0, MapContents::Unread { why: "no reader".into() });
    ops.map_type = 26;
    maps.push(ops);
    let scheduler = sample(maps);
    let snapshot = Snapshot::new(&scheduler, &OneBlob(f.types.clone()));
    assert_eq!(snapshot.var("nr_dispatched").unwrap().as_u64().unwrap(), 5);
    assert_eq!(snapshot.var("other.bss.nr_dispatched").unwrap().as_u64().unwrap(), 5);
}

#[test]
fn entries_are_found_by_index_key_and_cpu() {
    let f = fixture();
    let mut hash = map(
        5,
        "by_pid",
        f.u32,
        4,
        MapContents::Hash {
            keys: [1u32.to_le_bytes(), 9u32.to_le_bytes()].concat(),
            values: vec![3, 0, 0, 0, 4, 0, 0, 0],
        },
    );
    hash.key_type_id = f.u32.0;
    let mut values = Vec::new();
    for n in [1u64, 2, 3, 4] {
        values.extend([n, n * 10, 0].iter().flat_map(|word| word.to_le_bytes()));
        values.extend(f64::to_le_bytes(n as f64 / 2.0));
    }
    let per_cpu = map(
        6,
        "per_cpu_counter",
        f.counter,
        32,
        MapContents::PerCpuArray { cpus: vec![Cpu(0), Cpu(1)], values },
    );
    let sample = sample(vec![hash, per_cpu]);
    let snapshot = Snapshot::new(&sample, &OneBlob(f.types.clone()));

    let by_pid = snapshot.map("by_pid").unwrap();
    assert_eq!(by_pid.get_key(9).unwrap().value().unwrap().as_u64().unwrap(), 4);
    assert_eq!(by_pid.at(0).unwrap().key().unwrap().as_u64().unwrap(), 1);
    assert_eq!(by_pid.max_by("").unwrap().key().unwrap().as_u64().unwrap(), 9);
    assert_eq!(
        by_pid.get_key(2).unwrap_err().to_string(),
        "map `by_pid` has no entry with key 2 (it has 2 entries)"
    );
    assert!(by_pid.get_key(1 << 40).is_err());
    let last = by_pid.at(1).unwrap();
    let bytes = (last.key_bytes(), last.value_bytes());
    assert_eq!(bytes, (Some(&[9, 0, 0, 0][..]), &[4, 0, 0, 0][..]));

    // The kernel cut the name to 15 characters.
    let counter = snapshot.map("per_cpu_counter_of_demo").unwrap();
    assert_eq!(counter.len().unwrap(), 2);
    let entry = counter.at(1).unwrap();
    assert_eq!(entry.cpu(Cpu(1)).unwrap().path("nr[1]").unwrap().as_u64().unwrap(), 40);
    assert_eq!(entry.cpu_sum("nr[0]").unwrap(), Scalar::Int(7));
    assert_eq!(entry.cpu_sum("load").unwrap(), Scalar::Float(3.5));
    assert_eq!(entry.cpu_min("nr[0]").unwrap(), (Cpu(0), Scalar::Int(3)));
    assert_eq!(entry.cpu_max("nr[0]").unwrap(), (Cpu(1), Scalar::Int(4)));
    assert!(matches!(entry.value(), Err(ValueError::PerCpu { .. })));
    assert!(matches!(entry.cpu(Cpu(2)), Err(ValueError::NoCpu { .. })));
    assert!(matches!(counter.at(2), Err(ValueError::NoEntry { .. })));
    assert!(matches!(snapshot.map("nope"), Err(ValueError::NoMap { .. })));
}

/// A map that was declared by sizes alone.
fn untyped(id: u32, name: &str, key_size: u32, value_size: u32, contents: MapContents) -> MapState {
    MapState { btf: None, key_size, ..map(id, name, TypeId(0), value_size, contents) }
}

/// `enum stat { STAT_HITS, STAT_MISSES, STAT_BACK = -1 }` beside the other types.
fn with_enumerators() -> Arc<Types> {
    let mut b = Builder::new();
    let u32 = b.unsigned("u32", 4);
    let pair = b.structure("pair", 8, &[("a", u32, 0, 0), ("b", u32, 32, 0)]);
    b.enumeration("stat", &[("STAT_HITS", 0), ("STAT_MISSES", 1), ("STAT_BACK", -1)]);
    let nr = b.array(u32, 2);
    b.section(".bss", 24, &[("nr", nr, 0, 8), ("pair", pair, 8, 8), ("last", u32, 16, 4)]);
    Arc::new(b.types())
}

#[test]
fn values_and_keys_without_a_type_are_numbers_of_their_width() {
    let types = with_enumerators();
    let bss = types.find(crate::btf::Kind::Datasec, ".bss").unwrap();
    let mut maps = vec![map(1, "demo.bss", bss, 24, MapContents::Array { values: vec![0; 24] })];
    let per_cpu = |values: &[u64]| MapContents::PerCpuArray {
        cpus: vec![Cpu(0), Cpu(1)],
        values: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    maps.push(untyped(2, "stats", 4, 8, per_cpu(&[5, 6, 1 << 40, 1])));
    for (id, size) in [(3, 1usize), (4, 2), (5, 4), (6, 8)] {
        let values = [0xff; 8][..size].iter().copied().chain([0; 8]).take(2 * size).collect();
        maps.push(untyped(id, &format!("of{size}"), 4, size as u32, MapContents::Array { values }));
    }
    let pairs = MapContents::Hash { keys: vec![9, 0, 7, 0], values: (0u8..24).collect() };
    maps.push(untyped(7, "pairs", 2, 12, pairs));
    let sample = sample(maps);
    let snapshot = Snapshot::new(&sample, &OneBlob(types.clone()));
    let stats = snapshot.map("stats").unwrap();
    assert_eq!(stats.at(0).unwrap().cpu_sum("").unwrap(), Scalar::Int(11));
    assert_eq!(stats.at(1).unwrap().cpu(Cpu(0)).unwrap().as_u64().unwrap(), 1 << 40);
    for (name, value) in [("of1", 0xff), ("of2", 0xffff), ("of4", 0xffff_ffff), ("of8", u64::MAX)] {
        let value_of = snapshot.map(name).unwrap().at(0).unwrap();
        assert_eq!(value_of.value().unwrap().as_u64().unwrap(), value, "{name}");
        assert_eq!(value_of.get("(signed char)").unwrap().as_i64().unwrap(), -1, "{name}");
    }
    // The value of another size has to be cast, to any type of the program's.
    let pairs = snapshot.map("pairs").unwrap();
    let entry = pairs.get_key(7).unwrap();
    assert_eq!(entry.key().unwrap().as_u64().unwrap(), 7);
    assert!(entry.value().unwrap_err().to_string().contains("12 bytes are no number: cast them"));
    assert_eq!(entry.get("((struct pair)).b").unwrap().as_u64().unwrap(), 0x1312_1110);
    let misspelt = entry.get("((struct pari)).b").unwrap_err().to_string();
    assert!(misspelt.contains("has a type `struct pari`; did you mean `pair`?"), "{misspelt}");
    let none = entry.get(".b").unwrap_err().to_string();
    assert!(none.starts_with("nothing says what its 12 bytes are: write a type before it"), "{none}");
}

#[test]
fn enumerators_of_the_program_are_indices() {
    let types = with_enumerators();
    let bss = types.find(crate::btf::Kind::Datasec, ".bss").unwrap();
    let values = vec![1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
    let maps = vec![
        map(1, "demo.bss", bss, 24, MapContents::Array { values }),
        untyped(2, "stats", 4, 2, MapContents::Array { values: vec![7, 0, 8, 0] }),
        untyped(3, "by_stat", 8, 1, MapContents::Hash { keys: vec![0xff; 8], values: vec![9] }),
    ];
    let sample = sample(maps);
    let snapshot = Snapshot::new(&sample, &OneBlob(types.clone()));
    assert_eq!(snapshot.var("nr[STAT_MISSES]").unwrap().as_u64().unwrap(), 2);
    assert_eq!(snapshot.constant("STAT_BACK").unwrap(), -1);
    let of = |name: &str, entry: &crate::path::EntryKey| {
        let map = snapshot.map(name).unwrap();
        map.entry_of(entry).and_then(|entry| entry.value()?.as_u64()).map_err(|error| error.to_string())
    };
    use crate::path::EntryKey::{AtNamed, KeyNamed};
    assert_eq!(of("stats", &AtNamed("STAT_MISSES".into())), Ok(8));
    assert_eq!(of("by_stat", &KeyNamed("STAT_BACK".into())), Ok(9), "a key of -1");
    let error = of("stats", &AtNamed("STAT_MISES".into())).unwrap_err();
    assert!(
        error.starts_with("no enumerator `STAT_MISES`") && error.contains("did you mean `STAT_MISSES`?"),
        "{error}"
    );
    assert_eq!(of("stats", &AtNamed("STAT_BACK".into())).unwrap_err(), "STAT_BACK=-1 does not fit an index");
}

#[test]
fn casts_convert_numbers_as_c_does() {
    let f = fixture();
    let bytes = task_bytes();
    let task = Value::new(&f.types, f.task, &bytes).unwrap();
    let get = |path: &str| task.path(path).and_then(|value| value.scalar());
    for (path, number) in [
        ("(s64)ctr.nr[2]", -1),
        ("(u8)flags", 0x78),
        ("(u64)state", i128::from(u64::MAX - 1)),
        ("(u32)state", 0xffff_fffe),
        ("(s64)low", -3),
        ("(int)ctr.load", 1),
        ("(u16)(s8)first", 0x78),
        ("(enum state)flags", 0x1234_5678),
    ] {
        assert_eq!(get(path), Ok(Scalar::Int(number)), "{path}");
    }
    assert_eq!(get("(bool)flags"), Ok(Scalar::Bool(true)));
    assert_eq!(get("(double)flags"), Ok(Scalar::Float(f64::from(0x1234_5678u32))));
    let pointer = task.path("(struct counter *)ctr.nr[0]").unwrap();
    assert_eq!(pointer.type_name(), "struct counter *");
    assert_eq!(pointer.scalar(), Ok(Scalar::Pointer(10)));
    assert_eq!(pointer.render(), "0xa");
    assert_eq!(
        task.path("((struct counter)next).nr").unwrap_err().to_string(),
        "a `struct counter` needs bytes up to 32, and 8 were recorded"
    );
    let error = task.path("((struct counter *)ctr.nr[0])->nr[0]").unwrap_err().to_string();
    assert!(error.contains("into the kernel's memory, which only claims and `--var` read"), "{error}");
}

#[test]
fn a_tree_says_in_words_what_it_is() {
    let mut b = Builder::new();
    let u64 = b.unsigned("u64", 8);
    let opaque = b.array(u64, 2);
    let root = b.structure("bpf_rb_root", 16, &[("__opaque", opaque, 0, 0)]);
    let head = b.structure("bpf_list_head", 16, &[("__opaque", opaque, 0, 0)]);
    let ctx = b.structure("ctx", 48, &[("", u64, 0, 0), ("tree", root, 64, 0), ("plain", head, 192, 0)]);
    b.declaration_tag("contains:node:rb", ctx, Some(1));
    let types = b.types();
    let mut bytes = vec![0u8; 48];
    bytes[24] = 1;
    let value = Value::new(&types, ctx, &bytes).unwrap();
    let tree = value.path("tree").unwrap();
    assert_eq!(tree.container().unwrap().of, Some(("node", "rb")));
    assert_eq!(tree.render(), "<a tree of struct node: empty>");
    assert!(
        value.to_json()["plain"].as_str().unwrap().contains("it has no `contains` tag"),
        "{}",
        value.to_json()
    );
    let error = tree.scalar().unwrap_err().to_string();
    assert_eq!(
        error,
        "it is a tree of struct node: ask `count(..)` of it, or `[0]` and a member for one of its nodes"
    );
    assert!(value.path("tree[0].x").unwrap_err().may_be_in_memory());
}

#[test]
fn what_was_not_recorded_is_said() {
    let f = fixture();
    let mut maps = sections(&f);
    maps[0].contents = MapContents::Unread { why: "its page was torn".into() };
    maps[1].btf = Some([0xee; 16]);
    let mut sample = sample(maps);
    let snapshot = Snapshot::new(&sample, &OneBlob(f.types.clone()));
    assert_eq!(
        snapshot.var("nr_dispatched").unwrap_err().to_string(),
        "map `demo.bss` was not read when the sample was taken: its page was torn"
    );
    assert_eq!(
        snapshot.map("demo.data").unwrap().at(0).unwrap().value().unwrap_err().to_string(),
        "map `demo.data` has no usable types: their BTF is not in the trace"
    );
    sample.missed = Some("the guest had died".into());
    let snapshot = Snapshot::new(&sample, &OneBlob(f.types.clone()));
    assert_eq!(
        snapshot.var("nr_dispatched").unwrap_err().to_string(),
        "this capture was not taken: the guest had died"
    );
}

#[test]
fn nesting_without_end_is_cut_off() {
    // Each struct holds two of the struct before it, all of size 0: 2^40 parts in no bytes.
    let mut b = Builder::new();
    let mut at = b.structure("s0", 0, &[]);
    for level in 1..40 {
        at = b.structure(&format!("s{level}"), 0, &[("a", at, 0, 0), ("b", at, 0, 0)]);
    }
    let types = b.types();
    let value = Value::new(&types, at, &[]).unwrap();
    assert!(value.render().contains("..."));
    assert!(value.to_json().to_string().contains("..."));
}

proptest! {
    /// Any bytes patched into a valid blob: opening, describing and showing every type ends without a panic.
    #[test]
    fn damaged_types_never_panic(
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        bytes in prop::collection::vec(any::<u8>(), 0..128),
    ) {
        let f = fixture();
        let mut blob = f.types.bytes().to_vec();
        for (at, byte) in patches {
            let at = at.index(blob.len());
            blob[at] = byte;
        }
        if let Ok(types) = Types::parse(blob) {
            for id in 0..types.count() as u32 {
                if let Ok(value) = Value::new(&types, TypeId(id), &bytes) {
                    let _ = value.render();
                    let _ = value.to_json();
                    let _ = value.path("ctr.nr[1]");
                    let _ = value.parts();
                }
            }
        }
    }

    #[test]
    fn bitfields_of_any_place_agree_with_shifting(
        raw in any::<u64>(), start in 0u32..57, width in 1u32..8,
    ) {
        let mut b = Builder::new();
        let u64 = b.unsigned("u64", 8);
        let int = b.signed("long", 8);
        let id = b.structure("s", 8, &[("u", u64, start, width as u8), ("i", int, start, width as u8)]);
        let types = b.types();
        let bytes = raw.to_le_bytes();
        let value = Value::new(&types, id, &bytes).unwrap();
        let expected = (raw >> start) & ((1 << width) - 1);
        prop_assert_eq!(value.path("u").unwrap().as_u64().unwrap(), expected);
        let unused = 64 - width;
        let signed = ((expected << unused) as i64) >> unused;
        prop_assert_eq!(value.path("i").unwrap().as_i64().unwrap(), signed);
    }
}
