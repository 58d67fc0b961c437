//! `ktstr why` of a run that failed names the right one: the task that waited or was wronged, who kept its CPU from it, what was full;
//! and stacks that are easily got wrong.
//!
//! The runs are `#[ktstr_test(ignore, ..)]` fixtures, each of which one test drives as a child process: a boot for each kind of end.

use std::fs;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_replay::kernel::unwind::{FrameKind, Stack, Unwinder};
use ktstr_replay::run::{Checkpoints, Dump, Run};
use ktstr_replay::trace::record::{CaptureKind, VcpuRegs};
use ktstr_replay::units::KernelVirt;
use ktstr_tests::{TestRun, fixture, ktstr, run_bounded};
use serde_json::Value;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });
declare_scheduler!(STRAY, { name = "stray", source = "scx_stray", topology = (1, 1, 2, 1) });

/// A command name that looks like a line of the kernel's dump, of a task that waits for longest.
const HOSTILE: &str = "\nR [7] -9999ms\n";
/// The CPU that is taken.
const HOGGED: usize = 1;
/// How often a run is made in which somebody else may be the first to wait.
const TRIES: usize = 4;

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

/// Workers that want a CPU in the runs of scx_stray.
const WORKERS: usize = 4;
/// More than the room for its dump has place for.
const CROWD: usize = 60;
/// When scx_stray gets a task to wrong: the others run by then.
const LATER: Duration = Duration::from_millis(1500);

// The watchdog's time is so long that whoever waits aside does not end the scheduler on a host that is slow to come to the stray.
#[ktstr_test(
    ignore,
    scheduler = STRAY,
    duration_s = 6,
    num_snapshots = 12,
    extra_sched_args = ["--end", "--timeout", "25000"]
)]
fn ends_with_an_error_that_names_a_task(ctx: &Ctx) -> Result<AssertResult> {
    // Each of these is a task of its own that may be taken for the one that is told of.
    leave_a_zombie()?;
    beside_others(ctx, WORKERS, false)
}

#[ktstr_test(
    ignore,
    scheduler = STRAY,
    duration_s = 6,
    num_snapshots = 12,
    extra_sched_args = ["--misplace", "--timeout", "25000"]
)]
fn is_put_where_it_may_not_run(ctx: &Ctx) -> Result<AssertResult> {
    beside_others(ctx, WORKERS, false)
}

#[ktstr_test(
    ignore,
    scheduler = STRAY,
    duration_s = 8,
    num_snapshots = 16,
    extra_sched_args = ["--behind", "100000", "--timeout", "2500"]
)]
fn is_far_behind_the_others(ctx: &Ctx) -> Result<AssertResult> {
    beside_others(ctx, WORKERS, true)
}

#[ktstr_test(
    ignore,
    scheduler = STRAY,
    duration_s = 8,
    num_snapshots = 16,
    extra_sched_args = ["--stop", "--timeout", "2500"]
)]
fn leaves_more_waiting_than_the_dump_has_room_for(ctx: &Ctx) -> Result<AssertResult> {
    beside_others(ctx, CROWD, true)
}

/// Workers, and two threads of CPU 1: one called `aside`, unless everybody's wait is what it is about, and later one called `stray`,
/// whose first turns in the scheduler are captured.
fn beside_others(ctx: &Ctx, workers: usize, alone: bool) -> Result<AssertResult> {
    let aside = (!alone).then(|| on_hogged_cpu("aside", || spin_for(Duration::from_secs(4))));
    ctx.watch_snapshot(WatchSpec::on("bss.nr_wronged").max_fires(2))?;
    let stray = thread::spawn(|| {
        sleep(LATER);
        on_hogged_cpu("stray", || spin_for(Duration::from_secs(5))).join().expect("no panic")
    });
    let result = execute_defs(ctx, vec![CgroupDef::named("busy").workers(workers)]);
    stray.join().expect("no panic")?;
    aside.map(|aside| aside.join().expect("no panic")).transpose()?;
    result
}

