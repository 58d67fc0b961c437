//! The structs and enums of the toy kernel: all that the readers of a kernel look at, see [`layout`](super::layout).

/// The declarations.
pub(super) const KERNEL: &str = "
list_head! { next: ptr, prev: ptr }
hlist_head { first: ptr }
hlist_node { next: ptr, pprev: ptr }
hlist_nulls_head { first: ptr }
hlist_nulls_node { next: ptr, pprev: ptr }
rb_node { __rb_parent_color: u64, rb_right: ptr, rb_left: ptr }
rb_root { rb_node: ptr }
rhash_head! { next: ptr }
rhashtable { tbl: ptr, nelems: u32 }
bucket_table { size: u32, nest: u32, future_tbl: ptr, buckets: ptr[] }
xarray { xa_head: ptr, xa_flags: u32 }
idr { idr_rt: xarray, idr_base: u32 }
xa_node { shift: u8, offset: u8, slots: ptr[64] }
atomic_t { counter: int }
u64_stats_t { v: u64 }
clocksource { mult: u32, shift: u32, mask: u64 }
kernel_cpustat { cpustat: u64[4] }
enum cpu_usage_stat { CPUTIME_USER = 0, CPUTIME_NICE = 1, NR_STATS = 2 }

cgroup_subsys_state { cgroup: ptr, sibling: list_head, children: list_head }
cgroup { self: cgroup_subsys_state, kn: ptr, subsys: ptr[4], level: int }
cgroup_root { cgrp: cgroup, flags: u32 }
css_set { dfl_cgrp: ptr, refcount: int, tasks: list_head, mg_tasks: list_head, dying_tasks: list_head }
kernfs_node { __parent: ptr, name: ptr, id: u64 }
task_group { css: cgroup_subsys_state, shares: u64 }
enum cgroup_subsys_id { cpu_cgrp_id = 1 }

enum scx_enable_state { SCX_ENABLED = 1, SCX_DISABLED = 3 }
enum scx_ops_enable_state { SCX_OPS_DISABLING = 2 }
enum scx_ent_flags { SCX_TASK_QUEUED = 1, SCX_TASK_STATE_MASK = 768 }
enum scx_exit_kind { SCX_EXIT_NONE = 0, SCX_EXIT_DONE = 1, SCX_EXIT_ERROR_STALL = 1026 }
enum scx_dsq_id_flags {
    SCX_DSQ_FLAG_BUILTIN = 9223372036854775808, SCX_DSQ_INVALID = 9223372036854775808, SCX_DSQ_GLOBAL = 9223372036854775809
}
scx_dsq_list_node { node: list_head, flags: u32 }
scx_dispatch_q { list: list_head, priq: rb_root, nr: u32, seq: u32, id: u64, hash_node: rhash_head }
sched_ext_entity {
    dsq: ptr, ops_state: u64, dsq_list: scx_dsq_list_node, dsq_priq: rb_node, flags: u32, weight: u32, sticky_cpu: int,
    holding_cpu: int, selected_cpu: int, sched: ptr, runnable_node: list_head, runnable_at: u64, slice: u64, dsq_vtime: u64, ddsp_dsq_id: u64
}
scx_event_stats { SCX_EV_SELECT_CPU_FALLBACK: s64, SCX_EV_B: s64 }
scx_sched_pcpu { event_stats: scx_event_stats, bypass_dsq: scx_dispatch_q }
scx_sched_pnode { global_dsq: scx_dispatch_q }
sched_ext_ops { name: char[16], flags: u64, priv: ptr }
bpf_struct_ops_sched_ext_ops { state: u32, data: sched_ext_ops }
scx_exit_info { kind: enum scx_exit_kind, exit_code: s64, reason: ptr, bt: ptr, bt_len: u32, msg: ptr, dump: ptr }
scx_sched {
    ops: sched_ext_ops, dsq_hash: rhashtable, pnode: ptr, pcpu: ptr, all: list_head, exit_kind: atomic_t, exit_info: ptr,
    level: int, cgrp_path: ptr, slice_dfl: u64, bypass_depth: int, aborting: u8, watchdog_timeout: u64, timeout: u64
}

