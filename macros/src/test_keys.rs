//! The keys of `#[ktstr_test]`, and what they may not be together.

use proc_macro2::Span;
use quote::ToTokens;
use strsim::levenshtein;
use syn::Result;
use syn::spanned::Spanned;

use crate::args::{Args, Faults};
use crate::key::Place::{Constraint, Limit, Payload, TestAttribute, Topology};
use crate::key::{Key, count, decimal, flag, key};
use crate::shape::{Shape, Value};

/// Longest watchdog timeout that the kernel takes, in s: `SCX_WATCHDOG_MAX_TIMEOUT` of `kernel/sched/ext.c`.
const WATCHDOG_MAX_S: u64 = 30;
/// Longest time that a scheduler may take to become enabled, in s.
pub const MAX_ENABLE_S: u64 = 3600;
/// Most periodic captures of one test.
const MAX_SNAPSHOTS: u64 = 256;
/// Periodic captures may not be closer than this, in ms.
const MIN_SNAPSHOT_GAP_MS: u64 = 100;

/// Every key, in the order in which errors list them. To add one: a row here, and the field of `TestDef` that it fills;
/// the test below then prints the row of the documentation.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("scheduler", Shape::Const,
        "the scheduler under test, from `declare_scheduler!`; without it, the kernel's own"),
    key("numa_nodes", count(1, 64, "NUMA node"),
        "NUMA nodes of the machine").place(Topology).default("1"),
    key("llcs", count(1, 64, "LLC"),
        "last-level caches of the whole machine, a multiple of `numa_nodes`").place(Topology).default("1"),
    key("cores", count(1, 256, "core in each LLC"),
        "cores of each LLC").place(Topology).default("2"),
    key("threads", count(1, 8, "thread in each core"),
        "threads of each core").place(Topology).default("1"),
    key("memory_mib", count(128, 65_536, "MiB of RAM"),
        "guest RAM; raised, with a note, when the files of the test need more").default("512"),
    key("duration_s", count(1, 86_400, "s of workload"),
        "workload window").default("12"),
    key("enable_timeout_s", count(1, MAX_ENABLE_S, "s until the scheduler is enabled"),
        "how long the scheduler may take to become enabled; without it, what its declaration says, else 30 s on \
         hardware and 300 s on an emulated machine")
        .needs(&[("scheduler", "a `scheduler`, which is what is enabled")]),
    key("watchdog_timeout_s", count(1, WATCHDOG_MAX_S, "s before a stall is called one"),
        "how long a task may wait for a CPU until sched_ext ejects the scheduler, written into the kernel's memory whenever the test's \
         scheduler or a staged one was attached; one that restarts by itself has its own again. Without it, what the scheduler says \
         (`timeout_ms` of its ops), which also is when the kernel looks for the first time: when half of it is over")
        .needs(&[("scheduler", "a `scheduler`: only sched_ext has that watchdog")]),
    key("num_snapshots", count(0, MAX_SNAPSHOTS, "periodic captures"),
        "periodic captures, at least 100 ms apart").default("0"),
    key("checkpoint", Shape::Word { of: "Checkpoint", words: &["every", "ends", "never"] },
        "when guest memory is kept: at every capture, at the ends (attach, end of the body, failure), or never")
        .default("every"),
    key("pages", Shape::Word { of: "Pages", words: &["kernel", "all"] },
        "pages that a checkpoint keeps; `kernel` is what decoders read").default("kernel"),
    key("seed", count(0, u64::MAX, "as seed"),
        "what is chosen at random is chosen by it: the CPUs of `Affinity::RandomSubset`, and what a body makes of `ctx.seed`; the second \
         runs of `auto_repro` have others").default("1"),
    key("claims", Shape::Texts,
        "claims as text"),
    key("check", Shape::HostCheck,
        "`fn(&Trace, &mut Verdict) -> Result<()>`, a judgement in code, run on the host"),
    flag("fail_fast", "end the run at the first capture that breaks a claim which later ones cannot mend: all patterns but `steady`, \
         `converges`, `eventually`, `final` and `phase_ratio`; a test with `expect_scx_error_contains` or `expect_scx_error_matches` goes \
         on all the same")
        .needs(&[("claims", "`claims`, which are what it looks at")]),
    flag("not_starved", "every worker did work, made no pause over 2 s, got at least half of an even share of the CPUs, and had \
         a CPU share within 15 % of its cgroup's others (3 s and 35 % in a debug build)").place(Limit),
    key("max_gap_ms", count(1, 86_400_000, "ms between two turns of a worker"),
        "longest pause that a worker may make, in ms").place(Limit),
    key("max_spread_pct", count(0, 100, "percent of CPU"),
        "largest spread of CPU shares inside a cgroup, in percent of a CPU").place(Limit),
    key("min_share_pct", count(1, 100, "percent of an even share"),
        "least part that a worker that always wants to run must get of what an even split of the CPUs would give it, in \
         percent; not judged where the scenario makes shares uneven: cpusets, weights, quotas, policies, nice values").place(Limit),
    flag("isolation", "workers ran only on CPUs of their cgroup's cpuset").place(Limit),
    key("max_throughput_cv", decimal(0.0, 1000.0, "standard deviations over the mean"),
        "largest coefficient of variation (standard deviation over mean) of work per second among workers that do the same \
         work in one cgroup").place(Limit),
    key("min_work_rate", decimal(0.001, 1e12, "work units per second"),
        "least work units per second of each worker").place(Limit),
    key("min_iteration_rate", decimal(0.001, 1e12, "turns per second"),
        "least turns of its loop per second of each worker").place(Limit),
    key("max_migration_ratio", decimal(0.0, 1e6, "migrations per turn"),
        "most migrations per turn of its loop of each worker").place(Limit),
    key("max_p99_wake_latency_ns", count(1, 3_600_000_000_000, "ns from the wake until the worker ran"),
        "largest 99th percentile of the wake latencies of a cgroup, in ns").place(Limit),
    key("max_wake_latency_cv", decimal(0.0, 1000.0, "standard deviations over the mean"),
        "largest coefficient of variation of the wake latencies of a cgroup").place(Limit),
    key("min_page_locality", decimal(0.001, 1.0, "of the pages"),
        "least part of a worker's pages that are on the NUMA nodes of its cgroup's cpuset, or without one of the CPUs it ran on")
        .place(Limit),
    key("max_cross_node_migration_ratio", decimal(0.0, 1.0, "of the migrations"),
        "largest part of a worker's migrations that go to another NUMA node").place(Limit),
    key("max_imbalance_ratio", decimal(1.0, 1e6, "of the shortest runqueue"),
        "largest ratio of the longest runqueue to the shortest in a capture, each with one added").place(Limit),
    key("max_local_dsq_depth", count(0, 1_000_000, "tasks"),
        "most tasks in the local dispatch queue of a CPU in a capture").place(Limit)
        .needs(&[("scheduler", "a `scheduler`: only sched_ext has dispatch queues")]),
    key("max_fallback_rate", decimal(0.0, 1e9, "events per second"),
        "most `SCX_EV_SELECT_CPU_FALLBACK` per second between two captures with a checkpoint").place(Limit)
        .needs(&[("scheduler", "a `scheduler`: only sched_ext counts its events")]),
    key("max_keep_last_rate", decimal(0.0, 1e9, "events per second"),
        "most `SCX_EV_DISPATCH_KEEP_LAST` per second between two captures with a checkpoint").place(Limit)
        .needs(&[("scheduler", "a `scheduler`: only sched_ext counts its events")]),
    flag("fail_on_stall", "the clock of a busy CPU's runqueue did not stand still between two captures").place(Limit),
    key("sustained_samples", count(1, MAX_SNAPSHOTS, "captures in a row"),
        "captures in a row that must break one of the five limits before this one until it counts; without it, one").place(Limit),
    flag("expect_err", "the run must fail"),
    key("expect_scx_error_contains", Shape::Text,
        "text that the scheduler's error must contain").not_empty(", which every text contains")
        .needs(&[("expect_err", "`expect_err`: a run that must not fail has no error to match"),
                 ("scheduler", "a `scheduler`: the kernel's own has no sched_ext error")]),
    key("expect_scx_error_matches", Shape::Pattern,
        "regular expression that the scheduler's error must match")
        .needs(&[("expect_err", "`expect_err`: a run that must not fail has no error to match"),
                 ("scheduler", "a `scheduler`: the kernel's own has no sched_ext error")]),
    key("expect_scx_exit", Shape::Text,
        "kind of exit that the scheduler must leave with, such as `UNREG_KERN` or `ERROR_STALL`")
        .not_empty(", which is the name of no exit kind")
        .needs(&[("scheduler", "a `scheduler`: the kernel's own does not exit")]),
    flag("allow_restarts", "a scheduler that exits and is enabled again does not fail the test")
        .needs(&[("scheduler", "a `scheduler`: the kernel's own does not restart")]),
    flag("allow_splats", "a WARN, a lockdep report, an RCU stall or another report of a fault in the kernel's log does not fail the \
         test"),
    flag("allow_inconclusive", "an inconclusive verdict passes"),
    flag("host_only", "run the body on the host, in a process of its own: there is no VM, so that nothing of a guest, a scheduler or a \
         machine can be given besides. The trace has what the body said and wrote"),
    flag("ignore", "emit `#[ignore]`").place(TestAttribute),
    flag("kaslr", "place the kernel at random").default("true"),
    flag("performance", "each vCPU has a CPU of the host to itself, in a last-level cache in which no other test's machine runs; and what \
         else the host permits: memory of the same NUMA node, huge pages, real-time priority, halts that do not leave the guest. A \
         host that has no such CPUs refuses the test; what else it refuses is in the report"),
    flag("attached", "begin with the scheduler enabled, from a template, where there is one; `false`: load it anew in \
         every run").default("true")
        .needs(&[("scheduler", "a `scheduler`, which is what is enabled in the template")]),
    flag("auto_repro", "when the scheduler dies, run the test again in a second machine that watches who ends it, up to three \
         times, and keep what that saw in the same trace; not where the run must fail").default("true")
        .needs(&[("scheduler", "a `scheduler`, whose failure is to happen again")]),
    flag("history", "the guest's kernel notes context switches, wakeups, migrations and events of sched_ext, and the trace has what came \
         before each capture").default("true"),
    key("kargs", Shape::Texts,
        "more words for the kernel's command line, after the scheduler's"),
    key("extra_sched_args", Shape::Texts,
        "more arguments for the scheduler, after its own")
        .needs(&[("scheduler", "a `scheduler` to give them to")]),
    key("sysctls", Shape::Settings,
        "kernel parameters that are set before the body, as `kernel.pid_max=30000`"),
    key("config", Shape::Text,
        "the scheduler's configuration, as text; needed where its declaration has a `config_file_def`, and only there")
        .needs(&[("scheduler", "a `scheduler` whose declaration has a `config_file_def`")]),
    key("staged_schedulers", Shape::Consts,
        "schedulers that the body may attach in the place of the one under test, with `Op::replace_scheduler`")
        .needs(&[("scheduler", "a `scheduler` that they take the place of")]),
    key("min_llcs", count(1, 64, "LLC"),
        "gauntlet: least LLCs of the machine").place(Constraint).default("1"),
    key("max_llcs", count(1, 64, "LLC"),
        "gauntlet: most LLCs of the machine").place(Constraint).default("12"),
    key("min_cpus", count(1, 4096, "CPU"),
        "gauntlet: least CPUs of the machine").place(Constraint).default("1"),
    key("max_cpus", count(1, 4096, "CPU"),
        "gauntlet: most CPUs of the machine").place(Constraint).default("192"),
    key("min_numa_nodes", count(1, 64, "NUMA node"),
        "gauntlet: least NUMA nodes of the machine").place(Constraint).default("1"),
    key("max_numa_nodes", count(1, 64, "NUMA node"),
        "gauntlet: most NUMA nodes of the machine").place(Constraint).default("1"),
    flag("requires_smt", "gauntlet: only machines whose cores have more than one thread").place(Constraint),
    key("payload", Shape::Const,
        "the payload that the test is about: its program is in the guest, and it must be run").place(Payload),
    key("workloads", Shape::Consts,
        "payloads besides, which load the machine: their programs are in the guest, and each must be run").place(Payload),
    key("include_files", Shape::Files,
        "files and folders for the guest, relative to the package's folder: `\"PATH\"` is at the same path below `/ktstr/files`, in \
         which payloads start, and `\"PATH:/PATH/IN/GUEST\"` where it says. Or `fn() -> Result<Vec<IncludedFile>>`, run on the host"),
    key("watch", Shape::Texts,
        "what is watched for stores from before the scheduler is loaded, each with a capture: `scx_root->exit_kind`, `bss.x when new > 100`; \
         such a test loads its scheduler anew"),
    key("probe", Shape::Texts,
        "functions of the kernel and BPF programs whose calls are recorded from before the scheduler is loaded, with what is read at each: \
         `enqueue_task_scx(p->pid, p->comm)`, `demo_enqueue(p->pid) returns`; such a test loads its scheduler anew"),
];

