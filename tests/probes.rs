//! Probes of a guest: one run has them all, and is looked at from every side.
//!
//! scx_demo keeps in its own variables and maps what it is called for; the probes have to have seen the same.

use std::time::Duration;

use ktstr_replay::probe::{ProbeCall, ProbeLog, ProbeSeen};
use ktstr_replay::trace::record::{CaptureKind, ProbeValue};
use ktstr_replay::units::GuestNs;
use ktstr_replay::verdict::Outcome;
use ktstr_replay::watch::AskedEnd;
use ktstr_tests::{TestRun, fixture, ktstr, run_bounded};

mod fixtures {
    use std::time::Duration;

    use ktstr::prelude::*;
    use ktstr_tests::CallsAt;

    declare_scheduler!(DEMO, {
        name = "demo",
        source = "scx_demo",
        topology = (1, 1, 2, 1),
    });

    /// A function of this kernel, and the only one that the compiler has made of it besides, by the kernel's own list of its symbols.
    fn function_with_a_clone() -> Result<(String, String)> {
        let text = std::fs::read_to_string("/proc/kallsyms")?;
        let mut code = std::collections::BTreeMap::<&str, usize>::new();
        // Of the text alone: what is needed at boot only has gone.
        let of_text = text.lines().skip_while(|line| !line.ends_with(" _stext"));
        for line in of_text.take_while(|line| !line.ends_with(" _etext")) {
            if let [_, "t" | "T", name] = line.split(' ').collect::<Vec<_>>()[..] {
                *code.entry(name).or_default() += 1;
            }
        }
        let clones_of = |function: &str| {
            let begin = format!("{function}.");
            let after = code.range(&*begin..).take_while(|(name, _)| name.starts_with(&begin));
            let clones = after.filter(|(name, _)| !name.ends_with(".cold"));
            clones.map(|(name, count)| ((*name).to_owned(), *count)).collect::<Vec<_>>()
        };
        // What is before a function to align it is no function, though the kernel's list has it.
        let is_function = |name: &str| !name.contains('.') && !name.starts_with("__pfx_");
        let mut functions = code.iter().filter(|(name, count)| **count == 1 && is_function(name));
        let found = functions.find_map(|(function, _)| match clones_of(function).as_slice() {
            [(clone, 1)] => Some(((*function).to_owned(), clone.clone())),
            _ => None,
        });
        found.context("no function of this kernel has a clone")
    }

    #[ktstr_test(
        ignore,
        scheduler = DEMO,
        duration_s = 6,
        num_snapshots = 3,
        allow_restarts,
        probe = [
            "demo_init_task(p->pid, p->comm)",
            "demo_exit(arg0->kind, arg0->exit_code)",
            "demo_enqueue(p->pid, p->comm, p->scx.weight, enq_flags)",
            "enqueue_task_scx",
            "select_task_rq_scx(p->pid, prev_cpu, wake_flags) returns",
            "no_such_program",
        ],
        claims = ["eventually(nr_enqueued >= 1)"]
    )]
    fn probed(ctx: &Ctx) -> Result<AssertResult> {
        for target in ["kernel_cloen()", "jiffies_64()", "enqueue_task_scx(q)", "enqueue_task_scx(p->pidd)"] {
            let said = ctx.probe(target).expect_err("it cannot be had").to_string();
            ensure!(said.contains(&format!("`{target}` cannot be probed")), "{target}: {said}");
        }
        let unread = ctx.probe("enqueue_task_scx(").expect_err("it has no end").to_string();
        ensure!(unread.contains('^'), "{unread}");
        let (function, clone) = function_with_a_clone()?;
        ctx.probe(&*format!("{function}()"))?;
        ctx.probe(&*format!("\"{clone}\"()"))?;
        let cgroups = Backdrop::new(vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")]);
        let part = HoldSpec::Frac(0.3);
        let few = ProbeSpec::on("put_prev_task_scx(p->pid)").max_hits(3);
        let steps = vec![
            Step::of_ops([Op::probe(few)], part).named("few"),
            Step::of_ops([Op::probe("_raw_spin_lock(lock)")], part).named("hot"),
            Step::of_ops([Op::restart_scheduler()], part).named("again"),
        ];
        execute_scenario(ctx, cgroups, steps)
    }

    #[ktstr_test(
        ignore,
        scheduler = DEMO,
        duration_s = 6,
        probe = ["enqueue_task_scx(p->pid, p->comm, p->scx.dsq_vtime, core_enq_flags)"],
        claims = ["eventually(nr_enqueued >= 1)"]
    )]
    fn measured(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![ctx.cgroup_def("cg_0").work_type(PipeIo::default())])
    }

    /// Calls of one function, as many a second as each of these rates. `benches/observing.rs` runs it, and compares with what was recorded.
    #[ktstr_test(ignore, scheduler = DEMO, duration_s = 120, history = false)]
    fn called_at_rates(ctx: &Ctx) -> Result<AssertResult> {
        ctx.probe(CallsAt::FUNCTION)?;
        for rate in [10, 15, 20, 25, 30, 35, 40, 50, 75, 100, 200, 300, 400, 500, 600, 800, 1000] {
            // So that no call of one rate is counted among those of the next, and what rests has rested.
            std::thread::sleep(Duration::from_millis(1200));
            CallsAt::make(rate, Duration::from_secs(2)).say()?;
        }
        Ok(AssertResult::pass())
    }
}

