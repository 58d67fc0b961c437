//! Traces as people send them: piped, packed, joined, many at once.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ktstr_replay::testing::TraceBuilder;

use super::{record, replay, steady};

fn golden() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces/stall.trace.zst")
}

/// Run `script`, in which `$K` is ktstr and `$T` a trace, in `folder`: exit code, stdout, stderr.
fn shell(script: &str, trace: &Path, folder: &Path) -> (i32, String, String) {
    let mut command = Command::new("bash");
    command.args(["-c", script]).env("K", env!("CARGO_BIN_EXE_ktstr")).env("T", trace).current_dir(folder);
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().expect("bash");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

#[test]
fn a_trace_comes_through_any_pipe() {
    let recorded = record(&TraceBuilder::stall());
    let dir = tempfile::tempdir().expect("a folder");
    for script in [
        "cat $T | $K replay -",
        "$K replay - < $T",
        "$K replay <(cat $T)",
        "gzip < $T | $K replay -",
        "cat $T | $K replay /dev/stdin",
    ] {
        let (code, out, err) = shell(script, &recorded.path, dir.path());
        assert_eq!((code, err.as_str()), (1, ""), "{script}");
        let lines = |text: &str| {
            text.lines().filter(|line| !line.starts_with("trace:")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(&out), lines(&recorded.live), "{script}");
    }
    let (code, _, err) = shell("$K replay - < /dev/null", &recorded.path, dir.path());
    assert_eq!(code, 3);
    assert!(err.contains("is empty"), "{err}");
}

#[test]
fn what_follows_a_trace_is_a_note_and_does_not_change_its_verdict() {
    let recorded = record(&steady());
    let dir = tempfile::tempdir().expect("a folder");
    let (code, _, err) = shell("{ cat $T; echo; } > t; $K replay t --assert", &recorded.path, dir.path());
    assert_eq!(code, 0, "{err}");
    assert!(err.starts_with("note: t: 1 byte after the trace's end"), "{err}");
    let (code, out, err) =
        shell("cat $T $T > two; $K replay two; $K trace repair two new && ls", &recorded.path, dir.path());
    assert_eq!(code, 0, "{err}");
    let length = fs::metadata(&recorded.path).expect("a file").len();
    assert!(err.contains(&format!("note: two: a second trace begins at byte {length};")), "{err}");
    assert!(out.contains("PASS") && out.ends_with("new\nnew-2\nt\ntwo\n"), "{out}");
}

#[test]
fn a_path_that_is_not_utf8_is_told_as_nearly_as_json_can() {
    let recorded = record(&steady());
    let dir = tempfile::tempdir().expect("a folder");
    shell(r"cp $T $'a\xff'", &recorded.path, dir.path());
    for script in [
        r"$K replay $'a\xff' --json",
        r"$K replay $'a\xff' $'a\xff' --json",
        r"$K replay $'a\xff' --var nr_dispatched --json",
        r"$K trace verify $'a\xff' --json",
    ] {
        let (code, out, err) = shell(script, &recorded.path, dir.path());
        assert_eq!((code, err.as_str()), (0, ""), "{script}");
        assert!(out.contains("a\u{fffd}"), "{script}: {out}");
    }
}

#[test]
fn of_several_traces_each_has_a_line_and_the_worst_counts() {
    let (good, bad) = (record(&steady()), record(&TraceBuilder::stall()));
    let line = |path: &Path, begin: &str, out: &str| {
        let begin = format!("{}: {begin}", path.display());
        assert!(out.lines().any(|line| line.starts_with(&begin)), "no `{begin}` in\n{out}");
    };
    let (code, out, err) =
        replay(&good.path, &[bad.path.to_str().expect("UTF-8"), golden().to_str().expect("UTF-8")]);
    assert_eq!((code, err.as_str(), out.lines().count()), (1, "", 3), "{out}");
    line(&good.path, "PASS demo::two_cgroups", &out);
    line(&bad.path, "FAIL demo::two_cgroups: demo died at 1.500s", &out);
    line(&golden(), "FAIL stall", &out);
    assert!(out.starts_with(&good.path.display().to_string()), "they are not in their order:\n{out}");

    let good_path = good.path.to_str().expect("UTF-8");
    let (code, out, _) = replay(&good.path, &[good_path, "--assert", "each(nr_dispatched >= 20)"]);
    assert_eq!((code, out.matches("FAIL").count()), (1, 2), "{out}");
    let (code, out, err) = replay(Path::new("nowhere.trace.zst"), &[good_path, good_path]);
    assert_eq!((code, out.lines().count()), (3, 2));
    assert!(err.contains("could not replay nowhere.trace.zst"), "{err}");
    let (code, out, _) = replay(&good.path, &[bad.path.to_str().expect("UTF-8"), "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &json["traces"][0]["verdict"]["outcome"]), (1, &"pass".into()), "{json}");
    let (code, _, err) = replay(&good.path, &[good_path, "--var", "nr_dispatched"]);
    assert_eq!(code, 3);
    assert!(
        err.contains("--var, --segment, --repro-chain, --full and views are of one trace; 2 are given"),
        "{err}"
    );
}

#[test]
fn csv_may_stand_before_the_trace_and_text_is_no_missing_number() {
    let recorded = record(&steady());
    let dir = tempfile::tempdir().expect("a folder");
    let ran = |script: &str| shell(script, &recorded.path, dir.path());
    let expected = ran("$K trace export $T --csv");
    assert_eq!(expected.0, 0);
    assert!(expected.1.contains("nr_dispatched"), "{expected:?}");
    for script in
        ["$K trace export --csv $T", "$K trace export --csv series $T", "$K trace export $T --csv series"]
    {
        assert_eq!(ran(script), expected, "{script}");
    }
    assert_eq!(ran("$K trace export --csv events $T"), ran("$K trace export $T --csv events"));
    assert!(ran("$K trace export $T --csv nonsense").2.contains("of series or of events, not of `nonsense`"));
    assert!(ran("$K trace export --csv events").2.contains("no trace is given"));

    let (code, _, err) = replay(&golden(), &["--var", "exit_format"]);
    assert_eq!(code, 3);
    assert!(err.contains("`exit_format` cannot be printed as a number: a `char["), "{err}");
    assert!(err.contains("is not a number") && !err.contains("in none of the"), "it is there:\n{err}");
}

#[test]
fn a_trace_for_a_forge_is_opened_as_it_is_and_a_redacted_one_says_what_it_may_hold() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = "$K trace slim $T --for-upload --redact --level 1 && $K replay stall.trace.zst.gz";
    let (code, out, err) = shell(script, &golden(), dir.path());
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    assert!(out.contains("may still hold: names of tasks") && out.contains("stall.trace.zst.gz: "), "{out}");
    assert!(out.contains("FAIL stall: demo died at 2.034s"), "{out}");
    assert!(!out.contains("--stall-after-ms"), "an argument of the scheduler is left:\n{out}");
    assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 1);
}
