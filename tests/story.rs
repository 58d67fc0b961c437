//! The story of a run that failed names the right one: the task that waited, who kept its CPU from it, and what was full.
//!
//! The run is a `#[ktstr_test(ignore, ..)]` fixture, which one test drives as a child process: it boots once for all of it.

use std::fs;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_tests::{TestRun, fixture, ktstr, run_bounded};
use serde_json::Value;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// A command name that looks like a line of the kernel's dump, of a task that waits for longest.
const HOSTILE: &str = "\nR [7] -9999ms\n";
/// The CPU that is taken.
const HOGGED: usize = 1;

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 6,
    num_snapshots = 8,
    extra_sched_args = ["--timeout-ms", "2500", "--task-room", "32"]
)]
fn waits_for_a_hogged_cpu(ctx: &Ctx) -> Result<AssertResult> {
    let_real_time_tasks_run_on()?;
    let victim = on_hogged_cpu(HOSTILE, || spin_for(Duration::from_secs(8)));
    let hog = on_hogged_cpu("rt-hog", || {
        sleep(Duration::from_millis(500));
        become_real_time().map(|()| spin_for(Duration::from_secs(5)))
    });
    let result =
        execute_defs(ctx, vec![CgroupDef::named("free").workers(2).cpuset(CpusetSpec::Exact("0".parse()?))]);
    hog.join().expect("no panic")??;
    victim.join().expect("no panic")?;
    result
}

const LIMIT: Duration = Duration::from_secs(120);

/// What a command prints of the run's trace.
fn printed(run: &TestRun, args: &[&str]) -> String {
    let ended = run_bounded(ktstr().arg(args[0]).arg(run.trace_path()).args(&args[1..]), LIMIT);
    assert!(ended.status.success() || args[0] == "why", "{ended}");
    ended.stdout.clone()
}

/// The sentences of `ktstr why`: the kind of their evidence, its entries, the text.
fn sentences(run: &TestRun) -> Vec<(String, Vec<String>, String)> {
    let all: Value = serde_json::from_str(&printed(run, &["why", "--json"])).expect("JSON");
    let one = |sentence: &Value| {
        let (kind, entries) = sentence["evidence"].as_object()?.iter().next()?;
        let entries = entries.as_array()?.iter().filter_map(|entry| Some(entry.as_str()?.to_owned()));
        Some((kind.clone(), entries.collect(), sentence["text"].as_str()?.to_owned()))
    };
    let found: Option<Vec<_>> =
        all["why"]["sentences"].as_array().expect("sentences").iter().map(one).collect();
    found.unwrap_or_else(|| panic!("a sentence without evidence: {all:#}"))
}

