// SPDX-License-Identifier: MIT OR Apache-2.0
/* Loader of map_zoo: fills the maps that only user space can, attaches, waits for a signal. "--entries N" fills one more. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "map_zoo.bpf.skel.h"

#define POLL_USEC 20000

static volatile sig_atomic_t stop_requested;

static void request_stop(int signal)
{
	(void)signal;
	stop_requested = 1;
}

static void need(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "map_zoo: cannot %s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(2);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = request_stop };
	__u32 key, inner, program, entries;
	__u64 value;
	struct bpf_link *link;
	struct map_zoo *skel;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	skel = map_zoo__open();
	need(skel ? 0 : errno, "open the BPF object");
	need(map_zoo__load(skel), "load the BPF programs");
	key = 42;
	inner = bpf_map__fd(skel->maps.inner_b);
	need(bpf_map_update_elem(bpf_map__fd(skel->maps.outer_hash), &key, &inner, BPF_ANY), "fill outer_hash");
	key = 1;
	program = bpf_program__fd(skel->progs.never_called);
	need(bpf_map_update_elem(bpf_map__fd(skel->maps.calls), &key, &program, BPF_ANY), "fill calls");
	entries = argc == 3 && !strcmp(argv[1], "--entries") ? strtoul(argv[2], NULL, 10) : 5;
	for (key = 0; key < entries; key++) {
		value = key * 3;
		need(bpf_map_update_elem(bpf_map__fd(skel->maps.many), &key, &value, BPF_ANY), "fill many");
	}
	link = bpf_map__attach_struct_ops(skel->maps.zoo_ops);
	need(link ? 0 : errno, "attach the scheduler");
	while (!stop_requested)
		usleep(POLL_USEC);
	bpf_link__destroy(link);
	map_zoo__destroy(skel);
	return 0;
}
