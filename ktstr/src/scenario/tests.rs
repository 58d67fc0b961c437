//! The engine against a channel, a folder for cgroups and a file for the scheduler's state. Workers in real
//! cgroups are the end-to-end tests' part.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use guest_init::message::FromTest;
use ktstr_replay::trace::record::{PayloadEnd, PayloadRun};
use tempfile::TempDir;

use super::error::{Fault, ScenarioError};
use super::{Backdrop, HoldSpec, Op, Step, execute_defs, execute_scenario, execute_steps};
use crate::cgroup::{CgroupDef, Cgroups, CpusetSpec};
use crate::channel::tests::{next, pair};
use crate::ctx::Ctx;
use crate::guest_topo::GuestTopology;
use crate::payload::PayloadSpec;
use crate::payload::tests::{Shell, install};
use crate::scheduler_life::SchedulerLife;
use crate::worker::{Affinity, SchedPolicy, WorkSpec, WorkType};

const CPU1: &str = "sys/devices/system/cpu/cpu1/online";
const PID_MAX: &str = "proc/sys/kernel/pid_max";

/// A guest made of a folder, with two CPUs.
struct Fixture {
    dir: TempDir,
    ctx: Ctx,
    inits: OwnedFd,
}

impl Fixture {
    fn new(duration: Duration) -> Self {
        let dir = TempDir::new().expect("a folder");
        let (channel, inits) = pair();
        let cpus = [0, 1].into_iter().collect::<crate::cpu_set::CpuSet>();
        let topo = GuestTopology {
            cores: vec![[0].into_iter().collect(), [1].into_iter().collect()],
            llcs: vec![cpus.clone()],
            numa_nodes: vec![cpus.clone()],
            cpus,
        };
        let fixture_dir = dir.path().to_owned();
        let life = SchedulerLife::watched("demo", fixture_dir.join("state"), None, Duration::ZERO);
        let ctx = Ctx::new(
            duration,
            1,
            topo,
            Cgroups::at(fixture_dir.join("cgroup")),
            life,
            fixture_dir.clone(),
            Arc::new(channel),
        );
        for folder in ["cgroup", "sys/devices/system/cpu/cpu1", "proc/sys/kernel"] {
            fs::create_dir_all(fixture_dir.join(folder)).expect("a folder");
        }
        fs::write(fixture_dir.join(CPU1), "1\n").expect("a file");
        fs::write(fixture_dir.join(PID_MAX), "4096\n").expect("a file");
        let fixture = Self { dir, ctx, inits };
        fixture.set_state("enabled");
        fixture
    }

    fn state_file(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.dir.path().join(file)).expect("a file")
    }

    fn set_state(&self, state: &str) {
        fs::write(self.state_file(), state).expect("a file");
    }

    fn cgroup_folder(&self, name: &str) -> PathBuf {
        self.dir.path().join("cgroup").join(name)
    }

    /// What init was told, in short.
    fn told(self) -> Vec<String> {
        drop(self.ctx);
        let mut told = Vec::new();
        while let Some(message) = next(&self.inits) {
            told.push(match message {
                FromTest::PhaseBegin { index, name } => format!("begin {index} {name}"),
                FromTest::PhaseEnd { index } => format!("end {index}"),
                FromTest::Op { name, detail } => format!("{name} {detail}"),
                FromTest::Worker(report) => format!("worker {}", report.index),
                other => format!("{other:?}"),
            });
        }
        told
    }
}

fn passes(result: anyhow::Result<crate::assert::AssertResult>) {
    assert!(result.expect("a pass").passed());
}

fn error(result: anyhow::Result<crate::assert::AssertResult>) -> String {
    format!("{:#}", result.expect_err("an error"))
}

#[test]
fn a_step_is_a_phase_of_set_up_hold_and_teardown() {
    let fixture = Fixture::new(Duration::from_millis(20));
    let defs = vec![CgroupDef::named("a").workers(0), CgroupDef::named("b").workers(0)];
    let began = Instant::now();
    assert!(execute_steps(&fixture.ctx, vec![Step::new(defs, HoldSpec::FULL)]).expect("a pass").passed());
    assert!(began.elapsed() >= Duration::from_millis(20));
    assert!(!fixture.cgroup_folder("a").exists() && !fixture.cgroup_folder("b").exists());
    let expected =
        ["begin 0 step_0", "add_cgroup a", "add_cgroup b", "remove_cgroup b", "remove_cgroup a", "end 0"];
    assert_eq!(fixture.told(), expected);
}

