//! From the guest channel's messages to the trace's events.

use guest_init::message::{
    FromTest, GuestStage, Latencies as GuestLatencies, Source, ToHost, WorkerDetail as GuestDetail,
    WorkerReport as GuestReport,
};
use ktstr_replay::trace::record::{
    EventBody, Latencies, NodePages, OutputSource, PayloadEnd, PayloadRun, Stage, StatsAnswer, WorkerDetail,
    WorkerReport,
};
use ktstr_replay::units::{Cpu, GuestNs};
use rkyv::rancor;
use rkyv::util::AlignedVec;

use crate::machine::StaleBreakpoint;

/// The event that a message of init stands for; `None` for messages that are not events (captures, ready).
pub(super) fn of_message(message: ToHost) -> Option<EventBody> {
    Some(match message {
        ToHost::Stage { stage, detail } => EventBody::Stage { stage: stage_of(stage), detail },
        ToHost::Output { source, stderr, bytes } => {
            let source = match source {
                Source::Scheduler => OutputSource::Scheduler,
                Source::Test => OutputSource::Test,
                Source::Init => OutputSource::Init,
            };
            EventBody::Output { source, stderr, bytes }
        }
        ToHost::Kmsg { level, sequence, kernel_ns, text } => {
            EventBody::Kmsg { level, sequence, kernel_ns, text }
        }
        ToHost::Stats { sample, target, asked_ns, line, fault } => EventBody::Stats(Box::new(StatsAnswer {
            sample,
            target,
            asked_ns: GuestNs(asked_ns),
            line,
            fault,
        })),
        ToHost::Ready { release } => EventBody::Stage { stage: Stage::Ready, detail: release },
        ToHost::Test(_) | ToHost::Capture { .. } | ToHost::Dropped { .. } | ToHost::Pages { .. } => {
            return None;
        }
    })
}

/// The event of a breakpoint at `place` that the machine executed by mistake.
pub(super) fn of_stale_breakpoint(stale: StaleBreakpoint, place: &str) -> EventBody {
    let StaleBreakpoint { vcpu, replaced, at: _ } = stale;
    let how = if replaced { "was gone" } else { EventBody::UNKNOWN_BREAKPOINT };
    EventBody::Op {
        name: EventBody::MENDED.to_owned(),
        detail: format!(
            "CPU {vcpu} executed a breakpoint at {place} that {how}; the instruction was executed again"
        ),
    }
}

fn stage_of(stage: GuestStage) -> Stage {
    match stage {
        GuestStage::JobUnpacked => Stage::JobUnpacked,
        GuestStage::SchedulerStarted => Stage::SchedulerStarted,
        GuestStage::SchedulerEnabled => Stage::SchedulerEnabled,
        GuestStage::SchedulerRestarted => Stage::SchedulerRestarted,
        GuestStage::SchedulerExited => Stage::SchedulerExited,
        GuestStage::TestExited => Stage::TestExited,
        GuestStage::PoweringOff => Stage::PoweringOff,
        GuestStage::Failed => Stage::InitFailed,
    }
}

/// What the test binary said, checked.
pub(super) fn decode_test(bytes: &[u8]) -> Result<FromTest, String> {
    let mut aligned = AlignedVec::<16>::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    rkyv::from_bytes::<FromTest, rancor::Error>(&aligned)
        .map_err(|error| format!("a message of the test binary cannot be read: {error}"))
}

/// The events that a message of the test binary stands for; none for requests that init answers itself.
pub(super) fn of_test(message: FromTest) -> Vec<EventBody> {
    vec![match message {
        FromTest::BodyStarted => EventBody::Stage { stage: Stage::BodyStarted, detail: String::new() },
        FromTest::BodyEnded { error, failures } => {
            let ended = EventBody::Stage { stage: Stage::BodyEnded, detail: String::new() };
            return vec![EventBody::Body { error, failures }, ended];
        }
        FromTest::PhaseBegin { index, name } => EventBody::PhaseBegin { index, name },
        FromTest::PhaseEnd { index } => EventBody::PhaseEnd { index },
        FromTest::Op { name, detail } => EventBody::Op { name, detail },
        FromTest::Worker(report) => {
            let (report, detail) = recorded_worker(*report);
            return vec![EventBody::Worker(report), EventBody::WorkerDetail(Box::new(detail))];
        }
        FromTest::Payload(archive) => match payload(&archive) {
            Ok(run) => EventBody::Payload(Box::new(run)),
            // A run all the same: one that nobody judges would be one that went well.
            Err(error) => EventBody::Payload(Box::new(PayloadRun {
                name: UNREAD_PAYLOAD.to_owned(),
                end: PayloadEnd::Lost,
                fault: Some(format!("what the test said of it cannot be read: {error}")),
                ..PayloadRun::default()
            })),
        },
        FromTest::Capture { .. }
        | FromTest::Scheduler(_)
        | FromTest::Watch(_)
        | FromTest::Probe(_)
        | FromTest::Memory(_) => {
            return Vec::new();
        }
    }]
}

/// What a payload is called whose run could not be read. No payload of an author has such a name.
const UNREAD_PAYLOAD: &str = "(unknown)";

fn payload(archive: &[u8]) -> Result<PayloadRun, String> {
    let mut aligned = AlignedVec::<16>::with_capacity(archive.len());
    aligned.extend_from_slice(archive);
    rkyv::from_bytes::<PayloadRun, rancor::Error>(&aligned).map_err(|error| error.to_string())
}