/// What a probe records in a second, and what a call costs. It measures, and asserts nothing of what depends on the host.
#[test]
#[ignore = "a measurement"]
fn what_a_call_costs() {
    let run = fixture("fixtures::measured").run();
    let seen = probe(&run, "enqueue_task_scx");
    let totals = seen.totals.expect("totals");
    let mut seconds = std::collections::BTreeMap::<u64, usize>::new();
    seen.calls.iter().for_each(|call| *seconds.entry(call.at.0 / 1_000_000_000).or_default() += 1);
    eprintln!("{run}");
    eprintln!("calls by second of guest time: {:?}", seconds.values().collect::<Vec<_>>());
    eprintln!("{totals:?}");
    eprintln!(
        "a call stops the machine for {:.3} ms",
        totals.stopped_us as f64 / 1e3 / totals.calls.max(1) as f64
    );
    assert_eq!(seen.calls.len() as u64, totals.hits, "what was recorded is in the trace");
}

/// Longer than it takes.
const LIMIT: Duration = Duration::from_secs(120);
/// Programs that run while a capture is taken have been called and have not counted it yet: one for each CPU.
const RUNNING: u64 = 2;

/// One boot for all of it.
#[test]
fn a_run_with_probes() {
    let run = fixture("fixtures::probed").run();
    for probe in ProbeLog::of(&run.trace().events()).probes {
        eprintln!("{}: {} calls, {:?}", probe.target, probe.calls.len(), probe.totals);
    }
    a_program_was_given_what_it_saw_itself(&run);
    a_program_is_probed_from_its_first_call_in_each_scheduler(&run);
    no_more_calls_are_recorded_than_the_program_counted(&run);
    arguments_and_callers_of_kernel_functions_are_told(&run);
    returns_belong_to_their_calls(&run);
    a_hot_function_does_not_keep_the_guest_from_its_work(&run);
    a_probe_ends_when_it_has_been_called_as_often_as_it_may(&run);
    what_cannot_be_probed_fails_the_run_and_says_why(&run);
    replay_shows_the_probes_of_the_file_alone(&run);
    claims_count_the_calls(&run);
    what_the_compiler_has_made_of_a_function_is_told_and_can_be_named(&run);
}

fn what_the_compiler_has_made_of_a_function_is_told_and_can_be_named(run: &TestRun) {
    let log = ProbeLog::of(&run.trace().events());
    let clone = log.probes.iter().find(|probe| probe.target.starts_with('"')).expect("its probe");
    assert!(!clone.armed.is_empty() && clone.refused.is_none(), "{clone:?}\n{run}");
    let (base, _) = clone.function().split_once('.').expect("a clone");
    let of = log.named(base).next().expect("that of the function");
    let words = format!("the compiler has made {} of it, too", clone.function());
    assert!(of.dropped().is_some_and(|dropped| dropped.contains(&words)), "{of:?}\n{run}");
    let finding = run.section(&format!("probe {base}()")).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(finding.contains(&words), "{finding}\n{run}");
    // The others are all there is of their functions.
    let silent =
        log.named("enqueue_task_scx").all(|probe| probe.dropped().is_none_or(|it| !it.contains("compiler")));
    assert!(silent, "{run}");
}

