//! A whole kernel in little memory, right and then wrong.

use std::ops::Range;
use std::path::Path;

use super::{BODY_MS, Guest, Object, TraceBuilder, sample, stalled};
use crate::trace::record::{CaptureKind, PAGE_BYTES, Sample, VcpuRegs};
use crate::trace::{CaptureBase, CapturedCheckpoint, PageBatch};
use crate::units::{GuestNs, HostNs};

/// A kernel of one CPU that idles while tasks 101 and 102 wait in queue 7, laid out by `seed`; and where its words are.
#[must_use]
pub fn toy_kernel(seed: u64) -> (Guest, Range<u64>) {
    let mut guest = Guest::new(seed);
    guest.cpus(1);
    let first = guest.alloc(0);
    let init = guest.variable("init_task", "task_struct");
    let [one, two] = [guest.add("task_struct"), guest.add("task_struct")];
    guest.ring(&[init, one, two].map(|task| guest.at(task, "tasks")));
    let dsq = guest.add("scx_dispatch_q");
    for (pid, task) in [(101u32, one), (102, two)] {
        let signal = guest.add("signal_struct");
        guest.ring(&[guest.at(signal, "thread_head"), guest.at(task, "thread_node")]);
        guest.set(task, "signal", signal);
        guest.set(task, "pid", pid);
        guest.text(task, "comm", "waits");
        guest.set(task, "scx.dsq", dsq);
        guest.set(task, "scx.runnable_at", 500u64);
        guest.set(task, "nr_cpus_allowed", 1u32);
        guest.set(task, "cpus_mask", 1u64);
        guest.set(task, "cpus_ptr", guest.at(task, "cpus_mask"));
    }
    // Their queue, by list and by tree: `two` is the root, and `one` its left.
    let nodes = [one, two].map(|task| guest.at(task, "scx.dsq_list.node"));
    guest.ring(&[guest.at(dsq, "list"), nodes[0], nodes[1]]);
    guest.set(dsq, "priq.rb_node", guest.at(two, "scx.dsq_priq"));
    guest.set(two, "scx.dsq_priq.rb_left", guest.at(one, "scx.dsq_priq"));
    guest.set(dsq, "nr", 2u32);
    guest.set(dsq, "id", 7u32);
    let sched = scheduler(&mut guest, dsq);
    runqueue(&mut guest, init, [one, two], sched);
    let stat = guest.per_cpu("kernel_cpustat", "kernel_cpustat");
    guest.set(guest.on_cpu(stat, 0), "cpustat[0]", 5_000_000u64);
    let clock = guest.variable("clocksource_jiffies", "clocksource");
    guest.set(clock, "mult", 4_000_000u64 << 8);
    guest.set(clock, "shift", 8u32);
    guest.number("jiffies_64", "u64", 1000u64);
    cgroups(&mut guest, one);
    log(&mut guest);
    let last = guest.alloc(0);
    (guest, first..last)
}

/// The scheduler, with a table of two buckets; the queue is in the second.
fn scheduler(guest: &mut Guest, dsq: Object) -> Object {
    let sched = guest.add("scx_sched");
    guest.text(sched, "ops.name", "demo");
    let table = guest.add_with("bucket_table", 16);
    guest.set(table, "size", 2u32);
    guest.set(table, "buckets[1]", guest.at(dsq, "hash_node"));
    guest.set(dsq, "hash_node.next", guest.at(table, "buckets[1]") | 1);
    guest.set(sched, "dsq_hash.tbl", table);
    let nodes = guest.add("ptr");
    let node = guest.add("scx_sched_pnode");
    guest.ring(&[guest.at(node, "global_dsq.list")]);
    guest.set(node, "global_dsq.id", (1u64 << 63) | 1);
    guest.set(nodes, "", node);
    guest.set(sched, "pnode", nodes);
    guest.number("scx_root", "ptr", sched);
    let all = guest.variable("scx_sched_all", "list_head");
    guest.ring(&[all.at, guest.at(sched, "all")]);
    guest.number("scx_enable_state_var", "u32", 1u32);
    sched
}

/// The runqueue, in per-CPU memory, and the per-CPU part of the scheduler.
fn runqueue(guest: &mut Guest, idle: Object, waiting: [Object; 2], sched: Object) {
    let rq = guest.per_cpu("runqueues", "rq");
    let rq = guest.on_cpu(rq, 0);
    guest.set(rq, "curr", idle);
    guest.set(rq, "idle", idle);
    guest.ring(&[guest.at(rq, "scx.local_dsq.list")]);
    let [one, two] = waiting.map(|task| guest.at(task, "scx.runnable_node"));
    guest.ring(&[guest.at(rq, "scx.runnable_list"), one, two]);
    let pcpu = guest.per_cpu("", "scx_sched_pcpu");
    guest.set(sched, "pcpu", pcpu);
    guest.ring(&[guest.at(guest.on_cpu(pcpu, 0), "bypass_dsq.list")]);
}

