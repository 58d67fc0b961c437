//! Answers of schedulers: good ones, and what a guest could send in their place.

use proptest::prelude::*;

use super::*;
use crate::claim::Claim;
use crate::run::Run;
use crate::series::Series;
use crate::testing::{TraceBuilder, sample};
use crate::trace::Trace;
use crate::trace::record::CaptureKind;
use crate::verdict::Outcome;
use crate::view::show_stats;

/// As scx_rusty answers, in short.
const RUSTY: &str = r#"{"errno":0,"args":{"resp":{
    "nr_migrations":7,"cpu_busy":12.5,"delta":-3,"on":true,"name":"rusty","none":null,
    "cpus":[1,18446744073709551615],
    "nodes":{"0":{"load":1.5,"doms":{"0":{"load":0.5}}}}}}}"#;

fn answer(resp: &str) -> String {
    format!(r#"{{"errno":0,"args":{{"resp":{resp}}}}}"#)
}

/// A trace with a periodic capture for each answer; `None`: it was not asked for.
fn trace(answers: &[Option<Result<&str, &str>>]) -> Trace {
    let mut builder = TraceBuilder::begun();
    for (i, answer) in answers.iter().enumerate() {
        let at_ms = 500 * (i as i64 + 1);
        builder = builder.sample(sample(&format!("periodic_{i:03}"), CaptureKind::Periodic, at_ms, &[10]));
        if let Some(answer) = answer {
            builder = builder.stats(*answer);
        }
    }
    builder.ended().trace()
}

fn series(answers: &[Option<Result<&str, &str>>]) -> Series {
    trace(answers).periodic()
}

/// What a path is in the one answer.
fn read(line: &str, path: &str) -> Result<Scalar, String> {
    let column = series(&[Some(Ok(line))]).stats(path);
    let again: Claim = format!("each({} >= 0)", column.projection).parse().unwrap();
    assert_eq!(*again.projections()[0], column.projection, "claims write it as accessors do");
    column.points[0].value.clone().map_err(|why| why.reason().to_owned())
}

#[test]
fn members_and_elements_are_read_by_path() {
    for (path, value) in [
        ("top.nr_migrations", Scalar::Int(7)),
        ("top.cpu_busy", Scalar::Float(12.5)),
        ("top.delta", Scalar::Int(-3)),
        ("top.on", Scalar::Bool(true)),
        ("top.cpus[1]", Scalar::Int(u64::MAX.into())),
        ("top.nodes.0.doms.0.load", Scalar::Float(0.5)),
        // Rust's maps by number have texts as their keys.
        ("top.nodes[0].doms[0].load", Scalar::Float(0.5)),
    ] {
        assert_eq!(read(RUSTY, path), Ok(value), "{path}");
    }
}

#[test]
fn what_is_not_there_says_what_is() {
    for (path, why) in [
        (
            "top.nr_migration",
            "`stats(top).nr_migration`: stats(top) has no member `nr_migration`; did you mean `nr_migrations`?",
        ),
        (
            "top.nodes.1.load",
            "`stats(top).nodes.1.load`: stats(top).nodes has no member `1`; did you mean `0`?",
        ),
        ("top.cpus[2]", "`stats(top).cpus[2]`: stats(top).cpus has 2 elements, so there is no [2]"),
        ("top.cpus.x", "`stats(top).cpus.x`: stats(top).cpus is an array, so there is no `x` in it"),
        ("top.on.x", "`stats(top).on.x`: stats(top).on is a truth value, so there is no `x` in it"),
        ("top.nodes->x", "`stats(top).nodes->x`: stats(top).nodes is an object, so there is no `->` in it"),
        ("top.name", "`stats(top).name` is a text, not a number"),
        ("top.none", "`stats(top).none` is null, which is how NaN is written, not a number"),
        (
            "top.nodes.0",
            "`stats(top).nodes.0` is an object, and not a number: name one of its members; there are: ",
        ),
        ("tops.x", "the scheduler was not asked for `tops`; did you mean `top`?"),
        ("", "the scheduler was not asked for ``"),
    ] {
        let column = series(&[Some(Ok(RUSTY))]).stats(path);
        let said = column.points[0].value.clone().expect_err(path);
        assert!(said.reason().starts_with(why), "{path}: {}", said.reason());
    }
}

#[test]
fn accessors_of_a_snapshot_give_each_kind() {
    let series = series(&[Some(Ok(RUSTY))]);
    let snapshot = series.snapshots().next().unwrap();
    let top = snapshot.stats("top").unwrap();
    assert_eq!(top.get("nr_migrations").unwrap().as_u64(), Ok(7));
    assert_eq!(top.get("delta").unwrap().as_i64(), Ok(-3));
    assert!(top.get("delta").unwrap().as_u64().unwrap_err().to_string().contains("64 unsigned bits"));
    assert!(top.get("cpu_busy").unwrap().as_u64().unwrap_err().to_string().contains("not a whole number"));
    assert_eq!(top.get("cpu_busy").unwrap().as_f64(), Ok(12.5));
    assert_eq!(top.get("on").unwrap().as_bool(), Ok(true));
    assert_eq!(top.get("name").unwrap().as_str(), Ok("rusty"));
    let cpus = snapshot.stats("top.cpus").unwrap().as_array().unwrap();
    assert_eq!(cpus.iter().map(|cpu| cpu.as_u64().unwrap()).collect::<Vec<_>>(), [1, u64::MAX]);
    assert!(
        cpus[0].as_str().unwrap_err().to_string().contains("`stats(top).cpus[0]` is a number, not a text")
    );
    assert_eq!(top.get("nodes.0.load").unwrap().json(), &serde_json::json!(1.5));
    assert!(top.get("a[").unwrap_err().to_string().contains("is not a path"));
    assert!(snapshot.stats("").unwrap_err().to_string().contains("it begins with what"));
}

fn judge(claim: &str, answers: &[Option<Result<&str, &str>>]) -> (Outcome, String) {
    let claim: Claim = claim.parse().unwrap();
    let series = series(answers);
    let columns: Vec<_> = claim.projections().into_iter().map(|of| series.column(of)).collect();
    let judgement = claim.judge(&columns.iter().collect::<Vec<_>>());
    (judgement.outcome, format!("{} {}", judgement.summary, judgement.notes.join(" ")))
}

#[test]
fn a_missing_answer_is_a_missing_sample_and_a_misspelt_member_is_an_error() {
    let (one, two) = (answer(r#"{"nr":1}"#), answer(r#"{"nr":2}"#));
    let answers = [Some(Ok(one.as_str())), Some(Err("no answer came within 2s")), Some(Ok(two.as_str()))];
    assert_eq!(judge("strictly_increasing(stats(top).nr)", &answers[..1]).0, Outcome::Inconclusive);
    assert_eq!(judge("eventually(stats(top).nr == 2)", &answers).0, Outcome::Pass);
    assert_eq!(judge("final(stats(top).nr == 2)", &answers).0, Outcome::Pass);
    let (outcome, why) = judge("each(stats(top).nr >= 1)", &answers);
    assert_eq!(outcome, Outcome::Fail, "{why}");
    // What is misspelt says more than what did not come, however often that was.
    let late = [answers[0], answers[1], answers[1], None, None, None];
    assert!(judge("eventually(stats(top).nrr >= 1)", &late).1.contains("did you mean `nr`?"));
    let (outcome, why) = judge("eventually(stats(top).nrr >= 1)", &answers);
    assert_eq!(outcome, Outcome::Fail);
    assert!(
        why.contains("could not be read in any of 3 samples") && why.contains("did you mean `nr`?"),
        "{why}"
    );
    let (outcome, why) = judge("eventually(stats(top).nr >= 1)", &answers[1..2]);
    assert_eq!(outcome, Outcome::Fail);
    assert!(why.contains("the scheduler's statistics did not come: no answer came within 2s"), "{why}");
    let (outcome, why) = judge("eventually(stats(top).nr >= 1)", &[None]);
    assert_eq!(outcome, Outcome::Fail);
    assert!(why.contains("the trace has no statistics of the scheduler: it serves none"), "{why}");
    let (outcome, why) = judge("each(stats(top).nr >= 1)", &[answers[0], None]);
    assert_eq!(outcome, Outcome::Fail);
    assert!(!why.contains("serves none"), "{why}");
}

#[test]
fn answers_that_are_none_say_so() {
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let wide = answer(&format!("[{}0]", "0,".repeat(600_000)));
    for (line, why) in [
        ("", "EOF while parsing"),
        ("{\"errno\":0", "EOF while parsing"),
        ("\u{1b}[2J", "expected value"),
        ("[1]", "is not what scx_stats answers"),
        (r#"{"errno":0,"args":{}}"#, "it has no `resp`"),
        (r#"{"errno":0,"args":{"resp":{"nr":NaN}}}"#, "expected value"),
        (r#"{"errno":0,"args":{"resp":{"nr":1e999}}}"#, "number out of range"),
        (r#"{"errno":22,"args":{"resp":"unknown stat target"}}"#, "with error 22: unknown stat target"),
        (r#"{"errno":-5,"args":{"resp":{"x":1}}}"#, "with error -5: {\"x\":1}"),
        (&answer(&deep), "recursion limit exceeded"),
        (&wide, "at most 1048576 are read"),
    ] {
        let said = read(line, "top.nr").expect_err(why);
        assert!(said.contains(why), "{said}");
    }
    // Beyond 64 bits a number is as near as a double is.
    let beyond = read(&answer(r#"{"nr":18446744073709551616}"#), "top.nr");
    assert_eq!(beyond, Ok(Scalar::Float(18_446_744_073_709_551_616.0)));
}

#[test]
fn the_view_has_all_captures_or_the_one_that_is_asked_for() {
    let answers = [answer(r#"{"nr":1,"busy":0.123456}"#), answer(r#"{"nr":20,"cpus":[3]}"#)];
    let trace = trace(&[Some(Ok(&answers[0])), Some(Err("it closed")), Some(Ok(&answers[1])), None]);
    let run = Run::load(&trace);
    let all = show_stats(&run, None).unwrap();
    let expected = "\
#  capture         time  asked after ms  took ms
0  periodic_000  0.500s            10.0      5.0
1  periodic_001  1.000s            10.0      5.0  the scheduler's statistics did not come: it closed
2  periodic_002  1.500s            10.0      5.0

member      #0  #2
busy     0.123   -
cpus[0]      -   3
nr           1  20";
    assert_eq!(all.lines.join("\n"), expected);
    assert_eq!(all.json["captures"][0]["stats"]["busy"], 0.123_456);
    assert_eq!(all.json["captures"][1]["error"], "the scheduler's statistics did not come: it closed");
    let one = show_stats(&run, Some("periodic_002")).unwrap();
    let expected = "\
capture         time  asked after ms  took ms
periodic_002  1.500s            10.0      5.0

cpus[0]  3
nr       20";
    assert_eq!(one.lines.join("\n"), expected);
    assert_eq!(show_stats(&run, Some("0.9s")).unwrap().json["captures"][0]["tag"], "periodic_000");
    let error = |at| show_stats(&run, Some(at)).unwrap_err().to_string();
    assert_eq!(
        error("periodic_003"),
        "the scheduler was not asked for its statistics after the capture periodic_003"
    );
    assert!(
        error("nowhere").starts_with("no capture at `nowhere`; there are: attach (-0.050s), periodic_000")
    );
    let none = self::trace(&[None]);
    assert!(show_stats(&Run::load(&none), None).unwrap_err().to_string().contains("it serves none"));
}

#[test]
fn a_run_of_many_captures_shows_the_last_ones() {
    let answer = answer("{\"nr\":1}");
    let trace = trace(&vec![Some(Ok(answer.as_str())); 20]);
    let shown = show_stats(&Run::load(&trace), None).unwrap();
    assert!(shown.lines.iter().any(|line| line.starts_with("member  #8  #9")), "{:?}", shown.lines);
    assert_eq!(shown.lines.last().unwrap(), "and 8 captures before these; --at shows one, --json all");
}

#[test]
fn an_answer_of_many_members_is_cut_and_that_is_said() {
    let members: Vec<_> = (0..5000).map(|i| format!("\"m{i:04}\":{i}")).collect();
    let answer = answer(&format!("{{{}}}", members.join(",")));
    let trace = trace(&[Some(Ok(&answer))]);
    let shown = show_stats(&Run::load(&trace), Some("periodic_000")).unwrap();
    assert!(shown.lines.len() < MAX_LEAVES + 10);
    assert_eq!(shown.lines.last().unwrap(), "the first 2000 members of an answer are listed; --json has all");
    assert_eq!(shown.json["captures"][0]["stats"]["m4999"], 4999);
}

#[test]
fn a_long_name_of_many_parts_takes_no_more_room_than_many_names() {
    let name = "x".repeat(100_000);
    let answer = answer(&format!("{{\"a\":1,\"{name}\":[{}0]}}", "0,".repeat(1500)));
    let trace = trace(&[Some(Ok(&answer))]);
    let run = Run::load(&trace);
    for shown in [show_stats(&run, None), show_stats(&run, Some("periodic_000"))] {
        let shown = shown.unwrap();
        // Of the long one as many as reach the limit.
        let last = "the first 4 members of an answer are listed, as their names are long; --json has all";
        assert_eq!(shown.lines.last().unwrap(), last);
        let bytes: usize = shown.lines.iter().map(String::len).sum();
        assert!(bytes < 10_000, "{bytes}");
        assert_eq!(shown.json["captures"][0]["stats"][&name][1500], 0);
    }
}

#[test]
fn what_a_guest_answers_does_not_reach_the_terminal_as_it_is() {
    let evil = answer("{\"a\\u001b[31m\\nb\":\"\\u001b]0;x\\u0007\\u202e\",\"c\":1}");
    let trace = trace(&[Some(Ok(&evil)), Some(Err("\u{1b}[31mred"))]);
    let run = Run::load(&trace);
    for shown in [show_stats(&run, None), show_stats(&run, Some("periodic_000"))] {
        let text = shown.unwrap().lines.join("|");
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        assert!(text.contains("\\u{1b}[31m\\nb"), "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_say_why_not(line in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "[\\[\\]{}:,\"a0-9.e-]{0,60}".prop_map(|resp| answer(&resp).into_bytes()),
    ]) {
        if let Ok(json) = parse(&line) {
            let leaves = stats_leaves(&json).found;
            prop_assert!(!leaves.is_empty());
            for (path, leaf) in leaves {
                // A name with a quote in it has no path that parses.
                let Ok(steps) = path.parse::<crate::path::FieldPath>() else { continue };
                let whole = StatsValue { path: String::new(), json: &json };
                prop_assert_eq!(whole.walk(steps.steps()).map(|found| found.json), Ok(leaf));
            }
        }
    }
}
