// SPDX-License-Identifier: GPL-2.0-only
/*
 * map_zoo: a scheduler that leaves all scheduling to the kernel and has a map of every kind, with contents that a
 * test knows: queues and stacks hold 10, 20, 30; storage of a task holds three times its pid, and one; that of the root
 * cgroup 77; storage of a task also the address of a node in the arena that holds its pid, as a void pointer, and that of the task, as a
 * number; the ring buffer two records and a discarded one; the arena three pages, with two nodes, 11 and 22, in the
 * second, at the first of which a void pointer and a number point too; held objects of the kernel's a mask of CPU 1 and the task
 * that called init; the tree 5, 6, 7 and the list 8, 9; the map that is declared by sizes alone 100 and 101, on the
 * CPU that filled it; CONFIG_HZ comes out of the kernel's configuration.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

char _license[] SEC("license") = "GPL";

#define ROOT_CGROUP_ID 1
#define NO_NODE (-1)
#define ARENA_PAGES 3
#define PAGE_BYTES 4096

#define __arena __attribute__((address_space(1)))
#ifndef __kptr
#define __kptr __attribute__((btf_type_tag("kptr")))
#endif

#define __contains(type, member) __attribute__((btf_decl_tag("contains:" #type ":" #member)))
#define private(name) SEC(".data." #name) __hidden __attribute__((aligned(8)))

struct zoo_value {
	u64 number;
};

enum zoo_stat {
	ZOO_STAT_FIRST,
	ZOO_STAT_SECOND,
	NR_ZOO_STATS,
};

/* Of the tree and of the list. */
struct zoo_leaf {
	struct bpf_rb_node rb;
	u64 number;
};

struct zoo_link {
	u64 number;
	struct bpf_list_node node;
};

private(TREE) struct bpf_spin_lock tree_lock;
private(TREE) struct bpf_rb_root tree __contains(zoo_leaf, rb);
private(LIST) struct bpf_spin_lock list_lock;
private(LIST) struct bpf_list_head list __contains(zoo_link, node);

/* Of the arena. */
struct zoo_node {
	u64 number;
	struct zoo_node __arena *next;
};

/* Of the arena, too: what the map below does not say. */
struct zoo_task {
	u64 state;
	u32 pid;
	u32 flags;
};

/*
 * Of a task, as scx's Rust schedulers keep it: the address of its state in the arena, of which only the programs tell what it is, and
 * that of the task itself.
 */
struct zoo_own {
	u64 number;
	void __arena *data;
	u64 tptr;
};

/* What the kernel has, and a map holds. */
struct zoo_held {
	struct bpf_cpumask __kptr *cpus;
	struct task_struct __kptr *task;
};

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} inner_a SEC(".maps"), inner_b SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, u32);
	__array(values, struct inner);
} outer_array SEC(".maps") = { .values = { [0] = &inner_a, [2] = &inner_b } };

/* Filled by the loader: 42 is inner_b. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, u32);
	__array(values, struct inner);
} outer_hash SEC(".maps");

/* Filled by the loader: 1 is never_called. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 4);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 4);
	__type(value, u64);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 4);
	__type(value, u64);
} stack SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct zoo_own);
} of_tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGRP_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct zoo_value);
} of_cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 100);
} arena SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 16);
	__type(value, u64);
} bloom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 64);
	__type(key, u32);
	__type(value, u64);
} lru_per_cpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NR_ZOO_STATS);
	__uint(key_size, 4);
	__uint(value_size, 8);
} stats SEC(".maps");

/* Filled by the loader, with as many entries as it is told: each is its key times three. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u32);
	__type(value, u64);
} many SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct zoo_held);
} held SEC(".maps");

/* Tasks that it was told of. */
unsigned long long nr_told;

/* The third page of the arena, and how many tasks have a node in it. */
char __arena *of_tasks_at;
unsigned long long nr_nodes;

/* The sum of the pids that it was told of, by way of their nodes. */
unsigned long long sum_of_pids;

/* The first node of the arena. */
struct zoo_node __arena *first_node;

/* The same node, by what says less. */
void __arena *first_as_void;
unsigned long long first_as_number;

/* Which of the statistics was counted last. */
static volatile enum zoo_stat last_stat;

/* The pid of the task that is held. */
int held_pid;

/* Out of the kernel's configuration, which the loader looks for. */
extern int CONFIG_HZ __kconfig;
int kernel_hz;

static void hold(void)
{
	struct task_struct *task = bpf_task_acquire(bpf_get_current_task_btf());
	struct bpf_cpumask *cpus = bpf_cpumask_create();
	struct zoo_held *slot;
	u32 key = 0;

	slot = bpf_map_lookup_elem(&held, &key);
	if (slot && cpus) {
		bpf_cpumask_set_cpu(1, cpus);
		cpus = bpf_kptr_xchg(&slot->cpus, cpus);
	}
	if (cpus)
		bpf_cpumask_release(cpus);
	if (slot && task) {
		held_pid = task->pid;
		task = bpf_kptr_xchg(&slot->task, task);
	}
	if (task)
		bpf_task_release(task);
}

