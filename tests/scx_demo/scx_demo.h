/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/*
 * What scx_demo.bpf.c and its loader share. The BPF side takes the kernel's types from vmlinux.h, the loader
 * defines the few that are used here.
 */
#ifndef SCX_DEMO_H
#define SCX_DEMO_H

#ifndef __bpf__
#include <linux/types.h>
typedef __s32 s32;
typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;
#endif

/* Exit code of --leave-after-ms. */
#define DEMO_LEAVE_CODE 7

#define DEMO_COMM_LEN 16
#define DEMO_NAME_LEN 64
#define DEMO_TEXT_LEN 128
#define DEMO_MESSAGE_LEN 1024
#define DEMO_DUMP_LEN 16384

/* What the scheduler is doing. */
enum demo_phase {
	DEMO_LOADED = 0,
	DEMO_SCHEDULING = 1,
	DEMO_STALLED = 2,
	DEMO_FAILING = 3,
};

/* Where tasks went. */
struct demo_placed {
	u64 direct;	/* straight to the local queue of an idle CPU */
	u64 shared;	/* to the shared queue */
	u64 starved;	/* to the queue of the starved cgroup */
};

/* One struct with what C structs are made of: nesting, an array, an enum, bit-fields, text. */
struct demo_stats {
	struct demo_placed placed;
	u64 slices_by_length[4];	/* ran for < 1/4, < 1/2, < 3/4 and the rest of a slice */
	enum demo_phase phase;
	u32 saw_wakeup : 1;
	u32 saw_kthread : 1;
	u32 longest_comm : 5;		/* length of the longest command name seen */
	s64 last_pid;
	char last_comm[DEMO_COMM_LEN];
};

/* Entry of task_stats. */
struct demo_task {
	u64 nr_runs;
	u64 runtime_ns;
	u64 started_at_ns;
	u32 last_cpu;
	char comm[DEMO_COMM_LEN];
};

/* Entry of cpu_stats, one for each CPU. */
struct demo_cpu {
	u64 nr_running;
	u64 nr_idle_picks;
	u64 busy_ns;
};

/* How the scheduler ended, kept for the loader; `kind` is written last. */
struct demo_exit {
	s64 exit_code;
	char reason[DEMO_TEXT_LEN];
	char message[DEMO_MESSAGE_LEN];
	u64 kind;
};

#endif
