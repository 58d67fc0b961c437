//! What a run failed of that can be made to happen again: the end of its scheduler, or of one below it.

use crate::run::{Checkpoints, Run, STALL_KIND, STALL_REASON, SchedulerExit, SubSchedulerFailure};

/// How a scheduler ended that should not have.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The scheduler under test.
    Root(SchedulerExit),
    /// One below the root.
    Below(Box<SubSchedulerFailure>),
}

impl Failure {
    /// That of `run`, whose checkpoints these are, if it has any. An end of the scheduler under test takes those below it with it, and
    /// so comes before theirs, unless the test expects it.
    pub(super) fn of(run: &Run<'_>, checkpoints: Option<&Checkpoints<'_>>) -> Option<Self> {
        let root = run.scheduler_exit().filter(|exit| exit.is_crash || !exit.is_orderly());
        let is_expected = |exit: &SchedulerExit| {
            run.manifest.test.expect_scx_exit.as_deref().is_some_and(|kind| exit.is_of_kind(kind))
        };
        if let Some(exit) = root.filter(|exit| !is_expected(exit)) {
            return Some(Self::Root(exit.clone()));
        }
        let below = SubSchedulerFailure::of(run, checkpoints).map(|below| Self::Below(Box::new(below)));
        below.or_else(|| root.cloned().map(Self::Root))
    }

    /// How it ended.
    pub(super) fn exit(&self) -> &SchedulerExit {
        match self {
            Self::Root(exit) => exit,
            Self::Below(below) => &below.exit,
        }
    }

    /// In words, with whose end it is where that is not the scheduler under test.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Root(exit) => exit.in_words(),
            Self::Below(below) => below.end_in_words(),
        }
    }

    /// Whether the kernel's watchdog found that a task had waited for too long.
    pub(super) fn is_stall(&self) -> bool {
        let exit = self.exit();
        exit.is_of_kind(STALL_KIND) || exit.reason.as_deref() == Some(STALL_REASON)
    }

    /// Whether `other` is the same failure: of the same scheduler, with an error of the same kind, or, where the kernel has none, with
    /// its process ended in the same way.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Root(exit), Self::Root(other)) => is_same_exit(exit, other),
            (Self::Below(below), Self::Below(other)) => below.is_like(other),
            _ => false,
        }
    }
}