/// A process that has ended and is not waited for.
fn leave_a_zombie() -> Result<()> {
    // SAFETY: the child does nothing but end, which is allowed after a fork of a process with threads.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()).context("a process that ends at once"),
        // SAFETY: this process is the child; it runs no destructors, and shares no memory with its parent.
        0 => unsafe { libc::_exit(0) },
        _ => Ok(()),
    }
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
    let shown = r"\nR [7] -9999ms\n";
    // A thread of the kernel that was woken on that CPU at the moment at which it was taken has waited as long, and may be the one that the
    // kernel names.
    let is_of_another = |run: &TestRun| {
        let all = sentences(run);
        let exit = all.first().filter(|(.., exit)| exit.contains("runnable task stall: "));
        exit.is_some_and(|(.., exit)| !exit.contains(shown))
    };
    let mut run = fixture("waits_for_a_hogged_cpu").run_undisturbed();
    for _ in 1..TRIES {
        if !is_of_another(&run) {
            break;
        }
        println!("somebody else waited for the CPU first: once more");
        run = fixture("waits_for_a_hogged_cpu").run_undisturbed();
    }
    assert!(!run.status.success(), "it did not stall:\n{run}");
    run.assert_replays();
    let all = sentences(&run);
    let story: String = all.iter().map(|(kind, from, text)| format!("{kind} {from:?} {text}\n")).collect();
    let about = |part: &str| {
        let found = all.iter().find(|(.., text)| text.contains(part));
        found.unwrap_or_else(|| panic!("nothing of `{part}` in:\n{story}\n{run}"))
    };

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

/// The story as text, and a sentence of it.
struct Story(Vec<(String, Vec<String>, String)>);

impl Story {
    fn of(run: &TestRun) -> Self {
        assert!(!run.status.success(), "it passed:\n{run}");
        run.assert_replays();
        Self(sentences(run))
    }

    fn text(&self) -> String {
        self.0.iter().map(|(kind, from, text)| format!("{kind} {from:?} {text}\n")).collect()
    }

    fn about(&self, part: &str) -> &(String, Vec<String>, String) {
        let found = self.0.iter().find(|(.., text)| text.contains(part));
        found.unwrap_or_else(|| panic!("nothing of `{part}` in:\n{}", self.text()))
    }

    fn says(&self, part: &str) -> bool {
        self.0.iter().any(|(.., text)| text.contains(part))
    }

    /// The name and pid, as stories have them, of the task that the first sentence names, which is of the exit.
    fn named(&self, begin: &str) -> String {
        let (_, _, exit) = &self.0[0];
        let (_, rest) = exit.split_once(begin).unwrap_or_else(|| panic!("no `{begin}` in:\n{}", self.text()));
        let (pid, _) = rest.split_once(']').unwrap_or_else(|| panic!("{exit}"));
        assert!(pid.parse::<u32>().is_ok_and(|pid| pid > 1), "{exit}");
        let (_, comm) = begin.rsplit_once(' ').expect("a name");
        format!("{comm}{pid}]")
    }
}

/// The longest waiter is another one, and who is told is the one that the error names.
fn tells_of_the_named_one(story: &Story, run: &TestRun, stray: &str) {
    let text = story.text();
    assert!(run.report().lines().next().is_some_and(|line| line.contains(stray)), "{run}");
    // The bait is there: it waited, for longer than the stray. All that is told of it is that the dump has it, and that it ran when the
    // kernel had taken over.
    let (.., dump) = story.about("by the kernel's dump");
    assert!(dump.contains("aside["), "nobody waited for longer:\n{text}");
    let is_of_it = |text: &str| text.contains("aside[") && text != dump && !text.starts_with("meanwhile ");
    let others: Vec<_> = story.0.iter().filter(|(.., text)| is_of_it(text)).collect();
    assert!(others.is_empty(), "{others:#?}\n{text}");
    // It is no stall, and nobody's vtime is amiss.
    assert!(!text.contains("ordered by vtime") && !text.contains("was cut"), "{text}");
}

#[test]
fn an_error_that_names_a_task_is_told_of_that_task() {
    let run = fixture("ends_with_an_error_that_names_a_task").run();
    let story = Story::of(&run);
    let stray = story.named("lost the context of stray[");
    tells_of_the_named_one(&story, &run, &stray);
    let (kind, _, raised) = story.about("it was raised in the scheduler's program ");
    assert!(kind == "seen" && raised.contains("scx_stray.bpf.c:"), "{raised}");
    a_zombie_has_no_stack_and_nobody_else_lacks_one(&run);
    programs_that_begin_or_end_are_found_with_who_called_them(&run);
}

