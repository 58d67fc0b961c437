//! The engine against a channel, a folder for cgroups and a file for the scheduler's state. Workers in real
//! cgroups are the end-to-end tests' part.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use guest_init::message::FromTest;
use tempfile::TempDir;

use super::execute::ScenarioError;
use super::{HoldSpec, Step, execute_defs, execute_steps};
use crate::cgroup::{CgroupDef, Cgroups, CpusetSpec};
use crate::channel::tests::{next, pair};
use crate::ctx::Ctx;
use crate::guest_topo::GuestTopology;
use crate::scheduler_life::SchedulerLife;

/// A guest made of a folder.
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
        let ctx =
            Ctx::new(duration, 1, topo, Cgroups::at(fixture_dir.join("cgroup")), life, Arc::new(channel));
        fs::create_dir(fixture_dir.join("cgroup")).expect("a folder");
        let fixture = Self { dir, ctx, inits };
        fixture.set_state("enabled");
        fixture
    }

    fn state_file(&self) -> PathBuf {
        self.dir.path().join("state")
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

fn error(result: anyhow::Result<crate::assert::AssertResult>) -> String {
    format!("{:#}", result.expect_err("an error"))
}

#[test]
fn a_step_is_a_phase_of_set_up_hold_and_teardown() {
    let fixture = Fixture::new(Duration::from_millis(20));
    let defs = vec![CgroupDef::named("a").workers(0), CgroupDef::named("b").workers(0)];
    let began = Instant::now();
    assert!(execute_defs(&fixture.ctx, defs).expect("a pass").passed());
    assert!(began.elapsed() >= Duration::from_millis(20));
    assert!(!fixture.cgroup_folder("a").exists() && !fixture.cgroup_folder("b").exists());
    let expected = [
        "begin 0 step_0",
        "add_cgroup a",
        "add_cgroup b",
        "start 0 workers",
        "stop all workers",
        "remove_cgroup a",
        "remove_cgroup b",
        "end 0",
    ];
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
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(150));
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
    let text = error(execute_defs(&fixture.ctx, Vec::new()));
    assert!(text.ends_with("before the step"), "{text}");
    assert!(fixture.told().is_empty());
}

#[test]
fn a_cgroup_that_cannot_be_had_names_itself_and_the_step_and_leaves_nothing() {
    let fixture = Fixture::new(Duration::from_millis(10));
    let defs = vec![CgroupDef::named("a").workers(0), CgroupDef::named("a").workers(0)];
    let text = error(execute_defs(&fixture.ctx, defs));
    assert_eq!(text, "cgroup `a` of step `step_0`: cgroup `a` exists already");
    assert!(!fixture.cgroup_folder("a").exists());
}

#[test]
fn values_out_of_their_range_are_refused_before_anything_is_made() {
    for (def, what) in [
        (CgroupDef::named("a").nice(20), "nice of cgroup `a` is 20"),
        (CgroupDef::named("a").cpu_weight(0), "cpu_weight of cgroup `a` is 0"),
        (CgroupDef::named("a").comm("a name that is too long"), "1 to 15 bytes"),
    ] {
        let fixture = Fixture::new(Duration::from_millis(10));
        let text = error(execute_defs(&fixture.ctx, vec![def]));
        assert!(text.contains(what), "{text}");
        assert_eq!(fixture.told(), ["begin 0 step_0", "end 0"]);
    }
}

#[test]
fn a_cpuset_that_the_machine_does_not_have_is_an_error() {
    let fixture = Fixture::new(Duration::from_millis(10));
    let def = CgroupDef::named("a").cpuset(CpusetSpec::Llc(7));
    let text = error(execute_defs(&fixture.ctx, vec![def]));
    assert_eq!(text, "cpuset of cgroup `a`: there is no LLC 7: the machine has 1, numbered from 0");
}

#[test]
fn a_hold_of_no_time_is_an_error_of_its_step() {
    let fixture = Fixture::new(Duration::from_millis(10));
    let step = Step::new(Vec::new(), HoldSpec::Frac(0.0)).named("none");
    let result = execute_steps(&fixture.ctx, vec![step]).expect_err("no time");
    assert!(matches!(result.downcast_ref(), Some(ScenarioError::Hold { step, .. }) if step == "none"));
}
