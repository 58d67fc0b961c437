// SPDX-License-Identifier: GPL-2.0-only
/*
 * scx_demo: the scheduler that ktstr's own tests run.
 *
 * One shared first-in first-out queue and an idle-CPU shortcut. It counts what it does in every kind of place
 * that a BPF program keeps state in (.bss, .data, .rodata, a section of its own, array, hash, LRU hash and per-CPU
 * maps), and misbehaves in well-defined ways when its loader's flags ask for it.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "scx_demo.h"

char _license[] SEC("license") = "GPL";

#define OP(name, args...) SEC("struct_ops/" #name) BPF_PROG(name, ##args)
#define OP_SLEEPABLE(name, args...) SEC("struct_ops.s/" #name) BPF_PROG(name, ##args)
/* All that is counted stands still once freeze_after_ns is over. */
#define COUNT(counter) do { if (!frozen()) __sync_fetch_and_add(&(counter), 1); } while (0)

#define NSEC_PER_MSEC 1000000ULL
#define PF_KTHREAD 0x00200000

enum {
	SHARED_DSQ = 0,
	STARVED_DSQ = 1,
};

/* Knobs, fixed at load; times count from the attach. 0 and the empty string: off. */
const volatile u64 slice_ns = 20 * NSEC_PER_MSEC;
const volatile u64 stall_after_ns;
const volatile u64 exit_after_ns;
const volatile u64 leave_after_ns;
const volatile u64 freeze_after_ns;
const volatile u64 miscount_ns;
const volatile u64 starve_ns;
const volatile u64 hold_tick_ns;
const volatile bool use_local;
const volatile bool misplace;
const volatile s32 fail_init;
const volatile char starve_cgroup[DEMO_NAME_LEN];
const volatile char exit_message[DEMO_TEXT_LEN] = "scx_demo was told to exit";
const volatile char init_error[DEMO_TEXT_LEN];

/* Counters: how often each operation ran, and how many tasks were given to a CPU. */
u64 nr_select_cpu;
u64 nr_enqueued;
u64 nr_dispatched;
u64 nr_running;
u64 nr_stopping;
u64 nr_tasks;
u64 nr_miscounts;
u64 nr_holds;
struct demo_stats stats;
struct demo_exit exit_record;

/* .data: starts with a value and changes. Until the attach no time has passed. */
u64 attached_at_ns = ~0ULL;
u64 miscounted_at_ns = ~0ULL;
u64 starved_served_at_ns = ~0ULL;
u64 held_at_ns = ~0ULL;
s32 last_enqueued_pid = -1;
static char exit_format[] = "%s";

/* A section, and so a map, of its own. */
char exit_dump[DEMO_DUMP_LEN] SEC(".data.dump");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, u32);
	__type(value, struct demo_task);
} task_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, u32);
	__type(value, u64);
} recent_runs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct demo_cpu);
} cpu_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 64);
	__type(key, u32);
	__type(value, u64);
} runs_by_weight SEC(".maps");

/* Enqueues by low bits of the enqueue flags: [0] others, [1] wakeups, [2] heads, [3] both. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, u64);
} enqueues_by_flag SEC(".maps");

static bool since_attach(u64 after_ns)
{
	u64 now = bpf_ktime_get_ns();

	return after_ns && now > attached_at_ns && now - attached_at_ns >= after_ns;
}

static bool frozen(void)
{
	return since_attach(freeze_after_ns);
}

static bool stalled(void)
{
	if (!since_attach(stall_after_ns))
		return false;
	stats.phase = DEMO_STALLED;
	return true;
}

/* The ways to misbehave that are not a matter of where a task goes. */
static void misbehave(void)
{
	u64 now = bpf_ktime_get_ns(), miscounted = miscounted_at_ns;

	if (since_attach(exit_after_ns) && stats.phase != DEMO_FAILING) {
		unsigned long long data[1] = { (unsigned long long)exit_message };

		stats.phase = DEMO_FAILING;
		scx_bpf_error_bstr(exit_format, data, sizeof(data));
	}
	if (since_attach(leave_after_ns) && stats.phase != DEMO_FAILING) {
		unsigned long long data[1] = { (unsigned long long)exit_message };

		stats.phase = DEMO_FAILING;
		scx_bpf_exit_bstr(DEMO_LEAVE_CODE, exit_format, data, sizeof(data));
	}
	/* Of two CPUs that come here at once, one does it. */
	if (miscount_ns && now > miscounted && now - miscounted >= miscount_ns &&
	    __sync_val_compare_and_swap(&miscounted_at_ns, miscounted, now) == miscounted) {
		nr_dispatched = 0;
		COUNT(nr_miscounts);
	}
}

