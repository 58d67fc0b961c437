//! What it costs to look on: watches, probes, the history, a second machine for a failure, and the explanations of a trace, as one table
//! with what SPECIFICATION.md promises of each.
//!
//!     cargo bench --package ktstr-tests --bench observing               all of it: some minutes
//!     cargo bench --package ktstr-tests --bench observing -- probes     a part: fires, armed, probes, history, again, explained
//!
//! Guests are run on the machine that tests have here, or on that of `KTSTR_MACHINE`, by the build that `cargo test` makes. Their numbers
//! are in the guest's time, which stands still while the machine does, or are ratios of windows of one boot: what else the host does is
//! in both. What reads traces is measured in this process, in CPU time.
//!
//! A program of its own and not a harness's: one run takes half a minute, and is itself the sample.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ktstr_replay::judge::CheckSource;
use ktstr_replay::probe::ProbeLog;
use ktstr_replay::repro::Chain;
use ktstr_replay::run::Run;
use ktstr_replay::text::{Align, layout};
use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::CaptureKind;
use ktstr_replay::verdict::Outcome;
use ktstr_replay::watch::{WatchLog, WatchSeen};
use ktstr_replay::why;
use ktstr_tests::{CallsAt, Cost, history_size};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

/// The variable by which a test is not run again when its scheduler has died.
const AUTO_REPRO: &str = "KTSTR_AUTO_REPRO";
/// How often a trace is explained.
const EXPLAINED: usize = 15;

fn main() {
    // `cargo bench` adds words of its own.
    let parts: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let mut table = Table::default();
    type Part = (&'static str, fn(&mut Table));
    let all: [Part; 6] = [
        ("fires", fires),
        ("armed", armed),
        ("probes", probes),
        ("history", history),
        ("again", again),
        ("explained", explained),
    ];
    let unknown: Vec<_> = parts.iter().filter(|part| all.iter().all(|(name, _)| name != part)).collect();
    assert!(unknown.is_empty(), "no part is called {unknown:?}: {:?}", all.map(|(name, _)| name));
    for (name, measure) in all {
        if parts.is_empty() || parts.iter().any(|part| part == name) {
            eprintln!("measuring: {name}");
            measure(&mut table);
        }
    }
    table.print();
}

/// What was measured.
#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
    /// The machines that it was measured on.
    machines: Vec<String>,
}

impl Table {
    /// A row: what is promised, what was measured in the same unit, and how.
    fn row(&mut self, what: &str, (aim, unit): (Aim, &str), measured: f64, how: &str) {
        let (aim, is_met) = match aim {
            Aim::AtMost(most) => (format!("at most {most} {unit}"), measured <= most),
            Aim::AtLeast(least) => (format!("at least {least} {unit}"), measured >= least),
            Aim::Nothing => (String::new(), true),
        };
        let met = if is_met { "" } else { "NOT MET" };
        let cells = [what, aim.as_str(), &format!("{measured:.2} {unit}"), met, how];
        self.rows.push(cells.map(str::to_owned).to_vec());
    }

    /// The machine of this run.
    fn ran_on(&mut self, trace: &Trace) {
        let Ok(manifest) = trace.manifest() else { return };
        let (machine, kernel) = (&manifest.machine, &manifest.kernel);
        let machine = format!(
            "{} {}, {} vCPUs on a host of {}, Linux {}",
            machine.kind, machine.version, machine.cpus, machine.host_cpus, kernel.release
        );
        if !self.machines.contains(&machine) {
            self.machines.push(machine);
        }
    }

    fn print(self) {
        let head = ["what", "promised", "measured", "", "how"].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(head).chain(self.rows).collect();
        println!(
            "{}",
            layout(&[Align::Left, Align::Right, Align::Right, Align::Left, Align::Left], &rows).join("\n")
        );
        for machine in self.machines {
            println!("on: {machine}");
        }
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!(
            "the host's load at the end (1, 5, 15 min): {}",
            load.split(' ').take(3).collect::<Vec<_>>().join(" ")
        );
    }
}

enum Aim {
    AtMost(f64),
    AtLeast(f64),
    Nothing,
}

/// A run of a test.
struct Ran {
    /// Goes with its traces.
    _results: TempDir,
    path: PathBuf,
    trace: Trace,
}

