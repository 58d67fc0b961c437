//! `ktstr replay` as a user runs it, on traces that a live run could have written.

mod travel;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ktstr_replay::judge::CheckSource;
use ktstr_replay::report::{provenance, render};
use ktstr_replay::run::Run;
use ktstr_replay::testing::TraceBuilder;
use ktstr_replay::trace::record::CaptureKind;
use tempfile::TempDir;

/// A trace on disk, judged as a live run judges it.
struct Recorded {
    _dir: TempDir,
    path: PathBuf,
    /// What the live run printed.
    live: String,
}

fn record(builder: &TraceBuilder) -> Recorded {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("demo.trace.zst");
    let mut live = String::new();
    builder.write_judged(&path, |trace| {
        let run = Run::load(trace);
        let verdict = run.judge(None, CheckSource::Fresh(&[]));
        live = render(&run, &verdict) + &provenance(&path);
        verdict
    });
    Recorded { _dir: dir, path, live }
}

fn steady() -> TraceBuilder {
    TraceBuilder::begun().periodic(&[10, 20, 30]).ended().claim("nondecreasing(nr_dispatched)")
}

fn replay(path: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ktstr"));
    let Output { status, stdout, stderr } =
        command.arg("replay").arg(path).args(args).output().expect("ktstr starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

#[test]
fn with_and_without_assert_it_prints_what_the_live_run_printed() {
    for (builder, code) in [(steady(), 0), (TraceBuilder::stall(), 1), (TraceBuilder::begun(), 2)] {
        let recorded = record(&builder);
        for args in [&[][..], &["--assert"]] {
            assert_eq!(
                replay(&recorded.path, args),
                (code, recorded.live.clone(), String::new()),
                "{args:?}"
            );
        }
    }
}

#[test]
fn given_claims_are_judged_in_place_of_the_recorded_ones() {
    let recorded = record(&steady());
    let (code, out, _) = replay(&recorded.path, &["--assert", "each(nr_dispatched >= 20)", "always(alive)"]);
    assert_eq!(code, 1);
    assert!(out.contains("> periodic_000"), "{out}");
    assert!(out.contains("ok    always(alive)") && !out.contains("nondecreasing"), "{out}");
    let (code, ..) =
        replay(&recorded.path, &["--assert", "each(nr_dispatched >= 10)", "--assert", "always(alive)"]);
    assert_eq!(code, 0);
}

#[test]
fn without_claims_the_run_itself_is_judged() {
    let recorded = record(&TraceBuilder::stall());
    let (code, out, _) = replay(&recorded.path, &["--assert"]);
    assert_eq!(code, 1);
    assert!(
        out.starts_with("FAIL demo::two_cgroups: demo died at 1.500s: SCX_EXIT_ERROR_STALL (1026)"),
        "{out}"
    );
    assert!(out.contains("demo.bss.nr_dispatched  20"), "{out}");
}

#[test]
fn a_claim_with_a_slip_is_shown_with_a_caret_and_judges_nothing() {
    let recorded = record(&steady());
    let (code, out, err) = replay(&recorded.path, &["--assert", "nondecresing(nr_dispatched)"]);
    assert_eq!((code, out.as_str()), (3, ""));
    let expected = "error: no claim pattern is called `nondecresing`; did you mean `nondecreasing`?\n  \
                    | nondecresing(nr_dispatched)\n  | ^^^^^^^^^^^^\n";
    assert!(err.starts_with(expected), "{err}");
}

#[test]
fn an_unknown_variable_fails_with_candidates() {
    let recorded = record(&steady());
    let (code, out, _) = replay(&recorded.path, &["--assert", "nondecreasing(nr_dispached)"]);
    assert_eq!(code, 1);
    assert!(out.contains("did you mean `nr_dispatched`?"), "{out}");
    let (code, out, err) = replay(&recorded.path, &["--var", "nr_dispached"]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains("is in none of the 5 captures") && err.contains("did you mean"), "{err}");
}

#[test]
fn a_variable_is_printed_for_each_capture() {
    let recorded = record(&steady());
    let (code, out, _) =
        replay(&recorded.path, &["--var", "nr_dispatched", "--var", "cpu_sum(map(cpu_ctx).at(0).runs)"]);
    assert_eq!(code, 0);
    let expected = "\
sample           time  nr_dispatched  cpu_sum(map(cpu_ctx).at(0).runs)
attach        -0.050s              0                                 0
periodic_000   0.500s             10                                20
periodic_001   1.000s             20                                40
periodic_002   1.500s             30                                60
end            5.020s           1000                              2000
";
    assert_eq!(out, expected);
}

#[test]
fn statistics_are_shown_side_by_side_or_of_one_capture_without_any_checkpoint() {
    let answer = |nr: u32| format!(r#"{{"errno":0,"args":{{"resp":{{"nr_running":{nr},"busy":1.25}}}}}}"#);
    let builder = TraceBuilder::begun()
        .periodic(&[10])
        .stats(Ok(&answer(3)))
        .capture("probe", CaptureKind::OnDemand, 700, [20; 3])
        .stats(Err("no answer came within 2s of the capture"))
        .ended()
        .claim("each(stats(top).nr_running == 3)");
    let recorded = record(&builder);
    let (code, out, _) = replay(&recorded.path, &["--stats"]);
    let expected = "\
stats
  #  capture         time  asked after ms  took ms
  0  periodic_000  0.500s            10.0      5.0
  1  probe         0.700s            10.0      5.0  the scheduler's statistics did not come: no answer came within 2s of the capture

  member         #0
  busy        1.250
  nr_running      3
";
    assert_eq!((code, out.as_str()), (0, expected));
    let (code, out, _) = replay(&recorded.path, &["--stats", "--at", "periodic_000", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let captures = &json["views"]["stats"]["captures"];
    assert_eq!((code, captures.as_array().map(Vec::len)), (0, Some(1)));
    assert_eq!(captures[0]["stats"]["nr_running"], 3);
    // What is of no capture is refused one.
    let (code, _, err) = replay(&recorded.path, &["--dump", "--at", "periodic_000"]);
    assert!(code == 3 && err.contains("--at says of which checkpoint a view is"), "{err}");
    let (code, out, _) = replay(&recorded.path, &["--var", "stats(top).nr_running"]);
    assert!(code == 0 && out.contains("periodic_000   0.500s"), "{out}");
    // The claim is about the periodic capture alone; the answer that is late is said.
    let (code, out, _) = replay(&recorded.path, &["--assert"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("after capture probe: the scheduler's statistics did not come: no answer"), "{out}");
    let (code, out, err) = replay(&record(&steady()).path, &["--stats"]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains("the trace has no statistics of the scheduler: it serves none"), "{err}");
    let (code, _, err) = replay(&recorded.path, &["--var", "stats(top).nr_runing"]);
    assert!(code == 3 && err.contains("did you mean `nr_running`?"), "{err}");
}

#[test]
fn json_has_verdict_and_series() {
    let recorded = record(&TraceBuilder::stall());
    let (code, out, _) = replay(&recorded.path, &["--assert", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &json["verdict"]["outcome"]), (1, &"fail".into()));
    assert_eq!(json["verdict"]["findings"][0]["what"], "scheduler");
    let (_, out, _) = replay(&recorded.path, &["--var", "nr_dispatched", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let point = &json["columns"][0]["points"][1];
    assert_eq!((&point["tag"], &point["value"]), (&"periodic_000".into(), &10.into()));
    assert_eq!(point["since_start_ns"], 500_000_000);
}

#[test]
fn a_missing_a_foreign_and_a_truncated_file_are_one_error_each() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let absent = dir.path().join("absent.trace.zst");
    let foreign = dir.path().join("foreign.trace.zst");
    std::fs::write(&foreign, "no trace").expect("written");
    for path in [absent, foreign] {
        let (code, out, err) = replay(&path, &["--assert"]);
        assert_eq!((code, out.as_str(), err.lines().count()), (3, "", 1), "{err}");
        assert!(err.starts_with("error: could not replay ") && err.contains(".trace.zst"), "{err}");
    }
    let recorded = record(&steady());
    let bytes = std::fs::read(&recorded.path).expect("read");
    std::fs::write(&recorded.path, &bytes[..bytes.len() / 2]).expect("written");
    let (code, out, _) = replay(&recorded.path, &["--assert"]);
    assert_eq!(code, 2, "half a trace passes nothing: {out}");
}

#[test]
fn a_wrong_command_line_is_told_from_a_verdict() {
    for args in [&["--assrt"][..], &["--var", "x", "--assert"], &["--var"]] {
        let (code, out, err) = replay(Path::new("x.trace.zst"), args);
        assert_eq!((code, out.as_str()), (3, ""), "{err}");
        assert!(err.starts_with("error: "), "{err}");
    }
}