/// A tree of one cgroup below the root; `task` is in it.
fn cgroups(guest: &mut Guest, task: Object) {
    let root = guest.variable("cgrp_dfl_root", "cgroup_root");
    let child = guest.add("cgroup");
    guest.ring(&[guest.at(root, "cgrp.self.children"), guest.at(child, "self.sibling")]);
    guest.ring(&[guest.at(child, "self.children")]);
    let [top, below] = [guest.add("kernfs_node"), guest.add("kernfs_node")];
    guest.set(root, "cgrp.kn", top);
    guest.set(child, "kn", below);
    guest.set(below, "__parent", top);
    guest.point_at_text(below, "name", "cg_0");
    let set = guest.add("css_set");
    guest.set(set, "dfl_cgrp", child);
    guest.set(task, "cgroups", set);
    guest.ring(&[guest.at(set, "tasks"), guest.at(task, "cg_list")]);
    guest.ring(&[guest.at(set, "mg_tasks")]);
    guest.ring(&[guest.at(set, "dying_tasks")]);
}

/// A log of four descriptors and 64 bytes: ids 5 and 6, of which 6 wraps to the start of the text.
fn log(guest: &mut Guest) {
    let ring = guest.add("printk_ringbuffer");
    let (descs, infos) = (guest.array("prb_desc", 4), guest.array("printk_info", 4));
    let data = guest.alloc(64);
    guest.number("prb", "ptr", ring);
    guest.set(ring, "desc_ring.count_bits", 2u32);
    guest.set(ring, "desc_ring.descs", descs[0]);
    guest.set(ring, "desc_ring.infos", infos[0]);
    guest.set(ring, "desc_ring.head_id", 6u32);
    guest.set(ring, "desc_ring.tail_id", 5u32);
    guest.set(ring, "text_data_ring.size_bits", 6u32);
    guest.set(ring, "text_data_ring.data", data);
    for (id, begin, next, at, text) in [(5u64, 32u64, 56u64, 32u64, "first"), (6, 56, 64 + 24, 0, "second")] {
        let (desc, info) = (descs[id as usize % 4], infos[id as usize % 4]);
        guest.set(desc, "state_var", (2 << 62) | id);
        guest.set(desc, "text_blk_lpos.begin", begin);
        guest.set(desc, "text_blk_lpos.next", next);
        guest.set(info, "seq", id);
        guest.set(info, "text_len", text.len() as u64);
        guest.set(info, "caller_id", if id == 5 { 0x8000_0001u32 } else { 12 });
        guest.write_u64(data + at, id);
        guest.write(data + at + 8, text.as_bytes());
    }
}

/// Which word is overwritten, and with what sort of value.
pub type Overwrite = (u32, u8, u64);

/// Overwrite some of the words of a kernel.
pub fn overwrite(guest: &mut Guest, words: &Range<u64>, writes: &[Overwrite]) {
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

/// Write the run of a scheduler that stalled, with the guest's memory before and at the stall.
pub fn write_with_memory(guest: &Guest, path: &Path) {
    let at = |sample: Sample, checkpoint| Sample {
        checkpoint: Some(checkpoint),
        vcpus: vec![VcpuRegs { rip: 0xffff_ffff_8100_0000, ..VcpuRegs::default() }],
        ..sample
    };
    let run = TraceBuilder::begun()
        .sample(at(sample("periodic_000", CaptureKind::Periodic, 1000, &[1, 2, 3]), 0))
        .sample(at(stalled(2000, &[1, 2, 3]), 1))
        .claim("each(rq[0].nr_running >= 0)")
        .claim("final(kernel.jiffies_64 > 0)")
        .claim("always(dsq[0x7].nr == 2)")
        .ended();
    // The samples that these belong to are the second and the third, after that at attach.
    write_checkpoints(&run, path, &[(1, 1000, guest), (2, 2000, guest)]);
}

/// Write `run` with checkpoints: the number of the sample that each belongs to, when it was taken in ms since the body began, and
/// the memory. All are of one kernel.
pub fn write_checkpoints(run: &TraceBuilder, path: &Path, checkpoints: &[(u32, u64, &Guest)]) {
    let mut writer = run.writer(path);
    for blob in checkpoints.first().map(|(.., guest)| guest.profile().to_blobs()).into_iter().flatten() {
        writer.blob(blob.role, &blob.bytes).expect("the trace can be written");
    }
    let mut before: Option<&Guest> = None;
    for &(sample, at_ms, guest) in checkpoints {
        let at_ns = (BODY_MS + at_ms) * 1_000_000;
        let same = before.replace(guest).is_some_and(|before| std::ptr::eq(before, guest));
        let mut batch = PageBatch::default();
        for (gfn, page) in guest.ram.bytes.as_chunks::<PAGE_BYTES>().0.iter().enumerate() {
            if !same && page.iter().any(|byte| *byte != 0) {
                batch.push(gfn as u64, page);
            }
        }
        let (base, changed) =
            if same { (CaptureBase::Previous, vec![]) } else { (CaptureBase::Zero, vec![batch]) };
        let checkpoint = CapturedCheckpoint {
            sample: Some(sample),
            guest_ns: GuestNs(at_ns),
            host_ns: HostNs(at_ns),
            ram: std::iter::once(0..guest.ram.bytes.len() as u64).collect(),
            base,
            changed,
            zeroed: Vec::new(),
            left_out: Vec::new(),
        };
        writer.checkpoint(&checkpoint).expect("the trace can be written");
    }
    writer.finish().expect("the trace can be written");
}