/// Run an ignored test of `tests/TARGET.rs`, which passes or not. One whose scheduler dies is run again if that is `repeated`.
fn run(target: &str, test: &str, repeated: bool) -> Ran {
    let results = tempfile::tempdir().expect("a folder for the trace");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--quiet", "--package", "ktstr-tests", "--test", target, "--"]);
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("KTSTR_RESULTS", results.path());
    match repeated {
        true => command.env_remove(AUTO_REPRO),
        false => command.env(AUTO_REPRO, "0"),
    };
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).stdin(Stdio::null());
    let output = command.output().expect("starting cargo");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let traces = results.path().read_dir().expect("the results").flatten().map(|entry| entry.path());
    // Where the emulator failed in the first run there is a second one.
    let path = traces.max_by_key(|path| path.to_string_lossy().ends_with(".2.trace.zst"));
    let path = path.unwrap_or_else(|| panic!("{command:?} left no trace:\n{said}\n{errors}"));
    let trace = Trace::open(&path).unwrap_or_else(|error| panic!("{error}\n{said}\n{errors}"));
    let verdict = Run::load(&trace).recorded_verdict().expect("a verdict");
    // Of a run that the host disturbed nothing can be said, and its numbers are what they are.
    assert_eq!(verdict.outcome() == Outcome::Fail, repeated, "{command:?}:\n{said}\n{errors}");
    Ran { _results: results, path, trace }
}

/// The pause of each fire, with a sample alone and with a checkpoint.
fn fires(table: &mut Table) {
    for (test, what, most_ms, has_checkpoint) in [
        ("fixtures::fires_with_a_sample", "a fire with a sample", 3.0, false),
        ("fixtures::fires_with_a_checkpoint", "a fire with a checkpoint", 20.0, true),
    ] {
        let ran = run("watches", test, false);
        table.ran_on(&ran.trace);
        let fires = ran.trace.samples().flatten().filter(|sample| sample.kind == CaptureKind::Watch);
        let mut pauses = Vec::new();
        for sample in fires {
            assert_eq!(sample.checkpoint.is_some(), has_checkpoint, "{}", sample.tag);
            pauses.push(sample.pause_us as f64 / 1e3);
        }
        assert!(pauses.len() >= 16, "{} fires", pauses.len());
        pauses.sort_by(f64::total_cmp);
        let [least, quarter, median, most] =
            [0, pauses.len() / 4, pauses.len() / 2, pauses.len() - 1].map(|nth| pauses[nth]);
        let how = format!(
            "by the clock, median of {} fires beside four workers; the shortest {least:.1}, a quarter up to {quarter:.1}, the longest {most:.1} ms",
            pauses.len()
        );
        table.row(what, (Aim::AtMost(most_ms), "ms"), median, &how);
    }
}

/// A guest's work with a watch armed that nobody stores to.
fn armed(table: &mut Table) {
    let ran = run("watches", "fixtures::armed_and_not", false);
    table.ran_on(&ran.trace);
    let log = WatchLog::of(&ran.trace.events());
    for cost in Cost::said_in(&ran.trace) {
        let watches: Vec<_> = log.named(&cost.of).collect();
        // Armed at one end of its windows, and gone by the store at their other end.
        let is_as_told = |watch: &&WatchSeen| watch.armed.len() == 1 && watch.fires.len() == 1;
        assert!(watches.len() >= 8 && watches.iter().all(is_as_told), "{watches:#?}");
        let what = format!("an armed watch of {}", cost.of);
        table.row(&what, (Aim::AtMost(2.0), "%"), cost.median_pct, &of_windows(&cost));
    }
}

fn of_windows(cost: &Cost) -> String {
    let (first, third) = cost.quartiles_pct;
    format!(
        "windows of 200 ms with and without in one boot, {:.0} turns of work a second; half of the pairs from {first:.1} to {third:.1} %",
        cost.turns_per_s
    )
}

/// The highest rate at which each call was recorded, and what is recorded of more.
fn probes(table: &mut Table) {
    let ran = run("probes", "fixtures::called_at_rates", false);
    table.ran_on(&ran.trace);
    let log = ProbeLog::of(&ran.trace.events());
    let seen = log.named(CallsAt::FUNCTION).next().expect("the probe");
    let (mut without_loss, mut most) = (0.0f64, 0.0f64);
    for made in CallsAt::said_in(&ran.trace) {
        // The host's estimate of the guest's clock is nearer than that.
        const NEAR_NS: u64 = 400_000_000;
        let (from, until) = (made.from.0.saturating_sub(NEAR_NS), made.until.0 + NEAR_NS);
        let recorded = seen.calls.iter().filter(|call| (from..=until).contains(&call.at.0)).count();
        let of = made.until.saturating_since(made.from) as f64 / 1e9;
        eprintln!(
            "  {:.1} calls a second ({} wanted): {recorded} of {} recorded",
            made.per_s(),
            made.rate,
            made.calls
        );
        assert!(recorded <= made.calls as usize, "more was recorded than called: {made}");
        most = most.max(recorded as f64 / of);
        if recorded == made.calls as usize {
            without_loss = without_loss.max(made.per_s());
        }
    }
    let totals = seen.totals.expect("totals");
    let how = format!(
        "the highest rate of 17 at which each call was recorded, by the guest's clock; of more calls up to {most:.0} a second were recorded, and a stop took {:.2} ms",
        totals.stopped_us as f64 / 1e3 / totals.calls.max(1) as f64
    );
    table.row("probe hits without loss", (Aim::AtLeast(500.0), "/s"), without_loss, &how);
}