/// Check everything that can be checked without the scheduler.
///
/// # Errors
/// Every contradiction among the keys, all of them at once.
pub fn check(args: &Args) -> Result<()> {
    let mut faults = Faults::default();
    if args.is_set("host_only") {
        // What is not for the host is told that once, and not besides what it needs of a guest.
        check_host_only(args, &mut faults);
        return faults.into_result();
    }
    let span = |name| args.span(name).unwrap_or_else(Span::call_site);
    if let (Some(_), Some(_)) = (args.span("numa_nodes"), args.span("llcs"))
        && let (Some(numa_nodes), Some(llcs)) = (args.number("numa_nodes"), args.number("llcs"))
        && !llcs.is_multiple_of(numa_nodes)
    {
        let message = format!(
            "`llcs` = {llcs} is the machine's total and not a multiple of `numa_nodes` = {numa_nodes}"
        );
        faults.add(span("llcs"), message);
    }
    let snapshots = args.number("num_snapshots").unwrap_or_default();
    let gap_ms = snapshot_gap_ms(args.number("duration_s").unwrap_or_default(), snapshots);
    if snapshots > 0 && gap_ms < MIN_SNAPSHOT_GAP_MS {
        let message = format!(
            "`num_snapshots` = {snapshots} puts captures {gap_ms} ms apart; they must be at least \
             {MIN_SNAPSHOT_GAP_MS} ms apart: fewer of them, or a longer `duration_s`"
        );
        faults.add(span("num_snapshots"), message);
    }
    for (min, max) in
        [("min_llcs", "max_llcs"), ("min_cpus", "max_cpus"), ("min_numa_nodes", "max_numa_nodes")]
    {
        if let (Some(_), Some(_)) = (args.span(min), args.span(max))
            && let (Some(least), Some(most)) = (args.number(min), args.number(max))
            && least > most
        {
            let message =
                format!("`{min}` = {least} is more than `{max}` = {most}, so that no machine would do");
            faults.add(span(min), message);
        }
    }
    if args.is_set("auto_repro") && args.is_set("expect_err") {
        let message =
            "`auto_repro` is for failures that nobody expects, and `expect_err` says that the run must fail";
        faults.add(span("auto_repro"), message.to_owned());
    }
    check_exit(args, &mut faults);
    check_memory(args, &mut faults);
    check_template(args, &mut faults);
    check_payloads(args, &mut faults);
    args.check_rows(Span::call_site(), &mut faults);
    faults.into_result()
}