static bool less(struct bpf_rb_node *one, const struct bpf_rb_node *other)
{
	struct zoo_leaf *this = container_of(one, struct zoo_leaf, rb);
	const struct zoo_leaf *that = container_of(other, struct zoo_leaf, rb);

	return this->number < that->number;
}

static void add_leaf(u64 number)
{
	struct zoo_leaf *leaf = bpf_obj_new_impl(bpf_core_type_id_local(struct zoo_leaf), NULL);

	if (!leaf)
		return;
	leaf->number = number;
	bpf_spin_lock(&tree_lock);
	bpf_rbtree_add_impl(&tree, &leaf->rb, less, NULL, 0);
	bpf_spin_unlock(&tree_lock);
}

static void add_link(u64 number)
{
	struct zoo_link *link = bpf_obj_new_impl(bpf_core_type_id_local(struct zoo_link), NULL);

	if (!link)
		return;
	link->number = number;
	bpf_spin_lock(&list_lock);
	bpf_list_push_back_impl(&list, &link->node, NULL, 0);
	bpf_spin_unlock(&list_lock);
}

static void count(enum zoo_stat stat, u64 number)
{
	u32 key = stat;
	u64 *slot = bpf_map_lookup_elem(&stats, &key);

	if (slot)
		*slot += number;
	last_stat = stat;
}

static void fill(void)
{
	u64 values[] = { 10, 20, 30 };
	struct zoo_value *of_root;
	struct cgroup *root;
	u32 key = 5;
	void *record;
	int i;

	for (i = 0; i < 3; i++) {
		bpf_map_push_elem(&queue, &values[i], 0);
		bpf_map_push_elem(&stack, &values[i], 0);
		bpf_map_push_elem(&bloom, &values[i], 0);
	}
	bpf_map_update_elem(&lru_per_cpu, &key, &values[2], BPF_ANY);
	bpf_ringbuf_output(&ring, &values[0], sizeof(values[0]), BPF_RB_NO_WAKEUP);
	bpf_ringbuf_output(&ring, &values[1], sizeof(values[1]), BPF_RB_NO_WAKEUP);
	record = bpf_ringbuf_reserve(&ring, 16, 0);
	if (record)
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
	add_leaf(6);
	add_leaf(5);
	add_leaf(7);
	add_link(8);
	add_link(9);
	count(ZOO_STAT_FIRST, 100);
	count(ZOO_STAT_SECOND, 101);
	root = bpf_cgroup_from_id(ROOT_CGROUP_ID);
	if (root) {
		of_root = bpf_cgrp_storage_get(&of_cgroups, root, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (of_root)
			of_root->number = 77;
		bpf_cgroup_release(root);
	}
}

SEC("struct_ops.s/zoo_init")
s32 BPF_PROG(zoo_init)
{
	char __arena *pages = (char __arena *)bpf_arena_alloc_pages(&arena, NULL, ARENA_PAGES, NO_NODE, 0);

	kernel_hz = CONFIG_HZ;
	if (pages) {
		first_node = (struct zoo_node __arena *)(pages + PAGE_BYTES);
		first_node->number = 11;
		first_node->next = first_node + 1;
		first_node->next->number = 22;
		first_as_void = first_node;
		first_as_number = (u64)first_node;
		of_tasks_at = pages + 2 * PAGE_BYTES;
	}
	hold();
	return 0;
}

/* Says nothing of what it finds. */
__hidden __noinline void __arena *data_of(struct task_struct *p)
{
	struct zoo_own *own = bpf_task_storage_get(&of_tasks, p, 0, 0);

	return own ? own->data : NULL;
}

/* Says what it is. */
static __noinline struct zoo_task __arena *node_of(struct task_struct *p)
{
	struct zoo_task __arena *node = data_of(p);

	if (!node)
		bpf_printk("no node");
	return node;
}

__hidden __noinline void keep(struct task_struct *p, void __arena *data)
{
	struct zoo_own *own = bpf_task_storage_get(&of_tasks, p, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!own)
		return;
	own->number = (u64)p->pid * 3 + 1;
	own->tptr = (u64)p;
	own->data = data;
}

SEC("struct_ops/zoo_init_task")
s32 BPF_PROG(zoo_init_task, struct task_struct *p, struct scx_init_task_args *args)
{
	u64 nth = __sync_fetch_and_add(&nr_nodes, 1);
	struct zoo_task __arena *node = NULL;

	/* A program that casts into an arena has to use its map. */
	asm volatile("" :: "r"(&arena));
	if (of_tasks_at && nth < PAGE_BYTES / sizeof(struct zoo_task))
		node = (struct zoo_task __arena *)(of_tasks_at + nth * sizeof(struct zoo_task));
	keep(p, node);
	if (node) {
		node->state = nth;
		node->pid = p->pid;
	}
	node = node_of(p);
	if (node)
		sum_of_pids += node->pid;
	/* Here and not in init: what sleeps may not use most of these maps. */
	if (__sync_fetch_and_add(&nr_told, 1) == 0)
		fill();
	return 0;
}

SEC("raw_tp/sys_enter")
int never_called(void *ctx)
{
	return 0;
}

SEC(".struct_ops.link")
struct sched_ext_ops zoo_ops = {
	.init = (void *)zoo_init,
	.init_task = (void *)zoo_init_task,
	.timeout_ms = 20000,
	.name = "zoo",
};