#[test]
fn a_task_behind_a_real_time_one_is_told_with_it_and_no_name_misleads() {
    let run = fixture("waits_for_a_hogged_cpu").run();
    assert!(!run.status.success(), "it did not stall:\n{run}");
    run.assert_replays();
    let all = sentences(&run);
    let story: String = all.iter().map(|(kind, from, text)| format!("{kind} {from:?} {text}\n")).collect();
    let about = |part: &str| {
        let found = all.iter().find(|(.., text)| text.contains(part));
        found.unwrap_or_else(|| panic!("nothing of `{part}` in:\n{story}\n{run}"))
    };
    let shown = r"\nR [7] -9999ms\n";

    // The victim is the thread, not what its name looks like; pid 7 is no task that waited.
    let (_, _, exit) = &all[0];
    assert!(
        exit.contains(&format!("runnable task stall: {shown}[")) && exit.contains("failed to run for"),
        "{story}"
    );
    let (.., dump) = about("by the kernel's dump");
    assert!(dump.contains(&format!("{shown}[")) && !story.contains("9.999s"), "{story}");
    assert!(run.report().lines().next().is_some_and(|line| line.contains(&format!("{shown}["))), "{run}");

    let forged = |line: &str| line.trim_start().starts_with("R [7]");
    let report = run.report();
    let (_, dump) = report.split_once("sched_ext's dump").expect("the dump");
    assert!(dump.contains(shown) && !dump.lines().any(forged), "it has the name as a line:\n{dump}");

    // Who had the CPU, for how long, and what follows from that.
    let (kind, captures, hog) = about("rt-hog[");
    assert!(
        kind == "seen"
            && captures.len() >= 2
            && hog.contains("(rt, FIFO with priority 50) had CPU 1: it ran for"),
        "{story}"
    );
    let waited_at = captures.last().expect("a capture").clone();
    let (kind, from, clear) = about("the scheduler is not the cause");
    assert!(kind == "inferred" && !from.is_empty() && clear.contains("may run on CPU 1 only"), "{story}");
    assert!(run.report().contains("the scheduler is not the cause"), "{run}");

    // The history tells the same without a checkpoint: how long it waited, and who ran meanwhile.
    let (_, from, waited) = about("was runnable and did not run for");
    assert!(from == &["history"] && waited.starts_with(shown), "{story}");
    let (_, from, meanwhile) = about("meanwhile CPU 1 ran rt-hog[");
    assert!(from == &["history"] && !story.contains("meanwhile CPU 0"), "{story}");
    let share = meanwhile.split_once('(').and_then(|(_, rest)| rest.split_once('%')?.0.parse::<u32>().ok());
    assert!(share.is_some_and(|share| share > 80), "{meanwhile}");
    let report = run.report();
    let (_, of_task) = report.split_once(&format!("history of {shown}[")).expect("the task's history");
    let (of_task, of_cpu) = of_task.split_once("history of CPU 1: the last ").expect("the CPU's history");
    assert!(
        of_task.lines().any(|line| line.contains("switch") && line.contains(&format!("{shown}["))),
        "{of_task}"
    );
    let of_cpu: Vec<&str> = of_cpu.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    assert!(of_cpu.len() <= 51 && of_cpu.iter().any(|line| line.contains("rt-hog[")), "{of_cpu:#?}");

    // Which CPUs it may run on, and how the others went past it.
    let bound = format!("] may run on CPU {HOGGED} only");
    assert!(all.iter().any(|(kind, _, text)| kind == "seen" && text.ends_with(&bound)), "{story}");
    let (kind, _, passed) = about("went past");
    assert!(kind == "inferred" && passed.contains("CPU 1 took nothing from it"), "{story}");

    let (kind, captures, _) = about("map task_stats was full from here on: 32 of 32 entries");
    assert!(kind == "seen" && captures.len() > 1, "{story}");

    // The views have the CPUs that tasks may run on, and show names on one line.
    let at = ["replay", "--at", &waited_at, "--dsqs", "--tasks"];
    let views: Value = serde_json::from_str(&printed(&run, &[&at[..], &["--json"]].concat())).expect("JSON");
    let queues = views["views"]["dsqs"]["dsqs"].as_array().expect("queues");
    let tasks = std::iter::once(&views["views"]["tasks"]).chain(queues);
    let tasks = tasks.filter_map(|of| of["tasks"].as_array()).flatten();
    let found: Vec<&Value> = tasks.filter(|task| task["comm"] == HOSTILE).collect();
    assert_eq!(found.len(), 2, "{views:#}");
    let allowed = HOGGED.to_string();
    assert!(found.iter().all(|task| task["cpus_allowed"].as_str() == Some(&allowed)), "{found:#?}");
    let lines = printed(&run, &at);
    assert_eq!(lines.lines().filter(|line| line.contains(shown)).count(), 3, "{lines}");
}

/// Neither a share of the time for others (`sched_rt_runtime_us`), nor servers that lend a CPU to starved classes.
fn let_real_time_tasks_run_on() -> Result<()> {
    fs::write("/proc/sys/kernel/sched_rt_runtime_us", "-1").context("sched_rt_runtime_us")?;
    let debug = "/tmp/debug";
    fs::create_dir_all(debug)?;
    mount_debugfs(debug)?;
    for server in ["fair_server", "ext_server"] {
        let file = format!("{debug}/sched/{server}/cpu{HOGGED}/runtime");
        // Older kernels have no ext_server.
        if fs::exists(&file)? {
            fs::write(&file, "0").with_context(|| file.clone())?;
        }
    }
    Ok(())
}

fn mount_debugfs(at: &str) -> Result<()> {
    rustix::mount::mount("debugfs", at, "debugfs", rustix::mount::MountFlags::empty(), None)
        .context("mounting debugfs")
}

/// A thread of that name that may run on the hogged CPU only.
fn on_hogged_cpu<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<Result<T>> {
    thread::spawn(move || {
        fs::write("/proc/thread-self/comm", name).context("naming a thread")?;
        let mut cpus = rustix::thread::CpuSet::new();
        cpus.set(HOGGED);
        rustix::thread::sched_setaffinity(None, &cpus).context("binding a thread to a CPU")?;
        Ok(work())
    })
}

fn become_real_time() -> Result<()> {
    let priority = libc::sched_param { sched_priority: 50 };
    // SAFETY: the parameters live through the call, which only reads them.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) } != 0 {
        return Err(std::io::Error::last_os_error()).context("SCHED_FIFO");
    }
    Ok(())
}

fn spin_for(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}
