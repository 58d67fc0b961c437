//! The history of a run, against what the guest's own kernel prints of the same buffers; what it costs, and that it can be done without.
//!
//! Runs are `#[ktstr_test(ignore, ..)]` fixtures, which tests drive as child processes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_replay::history::{HistoryLog, LoggedStep};
use ktstr_replay::trace::record::{Event, EventBody, HistoryWhat, LossKind};
use ktstr_replay::verdict::Outcome;
use ktstr_tests::{
    Cost, TestRun, fixture, history_size, ktstr, on_one_cpu, ping_pong, run_bounded, spin, written,
};

#[path = "history/trace_cmd.rs"]
mod trace_cmd;

use trace_cmd::TraceCmd;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// The trace instance of guest-init.
const INSTANCE: &str = "/sys/kernel/tracing/instances/ktstr";
/// What stands before each line of the kernel's own text in the output of the test.
const LINE: &str = "TRACED ";
const LIMIT: Duration = Duration::from_secs(120);

/// For the whole window two pairs wake each other as fast as they can.
#[ktstr_test(ignore, scheduler = DEMO, duration_s = 12, num_snapshots = 10,
             claims = ["always(alive)", "eventually(event(sched_switch), by=10s)", "count(event(phase_begin)) == 1"])]
fn switches_all_the_time(ctx: &Ctx) -> Result<AssertResult> {
    let result = execute_defs(ctx, vec![CgroupDef::named("pairs").workers(4).work_type(PipeIo::default())])?;
    // From here on nothing more is noted, so that the capture and the text below have the same.
    fs::write(Path::new(INSTANCE).join("tracing_on"), "0")?;
    // A trace keeps so many steps for each second: of two in which nothing is noted there is room for what was noted last, however late
    // the captures before were.
    std::thread::sleep(Duration::from_secs(2));
    ctx.capture_snapshot("traced")?;
    let text = fs::read_to_string(Path::new(INSTANCE).join("trace"))?;
    writeln!(io::stdout())?;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        // Not by a macro, whose output libtest keeps to itself.
        writeln!(io::stdout(), "{LINE}{line}")?;
    }
    Ok(result)
}

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 1, history = false)]
fn without_a_history(ctx: &Ctx) -> Result<AssertResult> {
    for file in ["tracing_on", "events/enable"] {
        let text = fs::read_to_string(Path::new(INSTANCE).join(file))?;
        ensure!(text.trim() == "0", "{file} is {text}");
    }
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 3, workloads = [TraceCmd])]
fn read_by_trace_cmd(ctx: &Ctx) -> Result<AssertResult> {
    let result = execute_defs(ctx, vec![CgroupDef::named("pairs").workers(4).work_type(PipeIo::default())])?;
    fs::write(Path::new(INSTANCE).join("tracing_on"), "0")?;
    // As above.
    std::thread::sleep(Duration::from_secs(2));
    ctx.capture_snapshot("traced")?;
    trace_cmd::report(ctx)?;
    Ok(result)
}

#[test]
fn trace_cmd_makes_the_same_of_the_same_pages() {
    let run = fixture("read_by_trace_cmd").run_undisturbed();
    run.assert_holds();
    trace_cmd::compare(&run, &HistoryLog::of(&run.trace().events()));
}

/// What the kernel printed: for each CPU, what it noted with its time in us, in order.
fn printed(run: &TestRun) -> BTreeMap<u32, Vec<(u64, String)>> {
    let written = written(&run.trace());
    let mut lines: BTreeMap<u32, Vec<(u64, String)>> = BTreeMap::new();
    for line in written.lines().filter_map(|line| line.strip_prefix(LINE)) {
        // `          <idle>-0       [001] d..2.    12.345678: sched_switch: prev_comm=...`
        let parsed = || {
            let (_, rest) = line.split_once(" [")?;
            let (cpu, rest) = rest.split_once(']')?;
            let (before, event) = rest.split_once(": ")?;
            let (s, us) = before.rsplit(' ').next()?.split_once('.')?;
            let us = s.parse::<u64>().ok()? * 1_000_000 + us.parse::<u64>().ok()?;
            Some((cpu.parse().ok()?, us, event.to_owned()))
        };
        let (cpu, us, event) = parsed().unwrap_or_else(|| panic!("the kernel printed `{line}`"));
        lines.entry(cpu).or_default().push((us, event));
    }
    lines
}

