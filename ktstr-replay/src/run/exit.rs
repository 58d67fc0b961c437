//! How the scheduler under test ended or was away, as the trace has it.

use super::Run;
use super::named;
use crate::kernel::task::Task;
use crate::text::escaped;
use crate::trace::record::{CaptureKind, EventBody, Sample, Stage};
use crate::units::GuestNs;

/// How a scheduler ended, by the kernel or its process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulerExit {
    /// Guest time, in ns.
    pub at_ns: GuestNs,
    /// `scx_exit_kind`; 0 when the kernel's record of it was not captured.
    pub kind: u64,
    /// Name of that kind.
    pub kind_name: Option<String>,
    /// `scx_exit_info.exit_code`: what the scheduler, or the kernel for it, said beyond the kind.
    pub code: i64,
    /// The kernel's reason.
    pub reason: Option<String>,
    /// The kernel's (or the scheduler's own) message.
    pub message: Option<String>,
    /// The kernel's dump.
    pub dump: Option<String>,
    /// How the scheduler's process ended.
    pub process: Option<String>,
    /// A signal ended that, and not guest-init after the body: whatever the kernel calls the exit, as it takes the scheduler away then.
    pub is_crash: bool,
    /// Index of the sample that has the state at the exit.
    pub sample: Option<u32>,
    /// Guest time, in ns, at which it was enabled again; `None`: it was not, as far as is recorded.
    pub back_at_ns: Option<GuestNs>,
}

/// First `scx_exit_kind` that is an error (`SCX_EXIT_ERROR`). Source: `kernel/sched/ext_internal.h`.
pub(super) const SCX_EXIT_ERROR: u64 = 1024;
/// The kind by which the watchdog ends a scheduler, without its prefix.
pub(crate) const STALL_KIND: &str = "ERROR_STALL";
/// The kernel's words for it (`scx_exit_reason`).
pub(crate) const STALL_REASON: &str = "runnable task stall";

/// What the kernel's own bits of an exit code say (`enum scx_exit_code`). Source: `kernel/sched/ext_internal.h`.
const EXIT_CODE_BITS: [(i64, &str); 3] =
    [(1 << 32, "CPU hotplug"), (2 << 32, "a cgroup went offline"), (1 << 48, "it is to be started again")];
/// The bits of an exit code that are the scheduler's own.
const OWN_CODE_BITS: i64 = 0xffff_ffff;

/// How the error of a body begins that could not go on because `scheduler` was not enabled: it follows from the exit, and
/// is no failure of its own.
pub fn gone_words(scheduler: &str) -> String {
    format!("scheduler `{scheduler}` is gone: ")
}