#[test]
fn a_task_that_was_put_onto_a_cpu_that_it_may_not_use_is_told() {
    let run = fixture("is_put_where_it_may_not_run").run();
    let story = Story::of(&run);
    let stray = story.named("target CPU 0 not allowed for stray[");
    tells_of_the_named_one(&story, &run, &stray);
    let (kind, ..) = story.about(&format!("{stray} may run on CPU {HOGGED} only"));
    assert_eq!(kind, "seen");
}

#[test]
fn a_vtime_that_is_far_from_the_others_is_told() {
    let run = fixture("is_far_behind_the_others").run_undisturbed();
    let story = Story::of(&run);
    let stray = story.named("stall: stray[");
    let (kind, captures, far) = story.about("in queue 0x1, ordered by vtime, ");
    assert!(kind == "seen" && !captures.is_empty(), "{}", story.text());
    let (_, told) = far.split_once("by vtime, ").expect("who");
    assert!(told.starts_with(&format!("{stray} has vtime ")), "{far}");
    assert!(told.contains("behind the next one; the other"), "{far}");
    // A hundred seconds each time that it is queued, less what the others have run meanwhile; and no other is far from its like.
    let by = told.split_once(", ").and_then(|(_, rest)| rest.split_once('s')?.0.parse::<f64>().ok());
    assert!(by.is_some_and(|by| by > 80.0), "{far}");
    assert_eq!(far.matches("has vtime").count(), 1, "{far}");
    // Others were served meanwhile.
    assert!(story.says("went past") || story.says("taken from queue 0x1"), "{}", story.text());
}

#[test]
fn a_dump_that_the_kernel_cut_is_said_to_be_and_memory_tells_the_rest() {
    let run = fixture("leaves_more_waiting_than_the_dump_has_room_for").run_undisturbed();
    let story = Story::of(&run);
    let text = story.text();
    let dump = run.sample(CaptureKind::SchedulerExit).scx.and_then(|scx| scx.exit_dump).expect("a dump");
    let dumped = Dump::parse(&dump);
    assert!(dumped.cut && dumped.tasks.len() < CROWD, "{} tasks in {dump}", dumped.tasks.len());
    let (kind, ..) = story.about("the kernel's dump was cut for want of room");
    assert_eq!(kind, "seen");
    // No totals of what is not whole.
    let (_, _, waited) = story.about("by the kernel's dump as far as it goes");
    assert!(!waited.contains(" more"), "{text}");
    // Those that it lost.
    let (kind, captures, rest) = story.about("by memory, ");
    let count =
        rest.strip_prefix("by memory, ").and_then(|rest| rest.split_once(' ')?.0.parse::<usize>().ok());
    assert!(kind == "seen" && captures.len() == 1, "{text}");
    // Where the host did not run the machine while they were started, the watchdog may have come before the last of them.
    let least = if run.was_disturbed() { dumped.tasks.len() + 1 } else { CROWD };
    assert!(count.is_some_and(|count| count >= least && count > dumped.tasks.len()), "{rest}");
    // The task that the exit names is told, whether the dump has it or not.
    let exit = &story.0[0].2;
    assert!(exit.contains("failed to run for") || exit.contains("failed to check in for"), "{exit}");
    // The report says the same, and the dump itself is shown as it is.
    assert!(run.report().contains("the kernel's dump was cut"), "{run}");
    assert!(printed(&run, &["replay", "--dump"]).contains("TRUNCATED"), "{run}");
}

/// What a capture is called at which the stray is wronged.
const FIRE: &str = "watch:bss.nr_wronged";

fn a_zombie_has_no_stack_and_nobody_else_lacks_one(run: &TestRun) {
    const FREED: &str = "(no stack: it was freed when the task ended)";
    // Whichever captures on cadence the run came to, it has one of the stray's first turn, at which the zombie is there.
    let at = ["replay", "--at", FIRE, "--tasks", "--stacks"];
    let views: Value = serde_json::from_str(&printed(run, &[&at[..], &["--json"]].concat())).expect("JSON");
    let tasks = views["views"]["tasks"]["tasks"].as_array().expect("tasks");
    let pids = |of: &dyn Fn(&Value) -> bool, list: &[Value]| -> Vec<i64> {
        list.iter().filter(|one| of(one)).filter_map(|one| one["pid"].as_i64()).collect()
    };
    // The one that is left, and who else may just have ended.
    let zombies = pids(&|task| task["state"] == "Z", tasks);
    assert!(!zombies.is_empty(), "{tasks:#?}");
    let stacks = views["views"]["stacks"]["tasks"].as_array().expect("stacks");
    assert_eq!(pids(&|stack| stack["end"]["why"] == "freed", stacks), zombies, "{stacks:#?}");
    assert_eq!(printed(run, &at).matches(FREED).count(), zombies.len());
}

