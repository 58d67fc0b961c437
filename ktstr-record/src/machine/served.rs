//! Limits of the time in which the host runs a machine: time that it withholds from it does not count.
//!
//! Withheld is the time in which the process was stopped, or in which a thread of it wanted a CPU and got none. A guest that is idle, as one
//! that waits for its own timer, has nothing withheld from it, so that a guest which hangs reaches its limit on a busy host, too.

use std::time::{Duration, Instant};

use super::cpu_use::{CpuUse, Had};
use super::error::MachineError;
use super::limits::host_cpus;

/// How often the accounts are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// A look that comes so late by itself was made by a process that the host did not run either.
const LATE: Duration = Duration::from_millis(300);
/// Threads that together ran for less of the time between two late looks were not run.
const RAN: f64 = 0.1;
/// Less than this is part of how hosts are.
const USUAL: Duration = Duration::from_millis(300);
/// How many times as long as its limit an emulator may take to answer, or a guest to boot or to take its job, whatever the host gives to it.
pub(crate) const MOST_TIMES: u32 = 10;

/// What a look that comes late says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lateness {
    /// That the host did not run who looks either.
    OfHost,
    /// Nothing: who looks has waited for an answer of the machine until then. One that sleeps and does not answer was given all that it
    /// wanted.
    OfMachine,
}

/// Sums up for how long the host did not run a machine.
#[derive(Debug)]
pub(crate) struct Withheld {
    last: Option<(Instant, CpuUse)>,
    total: Duration,
    cpus: u32,
}

impl Default for Withheld {
    fn default() -> Self {
        Self::on(host_cpus())
    }
}

/// What there was of the host's CPUs between two looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// The time between them in which the machine was not stopped on purpose.
    pub passed: Duration,
    /// Its process was stopped.
    pub stopped: bool,
    /// What its threads had.
    pub had: Had,
    lateness: Lateness,
}

impl Look {
    /// On a host with so many CPUs.
    pub(crate) fn between(
        before: &CpuUse,
        after: &CpuUse,
        passed: Duration,
        cpus: u32,
        lateness: Lateness,
    ) -> Self {
        let stopped = before.stopped || after.stopped;
        Self { passed, stopped, had: after.since(before, passed, cpus), lateness }
    }

    /// Whether it came late by itself, and the machine hardly ran until then: the host ran neither.
    pub(crate) fn is_late(&self) -> bool {
        self.lateness == Lateness::OfHost && self.passed >= LATE && self.had.ran < self.passed.mul_f64(RAN)
    }

    /// How much of the time the host did not run the machine.
    fn withheld(&self) -> Duration {
        if self.stopped || self.is_late() {
            return self.passed;
        }
        let Had { ran, lacked, most_waited } = self.had;
        let wanted = (ran + lacked).as_secs_f64();
        let missed = if wanted > 0.0 { lacked.as_secs_f64() / wanted } else { 0.0 };
        most_waited.min(self.passed.mul_f64(missed))
    }
}

impl Withheld {
    /// Nothing yet, on a host with so many CPUs.
    pub(crate) fn on(cpus: u32) -> Self {
        Self { last: None, total: Duration::ZERO, cpus }
    }

    /// Whether it is time to look.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.last.as_ref().is_none_or(|(last, _)| now.duration_since(*last) >= LOOK)
    }

    /// Look at the accounts at `now`; `paused` is the part of the time since the last look in which the machine was stopped on
    /// purpose. What there was since the last look; without accounts nothing is known to be withheld.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        paused: Duration,
        used: Option<CpuUse>,
        lateness: Lateness,
    ) -> Option<Look> {
        let used = used?;
        let look = self.last.as_ref().map(|(last, before)| {
            let passed = now.duration_since(*last).saturating_sub(paused);
            Look::between(before, &used, passed, self.cpus, lateness)
        });
        self.total += look.map_or(Duration::ZERO, |look| look.withheld());
        self.last = Some((now, used));
        look
    }

    /// All of it, so far.
    pub(crate) fn total(&self) -> Duration {
        self.total
    }
}

