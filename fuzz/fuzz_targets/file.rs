//! A whole trace: opened, every accessor, verified, judged, compared, every view, exported, repaired, slimmed.
//!
//! The first byte says whether the rest is a file as it is, or one to be packed and sealed (see the library), and what
//! is done with it that needs files.
#![no_main]

use ktstr_fuzz::pack;
use ktstr_replay::export::vmcore::write_vmcore;
use ktstr_replay::judge::CheckSource;
use ktstr_replay::run::Run;
use ktstr_replay::memory::Memory;
use ktstr_replay::trace::record::BlobRole;
use ktstr_replay::slim::{Dropped, KeepCheckpoints, KeepPages, SlimOptions, slim};
use ktstr_replay::trace::{Trace, repair};
use ktstr_replay::units::GuestPhys;
use ktstr_replay::run::Checkpoints;
use ktstr_replay::view::{View, show_stats};
use ktstr_replay::{diff, export, report, why};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((how, rest)) = input.split_first() else { return };
    let bytes = if how & 1 == 0 { rest.to_vec() } else { pack(rest) };
    let Ok(trace) = Trace::from_bytes(bytes.clone()) else { return };
    let _ = (trace.manifest(), trace.stamp(), trace.trace_id(), trace.len_bytes(), trace.verdict_json());
    let _ = (trace.events(), trace.claims(), trace.losses(), trace.clocks(), trace.samples().count());
    for role in BlobRole::ALL {
        for id in trace.blobs(role) {
            let _ = trace.blob(&id);
        }
    }
    for info in trace.checkpoints().into_iter().take(16) {
        let Ok(memory) = trace.checkpoint_memory(info.index) else { continue };
        let mut page = [0; 4096];
        for range in memory.populated().into_iter().take(64) {
            let _ = memory.read(GuestPhys(range.start), &mut page);
        }
        let _ = memory.left_out();
    }
    let verified = trace.verify();
    let run = Run::load(&trace);
    let verdict = run.judge(None, CheckSource::Recorded);
    let _ = (report::render(&run, &verdict), why::explain(&run, &verdict).map(|why| why.render()));
    let _ = (show_stats(&run, None), show_stats(&run, Some("0s")));
    let differences = diff::diff(&run, &run, diff::Part::ALL);
    let _ = differences.text();
    export::json_lines(&run, &mut std::io::sink()).expect("a sink takes everything");
    let _ = export::series_csv(&run, &mut std::io::sink());
    let _ = export::events_csv(&run, &mut std::io::sink());
    if let Ok(stops) = Checkpoints::of(&run) {
        for info in stops.all().iter().take(2) {
            let Ok(stop) = stops.open(*info) else { continue };
            for view in View::plain() {
                let _ = view.show(&stop);
            }
            let _ = View::Map { wanted: "demo.bss".to_owned(), follow: true }.show(&stop);
            if how & 4 != 0 {
                let dir = tempfile::tempdir().expect("a temporary folder");
                let _ = write_vmcore(&stop, &dir.path().join("core"));
            }
        }
    }
    // Files are slow: not for each input.
    if how & 2 != 0 {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        std::fs::write(&old, &bytes).expect("a temporary file");
        if let Ok(repaired) = repair(&old, &new) {
            assert_eq!(std::fs::read(&old).expect("the old file"), bytes, "repair touched the old file");
            let fresh = Trace::open(&new).expect("a repaired trace opens");
            assert!(fresh.is_finalized(), "a repaired trace is finished: {repaired:?}, {verified:?}");
        } else {
            assert!(!new.exists(), "half a repaired trace was left");
        }
        let slimmed = dir.path().join("slim");
        let dropping = SlimOptions {
            level: 1,
            drop: vec![Dropped::Console, Dropped::Kmsg],
            keep: KeepCheckpoints::Last(1),
            pages: if how & 8 == 0 { KeepPages::Lean } else { KeepPages::Kernel },
            redact: how & 16 != 0,
        };
        let options =
            if how & 4 == 0 { SlimOptions { level: 1, ..SlimOptions::default() } } else { dropping };
        if slim(&old, &slimmed, &options).is_ok() {
            assert!(Trace::open(&slimmed).expect("a slimmed trace opens").verify().is_clean());
        }
        assert_eq!(std::fs::read(&old).expect("the old file"), bytes, "slim touched the old file");
    }
});
