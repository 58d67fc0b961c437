//! A machine restored from its template is the machine that a boot gives.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use ktstr::prelude::*;
use ktstr_replay::trace::record::{EventBody, OutputSource, Stage};
use ktstr_tests::{Fixture, TestRun, cache_without_templates, fixture};

/// Begins what the body says of its guest: `this guest: NAME=VALUE`.
const MARK: &str = "this guest: ";

/// Says all that a test could tell its machine by.
#[ktstr_test(ignore, cores = 2, duration_s = 2, num_snapshots = 1)]
fn describes_its_guest(ctx: &Ctx) -> Result<AssertResult> {
    // First, so that the kernel has done all that it puts off for a second after its boot.
    let result = execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])?;
    for file in [
        "/proc/cmdline",
        "/proc/version",
        "/proc/mounts",
        "/proc/filesystems",
        "/proc/self/cgroup",
        "/proc/sys/kernel/hostname",
        "/sys/devices/system/cpu/online",
        "/sys/devices/system/node/online",
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        "/sys/kernel/sched_ext/state",
    ] {
        let text = fs::read_to_string(file).with_context(|| file.to_owned())?;
        println!("{MARK}{file}={:?}", without_sizes(&text));
    }
    let ram = fs::read_to_string("/proc/iomem")?;
    println!("{MARK}ram={:?}", ram.lines().filter(|line| line.contains("RAM")).collect::<Vec<_>>());
    let flags = fs::read_to_string("/proc/cpuinfo")?;
    println!("{MARK}flags={:?}", flags.lines().find(|line| line.starts_with("flags")));
    println!("{MARK}wall_s={}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    println!("{MARK}random={:?}", fs::read_to_string("/proc/sys/kernel/random/uuid")?);
    Ok(result)
}

/// Mounts without how large they may become: by default half of the pages that were free early in the boot, and two boots of a
/// kernel that is placed at random differ by a page or two.
fn without_sizes(text: &str) -> String {
    let is_size = |option: &str| option.starts_with("size=") || option.starts_with("nr_inodes=");
    let line = |line: &str| {
        let fields = line
            .split(' ')
            .map(|field| field.split(',').filter(|option| !is_size(option)).collect::<Vec<_>>().join(","));
        fields.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A machine that no other test has, so that its template is made here.
#[ktstr_test(ignore, cores = 1, memory_mib = 320, duration_s = 1, checkpoint = "never")]
fn has_a_template_of_its_own(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn said(run: &TestRun) -> BTreeMap<String, String> {
    assert!(run.status.success(), "{run}");
    let mut text = Vec::new();
    for event in run.trace().events() {
        if let EventBody::Output { source: OutputSource::Test, stderr: false, bytes } = event.body {
            text.extend(bytes);
        }
    }
    let text = String::from_utf8(text).expect("text");
    let said = text.lines().filter_map(|line| line.split_once(MARK)?.1.split_once('='));
    said.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn reached(run: &TestRun, wanted: Stage) -> bool {
    let is = |body: &EventBody| matches!(body, EventBody::Stage { stage, .. } if *stage == wanted);
    run.trace().events().iter().any(|event| is(&event.body))
}

/// Takes a variable's value out, as a number.
fn number(said: &mut BTreeMap<String, String>, name: &str) -> u64 {
    said.remove(name).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {said:?}"))
}

#[test]
fn cold_and_warm_runs_are_alike() {
    // The first leaves a template, if there is none yet.
    let first = fixture("describes_its_guest").run();
    assert!(first.status.success(), "{first}");
    let now_s = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let timed = |fixture: Fixture| {
        let begun = now_s();
        let run = fixture.run();
        // Both clocks are told in whole seconds.
        (run, begun - 1..=now_s() + 1)
    };
    let warm = [timed(fixture("describes_its_guest")), timed(fixture("describes_its_guest"))];
    let (cold, cold_s) = timed(fixture("describes_its_guest").env("KTSTR_COLD", "1"));
    assert!(reached(&cold, Stage::Booting) && !reached(&cold, Stage::Restored), "not cold: {cold}");

    let mut said_cold = said(&cold);
    assert_eq!(said_cold.len(), 14, "{said_cold:?}");
    let (wall_s, cold_random) = (number(&mut said_cold, "wall_s"), said_cold.remove("random"));
    // Each has the host's clock.
    assert!(cold_s.contains(&wall_s), "{wall_s} in a run of {cold_s:?}");
    let mut randoms = vec![cold_random];
    for (warm, warm_s) in &warm {
        assert!(reached(warm, Stage::Restored) && !reached(warm, Stage::Booting), "not warm: {warm}");
        let mut said_warm = said(warm);
        let wall_s = number(&mut said_warm, "wall_s");
        assert!(warm_s.contains(&wall_s), "{wall_s} in a run of {warm_s:?}");
        randoms.push(said_warm.remove("random"));
        for (name, cold) in &said_cold {
            assert_eq!(said_warm.get(name), Some(cold), "{name}");
        }
        assert_eq!(said_warm.len(), said_cold.len());
        assert_eq!(warm.trace().sample_count(), cold.trace().sample_count());
    }
    // Nothing random came out of the template.
    randoms.sort();
    randoms.dedup();
    assert_eq!(randoms.len(), 3, "{randoms:?}");
}

#[test]
fn a_template_is_built_once_by_runs_that_start_together() {
    let cache = cache_without_templates();
    let runs: Vec<TestRun> = thread::scope(|scope| {
        let start = || {
            let fixture = fixture("has_a_template_of_its_own");
            let cache = cache.path();
            scope.spawn(move || fixture.env("XDG_CACHE_HOME", cache).run())
        };
        let runs: Vec<_> = (0..3).map(|_| start()).collect();
        runs.into_iter().map(|run| run.join().expect("a run")).collect()
    });
    for run in &runs {
        assert!(run.status.success(), "{run}");
    }
    let booted = runs.iter().filter(|run| reached(run, Stage::Booting)).count();
    let restored = runs.iter().filter(|run| reached(run, Stage::Restored)).count();
    assert_eq!((booted, restored), (1, 2), "{runs:#?}");
    let entries = fs::read_dir(cache.path().join("ktstr/templates")).expect("templates").flatten();
    assert_eq!(entries.filter(|entry| entry.path().is_dir()).count(), 1, "templates");
}

#[test]
fn a_warm_start_is_quicker_than_a_boot() {
    let run = |cold: &str| fixture("describes_its_guest").env("KTSTR_COLD", cold).run();
    let cold_s = start_s(&run("1"), Stage::Booting);
    run("0");
    // A host that does not run the emulator meanwhile makes any start long, but not each.
    let mut warm_s = Vec::new();
    while warm_s.len() < 5 && warm_s.iter().all(|warm_s| warm_s * 2.0 >= cold_s) {
        warm_s.push(start_s(&run("0"), Stage::Restored));
    }
    assert!(
        warm_s.iter().any(|warm_s| warm_s * 2.0 < cold_s),
        "a boot takes {cold_s} s, restores {warm_s:?} s"
    );
}

/// How long the machine took to start, by its own account: without the wait for free CPUs of the host.
fn start_s(run: &TestRun, how: Stage) -> f64 {
    let details = run.trace().events().into_iter().filter_map(|event| match event.body {
        EventBody::Stage { stage, detail } if stage == how => Some(detail),
        _ => None,
    });
    let seconds = |detail: String| detail.split_once(" s")?.0.parse().ok();
    let found: Vec<f64> = details.filter_map(seconds).collect();
    assert_eq!(found.len(), 1, "{how:?} of {run}");
    found[0]
}
