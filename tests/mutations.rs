//! What gets lost or mixed up between a test's definition and its verdict is caught by the harness: a healthy run is changed in one
//! way, and must not pass any more. No test of an author's looks at it. The run is one that was recorded long ago, and one of now, of
//! which what this harness asks for and records is changed.

use std::collections::BTreeMap;
use std::path::Path;

use ktstr::prelude::*;
use ktstr_replay::judge::CheckSource;
use ktstr_replay::run::Run;
use ktstr_replay::trace::TraceWriter;
use ktstr_replay::trace::record::manifest::Asked;
use ktstr_replay::trace::record::{
    BlobRole, CaptureKind, ClaimOrigin, ClaimRecord, Event, EventBody, GuestEnd, Loss, LossKind, Manifest,
    Sample, Stage,
};
use ktstr_replay::units::{GuestNs, HostNs};
use ktstr_replay::verdict::{Finding, Origin, Outcome};
use ktstr_tests::fixture;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// The golden run of `traces/steady.trace.zst`, with a check in code.
#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 5,
    num_snapshots = 10,
    checkpoint = "never",
    not_starved,
    claims = ["nondecreasing(nr_dispatched)", "each(nr_dispatched >= 1)", "always(alive)"],
    check = steady
)]
fn healthy(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

fn steady(trace: &Trace, v: &mut Verdict) -> Result<()> {
    trace.periodic().var("nr_dispatched").nondecreasing(v);
    Ok(())
}

/// A recorded run, taken apart.
#[derive(Clone)]
struct Parts {
    manifest: Manifest,
    blobs: Vec<(BlobRole, Vec<u8>)>,
    claims: Vec<ClaimRecord>,
    events: Vec<Event>,
    samples: Vec<Sample>,
    losses: Vec<Loss>,
    verdict: Verdict,
}

/// The label of the check in code that the run has.
const CHECK: &str = "steady";

impl Parts {
    /// The healthy golden run, with a check whose verdict is recorded, and with what was asked for in its manifest.
    fn golden() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces/steady.trace.zst");
        let mut parts = Self::of(&Trace::open(&path).expect("the golden trace"));
        parts.manifest.test.asked = Some(Asked {
            claims: parts.claims.iter().map(|claim| claim.text.clone()).collect(),
            checks: vec![CHECK.to_owned()],
            ..Asked::default()
        });
        parts.claims.push(ClaimRecord { text: CHECK.to_owned(), origin: ClaimOrigin::Closure });
        // The kernel counts an enabling a moment late, and this trace is of a guest-init that did not wait for it.
        let enabling = parts.samples.last().and_then(|sample| sample.scx.as_ref()?.enable_seq);
        parts.each_sample(|sample| sample.scx.iter_mut().for_each(|scx| scx.enable_seq = enabling));
        parts.verdict.run = format!("{} {}", parts.manifest.test.name, parts.manifest.started_at);
        let found =
            Finding::new(Origin::Check(CHECK.to_owned()), CHECK, Outcome::Pass, "found nothing amiss");
        parts.verdict.findings = vec![found];
        parts
    }

    /// All that `trace` has and a verdict is made of.
    fn of(trace: &Trace) -> Self {
        let role = BlobRole::ProgramBtf;
        let blobs = trace
            .blobs(role)
            .into_iter()
            .map(|id| (role, trace.blob(&id).expect("a blob").to_vec()))
            .collect();
        Self {
            manifest: trace.manifest().expect("a manifest").clone(),
            blobs,
            claims: trace.claims(),
            events: trace.events(),
            samples: trace.samples().map(|sample| sample.expect("a sample")).collect(),
            losses: trace.losses(),
            verdict: Run::load(trace).recorded_verdict().expect("a verdict"),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.trace.zst");
        let mut writer = TraceWriter::create(&path, &self.manifest).expect("a trace");
        for (role, bytes) in &self.blobs {
            writer.blob(*role, bytes).expect("a blob");
        }
        self.claims.iter().for_each(|claim| writer.claim(claim).expect("a claim"));
        for events in self.events.chunks(8) {
            writer.events(events).expect("events");
        }
        self.samples.iter().for_each(|sample| writer.sample(sample).expect("a sample"));
        self.losses.iter().for_each(|loss| writer.loss(loss).expect("a loss"));
        writer.verdict(&self.verdict).expect("a verdict");
        writer.finish().expect("a whole trace");
        std::fs::read(&path).expect("the trace")
    }

    fn judged(&self) -> Verdict {
        judge(self.bytes())
    }

    fn each_sample(&mut self, change: impl FnMut(&mut Sample)) {
        self.samples.iter_mut().for_each(change);
    }

    fn sample(&mut self, tag: &str) -> &mut Sample {
        self.samples.iter_mut().find(|sample| sample.tag == tag).unwrap_or_else(|| panic!("no {tag}"))
    }

    fn drop_sample(&mut self, tag: &str) {
        self.sample(tag);
        self.samples.retain(|sample| sample.tag != tag);
    }

    fn drop_events(&mut self, is_it: impl Fn(&EventBody) -> bool) {
        let before = self.events.len();
        self.events.retain(|event| !is_it(&event.body));
        assert!(self.events.len() < before, "there is no such event");
    }

    fn drop_stage(&mut self, wanted: Stage) {
        self.drop_events(|body| matches!(body, EventBody::Stage { stage, .. } if *stage == wanted));
    }
}

fn judge(bytes: Vec<u8>) -> Verdict {
    let trace = Trace::from_bytes(bytes).expect("a trace that opens");
    Run::load(&trace).judge(None, CheckSource::Recorded)
}

/// The name of a mutation, what it does, and a word of the finding that catches it.
type Mutation = (&'static str, fn(&mut Parts), &'static str);

const MUTATIONS: &[Mutation] = &[
    (
        "the scheduler is never started",
        |p| {
            p.drop_stage(Stage::SchedulerStarted);
            p.drop_stage(Stage::SchedulerEnabled);
        },
        "never started",
    ),
    ("the scheduler is started and never enabled", |p| p.drop_stage(Stage::SchedulerEnabled), "did not load"),
    (
        "the scheduler's process ends before the body",
        |p| {
            let end = p.events.iter().position(|e| matches!(e.body, EventBody::Body { .. })).expect("an end");
            let detail = "exit code 0".to_owned();
            let body = EventBody::Stage { stage: Stage::SchedulerExited, detail };
            let event = Event { body, ..p.events[end].clone() };
            p.events.insert(end, event);
        },
        "died",
    ),
    (
        "a capture shows the scheduler disabled",
        |p| {
            p.sample("periodic_004").scx.iter_mut().for_each(|scx| scx.state = "disabled".to_owned());
        },
        "died",
    ),
    (
        "a capture shows an orderly exit",
        |p| {
            p.sample("end").scx.iter_mut().for_each(|scx| scx.exit_kind = 64);
        },
        "left",
    ),
    (
        "the scheduler was replaced between two captures",
        |p| {
            for tag in ["periodic_008", "periodic_009", "end"] {
                p.sample(tag).scx.iter_mut().for_each(|scx| scx.enable_seq = scx.enable_seq.map(|n| n + 1));
            }
        },
        "died",
    ),
    ("nothing is known of sched_ext at the end", |p| p.sample("end").scx = None, "not known"),
    ("the capture of the beginning is lost", |p| p.drop_sample("attach"), "attach"),
    ("the capture of the end is lost", |p| p.drop_sample("end"), "end"),
    ("one periodic capture is lost", |p| p.drop_sample("periodic_005"), "periodic_005"),
    (
        "half of the periodic captures are lost",
        |p| {
            (0..10).step_by(2).for_each(|i| p.drop_sample(&format!("periodic_{i:03}")));
        },
        "periodic_000",
    ),
    (
        "a capture is recorded twice",
        |p| {
            let again = p.sample("periodic_003").clone();
            p.samples.push(again);
        },
        "2 times",
    ),
    (
        "a capture could not be taken",
        |p| {
            let old = p.sample("periodic_003").clone();
            let new = Sample::new(old.index, &*old.tag, CaptureKind::Periodic, old.guest_ns, old.host_ns);
            *p.sample("periodic_003") = Sample { missed: Some("the machine did not stop".to_owned()), ..new };
        },
        "not taken",
    ),
    (
        "a capture is the one before under a new name",
        |p| {
            let old = p.sample("periodic_003").clone();
            let new = p.sample("periodic_004");
            (new.maps, new.cpus, new.scx) = (old.maps, old.cpus, old.scx);
        },
        "no busy CPU's clock moved",
    ),
    (
        "the guest's clock stands still",
        |p| {
            let at = p.sample("periodic_002").guest_ns;
            p.each_sample(|sample| sample.guest_ns = sample.guest_ns.min(at));
        },
        "of one moment",
    ),
    (
        "the guest's clock goes back",
        |p| {
            let at = p.sample("attach").guest_ns;
            p.sample("periodic_007").guest_ns = GuestNs(at.0 - 1);
        },
        "goes back",
    ),
    (
        "another map of the same name is read",
        |p| {
            p.sample("periodic_006").maps.iter_mut().for_each(|map| map.id += 1000);
        },
        "changed under the same name",
    ),
    ("the maps of a capture are lost", |p| p.sample("periodic_006").maps.clear(), "nr_dispatched"),
    (
        "one claim is lost",
        |p| {
            p.claims.remove(0);
        },
        "was not judged",
    ),
    ("all claims are lost", |p| p.claims.clear(), "was not judged"),
    (
        "a claim is misspelt on its way",
        |p| {
            p.claims[0].text = p.claims[0].text.replace("nr_dispatched", "nr_dispached");
        },
        "error",
    ),
    (
        "a claim is another one that holds",
        |p| p.claims[1].text = "each(nr_dispatched >= 0)".to_owned(),
        "was judged",
    ),
    (
        "a claim is there that nobody asked for",
        |p| {
            p.claims.push(ClaimRecord { text: "always(alive)".to_owned(), origin: ClaimOrigin::Data });
        },
        "does not have it",
    ),
    (
        "the check in code is lost",
        |p| p.claims.retain(|claim| claim.origin == ClaimOrigin::Data),
        "was not judged",
    ),
    ("the check was never run", |p| p.verdict.findings.clear(), "not run"),
    (
        "the recorded verdict is of another trace",
        |p| p.verdict.run = "other 2026-01-01T00:00:00Z".to_owned(),
        "not run",
    ),
    (
        "a worker's report is lost",
        |p| {
            let first =
                p.events.iter().position(|e| matches!(e.body, EventBody::Worker(_))).expect("a worker");
            p.events.remove(first);
        },
        "2 were started and 1 reported",
    ),
    (
        "all workers' reports are lost",
        |p| p.drop_events(|body| matches!(body, EventBody::Worker(_))),
        "workers",
    ),
    (
        "a worker died",
        |p| {
            let worker = p.events.iter_mut().find_map(|e| match &mut e.body {
                EventBody::Worker(report) => Some(report),
                _ => None,
            });
            worker.expect("a worker").fault = Some("was killed by signal 9".to_owned());
        },
        "killed by signal 9",
    ),
    (
        "a worker did nothing",
        |p| {
            for event in &mut p.events {
                if let EventBody::Worker(report) = &mut event.body {
                    report.work_units = 0;
                }
            }
        },
        "did no work",
    ),
    (
        "the body's result is lost",
        |p| p.drop_events(|body| matches!(body, EventBody::Body { .. })),
        "did not end",
    ),
    ("the machine's end is lost", |p| p.drop_events(|body| matches!(body, EventBody::End { .. })), "no end"),
    (
        "the machine died",
        |p| {
            for event in &mut p.events {
                if let EventBody::End { end, .. } = &mut event.body {
                    *end = GuestEnd::MachineDied;
                }
            }
        },
        "died",
    ),
    (
        "all memory is lost",
        |p| {
            p.manifest.test.checkpoint = "every".to_owned();
            let detail = "the writer is behind".to_owned();
            p.losses.push(Loss { host_ns: HostNs(1), kind: LossKind::Pages, count: 9, detail });
        },
        "all checkpoints",
    ),
];

#[test]
fn every_mutation_of_the_golden_run_is_caught_and_the_unchanged_run_passes() {
    every_mutation_is_caught(&Parts::golden());
}

/// The same of what is recorded today: nothing that this needs has been lost since the golden run.
#[test]
fn every_mutation_of_a_fresh_run_is_caught_and_the_unchanged_run_passes() {
    let run = fixture("healthy").run();
    assert!(run.status.success(), "{run}");
    let trace = run.trace();
    let parts = Parts::of(&trace);
    let asked = parts.manifest.test.asked.as_ref().unwrap_or_else(|| panic!("nothing was asked for:\n{run}"));
    assert_eq!((asked.claims.len(), asked.checks.as_slice()), (3, &[CHECK.to_owned()][..]), "{run}");
    every_mutation_is_caught(&parts);
    a_record_is_missed_that_is_cut_out_of(std::fs::read(run.trace_path()).expect("the trace"));
}

fn every_mutation_is_caught(healthy: &Parts) {
    let verdict = healthy.judged();
    assert_eq!(verdict.outcome(), Outcome::Pass, "{verdict:#?}");
    let mut missed = BTreeMap::new();
    for (name, change, caught_by) in MUTATIONS {
        let mut parts = healthy.clone();
        change(&mut parts);
        let verdict = parts.judged();
        let worst = verdict.outcome();
        let says = verdict.findings.iter().filter(|finding| finding.outcome >= Outcome::Inconclusive).any(
            |finding| {
                let lines = finding.lines.iter().chain([&finding.summary, &finding.what]);
                lines.into_iter().any(|line| line.contains(caught_by))
            },
        );
        if worst < Outcome::Inconclusive || !says {
            missed.insert(*name, verdict);
        }
    }
    assert!(missed.is_empty(), "{} of {} were not caught: {missed:#?}", missed.len(), MUTATIONS.len());
    assert!(MUTATIONS.len() >= 20);
}

#[test]
fn a_record_that_is_cut_out_of_the_file_is_missed() {
    a_record_is_missed_that_is_cut_out_of(Parts::golden().bytes());
}

fn a_record_is_missed_that_is_cut_out_of(bytes: Vec<u8>) {
    let whole = Trace::from_bytes(bytes.clone()).expect("a trace");
    let events =
        whole.records().iter().filter(|record| record.read_as() == Some(ktstr_replay::trace::Kind::Events));
    let [.., record, _] = events.collect::<Vec<_>>()[..] else { panic!("too few records of events") };
    let next = whole.records().iter().map(|one| one.offset).find(|offset| *offset > record.offset);
    let (from, to) = (record.offset as usize, next.expect("a record after it") as usize);
    let cut = [&bytes[..from], &bytes[to..]].concat();
    let verdict = judge(cut);
    assert_eq!(verdict.outcome(), Outcome::Inconclusive, "{verdict:#?}");
}