/// A step as the kernel prints it (`include/trace/events/sched.h` and `sched_ext.h`).
fn as_printed(log: &HistoryLog, step: &LoggedStep) -> String {
    let task = |place| log.task(place).expect("a task");
    let one = |place| {
        let task = task(place);
        format!("comm={} pid={} prio={}", task.comm, task.pid, task.prio)
    };
    match step.what {
        HistoryWhat::Switch { prev, state, next } => {
            let (prev, next) = (task(prev), task(next));
            let json = log.json(step);
            let letters = json["state"].as_str().expect("a state");
            assert_eq!(letters.ends_with('+'), state & 0x100 != 0);
            format!(
                "sched_switch: prev_comm={} prev_pid={} prev_prio={} prev_state={letters} ==> next_comm={} next_pid={} next_prio={}",
                prev.comm, prev.pid, prev.prio, next.comm, next.pid, next.prio
            )
        }
        HistoryWhat::Wakeup { task, to, is_new, .. } => {
            format!("sched_wakeup{}: {} target_cpu={:03}", if is_new { "_new" } else { "" }, one(task), to.0)
        }
        HistoryWhat::Migrate { task, from, to, .. } => {
            format!("sched_migrate_task: {} orig_cpu={from} dest_cpu={to}", one(task))
        }
        HistoryWhat::SchedExt { name, count, .. } => {
            format!("sched_ext_event: name {} delta {count}", log.name(name).expect("a name"))
        }
    }
}

/// One boot for all of it.
#[test]
fn a_run_that_switches_all_the_time() {
    let run = fixture("switches_all_the_time").run();
    assert!(run.status.success(), "{run}");
    let trace = run.trace();
    let faults: Vec<_> =
        trace.losses().into_iter().filter(|loss| loss.kind == LossKind::SchedEvents).collect();
    assert!(faults.is_empty(), "{faults:?}");
    let log = HistoryLog::of(&trace.events());
    assert_eq!(log.senseless, 0);
    what_was_read_is_what_the_kernel_prints(&run, &log);
    the_steps_of_a_cpu_follow_from_one_another(&log);
    it_has_no_more_than_2_mib(&trace.events());
    claims_count_what_the_kernel_prints(&run, &log);
    times_are_those_between_the_lines_that_the_kernel_prints(&run, &log);
    what_was_overwritten_leaves_a_claim_open(&run, &log);
    replay_shows_parts_of_it(&run);
    run.assert_replays();
}

fn what_was_read_is_what_the_kernel_prints(run: &TestRun, log: &HistoryLog) {
    let printed = printed(run);
    assert_eq!(printed.len(), 2, "CPUs");
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (cpu, printed) in printed {
        // To the us, as the kernel rounds.
        let us = |step: &LoggedStep| (step.at.0 + 500) / 1000;
        let read: Vec<&LoggedStep> = log.steps.iter().filter(|step| step.cpu.0 == cpu).collect();
        // The last capture has the end of what the text has, as far as a trace keeps it.
        let missing =
            log.missing.iter().filter(|missing| missing.cpu.0 == cpu).filter_map(|missing| missing.until);
        let first = missing.max().map_or(0, |until| (until.0 + 500) / 1000);
        let first = first.max(printed[0].0) + 1;
        let read: Vec<_> = read.into_iter().filter(|step| us(step) >= first).collect();
        let printed: Vec<_> = printed.into_iter().filter(|(us, _)| *us >= first).collect();
        assert!(printed.len() > 500, "CPU {cpu}: {} lines", printed.len());
        for step in &read {
            *kinds.entry(log.kind(step)).or_default() += 1;
        }
        let read: Vec<_> = read.iter().map(|step| (us(step), as_printed(log, step))).collect();
        for (nth, (read, printed)) in read.iter().zip(&printed).enumerate() {
            assert_eq!(read, printed, "step {nth} of CPU {cpu}");
        }
        assert_eq!(read.len(), printed.len(), "CPU {cpu}");
        println!("CPU {cpu}: {} steps are those that the kernel prints", read.len());
    }
    println!("{kinds:?}");
    for kind in ["switch", "wakeup"] {
        assert!(kinds.get(kind).is_some_and(|count| *count > 100), "{kinds:?}");
    }
}