impl Run<'_> {
    /// How the scheduler ended while it should have run, or with an error: the exit that it did not come back from,
    /// else the first one.
    ///
    /// It should run until guest-init ends it, after the body. Where restarts are allowed, one that it came back from
    /// is no end.
    pub fn scheduler_exit(&self) -> Option<&SchedulerExit> {
        let exits = self.scheduler_exits();
        let last = exits.iter().find(|exit| exit.back_at_ns.is_none());
        last.or_else(|| exits.first().filter(|_| !self.manifest.test.allow_restarts))
    }

    /// Each time that the scheduler was not enabled although it should have been, in order.
    ///
    /// Judged by what was recorded: the captures that guest-init asked for when it found sched_ext not enabled, or
    /// enabled anew; the end of the scheduler's process before that of the body; and what every capture says of
    /// sched_ext, whatever guest-init has seen.
    pub fn scheduler_exits(&self) -> &[SchedulerExit] {
        self.exits.get_or_init(|| self.find_exits())
    }

    fn find_exits(&self) -> Vec<SchedulerExit> {
        if self.manifest.imported.is_some() {
            // Of a core nothing but this is known of its scheduler's life.
            let exited = |s: &&Sample| s.scx.as_ref().is_some_and(|scx| scx.exit_kind != 0);
            let found =
                self.samples.iter().find(exited).map(|s| self.exit_between(s.guest_ns, GuestNs(u64::MAX)));
            return found.into_iter().collect();
        }
        if self.stage(Stage::SchedulerEnabled).is_none() {
            return Vec::new();
        }
        let captures = self.samples.iter().filter(|s| s.kind == CaptureKind::SchedulerExit);
        let mut gone: Vec<GuestNs> = captures.map(|s| s.guest_ns).collect();
        let body_ended = self.body_end().map(|(i, _)| i);
        let exited = self.stage(Stage::SchedulerExited);
        let early =
            exited.filter(|(i, ..)| body_ended.is_none_or(|end| *i < end)).map(|(_, e, _)| e.guest_ns);
        if gone.is_empty() {
            gone.extend(early.into_iter().chain(self.shown_gone(GuestNs(0), None)).min());
        } else {
            let mut unnoticed = Vec::new();
            let mut from = Some(GuestNs(0));
            for at in &gone {
                unnoticed.extend(from.and_then(|from| self.shown_gone(from, Some(*at))));
                from = self.back_between(*at, GuestNs(u64::MAX));
            }
            unnoticed.extend(from.and_then(|from| self.shown_gone(from, None)));
            gone.extend(unnoticed);
            gone.sort_unstable();
            gone.dedup();
        }
        let ends = gone.iter().skip(1).copied().chain([GuestNs(u64::MAX)]);
        let exits: Vec<_> = gone.iter().zip(ends).map(|(at, until)| self.exit_between(*at, until)).collect();
        let last = exits.len().saturating_sub(1);
        let process = exited.map(|(_, _, detail)| detail.to_owned()).filter(|d| !d.is_empty());
        let is_signal = |text: &String| text.trim_start_matches("killed by ").starts_with("signal ");
        let is_crash = early.is_some() && process.as_ref().is_some_and(is_signal);
        let with_process = |(i, exit): (usize, SchedulerExit)| match i == last && exit.back_at_ns.is_none() {
            true => SchedulerExit { process: process.clone(), is_crash, ..exit },
            false => exit,
        };
        exits.into_iter().enumerate().map(with_process).collect()
    }

    /// When the first capture, of those from `from` up to the end of the test, shows a scheduler's exit, sched_ext not
    /// enabled, or another enabling than that of the first of them. After the test guest-init ends the scheduler itself.
    ///
    /// An exit that was noticed at `noticed` may be seen by captures before that: of those only another enabling tells
    /// that there was one more.
    fn shown_gone(&self, from: GuestNs, noticed: Option<GuestNs>) -> Option<GuestNs> {
        let mut enabling = None;
        let detached = self.detached_times();
        let tested = self.stage(Stage::TestExited).map(|(_, event, _)| event.guest_ns);
        let within = |s: &&Sample| match noticed {
            _ if s.guest_ns < from => false,
            Some(noticed) => s.guest_ns < noticed,
            None => s.kind == CaptureKind::End || tested.is_none_or(|end| s.guest_ns <= end),
        };
        // The kernel counts an enabling a moment after it says `enabled`. guest-init waits for that, and did not in traces
        // from before the manifest said what was asked for.
        let counted = |s: &Sample| self.manifest.test.asked.is_some() || s.kind != CaptureKind::Attach;
        let shows = |sample: &&Sample| {
            let Some(scx) = &sample.scx else { return false };
            if detached.contain(sample) {
                // Only what no order of the test's explains.
                return noticed.is_none() && scx.exit_kind >= SCX_EXIT_ERROR;
            }
            let another = counted(sample) && {
                let now = (detached.before(sample), scx.enable_seq);
                let first = *enabling.get_or_insert(now);
                // One that the test has started is another one.
                if first.0 != now.0 {
                    enabling = Some(now);
                }
                first.0 == now.0 && first.1 != now.1
            };
            another || noticed.is_none() && (scx.exit_kind != 0 || !scx.is_enabled())
        };
        self.taken().filter(within).find(shows).map(|sample| sample.guest_ns)
    }

    /// When the scheduler was enabled again, from `at` on and before `until`.
    fn back_between(&self, at: GuestNs, until: GuestNs) -> Option<GuestNs> {
        let back = self.events.iter().find(|e| {
            let is_back = matches!(&e.body, EventBody::Stage { stage: Stage::SchedulerRestarted, .. });
            is_back && e.guest_ns >= at && e.guest_ns < until
        });
        back.map(|e| e.guest_ns)
    }

    /// The exit that was noticed at `at`, of which nothing is looked for from `until` on.
    fn exit_between(&self, at: GuestNs, until: GuestNs) -> SchedulerExit {
        let back_at_ns = self.back_between(at, until);
        let until = back_at_ns.unwrap_or(until);
        let within = |s: &&Sample| s.guest_ns >= at && s.guest_ns < until;
        let has_exit = |s: &&Sample| s.scx.as_ref().is_some_and(|scx| scx.exit_kind != 0);
        // The earliest that has it is the nearest to the exit.
        let sample = self.taken().filter(within).find(has_exit);
        let at_exit = self.samples.iter().find(|s| s.kind == CaptureKind::SchedulerExit && s.guest_ns == at);
        let scx = sample.and_then(|s| s.scx.as_ref());
        let said = |text: Option<&String>| text.filter(|t| !t.trim().is_empty()).cloned();
        SchedulerExit {
            at_ns: sample.or(at_exit).map_or(at, |s| s.guest_ns),
            kind: scx.map_or(0, |scx| scx.exit_kind),
            kind_name: said(scx.and_then(|scx| scx.exit_kind_name.as_ref())),
            code: scx.map_or(0, |scx| scx.exit_code),
            reason: said(scx.and_then(|scx| scx.exit_reason.as_ref())),
            message: said(scx.and_then(|scx| scx.exit_message.as_ref())),
            dump: said(scx.and_then(|scx| scx.exit_dump.as_ref())),
            process: None,
            is_crash: false,
            sample: sample.or(at_exit.filter(|s| s.missed.is_none())).map(|s| s.index),
            back_at_ns,
        }
    }
}

