use proptest::prelude::*;

use crate::claim::pattern::events_fixture::{HOG, IDLE, history, run_of, switch};
use crate::path::EventPath;
use crate::testing::{BODY_MS, TraceBuilder};
use crate::trace::Trace;
use crate::trace::record::{
    EventBody, HistoryWhat, Loss, LossKind, ProbeEvent, ProbeHit, ProbeNews, ProbeReturn, ProbeTotals,
    ProbeValue, WatchEvent, WatchFire, WatchNews, WatchTotals,
};
use crate::units::{Cpu, GuestNs, HostNs};

fn path(text: &str) -> EventPath {
    text.parse().expect("the test's path parses")
}

/// How many events a path names, of how many it is not known, and why they may be more.
fn found(trace: &Trace, text: &str) -> (usize, usize, Vec<String>) {
    let timeline = trace.timeline();
    let matches = timeline.matching(&path(text)).expect("it names something");
    let doubts = timeline.doubts(&path(text)).into_iter().filter(|doubt| !doubt.is_tail);
    (matches.sure.len(), matches.unsure.len(), doubts.map(|doubt| doubt.why).collect())
}

fn watch(what: WatchNews) -> EventBody {
    EventBody::Watch(Box::new(WatchEvent { watch: 0, target: "bss.x".into(), what }))
}

fn fire(number: u32, old: i128, new: i128) -> EventBody {
    let fire =
        WatchFire { number, cpu: Cpu(1), old, new, pid: Some(7), comm: "w".into(), ..WatchFire::default() };
    watch(WatchNews::Fired(Box::new(fire)))
}

fn watched(max_fires: u32, totals: WatchTotals) -> Trace {
    TraceBuilder::begun()
        .event(-20, watch(WatchNews::Asked { when: None, max_fires, min_interval_ns: 0, by_body: false }))
        .event(-10, watch(WatchNews::Armed { at: 1, bytes: 8, value: 0 }))
        .event(100, fire(1, 0, 5))
        .event(200, fire(2, 5, 0))
        .event(5100, watch(WatchNews::Totals(totals)))
        .ended()
        .trace()
}

#[test]
fn fires_of_a_watch_are_found_by_their_fields_and_what_was_dropped_is_told() {
    let trace = watched(64, WatchTotals { fires: 2, stores: 2, ..WatchTotals::default() });
    assert_eq!(found(&trace, "watch(\"bss.x\" where new > 0)"), (1, 0, Vec::new()));
    assert_eq!(found(&trace, "watch(\"bss.x\" where cpu == 1 and pid == 7 and comm == w)").0, 2);
    let error = trace.timeline().matching(&path("watch(\"bss.y\")")).expect_err("not watched").to_string();
    assert_eq!(error, "`bss.y` was not watched; did you mean `bss.x`?; there are: bss.x");
    let away = watched(64, WatchTotals { backed_off: 3, blind_ns: 5_000_000, ..WatchTotals::default() });
    assert!(found(&away, "watch(\"bss.x\")").2[0].contains("3 times that it was taken away"));
    // The sum of both is 0.
    let many = watched(64, WatchTotals { too_soon: u64::MAX, unseen: 1, ..WatchTotals::default() });
    assert_eq!(found(&many, "watch(\"bss.x\")").2.len(), 1);
    let full = watched(2, WatchTotals::default());
    assert_eq!(found(&full, "watch(\"bss.x\")").2, ["the watch of `bss.x`: it was taken away after 2 fires"]);
}

#[test]
fn who_stored_is_not_known_where_the_task_could_not_be_read() {
    let fire = WatchFire { number: 1, new: 5, ..WatchFire::default() };
    let trace = TraceBuilder::begun()
        .event(-20, watch(WatchNews::Asked { when: None, max_fires: 64, min_interval_ns: 0, by_body: false }))
        .event(-10, watch(WatchNews::Armed { at: 1, bytes: 8, value: 0 }))
        .event(100, watch(WatchNews::Fired(Box::new(fire))))
        .event(5100, watch(WatchNews::Totals(WatchTotals::default())))
        .ended()
        .trace();
    for (text, unsure) in [
        ("watch(\"bss.x\" where pid == 7)", 1),
        ("watch(\"bss.x\" where pid != 7)", 1),
        ("watch(\"bss.x\" where comm == w and new == 5)", 1),
        ("watch(\"bss.x\" where pid == 7 and new == 0)", 0),
    ] {
        assert_eq!(found(&trace, text), (0, unsure, Vec::new()), "{text}");
    }
}