/// The time from which on all CPUs have all of their lines and steps, and the end of them, in us of the guest's clock.
fn lines_of_all(printed: &BTreeMap<u32, Vec<(u64, String)>>, log: &HistoryLog) -> (u64, u64) {
    let seen = log.missing.iter().filter_map(|missing| missing.until).map(|until| (until.0 + 500) / 1000);
    let first = printed.values().map(|lines| lines[0].0).chain(seen).max().expect("lines") + 1;
    let last = printed.values().filter_map(|lines| lines.last()).map(|(us, _)| *us).max().expect("lines");
    (first, last)
}

/// A condition that takes the steps whose times the kernel rounds to one from `first` to `last` us.
fn at_ms(run: &TestRun, (first, last): (u64, u64)) -> String {
    let (body, _) = run.trace().timeline().body().expect("a body");
    let ms = |us: u64| ((us * 1000) as f64 - 500.0 - body.0 as f64) / 1e6;
    format!("at_ms in {:.6}..{:.6}", ms(first), ms(last + 1))
}

fn claims_count_what_the_kernel_prints(run: &TestRun, log: &HistoryLog) {
    let printed = printed(run);
    let (first, last) = lines_of_all(&printed, log);
    let within = at_ms(run, (first, last));
    // The task that the kernel names most often as the next.
    let next = |line: &str| {
        Some(line.strip_prefix("sched_switch: ")?.split_once("next_pid=")?.1.split(' ').next()?.to_owned())
    };
    let mut turns: BTreeMap<String, usize> = BTreeMap::new();
    for (_, line) in &printed[&1] {
        if let Some(pid) = next(line).filter(|pid| pid != "0") {
            *turns.entry(pid).or_default() += 1;
        }
    }
    let worker = turns.into_iter().max_by_key(|(_, turns)| *turns).expect("a task").0;
    let (mut claims, mut counts) = (Vec::new(), Vec::new());
    for cpu in [0u32, 1] {
        let count = |is: &dyn Fn(&str) -> bool| {
            let due = printed[&cpu].iter().filter(|(us, line)| (first..=last).contains(us) && is(line));
            due.count()
        };
        for (event, condition, is) in [
            ("sched_switch", String::new(), &|line: &str| line.starts_with("sched_switch: ")),
            ("sched_switch", format!(" and next_pid == {worker}"), &|line: &str| {
                next(line).as_ref() == Some(&worker)
            }),
            ("sched_switch", " and prev_state == S".to_owned(), &|line: &str| {
                line.contains(" prev_state=S ==>")
            }),
            ("sched_wakeup", format!(" and pid == {worker}"), &|line: &str| {
                line.starts_with("sched_wakeup: ") && line.contains(&format!(" pid={worker} "))
            }),
            ("sched_migrate_task", String::new(), &|line: &str| line.starts_with("sched_migrate_task: ")),
        ] as [(&str, String, &dyn Fn(&str) -> bool); 5]
        {
            let count = count(is);
            let of = format!("count(event({event} where cpu == {cpu} and {within}{condition}))");
            claims.extend([format!("{of} == {count}"), format!("{of} == {}", count + 1)]);
            counts.push(count);
        }
    }
    for (found, count) in run.all_claimed(&claims).chunks(2).zip(counts) {
        assert_eq!(found[0].outcome, Outcome::Pass, "{:?}", found[0]);
        assert_eq!(found[1].outcome, Outcome::Fail, "{:?}", found[1]);
        assert!(count == 0 || found[1].lines.iter().any(|line| line.starts_with("> ")), "{:?}", found[1]);
        println!("{}", found[0].what);
    }
}