impl SchedulerExit {
    /// The kernel's kinds below `SCX_EXIT_ERROR` (1024) are orderly: the scheduler, its user or the kernel wanted it.
    pub(crate) fn is_orderly(&self) -> bool {
        (1..SCX_EXIT_ERROR).contains(&self.kind)
    }

    /// Whether its kind is `kind`, named with or without `SCX_EXIT_`.
    #[must_use]
    pub fn is_of_kind(&self, kind: &str) -> bool {
        let short = |name: &str| name.strip_prefix("SCX_EXIT_").unwrap_or(name).to_owned();
        self.kind_name.as_deref().is_some_and(|name| short(name) == short(kind))
    }

    /// The kind's name and number, or how its process ended.
    pub(crate) fn title(&self) -> String {
        match (&self.kind_name, self.kind, &self.process) {
            (Some(name), kind, _) if kind != 0 => format!("{name} ({kind})"),
            (None, kind, _) if kind != 0 => format!("exit kind {kind}"),
            (_, _, Some(process)) => process.clone(),
            _ => "exited".to_owned(),
        }
    }

    /// Title and cause, as far as they are known.
    pub(crate) fn in_words(&self) -> String {
        let cause = self.cause().map_or_else(String::new, |cause| format!(": {cause}"));
        self.title() + &cause
    }

    /// The exit code, if there is one, with what the kernel's bits of it say.
    pub(crate) fn code_in_words(&self) -> Option<String> {
        if self.code == 0 {
            return None;
        }
        let said = EXIT_CODE_BITS.iter().filter(|(bit, _)| self.code & bit != 0).map(|(_, said)| *said);
        let mut words: Vec<String> = said.map(str::to_owned).collect();
        let own = self.code & OWN_CODE_BITS;
        if own != 0 && !words.is_empty() {
            words.push(format!("the scheduler's own part is {own}"));
        }
        Some(match words.as_slice() {
            [] => format!("exit code {}", self.code),
            _ => format!("exit code {:#x}: {}", self.code, words.join(", ")),
        })
    }

