use super::*;
use crate::trace::record::{Event, EventBody, History, HistoryStep, HistoryTask, HistoryWhat};
use crate::units::{Cpu, GuestNs, HostNs};

const IDLE: u32 = 0;
const HOG: u32 = 1;
const VICTIM: u32 = 2;

fn step(after_ns: u64, what: HistoryWhat) -> HistoryStep {
    HistoryStep { after_ns, what }
}

fn switch(prev: u32, state: u32, next: u32) -> HistoryWhat {
    HistoryWhat::Switch { prev, state, next }
}

fn wakeup(task: u32) -> HistoryWhat {
    HistoryWhat::Wakeup { task, by: 8, to: Cpu(1), is_new: false }
}

/// The history of CPU 1, from 1000 ns on.
fn history(steps: Vec<HistoryStep>) -> History {
    let task = |(pid, comm): (u32, &str)| HistoryTask { pid, prio: 120, comm: comm.to_owned() };
    let tasks = [(0, "swapper/1"), (8, "hog"), (9, "victim")].map(task).to_vec();
    History { cpu: Cpu(1), first_ns: GuestNs(1000), tasks, steps, ..History::default() }
}

fn log(histories: Vec<History>) -> HistoryLog {
    let event = |history| Event {
        guest_ns: GuestNs(0),
        host_ns: HostNs(0),
        body: EventBody::History(Box::new(history)),
    };
    HistoryLog::of(&histories.into_iter().map(event).collect::<Vec<_>>())
}

#[test]
fn the_longest_wait_is_found_with_who_ran_in_it() {
    let log = log(vec![history(vec![
        step(0, switch(VICTIM, 1, HOG)),
        step(10, wakeup(VICTIM)),
        step(10, switch(HOG, 256, VICTIM)),
        // Its CPU is taken from it: it waits on.
        step(10, switch(VICTIM, 256, HOG)),
        step(100, switch(HOG, 1, IDLE)),
        step(5, switch(IDLE, 0, HOG)),
        step(200, switch(HOG, 2, VICTIM)),
        // It sleeps for longer than it ever waited.
        step(1, switch(VICTIM, 1, IDLE)),
        step(5000, wakeup(VICTIM)),
        step(1, switch(IDLE, 0, VICTIM)),
        // One that runs and is woken does not wait.
        step(1, wakeup(VICTIM)),
        step(900, switch(VICTIM, 1, IDLE)),
    ])]);
    let wait = log.longest_wait(9).expect("it waited");
    assert_eq!((wait.since, wait.until, wait.ended, wait.cpu), (GuestNs(1030), GuestNs(1335), true, Cpu(1)));
    let ran: Vec<_> = log.ran(Cpu(1), &wait).into_iter().map(|ran| (ran.pid, ran.comm, ran.ns)).collect();
    assert_eq!(ran, [(8, "hog".to_owned(), 300), (0, "swapper/1".to_owned(), 5)]);
    assert_eq!(log.ran(Cpu(0), &wait), [], "nothing is known of it");
    assert_eq!(log.longest_wait(77), None);
}

#[test]
fn a_wait_that_does_not_end_lasts_to_the_end_of_the_history() {
    let mut other = history(vec![step(4000, switch(IDLE, 0, IDLE))]);
    other.cpu = Cpu(0);
    let log = log(vec![history(vec![step(0, switch(IDLE, 0, HOG)), step(10, wakeup(VICTIM))]), other]);
    let wait = log.longest_wait(9).expect("it waits");
    assert_eq!((wait.length_ns(), wait.ended), (3990, false));
    assert_eq!(log.ran(Cpu(1), &wait)[0].ns, 3990, "the hog went on");
    let about: Vec<_> = log.steps.iter().map(|step| log.is_about(step, 9)).collect();
    assert_eq!((about, log.cpus()), (vec![false, true, false], vec![Cpu(0), Cpu(1)]));
}