#[test]
fn a_hold_is_clipped_to_the_window_and_the_trace_says_so() {
    let fixture = Fixture::new(Duration::from_millis(50));
    let steps = vec![
        Step::new(Vec::new(), HoldSpec::Frac(0.5)),
        Step::new(Vec::new(), HoldSpec::Fixed(Duration::from_secs(60))).named("long"),
    ];
    let began = Instant::now();
    assert!(execute_steps(&fixture.ctx, steps).expect("a pass").passed());
    assert!(began.elapsed() < Duration::from_secs(10));
    let told = fixture.told();
    let clipped: Vec<_> = told.iter().filter(|line| line.starts_with("clip_hold")).collect();
    assert_eq!(clipped.len(), 1, "{told:?}");
    assert!(clipped[0].contains("`long` holds for 25 ms of the 60000 ms"), "{clipped:?}");
    assert!(told.contains(&"begin 1 long".to_owned()) && told.contains(&"end 1".to_owned()), "{told:?}");
}

#[test]
fn a_scheduler_that_dies_ends_the_hold_and_the_step_is_torn_down() {
    let fixture = Fixture::new(Duration::from_secs(60));
    let state = fixture.state_file();
    // In the hold, as nothing looks at the scheduler between the step's cgroup and that.
    let begun = fixture.cgroup_folder("a");
    let killer = thread::spawn(move || {
        let began = Instant::now();
        while !begun.exists() {
            assert!(began.elapsed() < Duration::from_secs(60), "the step does not begin");
            thread::sleep(Duration::from_millis(5));
        }
        fs::write(state, "disabled\n").expect("a file");
    });
    let steps = vec![
        Step::new(vec![CgroupDef::named("a").workers(0)], HoldSpec::FULL),
        Step::new(Vec::new(), HoldSpec::FULL),
    ];
    let text = error(execute_steps(&fixture.ctx, steps));
    killer.join().expect("the killer");
    assert!(text.contains("scheduler `demo` is gone: sched_ext is `disabled`"), "{text}");
    assert!(text.contains("into the hold of step `step_0`"), "{text}");
    assert!(!fixture.cgroup_folder("a").exists());
    let told = fixture.told();
    assert_eq!(told.last().map(String::as_str), Some("end 0"), "{told:?}");
}

#[test]
fn no_step_begins_without_its_scheduler() {
    let fixture = Fixture::new(Duration::from_secs(60));
    fixture.set_state("disabled");
    let text = error(execute_steps(&fixture.ctx, vec![Step::new(Vec::new(), HoldSpec::FULL)]));
    assert!(text.ends_with("before the step"), "{text}");
    assert!(fixture.told().is_empty());
}

/// It passed, as nothing was asked of what did not run.
#[test]
fn cgroups_in_which_nothing_runs_are_no_workload() {
    let fixture = Fixture::new(Duration::from_secs(60));
    for defs in [Vec::new(), vec![CgroupDef::named("a").workers(0), CgroupDef::named("b").workers(0)]] {
        let text = error(execute_defs(&fixture.ctx, defs));
        assert!(text.contains("nothing would run") && text.contains("`.workers(n)`"), "{text}");
    }
    assert!(fixture.told().is_empty());
    let payload = CgroupDef::named("a").workers(0).workload(PayloadSpec::of(&Shell));
    for def in [CgroupDef::named("a"), CgroupDef::named("a").workers_pct(1.0), payload] {
        assert!(!def.is_idle(), "{def:?}");
    }
}

#[test]
fn a_cgroup_that_cannot_be_had_names_itself_and_the_step_and_leaves_nothing() {
    let fixture = Fixture::new(Duration::from_millis(10));
    let defs = vec![CgroupDef::named("a").workers(0), CgroupDef::named("a").workers(0)];
    let text = error(execute_steps(&fixture.ctx, vec![Step::new(defs, HoldSpec::FULL)]));
    assert_eq!(text, "cgroup `a` of step `step_0`: cgroup `a` exists already");
    assert!(!fixture.cgroup_folder("a").exists());
}

