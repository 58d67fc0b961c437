//! The kernel's own selftests of sched_ext, `tools/testing/selftests/sched_ext` of the kernel under test, built by our
//! toolchain, all but one of them in one machine. They take minutes, so one asks for them:
//!
//! ```text
//! cargo test -p ktstr-tests --test kernel_selftests -- --ignored --skip again_and_again
//! KTSTR_SELFTESTS=dsq cargo test ... all_but_one      # those whose names contain it
//! KTSTR_SOAK_MINUTES=10 cargo test ... again_and_again --nocapture      # `reload_loop` alone, until so much time is over
//! ```

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_record::provision::{KernelSpec, Provisioner};
use ktstr_record::scheduler::{Extra, build_suite};
use ktstr_record::spec::KernelConfig;
use ktstr_tests::fixture;

/// Where the guest has the program of all of them.
const RUNNER: &str = "/selftests/runner";
/// Where the guest has the part of the names that is asked for.
const FILTER: &str = "/selftests/filter";
/// How many 7.3 has; a later kernel may have more.
const KNOWN: usize = 32;
/// Where they are in the kernel's source, and what else they include.
const PARTS: [&str; 3] =
    ["tools/testing/selftests/sched_ext", "tools/testing/selftests/kselftest.h", "tools/sched_ext/include"];

/// Switches sched_ext on and off without end, at which a kernel on an emulated machine is likelier to die than anywhere
/// else: it has a machine of its own.
const ALONE: &str = "reload_loop";

#[ktstr_test(
    ignore,
    numa_nodes = 2,
    llcs = 2,
    cores = 2,
    memory_mib = 1024,
    // For nohz_tick, which is skipped without such a CPU.
    kargs = ["nohz_full=3"],
    duration_s = 1200,
    checkpoint = "ends",
    include_files = runner_and_configuration
)]
fn all_but_one(_ctx: &Ctx) -> Result<AssertResult> {
    let filter = fs::read_to_string(FILTER)?;
    let list = String::from_utf8(Command::new(RUNNER).arg("-l").output()?.stdout)?;
    ensure!(list.lines().count() >= KNOWN, "there are only {list}");
    let mut names: Vec<&str> =
        list.lines().filter(|name| *name != ALONE && name.contains(filter.trim())).collect();
    // The runner runs all whose names contain the word that it is given: the shortest first, so that none runs twice.
    names.sort_by_key(|name| name.len());
    let mut outcomes = BTreeMap::new();
    for name in &names {
        if !outcomes.contains_key(*name) {
            outcomes.extend(run(name)?);
        }
    }
    judge(&names, &outcomes)
}

#[ktstr_test(
    ignore,
    llcs = 2,
    cores = 2,
    memory_mib = 1024,
    duration_s = 300,
    checkpoint = "ends",
    include_files = runner_and_configuration
)]
fn reload_loop(_ctx: &Ctx) -> Result<AssertResult> {
    judge(&[ALONE], &run(ALONE)?)
}

/// `reload_loop` in one machine after another, until ten minutes are over, or as many as `KTSTR_SOAK_MINUTES` says. At least one run.
#[test]
#[ignore = "takes ten minutes"]
fn reload_loop_again_and_again() {
    let minutes =
        env::var("KTSTR_SOAK_MINUTES").map_or(10, |text| text.parse().expect("a number of minutes"));
    let (began, mut runs) = (Instant::now(), 0);
    while runs == 0 || began.elapsed() < Duration::from_secs(60 * minutes) {
        let run = fixture(ALONE).run();
        assert!(
            run.status.success() && !run.stdout.contains("the test is run once more"),
            "after {runs} runs: {run}"
        );
        runs += 1;
        eprintln!("{runs} runs of {ALONE} in {:.0} s, none failed", began.elapsed().as_secs_f64());
    }
}

/// Runs all selftests whose names contain `word`, and gives how each ended: `ok`, `not ok` or `skipped`.
fn run(word: &str) -> Result<BTreeMap<String, &'static str>> {
    let mut runner = Command::new(RUNNER).args(["-t", word]).stdout(Stdio::piped()).spawn()?;
    let mut outcomes = BTreeMap::new();
    for line in BufReader::new(runner.stdout.take().context("a pipe")?).lines() {
        let line = line?;
        println!("{line}");
        outcomes.extend(outcome(&line).map(|(name, outcome)| (name.to_owned(), outcome)));
    }
    runner.wait()?;
    Ok(outcomes)
}

/// `ok 3 exit # ` or `ok 4 numa # SKIP `, as the runner writes.
fn outcome(line: &str) -> Option<(&str, &'static str)> {
    let (outcome, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => ("not ok", rest),
        None => ("ok", line.strip_prefix("ok ")?),
    };
    let mut words = rest.split_whitespace();
    let (_number, name) = (words.next()?.parse::<u32>().ok()?, words.next()?);
    Some((name, if line.contains("# SKIP") { "skipped" } else { outcome }))
}

fn judge(names: &[&str], outcomes: &BTreeMap<String, &'static str>) -> Result<AssertResult> {
    let of = |name: &str| outcomes.get(name).copied().unwrap_or("without a result");
    let bad: Vec<String> =
        names.iter().filter(|name| of(name) != "ok").map(|name| format!("{name}: {}", of(name))).collect();
    ensure!(!names.is_empty(), "no selftest has such a name");
    ensure!(bad.is_empty(), "{} of {} did not pass: {}", bad.len(), names.len(), bad.join(", "));
    println!("{} passed", names.len());
    Ok(AssertResult::pass())
}

/// On the host: the program, and what libbpf asks for.
fn runner_and_configuration() -> Result<Vec<IncludedFile>> {
    let spec = KernelSpec::parse(&env::var("KTSTR_KERNEL").unwrap_or_else(|_| "latest".to_owned()))?;
    let provisioner = Provisioner::open()?;
    let kernel = provisioner.kernel(&spec)?;
    let source = provisioner.kernel_source(&kernel, &PARTS)?;
    let extra = Extra {
        include: vec![source.join("tools/sched_ext/include")],
        bpf_warnings: vec!["incompatible-function-pointer-types".to_owned()],
    };
    let (toolchain, folder) = (provisioner.toolchain()?, source.join(PARTS[0]));
    let runner = build_suite(&folder, "runner", &extra, &kernel, &toolchain, provisioner.cache())?;
    let config = provisioner.kernel_config(&spec, &kernel, None)?.context("no configuration")?;
    let written = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::write(&path, bytes)?;
        Ok(path)
    };
    let filter = env::var("KTSTR_SELFTESTS").unwrap_or_default();
    Ok(vec![
        IncludedFile { host: runner, guest: RUNNER.to_owned() },
        IncludedFile { host: written("filter", filter.as_bytes())?, guest: FILTER.to_owned() },
        IncludedFile {
            host: written("config", &config.text)?,
            guest: KernelConfig::guest_path(&kernel.release),
        },
    ])
}
