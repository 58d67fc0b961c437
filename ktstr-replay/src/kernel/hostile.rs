//! A whole kernel made by hand, right and then wrong: every reader of a checkpoint ends on it.

use proptest::prelude::*;

use super::cgroup::read_cgroups;
use super::cputime::read_cpu_times;
use super::dsq::{Dsqs, read_dsqs};
use super::log::read_log;
use super::runqueue::read_runqueue_details;
use super::scx::read_schedulers;
use super::task::{Tasks, read_tasks};
use super::testing::Guest;
use super::{KernelProfile, KernelView};
use crate::btf::TypeId;
use crate::btf::testing::Builder;

/// A member: name, type, offset in bytes.
type At<'a> = (&'a str, TypeId, u32);

fn put(b: &mut Builder, name: &str, bytes: u32, members: &[At<'_>]) -> TypeId {
    let members: Vec<_> = members.iter().map(|&(name, id, at)| (name, id, at * 8, 0)).collect();
    b.structure(name, bytes, &members)
}

/// Types as no kernel has them, with every field that the readers want.
fn types(b: &mut Builder) {
    let (u8, u16, u32, u64) =
        (b.unsigned("u8", 1), b.unsigned("u16", 2), b.unsigned("u32", 4), b.unsigned("u64", 8));
    let (int, s64, char) = (b.signed("int", 4), b.signed("s64", 8), b.signed("char", 1));
    let pointer = b.pointer(u64);
    let (name, words, none) = (b.array(char, 16), b.array(u64, 4), b.array(pointer, 0));
    let list = put(b, "list_head", 16, &[("next", pointer, 0), ("prev", pointer, 8)]);
    let rb = [("__rb_parent_color", u64, 0), ("rb_right", pointer, 8), ("rb_left", pointer, 16)];
    let rb = put(b, "rb_node", 24, &rb);
    let root = put(b, "rb_root", 8, &[("rb_node", pointer, 0)]);
    let rhash = put(b, "rhash_head", 8, &[("next", pointer, 0)]);
    let node = put(b, "scx_dsq_list_node", 24, &[("node", list, 0), ("flags", u32, 16)]);
    let entity: [At<'_>; 14] = [
        ("dsq", pointer, 0),
        ("ops_state", u64, 8),
        ("dsq_list", node, 16),
        ("dsq_priq", rb, 40),
        ("flags", u32, 64),
        ("weight", u32, 68),
        ("sticky_cpu", int, 72),
        ("holding_cpu", int, 76),
        ("selected_cpu", int, 80),
        ("runnable_node", list, 88),
        ("runnable_at", u64, 104),
        ("slice", u64, 112),
        ("dsq_vtime", u64, 120),
        ("ddsp_dsq_id", u64, 128),
    ];
    let entity = put(b, "sched_ext_entity", 136, &entity);
    let info = put(b, "thread_info", 16, &[("cpu", u32, 8)]);
    let se = put(b, "sched_entity", 8, &[("sum_exec_runtime", u64, 0)]);
    let task: [At<'_>; 25] = [
        ("thread_info", info, 0),
        ("__state", u32, 16),
        ("exit_state", u32, 20),
        ("flags", u32, 24),
        ("on_cpu", u8, 28),
        ("pid", int, 32),
        ("tgid", int, 36),
        ("comm", name, 40),
        ("sched_class", pointer, 56),
        ("policy", u32, 64),
        ("prio", int, 68),
        ("static_prio", int, 72),
        ("rt_priority", u32, 76),
        ("mm", pointer, 80),
        ("utime", u64, 88),
        ("stime", u64, 96),
        ("se", se, 104),
        ("nvcsw", u64, 112),
        ("nivcsw", u64, 120),
        ("nr_cpus_allowed", u32, 128),
        ("cgroups", pointer, 136),
        ("scx", entity, 144),
        ("tasks", list, 280),
        ("thread_node", list, 296),
        ("signal", pointer, 312),
    ];
    put(b, "task_struct", 320, &task);
    put(b, "signal_struct", 16, &[("thread_head", list, 0)]);
    put(b, "css_set", 8, &[("dfl_cgrp", pointer, 0)]);
    let css = put(b, "cgroup_subsys_state", 40, &[("sibling", list, 8), ("children", list, 24)]);
    let cgroup = [("self", css, 0), ("kn", pointer, 40), ("subsys", words, 48), ("level", int, 80)];
    let cgroup = put(b, "cgroup", 88, &cgroup);
    put(b, "cgroup_root", 96, &[("cgrp", cgroup, 8)]);
    put(b, "kernfs_node", 16, &[("__parent", pointer, 0), ("name", pointer, 8)]);
    put(b, "task_group", 48, &[("css", css, 0), ("shares", u64, 40)]);
    let dsq: [At<'_>; 6] = [
        ("list", list, 0),
        ("priq", root, 16),
        ("nr", u32, 24),
        ("seq", u32, 28),
        ("id", u64, 32),
        ("hash_node", rhash, 40),
    ];
    let dsq = put(b, "scx_dispatch_q", 48, &dsq);
    let table = put(b, "rhashtable", 8, &[("tbl", pointer, 0)]);
    let buckets = [("size", u32, 0), ("nest", u32, 4), ("future_tbl", pointer, 8), ("buckets", none, 16)];
    put(b, "bucket_table", 16, &buckets);
    let events = put(b, "scx_event_stats", 16, &[("SCX_EV_A", s64, 0), ("SCX_EV_B", s64, 8)]);
    put(b, "scx_sched_pcpu", 64, &[("event_stats", events, 0), ("bypass_dsq", dsq, 16)]);
    put(b, "scx_sched_pnode", 48, &[("global_dsq", dsq, 0)]);
    let ops = put(b, "sched_ext_ops", 32, &[("name", name, 0), ("flags", u64, 16)]);
    let sched: [At<'_>; 13] = [
        ("ops", ops, 0),
        ("dsq_hash", table, 32),
        ("pnode", pointer, 40),
        ("pcpu", pointer, 48),
        ("all", list, 56),
        ("exit_kind", u32, 72),
        ("exit_info", pointer, 80),
        ("level", int, 88),
        ("cgrp_path", pointer, 96),
        ("slice_dfl", u64, 104),
        ("bypass_depth", int, 112),
        ("aborting", u8, 116),
        ("watchdog_timeout", u64, 120),
    ];
    put(b, "scx_sched", 128, &sched);
    let exit: [At<'_>; 7] = [
        ("kind", u32, 0),
        ("exit_code", s64, 8),
        ("reason", pointer, 16),
        ("bt", pointer, 24),
        ("bt_len", u32, 32),
        ("msg", pointer, 40),
        ("dump", pointer, 48),
    ];
    put(b, "scx_exit_info", 56, &exit);
    let scx: [At<'_>; 6] = [
        ("local_dsq", dsq, 0),
        ("runnable_list", list, 48),
        ("nr_running", u32, 64),
        ("flags", u32, 68),
        ("clock", u64, 72),
        ("cpu_released", u8, 80),
    ];
    let scx = put(b, "scx_rq", 88, &scx);
    let rq: [At<'_>; 6] = [
        ("nr_running", u32, 0),
        ("curr", pointer, 8),
        ("idle", pointer, 16),
        ("nr_switches", u64, 24),
        ("clock", u64, 32),
        ("scx", scx, 40),
    ];
    put(b, "rq", 128, &rq);
    put(b, "clocksource", 8, &[("mult", u32, 0), ("shift", u32, 4)]);
    put(b, "kernel_cpustat", 32, &[("cpustat", words, 0)]);
    let ring: [At<'_>; 5] = [
        ("count_bits", u32, 0),
        ("descs", pointer, 8),
        ("infos", pointer, 16),
        ("head_id", u64, 24),
        ("tail_id", u64, 32),
    ];
    let ring = put(b, "prb_desc_ring", 40, &ring);
    let data = put(b, "prb_data_ring", 16, &[("size_bits", u32, 0), ("data", pointer, 8)]);
    put(
        b,
        "printk_ringbuffer",
        64,
        &[("desc_ring", ring, 0), ("text_data_ring", data, 40), ("fail", u64, 56)],
    );
    let block = put(b, "prb_data_blk_lpos", 16, &[("begin", u64, 0), ("next", u64, 8)]);
    put(b, "prb_desc", 24, &[("state_var", u64, 0), ("text_blk_lpos", block, 8)]);
    let info: [At<'_>; 6] = [
        ("seq", u64, 0),
        ("ts_nsec", u64, 8),
        ("text_len", u16, 16),
        ("facility", u8, 18),
        ("level", u8, 19),
        ("caller_id", u32, 20),
    ];
    put(b, "printk_info", 24, &info);
    b.enumeration("desc_state", &[("desc_miss", -1), ("desc_committed", 1), ("desc_finalized", 2)]);
    b.enumeration("cpu_usage_stat", &[("CPUTIME_USER", 0), ("CPUTIME_NICE", 1), ("NR_STATS", 2)]);
    b.enumeration("cgroup_subsys_id", &[("cpu_cgrp_id", 1)]);
    b.enumeration("scx_enable_state", &[("SCX_ENABLED", 1)]);
    b.enumeration("scx_ent_flags", &[("SCX_TASK_QUEUED", 1), ("SCX_TASK_STATE_MASK", 0x300)]);
    let ids =
        [("SCX_DSQ_FLAG_BUILTIN", 1 << 63), ("SCX_DSQ_INVALID", 1 << 63), ("SCX_DSQ_GLOBAL", (1 << 63) | 1)];
    b.enumeration64("scx_dsq_id_flags", &ids);
}

/// A kernel of one CPU that idles while two tasks wait in queue 7, the second by fault of nobody; and where its words are.
pub(crate) fn kernel() -> (Guest, std::ops::Range<u64>) {
    let mut guest = Guest::new();
    types(&mut guest.types);
    guest.cpus(1);
    let first = guest.alloc(0);
    let ring = |guest: &mut Guest, nodes: &[u64]| {
        for (at, next) in nodes.iter().zip(nodes.iter().cycle().skip(1)) {
            guest.write_u64(*at, *next);
        }
    };
    // init_task, then the two that wait.
    let init = guest.variable("init_task", 320);
    let (one, two) = (guest.alloc(320), guest.alloc(320));
    ring(&mut guest, &[init + 280, one + 280, two + 280]);
    let dsq = guest.alloc(48);
    for (pid, task) in [(101u32, one), (102, two)] {
        let signal = guest.alloc(16);
        ring(&mut guest, &[signal, task + 296]);
        guest.write_u64(task + 312, signal);
        guest.write_u32(task + 32, pid);
        guest.write(task + 40, b"waits");
        guest.write_u64(task + 144, dsq);
        guest.write_u64(task + 144 + 104, 500);
    }
    // Their queue, by list and by tree: `two` is the root, and `one` its left.
    ring(&mut guest, &[dsq, one + 144 + 16, two + 144 + 16]);
    guest.write_u64(dsq + 16, two + 144 + 40);
    guest.write_u64(two + 144 + 40 + 16, one + 144 + 40);
    guest.write_u32(dsq + 24, 2);
    guest.write_u64(dsq + 32, 7);
    // The scheduler, with a table of two buckets; the queue is in the second.
    let sched = guest.alloc(128);
    guest.write(sched, b"demo");
    let table = guest.alloc(32);
    guest.write_u32(table, 2);
    guest.write_u64(table + 16 + 8, dsq + 40);
    guest.write_u64(dsq + 40, table + 17);
    guest.write_u64(sched + 32, table);
    let nodes = guest.alloc(8);
    let global = guest.alloc(48);
    ring(&mut guest, &[global]);
    guest.write_u64(global + 32, (1 << 63) | 1);
    guest.write_u64(nodes, global);
    guest.write_u64(sched + 40, nodes);
    let root = guest.variable("scx_root", 8);
    guest.write_u64(root, sched);
    let all = guest.variable("scx_sched_all", 16);
    ring(&mut guest, &[all, sched + 56]);
    let state = guest.variable("scx_enable_state_var", 4);
    guest.write_u32(state, 1);
    // The runqueue, in per-CPU memory, and the per-CPU part of the scheduler after it.
    guest.symbol("runqueues", 0x100);
    let rq = Guest::on_cpu(0x100, 0);
    guest.write_u64(rq + 8, init);
    guest.write_u64(rq + 16, init);
    ring(&mut guest, &[rq + 40]);
    ring(&mut guest, &[rq + 40 + 48, one + 144 + 88, two + 144 + 88]);
    guest.write_u64(sched + 48, 0x200);
    ring(&mut guest, &[Guest::on_cpu(0x210, 0)]);
    guest.symbol("kernel_cpustat", 0x300);
    guest.write_u64(Guest::on_cpu(0x300, 0), 5_000_000);
    let clock = guest.variable("clocksource_jiffies", 8);
    guest.write_u32(clock, 4_000_000 << 8);
    guest.write_u32(clock + 4, 8);
    let jiffies = guest.variable("jiffies_64", 8);
    guest.write_u64(jiffies, 1000);
    // A tree of one cgroup below the root.
    let groups = guest.variable("cgrp_dfl_root", 96) + 8;
    let child = guest.alloc(88);
    ring(&mut guest, &[groups + 24, child + 8]);
    ring(&mut guest, &[child + 24]);
    let (top, below, name) = (guest.alloc(16), guest.alloc(16), guest.put(b"cg_0\0"));
    guest.write_u64(groups + 40, top);
    guest.write_u64(child + 40, below);
    guest.write_u64(below, top);
    guest.write_u64(below + 8, name);
    let set = guest.alloc(8);
    guest.write_u64(set, child);
    guest.write_u64(one + 136, set);
    log(&mut guest);
    let last = guest.alloc(0);
    (guest, first..last)
}

/// A log of four descriptors and 64 bytes: ids 5 and 6, of which 6 wraps to the start of the text.
fn log(guest: &mut Guest) {
    let (ring, descs, infos, data) = (guest.alloc(64), guest.alloc(96), guest.alloc(96), guest.alloc(64));
    let prb = guest.variable("prb", 8);
    guest.write_u64(prb, ring);
    guest.write_u32(ring, 2);
    for (at, value) in [(8, descs), (16, infos), (24, 6), (32, 5), (48, data)] {
        guest.write_u64(ring + at, value);
    }
    guest.write_u32(ring + 40, 6);
    for (id, begin, next, at, text) in
        [(5u64, 32u64, 56u64, 32u64, &b"first"[..]), (6, 56, 64 + 24, 0, b"second")]
    {
        let desc = descs + (id % 4) * 24;
        guest.write_u64(desc, (2 << 62) | id);
        guest.write_u64(desc + 8, begin);
        guest.write_u64(desc + 16, next);
        let info = infos + (id % 4) * 24;
        guest.write_u64(info, id);
        guest.write(info + 16, &[text.len() as u8]);
        guest.write_u32(info + 20, if id == 5 { 0x8000_0001 } else { 12 });
        guest.write_u64(data + at, id);
        guest.write(data + at + 8, text);
    }
}

/// Read everything there is; sizes of what was found.
fn read_all(guest: &Guest, profile: &KernelProfile) -> (Tasks, Dsqs, usize) {
    let view = KernelView::new(profile, &guest.ram);
    let tasks = read_tasks(&view).unwrap_or_default();
    let dsqs = read_dsqs(&view).unwrap_or_default();
    let mut rest = read_runqueue_details(&view).map_or(0, |all| all.runqueues.len());
    rest += read_schedulers(&view).map_or(0, |all| all.schedulers.len());
    rest += read_log(&view).map_or(0, |log| log.records.len());
    rest += read_cgroups(&view, &tasks).map_or(0, |all| all.cgroups.len());
    rest += read_cpu_times(&view).map_or(0, |all| all.cpus.len());
    (tasks, dsqs, rest)
}

#[test]
fn the_kernel_is_read_as_it_was_made() {
    let (guest, _) = kernel();
    let profile = guest.profile();
    let view = KernelView::new(&profile, &guest.ram);
    let tasks = read_tasks(&view).unwrap();
    let pids: Vec<i64> = tasks.tasks.iter().map(|task| task.pid).collect();
    assert_eq!(pids, [0, 101, 102]);
    let one = &tasks.tasks[1];
    assert_eq!((one.comm.as_str(), one.cgroup.as_deref()), ("waits", Some("/cg_0")));
    let scx = one.scx.as_ref().unwrap();
    assert_eq!((scx.dsq.as_ref().unwrap().number, scx.runnable_age_ns), (7, Some(2_000_000_000)));
    assert!(scx.runnable);

    let dsqs = read_dsqs(&view).unwrap();
    let queue = dsqs.user(7).unwrap();
    let queued: Vec<i64> = queue.tasks.iter().map(|task| task.pid).collect();
    assert_eq!(queued, [101, 102]);
    assert_eq!(
        dsqs.gaps.faults.iter().filter(|fault| fault.contains("queue 0x7")).count(),
        0,
        "{:?}",
        dsqs.gaps
    );

    let rqs = read_runqueue_details(&view).unwrap();
    assert_eq!(rqs.runqueues[0].runnable.len(), 2);
    let scx = read_schedulers(&view).unwrap();
    assert_eq!(scx.state.as_deref(), Some("enabled"));
    assert_eq!(scx.schedulers.len(), 1);
    assert_eq!(scx.schedulers[0].name.as_deref(), Some("demo"));
    let log = read_log(&view).unwrap();
    let lines: Vec<_> = log.records.iter().map(|line| (line.caller.as_str(), line.text.as_str())).collect();
    assert_eq!(lines, [("C1", "first"), ("T12", "second")]);
    let groups = read_cgroups(&view, &tasks).unwrap();
    let groups: Vec<_> = groups.cgroups.iter().map(|one| (one.path.as_str(), one.tasks)).collect();
    assert_eq!(groups, [("/", 0), ("/cg_0", 1)]);
    assert_eq!(read_cpu_times(&view).unwrap().cpus[0].ns, [5_000_000, 0]);
}

#[test]
fn a_tree_that_is_not_in_the_order_of_its_list_is_a_fault() {
    let (mut guest, _) = kernel();
    let profile = guest.profile();
    let queue = read_dsqs(&KernelView::new(&profile, &guest.ram)).unwrap();
    let [one, two] = [0, 1].map(|at| queue.user(7).unwrap().tasks[at].at.0);
    // `one` to the right of `two`.
    guest.write_u64(two + 144 + 40 + 16, 0);
    guest.write_u64(two + 144 + 40 + 8, one + 144 + 40);
    let (_, dsqs, _) = read_all(&guest, &profile);
    assert!(dsqs.gaps.faults.iter().any(|fault| fault.contains("in another order")), "{:?}", dsqs.gaps);
}

/// Which word is overwritten, and with what sort of value.
pub(crate) type Write = (u32, u8, u64);

pub(crate) fn writes() -> impl Strategy<Value = Vec<Write>> {
    prop::collection::vec((any::<u32>(), 0u8..6, any::<u64>()), 1..48)
}

/// Overwrite some of the words of a kernel.
pub(crate) fn overwrite(guest: &mut Guest, words: &std::ops::Range<u64>, writes: &[Write]) {
    let count = (words.end - words.start) / 8;
    let place = |n: u64| words.start + n % count * 8;
    for (at, sort, value) in writes {
        let value = match sort {
            0 => 0,
            1 => *value,
            2 => place(*value) | 1,
            3 => value % 100,
            // Most often a pointer to another thing of the kernel.
            _ => place(*value),
        };
        guest.write_u64(place(u64::from(*at)), value);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_reader_ends_on_any_memory(writes in writes()) {
        let (mut guest, words) = kernel();
        let profile = guest.profile();
        let count = (words.end - words.start) / 8;
        overwrite(&mut guest, &words, &writes);
        let (tasks, dsqs, rest) = read_all(&guest, &profile);
        prop_assert!(tasks.tasks.len() <= count as usize);
        prop_assert!(dsqs.dsqs.len() <= 1 << 16);
        prop_assert!(rest <= 4 * count as usize);
    }
}
