//! Watches of a guest: one run has them all, and is looked at from every side.
//!
//! scx_demo sets a counter of its own back to 0 each 400 ms; the watch of that counter names the program and the line that does.

use std::collections::BTreeSet;
use std::time::Duration;

use ktstr_replay::trace::record::{CaptureKind, EventBody, WatchFire, WatchNews};
use ktstr_replay::verdict::Outcome;
use ktstr_replay::watch::{AskedEnd, WatchLog, WatchSeen};
use ktstr_tests::{TestRun, fixture, ktstr, run_bounded};

mod fixtures {
    use std::time::Duration;

    use ktstr::prelude::*;
    use ktstr_tests::{Cost, on_one_cpu, ping_pong};

    declare_scheduler!(DEMO, {
        name = "demo",
        source = "scx_demo",
        topology = (1, 1, 2, 1),
        sched_args = ["--miscount-ms", "400"],
    });

    #[ktstr_test(
        ignore,
        scheduler = DEMO,
        duration_s = 6,
        num_snapshots = 6,
        not_starved,
        watch = ["bss.nr_dispatched when new < old", "scx_root->exit_kind", "bss.stats.last_comm", "data.no_such"],
        claims = [
            "final(watch(\"bss.nr_dispatched\").fires >= 1)",
            "eventually(watch(\"bss.nr_dispatched\").new == 0)",
            "eventually(nr_enqueued >= 1)",
        ]
    )]
    fn watched(ctx: &Ctx) -> Result<AssertResult> {
        let hot = WatchSpec::on("jiffies_64").max_fires(100_000).min_interval(Duration::from_millis(200));
        let misspelt = ctx.watch_snapshot("kernel.jiffies_46").expect_err("there is none").to_string();
        ensure!(misspelt.contains("`kernel.jiffies_46` cannot be watched"), "{misspelt}");
        let cgroups = Backdrop::new(vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")]);
        // Together beyond the last periodic capture, however fast the rest goes.
        let part = HoldSpec::Frac(0.45);
        let few = WatchSpec::on("data.last_enqueued_pid").when("new > old").max_fires(3);
        let steps = vec![
            Step::of_ops([Op::watch_snapshot(hot), Op::watch_snapshot(few)], part).named("hot"),
            Step::of_ops([Op::restart_scheduler()], part).named("again"),
        ];
        execute_scenario(ctx, cgroups, steps)
    }

    // What follows is run by `benches/observing.rs`, which measures.

    /// A number of the kernel's that nobody stores to but who writes to this file: in how many seconds it boots again after a panic.
    const RARE: &str = "kernel.(int)panic_timeout";
    const RARE_FILE: &str = "/proc/sys/kernel/panic";

    /// Store to that number: at once after a panic, by any number below 0.
    fn store(n: u64) -> Result<()> {
        std::fs::write(RARE_FILE, if n.is_multiple_of(2) { "-1" } else { "-2" }).with_context(|| RARE_FILE)
    }

    /// A store each 100 ms, while workers keep the guest's CPUs busy.
    fn fires(ctx: &Ctx) -> Result<AssertResult> {
        ctx.watch_snapshot(RARE)?;
        let stores = std::thread::spawn(|| {
            (0..32).try_for_each(|n| {
                std::thread::sleep(Duration::from_millis(100));
                store(n)
            })
        });
        let result = execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])?;
        stores.join().map_err(|_| anyhow!("the thread that stores has panicked"))??;
        Ok(result)
    }

    #[ktstr_test(ignore, scheduler = DEMO, duration_s = 4, checkpoint = "ends")]
    fn fires_with_a_sample(ctx: &Ctx) -> Result<AssertResult> {
        fires(ctx)
    }

    #[ktstr_test(ignore, scheduler = DEMO, duration_s = 4, checkpoint = "every")]
    fn fires_with_a_checkpoint(ctx: &Ctx) -> Result<AssertResult> {
        fires(ctx)
    }

    /// Work in windows with a watch that nobody stores to and without. A watch goes when it has fired as often as it may: here at a store
    /// between two windows.
    #[ktstr_test(ignore, scheduler = DEMO, duration_s = 240, allow_restarts)]
    fn armed_and_not(ctx: &Ctx) -> Result<AssertResult> {
        on_one_cpu()?;
        let work = |until| ping_pong(until, 500_000);
        let watch = |target| ctx.watch_snapshot(WatchSpec::on(target).max_fires(1)).context("a watch");
        let mut stores = 0;
        let rare = Cost::measure(RARE, 24, work, |on| {
            stores += 1;
            if on { watch(RARE) } else { store(stores) }
        })?;
        rare.say()?;
        // Beside what the kernel reads for each operation of the scheduler.
        let kind = "scx_root->exit_kind";
        let again = || {
            let hold = HoldSpec::Fixed(Duration::from_millis(100));
            let result = execute_steps(ctx, vec![Step::of_ops([Op::restart_scheduler()], hold)])?;
            ensure!(result.passed(), "{result:?}");
            Ok(())
        };
        let beside = Cost::measure(kind, 16, work, |on| if on { watch(kind) } else { again() })?;
        beside.say()?;
        Ok(AssertResult::pass())
    }
}

