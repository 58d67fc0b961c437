//! A scheduler below another one: the kernel's own `scx_qmap` as root, and as the scheduler of a cgroup. Views tell whose a task and a
//! queue is, and the end of the lower one is told, and fails the test where it is an error.
//!
//! The run is a `#[ktstr_test(ignore, ..)]` fixture, which one test drives as a child process: it boots once for all of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_record::provision::{KernelSpec, Provisioner};
use ktstr_record::scheduler::build_c;
use ktstr_record::spec::KernelConfig;
use ktstr_tests::{TestRun, fixture, ktstr, run_bounded};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const QMAP: &str = "/examples/scx_qmap";
const CGROUP: &str = "/sys/fs/cgroup/below";
/// What the kernel calls the lower scheduler's place.
const BELOW: &str = "qmap on /below";
const LIMIT: Duration = Duration::from_secs(120);

#[ktstr_test(
    ignore,
    cores = 4,
    duration_s = 240,
    checkpoint = "every",
    allow_splats,
    include_files = program_and_configuration
)]
fn one_below_another_gives_up(ctx: &Ctx) -> Result<AssertResult> {
    let mut root = Command::new(QMAP).spawn()?;
    wait_until("the root is enabled", &mut root, || Ok(state()? == "enabled"))?;
    fs::create_dir(CGROUP)?;
    let spinning = Spinning::start()?;
    fs::write(format!("{CGROUP}/cgroup.procs"), spinning.0.to_string())?;

    let mut sub = Command::new(QMAP).args(["-c", CGROUP]).spawn()?;
    wait_until("one below it is attached", &mut sub, || Ok(attached()? == 1))?;
    // The task goes over to it.
    sleep(Duration::from_millis(500));
    ctx.capture_snapshot("both")?;
    kill_process(Pid::from_child(&sub), Signal::INT)?;
    ensure!(sub.wait()?.success(), "the one below did not leave well");
    ensure!(attached()? == 0, "it is still attached");

    let mut sub = Command::new(QMAP).args(["-c", CGROUP, "-e", "50"]).spawn()?;
    let begin = Instant::now();
    while sub.try_wait()?.is_none() {
        ensure!(begin.elapsed() < LIMIT, "the one below did not give up");
        sleep(Duration::from_millis(10));
    }
    ensure!(state()? == "enabled", "the root is {}", state()?);
    drop(spinning);
    kill_process(Pid::from_child(&root), Signal::INT)?;
    root.wait()?;
    Ok(AssertResult::pass())
}

/// A process that does nothing but run.
struct Spinning(i32);

impl Spinning {
    fn start() -> Result<Self> {
        // SAFETY: the child calls nothing: it neither allocates nor takes locks, which the threads that it lacks may have held.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error()).context("fork"),
            0 => loop {
                std::hint::spin_loop();
            },
            pid => Ok(Self(pid)),
        }
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.0) {
            let _ = kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        }
    }
}

fn state() -> Result<String> {
    Ok(fs::read_to_string("/sys/kernel/sched_ext/state")?.trim().to_owned())
}

/// How many schedulers there are below the root.
fn attached() -> Result<usize> {
    fn below(folder: &Path) -> Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                count += usize::from(path.join("ops").is_file()) + below(&path)?;
            }
        }
        Ok(count)
    }
    below(Path::new("/sys/kernel/sched_ext/root"))
}

fn wait_until(what: &str, child: &mut Child, done: impl Fn() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !done()? {
        if let Some(status) = child.try_wait()? {
            bail!("{status} before {what}");
        }
        ensure!(begin.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// On the host: the scheduler, built, and what libbpf asks for.
fn program_and_configuration() -> Result<Vec<IncludedFile>> {
    let spec = KernelSpec::parse(&std::env::var("KTSTR_KERNEL").unwrap_or_else(|_| "latest".to_owned()))?;
    let provisioner = Provisioner::open()?;
    let kernel = provisioner.kernel(&spec)?;
    let folder = provisioner.kernel_source(&kernel, &["tools/sched_ext"])?.join("tools/sched_ext");
    let toolchain = provisioner.toolchain()?;
    let host = build_c(&folder, "scx_qmap", &kernel, &toolchain, provisioner.cache())?;
    let config = provisioner.kernel_config(&spec, &kernel, None)?.context("no configuration")?;
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("sub-config-{}", std::process::id()));
    fs::write(&file, &config.text)?;
    let config = IncludedFile { host: file, guest: KernelConfig::guest_path(&kernel.release) };
    Ok(vec![IncludedFile { host, guest: QMAP.to_owned() }, config])
}

/// The views of a capture.
fn views(run: &TestRun) -> Value {
    let mut command = ktstr();
    command
        .arg("replay")
        .arg(run.trace_path())
        .args(["--at", "both", "--scx", "--tasks", "--dsqs", "--json"]);
    let ended = run_bounded(&mut command, LIMIT);
    let all: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}\n{run}"));
    all["views"].clone()
}

#[test]
fn tasks_and_queues_are_told_with_their_scheduler_and_an_end_below_is_a_finding() {
    let run = fixture("one_below_another_gives_up").run();
    assert!(!run.status.success(), "nothing failed:\n{run}");
    run.assert_replays();

    let views = views(&run);
    let schedulers = views["scx"]["schedulers"].as_array().expect("schedulers");
    let told = |one: &Value| (one["name"].clone(), one["level"].clone(), one["cgroup"].clone());
    let found: Vec<_> = schedulers.iter().map(told).collect();
    let expected = [("qmap", 0, "/"), ("qmap", 1, "/below")]
        .map(|(name, level, cgroup)| (Value::from(name), Value::from(level), Value::from(cgroup)));
    assert_eq!(found, expected, "{schedulers:#?}\n{run}");

    let tasks = views["tasks"]["tasks"].as_array().expect("tasks");
    let below: Vec<&Value> = tasks.iter().filter(|task| task["cgroup"] == "/below").collect();
    let of = |task: &Value| task["scx"]["scheduler"].as_str().map(str::to_owned);
    assert!(
        !below.is_empty() && below.iter().all(|task| of(task).as_deref() == Some(BELOW)),
        "{below:#?}\n{run}"
    );
    let others = tasks.iter().filter(|task| task["cgroup"] == "/" && task["class"] == "ext");
    let others: Vec<_> = others.map(of).collect();
    assert!(others.len() > 3 && others.iter().all(|one| one.as_deref() == Some("qmap")), "{others:?}\n{run}");
    let queues = views["dsqs"]["dsqs"].as_array().expect("queues");
    let ends_below = |queue: &&Value| queue["whose"].as_str().is_some_and(|whose| whose.ends_with(BELOW));
    assert!(queues.iter().any(|queue| ends_below(&queue)), "{queues:#?}\n{run}");

    // Two lives of it: the first ended well, the second by an error, which fails the test.
    // Its lines are broken where they are long.
    let finding = run.section("sub-scheduler").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(finding.starts_with("FAIL") && finding.contains("test triggering error"), "{finding}\n{run}");
    assert!(finding.contains("sub-scheduler qmap ended: unregistered from user space"), "{finding}\n{run}");
    let why = run_bounded(ktstr().arg("why").arg(run.trace_path()), LIMIT);
    assert!(why.stdout.contains("sub-scheduler qmap ended: "), "{why}");
    // The finding says when, behind it.
    let timeline =
        run.report().lines().filter(|line| line.ends_with("  sub-scheduler qmap was enabled")).count();
    assert_eq!(timeline, 2, "{run}");
}