fn claims_count_the_calls(run: &TestRun) {
    let seen = probe(run, "demo_enqueue");
    let (from, until) = run.trace().timeline().body().expect("a body");
    let in_body: Vec<&ProbeCall> =
        seen.calls.iter().filter(|call| (from..=until).contains(&call.at)).collect();
    let pid =
        in_body.first().and_then(|call| call.int("p->pid")).unwrap_or_else(|| panic!("no calls\n{run}"));
    let count = in_body.iter().filter(|call| call.int("p->pid") == Some(pid)).count();
    let of = format!("count(probe(demo_enqueue where p->pid == {pid}))");
    let least = run.claimed(&format!("{of} >= {count}"));
    assert_eq!(least.outcome, Outcome::Pass, "{least:?}");
    // A hot function's probe is away for a time, in which there may be more.
    let more = run.claimed(&format!("{of} > {count}"));
    assert_ne!(more.outcome, Outcome::Pass, "{more:?}");
    let never = run.claimed(&format!("never(probe(demo_enqueue where p.pid == {pid}))"));
    assert_eq!(never.outcome, Outcome::Fail, "{never:?}");
    assert!(
        never.lines.iter().any(|line| line.starts_with("> ") && line.contains("demo_enqueue(")),
        "{never:?}"
    );
    let typo = run.claimed("never(probe(demo_enqueue where p->pidd == 1))");
    assert!(typo.summary.contains("did you mean `p->pid`?"), "{typo:?}");
}

fn probe(run: &TestRun, function: &str) -> ProbeSeen {
    let log = ProbeLog::of(&run.trace().events());
    let seen = log.named(function).find(|probe| probe.refused.is_none());
    seen.unwrap_or_else(|| panic!("no probe {function}:\n{run}")).clone()
}

/// Calls up to a capture of that kind, the first there is.
fn until(run: &TestRun, calls: &[ProbeCall], kind: CaptureKind) -> Vec<ProbeCall> {
    let end: GuestNs = run.sample(kind).guest_ns;
    calls.iter().filter(|call| call.at <= end).cloned().collect()
}

fn number(run: &TestRun, kind: CaptureKind, variable: &str) -> u64 {
    run.var_at(kind, variable).parse().unwrap_or_else(|_| panic!("{variable} is no number:\n{run}"))
}

fn a_program_was_given_what_it_saw_itself(run: &TestRun) {
    let seen = probe(run, "demo_init_task");
    assert_eq!(seen.end(), AskedEnd::Seen, "{run}");
    // The kernel's own list of tasks has the same names; those that have run meanwhile may have another one since.
    let mut agree = 0;
    for call in until(run, &seen.calls, CaptureKind::Attach) {
        let pid = call.int("p->pid").unwrap_or_else(|| panic!("{call:?}"));
        let comm = call.text("p->comm").unwrap_or_else(|| panic!("{call:?}"));
        agree += usize::from(task_name(run, pid).is_some_and(|name| name == comm));
        assert!(call.hit.caller.starts_with("bpf__sched_ext_ops_init_task+"), "{call:?}");
        assert!(call.hit.pid.is_some() && !call.hit.comm.is_empty() && call.hit.cpu.0 < 2, "{call:?}");
    }
    assert!(agree >= 10, "{agree} names agree of {}\n{run}", seen.calls.len());
    // What it said of its end is what it was told.
    let exits = probe(run, "demo_exit");
    let first = exits.calls.first().unwrap_or_else(|| panic!("{exits:?}\n{run}"));
    // SCX_EXIT_UNREG: the first scheduler was told to leave.
    assert_eq!((first.int("arg0->kind"), first.int("arg0->exit_code")), (Some(64), Some(0)), "{first:?}");
}

/// The name of a task at the attach capture, out of the kernel's own list.
fn task_name(run: &TestRun, pid: i128) -> Option<String> {
    use std::sync::OnceLock;
    static TASKS: OnceLock<serde_json::Value> = OnceLock::new();
    let tasks = TASKS.get_or_init(|| {
        let path = run.trace_path();
        let args = ["replay", path.to_str().expect("a path"), "--tasks", "--at", "attach", "--json"];
        let shown = run_bounded(ktstr().args(args), LIMIT);
        serde_json::from_str(&shown.stdout).unwrap_or_else(|_| panic!("{shown}"))
    });
    let tasks = tasks["views"]["tasks"]["tasks"].as_array()?;
    let task = tasks.iter().find(|task| task["pid"].as_i64().map(i128::from) == Some(pid))?;
    task["comm"].as_str().map(str::to_owned)
}