/// How a scheduler may exit: `enum scx_exit_kind` of the kernel, without what all of its names begin with. Later kernels may have more, so that
/// only a name that is almost one of these is refused.
const EXIT_KINDS: [&str; 9] =
    ["DONE", "UNREG", "UNREG_BPF", "UNREG_KERN", "SYSRQ", "PARENT", "ERROR", "ERROR_BPF", "ERROR_STALL"];
/// What the names begin with in the kernel.
const EXIT_PREFIX: &str = "SCX_EXIT_";
/// So many letters may be wrong in a name that was meant to be another.
const MISSPELT: usize = 2;

/// A misspelt exit would be waited for in every run.
fn check_exit(args: &Args, faults: &mut Faults) {
    let Some(Value::Text(kind)) = args.value("expect_scx_exit") else { return };
    let text = kind.value();
    // As the judge takes them, with the kernel's prefix or without.
    let named = text.strip_prefix(EXIT_PREFIX).unwrap_or(&text);
    let plain = text.to_ascii_uppercase();
    let plain = plain.strip_prefix(EXIT_PREFIX).unwrap_or(&plain);
    let meant = EXIT_KINDS.into_iter().min_by_key(|known| levenshtein(plain, known));
    if let Some(meant) = meant.filter(|known| *known != named && levenshtein(plain, known) <= MISSPELT) {
        let kinds = EXIT_KINDS.join(", ");
        faults.add(
            kind.span(),
            format!("`expect_scx_exit` = {text:?} is no kind of exit; did you mean {meant:?}? The kinds are {kinds}"),
        );
    }
}

