//! `#[ktstr_test]`, `declare_scheduler!` and `#[derive(Payload)]`.
//!
//! What each accepts is a table of keys (`test_keys`, `scheduler`): a row has a key's shape, default, documentation and
//! place in the description that the macro makes. Parser, errors, defaults, fields and the tables below come from the rows.

mod shape;
mod key;
mod args;
mod test_keys;
mod scheduler;
mod presets;
mod test_expand;
mod payload;

use proc_macro::TokenStream;

/// Turn a function into a test whose body runs inside a booted VM.
///
/// The function becomes an ordinary `#[test]`: on the host it boots the machine that the attributes describe
/// and judges the trace, in the guest it runs the function. Attributes are `key = value`, separated by commas;
/// a bool may be bare. Unknown, repeated, zero and contradictory keys are compile errors that point at the key.
///
/// | key | takes | default | meaning |
/// |---|---|---|---|
/// | `scheduler` | the path of a const | none | the scheduler under test, from `declare_scheduler!`; without it, the kernel's own |
/// | `numa_nodes` | an integer from 1 to 64 | the scheduler's, else 1 | NUMA nodes of the machine |
/// | `llcs` | an integer from 1 to 64 | the scheduler's, else 1 | last-level caches of the whole machine, a multiple of `numa_nodes` |
/// | `cores` | an integer from 1 to 256 | the scheduler's, else 2 | cores of each LLC |
/// | `threads` | an integer from 1 to 8 | the scheduler's, else 1 | threads of each core |
/// | `memory_mib` | an integer from 128 to 65536 | 512 | guest RAM; raised, with a note, when the files of the test need more |
/// | `duration_s` | an integer from 1 to 86400 | 12 | workload window |
/// | `enable_timeout_s` | an integer from 1 to 3600 | none | how long the scheduler may take to become enabled; without it, what its declaration says, else 30 s on hardware and 300 s on an emulated machine |
/// | `watchdog_timeout_s` | an integer from 1 to 30 | none | how long a task may wait for a CPU until sched_ext ejects the scheduler, written into the kernel's memory whenever the test's scheduler or a staged one was attached; one that restarts by itself has its own again. Without it, what the scheduler says (`timeout_ms` of its ops), which also is when the kernel looks for the first time: when half of it is over |
/// | `num_snapshots` | an integer from 0 to 256 | 0 | periodic captures, at least 100 ms apart |
/// | `checkpoint` | one of every, ends, never | every | when guest memory is kept: at every capture, at the ends (attach, end of the body, failure), or never |
/// | `pages` | one of kernel, all | kernel | pages that a checkpoint keeps; `kernel` is what decoders read |
/// | `seed` | an integer from 0 | 1 | what is chosen at random is chosen by it: the CPUs of `Affinity::RandomSubset`, and what a body makes of `ctx.seed`; the second runs of `auto_repro` have others |
/// | `claims` | a list of strings, `["..", ".."]` | none | claims as text |
/// | `check` | the path of a function | none | `fn(&Trace, &mut Verdict) -> Result<()>`, a judgement in code, run on the host |
/// | `fail_fast` | `true` or `false` | false | end the run at the first capture that breaks a claim which later ones cannot mend: all patterns but `steady`, `converges`, `eventually`, `final` and `phase_ratio`; a test with `expect_scx_error_contains` or `expect_scx_error_matches` goes on all the same |
/// | `not_starved` | `true` or `false` | the scheduler's, else false | every worker did work, made no pause over 2 s, got at least half of an even share of the CPUs, and had a CPU share within 15 % of its cgroup's others (3 s and 35 % in a debug build) |
/// | `max_gap_ms` | an integer from 1 to 86400000 | the scheduler's, else none | longest pause that a worker may make, in ms |
/// | `max_spread_pct` | an integer from 0 to 100 | the scheduler's, else none | largest spread of CPU shares inside a cgroup, in percent of a CPU |
/// | `min_share_pct` | an integer from 1 to 100 | the scheduler's, else none | least part that a worker that always wants to run must get of what an even split of the CPUs would give it, in percent; not judged where the scenario makes shares uneven: cpusets, weights, quotas, policies, nice values |
/// | `isolation` | `true` or `false` | the scheduler's, else false | workers ran only on CPUs of their cgroup's cpuset |
/// | `max_throughput_cv` | a number from 0 to 1000 | the scheduler's, else none | largest coefficient of variation (standard deviation over mean) of work per second among workers that do the same work in one cgroup |
/// | `min_work_rate` | a number from 0.001 to 1000000000000 | the scheduler's, else none | least work units per second of each worker |
/// | `min_iteration_rate` | a number from 0.001 to 1000000000000 | the scheduler's, else none | least turns of its loop per second of each worker |
/// | `max_migration_ratio` | a number from 0 to 1000000 | the scheduler's, else none | most migrations per turn of its loop of each worker |
/// | `max_p99_wake_latency_ns` | an integer from 1 to 3600000000000 | the scheduler's, else none | largest 99th percentile of the wake latencies of a cgroup, in ns |
/// | `max_wake_latency_cv` | a number from 0 to 1000 | the scheduler's, else none | largest coefficient of variation of the wake latencies of a cgroup |
/// | `min_page_locality` | a number from 0.001 to 1 | the scheduler's, else none | least part of a worker's pages that are on the NUMA nodes of its cgroup's cpuset, or without one of the CPUs it ran on |
/// | `max_cross_node_migration_ratio` | a number from 0 to 1 | the scheduler's, else none | largest part of a worker's migrations that go to another NUMA node |
/// | `max_imbalance_ratio` | a number from 1 to 1000000 | the scheduler's, else none | largest ratio of the longest runqueue to the shortest in a capture, each with one added |
/// | `max_local_dsq_depth` | an integer from 0 to 1000000 | the scheduler's, else none | most tasks in the local dispatch queue of a CPU in a capture |
/// | `max_fallback_rate` | a number from 0 to 1000000000 | the scheduler's, else none | most `SCX_EV_SELECT_CPU_FALLBACK` per second between two captures with a checkpoint |
/// | `max_keep_last_rate` | a number from 0 to 1000000000 | the scheduler's, else none | most `SCX_EV_DISPATCH_KEEP_LAST` per second between two captures with a checkpoint |
/// | `fail_on_stall` | `true` or `false` | the scheduler's, else false | the clock of a busy CPU's runqueue did not stand still between two captures |
/// | `sustained_samples` | an integer from 1 to 256 | the scheduler's, else none | captures in a row that must break one of the five limits before this one until it counts; without it, one |
/// | `expect_err` | `true` or `false` | false | the run must fail |
/// | `expect_scx_error_contains` | a string | none | text that the scheduler's error must contain |
/// | `expect_scx_error_matches` | a regular expression, `r".."` | none | regular expression that the scheduler's error must match |
/// | `expect_scx_exit` | a string | none | kind of exit that the scheduler must leave with, such as `UNREG_KERN` or `ERROR_STALL` |
/// | `allow_restarts` | `true` or `false` | false | a scheduler that exits and is enabled again does not fail the test |
/// | `allow_splats` | `true` or `false` | false | a WARN, a lockdep report, an RCU stall or another report of a fault in the kernel's log does not fail the test |
/// | `allow_inconclusive` | `true` or `false` | false | an inconclusive verdict passes |
/// | `host_only` | `true` or `false` | false | run the body on the host, in a process of its own: there is no VM, so that nothing of a guest, a scheduler or a machine can be given besides. The trace has what the body said and wrote |
/// | `ignore` | `true` or `false` | false | emit `#[ignore]` |
/// | `kaslr` | `true` or `false` | true | place the kernel at random |
/// | `performance` | `true` or `false` | false | each vCPU has a CPU of the host to itself, in a last-level cache in which no other test's machine runs; and what else the host permits: memory of the same NUMA node, huge pages, real-time priority, halts that do not leave the guest. A host that has no such CPUs refuses the test; what else it refuses is in the report |
/// | `attached` | `true` or `false` | true | begin with the scheduler enabled, from a template, where there is one; `false`: load it anew in every run |
/// | `auto_repro` | `true` or `false` | true | when the scheduler dies, run the test again in a second machine that watches who ends it, up to three times, and keep what that saw in the same trace; not where the run must fail |
/// | `history` | `true` or `false` | true | the guest's kernel notes context switches, wakeups, migrations and events of sched_ext, and the trace has what came before each capture |
/// | `kargs` | a list of strings, `["..", ".."]` | none | more words for the kernel's command line, after the scheduler's |
/// | `extra_sched_args` | a list of strings, `["..", ".."]` | none | more arguments for the scheduler, after its own |
/// | `sysctls` | a list of settings, `["NAME=VALUE", ".."]` | none | kernel parameters that are set before the body, as `kernel.pid_max=30000` |
/// | `config` | a string | none | the scheduler's configuration, as text; needed where its declaration has a `config_file_def`, and only there |
/// | `staged_schedulers` | a list of paths of consts, `[A, B]` | none | schedulers that the body may attach in the place of the one under test, with `Op::replace_scheduler` |
/// | `min_llcs` | an integer from 1 to 64 | the scheduler's, else 1 | gauntlet: least LLCs of the machine |
/// | `max_llcs` | an integer from 1 to 64 | the scheduler's, else 12 | gauntlet: most LLCs of the machine |
/// | `min_cpus` | an integer from 1 to 4096 | the scheduler's, else 1 | gauntlet: least CPUs of the machine |
/// | `max_cpus` | an integer from 1 to 4096 | the scheduler's, else 192 | gauntlet: most CPUs of the machine |
/// | `min_numa_nodes` | an integer from 1 to 64 | the scheduler's, else 1 | gauntlet: least NUMA nodes of the machine |
/// | `max_numa_nodes` | an integer from 1 to 64 | the scheduler's, else 1 | gauntlet: most NUMA nodes of the machine |
/// | `requires_smt` | `true` or `false` | the scheduler's, else false | gauntlet: only machines whose cores have more than one thread |
/// | `payload` | the path of a const | none | the payload that the test is about: its program is in the guest, and it must be run |
/// | `workloads` | a list of paths of consts, `[A, B]` | none | payloads besides, which load the machine: their programs are in the guest, and each must be run |
/// | `include_files` | a list of paths, `["..", ".."]`, or the path of a function | none | files and folders for the guest, relative to the package's folder: `"PATH"` is at the same path below `/ktstr/files`, in which payloads start, and `"PATH:/PATH/IN/GUEST"` where it says. Or `fn() -> Result<Vec<IncludedFile>>`, run on the host |
/// | `watch` | a list of strings, `["..", ".."]` | none | what is watched for stores from before the scheduler is loaded, each with a capture: `scx_root->exit_kind`, `bss.x when new > 100`; such a test loads its scheduler anew |
/// | `probe` | a list of strings, `["..", ".."]` | none | functions of the kernel and BPF programs whose calls are recorded from before the scheduler is loaded, with what is read at each: `enqueue_task_scx(p->pid, p->comm)`, `demo_enqueue(p->pid) returns`; such a test loads its scheduler anew |
#[proc_macro_attribute]
pub fn ktstr_test(attr: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = test_expand::expand(attr.into(), item.into(), test_expand::wants_variants());
    expanded.unwrap_or_else(|error| error.into_compile_error()).into()
}