#[test]
fn a_task_is_one_whatever_it_is_called() {
    let mut later = history(vec![step(0, switch(VICTIM, 256, HOG)), step(7, switch(HOG, 1, VICTIM))]);
    later.tasks[1].comm = "renamed".to_owned();
    later.first_ns = GuestNs(9000);
    later.tasks[1].prio = 3;
    let log = log(vec![history(vec![step(0, switch(VICTIM, 256, HOG))]), later]);
    let wait = Wait { pid: 9, since: GuestNs(1000), until: GuestNs(9007), ended: true, cpu: Cpu(1) };
    let ran = log.ran(Cpu(1), &wait);
    assert_eq!(ran.iter().find(|ran| ran.pid == 8).map(|ran| ran.comm.as_str()), Some("renamed"));
}

#[test]
fn what_is_missing_is_told_where_it_is_missing() {
    let first = history(vec![step(0, switch(IDLE, 0, HOG))]);
    let second = History {
        overwritten: 5,
        left_out: 2,
        first_ns: GuestNs(2000),
        ..history(vec![step(0, switch(HOG, 0, IDLE))])
    };
    let log = log(vec![first, second]);
    let missing = MissingSteps {
        cpu: Cpu(1),
        after: Some(GuestNs(1000)),
        until: Some(GuestNs(2000)),
        overwritten: 5,
        left_out: 2,
    };
    assert_eq!(log.missing, [missing]);
    let wait = |since, until| Wait {
        pid: 9,
        since: GuestNs(since),
        until: GuestNs(until),
        ended: true,
        cpu: Cpu(1),
    };
    assert_eq!(log.missing_in(Cpu(1), &wait(1500, 1600)), 7);
    assert_eq!(log.missing_in(Cpu(0), &wait(1500, 1600)), 0);
    assert_eq!(log.missing_in(Cpu(1), &wait(2500, 2600)), 0);
}

#[test]
fn steps_that_name_what_is_not_there_are_counted_and_left() {
    let log = log(vec![history(vec![
        step(0, switch(IDLE, 0, 3)),
        step(u64::MAX, wakeup(u32::MAX)),
        step(u64::MAX, HistoryWhat::SchedExt { name: 0, by: 0, count: 1 }),
        step(1, switch(IDLE, 0, HOG)),
    ])]);
    assert_eq!((log.steps.len(), log.senseless, log.steps[0].at), (1, 3, GuestNs(u64::MAX)));
}

#[test]
fn steps_have_words_and_json() {
    let mut one = history(vec![
        step(0, switch(HOG, 256, VICTIM)),
        step(1, switch(HOG, 3, VICTIM)),
        step(1, wakeup(VICTIM)),
        step(1, HistoryWhat::Wakeup { task: VICTIM, by: 8, to: Cpu(0), is_new: true }),
        step(1, HistoryWhat::Migrate { task: VICTIM, by: 8, from: Cpu(1), to: Cpu(0) }),
        step(1, HistoryWhat::SchedExt { name: 0, by: 8, count: 2 }),
    ]);
    one.names = vec!["SCX_EV_X".to_owned()];
    one.tasks[2].comm = "v\u{1b}\n".to_owned();
    let log = log(vec![one]);
    let said: Vec<_> = log.steps.iter().map(|step| (log.kind(step), log.words(step))).collect();
    let said: Vec<_> = said.iter().map(|(kind, words)| (*kind, words.as_str())).collect();
    assert_eq!(
        said,
        [
            ("switch", "hog[8] (R+) -> v\\u{1b}\\n[9]"),
            ("switch", "hog[8] (S|D) -> v\\u{1b}\\n[9]"),
            ("wakeup", "v\\u{1b}\\n[9] on CPU 1, by 8"),
            ("wakeup_new", "v\\u{1b}\\n[9] on CPU 0, by 8"),
            ("migrate", "v\\u{1b}\\n[9] from CPU 1 to CPU 0, by 8"),
            ("sched_ext", "SCX_EV_X +2, by 8"),
        ]
    );
    let json = log.json(&log.steps[0]);
    assert_eq!(
        (json["prev"]["pid"].as_u64(), json["state"].as_str(), json["cpu"].as_u64()),
        (Some(8), Some("R+"), Some(1))
    );
}