/// Longer than it takes.
const LIMIT: Duration = Duration::from_secs(120);

/// One boot for all of it.
#[test]
fn a_run_with_watches() {
    let run = fixture("fixtures::watched").run();
    the_program_and_the_line_that_set_a_counter_back_are_named(&run);
    a_member_behind_a_pointer_is_watched_in_each_scheduler_anew(&run);
    a_variable_is_watched_no_longer_than_its_scheduler_is_there(&run);
    a_hot_watch_does_not_keep_the_guest_from_its_work(&run);
    a_watch_ends_when_it_has_fired_as_often_as_it_may(&run);
    what_cannot_be_watched_fails_the_run_and_says_why(&run);
    replay_shows_the_watches_of_the_file_alone(&run);
    claims_count_the_fires(&run);
}

fn claims_count_the_fires(run: &TestRun) {
    let seen = watch(run, "bss.nr_dispatched");
    let (from, until) = run.trace().timeline().body().expect("a body");
    // Where two vCPUs stop at once, what one of them stored may already be the other's: below the old value, but not 0.
    let in_body = |cpu: u32| {
        let fires = seen
            .fires
            .iter()
            .filter(|(at, fire)| (from..=until).contains(at) && fire.cpu.0 == cpu && fire.new == 0);
        fires.count()
    };
    let count = in_body(0) + in_body(1);
    assert!(count > 0, "{seen:?}");
    for cpu in [0, 1] {
        let of = format!("count(watch(\"bss.nr_dispatched\" where cpu == {cpu} and new == 0))");
        let finding = run.claimed(&format!("{of} >= {}", in_body(cpu)));
        assert_eq!(finding.outcome, Outcome::Pass, "{finding:?}");
        // What the watch may have missed could be one more.
        let finding = run.claimed(&format!("{of} > {}", in_body(cpu)));
        assert_ne!(finding.outcome, Outcome::Pass, "{finding:?}");
    }
    let never = run.claimed("never(watch(\"bss.nr_dispatched\" where new == 0))");
    assert_eq!(never.outcome, Outcome::Fail, "{never:?}");
    assert!(
        never.lines.iter().any(|line| line.starts_with("> ") && line.contains("bss.nr_dispatched")),
        "{never:?}"
    );
    let typo = run.claimed("never(watch(\"bss.nr_dispatchd\"))");
    assert!(
        typo.outcome == Outcome::Fail && typo.summary.contains("did you mean `bss.nr_dispatched`?"),
        "{typo:?}"
    );
}

fn watch(run: &TestRun, target: &str) -> WatchSeen {
    let log = WatchLog::of(&run.trace().events());
    log.named(target).next().unwrap_or_else(|| panic!("no watch {target}:\n{}", run)).clone()
}

