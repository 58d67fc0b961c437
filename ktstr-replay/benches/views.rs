//! What looking into a recorded kernel costs, from the file on: a view opens the trace, reads symbols and types out of it, and
//! decodes the pages that it walks over.
//!
//! No trace with memory is small enough to be committed: `KTSTR_TRACE=FILE cargo bench -p ktstr-replay --bench views`, or
//! nothing is measured. One of a scheduler that stalled shows the whole report.

use std::path::PathBuf;

use divan::Bencher;
use ktstr_replay::judge::{Checks, Run};
use ktstr_replay::report::render;
use ktstr_replay::trace::Trace;
use ktstr_replay::view::{Stops, View};
use ktstr_replay::why;

fn main() {
    if path().is_none() {
        eprintln!("views: nothing is measured; KTSTR_TRACE is to name a trace with checkpoints");
        return;
    }
    divan::main();
}

fn path() -> Option<PathBuf> {
    std::env::var_os("KTSTR_TRACE").map(PathBuf::from)
}

fn show(views: &[View]) -> usize {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    let run = Run::load(&trace);
    let stops = Stops::of(&run).expect("it has checkpoints");
    let stop = stops.at(None).expect("a checkpoint");
    views.iter().map(|view| view.show(&stop).expect("the view").lines.len()).sum()
}

/// Opening and all that a view needs, without one.
#[divan::bench]
fn open() -> usize {
    show(&[])
}

/// To be at most 150 ms, with maps.
#[divan::bench]
fn open_tasks_and_queues() -> usize {
    show(&[View::Tasks, View::Dsqs])
}

#[divan::bench(args = [View::Tasks, View::Runqueues, View::Dsqs, View::Scx, View::Cgroups, View::CpuTime, View::Dmesg])]
fn view(bencher: Bencher<'_, '_>, view: &View) {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    let run = Run::load(&trace);
    let stops = Stops::of(&run).expect("it has checkpoints");
    let stop = stops.at(None).expect("a checkpoint");
    bencher.bench_local(|| view.show(&stop).expect("the view").lines.len());
}

/// To be at most 300 ms.
#[divan::bench]
fn open_judge_and_report() -> usize {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    let run = Run::load(&trace);
    let verdict = run.judge(None, Checks::Recorded);
    render(&run, &verdict).len()
}

#[divan::bench]
fn open_and_why() -> usize {
    let trace = Trace::open(&path().expect("a path")).expect("the trace opens");
    let run = Run::load(&trace);
    let verdict = run.judge(None, Checks::Recorded);
    why::tell(&run, &verdict).expect("a story").render().len()
}