fn a_program_is_probed_from_its_first_call_in_each_scheduler(run: &TestRun) {
    let seen = probe(run, "demo_init_task");
    // Waited for, armed while the first scheduler was loaded, and in the second one anew.
    assert!(seen.armed.len() >= 2, "{:?}\n{run}", seen.armed);
    let attach = run.sample(CaptureKind::Attach).guest_ns;
    let (first, second) = (seen.armed[0].0, seen.armed[seen.armed.len() - 1].0);
    assert!(first < attach && attach < second, "{:?}", seen.armed);
    for (_, place) in &seen.armed {
        assert!(place.starts_with("bpf_prog_") && place.ends_with("_demo_init_task"), "{place}");
    }
    let before = seen.calls.iter().filter(|call| call.at >= first && call.at < attach).count();
    assert!(before >= 10, "{before} calls before the capture at attach\n{run}");
    // Those of the second one may fall into a rest; that it ends is one call, for which no probe rests.
    let exits = probe(run, "demo_exit");
    assert!(exits.armed.len() >= 2 && exits.calls.len() >= 2, "{exits:?}");
    let totals = seen.totals.expect("totals");
    if totals.backed_off == 0 {
        // Where none was dropped, there is a call for each that the program counted.
        let counted = number(run, CaptureKind::Attach, "nr_tasks");
        let recorded = until(run, &seen.calls, CaptureKind::Attach).len() as u64;
        assert!((counted..=counted + RUNNING).contains(&recorded), "{recorded} of {counted}\n{run}");
    }
}

fn no_more_calls_are_recorded_than_the_program_counted(run: &TestRun) {
    let seen = probe(run, "demo_enqueue");
    assert_eq!(seen.end(), AskedEnd::Seen, "{run}");
    // At each capture on cadence, of the scheduler that there is then: of the first one, unless the capture came late.
    let trace = run.trace();
    let captures = trace.periodic().var("nr_enqueued");
    let mut compared = 0;
    for (_, point, counted) in captures.usable() {
        let counted = counted.to_i128().and_then(|counted| u64::try_from(counted).ok()).expect("a count");
        let since = seen.armed.iter().map(|(at, _)| *at).filter(|at| *at <= point.at_ns).max();
        let Some(since) = since else { continue };
        let is_counted = |call: &&ProbeCall| (since..=point.at_ns).contains(&call.at);
        let recorded = seen.calls.iter().filter(is_counted).count() as u64;
        assert!(recorded <= counted + RUNNING, "{recorded} of {counted} in {}\n{run}", point.tag);
        compared += recorded;
    }
    assert!(compared >= 1, "{captures:?}\n{run}");
    // The weight of a task without a nice value, which the demo has never changed.
    let weights = seen.calls.iter().filter(|call| call.int("p->scx.weight") == Some(100)).count();
    assert!(weights > 0, "{:?}", seen.calls.first());
    assert!(seen.calls.iter().all(|call| call.int("enq_flags").is_some()), "{:?}", seen.calls.first());
}

fn arguments_and_callers_of_kernel_functions_are_told(run: &TestRun) {
    let seen = probe(run, "enqueue_task_scx");
    let call = seen.calls.first().unwrap_or_else(|| panic!("{run}"));
    let names: Vec<&str> = call.values().map(|(name, _)| name).collect();
    assert!(names.starts_with(&["rq", "p", "p->pid", "p->comm"]), "{names:?}");
    let is_kernel = |name: &str| call.int(name).is_some_and(|at| at >= 1 << 63);
    assert!(is_kernel("rq") && is_kernel("p"), "{call:?}");
    for call in &seen.calls {
        // `enqueue_task` is the only caller, as far as it is not put into its own.
        assert!(call.hit.caller.contains("+0x") && call.hit.caller.contains("task"), "{call:?}");
        assert!(call.text("p->comm").is_some_and(|comm| !comm.is_empty()), "{call:?}");
    }
    // A task that the kernel has just enqueued is what the scheduler is given.
    let programs = probe(run, "demo_enqueue");
    let known = |pid| programs.calls.iter().any(|call| call.int("p->pid") == pid);
    assert!(seen.calls.iter().any(|call| known(call.int("p->pid"))), "{run}");
}

