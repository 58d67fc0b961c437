// SPDX-License-Identifier: MIT OR Apache-2.0
/* Loader of scx_demo: sets the knobs, attaches, waits for a signal or for the scheduler's end. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scx_demo.h"
#include "scx_demo.bpf.skel.h"

/* Kinds of scx_exit_kind from here on are errors (include/linux/sched/ext.h). */
#define FIRST_ERROR_KIND 1024
/* The bit of an exit code by which the kernel asks for a restart: SCX_ECODE_ACT_RESTART (kernel/sched/ext_internal.h). */
#define RESTART_CODE (1LL << 48)
#define NSEC_PER_USEC 1000ULL
#define NSEC_PER_MSEC 1000000ULL
#define POLL_USEC 20000

static const char usage[] =
	"usage: scx_demo [OPTION]...\n"
	"A first-in first-out sched_ext scheduler that counts what it does, and misbehaves on demand.\n"
	"Times count from the attach.\n"
	"\n"
	"  --slice-us N         length of a time slice (default 20000)\n"
	"  --config FILE        a file with a line \"slice-us N\", in the place of that option\n"
	"  --timeout-ms N       watchdog timeout (default 5000)\n"
	"  --stall-after-ms N   dispatch nothing any more after N ms\n"
	"  --starve CGROUP      serve tasks of the cgroup of this name only now and then\n"
	"  --starve-ms N        ... one slice each N ms (default 0: never)\n"
	"  --local              queue tasks at the CPU that they are on\n"
	"  --misplace           choose one of 4 CPUs that a task bound to 0-1 or 2-3 may not use\n"
	"  --exit-after-ms N    exit with an error after N ms\n"
	"  --leave-after-ms N   leave in an orderly way after N ms\n"
	"  --exit-message TEXT  ... and this message\n"
	"  --restart            load anew when the kernel ends it and asks for that\n"
	"  --freeze-after-ms N  count nothing any more after N ms, but schedule on\n"
	"  --task-room N        keep numbers of at most N tasks (default 8192)\n"
	"  --miscount-ms N      set nr_dispatched back to 0 each N ms\n"
	"  --hold-tick-ms N     in a tick keep the CPU for N ms, again N ms later\n"
	"  --init-error TEXT    end itself with an error of this text while it is enabled\n"
	"  --fail-init N        let ops.init fail with error number N; with --init-error at the second try\n"
	"  --fail-load          load a program that the verifier rejects\n"
	"  --never-load         say so, and load nothing until SIGINT\n"
	"  --help               print this\n";

enum option_id {
	SLICE_US = 256,
	CONFIG,
	TIMEOUT_MS,
	STALL_AFTER_MS,
	STARVE,
	STARVE_MS,
	LOCAL,
	MISPLACE,
	EXIT_AFTER_MS,
	LEAVE_AFTER_MS,
	EXIT_MESSAGE,
	RESTART,
	FREEZE_AFTER_MS,
	TASK_ROOM,
	MISCOUNT_MS,
	HOLD_TICK_MS,
	INIT_ERROR,
	FAIL_INIT,
	FAIL_LOAD,
	NEVER_LOAD,
	HELP,
};

static const struct option options[] = {
	{ "slice-us", required_argument, NULL, SLICE_US },
	{ "config", required_argument, NULL, CONFIG },
	{ "timeout-ms", required_argument, NULL, TIMEOUT_MS },
	{ "stall-after-ms", required_argument, NULL, STALL_AFTER_MS },
	{ "starve", required_argument, NULL, STARVE },
	{ "starve-ms", required_argument, NULL, STARVE_MS },
	{ "local", no_argument, NULL, LOCAL },
	{ "misplace", no_argument, NULL, MISPLACE },
	{ "exit-after-ms", required_argument, NULL, EXIT_AFTER_MS },
	{ "leave-after-ms", required_argument, NULL, LEAVE_AFTER_MS },
	{ "restart", no_argument, NULL, RESTART },
	{ "exit-message", required_argument, NULL, EXIT_MESSAGE },
	{ "freeze-after-ms", required_argument, NULL, FREEZE_AFTER_MS },
	{ "task-room", required_argument, NULL, TASK_ROOM },
	{ "miscount-ms", required_argument, NULL, MISCOUNT_MS },
	{ "hold-tick-ms", required_argument, NULL, HOLD_TICK_MS },
	{ "init-error", required_argument, NULL, INIT_ERROR },
	{ "fail-init", required_argument, NULL, FAIL_INIT },
	{ "fail-load", no_argument, NULL, FAIL_LOAD },
	{ "never-load", no_argument, NULL, NEVER_LOAD },
	{ "help", no_argument, NULL, HELP },
	{ NULL, 0, NULL, 0 },
};

