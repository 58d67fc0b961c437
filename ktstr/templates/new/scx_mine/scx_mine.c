// SPDX-License-Identifier: GPL-2.0-only
/* Loader of scx_mine: attaches the scheduler, and waits until it is told to end, or the kernel has ended the scheduler. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The skeleton calls types as the kernel does. */
typedef unsigned long long u64;
#include "scx_mine.bpf.skel.h"

static int fail(const char *what)
{
	fprintf(stderr, "scx_mine: cannot %s: %s\n", what, strerror(errno));
	return 1;
}

int main(void)
{
	const struct timespec moment = { .tv_nsec = 50 * 1000 * 1000 };
	struct scx_mine *skel;
	struct bpf_link *link;
	sigset_t ends;
	int ended;

	/* Waited for below. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigprocmask(SIG_BLOCK, &ends, NULL);

	skel = scx_mine__open_and_load();
	if (!skel)
		return fail("load the BPF programs");
	link = bpf_map__attach_struct_ops(skel->maps.mine_ops);
	if (!link)
		return fail("attach the scheduler");

	while (sigtimedwait(&ends, NULL, &moment) < 0 && !skel->bss->has_exited)
		;
	ended = skel->bss->has_exited;
	bpf_link__destroy(link);
	printf("scx_mine: %llu dispatches\n", skel->bss->nr_dispatched);
	scx_mine__destroy(skel);
	return ended;
}