#[test]
fn what_is_wrong_is_said_before_anything_is_done() {
    let def = |name: &str| CgroupDef::named(name).workers(0);
    let hold = HoldSpec::Frac(0.1);
    let looped = HoldSpec::Loop { interval: Duration::from_millis(1) };
    let step =
        |defs, ops: Vec<Op>| vec![Step::new(Vec::new(), hold), Step::new(defs, hold).ops(ops).named("bad")];
    let of_op = |op| step(vec![def("cg_0"), def("cg_1")], vec![op]);
    for (steps, what) in [
        (step(vec![def("a").nice(20)], vec![]), "cgroup `a` of step `bad`: nice is 20"),
        (step(vec![def("a").cpu_weight(0)], vec![]), "cpu_weight is 0"),
        (step(vec![def("a").workers(1).comm("a name that is too long")], vec![]), "1 to 15 bytes"),
        (step(vec![def("a").sched_policy(SchedPolicy::Fifo(100)).workers(1)], vec![]), "the priority is 100"),
        (step(vec![def("a").workers_pct(0.0)], vec![]), "workers_pct is 0"),
        (step(vec![def("a").cpuset(CpusetSpec::Llc(7))], vec![]), "there is no LLC 7: the machine has 1"),
        (step(vec![def("a").affinity(Affinity::SmtSiblingPair).workers(1)], vec![]), "declare `threads = 2`"),
        (step(vec![def("a"), def("a")], vec![]), "cgroup `a` exists already"),
        (step(vec![def("a/../b")], vec![]), "cannot be a cgroup's name"),
        (
            of_op(Op::remove_cgroup("cg")),
            "`remove_cgroup cg` of step `bad`: there is no cgroup `cg` at this time",
        ),
        (of_op(Op::stop_cgroup("cg_2")), "there are: cg_0, cg_1"),
        (of_op(Op::add_cgroup(def("cg_1"))), "cgroup `cg_1` exists already"),
        (of_op(Op::set_cpuset("cg_0", CpusetSpec::Range { start: 1, end: 3 })), "CPUs 2 are not there"),
        (of_op(Op::set_cpu_weight("cg_0", 0)), "cpu.weight is 0; it must be from 1 to 10000"),
        (of_op(Op::move_tasks("cg_0", "nowhere")), "no cgroup `nowhere`"),
        (of_op(Op::spawn("cg_0", WorkSpec::new(WorkType::default()).nice(99))), "nice is 99"),
        (of_op(Op::offline(0)), "the kernel does not let CPU 0 be taken offline"),
        (of_op(Op::online(2)), "there is no CPU 2: the machine has 0-1"),
        (
            vec![Step::new(vec![], HoldSpec::Frac(0.0)).named("none")],
            "the hold of step `none`: HoldSpec::Frac(0)",
        ),
        (vec![Step::new(vec![], looped)], "there is nothing to do again"),
        (vec![Step::of_ops([Op::add_cgroup(def("a"))], looped)], "cgroup `a` exists already"),
    ] {
        let fixture = Fixture::new(Duration::from_millis(10));
        let text = error(execute_steps(&fixture.ctx, steps));
        assert!(text.contains(what), "{what}: {text}");
        assert!(fixture.told().is_empty(), "{what}");
    }
}

#[test]
fn a_name_is_known_only_while_its_cgroup_is_there() {
    let def = |name: &str| CgroupDef::named(name).workers(0);
    let hold = HoldSpec::Frac(0.1);
    let gone = Op::stop_cgroup("a");
    let removed = Step::new(vec![def("a")], hold).ops([Op::remove_cgroup("a"), gone.clone()]);
    let of_another_step = [Step::new(vec![def("a")], hold), Step::of_ops([gone.clone()], hold)];
    for steps in [vec![removed], of_another_step.to_vec()] {
        let fixture = Fixture::new(Duration::from_millis(10));
        let text = error(execute_steps(&fixture.ctx, steps));
        assert!(text.contains("no cgroup `a` at this time"), "{text}");
    }
    let fixture = Fixture::new(Duration::from_millis(10));
    let again = Step::new(vec![def("b")], hold);
    let steps = vec![again.clone(), again, Step::of_ops([gone], hold)];
    passes(execute_scenario(&fixture.ctx, Backdrop::new(vec![def("a")]), steps));
}

