//! The kernel's own example schedulers, `tools/sched_ext` of the kernel under test: all of them are built by our toolchain, load,
//! schedule, are read, and exit when they are asked to.
//!
//! One machine runs them all, one after another. Their source is the archive's package of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_record::provision::{KernelSpec, Provisioner};
use ktstr_record::scheduler::build_c;
use ktstr_record::spec::KernelConfig;
use ktstr_replay::series::Samples;
use ktstr_tests::Mortal;
use rustix::process::{Pid, Signal, kill_process};

/// Where the guest has them.
const GUEST_FOLDER: &str = "/examples";
/// Those that 7.3 has; a later kernel may have more.
const KNOWN: [&str; 8] = [
    "scx_central",
    "scx_cpu0",
    "scx_flatcg",
    "scx_pair",
    "scx_qmap",
    "scx_sdt",
    "scx_simple",
    "scx_userland",
];
/// Those under which all of our own scenarios run.
const WITH_SCENARIOS: [&str; 2] = ["scx_qmap", "scx_simple"];
/// How long each of these takes.
const SCENARIO: Duration = Duration::from_millis(300);
/// How long one may take to be enabled, and to exit.
const LIMIT: Duration = Duration::from_secs(120);
/// How long it schedules.
const WINDOW: Duration = Duration::from_millis(300);

// The kernel's own examples may have it warn: 7.3.4 did once in ten runs, of a task that was put back when one of them came or went (the
// `WARN_ON_ONCE` of `put_prev_task_scx`). That they load and are read is what is tested.
#[ktstr_test(
    cores = 4,
    duration_s = 240,
    checkpoint = "never",
    allow_splats,
    include_files = programs_and_configuration,
    check = each_was_enabled_and_read
)]
fn all_load_and_run(ctx: &Ctx) -> Result<AssertResult> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(GUEST_FOLDER)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    for name in names {
        // An example has faults of its own: scx_flatcg of 7.3.4 once let a task wait until the watchdog came. One that does it each time fails.
        let Err(first) = run(ctx, &name) else { continue };
        println!("{name} is run once more: {first:#}");
        let begin = Instant::now();
        while state()? != "disabled" {
            ensure!(begin.elapsed() < LIMIT, "{name}: sched_ext is {}", state()?);
            sleep(Duration::from_millis(10));
        }
        run(ctx, &name).with_context(|| name.clone())?;
    }
    Ok(AssertResult::pass())
}

fn run(ctx: &Ctx, name: &str) -> Result<()> {
    let mut running = Mortal(Command::new(Path::new(GUEST_FOLDER).join(name)).spawn()?);
    let scheduler = &mut running.0;
    wait_until("it is enabled", scheduler, |_| Ok(state()? == "enabled"))?;
    // Busy threads, more of them than CPUs.
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let begin = Instant::now();
                while begin.elapsed() < WINDOW {
                    std::hint::spin_loop();
                }
            });
        }
    });
    if WITH_SCENARIOS.contains(&name) {
        for (scenario, run) in scenarios::ALL {
            let part = ctx.part(SCENARIO.as_secs_f64() / ctx.duration.as_secs_f64());
            let result = run(&part).context(scenario)?;
            ensure!(result.passed(), "{scenario}: {result:?}");
        }
    }
    ensure!(state()? == "enabled", "it did not stay enabled");
    ctx.capture_snapshot(name)?;
    kill_process(Pid::from_child(scheduler), Signal::INT)?;
    wait_until("it exits", scheduler, |child| Ok(child.try_wait()?.is_some()))?;
    let status = scheduler.wait()?;
    ensure!(status.success(), "it ended with {status}");
    ensure!(state()? == "disabled", "sched_ext is {}", state()?);
    Ok(())
}

fn wait_until(what: &str, child: &mut Child, done: impl Fn(&mut Child) -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    loop {
        // In this order: it may end in between.
        let ended = child.try_wait()?;
        if done(child)? {
            return Ok(());
        }
        if let Some(status) = ended {
            bail!("{status} before {what}");
        }
        ensure!(begin.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        sleep(Duration::from_millis(10));
    }
}

fn state() -> Result<String> {
    Ok(fs::read_to_string("/sys/kernel/sched_ext/state")?.trim().to_owned())
}

/// On the host: the examples, built, and what libbpf asks for.
fn programs_and_configuration() -> Result<Vec<IncludedFile>> {
    let spec = KernelSpec::parse(&std::env::var("KTSTR_KERNEL").unwrap_or_else(|_| "latest".to_owned()))?;
    let provisioner = Provisioner::open()?;
    let kernel = provisioner.kernel(&spec)?;
    let folder = provisioner.kernel_source(&kernel, &["tools/sched_ext"])?.join("tools/sched_ext");
    let toolchain = provisioner.toolchain()?;
    let mut files = Vec::new();
    for name in examples(&folder)? {
        let host = build_c(&folder, &name, &kernel, &toolchain, provisioner.cache())?;
        files.push(IncludedFile { host, guest: format!("{GUEST_FOLDER}/{name}") });
    }
    let config = provisioner.kernel_config(&spec, &kernel, None)?.context("no configuration")?;
    let host = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("config-{}", std::process::id()));
    fs::write(&host, &config.text)?;
    files.push(IncludedFile { host, guest: KernelConfig::guest_path(&kernel.release) });
    Ok(files)
}

/// The schedulers in the folder, by their BPF side.
fn examples(folder: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(".bpf.c")).map(str::to_owned));
    }
    let missing: Vec<_> = KNOWN.iter().filter(|known| !names.contains(**known)).collect();
    ensure!(missing.is_empty(), "{} has no {missing:?}", folder.display());
    Ok(names)
}

fn each_was_enabled_and_read(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let samples = Samples::load(trace);
    for name in KNOWN {
        let sample = samples.iter().find(|sample| sample.tag == name);
        let sample = sample.with_context(|| format!("no capture of {name}"))?;
        ensure!(sample.missed.is_none(), "{name}: {:?}", sample.missed);
        // scx_pair has 4096 queues, each a map of its own, and so many are not read. All else is.
        let faults: Vec<_> = sample.faults.iter().filter(|fault| !fault.contains("1024 BPF maps")).collect();
        ensure!(
            faults.is_empty() && (sample.faults.is_empty() || name == "scx_pair"),
            "{name}: {:?}",
            sample.faults
        );
        let scx = sample.scx.as_ref().with_context(|| format!("{name}: no state of sched_ext"))?;
        ensure!(scx.state == "enabled", "{name}: {}", scx.state);
        let short = name.trim_start_matches("scx_");
        let ops = scx.ops_name.as_deref();
        ensure!(ops == Some(short), "{name}: the ops are called {ops:?}");
        let struct_ops = sample.maps.iter().filter(|map| map.name.ends_with("_ops")).count();
        v.check(name, struct_ops as u64).at_least(1).because("its maps are read");
    }
    Ok(())
}
