//! The commands that read traces, over the golden traces.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ktstr_replay::testing::TraceBuilder;
use ktstr_tests::{DUMP, ktstr, run_bounded};
use serde_json::Value;

/// Longer than a command takes, on a host that others use.
const LIMIT: Duration = Duration::from_secs(300);

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../traces").join(format!("{name}.trace.zst"))
}

/// Runs `ktstr trace ARGS`: exit code and standard output.
fn trace(args: &[&str]) -> (i32, String) {
    let output = ktstr().arg("trace").args(args).output().expect("ktstr runs");
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn a_trace_does_not_differ_from_itself() {
    let steady = golden("steady");
    let steady = steady.to_str().expect("UTF-8");
    assert_eq!(trace(&["diff", steady, steady]), (0, "no difference\n".to_owned()));
}

/// Of several dumps in a text each can be chosen.
#[test]
fn a_dump_is_chosen_by_its_number() {
    let one = fs::read_to_string(DUMP).expect("a dump");
    let other =
        one.replace("watchdog failed to check in for 2.004s", "watchdog failed to check in for 7.100s");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("both.txt");
    fs::write(&path, format!("{one}\n{other}")).expect("a file");
    let why = |words: &[&str]| {
        let mut command = ktstr();
        command.args(["why", "--dump"]).arg(&path).args(words);
        run_bounded(&mut command, LIMIT)
    };
    let told = |words: &[&str]| ["2.004s", "7.100s"].map(|time| why(words).stdout.contains(time));
    assert_eq!(told(&[]), [true, true]);
    assert_eq!(told(&["--nth", "1"]), [true, false]);
    assert_eq!(told(&["--nth", "2"]), [false, true]);
    let none = why(&["--nth", "3"]);
    assert!(!none.status.success() && none.stderr.contains("no dump number 3"), "{none}");
}

#[test]
fn a_stall_differs_from_a_steady_run_in_what_it_is_about() {
    let (steady, stall) = (golden("steady"), golden("stall"));
    let (steady, stall) = (steady.to_str().expect("UTF-8"), stall.to_str().expect("UTF-8"));
    let (code, text) = trace(&["diff", steady, stall, "--only", "verdict", "--only", "variables", "--json"]);
    assert_eq!(code, 1);
    let diff: Value = serde_json::from_str(&text).expect("JSON");
    assert!(diff["captures"].as_u64().is_some_and(|n| n >= 3), "{}", diff["captures"]);
    let changes = diff["changes"].as_array().expect("a list");
    let change = |what: &str, capture: Option<&str>| {
        let of = |c: &&Value| c["what"] == what && c["capture"].as_str() == capture;
        changes.iter().find(of).unwrap_or_else(|| panic!("no {what} in {changes:#?}"))
    };
    let outcome = change("outcome", None);
    assert_eq!((&outcome["a"], &outcome["b"]), (&"PASS".into(), &"FAIL".into()));
    let phase = change("scx_demo.bss.stats.phase", Some("periodic_001"));
    assert_eq!(phase["b"], "DEMO_STALLED");
    assert!(changes.iter().all(|c| c["part"] != "manifest" && c["part"] != "maps"));
}

#[test]
fn what_cannot_be_told_is_skipped_by_a_bisection() {
    let steady = golden("steady");
    let whole = std::fs::read(&steady).expect("the golden trace");
    let steady = steady.to_str().expect("UTF-8");
    assert_eq!(trace(&["diff", steady, "/nowhere.trace.zst"]).0, 125);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.trace.zst");
    let x = path.to_str().expect("UTF-8");
    // Half a run, and one with a damaged capture, lack what would differ.
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("a file");
    assert_eq!(trace(&["diff", steady, x]).0, 125);
    let info: Value = serde_json::from_str(&trace(&["info", "--records", "--json", steady]).1).expect("JSON");
    let sample = info["records"].as_array().expect("a list").iter().find(|record| record["kind"] == 4);
    let offset = sample.expect("a sample")["offset"].as_u64().expect("an offset") as usize;
    let mut damaged = whole;
    damaged[offset + 140] ^= 1;
    std::fs::write(&path, &damaged).expect("a file");
    assert_eq!(trace(&["diff", x, steady]).0, 125);
    assert_eq!(trace(&["diff", x, x]).0, 125);
}

/// As `git bisect run` has it: the first commit whose trace differs from the first one's is found.
#[test]
fn a_bisection_finds_the_first_trace_that_differs() {
    let folder = tempfile::tempdir().expect("a folder");
    let git = |args: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.current_dir(folder.path()).args(["-c", "user.name=t", "-c", "user.email=t@t"]).args(args);
        let output = git.env("GIT_CONFIG_GLOBAL", "/dev/null").output().expect("git runs");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    git(&["init", "--quiet"]);
    let commits: Vec<String> = (0..6)
        .map(|nth| {
            // The second has a trace that cannot be read; from the fifth on it stalls.
            let path = folder.path().join("run.trace.zst");
            match nth {
                1 => std::fs::write(&path, "no trace").expect("a file"),
                4.. => _ = std::fs::copy(golden("stall"), &path).expect("a copy"),
                _ => _ = std::fs::copy(golden("steady"), &path).expect("a copy"),
            }
            std::fs::write(folder.path().join("nth"), nth.to_string()).expect("a file");
            git(&["add", "-A"]);
            git(&["commit", "--quiet", "-m", "a run"]);
            git(&["rev-parse", "HEAD"]).trim().to_owned()
        })
        .collect();
    git(&["bisect", "start", "HEAD", &commits[0]]);
    let ktstr = ktstr().get_program().to_owned();
    let (ktstr, steady) = (ktstr.to_str().expect("UTF-8"), golden("steady"));
    let steady = steady.to_str().expect("UTF-8");
    let args = ["bisect", "run", ktstr, "trace", "diff", steady, "run.trace.zst", "--only", "verdict"];
    let said = git(&args);
    assert!(said.contains(&format!("{} is the first bad commit", commits[4])), "{said}");
}

#[test]
fn json_lines_have_every_event_and_capture_in_order() {
    let stall = golden("stall");
    let stall = stall.to_str().expect("UTF-8");
    let (code, text) = trace(&["export", stall, "--json"]);
    assert_eq!(code, 0);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |record: &str| lines.iter().filter(|line| line["record"] == record).collect::<Vec<_>>();
    let info: Value = serde_json::from_str(&trace(&["info", stall, "--json"]).1).expect("JSON");
    assert_eq!(of("event").len() as u64, info["events"].as_u64().expect("a number"));
    assert_eq!(of("capture").len() as u64, info["samples"].as_u64().expect("a number"));
    let timed: Vec<_> = lines.iter().filter_map(|line| line["guest_ns"].as_u64()).collect();
    assert!(timed.is_sorted());
    let exit = of("capture").into_iter().find(|line| line["tag"] == "scheduler_exit").expect("the exit");
    assert_eq!(exit["variables"]["scx_demo.bss.nr_dispatched"], 273);
    assert_eq!(exit["variables"]["scx_demo.bss.stats.phase"], "DEMO_STALLED");
}

#[test]
fn a_column_of_the_csv_is_what_var_prints() {
    let steady = golden("steady");
    let steady = steady.to_str().expect("UTF-8");
    let (code, text) = trace(&["export", steady, "--csv"]);
    assert_eq!(code, 0);
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let headers = csv.headers().expect("a header").clone();
    let column = |name: &str| headers.iter().position(|header| header == name).expect("a column");
    let (tag, value) = (column("tag"), column("scx_demo.bss.nr_dispatched"));
    let rows: Vec<csv::StringRecord> = csv.records().map(|row| row.expect("a row")).collect();
    let found: Vec<_> = rows.iter().map(|row| (row[tag].to_owned(), row[value].to_owned())).collect();
    let output = ktstr().args(["replay", steady, "--var", "nr_dispatched", "--json"]).output().expect("runs");
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let points = printed["columns"][0]["points"].as_array().expect("points");
    let printed: Vec<_> = points
        .iter()
        .map(|p| (p["tag"].as_str().unwrap_or_default().to_owned(), p["value"].to_string()))
        .collect();
    assert_eq!(found, printed);
    let (code, events) = trace(&["export", steady, "--csv", "events"]);
    assert_eq!(code, 0);
    assert!(events.starts_with("since_start_ns,guest_ns,host_ns,event,details\n"), "{events}");
}

/// As many as a campaign leaves, in one command: more than a process may have open at a time.
#[test]
fn a_thousand_traces_are_judged_in_one_command() {
    const FAILS: usize = 700;
    let folder = tempfile::tempdir().expect("a folder");
    let run = |claim: &str| TraceBuilder::begun().periodic(&[1, 2, 3]).claim(claim).ended();
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    run("each(nr_dispatched >= 1)").write(&good);
    run("each(nr_dispatched >= 2)").write(&bad);
    let paths: Vec<PathBuf> = (0..1000).map(|n| folder.path().join(format!("{n:03}.trace.zst"))).collect();
    for (n, path) in paths.iter().enumerate() {
        fs::hard_link(if n == FAILS { &bad } else { &good }, path).expect("a link");
    }
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 256; exec \"$0\" replay \"$@\" --assert"]);
    command.arg(ktstr().get_program()).args(&paths);
    let ended = run_bounded(&mut command, LIMIT);
    assert_eq!(ended.status.code(), Some(1), "the worst of all: {}", ended.stderr);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    for (n, path) in paths.iter().enumerate() {
        let outcome = if n == FAILS { "FAIL" } else { "PASS" };
        let is_of_it = |line: &&&str| line.contains(&path.display().to_string());
        let of_it: Vec<&&str> = lines.iter().filter(is_of_it).collect();
        assert!(
            matches!(of_it.as_slice(), [line] if line.contains(outcome)),
            "{}: {of_it:?}",
            path.display()
        );
    }
}