#[test]
fn a_step_undoes_what_it_changed_the_latest_first_and_the_backdrop_outlives_it() {
    let fixture = Fixture::new(Duration::from_millis(20));
    let def = |name: &str| CgroupDef::named(name).workers(0);
    let backdrop = Backdrop::new(vec![def("a")]).ops([Op::sysctl("kernel.pid_max", "1000")]);
    let ops = [Op::offline(1), Op::sysctl("kernel.pid_max", "2000"), Op::write_file("/new", "text")];
    let steps = vec![Step::new(vec![def("a/b")], HoldSpec::FULL).ops(ops)];
    passes(execute_scenario(&fixture.ctx, backdrop, steps));
    assert_eq!((fixture.read(CPU1).trim(), fixture.read(PID_MAX).as_str()), ("1", "4096\n"));
    assert!(!fixture.dir.path().join("new").exists() && !fixture.cgroup_folder("a").exists());
    let dir = fixture.dir.path().display().to_string();
    let told: Vec<String> = fixture.told().iter().map(|line| line.replace(&dir, "")).collect();
    let expected = [
        "add_cgroup a",
        "sysctl kernel.pid_max: 1000",
        "begin 0 step_0",
        "add_cgroup a/b",
        "offline 1",
        "sysctl kernel.pid_max: 2000",
        "write_file /new: text",
        "restore_file /new",
        "restore_file /proc/sys/kernel/pid_max",
        "online 1",
        "remove_cgroup a/b",
        "end 0",
        "restore_file /proc/sys/kernel/pid_max",
        "remove_cgroup a",
    ];
    assert_eq!(told, expected);
}

#[test]
fn an_operation_that_fails_ends_the_step_and_what_was_done_before_is_undone() {
    let fixture = Fixture::new(Duration::from_secs(60));
    let ops = [Op::offline(1), Op::offline(1), Op::sysctl("kernel.pid_max", "1")];
    let text = error(execute_steps(&fixture.ctx, vec![Step::of_ops(ops, HoldSpec::FULL)]));
    assert_eq!(text, "`offline 1` of step `step_0`: CPU 1 is offline already");
    assert_eq!((fixture.read(CPU1).trim(), fixture.read(PID_MAX).as_str()), ("1", "4096\n"));
    let text =
        error(execute_steps(&fixture.ctx, vec![Step::of_ops([Op::sysctl("no.such", "1")], HoldSpec::FULL)]));
    assert!(text.contains("the kernel has no parameter `no.such`: there is no"), "{text}");
}

#[test]
fn what_a_died_schedulers_step_changed_is_undone() {
    let fixture = Fixture::new(Duration::from_secs(60));
    // The operation itself ends the scheduler.
    let ops = [Op::offline(1), Op::write_file("/state", "disabled")];
    let result = execute_steps(&fixture.ctx, vec![Step::of_ops(ops, HoldSpec::FULL)]).expect_err("it died");
    let when = match result.downcast_ref() {
        Some(ScenarioError::Died { when, .. }) => when.clone(),
        _ => String::new(),
    };
    assert_eq!(when, "after `write_file /state`");
    assert_eq!(fixture.read(CPU1).trim(), "1");
}

#[test]
fn a_loop_does_its_operations_again_until_the_window_ends() {
    // Long enough for a second round on a host that does not let this run for most of it.
    let window = Duration::from_secs(4);
    let fixture = Fixture::new(window);
    let looped = HoldSpec::Loop { interval: Duration::from_millis(100) };
    let steps = vec![
        Step::new(Vec::new(), HoldSpec::Frac(0.1)),
        Step::of_ops([Op::offline(1), Op::online(1)], looped),
    ];
    let began = Instant::now();
    passes(execute_steps(&fixture.ctx, steps));
    assert!(began.elapsed() >= window);
    let told = fixture.told();
    let rounds = told.iter().filter(|line| *line == "offline 1").count();
    // The first, and at most one for each interval that follows.
    assert!((2..=37).contains(&rounds), "{told:?}");
    assert!(!told.iter().any(|line| line.starts_with("clip_hold")), "{told:?}");
}

