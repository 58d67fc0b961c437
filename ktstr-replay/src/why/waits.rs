//! The sentences about captures that were taken while somebody waited for long.

use crate::run::Run;
use crate::trace::record::Sample;

use super::{Evidence, SchedulerEnd, Sentence};

/// Waits that are told, of those before the end.
const TOLD: usize = 3;

/// The last waits that were told before the scheduler's end, or before the run's, in the order in which they came.
pub(super) fn waits(run: &Run<'_>, end: &SchedulerEnd) -> Vec<Sentence> {
    let in_time = |at| end.exit.as_ref().is_none_or(|exit| at <= exit.at_ns);
    let mut told: Vec<_> = run.long_waits().rev().filter(|(at, _)| in_time(*at)).take(TOLD).collect();
    told.reverse();
    told.into_iter()
        .map(|(at, wait)| {
            let capture = wait.sample.and_then(|index| run.sample(index));
            let text = match capture {
                Some(Sample { tag, .. }) => format!("{}: {tag} was taken then", wait.in_words()),
                None => wait.in_words(),
            };
            let place = capture.map_or_else(|| "long_wait".to_owned(), |sample| sample.tag.clone());
            Sentence::at(Some(run.since_start_ns(at)), Evidence::Seen(vec![place]), text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::SchedulerExit;
    use crate::testing::TraceBuilder;
    use crate::trace::record::{EventBody, LongWait, WaitLimit};
    use crate::units::Cpu;

    #[test]
    fn the_last_waits_before_the_end_are_told_in_their_order() {
        let mut run = TraceBuilder::begun();
        for pid in 1..=5u32 {
            let wait = LongWait {
                limit: WaitLimit::Watchdog,
                limit_ns: 2_000_000_000,
                waited_ns: 1_000_000_000,
                pid: Some(pid),
                comm: "late".to_owned(),
                cpu: Some(Cpu(1)),
                sample: None,
            };
            run = run.event(i64::from(pid) * 100, EventBody::LongWait(Box::new(wait)));
        }
        let trace = run.ended().trace();
        let run = Run::load(&trace);
        let told = |end: &SchedulerEnd| -> Vec<String> {
            let first = |sentence: Sentence| sentence.text.split(' ').next().unwrap_or_default().to_owned();
            waits(&run, end).into_iter().map(first).collect()
        };
        assert_eq!(told(&SchedulerEnd::default()), ["late[3]", "late[4]", "late[5]"]);
        let (at_ns, _) = run.long_waits().nth(1).expect("a second one");
        let exit = Some(SchedulerExit { at_ns, ..SchedulerExit::default() });
        assert_eq!(told(&SchedulerEnd { exit, ..SchedulerEnd::default() }), ["late[1]", "late[2]"]);
    }
}