static volatile sig_atomic_t stop_requested;
static bool restart;
/* Tries so far to be enabled. */
static int tries;

static int never_load;

static void request_stop(int signal)
{
	(void)signal;
	stop_requested = 1;
}

static void fail(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "scx_demo: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

static u64 number(const char *what, const char *text, u64 max)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value > max)
		fail("--%s wants a whole number up to %llu, not \"%s\"", what, (unsigned long long)max, text);
	return value;
}

static void text_into(const char *what, char *to, size_t room, const char *text)
{
	if (strlen(text) >= room)
		fail("--%s takes at most %zu characters", what, room - 1);
	memset(to, 0, room);
	strcpy(to, text);
}

static u64 slice_of_file(const char *path)
{
	char value[32] = "";
	FILE *file = fopen(path, "r");

	if (!file)
		fail("could not open %s: %s", path, strerror(errno));
	if (fscanf(file, " slice-us %31s", value) != 1)
		fail("%s has no line \"slice-us N\"", path);
	fclose(file);
	return number("config", value, 60 * 1000 * 1000) * NSEC_PER_USEC;
}

static void parse(struct scx_demo *skel, int argc, char **argv)
{
	const u64 max_ms = 24 * 60 * 60 * 1000;
	int index = 0, id;

	while ((id = getopt_long(argc, argv, "", options, &index)) != -1) {
		const char *name = id == '?' ? "" : options[index].name;

		switch (id) {
		case SLICE_US:
			skel->rodata->slice_ns = number(name, optarg, 60 * 1000 * 1000) * NSEC_PER_USEC;
			break;
		case CONFIG:
			skel->rodata->slice_ns = slice_of_file(optarg);
			break;
		case TIMEOUT_MS:
			/* The kernel's own limit is 30 s. */
			skel->struct_ops.demo_ops->timeout_ms = number(name, optarg, 30000);
			break;
		case STALL_AFTER_MS:
			skel->rodata->stall_after_ns = number(name, optarg, max_ms) * NSEC_PER_MSEC;
			break;
		case STARVE:
			text_into(name, (char *)skel->rodata->starve_cgroup,
				  sizeof(skel->rodata->starve_cgroup), optarg);
			break;
		case STARVE_MS:
			skel->rodata->starve_ns = number(name, optarg, max_ms) * NSEC_PER_MSEC;
			break;
		case LOCAL:
			skel->rodata->use_local = true;
			break;
		case MISPLACE:
			skel->rodata->misplace = true;
			break;
		case EXIT_AFTER_MS:
			skel->rodata->exit_after_ns = number(name, optarg, max_ms) * NSEC_PER_MSEC;
			break;
		case LEAVE_AFTER_MS:
			skel->rodata->leave_after_ns = number(name, optarg, max_ms) * NSEC_PER_MSEC;
			break;
		case RESTART:
			restart = true;
			break;
		case EXIT_MESSAGE:
			text_into(name, (char *)skel->rodata->exit_message,
				  sizeof(skel->rodata->exit_message), optarg);
			break;
		case FREEZE_AFTER_MS:
			skel->rodata->freeze_after_ns = number(name, optarg, max_ms) * NSEC_PER_MSEC;
			break;
		case TASK_ROOM:
			bpf_map__set_max_entries(skel->maps.task_stats, number(name, optarg, 1 << 16));
			break;
		case MISCOUNT_MS:
			skel->rodata->miscount_ns = number(name, optarg, max_ms) * NSEC_PER_MSEC;
			break;
		case HOLD_TICK_MS:
			/* Beyond some 20 s the kernel takes the CPU to be locked up. */
			skel->rodata->hold_tick_ns = number(name, optarg, 10000) * NSEC_PER_MSEC;
			break;
		case INIT_ERROR:
			if (tries == 1)
				text_into(name, (char *)skel->rodata->init_error,
					  sizeof(skel->rodata->init_error), optarg);
			break;
		case FAIL_INIT:
			skel->rodata->fail_init = number(name, optarg, 4095);
			break;
		case FAIL_LOAD:
			bpf_program__set_autoload(skel->progs.rejected_by_verifier, true);
			break;
		case NEVER_LOAD:
			never_load = 1;
			break;
		case HELP:
			fputs(usage, stdout);
			exit(0);
		default:
			fputs(usage, stderr);
			exit(2);
		}
	}
	/* Not even called where it is not wanted: a tick is often. libbpf then does not load the program either. */
	if (!skel->rodata->hold_tick_ns)
		skel->struct_ops.demo_ops->tick = NULL;
	if (optind < argc)
		fail("unexpected argument \"%s\"", argv[optind]);
}

