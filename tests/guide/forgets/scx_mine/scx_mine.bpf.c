// SPDX-License-Identifier: GPL-2.0-only
/* scx_mine: tasks with a nice value above 0 run when nobody else waits. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* The kernel lets only GPL-compatible programs call what a scheduler needs. */
char _license[] SEC("license") = "GPL";

/* ANCHOR: names */
/* The queues that all CPUs take tasks from. */
#define SHARED_DSQ 0
#define BACKGROUND_DSQ 1

/* How often something happened. A test's claims are about these, by name: each(nr_dispatched >= 1). */
u64 nr_enqueued;
u64 nr_dispatched;
u64 nr_background;
/* ANCHOR_END: names */

/* The kernel has ended the scheduler: its loader need not wait any longer. */
bool has_exited;

/* ANCHOR: select_cpu */
/* A task wakes up. Where a CPU is idle, it runs there at once. */
SEC("struct_ops/mine_select_cpu")
s32 BPF_PROG(mine_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	bool is_idle = false;
	s32 cpu = scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, &is_idle);

	if (is_idle) {
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, SCX_SLICE_DFL, 0);
		__sync_fetch_and_add(&nr_dispatched, 1);
	}
	return cpu;
}
/* ANCHOR_END: select_cpu */

/* ANCHOR: queues */
/* A task that found no idle CPU waits: one with a nice value above 0 in the background. */
SEC("struct_ops/mine_enqueue")
void BPF_PROG(mine_enqueue, struct task_struct *p, u64 enq_flags)
{
	/* 100 is the weight of nice 0; a nicer task has less. */
	bool is_background = p->scx.weight < 100;

	__sync_fetch_and_add(&nr_enqueued, 1);
	scx_bpf_dsq_insert(p, is_background ? BACKGROUND_DSQ : SHARED_DSQ, SCX_SLICE_DFL, enq_flags);
}

/* A CPU has nothing to run: the background's turn comes when nobody else waits. */
SEC("struct_ops/mine_dispatch")
void BPF_PROG(mine_dispatch, s32 cpu, struct task_struct *prev)
{
	if (scx_bpf_dsq_move_to_local(SHARED_DSQ)) {
		__sync_fetch_and_add(&nr_dispatched, 1);
	} else if (scx_bpf_dsq_move_to_local(BACKGROUND_DSQ)) {
		__sync_fetch_and_add(&nr_dispatched, 1);
		__sync_fetch_and_add(&nr_background, 1);
	}
}
/* ANCHOR_END: queues */

/* ANCHOR: init */
SEC("struct_ops.s/mine_init")
s32 BPF_PROG(mine_init)
{
	s32 error = scx_bpf_create_dsq(SHARED_DSQ, -1);

	return error ?: scx_bpf_create_dsq(BACKGROUND_DSQ, -1);
}
/* ANCHOR_END: init */

SEC("struct_ops/mine_exit")
void BPF_PROG(mine_exit, struct scx_exit_info *info)
{
	has_exited = info->kind != SCX_EXIT_UNREG;
}

SEC(".struct_ops.link")
struct sched_ext_ops mine_ops = {
	.select_cpu = (void *)mine_select_cpu,
	.enqueue = (void *)mine_enqueue,
	.dispatch = (void *)mine_dispatch,
	.init = (void *)mine_init,
	.exit = (void *)mine_exit,
	/* A task that waits for longer ends the scheduler. */
	.timeout_ms = 5000,
	.name = "mine",
};
