//! A session over a machine of the test's own.

use std::sync::Arc;

use ktstr_replay::trace::record::Manifest;
use ktstr_replay::trace::{Trace, TraceWriter};
use ktstr_replay::units::GuestPhys;

use super::*;
use crate::machine::GuestRam;
use crate::machine::testing::Stub;
use crate::recorder::capture::Profile;
use crate::recorder::request::{CheckpointPolicy, PageSelection};
use crate::recorder::writer::WriterThread;

/// The trace of a session whose machine ends at once, after this was done to it.
fn recorded(before: impl FnOnce(&mut Session<'_>)) -> Trace {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.trace.zst");
    let writer = TraceWriter::create(&path, &Manifest::default()).unwrap();
    let ram = Arc::new(GuestRam::new(&[16 << 20]).unwrap());
    let channel = HostChannel::new(ChannelRam::new(Arc::clone(&ram), GuestPhys(8 << 20)).unwrap());
    let plan = CapturePlan {
        periodic: 0,
        window: Duration::ZERO,
        gap_limit: None,
        failure_at: None,
        checkpoint: CheckpointPolicy::Never,
        pages: PageSelection::Kernel,
        history: false,
    };
    let profile = Profile::start(Arc::clone(&ram)).unwrap();
    let capturer = Capturer::new(profile, ram.ranges(), 8 << 20..16 << 20, &plan);
    let outbox = Outbox::new(WriterThread::start(writer).unwrap());
    let mut clock = RunClock::start();
    let machine = Box::new(Stub::that_mends(ram));
    let mut session = Session::new(machine, channel, capturer, outbox, &mut clock, plan, Duration::ZERO);
    before(&mut session);
    let ending = session.run(Duration::from_secs(60));
    let written = session.close(ending);
    written.writer.finish().unwrap();
    Trace::open(&path).unwrap()
}

/// A stop at a watch that a busy host heard of late is dated late, and the guest's own date of the next capture is before it.
#[test]
fn of_two_captures_the_later_one_is_after_the_other_however_they_are_dated() {
    let dated = [7_000, 5_000, 7_001, 9_000];
    let trace = recorded(|session| {
        for at in dated {
            let request =
                CaptureRequest { guest_ns: GuestNs(at), ..session.request("x".into(), CaptureKind::Watch) };
            let sample = session.capturer.missed(&request, "the test".into());
            session.outbox.capture(sample, None);
        }
    });
    let times: Vec<u64> =
        trace.samples().take(dated.len()).map(|sample| sample.unwrap().guest_ns.0).collect();
    assert_eq!(times, [7_000, 7_001, 7_002, 9_000]);
}

#[test]
fn an_order_that_has_no_room_is_told_and_puts_nothing_else_in_doubt() {
    let trace = recorded(|session| {
        // Nobody reads.
        while session.channel.send(&ToGuest::Captured { sample: 0 }, Instant::now()).is_ok() {}
        let at = (session.clock.guest_ns(), session.clock.host_ns());
        session.have_stats_asked(&Sample::new(1, "mine", CaptureKind::OnDemand, at.0, at.1));
    });
    let losses: Vec<_> =
        trace.losses().into_iter().filter(|loss| loss.detail.contains("of the capture mine")).collect();
    let [loss] = &losses[..] else { panic!("{losses:?}") };
    assert_eq!((loss.kind, loss.count), (LossKind::GuestFrames, 0));
}

#[test]
fn what_a_machine_mended_is_in_the_trace_to_its_end() {
    let trace = recorded(|_| ());
    let told: Vec<String> = trace
        .events()
        .into_iter()
        .filter_map(|event| match event.body {
            EventBody::Op { name, detail } if name == EventBody::MENDED => Some(detail),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("CPU 1 executed a breakpoint at 0xffffffff81000001 that was gone"), "{told:?}");
    assert!(told[1].contains("0xffffffff81000002"), "{told:?}");
}
