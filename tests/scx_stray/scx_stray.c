// SPDX-License-Identifier: MIT OR Apache-2.0
/* Loader of scx_stray: sets the knobs, attaches, waits for a signal or for the scheduler's end. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The skeleton calls types as the kernel does. */
typedef unsigned int u32;
typedef unsigned long long u64;
#include "scx_stray.bpf.skel.h"

/* Kinds of scx_exit_kind from here on are errors (include/linux/sched/ext.h). */
#define FIRST_ERROR_KIND 1024
#define NSEC_PER_MSEC 1000000ULL

static const char usage[] =
	"usage: scx_stray [OPTION]...\n"
	"A scheduler by vtime that wrongs the tasks called \"stray\".\n"
	"\n"
	"  --behind MS   insert them so far behind their vtime\n"
	"  --misplace    put them onto a CPU that they may not run on\n"
	"  --end         end with an error that names one\n"
	"  --stop        dispatch nothing any more to anybody, once there is one\n"
	"  --timeout MS  the watchdog's (default 5000)\n";

static int fail(const char *what)
{
	fprintf(stderr, "scx_stray: cannot %s: %s\n", what, strerror(errno));
	return 1;
}

static int parse(struct scx_stray *skel, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--misplace"))
			skel->rodata->misplaces = true;
		else if (!strcmp(argv[i], "--end"))
			skel->rodata->ends = true;
		else if (!strcmp(argv[i], "--stop"))
			skel->rodata->stops = true;
		else if (!strcmp(argv[i], "--behind") && i + 1 < argc)
			skel->rodata->behind_ns = strtoull(argv[++i], NULL, 10) * NSEC_PER_MSEC;
		else if (!strcmp(argv[i], "--timeout") && i + 1 < argc)
			skel->struct_ops.stray_ops->timeout_ms = strtoul(argv[++i], NULL, 10);
		else
			return -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	const struct timespec moment = { .tv_nsec = 20 * 1000 * 1000 };
	struct scx_stray *skel;
	struct bpf_link *link;
	sigset_t ends;
	u64 kind;

	/* Waited for below. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigprocmask(SIG_BLOCK, &ends, NULL);

	skel = scx_stray__open();
	if (!skel)
		return fail("open the BPF object");
	if (parse(skel, argc, argv)) {
		fputs(usage, stderr);
		return 2;
	}
	if (scx_stray__load(skel))
		return fail("load the BPF programs");
	link = bpf_map__attach_struct_ops(skel->maps.stray_ops);
	if (!link)
		return fail("attach the scheduler");

	while (sigtimedwait(&ends, NULL, &moment) < 0 && !skel->bss->exit_kind)
		;
	bpf_link__destroy(link);
	kind = skel->bss->exit_kind;
	printf("scx_stray: %llu dispatches, ended by kind %llu\n", skel->bss->nr_dispatched, kind);
	scx_stray__destroy(skel);
	return kind >= FIRST_ERROR_KIND;
}