/// Keys about what is read in the memory that is kept with captures.
const OF_MEMORY: [&str; 3] = ["pages", "max_fallback_rate", "max_keep_last_rate"];

/// What asks for memory where none is kept.
fn check_memory(args: &Args, faults: &mut Faults) {
    if !matches!(args.value("checkpoint"), Some(Value::Text(word)) if word.value() == "never") {
        return;
    }
    for key in OF_MEMORY {
        if let Some(span) = args.span(key) {
            let why = match key {
                "pages" => "no page is kept then",
                _ => "sched_ext's counters are in the memory that is kept with captures",
            };
            faults.add(
                span,
                format!(
                    "`{key}` contradicts `checkpoint = never`: {why}; `checkpoint = ends` keeps the least"
                ),
            );
        }
    }
}

/// A scheduler that is watched from before it is loaded is loaded anew in every run.
fn check_template(args: &Args, faults: &mut Faults) {
    let watched = ["watch", "probe"].into_iter().find(|key| args.is_set(key));
    if let (Some(watched), Some(span)) = (watched.filter(|_| args.is_set("attached")), args.span("attached"))
    {
        faults.add(
            span,
            format!(
                "`attached` contradicts `{watched}`, which is there before the scheduler is loaded, as it is in no template: leave out \
                 the one, or ask for the other in the body with `ctx.{}`",
                if watched == "watch" { "watch_snapshot" } else { "probe" }
            ),
        );
    }
}