/// Latencies of wakeups, out of the kernel's own text alone.
fn times_are_those_between_the_lines_that_the_kernel_prints(run: &TestRun, log: &HistoryLog) {
    let printed = printed(run);
    let (first, last) = lines_of_all(&printed, log);
    let mut lines: Vec<&(u64, String)> =
        printed.values().flatten().filter(|(us, _)| (first..=last).contains(us)).collect();
    lines.sort_by_key(|(us, _)| *us);
    let pid = |line: &str, key: &str| line.split(key).nth(1)?.split(' ').next()?.parse::<u32>().ok();
    let (mut woken, mut runs, mut times) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for (us, line) in lines {
        if line.starts_with("sched_wakeup") {
            let pid = pid(line, " pid=").expect("a pid");
            if !runs.contains_key(&pid) {
                woken.entry(pid).or_insert(*us);
            }
        } else if line.starts_with("sched_switch") {
            let (prev, next) =
                (pid(line, "prev_pid=").expect("a pid"), pid(line, "next_pid=").expect("a pid"));
            runs.remove(&prev);
            runs.insert(next, ());
            if let Some(since) = woken.remove(&next).filter(|_| next != 0) {
                times.push(us - since);
            }
        }
    }
    times.sort_unstable();
    let median = times[(times.len() - 1) / 2];
    // Steps of the same us may be in another order, and each time is rounded twice.
    let (low, high) = (median.saturating_sub(2), median + 2);
    let claim = format!("p50(wakeup_latency where {}) in {low}us..={high}us", at_ms(run, (first, last)));
    let finding = run.claimed(&claim);
    println!("{}: {}", finding.what, finding.summary);
    assert!(times.len() > 500, "{} wakeups", times.len());
    assert_eq!(finding.outcome, Outcome::Pass, "median {median} us of {}: {finding:?}", times.len());
    let slower = run.claimed(&format!("p50(wakeup_latency where {}) > {high}us", at_ms(run, (first, last))));
    // Of times that a host may have made long it is said that they may be.
    let is_open = slower.outcome == Outcome::Inconclusive && run.was_disturbed();
    assert!(slower.outcome == Outcome::Fail || is_open, "{slower:?}");
}

fn what_was_overwritten_leaves_a_claim_open(run: &TestRun, log: &HistoryLog) {
    assert!(!log.missing.is_empty(), "nothing was overwritten in 12 s of switches");
    let finding = run.claimed("count(event(sched_switch)) <= 100000000");
    assert_eq!(finding.outcome, Outcome::Inconclusive, "{finding:?}");
    let finding = run.claimed("never(event(sched_switch where next_comm == nobody))");
    assert_eq!(finding.outcome, Outcome::Inconclusive, "{finding:?}");
    assert!(finding.summary.contains("missing of CPU"), "{finding:?}");
    // The history was turned off before the body ended: what came then is not known either.
    assert_eq!(run.claimed("never(event(sched_switch))").outcome, Outcome::Fail);
}

/// What a switch begins with is what the one before ended with, unless something is missing between them.
fn the_steps_of_a_cpu_follow_from_one_another(log: &HistoryLog) {
    for cpu in log.cpus() {
        let mut runs = None;
        let mut last = None;
        let mut followed = 0;
        for step in log.steps.iter().filter(|step| step.cpu == cpu) {
            assert!(last.is_none_or(|last| last <= step.at), "CPU {cpu} goes back to {:?}", step.at);
            last = Some(step.at);
            if log.missing.iter().any(|missing| missing.cpu == cpu && missing.until == Some(step.at)) {
                runs = None;
            }
            let HistoryWhat::Switch { prev, next, .. } = step.what else { continue };
            let [prev, next] = [prev, next].map(|place| log.task(place).expect("a task").pid);
            assert!(
                runs.is_none_or(|pid| pid == prev),
                "CPU {cpu} at {:?}: {runs:?} ran, not {prev}",
                step.at
            );
            followed += usize::from(runs.is_some());
            runs = Some(next);
        }
        assert!(followed > 1000, "{followed} switches of CPU {cpu}");
    }
}

/// A trace with these events and nothing else is no larger.
fn it_has_no_more_than_2_mib(events: &[Event]) {
    let (steps, bytes) = history_size(events);
    println!("{steps} steps take {bytes} bytes of trace, {:.1} each", bytes as f64 / steps as f64);
    assert!(steps > 10_000 && bytes <= 2 << 20, "{steps} steps, {bytes} bytes");
}