#[test]
fn a_hold_of_no_time_is_an_error_of_its_step() {
    let fixture = Fixture::new(Duration::from_millis(10));
    let step = Step::new(Vec::new(), HoldSpec::Frac(0.0)).named("none");
    let result = execute_steps(&fixture.ctx, vec![step]).expect_err("no time");
    let fault = match result.downcast_ref() {
        Some(ScenarioError::Step { source, .. }) => source,
        other => panic!("not a step's error: {other:?}"),
    };
    assert!(matches!(**fault, Fault::Hold(_)));
}

#[test]
fn parts_of_the_window_are_taken_from_it() {
    let fixture = Fixture::new(Duration::from_millis(40));
    let part = fixture.ctx.part(0.5);
    assert_eq!(part.duration, Duration::from_millis(20));
    passes(execute_steps(&part, vec![Step::new(vec![], HoldSpec::FULL)]));
    passes(execute_steps(&fixture.ctx, vec![Step::new(vec![], HoldSpec::FULL)]));
    for (fraction, ms) in [(1.0, 0), (-1.0, 0), (f64::NAN, 0)] {
        assert_eq!(fixture.ctx.part(fraction).duration, Duration::from_millis(ms));
    }
    drop(part);
    let told = fixture.told();
    assert!(told[3].contains("`step_1` holds for 20 ms of the 40 ms"), "{told:?}");
    assert!(told[1] == "end 0" && told.last().is_some_and(|last| last == "end 1"), "{told:?}");
}

/// A payload as it is told: its name, how it ended, and its exit code or signal.
fn payloads_told(told: &[FromTest]) -> Vec<String> {
    let runs = told.iter().filter_map(|message| match message {
        FromTest::Payload(archive) => {
            let mut aligned = rkyv::util::AlignedVec::<16>::new();
            aligned.extend_from_slice(archive);
            Some(rkyv::from_bytes::<PayloadRun, rkyv::rancor::Error>(&aligned).expect("a run"))
        }
        _ => None,
    });
    runs.map(|run| {
        format!("{} {:?} {:?}", run.args.last().map_or("", String::as_str), run.end, run.exit_code)
    })
    .collect()
}

fn all_told(fixture: Fixture) -> Vec<FromTest> {
    drop(fixture.ctx);
    std::iter::from_fn(|| next(&fixture.inits)).collect()
}

#[test]
fn payloads_end_with_their_step_however_it_ends() {
    let sleep = || PayloadSpec::of(&Shell).arg("exec sleep 1000");
    let hold = HoldSpec::Frac(0.1);
    for fails in [false, true] {
        let fixture = Fixture::new(Duration::from_millis(100));
        install(fixture.dir.path());
        let mut step = Step::of_ops([Op::run_payload(sleep())], hold);
        if fails {
            step = step.ops([Op::write_file("/no/such/folder/file", "x")]);
        }
        assert_eq!(execute_steps(&fixture.ctx, vec![step]).is_err(), fails);
        assert_eq!(payloads_told(&all_told(fixture)), ["exec sleep 1000 Stopped None"]);
    }
}

#[test]
fn payloads_are_waited_for_and_killed_and_those_of_the_backdrop_outlive_steps() {
    let fixture = Fixture::new(Duration::from_millis(100));
    install(fixture.dir.path());
    let spec = |script: &str| PayloadSpec::of(&Shell).arg(script);
    let hold = HoldSpec::Frac(0.1);
    let steps = vec![
        Step::of_ops([Op::run_payload(spec("exit 3")), Op::wait_payload(&Shell)], hold),
        Step::of_ops([Op::run_payload(spec("exec sleep 1000")), Op::kill_payload(&Shell)], hold),
    ];
    let backdrop = Backdrop::new(vec![]).ops([Op::run_payload(spec("exit 4"))]);
    passes(execute_scenario(&fixture.ctx, backdrop, steps));
    let mut told = payloads_told(&all_told(fixture));
    // The one of the backdrop is of the same name, so that it is waited for with the first.
    told[..2].sort();
    assert_eq!(told, ["exit 3 Ended Some(3)", "exit 4 Ended Some(4)", "exec sleep 1000 Stopped None"]);
}

