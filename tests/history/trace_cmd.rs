//! The history against what `trace-cmd` of the distribution makes of the same pages.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::process::Command;
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_replay::history::{HistoryLog, LoggedStep};
use ktstr_replay::trace::record::HistoryWhat;
use ktstr_tests::{TestRun, written};

/// The kernel developers' own reader of trace buffers: it takes the pages as they are, and has a decoder of its own.
#[derive(Payload)]
#[payload(binary = "trace-cmd", package = "trace-cmd", output = ExitCode)]
pub struct TraceCmd;

/// What stands before each line of its text in the output of the test.
const REPORTED: &str = "REPORTED ";

/// Have `trace-cmd` take what is in the buffers, and print what it makes of that. The instance is gone then, so that
/// captures after that have no history.
pub fn report(ctx: &Ctx) -> Result<()> {
    let file = "/tmp/trace.dat";
    let minute = Duration::from_secs(60);
    ctx.payload(&TraceCmd).args(["extract", "-B", "ktstr", "-o", file]).timeout(minute).run()?;
    // Its text is longer than what is kept of a payload.
    let launch: serde_json::Value = serde_json::from_slice(&fs::read("/ktstr/payloads/trace_cmd.json")?)?;
    let words = |key: &str| -> Vec<String> {
        let all = launch[key].as_array().into_iter().flatten();
        all.filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let program = launch["program"].as_str().context("no program")?;
    let output = Command::new(program)
        .args(words("args"))
        .args(["report", "-N", "-R", "-t", "-i", file])
        .env_clear()
        .envs(words("env").iter().filter_map(|variable| variable.split_once('=')))
        .output()?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        writeln!(io::stdout(), "{REPORTED}{line}")?;
    }
    Ok(())
}

/// What `trace-cmd` printed: for each CPU, the steps with their times in ns, in order.
fn reported(run: &TestRun) -> BTreeMap<u32, Vec<(u64, Vec<String>)>> {
    let written = written(&run.trace());
    let mut steps: BTreeMap<u32, Vec<(u64, Vec<String>)>> = BTreeMap::new();
    for line in written.lines().filter_map(|line| line.strip_prefix(REPORTED)) {
        // `          <idle>-0     [001]    12.345678901: sched_switch:         prev_comm=swapper/1 prev_pid=0 ..`
        let parsed = || {
            let (_, rest) = line.split_once(" [")?;
            let (cpu, rest) = rest.split_once(']')?;
            let (time, rest) = rest.trim_start().split_once(": ")?;
            let (s, ns) = time.rsplit(' ').next()?.split_once('.')?;
            assert_eq!(ns.len(), 9, "{line}");
            let ns = s.parse::<u64>().ok()? * 1_000_000_000 + ns.parse::<u64>().ok()?;
            let (event, rest) = rest.split_once(':')?;
            let mut step = vec![event.to_owned()];
            step.extend(values(event, rest)?.iter().map(|value| plain(value)));
            Some((cpu.parse().ok()?, ns, step))
        };
        match parsed() {
            Some((cpu, ns, step)) => steps.entry(cpu).or_default().push((ns, step)),
            None => assert!(!line.contains("sched_"), "trace-cmd printed `{line}`"),
        }
    }
    steps
}

/// The values of an event's fields, in the order in which the kernel declares them. A name may have blanks.
fn values(event: &str, text: &str) -> Option<Vec<String>> {
    let keys: &[&str] = match event {
        "sched_switch" => {
            &["prev_comm", "prev_pid", "prev_prio", "prev_state", "next_comm", "next_pid", "next_prio"]
        }
        "sched_wakeup" | "sched_wakeup_new" => &["comm", "pid", "prio", "target_cpu"],
        "sched_migrate_task" => &["comm", "pid", "prio", "orig_cpu", "dest_cpu"],
        "sched_ext_event" => &["name", "delta"],
        _ => return None,
    };
    let (first, others) = keys.split_first()?;
    let mut rest = text.trim().strip_prefix(first)?.strip_prefix('=')?;
    let mut values = Vec::new();
    for key in others {
        let (value, after) = rest.split_once(&format!(" {key}="))?;
        values.push(value.to_owned());
        rest = after;
    }
    values.push(rest.to_owned());
    Some(values)
}

/// Numbers are printed in several ways: `0x1`, `000`.
fn plain(text: &str) -> String {
    let number = match text.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_or_else(|_| text.to_owned(), |number| number.to_string())
}

/// A step with the values of its fields.
fn as_reported(log: &HistoryLog, step: &LoggedStep) -> Vec<String> {
    let task = |place| {
        let task = log.task(place).expect("a task");
        [task.comm.clone(), task.pid.to_string(), task.prio.to_string()]
    };
    let (event, values) = match step.what {
        HistoryWhat::Switch { prev, state, next } => {
            ("sched_switch", [&task(prev)[..], &[state.to_string()], &task(next)].concat())
        }
        HistoryWhat::Wakeup { task: woken, to, is_new, .. } => {
            let event = if is_new { "sched_wakeup_new" } else { "sched_wakeup" };
            (event, [&task(woken)[..], &[to.0.to_string()]].concat())
        }
        HistoryWhat::Migrate { task: moved, from, to, .. } => {
            ("sched_migrate_task", [&task(moved)[..], &[from.0.to_string(), to.0.to_string()]].concat())
        }
        HistoryWhat::SchedExt { name, count, .. } => {
            ("sched_ext_event", vec![log.name(name).expect("a name").to_owned(), count.to_string()])
        }
    };
    [vec![event.to_owned()], values.iter().map(|value| plain(value)).collect()].concat()
}

/// `trace-cmd` reads the pages that the kernel gives it, and decodes them by the formats of the kernel's files.
pub fn compare(run: &TestRun, log: &HistoryLog) {
    let reported = reported(run);
    assert_eq!(reported.len(), 2, "CPUs\n{run}");
    for (cpu, reported) in reported {
        let missing =
            log.missing.iter().filter(|missing| missing.cpu.0 == cpu).filter_map(|missing| missing.until);
        let first = missing.map(|until| until.0).max().unwrap_or_default().max(reported[0].0);
        let read = log.steps.iter().filter(|step| step.cpu.0 == cpu && step.at.0 >= first);
        let read: Vec<_> = read.map(|step| (step.at.0, as_reported(log, step))).collect();
        let reported: Vec<_> = reported.into_iter().filter(|(at, _)| *at >= first).collect();
        assert!(reported.len() > 500, "CPU {cpu}: {} steps", reported.len());
        for (nth, (read, reported)) in read.iter().zip(&reported).enumerate() {
            assert_eq!(read, reported, "step {nth} of CPU {cpu}");
        }
        assert_eq!(read.len(), reported.len(), "CPU {cpu}");
        println!("CPU {cpu}: {} steps are those that trace-cmd tells of the same pages", read.len());
    }
}