thread_info { cpu: u32, flags: u64 }
thread_struct { sp: u64, cr2: u64 }
sched_info { pcount: u64, last_queued: u64 }
sched_entity { sum_exec_runtime: u64, vruntime: u64 }
task_struct {
    thread_info: thread_info, __state: u32, exit_state: u32, flags: u32, on_cpu: u8, on_rq: int, sched_info: sched_info, pid: int, tgid: int, comm: char[16],
    sched_class: ptr, policy: u32, prio: int, static_prio: int, rt_priority: u32, mm: ptr, utime: u64, stime: u64,
    se: sched_entity, nvcsw: u64, nivcsw: u64, nr_cpus_allowed: u32, cpus_ptr: ptr, cpus_mask: u64, cgroups: ptr, cg_list: list_head, scx: sched_ext_entity, tasks: list_head,
    thread_node: list_head, signal: ptr, stack: ptr, thread: thread_struct, bits: u32:3
}
signal_struct { thread_head: list_head, nr_threads: int }
scx_rq {
    local_dsq: scx_dispatch_q, runnable_list: list_head, nr_running: u32, flags: u32, clock: u64, cpu_released: u8, depth: u32
}
_rq { nr_running: u32, curr: ptr task_struct, clock: u64, scx: scx_rq }
rq { idle: ptr task_struct, nr_switches: u64, _: _rq }

enum desc_state { desc_miss = -1, desc_committed = 1, desc_finalized = 2 }
prb_desc_ring { count_bits: u32, descs: ptr, infos: ptr, head_id: u64, tail_id: u64 }
prb_data_ring { size_bits: u32, data: ptr }
printk_ringbuffer { desc_ring: prb_desc_ring, text_data_ring: prb_data_ring, fail: u64 }
prb_data_blk_lpos { begin: u64, next: u64 }
prb_desc { state_var: u64, text_blk_lpos: prb_data_blk_lpos }
printk_info { seq: u64, ts_nsec: u64, text_len: u16, facility: u8, level: u8, caller_id: u32 }

enum bpf_map_type {
    BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_ARRAY = 2, BPF_MAP_TYPE_PROG_ARRAY = 3, BPF_MAP_TYPE_PERCPU_HASH = 5,
    BPF_MAP_TYPE_PERCPU_ARRAY = 6, BPF_MAP_TYPE_LRU_HASH = 9, BPF_MAP_TYPE_ARRAY_OF_MAPS = 12, BPF_MAP_TYPE_HASH_OF_MAPS = 13,
    BPF_MAP_TYPE_QUEUE = 22, BPF_MAP_TYPE_STACK = 23, BPF_MAP_TYPE_STRUCT_OPS = 26, BPF_MAP_TYPE_RINGBUF = 27,
    BPF_MAP_TYPE_TASK_STORAGE = 29, BPF_MAP_TYPE_BLOOM_FILTER = 30, BPF_MAP_TYPE_CGRP_STORAGE = 32, BPF_MAP_TYPE_ARENA = 33
}
btf { id: u32, data_size: u32, kernel_btf: u8, data: ptr }
bpf_map {
    id: u32, name: char[16], map_type: enum bpf_map_type, key_size: u32, value_size: u32, max_entries: u32, btf: ptr,
    btf_key_type_id: u32, btf_value_type_id: u32, btf_vmlinux_value_type_id: u32
}
bpf_array { =map: bpf_map, elem_size: u32, value: char[], pptrs: ptr[] }
bpf_htab { =map: bpf_map, n_buckets: u32, buckets: ptr }
bucket { lock: u64, head: hlist_nulls_head }
htab_elem { hash_node: hlist_nulls_node, hash: u32, key: char[] }
bpf_queue_stack { =map: bpf_map, head: u32, tail: u32, size: u32, elements: char[] }
bpf_local_storage_map { =map: bpf_map, bucket_log: u32, buckets: ptr }
bpf_local_storage_map_bucket { lock: u64, list: hlist_head }
bpf_local_storage_data! { smap: ptr, data: char[] }
bpf_local_storage_elem { local_storage: ptr, map_node: hlist_node, sdata: bpf_local_storage_data }
bpf_local_storage { owner: ptr, lock: u64 }
bpf_struct_ops_map { =map: bpf_map, uvalue: ptr, kvalue: char[] }
bpf_ringbuf_map { =map: bpf_map, rb: ptr }
bpf_ringbuf { mask: u64, consumer_pos: u64, producer_pos: u64, data: char[] }
bpf_arena { =map: bpf_map, user_vm_start: u64, user_vm_end: u64, kern_vm: ptr }
vm_struct { next: ptr, addr: ptr }