#[test]
fn what_is_wrong_with_payloads_is_said_before_anything_is_done() {
    let hold = HoldSpec::Frac(0.1);
    let spec = || PayloadSpec::of(&Shell).arg("exit 0");
    for (packed, steps, what) in [
        (false, vec![Step::of_ops([Op::run_payload(&Shell)], hold)], "payload `shell` is not in the guest"),
        (false, vec![Step::new(vec![CgroupDef::named("a").workload(&Shell)], hold)], "is not in the guest"),
        (
            true,
            vec![Step::of_ops([Op::run_payload(spec().in_cgroup("a"))], hold)],
            "no cgroup `a` at this time",
        ),
        (
            true,
            vec![Step::of_ops([Op::run_payload(spec().timeout(Duration::ZERO))], hold)],
            "a timeout of zero",
        ),
        (
            true,
            vec![Step::of_ops([Op::wait_payload(&Shell)], hold)],
            "payload `shell` is not running at this time",
        ),
        (
            true,
            vec![
                Step::of_ops([Op::run_payload(spec())], hold),
                Step::of_ops([Op::kill_payload(&Shell)], hold).named("late"),
            ],
            "`kill_payload shell` of step `late`: payload `shell` is not running",
        ),
    ] {
        let fixture = Fixture::new(Duration::from_millis(10));
        if packed {
            install(fixture.dir.path());
        }
        let text = error(execute_steps(&fixture.ctx, steps));
        assert!(text.contains(what), "{what}: {text}");
        assert!(fixture.told().is_empty(), "{what}");
    }
}

#[test]
fn a_body_may_wait_for_a_payload_kill_it_or_let_go_of_it() {
    let fixture = Fixture::new(Duration::from_secs(60));
    install(fixture.dir.path());
    let sleep = || fixture.ctx.payload(&Shell).arg("exec sleep 1000");
    let ran = fixture.ctx.payload(&Shell).arg("exit 5").run().expect("started");
    assert_eq!(ran.exit_code(), Some(5));
    let mut killed = sleep().spawn().expect("started");
    assert!(killed.pid() > 0 && killed.try_wait().expect("told").is_none());
    assert_eq!(killed.kill().expect("told").end(), PayloadEnd::Stopped);
    let mut ended = fixture.ctx.payload(&Shell).arg("exit 6").spawn().expect("started");
    let seen = loop {
        if let Some(report) = ended.try_wait().expect("told") {
            break report;
        }
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!((seen.exit_code(), ended.wait().expect("told").exit_code()), (Some(6), Some(6)));
    drop(sleep().spawn().expect("started"));
    let told = payloads_told(&all_told(fixture));
    let sleep = "exec sleep 1000 Stopped None";
    assert_eq!(told, ["exit 5 Ended Some(5)", sleep, "exit 6 Ended Some(6)", sleep]);
}

#[test]
fn a_payload_that_cannot_be_started_is_told_and_a_cgroup_that_is_not_there_names_those_that_are() {
    let fixture = Fixture::new(Duration::from_secs(60));
    let failed = fixture.ctx.payload(&Shell).run().expect_err("not packed").to_string();
    assert!(failed.contains("is not in the guest"), "{failed}");
    let mut launch = install(fixture.dir.path());
    fixture.ctx.cgroups.create("load").expect("a folder");
    let failed = fixture.ctx.payload(&Shell).in_cgroup("lod").run().expect_err("no cgroup").to_string();
    assert!(failed.contains("did you mean `load`?"), "{failed}");
    launch.program = "/no/such/program".to_owned();
    let path = fixture.dir.path().join("ktstr/payloads/shell.json");
    fs::write(path, serde_json::to_vec(&launch).expect("JSON")).expect("a file");
    let failed = fixture.ctx.payload(&Shell).arg("x").run().expect_err("no program").to_string();
    assert!(failed.contains("could not be started: there is no /no/such/program"), "{failed}");
    assert_eq!(payloads_told(&all_told(fixture)), ["x NotStarted None"]);
}