/// What noting the history takes of the guest's work, and of the trace.
fn history(table: &mut Table) {
    let ran = run("history", "windows_with_and_without", false);
    table.ran_on(&ran.trace);
    for cost in Cost::said_in(&ran.trace) {
        let what = format!("the history, {}", cost.of);
        if cost.of == "ping_pong" {
            // Nothing but switches, as many as there can be.
            table.row(&what, (Aim::Nothing, "%"), cost.median_pct, &of_windows(&cost));
        } else {
            table.row(&what, (Aim::AtMost(3.0), "%"), cost.median_pct, &of_windows(&cost));
        }
    }
    let ran = run("history", "switches_all_the_time", false);
    let (steps, bytes) = history_size(&ran.trace.events());
    let how =
        format!("{steps} steps, of 12 s of two CPUs that do nothing but switch, in a trace of their own");
    table.row("the history's size", (Aim::AtMost(2.0), "MiB"), bytes as f64 / (1 << 20) as f64, &how);
}

/// A stall that is made to happen again, and what is said of its trace.
fn again(table: &mut Table) {
    let ran = run("failures", "fixtures::stalls", true);
    table.ran_on(&ran.trace);
    let last = ran.trace.segments().into_iter().max().expect("a second machine");
    let second = ran.trace.segment(last).expect("a segment");
    let repro = second.manifest().expect("a manifest").repro.clone().expect("its attempts");
    let [first_s, second_s] = [&ran.trace, &second].map(|trace| {
        let events = trace.events();
        events.iter().map(|event| event.host_ns.0).max().expect("events") as f64 / 1e9
    });
    let how = format!(
        "from a recording's begin to its last event, {second_s:.1} s of {first_s:.1} s; it failed alike in {} of {}",
        match repro.reproduced() {
            1 => "1 attempt".to_owned(),
            more => format!("{more} attempts"),
        },
        repro.attempts.len()
    );
    table.row(
        "an attempt to fail again",
        (Aim::AtMost(1.5), "times the first run"),
        second_s / first_s,
        &how,
    );
    explain(table, "the recorded stall", &ran.path);
}

/// What is said of a golden trace.
fn explained(table: &mut Table) {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../traces/stall.trace.zst"));
    explain(table, "traces/stall.trace.zst", path);
}

fn explain(table: &mut Table, of: &str, path: &Path) {
    let chain = |trace: &Trace| Chain::of(&Run::load(trace)).expect("a chain").render();
    let why = |trace: &Trace| {
        let run = Run::load(trace);
        let verdict = run.recorded_verdict().unwrap_or_else(|| run.judge(None, CheckSource::Recorded));
        why::explain(&run, &verdict).expect("an explanation").render()
    };
    type Explain<'e> = (&'static str, &'e dyn Fn(&Trace) -> String);
    let both: [Explain<'_>; 2] = [("--repro-chain", &chain), ("why", &why)];
    for (what, explain) in both {
        let (mut cpu, mut wall) = (Vec::new(), Vec::new());
        for _ in 0..EXPLAINED {
            let (begun, cpu_begun) = (Instant::now(), cpu_time());
            let text = explain(&Trace::open(path).expect("a trace"));
            assert!(text.lines().count() >= 3, "{text}");
            cpu.push((cpu_time() - cpu_begun).as_secs_f64() * 1e3);
            wall.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let (cpu, wall) = (median(&mut cpu), median(&mut wall));
        let how =
            format!("CPU time from the file to the text, median of {EXPLAINED}; {wall:.0} ms by the clock");
        table.row(&format!("{what} of {of}"), (Aim::AtMost(300.0), "ms"), cpu, &how);
    }
}

/// CPU time of this process.
fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or(0))
}