static bool in_starved_cgroup(struct task_struct *p)
{
	char name[DEMO_NAME_LEN] = {};
	const char *kernel_name;
	int i;

	if (!starve_cgroup[0])
		return false;
	kernel_name = BPF_CORE_READ(p, cgroups, dfl_cgrp, kn, name);
	if (bpf_probe_read_kernel_str(name, sizeof(name), kernel_name) < 0)
		return false;
	for (i = 0; i < DEMO_NAME_LEN; i++) {
		if (name[i] != starve_cgroup[i])
			return false;
		if (!name[i])
			return true;
	}
	return false;
}

static struct demo_cpu *this_cpu(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&cpu_stats, &zero);
}

s32 OP(demo_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	struct demo_cpu *on_cpu = this_cpu();
	bool idle = false;
	s32 cpu;

	COUNT(nr_select_cpu);
	/* Of 0 to 3 one that a task which is bound to 0 and 1, or to 2 and 3, may not use: the kernel falls back to another. */
	if (misplace && p->nr_cpus_allowed == 2)
		return prev_cpu ^ 2;
	cpu = scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, &idle);
	if (!idle || stalled() || in_starved_cgroup(p))
		return cpu;

	scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, slice_ns, 0);
	COUNT(nr_dispatched);
	COUNT(stats.placed.direct);
	if (on_cpu)
		COUNT(on_cpu->nr_idle_picks);
	return cpu;
}

static void count_enqueue(struct task_struct *p, u64 enq_flags)
{
	u32 slot = (enq_flags & SCX_ENQ_WAKEUP ? 1 : 0) | (enq_flags & SCX_ENQ_HEAD ? 2 : 0);
	u64 *by_flag = bpf_map_lookup_elem(&enqueues_by_flag, &slot);

	if (frozen())
		return;
	last_enqueued_pid = p->pid;
	if (enq_flags & SCX_ENQ_WAKEUP)
		stats.saw_wakeup = 1;
	if (by_flag)
		__sync_fetch_and_add(by_flag, 1);
}

void OP(demo_enqueue, struct task_struct *p, u64 enq_flags)
{
	COUNT(nr_enqueued);
	count_enqueue(p, enq_flags);
	if (in_starved_cgroup(p)) {
		COUNT(stats.placed.starved);
		scx_bpf_dsq_insert(p, STARVED_DSQ, slice_ns, enq_flags);
	} else if (use_local) {
		COUNT(stats.placed.direct);
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, slice_ns, enq_flags);
	} else {
		COUNT(stats.placed.shared);
		scx_bpf_dsq_insert(p, SHARED_DSQ, slice_ns, enq_flags);
	}
}

/* The starved get one slice each starve_ns, and none if that is 0. */
static bool serve_starved(void)
{
	u64 now = bpf_ktime_get_ns();

	if (!starve_ns || now < starved_served_at_ns || now - starved_served_at_ns < starve_ns)
		return false;
	if (!scx_bpf_dsq_move_to_local(STARVED_DSQ))
		return false;
	starved_served_at_ns = now;
	return true;
}

void OP(demo_dispatch, s32 cpu, struct task_struct *prev)
{
	misbehave();
	if (stalled())
		return;
	if (serve_starved() || scx_bpf_dsq_move_to_local(SHARED_DSQ))
		COUNT(nr_dispatched);
}

void OP(demo_running, struct task_struct *p)
{
	u32 pid = p->pid, weight = p->scx.weight;
	u64 now = bpf_ktime_get_ns(), one = 1;
	struct demo_cpu *on_cpu = this_cpu();
	struct demo_task *task;
	u64 *runs;

	misbehave();
	if (frozen())
		return;
	COUNT(nr_running);
	if (on_cpu)
		COUNT(on_cpu->nr_running);
	task = bpf_map_lookup_elem(&task_stats, &pid);
	if (task) {
		task->nr_runs++;
		task->started_at_ns = now;
		task->last_cpu = bpf_get_smp_processor_id();
		bpf_probe_read_kernel_str(task->comm, sizeof(task->comm), p->comm);
	}
	bpf_map_update_elem(&recent_runs, &pid, &now, BPF_ANY);
	runs = bpf_map_lookup_elem(&runs_by_weight, &weight);
	if (runs)
		(*runs)++;
	else
		bpf_map_update_elem(&runs_by_weight, &weight, &one, BPF_NOEXIST);
}

/* One call of bpf_loop may go round 2^23 times, which some CPUs do within the time that is to pass. */
#define HOLD_ROUNDS (1 << 20)

static int wait_for(u32 index, u64 *until)
{
	return bpf_ktime_get_ns() >= *until;
}

static int wait_on(u32 index, u64 *until)
{
	bpf_loop(HOLD_ROUNDS, wait_for, until, 0);
	return wait_for(index, until);
}

/*
 * Used only with --hold-tick-ms. A tick has interrupts disabled and its runqueue locked: until it returns, its CPU does not
 * tick, and the runqueue's clock stands, while the task goes on to be the one that is running there.
 */
