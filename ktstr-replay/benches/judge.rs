//! What judging and reporting cost: 20 claims over 200 samples, from the file to the report.

use std::path::PathBuf;

use ktstr_replay::claim::Claim;
use ktstr_replay::judge::CheckSource;
use ktstr_replay::report::render;
use ktstr_replay::run::Run;
use ktstr_replay::testing::TraceBuilder;
use ktstr_replay::trace::Trace;

const CLAIMS: [&str; 20] = [
    "nondecreasing(nr_dispatched)",
    "strictly_increasing(nr_dispatched)",
    "nondecreasing(nr_enqueued)",
    "rate(nr_dispatched) in 0.1..100 per s",
    "rate(bss.nr_enqueued) >= 0 per ms",
    "steady(stats.nr[2], within=10%, after=1s)",
    "converges(stats.nr[2], to=3, tol=1, by=50s)",
    "always(alive)",
    "always(nr_dispatched)",
    "eventually(nr_dispatched >= 100, by=90s)",
    "each(nr_dispatched >= 1)",
    "each(stats.nr[0] in 0..100)",
    "each(stats.max_ns <= 1000000)",
    "final(nr_dispatched >= 100)",
    "ratio(nr_enqueued, nr_dispatched) in 0.9..=1.1",
    "never(nr_dispatched > 1000 while nr_enqueued == 0)",
    "nondecreasing(map(tasks).key(103).vtime)",
    "each(map(tasks).key(104).runs == 9)",
    "nondecreasing(cpu_sum(map(cpu_ctx).at(0).runs))",
    "each(scx.exit_kind == 0)",
];

fn main() {
    divan::main();
}

/// A trace of 200 samples and 20 claims.
fn demo() -> (tempfile::TempDir, PathBuf) {
    let values: Vec<u64> = (1..=200).map(|i| i * 5).collect();
    // A sample every half a second.
    let run = TraceBuilder::begun().periodic(&values).ended_at(100_500);
    let builder = CLAIMS.iter().fold(run, |b, claim| b.claim(claim));
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let path = dir.path().join("demo.trace.zst");
    builder.write(&path);
    (dir, path)
}

/// What `ktstr replay TRACE --assert` does.
#[divan::bench]
fn open_judge_and_render(bencher: divan::Bencher<'_, '_>) {
    let (_dir, path) = demo();
    bencher.bench_local(|| {
        let trace = Trace::open(&path).expect("the trace opens");
        let run = Run::load(&trace);
        let verdict = run.judge(None, CheckSource::Recorded);
        let report = render(&run, &verdict);
        assert_eq!(verdict.exit_code(), 0, "{report}");
        report
    });
}

/// What `ktstr replay --assert` does with as many small traces as a campaign leaves, on one CPU.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn a_thousand_small_traces(bencher: divan::Bencher<'_, '_>) {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let builder = TraceBuilder::begun().periodic(&[1, 2, 3, 4, 5]).claim(CLAIMS[0]).ended();
    let paths: Vec<PathBuf> = (0..1000).map(|n| dir.path().join(format!("{n}.trace.zst"))).collect();
    paths.iter().for_each(|path| builder.write(path));
    bencher.bench_local(|| {
        for path in &paths {
            let trace = Trace::open(path).expect("the trace opens");
            let run = Run::load(&trace);
            assert_eq!(run.judge(None, CheckSource::Recorded).exit_code(), 0);
        }
    });
}

#[divan::bench]
fn load(bencher: divan::Bencher<'_, '_>) {
    let (_dir, path) = demo();
    let trace = Trace::open(&path).expect("the trace opens");
    bencher.bench_local(|| Run::load(&trace));
}

#[divan::bench]
fn judge(bencher: divan::Bencher<'_, '_>) {
    let (_dir, path) = demo();
    let trace = Trace::open(&path).expect("the trace opens");
    let run = Run::load(&trace);
    bencher.bench_local(|| run.judge(None, CheckSource::Recorded));
}

#[divan::bench]
fn parse_twenty_claims() -> usize {
    CLAIMS.iter().filter(|text| divan::black_box(text).parse::<Claim>().is_ok()).count()
}