fn the_program_and_the_line_that_set_a_counter_back_are_named(run: &TestRun) {
    let seen = watch(run, "bss.nr_dispatched");
    assert_eq!(seen.end(), AskedEnd::Seen, "{}", run);
    let is_told = |fire: &&WatchFire| {
        let source = fire.source.as_deref().unwrap_or_default();
        fire.new == 0
            && fire.place.contains("_misbehave+")
            && source.starts_with("scx_demo.bpf.c:")
            && source.ends_with("nr_dispatched = 0;")
    };
    // Where two vCPUs stop at once, the emulator tells of one: the other's store has its place only from then, and may have the other's
    // place and change. So such a fire may be of any program that counts, and be told from where that has returned to.
    let (told, other): (Vec<_>, Vec<_>) = seen.fires.iter().map(|(_, fire)| fire).partition(is_told);
    assert!(!told.is_empty(), "{other:#?}\n{run}");
    for fire in &told {
        assert!(fire.place.starts_with("bpf_prog_"), "{fire:?}");
        assert!(fire.stack.iter().any(|line| line.contains("_demo_")), "{fire:#?}");
    }
    // It is set back at a dispatch, or where a task begins to run, which a change of its class or CPUs brings about, too.
    let is_scheduled = |fire: &&WatchFire| fire.stack.iter().any(|line| line.contains("__schedule"));
    assert!(told.iter().any(is_scheduled), "{told:#?}\n{run}");
    for (_, fire) in &seen.fires {
        assert!(fire.new < fire.old, "{fire:?}");
        assert!(fire.pid.is_some() && !fire.comm.is_empty() && fire.cpu.0 < 2, "{fire:?}");
    }
    // The stores of dispatches were looked at, and left alone: between two fires there is one at least, unless the watch was away, for a
    // rest or for want of a scheduler.
    let totals = seen.totals.expect("totals");
    assert_eq!(totals.stores, totals.fires + totals.excluded, "{totals:?}");
    assert_eq!(totals.fires, seen.fires.len() as u64, "{totals:?}");
    let away = totals.backed_off + totals.unseen + seen.armed.len() as u64;
    assert!(totals.excluded > 0 && totals.excluded + away >= totals.fires, "{totals:?}");
    // Each fire has its capture, of that moment. Where a store to another target stopped the machine as well, it is called after that.
    let values = run.trace().captures().var("nr_dispatched");
    for (at, fire) in &seen.fires {
        let point = values.points.iter().find(|point| point.sample == fire.sample);
        let value = point.and_then(|point| point.value.as_ref().ok()?.to_i128());
        assert_eq!(value, Some(fire.new), "{at:?} {fire:?} {point:?}");
    }
}

fn a_member_behind_a_pointer_is_watched_in_each_scheduler_anew(run: &TestRun) {
    let seen = watch(run, "scx_root->exit_kind");
    assert!(seen.armed.len() >= 2, "{seen:#?}\n{}", run);
    // Armed before any scheduler: the first thing that was told is that there is none.
    let events = run.trace().events();
    let waits = events.iter().any(|event| {
        matches!(&event.body, EventBody::Watch(news)
            if news.target == "scx_root->exit_kind" && matches!(&news.what, WatchNews::Waiting { why } if why.contains("null pointer")))
    });
    assert!(waits, "{}", run);
    // The first scheduler was told to leave, and says so in this word.
    let ended =
        seen.fires.iter().find(|(_, fire)| fire.new != 0).unwrap_or_else(|| panic!("{seen:#?}\n{}", run));
    // Of two vCPUs that stop at once the other's store is told from some instructions later, which may be of a caller.
    let told = ended.1.stack.iter().chain([&ended.1.place]);
    assert!(told.into_iter().any(|line| line.contains("scx_")), "{ended:?}");
}

/// Its memory is another's once its loader has gone. Its maps may have gone, too, by the time that it is looked at.
fn a_variable_is_watched_no_longer_than_its_scheduler_is_there(run: &TestRun) {
    let is_end = |why: &str| {
        why.ends_with("has ended, or is not enabled yet") || why.starts_with("there is no variable")
    };
    let ended = run.trace().events().into_iter().any(|event| {
        matches!(&event.body, EventBody::Watch(news)
            if news.target == "bss.nr_dispatched"
                && matches!(&news.what, WatchNews::Disarmed { why } if is_end(why)))
    });
    let seen = watch(run, "bss.nr_dispatched");
    assert!(ended && seen.armed.len() >= 2, "{seen:#?}\n{run}");
}