#[test]
fn what_a_watch_missed_is_not_known_without_its_totals() {
    let trace = TraceBuilder::begun()
        .event(-20, watch(WatchNews::Asked { when: None, max_fires: 64, min_interval_ns: 0, by_body: false }))
        .event(-10, watch(WatchNews::Armed { at: 1, bytes: 8, value: 0 }))
        .ended()
        .trace();
    assert_eq!(found(&trace, "watch(\"bss.x\" where new > 0)").2.len(), 1);
}

#[test]
fn where_a_watch_moved_unseen_its_stores_are_not_known() {
    // The store to the pointer is seen, and the watch moved at once, unless there was no room to watch that as well.
    let doubts = |places: &[u64], of: Option<&str>| {
        let news =
            |what| EventBody::Watch(Box::new(WatchEvent { watch: 0, target: "bss.p->x".into(), what }));
        let asked = WatchNews::Asked { when: None, max_fires: 64, min_interval_ns: 0, by_body: false };
        let mut run = TraceBuilder::begun().event(-20, news(asked));
        for (nth, &at) in (0..).zip(places) {
            run = run.event(10 + nth, news(WatchNews::Armed { at, bytes: 8, value: 0 }));
        }
        run = run.event(5100, news(WatchNews::Totals(WatchTotals::default())));
        if let Some(target) = of {
            let detail = format!("watch {target}: the machine has 4 watches, and no more room");
            run = run.loss(Loss { host_ns: HostNs(1), kind: LossKind::WatchFires, count: 0, detail });
        }
        found(&run.ended().trace(), "watch(\"bss.p->x\")").2.len()
    };
    assert_eq!(doubts(&[1, 2], Some("bss.p->x")), 1);
    // Of another watch, of one that never moved, and where there was room.
    assert_eq!(doubts(&[1, 2], Some("bss.p->y")), 0);
    assert_eq!(doubts(&[1], Some("bss.p->x")), 0);
    assert_eq!(doubts(&[1, 2], None), 0);
}

fn probe(what: ProbeNews) -> EventBody {
    EventBody::Probe(Box::new(ProbeEvent { probe: 0, target: "f(p->pid, p->comm) returns".into(), what }))
}

fn call(number: u32, pid: ProbeValue) -> EventBody {
    let values = vec![pid, ProbeValue::Text("worker".into())];
    probe(ProbeNews::Hit(Box::new(ProbeHit { number, cpu: Cpu(0), values, ..ProbeHit::default() })))
}

#[test]
fn calls_of_a_probe_are_found_by_what_it_reads() {
    let names = ["p->pid", "p->comm"].map(str::to_owned).to_vec();
    let unread = ProbeValue::Unread { why: "the page is not there".into() };
    let trace = TraceBuilder::begun()
        .event(-20, probe(ProbeNews::Asked { max_hits: 100, by_body: false }))
        .event(-10, probe(ProbeNews::Armed { at: 1, place: "f".into(), names }))
        .event(100, call(1, ProbeValue::Int(5)))
        .event(
            101,
            probe(ProbeNews::Returned(Box::new(ProbeReturn {
                number: 1,
                cpu: Cpu(0),
                value: Some(ProbeValue::Int(-1)),
            }))),
        )
        .event(200, call(2, unread))
        .event(5100, probe(ProbeNews::Totals(ProbeTotals::default())))
        .ended()
        .trace();
    assert_eq!(found(&trace, "probe(f where p->pid == 5)"), (1, 1, Vec::new()));
    assert_eq!(found(&trace, "probe(f where p.pid == 5 and p.comm == worker)").0, 1);
    // What does not hold is not left open by what is not known.
    assert_eq!(found(&trace, "probe(f where p->pid == 5 and p->comm == x)"), (0, 0, Vec::new()));
    assert_eq!(found(&trace, "probe(f where returned < 0 and took_ms in 0.5..2.0)"), (1, 1, Vec::new()));
    let error = |text: &str| trace.timeline().matching(&path(text)).expect_err("an error").to_string();
    assert!(error("probe(g)").starts_with("`g` was not probed; did you mean `f`?"), "{}", error("probe(g)"));
    assert!(error("probe(f where p->pidd == 5)").contains("reads no `p->pidd`; did you mean `p->pid`?"));
    assert_eq!(error("probe(f where p->pid == x)"), "`p->pid` is a number, and is compared with a text");
    assert_eq!(error("probe(f where p->comm == 5)"), "`p->comm` is a text, and is compared with a number");
    assert_eq!(error("probe(f where cpu == x)"), "`cpu` is a number, and is compared with a text");
}