enum bpf_prog_type { BPF_PROG_TYPE_STRUCT_OPS = 27 }
bpf_prog {
    aux: ptr, tag: u8[8], bpf_func: ptr, stats: ptr, type: enum bpf_prog_type, len: u32, jited_len: u32,
    insnsi: char[]
}
bpf_prog_aux {
    name: char[16], id: u32, func_cnt: u32, func: ptr, used_map_cnt: u32, used_maps: ptr, btf: ptr, attach_func_name: ptr,
    load_time: u64, func_info: ptr, func_info_cnt: u32
}
bpf_prog_stats { nsecs: u64_stats_t, cnt: u64_stats_t }
bpf_ksym { lnode: list_head, start: u64, end: u64, name: char[512] }

enum pageflags { PG_head = 6, PG_reserved = 13 }
enum pagetype { PGTY_buddy = 240 }
enum migratetype { MIGRATE_PCPTYPES = 3 }
page { =flags: u64, pcp_list: list_head, mapping: u64, private: u64, page_type: u32, _refcount: u32 }
folio! { page: page, _flags_1: u64 }
address_space { host: ptr, nrpages: u64 }
inode { i_mapping: ptr, i_data: address_space, i_ino: u64 }
anon_vma { root: ptr, refcount: int }
per_cpu_pages { count: int, lists: list_head[4] }
zone { per_cpu_pageset: ptr, managed_pages: u64 }
pglist_data { node_zones: zone[1], nr_zones: u32 }

array_buffer { tr: ptr, buffer: ptr }
trace_array { list: list_head, name: ptr, array_buffer: array_buffer }
trace_buffer { flags: u32, cpus: int, buffers: ptr, clock: ptr, subbuf_size: u32 }
ring_buffer_per_cpu {
    cpu: int, nr_pages: u64, pages: ptr, head_page: ptr, tail_page: ptr, commit_page: ptr, reader_page: ptr, entries: atomic_t,
    overrun: atomic_t
}
buffer_page { list: list_head, write: u64, entries: u64, page: ptr }
buffer_data_page! { time_stamp: u64, commit: u64, data: u8[] }
enum ring_buffer_type {
    RINGBUF_TYPE_DATA_TYPE_LEN_MAX = 28, RINGBUF_TYPE_PADDING = 29, RINGBUF_TYPE_TIME_EXTEND = 30, RINGBUF_TYPE_TIME_STAMP = 31
}
ring_buffer_event! { type_len: u32:5, time_delta: u32:27, array: u32[] }
trace_event { funcs: ptr, type: int }
trace_event_call { class: ptr, event: trace_event }
trace_entry { type: u16, flags: u8, preempt_count: u8, pid: int }
trace_event_raw_sched_switch {
    =ent: trace_entry, prev_comm: char[16], prev_pid: int, prev_prio: int, prev_state: s64, next_comm: char[16], next_pid: int,
    next_prio: int
}
trace_event_raw_sched_wakeup_template { =ent: trace_entry, comm: char[16], pid: int, prio: int, target_cpu: int }
trace_event_raw_sched_migrate_task { =ent: trace_entry, comm: char[16], pid: int, prio: int, orig_cpu: int, dest_cpu: int }
trace_event_raw_sched_ext_event { =ent: trace_entry, __data_loc_name: u32, delta: s64 }

orc_entry { sp_offset: s16, bp_offset: s16, sp_reg: u32:4, bp_reg: u32:4, type: u32:3, signal: u32:1 }
pt_regs! { r13: u64, r10: u64, bp: u64, ax: u64, dx: u64, di: u64, ip: u64, cs: u64, flags: u64, sp: u64, ss: u64 }
inactive_task_frame { bp: u64, ret_addr: u64 }
";