static u64 exit_kind(const struct scx_demo *skel)
{
	return __atomic_load_n(&skel->bss->exit_record.kind, __ATOMIC_ACQUIRE);
}

/* Prints how the kernel ended the scheduler; 1 if that was an error. */
static int report_exit(const struct scx_demo *skel)
{
	const struct demo_exit *record = &skel->bss->exit_record;
	u64 kind = exit_kind(skel);

	fprintf(stderr, "scx_demo: ended by the kernel: kind %llu, code %lld, reason \"%s\", message \"%s\"\n",
		(unsigned long long)kind, (long long)record->exit_code, record->reason, record->message);
	if (skel->data_dump->exit_dump[0])
		fprintf(stderr, "%s\n", skel->data_dump->exit_dump);
	return kind >= FIRST_ERROR_KIND;
}

/* Loads, attaches and waits for the end; 1 if that was an error. *again: it is to be loaded anew. */
static int run(int argc, char **argv, bool *again)
{
	struct bpf_link *link = NULL;
	struct scx_demo *skel;
	int err, status = 0;

	skel = scx_demo__open();
	if (!skel)
		fail("cannot open the BPF object: %s", strerror(errno));
	tries++;
	parse(skel, argc, argv);
	if (never_load)
		printf("scx_demo: waiting for SIGINT\n");
	while (never_load && !stop_requested)
		usleep(POLL_USEC);
	if (never_load) {
		scx_demo__destroy(skel);
		return 0;
	}
	err = scx_demo__load(skel);
	if (err) {
		scx_demo__destroy(skel);
		fail("cannot load the BPF programs: %s", strerror(-err));
	}
	link = bpf_map__attach_struct_ops(skel->maps.demo_ops);
	if (!link) {
		err = errno;
		scx_demo__destroy(skel);
		fail("cannot attach the scheduler: %s", strerror(err));
	}
	/* One that failed in its init is not refused: the kernel tells of it as of any other end. */
	if (!exit_kind(skel))
		printf("scx_demo: enabled\n");

	while (!stop_requested && !exit_kind(skel))
		usleep(POLL_USEC);

	if (exit_kind(skel))
		status = report_exit(skel);
	*again = skel->rodata->init_error[0] && skel->rodata->fail_init;
	*again |= restart && !stop_requested && (skel->bss->exit_record.exit_code & RESTART_CODE);
	bpf_link__destroy(link);
	printf("scx_demo: detached after %llu dispatches\n", (unsigned long long)skel->bss->nr_dispatched);
	scx_demo__destroy(skel);
	return status;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = request_stop };
	bool again = false;
	int status;

	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	do {
		optind = 1;
		status = run(argc, argv, &again);
	} while (again);
	return status;
}