/// A report of the guest as the trace has it, and what the worker measured besides.
pub fn recorded_worker(report: GuestReport) -> (WorkerReport, WorkerDetail) {
    // Captured apart by name, so that a field added on one side only does not compile.
    let GuestReport {
        index,
        pid,
        cgroup,
        work,
        work_units,
        iterations,
        cpu_ns,
        wall_ns,
        max_gap_ns,
        max_gap_at_ns,
        run_delay_ns,
        migrations,
        cpus_used,
        fault,
        detail,
    } = report;
    let detail = worker_detail(pid, detail);
    let report = WorkerReport {
        index,
        pid,
        cgroup,
        work,
        work_units,
        iterations,
        cpu_ns,
        wall_ns,
        max_gap_ns,
        max_gap_at_ns,
        run_delay_ns,
        migrations,
        cpus_used: cpus_used.into_iter().map(Cpu).collect(),
        fault,
    };
    (report, detail)
}

fn worker_detail(pid: u32, detail: GuestDetail) -> WorkerDetail {
    let GuestDetail {
        policy,
        is_thread,
        max_off_cpu_ns,
        minor_faults,
        major_faults,
        voluntary_switches,
        involuntary_switches,
        wakes,
        timers,
        node_pages,
        cross_node_migrations,
    } = detail;
    WorkerDetail {
        pid,
        policy,
        is_thread,
        max_off_cpu_ns,
        minor_faults,
        major_faults,
        voluntary_switches,
        involuntary_switches,
        wakes: latencies(wakes),
        timers: latencies(timers),
        node_pages: node_pages.into_iter().map(|(node, pages)| NodePages { node, pages }).collect(),
        cross_node_migrations,
    }
}

fn latencies(latencies: GuestLatencies) -> Latencies {
    let GuestLatencies { total, sum_ns, max_ns, samples_ns } = latencies;
    Latencies { total, sum_ns, max_ns, samples_ns }
}

#[cfg(test)]
mod tests {
    use ktstr_replay::units::KernelVirt;

    use super::*;

    #[test]
    fn what_a_test_says_crosses_whole() {
        let report = GuestReport {
            index: 1,
            pid: 2,
            cgroup: "cg_0".to_owned(),
            work: "SpinWait".to_owned(),
            work_units: 3,
            iterations: 4,
            cpu_ns: 5,
            wall_ns: 6,
            max_gap_ns: 7,
            max_gap_at_ns: 8,
            run_delay_ns: 9,
            migrations: 10,
            cpus_used: vec![0, 1],
            fault: Some("killed".to_owned()),
            detail: GuestDetail { policy: "Ext".to_owned(), minor_faults: 11, ..GuestDetail::default() },
        };
        let bytes = rkyv::to_bytes::<rancor::Error>(&FromTest::Worker(Box::new(report))).unwrap();
        let said = decode_test(&bytes).unwrap();
        let events = of_test(said);
        let [EventBody::Worker(report), EventBody::WorkerDetail(detail)] = events.as_slice() else {
            panic!("not a report with its detail: {events:?}")
        };
        assert_eq!((detail.pid, detail.policy.as_str(), detail.minor_faults), (2, "Ext", 11));
        assert_eq!((report.index, report.pid, report.work_units, report.iterations), (1, 2, 3, 4));
        assert_eq!((report.cpu_ns, report.wall_ns, report.max_gap_ns, report.max_gap_at_ns), (5, 6, 7, 8));
        assert_eq!(
            (report.run_delay_ns, report.migrations, &report.cpus_used),
            (9, 10, &vec![Cpu(0), Cpu(1)])
        );
        assert_eq!((report.cgroup.as_str(), report.work.as_str()), ("cg_0", "SpinWait"));
        assert_eq!(report.fault.as_deref(), Some("killed"));
    }

    #[test]
    fn a_payloads_run_crosses_whole_and_bytes_that_are_none_are_told() {
        let run = PayloadRun { name: "fio".to_owned(), exit_code: Some(3), ..PayloadRun::default() };
        let archive = rkyv::to_bytes::<rancor::Error>(&run).unwrap().to_vec();
        for odd in [0, 1] {
            // Wherever the archive lies in the message.
            let message = [vec![0; odd], archive.clone()].concat();
            let events = of_test(FromTest::Payload(message[odd..].to_vec()));
            assert_eq!(events, [EventBody::Payload(Box::new(run.clone()))]);
        }
        let events = of_test(FromTest::Payload(vec![0xff; 64]));
        let [EventBody::Payload(run)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((run.name.as_str(), run.end), (UNREAD_PAYLOAD, PayloadEnd::Lost));
        assert!(run.fault.as_deref().is_some_and(|why| why.contains("cannot be read: ")), "{run:?}");
    }

    #[test]
    fn a_stale_breakpoint_is_an_event_of_its_own_name() {
        let mut stale = StaleBreakpoint { vcpu: Cpu(2), at: KernelVirt(1), replaced: true };
        let text = |stale| match of_stale_breakpoint(stale, "sched_tick+0x1d") {
            EventBody::Op { name, detail } => format!("{name}: {detail}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            text(stale),
            "the emulator's fault, mended: CPU 2 executed a breakpoint at sched_tick+0x1d that was gone; the instruction \
             was executed again"
        );
        stale.replaced = false;
        assert!(text(stale).contains("that the kernel did not know of"), "{}", text(stale));
    }

    #[test]
    fn bytes_that_are_no_message_are_an_error() {
        for bytes in [&b""[..], &[0xff; 7], &[0xff; 64]] {
            assert!(decode_test(bytes).unwrap_err().contains("cannot be read"));
        }
    }
}
