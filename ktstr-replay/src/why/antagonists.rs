//! The sentences about who ran while the stalled task waited, by the history.

use crate::history::{HistoryLog, Ran, Wait};
use crate::run::Run;
use crate::text::{escaped, seconds};
use crate::units::Cpu;

use super::{Evidence, SchedulerEnd, Sentence};

/// Shorter waits, in ns, are what every task has.
const LEAST_NS: u64 = 10_000_000;
/// CPUs that are told of.
const CPUS: usize = 8;
/// Tasks that are named of each.
const NAMED: usize = 4;
/// What the evidence is.
const HISTORY: &str = "history";

/// How long the stalled task waited, and who ran meanwhile on the CPUs that it may run on.
pub(super) fn antagonists(run: &Run<'_>, end: &SchedulerEnd) -> Vec<Sentence> {
    let Some(pid) = end.stalled_task() else { return Vec::new() };
    let Ok(id) = u32::try_from(pid) else { return Vec::new() };
    let log = run.history();
    let Some(wait) = log.longest_wait(id).filter(|wait| wait.length_ns() >= LEAST_NS) else {
        return Vec::new();
    };
    let allowed =
        end.last().and_then(|last| last.tasks.by_pid(pid)).and_then(|task| task.cpus_allowed.clone());
    let may_run = |cpu: &Cpu| allowed.as_ref().is_none_or(|allowed| allowed.contains(*cpu));
    let who = format!("{}[{pid}]", escaped(log.comm(id).unwrap_or("?")));
    let (from, until) = (run.since_start_ns(wait.since), run.since_start_ns(wait.until));
    let at_least = if wait.begun { "" } else { "at least " };
    let end_of_it = if wait.ended { "then it ran" } else { "where the history ends" };
    let sentence = |text| Sentence {
        since_start_ns: Some(from),
        evidence: Evidence::Seen(vec![HISTORY.to_owned()]),
        text,
    };
    // What a CPU did that it may not run on matters to nobody's wait.
    let missing = match log.missing_of(|cpu| may_run(&cpu), &wait) {
        0 => String::new(),
        count => format!("; {count} steps of that time are missing, in which it may have run"),
    };
    let text = format!(
        "{who} was runnable and did not run for {at_least}{}, up to {}: {end_of_it}{missing}",
        seconds(wait.length_ns().cast_signed()),
        seconds(until)
    );
    let mut sentences = vec![sentence(text)];
    let cpus: Vec<Cpu> = log.cpus().into_iter().filter(may_run).collect();
    sentences.extend(cpus.iter().take(CPUS).filter_map(|cpu| on_cpu(log, *cpu, &wait)).map(sentence));
    sentences
}

/// Who ran on a CPU during the wait.
fn on_cpu(log: &HistoryLog, cpu: Cpu, wait: &Wait) -> Option<String> {
    let ran = log.ran(cpu, wait);
    let whole = wait.length_ns().max(1) as f64;
    let share = |ns: u64| format!("{} ({:.0}%)", seconds(ns.cast_signed()), ns as f64 / whole * 100.0);
    let one = |ran: &Ran| match ran.pid {
        0 => format!("was idle for {}", share(ran.ns)),
        pid => format!("ran {}[{pid}] for {}", escaped(&ran.comm), share(ran.ns)),
    };
    let mut parts: Vec<String> = ran.iter().take(NAMED).map(one).collect();
    if parts.is_empty() {
        return None;
    }
    if let Some(rest) = ran.get(NAMED..).filter(|rest| !rest.is_empty()) {
        let ns = rest.iter().fold(0u64, |sum, ran| sum.saturating_add(ran.ns));
        parts.push(format!("ran {} others for {}", rest.len(), share(ns)));
    }
    let missing = match log.missing_in(cpu, wait) {
        0 => String::new(),
        count => format!("; {count} of its steps are missing, so that this may be less than all"),
    };
    Some(format!("meanwhile CPU {cpu} {}{missing}", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::{Event, EventBody, History, HistoryStep, HistoryTask, HistoryWhat};
    use crate::units::{GuestNs, HostNs};

    #[test]
    fn those_that_ran_are_named_with_how_long_they_did() {
        let task = |pid| HistoryTask { pid, prio: 120, comm: format!("t{pid}") };
        let switch = |after_ms: u64, prev, next| HistoryStep {
            after_ns: after_ms * 1_000_000,
            what: HistoryWhat::Switch { prev, state: 0, next },
        };
        let steps = vec![
            switch(0, 1, 2),
            switch(30, 2, 0),
            switch(10, 0, 3),
            switch(50, 3, 4),
            switch(4, 4, 5),
            switch(3, 5, 6),
            switch(3, 6, 1),
        ];
        let history =
            History { overwritten: 3, tasks: (0..7).map(task).collect(), steps, ..History::default() };
        let body = EventBody::History(Box::new(history));
        let log = HistoryLog::of(&[Event { guest_ns: GuestNs(0), host_ns: HostNs(0), body }]);
        let wait = log.longest_wait(1).expect("it waited");
        assert_eq!(
            on_cpu(&log, Cpu(0), &wait).as_deref(),
            Some(
                "meanwhile CPU 0 ran t3[3] for 0.050s (50%), ran t2[2] for 0.030s (30%), was idle for 0.010s (10%), ran t4[4] \
                 for 0.004s (4%), ran 2 others for 0.006s (6%)"
            )
        );
        assert_eq!(on_cpu(&log, Cpu(1), &wait), None);
    }
}