/// Registers by the place that they have in [`VcpuRegs::gpr`].
const RBP: usize = 6;
const RSP: usize = 7;
/// `push %rbp; mov %rsp,%rbp`, and `endbr64`.
const FRAME: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
const LEAVE: u8 = 0xc9;

/// A watch has stopped a CPU in a program of the scheduler. By its frame the registers are known that the CPU had at each instruction of
/// the program's beginning, and will have at its last one, with all of memory that matters as it is: wherever it stops, who called is the
/// same.
fn programs_that_begin_or_end_are_found_with_who_called_them(run: &TestRun) {
    let trace = run.trace();
    let loaded = Run::load(&trace);
    let checkpoints = Checkpoints::of(&loaded).expect("checkpoints");
    let open = checkpoints.at(Some(FIRE)).expect("a checkpoint of a fire");
    let (view, vcpus) = (open.kernel(), open.vcpus());
    let stack_of = |regs: &[VcpuRegs], of: &VcpuRegs| -> Option<Stack> {
        Some(Unwinder::new(&view, regs).on_cpu(of.cpu)?.stack)
    };
    let in_program = |regs: &&VcpuRegs| {
        let stack = stack_of(vcpus, regs);
        let first = stack.and_then(|stack| stack.frames.first()?.name.clone());
        first.is_some_and(|name| name.name.ends_with("_stray_enqueue"))
    };
    let regs = vcpus.iter().find(in_program).unwrap_or_else(|| panic!("no CPU is in the program:\n{run}"));
    let names = |stack: &Stack| -> Vec<String> {
        stack
            .frames
            .iter()
            .map(|frame| frame.name.as_ref().map(ToString::to_string).unwrap_or_default())
            .collect()
    };
    let there = stack_of(vcpus, regs).expect("a stack");
    let expected = names(&there);
    // The callers that there must be, from the trampoline of the operation on.
    assert!(expected[1].starts_with("bpf__sched_ext_ops_enqueue+"), "{expected:#?}");
    assert!(expected.iter().skip(2).any(|line| line.contains("enqueue_task")), "{expected:#?}");
    let own = there.frames[0].name.as_ref().expect("a name");
    let start = there.frames[0].ip.0 - own.offset;
    let code = view.bytes(KernelVirt(start), own.size as usize).expect("its code");
    let push = code.windows(FRAME.len()).position(|bytes| bytes == FRAME).expect("a frame pointer");
    assert!(push <= 12, "{code:02x?}");
    let frame = regs.gpr[RBP];
    let callers = view.u64(KernelVirt(frame)).expect("the caller's frame pointer");
    // Offset in the code, stack pointer, frame pointer.
    let mut places = vec![
        (0, frame + 8, callers),
        (push, frame + 8, callers),
        (push + 1, frame, callers),
        (push + FRAME.len(), frame, frame),
    ];
    if code.starts_with(&ENDBR64) {
        places.push((ENDBR64.len(), frame + 8, callers));
    }
    // The return: a plain one, or a jump to a thunk.
    let last = code.windows(2).rposition(|bytes| matches!(bytes, [LEAVE, 0xc3 | 0xe9]));
    places.push((last.expect("an end") + 1, frame + 8, callers));
    for (offset, sp, bp) in places {
        let mut changed = vcpus.to_vec();
        let one = changed.iter_mut().find(|one| one.cpu == regs.cpu).expect("the CPU");
        (one.rip, one.gpr[RSP], one.gpr[RBP]) = (start + offset as u64, sp, bp);
        let stack = stack_of(&changed, regs).expect("a stack");
        let found = names(&stack);
        assert_eq!(found[0], format!("{}+{offset:#x}/{:#x}", own.name, own.size));
        assert_eq!(found[1..], expected[1..], "at {offset:#x} of the program");
        assert!(stack.frames.iter().all(|frame| frame.kind != FrameKind::Guess), "{stack:#?}");
        assert_eq!(stack.end, there.end, "at {offset:#x} of the program");
    }
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
