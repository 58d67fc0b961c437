//! The end of a scheduler below the root by an error: what the kernel's log tells of it, and what the captures and the memory near it have
//! besides.

use std::collections::BTreeSet;

use super::exit::SCX_EXIT_ERROR;
use super::{Checkpoints, Run, SchedulerExit, SubSchedulerNews};
use crate::kernel::scx::{Scheduler, read_schedulers};
use crate::text::escaped;
use crate::trace::CheckpointInfo;
use crate::trace::record::scheduler_maps::SchedulerMapsV1;
use crate::trace::record::{CaptureKind, EventBody, SchedulerMaps};

/// Checkpoints after the end in which it is looked for: its loader holds it for a while.
const AFTER: usize = 3;
/// Checkpoints before the end in which it is looked for, where none after it has it.
const BEFORE: usize = 8;

/// A scheduler below the root that ended by an error.
#[derive(Clone, Debug)]
pub(crate) struct SubSchedulerFailure {
    /// How it ended. Its kind, code and dump are those of memory, where that has them; without a dump it has the log's backtrace.
    pub exit: SchedulerExit,
    /// The schedulers that it may be, by name, level and cgroup, without maps: one where it can be told apart, none where no capture saw it.
    pub which: Vec<SchedulerMaps>,
    /// Its name, also where nothing else is known.
    pub name: String,
    /// The checkpoint that has its programs.
    pub checkpoint: Option<CheckpointInfo>,
}

impl SubSchedulerFailure {
    /// The first one of `run`; `None` where there was none. `checkpoints`: those of the run, if it has any. Memory that cannot be read
    /// tells nothing.
    pub(crate) fn of(run: &Run<'_>, checkpoints: Option<&Checkpoints<'_>>) -> Option<Self> {
        let news = run.sub_scheduler_failures().into_iter().next()?;
        let end = news.end.as_ref()?;
        let backtrace = end.backtrace.iter().map(|frame| format!("  {frame}\n")).collect::<String>();
        let exit = SchedulerExit {
            at_ns: news.at,
            reason: Some(end.reason.clone()),
            message: end.message.clone(),
            dump: (!backtrace.is_empty()).then(|| format!("Backtrace:\n{backtrace}")),
            ..SchedulerExit::default()
        };
        let mut found = Self { exit, which: Vec::new(), name: news.name.clone(), checkpoint: None };
        if let Some(checkpoints) = checkpoints {
            found.look(run, &news, checkpoints);
        }
        if found.which.is_empty() {
            found.which = of_events(run, &news.name);
        }
        Some(found)
    }

    /// Look for it in memory.
    fn look(&mut self, run: &Run<'_>, news: &SubSchedulerNews, checkpoints: &Checkpoints<'_>) {
        let (before, mut after): (Vec<&CheckpointInfo>, Vec<_>) =
            checkpoints.all().iter().partition(|info| info.guest_ns < news.at);
        // That of the capture for such an end first, however many others a busy watch had taken.
        let kind = |info: &CheckpointInfo| Some(run.sample(info.sample?)?.kind);
        after.sort_by_key(|info| kind(info) != Some(CaptureKind::SubSchedulerExit));
        // One that cannot be read tells nothing, and others may.
        let of_name = |info: &CheckpointInfo| -> Vec<Scheduler> {
            let Ok(checkpoint) = checkpoints.open(*info) else { return Vec::new() };
            let all = read_schedulers(&checkpoint.kernel()).unwrap_or_default().schedulers;
            let is_it = |one: &Scheduler| one.level > Some(0) && one.name.as_ref() == Some(&news.name);
            all.into_iter().filter(is_it).collect()
        };
        for info in after.into_iter().take(AFTER) {
            let mut dead = of_name(info);
            let reason = self.exit.reason.as_deref();
            dead.retain(|one| one.exit_kind >= SCX_EXIT_ERROR && one.exit_reason.as_deref() == reason);
            let said = |one: &Scheduler| {
                one.exit_message.as_deref().map(str::trim_end) == self.exit.message.as_deref()
            };
            if dead.iter().any(said) {
                dead.retain(said);
            }
            if let Some(one) = dead.first() {
                self.which = identities(&dead);
                self.checkpoint = Some(*info);
                if self.which.len() == 1 {
                    self.exit.kind = one.exit_kind;
                    self.exit.kind_name.clone_from(&one.exit_kind_name);
                    self.exit.code = one.exit_code.unwrap_or_default();
                    self.exit.sample = info.sample;
                    let dump = one.exit_dump.clone().filter(|dump| !dump.trim().is_empty());
                    self.exit.dump = dump.or(self.exit.dump.take());
                }
                return;
            }
        }
        for info in before.into_iter().rev().take(BEFORE) {
            let there = of_name(info);
            if !there.is_empty() {
                self.which = identities(&there);
                self.checkpoint = Some(*info);
                return;
            }
        }
    }

    /// What paths call it, in `scheduler(..)`; its name where no more is known.
    pub(crate) fn path_names(&self) -> Vec<&str> {
        match self.which.as_slice() {
            [] => vec![&self.name],
            which => which.iter().map(SchedulerMapsV1::path_name).collect(),
        }
    }

    /// What it is called, on one line: `qmap on /below`.
    pub(crate) fn in_words(&self) -> String {
        match self.which.as_slice() {
            [one] => escaped(&one.in_words()),
            _ => format!("sub-scheduler {}", escaped(&self.name)),
        }
    }

    /// How it ended: `qmap on /below ended: SCX_EXIT_ERROR_BPF (1025): scx_bpf_error: it gave up`.
    pub(crate) fn end_in_words(&self) -> String {
        // Where memory does not have it, there is the log's word and no kind.
        let end = match self.exit.kind {
            0 => self.exit.cause().unwrap_or_default(),
            _ => self.exit.in_words(),
        };
        format!("{} ended: {end}", self.in_words())
    }

    /// Whether `other` is the end of the same scheduler, of the same kind.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let same_place = match (self.which.as_slice(), other.which.as_slice()) {
            ([one], [other]) => one.cgroup == other.cgroup,
            _ => true,
        };
        self.name == other.name && self.exit.reason == other.exit.reason && same_place
    }
}

fn identities(of: &[Scheduler]) -> Vec<SchedulerMaps> {
    let one = |one: &Scheduler| SchedulerMaps {
        scheduler: one.name.clone().unwrap_or_default(),
        level: one.level.and_then(|level| u32::try_from(level).ok()).unwrap_or(1),
        cgroup: one.cgroup.clone().unwrap_or_default(),
        maps: Vec::new(),
    };
    let mut found: Vec<SchedulerMaps> = of.iter().map(one).collect();
    found.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
    found.dedup();
    found
}

/// The sub-schedulers of that name whose maps a capture saw.
fn of_events(run: &Run<'_>, name: &str) -> Vec<SchedulerMaps> {
    let seen = run.events.iter().filter_map(|event| match &event.body {
        EventBody::SchedulerMaps(one) if one.level > 0 && one.scheduler == name => Some(&one.cgroup),
        _ => None,
    });
    let cgroups: BTreeSet<&String> = seen.collect();
    let one = |cgroup: &String| SchedulerMaps {
        scheduler: name.to_owned(),
        level: 1,
        cgroup: cgroup.clone(),
        maps: Vec::new(),
    };
    cgroups.into_iter().map(one).collect()
}