/// The description of a test without attributes. For ktstr itself.
#[doc(hidden)]
#[proc_macro]
pub fn test_defaults(_: TokenStream) -> TokenStream {
    test_expand::defaults().unwrap_or_else(|error| error.into_compile_error()).into()
}

/// Declare a scheduler under test: `declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });`.
///
/// Makes a const `DEMO` of type `ktstr::prelude::Scheduler`. Attributes, docs and a visibility may stand before
/// the name.
///
/// | key | takes | default | meaning |
/// |---|---|---|---|
/// | `name` | a string | required | what reports call the scheduler |
/// | `binary` | a string | one of these is needed | a package of the workspace, or a program beside the test binary or on `PATH`; `KTSTR_SCHEDULER` overrides |
/// | `binary_path` | a string | one of these is needed | path of the program, relative to the package's folder |
/// | `source` | a string | one of these is needed | folder with C sources that ktstr builds, relative to the package's folder |
/// | `crates` | a string | one of these is needed | a version of a package of the registry, as `scx_lavd@1.1.4`, which ktstr builds once |
/// | `enable` | a list of strings, `["..", ".."]` | none | lines `echo VALUE > /path` that are run in the guest before it is started; without a program they are what switches on a scheduler that is part of the kernel |
/// | `disable` | a list of strings, `["..", ".."]` | none | the same for its end: they are run however the run ends |
/// | `sched_args` | a list of strings, `["..", ".."]` | none | its arguments |
/// | `topology` | (numa_nodes, llcs, cores, threads) | none | the topology of tests that give none |
/// | `kargs` | a list of strings, `["..", ".."]` | none | words for the kernel's command line |
/// | `sysctls` | a list of settings, `["NAME=VALUE", ".."]` | none | kernel parameters that are set before it is started, as `kernel.sched_rt_runtime_us=-1` |
/// | `config_file` | a string | none | its configuration, a path relative to the package's folder: in the guest it is where `{file}` in `sched_args` says, or behind `--config` |
/// | `config_file_def` | two strings, `("..", "..")` | none | how it takes a configuration that each test gives as `config`: its arguments, with `{file}` for the path, and the path in the guest: `("--config {file}", "/etc/mine.json")` |
/// | `cgroup_parent` | a string | none | the cgroup that its tests make theirs in, as `workload.slice/tests`, for a scheduler that goes by their paths |
/// | `enable_timeout_s` | an integer from 1 to 3600 | none | how long it may take to become enabled, for tests that do not say |
/// | `assert` | a constant expression of type `Assert` | none | limits for all tests of it, where a test does not set its own |
/// | `constraints` | a constant expression of type `Constraints` | none | machines of the gauntlet for all tests of it, where a test does not set its own bounds |
/// | `kernels` | a string | none | the kernels that it is for, as `7.1..` or `6.16..7.2` with both ends in it: on another one its tests are skipped |
///
/// Exactly one of `binary`, `binary_path`, `source` and `crates` is given, or none of them where `enable` switches on a scheduler that
/// is part of the kernel. A name is made of ASCII letters, digits, `_`, `-` and
/// `.`; `eevdf` is reserved.
#[proc_macro]
pub fn declare_scheduler(input: TokenStream) -> TokenStream {
    scheduler::expand(input.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}

/// The table of the gauntlet's machines: an array of `(name, [numa_nodes, llcs, cores, threads])`. For ktstr itself.
#[doc(hidden)]
#[proc_macro]
pub fn presets(_: TokenStream) -> TokenStream {
    presets::expand().into()
}

/// Make a payload of a struct without fields: a program that tests run in their guests.
///
/// ```text
/// #[derive(Payload)]
/// #[payload(binary = "fio", package = "fio", output = Json)]
/// #[default_args("--output-format=json", "--name=reads", "--rw=randread", "--size=1m")]
/// #[metric(name = "jobs.0.read.iops", polarity = HigherBetter, unit = "iops")]
/// #[default_check(min("jobs.0.read.iops", 10.0))]
/// #[include_files("jobs")]
/// struct Fio;
/// ```
///
/// The keys of `#[payload(..)]`:
///
/// | key | takes | default | meaning |
/// |---|---|---|---|
/// | `binary` | a string | required | the program: a name on `PATH` or in `package`, or a path relative to the folder of the Rust package, where it has a `/` |
/// | `package` | a string | none | package of the distribution that has the program, for hosts on whose `PATH` it is not |
/// | `output` | one of Json, ExitCode | ExitCode | what is made of its output: the numbers of the JSON that it writes are metrics, or only its exit code counts |
/// | `name` | a string | none | what reports and claims call it; without it, the struct's name in snake case |
///
/// Those of `#[metric(..)]`, which may be there any number of times; each is a number that the payload must write:
///
/// | key | takes | default | meaning |
/// |---|---|---|---|
/// | `name` | a string | required | its path in the JSON, with dots between: `jobs.0.read.iops` |
/// | `polarity` | one of Neutral, HigherBetter, LowerBetter | Neutral | which of two values is the better one, for reports |
/// | `unit` | a string | "" | its unit, for reports |
///
/// `#[default_args("..")]` has the arguments that come before a test's own, `#[default_check(..)]` checks of every run (`min("x", 1.0)`,
/// `max`, `range`, `exists("x")`, `exit_code_eq(0)`), and `#[include_files("..")]` files and folders that it reads, written as the key of
/// `#[ktstr_test]` of that name.
#[proc_macro_derive(Payload, attributes(payload, default_args, metric, default_check, include_files))]
pub fn derive_payload(input: TokenStream) -> TokenStream {
    payload::expand(input.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}