fn is_same_exit(one: &SchedulerExit, other: &SchedulerExit) -> bool {
    if one.is_crash || other.is_crash {
        return one.is_crash && other.is_crash && one.process == other.process;
    }
    one.kind == other.kind && (one.kind != 0 || one.process == other.process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repro::{Chain, NoChain, is_same_failure};
    use crate::testing::{TraceBuilder, stalled};
    use crate::trace::Trace;
    use crate::trace::record::{EventBody, SchedulerMaps};

    const ERROR: &str = "sched_ext: BPF sub-scheduler \"sub\" disabled (scx_bpf_error)";

    /// The log of one below the root that gave up, at 2 s.
    fn gave_up(run: TraceBuilder) -> TraceBuilder {
        run.kmsg(1000, 6, "sched_ext: BPF sub-scheduler \"sub\" enabled")
            .kmsg(2000, 3, ERROR)
            .kmsg(2000, 3, "sched_ext: sub: no room for pid 103")
            .kmsg(2001, 4, "   scx_vexit+0x5c/0xb0")
            .kmsg(2001, 4, "   scx_bpf_error_bstr+0x7d/0x80")
            .kmsg(2001, 4, "   bpf_prog_0123456789abcdef_sub_enqueue+0x101/0x3f0")
            .kmsg(2001, 4, "   do_enqueue_task+0x13c/0x2d0")
    }

    fn seen(cgroup: &str) -> EventBody {
        EventBody::SchedulerMaps(Box::new(SchedulerMaps {
            scheduler: "sub".to_owned(),
            level: 1,
            cgroup: cgroup.to_owned(),
            maps: vec![7],
        }))
    }

    fn chain(trace: &Trace) -> Result<Chain, NoChain> {
        Chain::of(&Run::load(trace))
    }

    fn names(chain: &Chain) -> Vec<&str> {
        chain.targets.iter().map(|target| target.name.as_str()).collect()
    }

    #[test]
    fn of_an_end_below_the_log_alone_gives_a_chain() {
        let trace = gave_up(TraceBuilder::begun()).event(900, seen("/below")).ended().trace();
        let found = chain(&trace).expect("a chain");
        assert_eq!(found.failure, "sub on /below ended: scx_bpf_error: no room for pid 103");
        assert_eq!((found.below.as_slice(), found.after_ns), (&["/below".to_owned()][..], 2_000_000_000));
        assert_eq!(found.task, Some((String::new(), 103)));
        assert_eq!(
            names(&found)[..3],
            ["scheduler(/below)->exit_kind", "scx_bpf_error_bstr", "do_enqueue_task"]
        );
        // Each goes as it is to a watch or a probe.
        for target in &found.targets {
            let text = target.text();
            let is_read = match target.kind {
                crate::repro::TargetKind::Watch => text.parse::<crate::watch::WatchTarget>().is_ok(),
                crate::repro::TargetKind::Probe => text.parse::<crate::probe::ProbeTarget>().is_ok(),
            };
            assert!(is_read, "{text}");
        }
        // Nobody saw where it was: its name is all there is. Of two that are called so both are looked at.
        let trace = gave_up(TraceBuilder::begun()).ended().trace();
        assert_eq!(names(&chain(&trace).expect("a chain"))[0], "scheduler(sub)->exit_kind");
        let two = gave_up(TraceBuilder::begun()).event(900, seen("/a")).event(901, seen("/b"));
        let found = chain(&two.ended().trace()).expect("a chain");
        assert_eq!(names(&found)[..2], ["scheduler(/a)->exit_kind", "scheduler(/b)->exit_kind"]);
        assert!(found.failure.starts_with("sub-scheduler sub ended: "), "{}", found.failure);
    }

    #[test]
    fn what_is_no_failure_or_came_before_the_body_has_none() {
        let orderly = TraceBuilder::begun().kmsg(
            2000,
            6,
            "sched_ext: BPF sub-scheduler \"sub\" disabled (unregistered from user space)",
        );
        assert!(matches!(chain(&orderly.ended().trace()), Err(NoChain::NoFailure)));
        assert!(matches!(chain(&gave_up(TraceBuilder::new()).trace()), Err(NoChain::NoBody)));
        let back =
            || gave_up(TraceBuilder::begun()).kmsg(3000, 6, "sched_ext: BPF sub-scheduler \"sub\" enabled");
        let mut allowed = back();
        allowed.manifest.test.allow_restarts = true;
        assert!(matches!(chain(&allowed.ended().trace()), Err(NoChain::NoFailure)));
        assert!(chain(&back().ended().trace()).is_ok());
    }

    #[test]
    fn the_end_of_the_scheduler_under_test_comes_first_unless_it_is_expected() {
        let both = || gave_up(TraceBuilder::begun()).sample(stalled(2500, &[]));
        let found = chain(&both().ended().trace()).expect("a chain");
        assert!(found.below.is_empty() && found.failure.contains("ERROR_STALL"), "{found:?}");
        let mut expected = both();
        expected.manifest.test.expect_scx_exit = Some("ERROR_STALL".to_owned());
        let found = chain(&expected.ended().trace()).expect("a chain");
        assert_eq!(found.below, ["sub"]);
    }

    #[test]
    fn it_is_the_same_failure_of_the_same_scheduler_in_the_same_place() {
        let below = |reason: &str, cgroup: &str| {
            let line = ERROR.replace("scx_bpf_error", reason);
            TraceBuilder::begun().event(900, seen(cgroup)).kmsg(2000, 3, &line).ended().trace()
        };
        let first = below("scx_bpf_error", "/a");
        let root = TraceBuilder::begun().sample(stalled(2500, &[])).ended().trace();
        let other =
            TraceBuilder::begun().kmsg(2000, 3, &ERROR.replace("\"sub\"", "\"other\"")).ended().trace();
        let healthy = TraceBuilder::begun().ended().trace();
        let is_same = |second: &Trace| is_same_failure(&Run::load(&first), &Run::load(second));
        assert!(is_same(&below("scx_bpf_error", "/a")));
        for second in
            [&below("runnable task stall", "/a"), &below("scx_bpf_error", "/b"), &root, &other, &healthy]
        {
            assert!(!is_same(second));
            assert!(!is_same_failure(&Run::load(second), &Run::load(&first)));
        }
        assert!(is_same_failure(&Run::load(&root), &Run::load(&root)));
    }
}
