// SPDX-License-Identifier: GPL-2.0-only
/*
 * scx_stray: one queue ordered by vtime, and a way to wrong the tasks that are called "stray", each told by its loader's flags. Tasks
 * that are called "aside" wait in a queue that nobody serves: so they wait for longest, and are not what the scheduler dies of.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

#define OP(name, args...) SEC("struct_ops/" #name) BPF_PROG(name, ##args)
#define OP_SLEEPABLE(name, args...) SEC("struct_ops.s/" #name) BPF_PROG(name, ##args)
#define SLICE_NS (5 * 1000000ULL)
#define COMM_LEN 16

enum {
	SHARED_DSQ = 1,
	ASIDE_DSQ = 2,
};

/* Knobs, fixed at load. 0: off. */
const volatile u64 behind_ns;
const volatile bool misplaces;
const volatile bool ends;
const volatile bool stops;

u64 nr_dispatched;
u64 nr_wronged;
u64 vtime_now;
bool stopped;
/* The kernel has ended the scheduler: its loader need not wait any longer. */
u64 exit_kind;
static char lost_format[] = "lost the context of %s[%d]";

static bool is_called(struct task_struct *p, const char *name)
{
	char comm[COMM_LEN] = {};
	int i;

	bpf_probe_read_kernel_str(comm, sizeof(comm), p->comm);
	for (i = 0; i < COMM_LEN; i++) {
		if (comm[i] != name[i])
			return false;
		if (!comm[i])
			return true;
	}
	return true;
}

static bool is_before(u64 one, u64 other)
{
	return (s64)(one - other) < 0;
}

s32 OP(stray_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	return prev_cpu;
}

/* The first CPU that a task may not run on, of two. */
static s32 forbidden_cpu(struct task_struct *p)
{
	return bpf_cpumask_test_cpu(0, p->cpus_ptr) ? 1 : 0;
}

/* Whether the task was wronged in a way that leaves nothing to be queued. */
static bool is_wronged(struct task_struct *p, u64 enq_flags)
{
	if (ends) {
		unsigned long long data[2] = { (unsigned long long)p->comm, p->pid };

		scx_bpf_error_bstr(lost_format, data, sizeof(data));
		return true;
	}
	if (misplaces) {
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL_ON | forbidden_cpu(p), SLICE_NS, enq_flags);
		return true;
	}
	if (stops)
		stopped = true;
	return false;
}

void OP(stray_enqueue, struct task_struct *p, u64 enq_flags)
{
	static const char aside[COMM_LEN] = "aside", stray[COMM_LEN] = "stray";
	u64 vtime = p->scx.dsq_vtime;

	if (is_called(p, aside)) {
		scx_bpf_dsq_insert(p, ASIDE_DSQ, SLICE_NS, enq_flags);
		return;
	}
	/* Who has slept for long is served soon, and not for long. */
	if (is_before(vtime, vtime_now - SLICE_NS))
		vtime = vtime_now - SLICE_NS;
	if (is_called(p, stray)) {
		__sync_fetch_and_add(&nr_wronged, 1);
		if (is_wronged(p, enq_flags))
			return;
		vtime += behind_ns;
	}
	scx_bpf_dsq_insert_vtime(p, SHARED_DSQ, SLICE_NS, vtime, enq_flags);
}

void OP(stray_dispatch, s32 cpu, struct task_struct *prev)
{
	if (!stopped && scx_bpf_dsq_move_to_local(SHARED_DSQ))
		__sync_fetch_and_add(&nr_dispatched, 1);
}

void OP(stray_running, struct task_struct *p)
{
	if (is_before(vtime_now, p->scx.dsq_vtime))
		vtime_now = p->scx.dsq_vtime;
}

void OP(stray_stopping, struct task_struct *p, bool runnable)
{
	/* The kernel gives a longer slice to a task that nobody else waits behind. */
	u64 ran_ns = p->scx.slice < SLICE_NS ? SLICE_NS - p->scx.slice : 0;

	scx_bpf_task_set_dsq_vtime(p, p->scx.dsq_vtime + ran_ns * 100 / (p->scx.weight ?: 1));
}

void OP(stray_enable, struct task_struct *p)
{
	scx_bpf_task_set_dsq_vtime(p, vtime_now);
}

s32 OP_SLEEPABLE(stray_init)
{
	return scx_bpf_create_dsq(SHARED_DSQ, -1) ?: scx_bpf_create_dsq(ASIDE_DSQ, -1);
}

void OP(stray_exit, struct scx_exit_info *info)
{
	exit_kind = info->kind;
}

SEC(".struct_ops.link")
struct sched_ext_ops stray_ops = {
	.select_cpu = (void *)stray_select_cpu,
	.enqueue = (void *)stray_enqueue,
	.dispatch = (void *)stray_dispatch,
	.running = (void *)stray_running,
	.stopping = (void *)stray_stopping,
	.enable = (void *)stray_enable,
	.init = (void *)stray_init,
	.exit = (void *)stray_exit,
	.timeout_ms = 5000,
	/* Room for some tasks: with more, the kernel cuts its dump. */
	.exit_dump_len = 12288,
	.name = "stray",
};