#[test]
fn what_a_function_without_a_result_returned_is_an_error() {
    let names = ["p->pid", "p->comm"].map(str::to_owned).to_vec();
    let trace = TraceBuilder::begun()
        .event(-20, probe(ProbeNews::Asked { max_hits: 100, by_body: false }))
        .event(-10, probe(ProbeNews::Armed { at: 1, place: "f".into(), names }))
        .event(100, call(1, ProbeValue::Int(5)))
        .event(101, probe(ProbeNews::Returned(Box::new(ProbeReturn { number: 1, cpu: Cpu(0), value: None }))))
        .event(5100, probe(ProbeNews::Totals(ProbeTotals::default())))
        .ended()
        .trace();
    let error = trace.timeline().matching(&path("probe(f where returned < 0)")).expect_err("no result");
    assert_eq!(error.to_string(), "`f` returns nothing: there is no `returned` of it");
    assert_eq!(found(&trace, "probe(f where took_ms > 0)").0, 1);
}

#[test]
fn what_is_missing_while_another_phase_is_on_is_no_doubt() {
    let begin = |index, name: &str| EventBody::PhaseBegin { index, name: name.into() };
    let steps = [(1000, switch(IDLE, HOG))];
    let trace = run_of(vec![history(1, 0, &steps), history(1, 3, &[(2_000_000, switch(HOG, IDLE))])])
        .event(0, begin(0, "warm"))
        .event(1000, EventBody::PhaseEnd { index: 0 })
        .event(3000, begin(1, "late"))
        .trace();
    for (name, doubts) in [("warm", 1), ("late", 0)] {
        let text = format!("event(sched_switch where phase == {name})");
        assert_eq!(found(&trace, &text).2.len(), doubts, "{text}");
    }
}

#[test]
fn phases_have_their_names_while_they_are_on() {
    let begin = |index, name: &str| EventBody::PhaseBegin { index, name: name.into() };
    let trace = TraceBuilder::begun()
        .event(0, begin(0, "warm"))
        .op(10, "offline", "1")
        .event(100, EventBody::PhaseEnd { index: 0 })
        .op(150, "offline", "1")
        .event(200, begin(1, "settle"))
        .op(250, "offline", "1")
        .ended()
        .trace();
    for (text, count) in [
        ("event(op)", 3),
        ("event(op where phase == warm)", 1),
        ("event(op where phase == settle)", 1),
        ("event(op where phase != warm)", 1),
        ("event(op where at_ms in 150..250)", 1),
        ("event(phase_end where name == warm)", 1),
        ("event(phase_begin where index == 1)", 1),
    ] {
        assert_eq!(found(&trace, text).0, count, "{text}");
    }
    let error =
        trace.timeline().matching(&path("event(op where phase == setle)")).expect_err("no such phase");
    assert!(error.to_string().contains("no phase `setle`; did you mean `settle`?"), "{error}");
}