/// Keys that mean something where there is no VM. None of them needs another one.
const OF_HOST: [&str; 7] =
    ["host_only", "duration_s", "seed", "check", "expect_err", "allow_inconclusive", "ignore"];

/// A body that runs on the host has no guest, and nothing of one is captured or judged.
fn check_host_only(args: &Args, faults: &mut Faults) {
    for key in KEYS.iter().filter(|key| !OF_HOST.contains(&key.name)) {
        if let Some(span) = args.span(key.name) {
            let others = OF_HOST[1..].join(", ");
            faults.add(
                span,
                format!(
                    "`{}` contradicts `host_only`: the body runs on the host, and there is no VM; leave out the one or \
                     the other. Beside `host_only` may stand {others}",
                    key.name
                ),
            );
        }
    }
}

/// A payload is named once. Two that differ only in what they are called are found when the test is compiled.
fn check_payloads(args: &Args, faults: &mut Faults) {
    let mut seen: Vec<String> = Vec::new();
    for path in payloads(args) {
        let text = path.to_token_stream().to_string().replace(' ', "");
        if seen.contains(&text) {
            faults.add(
                path.span(),
                format!("the payload `{text}` is named twice: `payload` and `workloads` are one list"),
            );
        }
        seen.push(text);
    }
}

/// The payloads of a test, the one that it is about first.
pub fn payloads(args: &Args) -> Vec<&syn::Path> {
    let mut all = Vec::new();
    for key in args.at(|place| place == Payload) {
        match args.value(key.name) {
            Some(Value::Path(path)) => all.push(path),
            Some(Value::Paths(paths)) => all.extend(paths),
            _ => {}
        }
    }
    all
}