/// A time limit that what the host withholds puts off, up to a bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServedLimit {
    begun: Instant,
    limit: Duration,
    most: Duration,
    before: Duration,
}

impl ServedLimit {
    /// From now on; it ends after `times` times its length in any case.
    pub(crate) fn begin(limit: Duration, times: u32, so_far: &Withheld) -> Self {
        Self { begun: Instant::now(), limit, most: limit.saturating_mul(times), before: so_far.total }
    }

    /// When it ends, by what is known to be withheld.
    pub(crate) fn end(&self, withheld: &Withheld) -> Instant {
        self.begun + (self.limit + self.withheld(withheld)).min(self.most)
    }

    /// Whether the machine was not given its time before the bound.
    pub(crate) fn is_at_bound(&self, withheld: &Withheld) -> bool {
        self.limit + self.withheld(withheld) >= self.most
    }

    /// What was withheld since it began.
    pub(crate) fn withheld(&self, withheld: &Withheld) -> Duration {
        withheld.total.saturating_sub(self.before)
    }

    /// How long it was waited for, in words: what the limit is, or what was withheld from the machine meanwhile.
    pub(crate) fn in_words(&self, withheld: &Withheld) -> String {
        let withheld = self.withheld(withheld);
        if withheld < USUAL {
            return format!("within {} s", self.limit.as_secs_f64());
        }
        format!(
            "within {} s, and the host did not run it for {:.1} s of {:.1} s",
            self.limit.as_secs_f64(),
            withheld.as_secs_f64(),
            self.begun.elapsed().as_secs_f64()
        )
    }
}

/// How long something that a process is to answer is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long, of the time in which the host runs it.
    pub limit: Duration,
    /// The process; `None`: the host is not asked.
    pub process: Option<u32>,
}

/// That there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// How long it was waited for, in words: `within 10 s`.
    within: String,
    withheld: Duration,
    is_at_bound: bool,
}

impl Silence {
    /// The error of a command that was not answered.
    pub(super) fn to(self, what: impl Into<String>) -> MachineError {
        let Self { within, withheld, is_at_bound } = self;
        MachineError::Silent { what: what.into(), within, withheld, is_at_bound }
    }
}

impl From<Duration> for Patience {
    fn from(limit: Duration) -> Self {
        Self { limit, process: None }
    }
}