fn replay_shows_parts_of_it(run: &TestRun) {
    let path = run.trace_path();
    let shown = |args: &[&str]| -> serde_json::Value {
        let mut command = ktstr();
        command.arg("replay").arg(&path).args(["--events", "--json"]).args(args);
        let ended = run_bounded(&mut command, LIMIT);
        assert!(ended.status.success(), "{ended}");
        serde_json::from_str::<serde_json::Value>(&ended.stdout).expect("JSON")["views"]["events"].clone()
    };
    let all = shown(&[]);
    let of = |json: &serde_json::Value| json["events"].as_array().expect("events").clone();
    assert_eq!(all["all"].as_u64(), Some(of(&all).len() as u64));
    let at = |event: &serde_json::Value| event["since_start_ns"].as_i64().expect("a time");
    // The task that has most turns of CPU 1 in the time that is asked for.
    let within = |event: &serde_json::Value| {
        event["cpu"] == 1 && (1_000_000_000..=11_000_000_000).contains(&at(event))
    };
    let mut turns: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for event in of(&all).iter().filter(|event| within(event)) {
        if let Some(pid) = event["next"]["pid"].as_u64().filter(|pid| *pid > 1) {
            turns.entry(pid).or_default().push(at(event));
        }
    }
    let (worker, turns) = turns.into_iter().max_by_key(|(_, turns)| turns.len()).expect("a task");
    let part = of(&shown(&["--task", &worker.to_string(), "--cpu", "1", "--from", "1s", "--to", "11s"]));
    assert!(!part.is_empty() && part.len() < of(&all).len());
    for event in part {
        let pids = ["prev", "next", "task"].map(|key| event[key]["pid"].as_u64());
        assert!(pids.contains(&Some(worker)) && event["cpu"] == 1, "{event}");
        assert!((1_000_000_000..=11_000_000_000).contains(&at(&event)), "{event}");
    }
    let mut command = ktstr();
    // A time that is given in ns is that of one step, and of those at the same time.
    let turn = format!("{}ns", turns[turns.len() / 2]);
    command.arg("replay").arg(&path).args(["--events", "--from", turn.as_str(), "--to", turn.as_str()]);
    let ended = run_bounded(&mut command, LIMIT);
    assert!(ended.status.success() && ended.stdout.contains(" -> "), "{ended}");
}

#[test]
fn a_test_can_do_without() {
    let run = fixture("without_a_history").run();
    assert!(run.status.success(), "{run}");
    let trace = run.trace();
    let events = trace.events();
    assert!(!events.iter().any(|event| matches!(event.body, EventBody::History(_))));
    assert!(!trace.losses().iter().any(|loss| loss.kind == LossKind::SchedEvents), "{:?}", trace.losses());
    let ended = run_bounded(ktstr().arg("replay").arg(run.trace_path()).arg("--events"), LIMIT);
    assert!(!ended.status.success() && ended.stderr.contains("no history was recorded"), "{ended}");
}

/// What guest-init turns on.
const EVENTS: [&str; 5] = [
    "sched/sched_switch",
    "sched/sched_wakeup",
    "sched/sched_wakeup_new",
    "sched/sched_migrate_task",
    "sched_ext/sched_ext_event",
];
/// Pairs of windows, one with and one without.
const PAIRS: usize = 48;

/// Work of the guest in windows with the history and without. All of it is on one CPU.
#[ktstr_test(ignore, scheduler = DEMO, duration_s = 120)]
fn windows_with_and_without(_ctx: &Ctx) -> Result<AssertResult> {
    on_one_cpu()?;
    type Work = fn(Instant) -> u64;
    let works: [(&str, Work); 3] = [
        ("spin", spin),
        ("wakes_for_a_ms", |until| ping_pong(until, 500_000)),
        ("ping_pong", |until| ping_pong(until, 0)),
    ];
    for (name, work) in works {
        Cost::measure(name, PAIRS, work, turn)?.say()?;
    }
    Ok(AssertResult::pass())
}

/// Turn the tracepoints on, as guest-init does, or off.
fn turn(on: bool) -> Result<()> {
    for event in EVENTS {
        let file = Path::new(INSTANCE).join("events").join(event).join("enable");
        fs::write(file, if on { "1" } else { "0" })?;
    }
    Ok(())
}

/// A measurement, and so run by hand: `cargo test -p ktstr-tests --test history -- --ignored --exact what_the_history_costs --nocapture`.
#[test]
#[ignore = "it measures for a minute, and a host that does other things makes it say little"]
fn what_the_history_costs() {
    let run = fixture("windows_with_and_without").run();
    assert!(run.status.success(), "{run}");
    let costs = Cost::said_in(&run.trace());
    assert_eq!(costs.len(), 3, "{run}");
    costs.iter().for_each(|cost| println!("{cost}"));
}