/// Time between neighbouring periodic captures, in ms: they split the middle 80 % of the window.
fn snapshot_gap_ms(duration_s: u64, snapshots: u64) -> u64 {
    duration_s.saturating_mul(800) / (snapshots + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{doc_table, without_case};

    fn errors(text: &str) -> Vec<String> {
        let args = Args::parse2(text.parse().expect("tokens"), KEYS);
        let error = args.and_then(|args| check(&args)).err();
        error.into_iter().flatten().map(|error| error.to_string()).collect()
    }

    #[test]
    fn the_documentation_has_a_row_for_each_key() {
        let table = doc_table(KEYS);
        assert!(include_str!("lib.rs").contains(&table), "the docs of `ktstr_test` must have:\n{table}");
    }

    #[test]
    fn the_page_for_authors_has_the_same_rows() {
        let table = doc_table(KEYS).replace("/// ", "");
        let page = include_str!("../../docs/writing-tests.md");
        assert!(page.contains(&table), "docs/writing-tests.md must have:\n{table}");
    }

    /// Each has a message of its own, which the compiler shows where it points at the key.
    #[test]
    fn what_each_key_needs_has_a_case_that_does_not_compile() {
        let cases = [
            include_str!("../../ktstr/tests/compile_fail/test_keys.rs"),
            include_str!("../../ktstr/tests/compile_fail/test_values.rs"),
        ]
        .concat();
        assert_eq!(without_case(KEYS, &cases), Vec::<String>::new());
    }

    #[test]
    fn nothing_given_is_the_documented_defaults() -> Result<()> {
        let fields = Args::parse2(proc_macro2::TokenStream::new(), KEYS)?.fields()?.to_string();
        for field in [
            "memory_mib : 512 ,",
            "duration_s : 12 ,",
            "watchdog_timeout_s : :: core :: option :: Option :: None ,",
            "num_snapshots : 0 ,",
            "checkpoint : :: ktstr :: __private :: Checkpoint :: Every ,",
            "pages : :: ktstr :: __private :: Pages :: Kernel ,",
            "seed : 1 ,",
            "kaslr : true ,",
            "attached : true ,",
            "auto_repro : true ,",
            "history : true ,",
            "allow_splats : false ,",
            "expect_err : false ,",
            "allow_inconclusive : false ,",
            "scheduler : :: core :: option :: Option :: None ,",
            "claims : & [] ,",
        ] {
            assert!(fields.contains(field), "no `{field}` in {fields}");
        }
        Ok(())
    }

    #[test]
    fn snapshots_exactly_100_ms_apart_are_taken_and_one_more_is_not() {
        assert!(errors("duration_s = 1, num_snapshots = 7").is_empty());
        assert!(errors("duration_s = 1, num_snapshots = 8")[0].contains("puts captures 88 ms apart"));
    }

    #[test]
    fn all_contradictions_are_reported_at_once() {
        let found = errors(
            "numa_nodes = 2, llcs = 3, expect_scx_error_contains = \"x\", extra_sched_args = [\"-v\"]",
        );
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].contains("not a multiple of `numa_nodes` = 2"));
    }

    #[test]
    fn an_exit_that_is_almost_one_is_misspelt() {
        let of = |kind: &str| errors(&format!("scheduler = S, expect_scx_exit = \"{kind}\""));
        for (odd, meant) in [
            ("UNREG_KERNEL", "UNREG_KERN"),
            ("ERROR_STAL", "ERROR_STALL"),
            ("SCX_EXIT_ERROR_STAL", "ERROR_STALL"),
            ("done", "DONE"),
        ] {
            assert!(of(odd)[0].contains(&format!("did you mean \"{meant}\"?")), "{odd}: {:?}", of(odd));
        }
        // What a later kernel may have, and the kernel's own name of one.
        for fine in EXIT_KINDS.into_iter().chain(["ERROR_TIMEOUT", "UNREG_PARENT", "SCX_EXIT_ERROR"]) {
            assert_eq!(of(fine), Vec::<String>::new(), "{fine}");
        }
    }

    #[test]
    fn nothing_is_asked_of_memory_that_is_not_kept() {
        let with = "scheduler = S, checkpoint = never";
        for (key, why) in [
            ("pages = all", "no page"),
            ("max_fallback_rate = 1", "counters"),
            ("max_keep_last_rate = 1", "counters"),
        ] {
            let found = errors(&format!("{with}, {key}"));
            let [only] = found.as_slice() else { panic!("{key}: {found:?}") };
            assert!(only.contains("contradicts `checkpoint = never`") && only.contains(why), "{only}");
            assert!(errors(&format!("scheduler = S, checkpoint = ends, {key}")).is_empty());
        }
    }

    #[test]
    fn a_watched_scheduler_is_in_no_template() {
        for (key, ask) in [("watch = [\"x\"]", "ctx.watch_snapshot"), ("probe = [\"x\"]", "ctx.probe")] {
            assert!(errors(&format!("scheduler = S, attached, {key}"))[0].contains(ask));
            assert!(errors(&format!("scheduler = S, attached = false, {key}")).is_empty());
        }
        assert!(errors("scheduler = S, attached, watch = []").is_empty());
    }

    #[test]
    fn nothing_of_a_guest_stands_beside_host_only() {
        assert!(errors("host_only, duration_s = 3, seed = 2, check = f, expect_err, ignore").is_empty());
        assert!(errors("host_only = false, num_snapshots = 3, duration_s = 9").is_empty());
        for key in KEYS.iter().filter(|key| !OF_HOST.contains(&key.name)) {
            let text = match key.name {
                "scheduler" | "payload" => format!("{} = S", key.name),
                "num_snapshots" | "memory_mib" | "max_gap_ms" => format!("{} = 128", key.name),
                "claims" | "watch" | "probe" | "kargs" => format!("{} = [\"x\"]", key.name),
                "fail_on_stall" | "kaslr" | "allow_splats" => key.name.to_owned(),
                _ => continue,
            };
            let found = errors(&format!("duration_s = 100, host_only, {text}"));
            let [only] = found.as_slice() else { panic!("{}: {found:?}", key.name) };
            assert!(only.contains(&format!("`{}` contradicts `host_only`", key.name)), "{only}");
        }
    }

    #[test]
    fn a_payload_is_named_once() {
        assert!(errors("payload = A, workloads = [B, b::A]").is_empty());
        for text in ["payload = A, workloads = [B, A]", "workloads = [b::A, b::A]"] {
            assert!(errors(text)[0].contains("is named twice"), "{text}");
        }
    }

    #[test]
    fn files_are_paths_that_stay_inside_or_say_where_they_go() {
        for text in ["[\"a/b\"]", "[\"../a:/b\"]", "[\"/a\"]", "a::files", "[]"] {
            let found = errors(&format!("include_files = {text}"));
            assert!(found.is_empty(), "{text}: {found:?}");
        }
        for text in ["[\"\"]", "[\"a/../b\"]", "[\"a:/../b\"]", "[\":/b\"]", "[\"a:/\"]", "\"a\""] {
            assert_eq!(errors(&format!("include_files = {text}")).len(), 1, "{text}");
        }
    }

    #[test]
    fn an_error_matcher_with_expect_err_false_is_a_contradiction() {
        let found = errors("scheduler = S, expect_err = false, expect_scx_error_contains = \"x\"");
        assert!(found[0].contains("needs `expect_err`"), "{found:?}");
    }
}