impl Patience {
    /// Call `look` until it finds something; it is given the time until which it may wait, and is called again if it found nothing
    /// by then.
    pub(super) fn wait<T, E>(
        self,
        mut look: impl FnMut(Instant) -> Result<Option<T>, E>,
    ) -> Result<Result<T, Silence>, E> {
        let mut withheld = Withheld::on(1);
        let limit = ServedLimit::begin(self.limit, MOST_TIMES, &withheld);
        loop {
            let asked = Instant::now();
            let until = limit.end(&withheld).min(asked + LOOK);
            if let Some(found) = look(until)? {
                return Ok(Ok(found));
            }
            let now = Instant::now();
            if let Some(process) = self.process {
                if withheld.last.is_none() {
                    // There is no account of the time before. Who comes back late from a wait that has an end was not run by the host.
                    let is_late = now.saturating_duration_since(until) >= LATE;
                    let late = if is_late { now.duration_since(asked) } else { Duration::ZERO };
                    withheld = Withheld { total: withheld.total + late, ..Withheld::default() };
                }
                withheld.look(now, Duration::ZERO, CpuUse::of(process), Lateness::OfHost);
            }
            if now >= limit.end(&withheld) {
                return Ok(Err(Silence {
                    within: limit.in_words(&withheld),
                    withheld: limit.withheld(&withheld),
                    is_at_bound: limit.is_at_bound(&withheld),
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::ThreadUse;

    const MS: Duration = Duration::from_millis(1);

    /// What is withheld of 100 ms on two CPUs, by what each thread ran and waited, in ms.
    fn of(threads: &[(u32, u32)], stopped: bool) -> u128 {
        let zero = CpuUse::default();
        let thread =
            |(id, &(ran, waited)): (u32, &(u32, u32))| ThreadUse { id, ran: MS * ran, waited: MS * waited };
        let after = CpuUse { threads: (1..).zip(threads).map(thread).collect(), stopped };
        Look::between(&zero, &after, MS * 100, 2, Lateness::OfHost).withheld().as_millis()
    }

    #[test]
    fn what_others_take_is_withheld_and_what_the_machine_leaves_is_not() {
        assert_eq!(of(&[(0, 0), (0, 0)], true), 100, "stopped");
        assert_eq!(of(&[(0, 0), (1, 0)], false), 0, "idle");
        assert_eq!(of(&[(1, 2), (0, 0)], false), 2, "idle, and late at its timer");
        assert_eq!(of(&[(50, 50), (50, 50), (50, 50), (50, 50)], false), 0, "waits for itself");
        assert_eq!(of(&[(10, 90), (10, 90)], false), 90, "others have nine tenths");
        assert_eq!(of(&[(10, 90)], false), 90, "the same of one thread");
        assert_eq!(of(&[(100, 0), (100, 0)], false), 0, "has all");
    }

    #[test]
    fn a_late_look_at_a_process_that_hardly_ran_is_withheld() {
        let ran = |ran: u32| CpuUse {
            threads: vec![ThreadUse { id: 1, ran: MS * ran, waited: Duration::ZERO }],
            stopped: false,
        };
        let of =
            |after: u32, lateness| Look::between(&ran(0), &ran(after), MS * 5000, 2, lateness).withheld();
        assert_eq!(of(20, Lateness::OfHost), MS * 5000);
        assert_eq!(of(900, Lateness::OfHost), Duration::ZERO);
        assert_eq!(of(20, Lateness::OfMachine), Duration::ZERO, "it was waited for");
    }

    #[test]
    fn a_limit_is_put_off_by_what_is_withheld_up_to_its_bound() {
        let mut host = Withheld { total: MS * 7, ..Withheld::default() };
        let limit = ServedLimit::begin(MS * 100, 10, &host);
        let end = |host: &Withheld| limit.end(host).duration_since(limit.begun);
        assert_eq!((end(&host), limit.is_at_bound(&host)), (MS * 100, false));
        host.total += MS * 400;
        assert_eq!((end(&host), limit.is_at_bound(&host)), (MS * 500, false));
        assert!(limit.in_words(&host).contains("did not run it for 0.4 s of "), "{}", limit.in_words(&host));
        host.total += MS * 4000;
        assert_eq!((end(&host), limit.is_at_bound(&host)), (MS * 1000, true));
    }

    #[test]
    fn a_first_wait_that_ends_late_is_no_silence() {
        let patience = Patience { limit: MS * 400, process: Some(std::process::id()) };
        let mut waits = 0;
        let found = patience.wait(|until| {
            waits += 1;
            // As if the host had run nobody meanwhile.
            let late = if waits == 1 { MS * 600 } else { Duration::ZERO };
            std::thread::sleep(until.saturating_duration_since(Instant::now()) + late);
            Ok::<_, ()>((waits == 2).then_some(7))
        });
        assert_eq!(found, Ok(Ok(7)));
    }

    #[test]
    fn patience_ends_where_the_process_is_not_stopped_and_what_is_found_is_returned() {
        let patience = Patience { limit: MS * 250, process: Some(std::process::id()) };
        let nothing = |until: Instant| {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            Ok::<Option<()>, ()>(None)
        };
        let said = patience.wait(nothing).unwrap().unwrap_err();
        assert!(said.within.starts_with("within 0.25 s"), "{said:?}");
        let mut left = 3;
        let found = patience.wait(|_| {
            left -= 1;
            Ok::<_, ()>((left == 0).then_some(7))
        });
        assert_eq!(found, Ok(Ok(7)));
    }
}
