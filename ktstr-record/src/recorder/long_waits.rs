//! When a capture is taken because somebody waits for long: between the beginning of a stall and its end, of which the scheduler's exit
//! shows only what it left.
//!
//! The waits are looked at while the machine runs, through its memory. What is found then may be torn, so that the machine is
//! stopped and looked at again before anything is made of it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use ktstr_replay::kernel::waits::{LimitedWait, read_waits, read_watchdog_waits};
use ktstr_replay::kernel::{KernelError, KernelView};
use ktstr_replay::trace::record::WaitLimit;
use ktstr_replay::units::nanos;

/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Waits that are shorter are part of how a scheduler works, whatever their limit.
const SHORTEST: Duration = Duration::from_millis(200);
/// Running time between two captures, at least, or so large a part of the limit.
const APART: Duration = Duration::from_millis(250);
const APART_OF_LIMIT: u32 = 4;
/// Most captures of a run.
const MOST_CAPTURES: u32 = 8;
/// Most waits of a run that are told, with or without a capture.
const MOST_TOLD: u32 = 32;

/// Which waits of a run were captured, and which are to be.
#[derive(Debug)]
pub(super) struct LongWaits {
    /// What `max_gap_ms` allows to the test's workers, if it is set.
    gap: Option<Duration>,
    looked: Option<Instant>,
    /// What tells one wait from another of each that had come to its part when a capture was taken.
    known: HashSet<(WaitLimit, Option<u32>, u64)>,
    /// Running time at the last capture.
    captured_at: Option<Duration>,
    captures: u32,
    told: u32,
}

impl LongWaits {
    /// None was seen yet; workers may make no turn for `gap`.
    pub(super) fn new(gap: Option<Duration>) -> Self {
        let known = HashSet::new();
        Self { gap, looked: None, known, captured_at: None, captures: 0, told: 0 }
    }

    /// Whether it is time to look.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.told < MOST_TOLD && self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK)
    }

    /// The note at the last wait that is captured: later waits are not looked for.
    pub(super) fn no_more(&self) -> Option<String> {
        (self.told >= MOST_TOLD)
            .then(|| format!("{MOST_TOLD} long waits were told; from here on none is looked for"))
    }

    /// The waits in `view` that have come to the part of their limit at which they are captured, if one of them is to be captured now:
    /// the one that is nearest to its limit first. `in_body`: the test's workers may be at work. `running` is the time for which the
    /// machine has run.
    pub(super) fn look(
        &mut self,
        view: &KernelView<'_>,
        in_body: bool,
        running: Duration,
    ) -> Vec<LimitedWait> {
        self.looked = Some(Instant::now());
        // What cannot be read has no waits: the kernel is on its way up, has no sched_ext, or the machine was at it.
        let mut waits = read_watchdog_waits(view).unwrap_or_default();
        if let Some(gap) = self.gap.filter(|_| in_body) {
            match read_waits(view, nanos(gap)) {
                Ok(found) => waits.extend(found),
                // It will never be known.
                Err(KernelError::Field(_)) => self.gap = None,
                Err(_) => {}
            }
        }
        self.choose(waits, running)
    }

    fn choose(&self, mut waits: Vec<LimitedWait>, running: Duration) -> Vec<LimitedWait> {
        waits.retain(|wait| wait.waited_ns >= part(wait).max(nanos(SHORTEST)));
        let is_new = |wait: &LimitedWait| !self.known.contains(&key(wait)) && self.is_apart(wait, running);
        // The new ones first, as the first is what the capture is for.
        waits.sort_by(|a, b| is_new(b).cmp(&is_new(a)).then(nearness(b).total_cmp(&nearness(a))));
        if !waits.first().is_some_and(is_new) {
            return Vec::new();
        }
        waits
    }

    fn is_apart(&self, wait: &LimitedWait, running: Duration) -> bool {
        let apart = APART.max(Duration::from_nanos(wait.limit_ns) / APART_OF_LIMIT);
        self.captured_at.is_none_or(|at| running.saturating_sub(at) >= apart)
    }

    /// These waits were seen with the machine stopped, and the first is told. Gives the tag of the capture that is to be taken, if the
    /// run may have another one.
    pub(super) fn tell(&mut self, waits: &[LimitedWait], running: Duration) -> Option<String> {
        self.known.extend(waits.iter().map(key));
        self.captured_at = Some(running);
        self.told += 1;
        if self.captures >= MOST_CAPTURES {
            return None;
        }
        self.captures += 1;
        Some(format!("half_watchdog_{:03}", self.captures - 1))
    }
}