/// A step of one of two CPUs and tasks.
fn any_step() -> impl Strategy<Value = HistoryWhat> {
    let task = 0u32..3;
    prop_oneof![
        (task.clone(), prop_oneof![Just(0u32), Just(1), Just(256)], task.clone())
            .prop_map(|(prev, state, next)| HistoryWhat::Switch { prev, state, next }),
        (task.clone(), 0u32..2, any::<bool>()).prop_map(|(task, to, is_new)| HistoryWhat::Wakeup {
            task,
            by: 8,
            to: Cpu(to),
            is_new
        }),
        (task, 0u32..2, 0u32..2).prop_map(|(task, from, to)| HistoryWhat::Migrate {
            task,
            by: 9,
            from: Cpu(from),
            to: Cpu(to)
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against filters that are written out.
    #[test]
    fn conditions_take_what_they_say(
        steps in proptest::collection::vec((0u32..2, 1i64..4_000_000, any_step()), 0..60),
        wanted in 0u32..10,
        cpu in 0u32..2,
    ) {
        let mut steps = steps;
        steps.sort_by_key(|(_, at, _)| *at);
        let of = |cpu: u32| {
            let steps: Vec<_> = steps.iter().filter(|step| step.0 == cpu).map(|(_, at, what)| (*at, *what)).collect();
            history(cpu, 0, &steps)
        };
        let trace = run_of(vec![of(0), of(1)]).trace();
        let pid = |place: u32| [0, 8, 9][place as usize];
        let comm = |place: u32| ["swapper/1", "hog", "victim"][place as usize];
        let count = |is: &dyn Fn(u32, i64, &HistoryWhat) -> bool| steps.iter().filter(|(cpu, at, what)| is(*cpu, *at, what)).count();
        let ms = 2000.0;
        let cases: Vec<(String, usize)> = vec![
            (
                format!("event(sched_switch where next_pid == {wanted} and cpu == {cpu})"),
                count(&|of, _, what| of == cpu && matches!(what, HistoryWhat::Switch { next, .. } if pid(*next) == wanted)),
            ),
            (
                "event(sched_switch where prev_comm ~ o and prev_state != S)".to_owned(),
                count(&|_, _, what| matches!(what, HistoryWhat::Switch { prev, state, .. } if comm(*prev).contains('o') && *state != 1)),
            ),
            (
                format!("event(sched_wakeup where target_cpu == {cpu} and comm == victim)"),
                count(&|_, _, what| matches!(what, HistoryWhat::Wakeup { task: 2, to, is_new: false, .. } if to.0 == cpu)),
            ),
            (
                format!("event(sched_migrate_task where dest_cpu != {cpu} and at_ms < {ms:?})"),
                count(&|_, at, what| at < 2_000_000 && matches!(what, HistoryWhat::Migrate { to, .. } if to.0 != cpu)),
            ),
        ];
        for (text, expected) in cases {
            let (sure, unsure, doubts) = found(&trace, &text);
            prop_assert_eq!((sure, unsure), (expected, 0), "{}", text);
            let none = steps.is_empty();
            prop_assert!(none || doubts.is_empty(), "{:?}", doubts);
        }
    }

    /// Each time is from its wakeup to the first turn after it, where nothing is missing and the steps make sense.
    #[test]
    fn times_are_those_of_a_simulation(turns in proptest::collection::vec((1i64..50, 1i64..50, any::<bool>(), any::<bool>()), 1..80)) {
        use crate::path::Measure;
        let (mut at, mut steps) = (10i64, Vec::new());
        let (mut woken, mut waited, mut ran) = (Vec::new(), Vec::new(), Vec::new());
        let mut is_asleep = true;
        for (wait, run, preempted, migrates) in &turns {
            if is_asleep {
                steps.push((at, HistoryWhat::Wakeup { task: 2, by: 8, to: Cpu(0), is_new: false }));
                woken.push(*wait as u64 * 1000);
            }
            if *migrates {
                steps.push((at, HistoryWhat::Migrate { task: 2, by: 8, from: Cpu(0), to: Cpu(1) }));
            }
            waited.push(*wait as u64 * 1000);
            steps.push((at + wait, HistoryWhat::Switch { prev: 0, state: 0, next: 2 }));
            ran.push(*run as u64 * 1000);
            steps.push((at + wait + run, HistoryWhat::Switch { prev: 2, state: if *preempted { 256 } else { 1 }, next: 0 }));
            is_asleep = !preempted;
            at += wait + run + i64::from(is_asleep) * 7;
        }
        let trace = run_of(vec![history(1, 0, &steps)]).trace();
        let timeline = trace.timeline();
        let end = GuestNs((BODY_MS + 5020) * 1_000_000);
        for (measure, expected) in [(Measure::WakeupLatency, woken), (Measure::RunDelay, waited), (Measure::OnCpu, ran)] {
            let times = timeline.history.measured(measure, end);
            let of: Vec<u64> = times.iter().filter(|time| time.ended).map(crate::history::Measured::length_ns).collect();
            prop_assert_eq!(of, expected);
            prop_assert!(times.iter().all(|time| time.is_certain));
            // One that was preempted last waits to the end.
            let open = times.iter().filter(|time| !time.ended).count();
            prop_assert_eq!(open, usize::from(!is_asleep && measure == Measure::RunDelay));
        }
    }
}