fn returns_belong_to_their_calls(run: &TestRun) {
    let seen = probe(run, "select_task_rq_scx");
    let totals = seen.totals.expect("totals");
    assert_eq!(totals.returns + totals.returns_lost, totals.hits, "{totals:?}");
    assert!(totals.returns >= 1, "{totals:?}\n{run}");
    let returned: Vec<_> =
        seen.calls.iter().filter_map(|call| Some((call, call.returned.as_ref()?))).collect();
    assert_eq!(returned.len() as u64, totals.returns);
    for (call, (at, back)) in returned {
        // A CPU of this machine, and not a bit of a register beyond the type.
        assert!(matches!(back.value, Some(ProbeValue::Int(0 | 1))), "{call:?}");
        assert!(*at >= call.at && call.int("prev_cpu").is_some_and(|cpu| (0..2).contains(&cpu)), "{call:?}");
    }
}

fn a_hot_function_does_not_keep_the_guest_from_its_work(run: &TestRun) {
    let seen = probe(run, "_raw_spin_lock");
    let totals = seen.totals.expect("totals");
    // One that stopped the machine less often than that is not taken away; how often it is the host's speed.
    assert!(totals.backed_off >= 1 && totals.blind_ns > 0 && totals.calls >= 3, "{totals:?}\n{run}");
    assert!(run.stdout.contains("taken away "), "{run}");
    // The body went through all of its steps after that, and the scheduler lived.
    assert!(run.stdout.contains("ok    eventually(nr_enqueued >= 1)"), "{run}");
    assert_eq!(number(run, CaptureKind::End, "exit_record.kind"), 0, "{run}");
}

fn a_probe_ends_when_it_has_been_called_as_often_as_it_may(run: &TestRun) {
    let seen = probe(run, "put_prev_task_scx");
    assert_eq!(seen.calls.len(), 3, "{seen:#?}");
    assert!(seen.by_body && seen.away.as_deref().is_some_and(|why| why.starts_with("3 calls")), "{seen:?}");
}

fn what_cannot_be_probed_fails_the_run_and_says_why(run: &TestRun) {
    assert!(!run.status.success(), "{run}");
    let failed: Vec<&str> = run.stdout.lines().filter_map(|line| line.strip_prefix("FAIL  ")).collect();
    assert_eq!(
        failed,
        [
            "probe no_such_program",
            "probe kernel_cloen()",
            "probe jiffies_64()",
            "probe enqueue_task_scx(q)",
            "probe enqueue_task_scx(p->pidd)",
        ],
        "{run}"
    );
    for text in [
        "could not be armed: the kernel has no function `no_such_program`",
        "did you mean\n        `kernel_clone`?",
        "could not be armed: `jiffies_64` is no function: it is data of the kernel",
        "could not be armed: `enqueue_task_scx` has no argument `q`",
        "could not be armed: `p->pidd`: a `struct task_struct` has no `pidd`; did you mean `pid`?",
    ] {
        assert!(run.stdout.contains(text), "no {text:?} in:\n{run}");
    }
}

fn replay_shows_the_probes_of_the_file_alone(run: &TestRun) {
    let path = run.trace_path();
    let path = path.to_str().expect("a path");
    let shown = run_bounded(ktstr().args(["replay", path, "--probes"]), LIMIT);
    assert!(shown.status.success(), "{shown}");
    for text in [
        "demo_init_task(p->pid, p->comm): ",
        "put_prev_task_scx(p->pid): 3 calls, the most that it may",
        "enqueue_task_scx(q): could not be armed",
        "bpf__sched_ext_ops_init_task+",
        "p->comm=\"",
        " ms",
    ] {
        assert!(shown.stdout.contains(text), "no {text:?} in:\n{shown}");
    }
    let json = run_bounded(ktstr().args(["replay", path, "--probes", "--json"]), LIMIT);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let probes = json["views"]["probes"]["probes"].as_array().expect("probes");
    assert_eq!(probes.len(), 14, "{json:#}");
    // The same as an author has it.
    let calls = run.trace().probe("demo_init_task");
    assert_eq!(probes[0]["calls"].as_array().map(Vec::len), Some(calls.len()));
    assert_eq!(probes[0]["calls"][0]["values"]["p->pid"].as_i64().map(i128::from), calls[0].int("p->pid"));
}