/// How long a wait is when it is captured, in ns. The watchdog is run when half of its time is over, so that half is no sign of anything.
fn part(wait: &LimitedWait) -> u64 {
    match wait.limit {
        WaitLimit::Watchdog | WaitLimit::Gap => wait.limit_ns / 2,
        WaitLimit::CheckIn => wait.limit_ns - wait.limit_ns / 4,
    }
}

fn key(wait: &LimitedWait) -> (WaitLimit, Option<u32>, u64) {
    (wait.limit, wait.pid, wait.since)
}

/// Which part of its limit it is.
fn nearness(wait: &LimitedWait) -> f64 {
    wait.waited_ns as f64 / wait.limit_ns.max(1) as f64
}

#[cfg(test)]
mod tests {
    use ktstr_replay::units::Cpu;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Task `pid` has waited for so many ms of 2000 since `since`.
    fn wait(pid: u32, waited_ms: u64, since: u64) -> LimitedWait {
        let (limit, cpu) = (WaitLimit::Watchdog, Some(Cpu(0)));
        let (limit_ns, waited_ns) = (2_000_000_000, waited_ms * 1_000_000);
        LimitedWait { limit, limit_ns, waited_ns, pid: Some(pid), comm: "x".to_owned(), cpu, since }
    }

    fn pids(waits: &[LimitedWait]) -> Vec<u32> {
        waits.iter().filter_map(|wait| wait.pid).collect()
    }

    #[test]
    fn a_wait_is_captured_at_half_its_limit_and_once() {
        let mut all = LongWaits::new(None);
        assert_eq!(all.choose(vec![wait(1, 999, 5)], MS * 1000), []);
        let found = all.choose(vec![wait(1, 1000, 5), wait(2, 1200, 6), wait(3, 10, 7)], MS * 1000);
        assert_eq!(pids(&found), [2, 1], "the nearest to its end first");
        assert_eq!(all.tell(&found, MS * 1000).as_deref(), Some("half_watchdog_000"));
        // Both were seen in that capture; the next wait of one of them is another one.
        assert_eq!(all.choose(vec![wait(1, 1900, 5), wait(2, 1900, 6)], MS * 1900), []);
        let again = all.choose(vec![wait(1, 1000, 8), wait(2, 1999, 6)], MS * 3000);
        assert_eq!(pids(&again), [1, 2]);
        assert_eq!(all.tell(&again, MS * 3000).as_deref(), Some("half_watchdog_001"));
    }

    #[test]
    fn many_that_wait_for_the_same_reason_are_few_captures() {
        let mut all = LongWaits::new(None);
        let mut captures = 0;
        // Every 100 ms one more task has waited for half of its time.
        for nth in 0..20_u32 {
            let waits = (0..=nth).map(|pid| wait(pid, u64::from(1000 + (nth - pid) * 100), pid.into()));
            let found = all.choose(waits.collect(), MS * 100 * nth);
            if !found.is_empty() {
                captures += u32::from(all.tell(&found, MS * 100 * nth).is_some());
            }
        }
        assert_eq!(captures, 4, "500 ms apart");
    }

    #[test]
    fn a_run_has_so_many_captures_and_no_more_and_so_many_waits_are_told() {
        let mut all = LongWaits::new(None);
        let mut tags = Vec::new();
        let mut nth = 0;
        while all.is_due(Instant::now()) {
            nth += 1;
            let found = all.choose(vec![wait(1, 1000, nth)], MS * 1000 * u32::try_from(nth).unwrap());
            assert_eq!(all.no_more(), None);
            tags.push(all.tell(&found, MS * 1000 * u32::try_from(nth).unwrap()));
        }
        assert!(all.no_more().is_some_and(|text| text.starts_with("32 long waits")), "it is said");
        assert_eq!(tags.len() as u32, MOST_TOLD);
        assert_eq!(tags.iter().flatten().count() as u32, MOST_CAPTURES);
        assert!(tags[MOST_CAPTURES as usize..].iter().all(Option::is_none));
    }

    #[test]
    fn the_watchdog_itself_is_late_at_three_quarters_and_short_waits_never_are() {
        let all = LongWaits::new(None);
        let own = |waited| LimitedWait { limit: WaitLimit::CheckIn, pid: None, ..wait(0, waited, 1) };
        assert_eq!(all.choose(vec![own(1499)], MS), []);
        assert_eq!(all.choose(vec![own(1500)], MS).len(), 1);
        let short = |waited| LimitedWait { limit_ns: 1_000_000, ..wait(1, waited, 1) };
        assert_eq!(all.choose(vec![short(199)], MS), []);
        assert_eq!(all.choose(vec![short(200)], MS).len(), 1);
    }
}