void OP(demo_tick, struct task_struct *p)
{
	u64 now = bpf_ktime_get_ns(), held = held_at_ns, until = now + hold_tick_ns;

	/* As long as it holds a CPU it holds none afterwards; of two CPUs that come here at once, one does it. */
	if (now > held && now - held >= 2 * hold_tick_ns &&
	    __sync_val_compare_and_swap(&held_at_ns, held, now) == held) {
		COUNT(nr_holds);
		bpf_loop(HOLD_ROUNDS, wait_on, &until, 0);
	}
}

void OP(demo_stopping, struct task_struct *p, bool runnable)
{
	u64 now = bpf_ktime_get_ns(), ran_ns, quarter;
	struct demo_cpu *on_cpu = this_cpu();
	struct demo_task *task;
	u32 pid = p->pid;
	int length;

	if (frozen())
		return;
	COUNT(nr_stopping);
	stats.last_pid = pid;
	length = bpf_probe_read_kernel_str(stats.last_comm, sizeof(stats.last_comm), p->comm);
	if (length > 0 && length - 1 > stats.longest_comm)
		stats.longest_comm = length - 1;
	if (p->flags & PF_KTHREAD)
		stats.saw_kthread = 1;

	task = bpf_map_lookup_elem(&task_stats, &pid);
	if (!task || !task->started_at_ns || now < task->started_at_ns)
		return;
	ran_ns = now - task->started_at_ns;
	task->runtime_ns += ran_ns;
	quarter = ran_ns * 4 / (slice_ns ?: 1);
	COUNT(stats.slices_by_length[quarter < 3 ? quarter : 3]);
	if (on_cpu)
		on_cpu->busy_ns += ran_ns;
}

s32 OP(demo_init_task, struct task_struct *p, struct scx_init_task_args *args)
{
	struct demo_task task = {};
	u32 pid = p->pid;

	if (frozen())
		return 0;
	COUNT(nr_tasks);
	bpf_probe_read_kernel_str(task.comm, sizeof(task.comm), p->comm);
	bpf_map_update_elem(&task_stats, &pid, &task, BPF_ANY);
	return 0;
}

void OP(demo_exit_task, struct task_struct *p, struct scx_exit_task_args *args)
{
	u32 pid = p->pid;

	if (!frozen())
		bpf_map_delete_elem(&task_stats, &pid);
}

s32 OP_SLEEPABLE(demo_init)
{
	s32 err;

	if (init_error[0]) {
		unsigned long long data[1] = { (unsigned long long)init_error };

		scx_bpf_error_bstr(exit_format, data, sizeof(data));
	}
	if (fail_init)
		return -fail_init;
	err = scx_bpf_create_dsq(SHARED_DSQ, -1);
	if (err)
		return err;
	err = scx_bpf_create_dsq(STARVED_DSQ, -1);
	if (err)
		return err;
	attached_at_ns = bpf_ktime_get_ns();
	miscounted_at_ns = attached_at_ns;
	starved_served_at_ns = attached_at_ns;
	held_at_ns = attached_at_ns;
	stats.phase = DEMO_SCHEDULING;
	return 0;
}

void OP(demo_exit, struct scx_exit_info *info)
{
	bpf_probe_read_kernel_str(exit_record.reason, sizeof(exit_record.reason), info->reason);
	bpf_probe_read_kernel_str(exit_record.message, sizeof(exit_record.message), info->msg);
	if (info->dump)
		bpf_probe_read_kernel_str(exit_dump, sizeof(exit_dump), info->dump);
	exit_record.exit_code = info->exit_code;
	/* The loader waits for the kind, so it goes last. */
	__sync_lock_test_and_set(&exit_record.kind, (u64)info->kind);
}

SEC(".struct_ops.link")
struct sched_ext_ops demo_ops = {
	.select_cpu = (void *)demo_select_cpu,
	.enqueue = (void *)demo_enqueue,
	.dispatch = (void *)demo_dispatch,
	.running = (void *)demo_running,
	.stopping = (void *)demo_stopping,
	.tick = (void *)demo_tick,
	.init_task = (void *)demo_init_task,
	.exit_task = (void *)demo_exit_task,
	.init = (void *)demo_init,
	.exit = (void *)demo_exit,
	.timeout_ms = 5000,
	.exit_dump_len = DEMO_DUMP_LEN,
	.name = "demo",
};

/* Loaded only by --fail-load: the verifier refuses it, for the looked-up value may be absent. */
SEC("?raw_tp/sys_enter")
int rejected_by_verifier(void *ctx)
{
	u32 pid = bpf_get_current_pid_tgid();
	struct demo_task *task = bpf_map_lookup_elem(&task_stats, &pid);

	return task->nr_runs;
}