    /// Command name and pid of the task that the message names: `stalled[105] failed to run for 2.004s`, `target CPU 1 not
    /// allowed for pinned[103]`, or, without a name, `no room for pid 103`.
    pub(crate) fn named_task(&self) -> Option<(String, i64)> {
        let message = self.message.as_deref()?;
        if let Some((task, _)) = message.split_once(" failed to run for ") {
            return named(task);
        }
        // Elsewhere a name is taken to have no blank: where it begins is not said.
        let end = [',', '.', ':', ';', ')'];
        let words: Vec<&str> = message
            .split_whitespace()
            .map(|word| word.trim_start_matches('(').trim_end_matches(end))
            .collect();
        let in_brackets = words.iter().filter(|word| word.ends_with(']')).find_map(|word| named(word));
        let by_number = || {
            words.iter().enumerate().find_map(|(i, word)| match *word {
                "pid" => words.get(i + 1)?.parse().ok(),
                word => word.strip_prefix("pid=")?.parse().ok(),
            })
        };
        in_brackets.or_else(|| Some((String::new(), by_number()?)))
    }

    /// Of these tasks the one that the message names: with its name and pid, or as [`SchedulerExit::named_task`] reads it, which
    /// a name with brackets can mislead.
    pub(crate) fn named_of<'t>(&self, tasks: &'t [Task]) -> Option<&'t Task> {
        let message = self.message.as_deref()?;
        let whole = |task: &&Task| message.contains(&format!("{}[{}]", task.comm, task.pid));
        let longest =
            tasks.iter().filter(|task| task.pid != 0).filter(whole).max_by_key(|task| task.comm.len());
        longest.or_else(|| {
            let (comm, pid) = self.named_task()?;
            // A message may have more of a name than the 15 bytes that the kernel keeps.
            let is =
                |task: &&Task| task.pid == pid && (comm.is_empty() || comm.starts_with(&escaped(&task.comm)));
            tasks.iter().find(is)
        })
    }

    /// Reason and message on one line, as far as they are known: names in them are those that threads chose.
    pub(crate) fn cause(&self) -> Option<String> {
        let one_line = |text: &Option<String>| text.as_deref().map(|text| escaped(text.trim_end()));
        match (&one_line(&self.reason), &one_line(&self.message)) {
            (Some(reason), Some(message)) if reason != message => Some(format!("{reason}: {message}")),
            (Some(one), _) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TraceBuilder;
    use crate::trace::record::manifest::Asked;

    #[test]
    fn a_stall_names_its_task() {
        let named = |message: &str| {
            SchedulerExit { message: Some(message.to_owned()), ..SchedulerExit::default() }.named_task()
        };
        assert_eq!(named("a[b[105] failed to run for 2.004s"), Some(("a[b".to_owned(), 105)));
        assert_eq!(named("watchdog failed to check in for 2.004s"), None);
    }

    #[test]
    fn an_error_names_its_task_wherever_it_stands_in_the_message() {
        let named = |message: &str| {
            SchedulerExit { message: Some(message.to_owned()), ..SchedulerExit::default() }.named_task()
        };
        assert_eq!(named("target CPU 1 not allowed for pinned[103]"), Some(("pinned".to_owned(), 103)));
        assert_eq!(named("task_ctx of many[200]: no room (128)"), Some(("many".to_owned(), 200)));
        assert_eq!(named("no room for pid 103, giving up"), Some((String::new(), 103)));
        assert_eq!(named("lost (pid=7)"), Some((String::new(), 7)));
        for nobody in ["invalid DSQ ID 0x7", "array[x] is odd", "pid", "rapid 12"] {
            assert_eq!(named(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn the_kernels_bits_of_an_exit_code_are_said_in_words() {
        let words = |code| SchedulerExit { code, ..SchedulerExit::default() }.code_in_words();
        assert_eq!(words(0), None);
        assert_eq!(words(-2).as_deref().map(|text| text.starts_with("exit code ")), Some(true));
        assert_eq!(words(7).as_deref(), Some("exit code 7"));
        let restart = words(1 << 48 | 1 << 32).expect("words");
        assert_eq!(restart, "exit code 0x1000100000000: CPU hotplug, it is to be started again");
    }

    /// A capture at `at_ms` of sched_ext as it was enabled for the `seq`th time, in this state, with this exit kind.
    fn at(
        run: TraceBuilder,
        at_ms: i64,
        kind: CaptureKind,
        (seq, state, exit_kind): (u64, &str, u64),
    ) -> TraceBuilder {
        let mut sample = crate::testing::sample("x", kind, at_ms, &[1, 1, 3]);
        if let Some(scx) = &mut sample.scx {
            scx.enable_seq = Some(seq);
            scx.state = state.to_owned();
            scx.exit_kind = exit_kind;
        }
        run.sample(sample)
    }

    fn exits(run: &TraceBuilder) -> Vec<(u64, Option<u64>, u64)> {
        let trace = run.trace();
        let ms = |at: GuestNs| at.0 / 1_000_000 - crate::testing::BODY_MS;
        let run = Run::load(&trace);
        run.scheduler_exits()
            .iter()
            .map(|exit| (ms(exit.at_ns), exit.back_at_ns.map(ms), exit.kind))
            .collect()
    }

    #[test]
    fn every_time_that_the_scheduler_was_away_is_found_with_its_return() {
        let exit = CaptureKind::SchedulerExit;
        let run = at(TraceBuilder::begun(), 1000, exit, (1, "disabled", 66));
        let run = run.stage(1400, Stage::SchedulerRestarted, "demo");
        let run = at(run, 2000, CaptureKind::Periodic, (2, "enabled", 0));
        let run = at(run, 3000, exit, (2, "disabled", 1026));
        assert_eq!(exits(&run.ended()), [(1000, Some(1400), 66), (3000, None, 1026)]);
    }

    #[test]
    fn captures_tell_of_a_second_exit_that_nobody_noticed() {
        let (exit, periodic) = (CaptureKind::SchedulerExit, CaptureKind::Periodic);
        let restarted = || {
            let run = at(TraceBuilder::begun(), 500, periodic, (1, "enabled", 0));
            let run = at(run, 900, periodic, (1, "disabling", 66));
            let run = at(run, 1000, exit, (1, "disabled", 66));
            let run = run.stage(1400, Stage::SchedulerRestarted, "demo");
            at(run, 2000, periodic, (2, "enabled", 0))
        };
        let noticed = (1000, Some(1400), 66);
        assert_eq!(exits(&restarted()), [noticed]);
        for odd in [(3, "enabled", 0), (2, "disabled", 1026)] {
            let run = at(restarted(), 3000, periodic, odd);
            assert_eq!(exits(&run), [noticed, (3000, None, odd.2)], "{odd:?}");
        }
        // It was away and back between two captures, before the exit that was noticed.
        let enabled = TraceBuilder::new().stage(-100, Stage::SchedulerEnabled, "demo");
        let run = at(enabled, 300, periodic, (1, "enabled", 0));
        let mut run = at(run, 600, periodic, (2, "enabled", 0));
        run.manifest.test.asked = Some(Asked::default());
        let run = at(run, 1000, exit, (2, "disabled", 1026));
        assert_eq!(exits(&run), [(600, None, 0), (1000, None, 1026)]);
    }

    #[test]
    fn captures_tell_of_an_exit_that_nobody_noticed() {
        let periodic = CaptureKind::Periodic;
        let steady = at(
            at(TraceBuilder::new(), -90, CaptureKind::Attach, (1, "enabled", 0)),
            500,
            periodic,
            (1, "enabled", 0),
        )
        .stage(-100, Stage::SchedulerEnabled, "demo");
        assert_eq!(exits(&steady), []);
        for odd in [(2, "enabled", 0), (1, "disabling", 0), (1, "enabled", 64)] {
            let run = at(TraceBuilder::new(), -90, CaptureKind::Attach, (1, "enabled", 0));
            let mut run = at(run, 500, periodic, odd).stage(-100, Stage::SchedulerEnabled, "demo");
            run.manifest.test.asked = Some(Asked::default());
            assert_eq!(exits(&run).first().map(|exit| exit.0), Some(500), "{odd:?}");
        }
    }
}