fn a_hot_watch_does_not_keep_the_guest_from_its_work(run: &TestRun) {
    let seen = watch(run, "jiffies_64");
    let totals = seen.totals.expect("totals");
    // How many there are is the host's speed: a tick that comes late makes up for those before it by one store.
    assert!(totals.too_soon > 0 && totals.stores == totals.fires + totals.too_soon, "{totals:?}");
    let fires: Vec<_> = seen.fires.iter().map(|(at, _)| *at).collect();
    assert!(fires.len() >= 2, "{totals:?}");
    for pair in fires.windows(2) {
        assert!(
            pair[1].saturating_since(pair[0]) >= Duration::from_millis(190).as_nanos() as u64,
            "{fires:?}"
        );
    }
    for pair in seen.fires.windows(2) {
        assert!(pair[1].1.new > pair[0].1.new, "{pair:?}");
    }
    // All the other judgements of the run hold; of the one by the clock nothing can be said where the host did not run the machine.
    let starved = run.section("not_starved");
    let is_open = run.was_disturbed() && starved.starts_with("????");
    assert!(starved.starts_with("ok ") || is_open, "{}", run);
    assert!(run.stdout.contains("ok    eventually(nr_enqueued >= 1)"), "{}", run);
}

fn a_watch_ends_when_it_has_fired_as_often_as_it_may(run: &TestRun) {
    let seen = watch(run, "data.last_enqueued_pid");
    assert_eq!(seen.fires.len(), 3, "{seen:#?}");
    assert!(seen.fires.iter().all(|(_, fire)| fire.new > fire.old), "{seen:#?}");
    assert!(seen.away.as_deref().is_some_and(|why| why.contains("fired 3 times")), "{seen:?}");
    assert!(seen.by_body && seen.fires.iter().all(|(_, fire)| fire.phase.is_some()), "{seen:?}");
    // Each fire has a capture, and those of one stop have one together.
    let captures = run.trace().captures().filter(|sample| sample.kind == CaptureKind::Watch);
    let stops: BTreeSet<u32> = WatchLog::of(&run.trace().events())
        .watches
        .iter()
        .flat_map(|one| &one.fires)
        .map(|(_, fire)| fire.sample)
        .collect();
    assert!(stops.len() >= 3 && captures.len() == stops.len(), "{} of {stops:?}", captures.len());
}

fn what_cannot_be_watched_fails_the_run_and_says_why(run: &TestRun) {
    assert!(!run.status.success(), "{}", run);
    let failed: Vec<&str> = run.stdout.lines().filter_map(|line| line.strip_prefix("FAIL  ")).collect();
    assert_eq!(
        failed,
        ["watch bss.stats.last_comm", "watch data.no_such", "watch kernel.jiffies_46"],
        "{run}"
    );
    for text in [
        "FAIL  watch kernel.jiffies_46\n      could not be armed: the kernel has no symbol `jiffies_46`; did you mean `jiffies_64`?",
        "FAIL  watch data.no_such\n      could not be armed: there is no variable `data.no_such`",
        "FAIL  watch bss.stats.last_comm\n      could not be armed: `stats.last_comm` cannot be watched: it is a `char[16]` of 16 bytes",
    ] {
        assert!(run.stdout.contains(text), "no {text:?} in:\n{}", run);
    }
}

fn replay_shows_the_watches_of_the_file_alone(run: &TestRun) {
    let path = run.trace_path();
    let path = path.to_str().expect("a path");
    let shown = run_bounded(ktstr().args(["replay", path, "--watches"]), LIMIT);
    assert!(shown.status.success(), "{shown}");
    for text in [
        "bss.nr_dispatched when new < old: fired",
        "nr_dispatched = 0;",
        "how the last got there:",
        "jiffies_64: fired",
    ] {
        assert!(shown.stdout.contains(text), "no {text:?} in:\n{shown}");
    }
    let json = run_bounded(ktstr().args(["replay", path, "--watches", "--json"]), LIMIT);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let watches = json["views"]["watches"]["watches"].as_array().expect("watches");
    assert_eq!(watches.len(), 7, "{json:#}");
}
