//! From a test's description to what the recorder is asked for.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use guest_init::message::{
    EchoLine, ProbeOrder, SEED, SHELL, SHELL_PIPE, SHELL_TERMINAL, Sysctl, WatchOrder,
};
use ktstr_record::job::{JobBuilder, JobLimits, PackedJob};
use ktstr_record::machine::{StartPolicy, slowdown};
use ktstr_record::provision::{KernelSpec, Provisioner};
use ktstr_record::recorder::{CapturePlan, RecordRequest, is_terminal};
use ktstr_record::scheduler::build_c;
use ktstr_record::spec::{Kernel, KernelConfig, MachineSpec};
use ktstr_replay::claim;
use ktstr_replay::trace::record::manifest::{Asked, MachineInfo, SchedulerInfo, TestInfo};
use ktstr_replay::trace::record::{ClaimOrigin, ClaimRecord, Manifest};
use ktstr_replay::units::millis;

use super::environment::{BOOT_TIMEOUT_S, Environment, PAGES};
use super::machine;
use super::optimized::say_if_not;
use super::payloads;
use super::person;
use super::program::{self, Places};
use super::results;
use super::say::say;
use super::sources::Sources;
use crate::probe::ProbeSpec;
use crate::scheduler::{Scheduler, SchedulerSource, echo_parts};
use crate::test_def::{HostCheck, Pages, TestDef};
use crate::watch::WatchSpec;

/// How long a scheduler may take to become `enabled` on hardware, if nobody says.
const ENABLE_LIMIT: Duration = Duration::from_secs(30);
/// How long a scheduler may take to exit after SIGINT.
const EXIT_LIMIT: Duration = Duration::from_secs(10);
/// What the test binary may take beyond the workload window and the watchdog's timeout. More than workers may take
/// to be ended, which is 16 s when they are stuck.
const BODY_SLACK: Duration = Duration::from_secs(30);
/// What the whole run may take beyond the limits of its parts, for the job's delivery and the power-off.
const RUN_SLACK: Duration = Duration::from_secs(30);
/// The longest limit of a boot that can be set, in s.
const MOST_BOOT_TIMEOUT_S: u64 = 3600;
/// Guest RAM that is not for the job's files, in MiB.
const BASE_MEMORY_MIB: u64 = 192;
/// Guest RAM is raised in steps of this size, in MiB, so that few templates are needed.
const MEMORY_STEP_MIB: u64 = 128;
/// What stands for the path of a configuration in a scheduler's arguments.
const CONFIG_PLACE: &str = "{file}";
/// Variables of the host that the test binary keeps in the guest.
const KEPT_VARIABLES: [&str; 2] = ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"];
/// The rest of its environment there.
const GUEST_VARIABLES: [&str; 2] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"];

/// That a scheduler could not be had on a kernel with these faults, which may be why.
fn no_program(scheduler: &str, release: &str, faults: &[String]) -> String {
    let blamed: String =
        faults.iter().map(|fault| format!("; kernel {release} may be at fault: {fault}")).collect();
    format!("no program for scheduler `{scheduler}`{blamed}")
}

/// What the recorder is to do for a test. What is missing is provisioned; nothing is left behind when something
/// cannot be had.
///
/// # Errors
/// A claim that cannot be read, a kernel, emulator, scheduler or library that cannot be had, a kernel without
/// sched_ext for a test with a scheduler.
pub fn prepare(def: &TestDef, environment: &Environment) -> Result<RecordRequest> {
    say_if_not();
    let claims = recorded_claims(def)?;
    let watches = watches(def)?;
    let probes = probes(def)?;
    let pages = pages(def, environment)?;
    let policy = start_policy(environment)?;
    let spec = KernelSpec::parse(environment.kernel.as_deref().unwrap_or("latest"))?;
    let sources = Sources::of(def);
    if let Some((was, now)) = sources.moved() {
        println!(
            "note: the sources are those in {}; the test was compiled in {}",
            now.display(),
            was.display()
        );
    }
    let provisioner = Provisioner::open()?;
    // Before anything is fetched for nothing.
    let chosen = machine::choose(&provisioner, environment)?;
    let kernel = provisioner.kernel(&spec)?;
    let program = match def.scheduler {
        Some(scheduler) if !scheduler.is_built_in() => {
            if !kernel.has_sched_ext {
                bail!(
                    "kernel {} has no sched_ext, which scheduler `{}` needs; `ktstr kernel list` shows kernels that have it",
                    kernel.release,
                    scheduler.name
                );
            }
            let faults = provisioner.check_kernel(&kernel, None)?.faults();
            for fault in &faults {
                println!("note: kernel {}: {fault}", kernel.release);
            }
            let given = environment.scheduler.as_deref();
            let program = program_of(scheduler, &sources, given, &provisioner, &kernel);
            Some(program.with_context(|| no_program(scheduler.name, &kernel.release, &faults))?)
        }
        _ => None,
    };
    // Only loaders of BPF programs ask for it.
    let config = match program {
        Some(_) => provisioner.kernel_config(&spec, &kernel, environment.kernel_config.as_deref())?,
        None => None,
    };
    let mut machine = MachineSpec {
        backend: chosen.backend,
        kernel,
        topology: def.topology,
        memory_mib: def.memory_mib,
        kaslr: def.kaslr,
        kargs: def.all_kargs(),
        performance: def.performance || environment.performance,
    };
    let enable_limit = def.enable_timeout().unwrap_or_else(|| ENABLE_LIMIT * slowdown(&machine));
    let staged: Vec<(&Scheduler, PathBuf)> = def
        .staged_schedulers
        .iter()
        .map(|&other| {
            let found = program_of(other, &sources, None, &provisioner, &machine.kernel);
            Ok((other, found.with_context(|| format!("no program for scheduler `{}`", other.name))?))
        })
        .collect::<Result<_>>()?;
    let kernel_config = config.as_ref().map(|config| (machine.kernel.release.as_str(), config));
    let shell = environment.shell;
    let job =
        job(def, &sources, &provisioner, program.as_deref(), &staged, kernel_config, enable_limit, shell)?;
    let manifest = Manifest {
        test: TestInfo { pages: pages.as_str().to_owned(), ..test_info(def) },
        scheduler: def
            .scheduler
            .map(|scheduler| scheduler_info(def, scheduler, program.as_deref(), &job, enable_limit)),
        machine: MachineInfo { why: chosen.why, ..MachineInfo::default() },
        ..Manifest::default()
    };
    machine.memory_mib = memory_mib(def.memory_mib, job.bytes());
    if machine.memory_mib > def.memory_mib {
        println!(
            "note: guest RAM is {} MiB, not {} MiB: the files of the test are {} MiB",
            machine.memory_mib,
            def.memory_mib,
            job.bytes() >> 20
        );
    }
    Ok(RecordRequest {
        trace: results::trace_path(def, environment)?,
        cache: provisioner.cache().root().to_owned(),
        machine,
        policy,
        // What a watched scheduler stores while it is loaded is to be seen.
        // One that is part of the kernel is not enabled in the way that a template is checked for.
        attached: def.attached
            && watches.is_empty()
            && probes.is_empty()
            && !def.scheduler.is_some_and(Scheduler::is_built_in),
        job,
        captures: CapturePlan {
            periodic: def.num_snapshots,
            window: def.duration(),
            gap_limit: manifest
                .test
                .thresholds
                .as_ref()
                .and_then(|t| t.max_gap_ms)
                .map(Duration::from_millis),
            failure_at: None,
            checkpoint: def.checkpoint,
            pages,
            history: def.history,
        },
        manifest,
        config,
        claims,
        fail_fast: def.fail_fast,
        watches,
        probes,
        shell,
        run_timeout: enable_limit + body_limit(def) + EXIT_LIMIT + RUN_SLACK,
    })
}

/// Which pages are kept: what the run was told, else what the test says.
fn pages(def: &TestDef, environment: &Environment) -> Result<Pages> {
    match &environment.pages {
        None => Ok(def.pages),
        Some(word) => {
            let found = Pages::ALL.into_iter().find(|pages| pages.as_str() == word);
            found.with_context(|| format!("{PAGES} is `{word}`; it is one of kernel, all"))
        }
    }
}

/// How to start: what the run was told, else the default.
fn start_policy(environment: &Environment) -> Result<StartPolicy> {
    let policy = StartPolicy { cold: environment.cold, say, ..StartPolicy::default() };
    let Some(word) = &environment.boot_timeout_s else { return Ok(policy) };
    let seconds = word.parse().ok().filter(|seconds| (1..=MOST_BOOT_TIMEOUT_S).contains(seconds));
    let found = seconds.with_context(|| {
        format!("{BOOT_TIMEOUT_S} is `{word}`; it is a number of seconds from 1 to {MOST_BOOT_TIMEOUT_S}")
    })?;
    Ok(StartPolicy { boot_timeout: Duration::from_secs(found), ..policy })
}

/// The claims as the trace keeps them, in the order in which they were written: text for data, a label for a closure.
///
/// # Errors
/// Every claim that cannot be read, each with a caret under its fault.
pub(super) fn recorded_claims(def: &TestDef) -> Result<Vec<ClaimRecord>> {
    let (mut claims, mut errors) = (Vec::new(), Vec::new());
    for text in def.claims {
        match text.parse::<claim::Claim>() {
            Ok(claim) => claims.push(ClaimRecord { text: claim.to_string(), origin: ClaimOrigin::Data }),
            Err(error) => errors.push(error.render()),
        }
    }
    if !errors.is_empty() {
        bail!("{} of {}'s claims cannot be read:\n{}", errors.len(), def.path, errors.join("\n"));
    }
    let closure =
        |check: HostCheck| ClaimRecord { text: check.label.to_owned(), origin: ClaimOrigin::Closure };
    claims.extend(def.check.map(closure));
    Ok(claims)
}

/// What is watched from the beginning.
///
/// # Errors
/// Every watch that cannot be read, each with a caret under its fault.
fn watches(def: &TestDef) -> Result<Vec<WatchOrder>> {
    let (mut orders, mut errors) = (Vec::new(), Vec::new());
    for text in def.watch {
        match WatchSpec::on(*text).order() {
            Ok(order) => orders.push(order),
            Err(error) => errors.push(error.render()),
        }
    }
    if !errors.is_empty() {
        bail!("{} of {}'s watches cannot be read:\n{}", errors.len(), def.path, errors.join("\n"));
    }
    Ok(orders)
}

/// The functions whose calls are recorded from the beginning.
///
/// # Errors
/// Every probe that cannot be read, each with a caret under its fault.
fn probes(def: &TestDef) -> Result<Vec<ProbeOrder>> {
    let read: Vec<_> = def.probe.iter().map(|text| ProbeSpec::on(*text).order()).collect();
    let errors: Vec<String> =
        read.iter().filter_map(|order| order.as_ref().err()).map(|e| e.render()).collect();
    if !errors.is_empty() {
        bail!("{} of {}'s probes cannot be read:\n{}", errors.len(), def.path, errors.join("\n"));
    }
    Ok(read.into_iter().flatten().collect())
}

/// The program of a scheduler; `given` is taken in the place of a `binary`.
fn program_of(
    scheduler: &Scheduler,
    sources: &Sources,
    given: Option<&Path>,
    provisioner: &Provisioner,
    kernel: &Kernel,
) -> Result<PathBuf> {
    let manifest_dir = sources.now(scheduler.manifest_dir);
    match scheduler.source {
        SchedulerSource::Binary(name) => {
            let exe = env::current_exe().context("could not find the test binary")?;
            let places =
                Places { given, manifest_dir: &manifest_dir, exe: &exe, search: program::search_path() };
            Ok(program::find(name, &places)?)
        }
        SchedulerSource::Path(path) => {
            Ok(program::at(&manifest_dir.join(path), || format!("`binary_path = \"{path}\"`"))?)
        }
        SchedulerSource::BuiltIn => bail!("it is part of the kernel and has no program"),
        SchedulerSource::Crate(package) => Ok(provisioner.crate_program(&package.parse()?)?),
        SchedulerSource::CSource(folder) => {
            let folder = manifest_dir.join(folder);
            let name = folder.file_name().and_then(|name| name.to_str());
            let name = name.with_context(|| format!("{} has no name", folder.display()))?;
            // Before a toolchain is fetched for nothing.
            if !folder.is_dir() {
                bail!("there is no folder {} with {name}.bpf.c and {name}.c", folder.display());
            }
            let toolchain = provisioner.toolchain()?;
            let cache = provisioner.cache();
            Ok(build_c(&folder, name, kernel, &toolchain, cache)?)
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "each is a part of the job that comes from elsewhere")]
fn job(
    def: &TestDef,
    sources: &Sources,
    provisioner: &Provisioner,
    scheduler: Option<&Path>,
    staged: &[(&Scheduler, PathBuf)],
    kernel_config: Option<(&str, &KernelConfig)>,
    enable_limit: Duration,
    shell: bool,
) -> Result<PackedJob> {
    let exe = env::current_exe().context("could not find the test binary")?;
    let kept = KEPT_VARIABLES.iter().filter_map(|name| Some(format!("{name}={}", env::var(name).ok()?)));
    let mut variables: Vec<String> =
        GUEST_VARIABLES.iter().map(|&variable| variable.to_owned()).chain(kept).collect();
    // The test binary knows its test's own, and a run that is to fail again has another.
    variables.push(format!("{SEED}={}", def.seed));
    if shell {
        let kind = if is_terminal() { SHELL_TERMINAL } else { SHELL_PIPE };
        let term = env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
        variables.extend([format!("{SHELL}={kind}"), format!("TERM={term}")]);
    }
    let mut job = JobBuilder::new();
    job.test(&exe, &guest_args(def), &variables)?;
    job.test_waits();
    if let Some((program, scheduler)) = scheduler.zip(def.scheduler) {
        let (args, config) = configured(scheduler, def.all_sched_args(), def.config, sources)?;
        job.scheduler(program, &args, &GUEST_VARIABLES.map(str::to_owned))?;
        if let Some((path, text)) = config {
            job.bytes(&path, 0o644, text);
        }
    }
    if let Some(scheduler) = def.scheduler {
        job.lines(echo_lines(scheduler.enable), echo_lines(scheduler.disable));
    }
    let of_scheduler = def.scheduler.map_or(&[][..], |scheduler| scheduler.sysctls);
    job.sysctls(sysctls(of_scheduler), sysctls(def.sysctls));
    for (other, program) in staged {
        let args: Vec<String> = other.sched_args.iter().map(|&arg| arg.to_owned()).collect();
        let (args, config) = configured(other, args, None, sources)?;
        job.staged(other.name, program, &args, &GUEST_VARIABLES.map(str::to_owned))?;
        if let Some((path, text)) = config {
            job.bytes_for_test(&path, 0o644, text);
        }
    }
    if let Some((release, config)) = kernel_config {
        job.bytes(&KernelConfig::guest_path(release), 0o444, config.text.clone());
    }
    payloads::pack(def, sources, provisioner, &mut job)?;
    if shell {
        person::pack(provisioner, &mut job)?;
    }
    Ok(job.build(JobLimits {
        enable_ms: millis(enable_limit),
        restart_ms: millis(def.restart_limit(enable_limit)),
        test_ms: millis(if shell { person::STAY } else { body_limit(def) }),
        exit_ms: millis(EXIT_LIMIT),
    })?)
}

/// A scheduler's configuration: its path in the guest, and what is in it.
type Configuration = (String, Vec<u8>);

/// A scheduler's arguments, with those by which it takes its configuration, and that: of its file, or `config`, which the test gives.
fn configured(
    scheduler: &Scheduler,
    mut args: Vec<String>,
    config: Option<&str>,
    sources: &Sources,
) -> Result<(Vec<String>, Option<Configuration>)> {
    if let (Some((template, path)), Some(text)) = (scheduler.config_file_def, config) {
        args.extend(template.split_ascii_whitespace().map(|word| word.replace(CONFIG_PLACE, path)));
        return Ok((args, Some((path.to_owned(), text.as_bytes().to_vec()))));
    }
    let Some(file) = scheduler.config_file else { return Ok((args, None)) };
    let host = sources.now(scheduler.manifest_dir).join(file);
    let text = fs::read(&host).with_context(|| {
        format!("could not read {}, the `config_file` of scheduler `{}`", host.display(), scheduler.name)
    })?;
    let name = host.file_name().and_then(|name| name.to_str()).unwrap_or("config");
    let path = format!("/etc/{}/{name}", scheduler.name);
    if args.iter().any(|arg| arg.contains(CONFIG_PLACE)) {
        args = args.iter().map(|arg| arg.replace(CONFIG_PLACE, &path)).collect();
    } else {
        args.extend(["--config".to_owned(), path.clone()]);
    }
    Ok((args, Some((path, text))))
}

/// The macros refuse what is no such line.
fn echo_lines(lines: &[&str]) -> Vec<EchoLine> {
    let parsed = lines.iter().filter_map(|line| Some((line, echo_parts(line)?)));
    parsed
        .map(|(line, (value, path))| EchoLine {
            line: (*line).to_owned(),
            path: path.to_owned(),
            text: format!("{value}\n"),
        })
        .collect()
}

/// The macros refuse what has no `=`.
fn sysctls(settings: &[&str]) -> Vec<Sysctl> {
    let pairs = settings.iter().filter_map(|setting| setting.split_once('='));
    pairs
        .map(|(name, value)| Sysctl { name: name.trim().to_owned(), value: value.trim().to_owned() })
        .collect()
}

/// What makes libtest run this test alone, in its only thread, with its output on the standard streams.
pub(super) fn guest_args(def: &TestDef) -> Vec<String> {
    let words = ["--exact", def.libtest_name(), "--nocapture", "--include-ignored", "--test-threads=1"];
    words.map(str::to_owned).to_vec()
}

/// How long a stall may go unnoticed where the test does not say, in s: `timeout_ms` of most schedulers.
const STALL_S: u64 = 5;

pub(super) fn body_limit(def: &TestDef) -> Duration {
    def.duration() + Duration::from_secs(def.watchdog_timeout_s.unwrap_or(STALL_S)) + BODY_SLACK
}

pub(super) fn test_info(def: &TestDef) -> TestInfo {
    TestInfo {
        name: def.libtest_name().to_owned(),
        package: format!("{}::{}", def.package, def.target()),
        duration_ms: millis(def.duration()),
        num_snapshots: def.num_snapshots,
        checkpoint: def.checkpoint.as_str().to_owned(),
        pages: def.pages.as_str().to_owned(),
        watchdog_timeout_ms: def.watchdog_timeout_s.unwrap_or_default().saturating_mul(1000),
        seed: def.seed,
        thresholds: def.limits().thresholds(),
        not_starved: None,
        asked: Some(Asked {
            claims: def.claims.iter().map(|&text| text.to_owned()).collect(),
            checks: def.check.iter().map(|check| check.label.to_owned()).collect(),
            payloads: def.payloads.iter().map(|payload| payload.name.to_owned()).collect(),
        }),
        expect_err: def.expect_err,
        expect_scx_error_contains: def.expect_scx_error_contains.map(str::to_owned),
        expect_scx_error_matches: def.expect_scx_error_matches.map(str::to_owned),
        expect_scx_exit: def.expect_scx_exit.map(str::to_owned),
        allow_restarts: def.allow_restarts,
        allow_splats: def.allow_splats,
        allow_inconclusive: def.allow_inconclusive,
    }
}

fn scheduler_info(
    def: &TestDef,
    scheduler: &Scheduler,
    program: Option<&Path>,
    job: &PackedJob,
    enable_limit: Duration,
) -> SchedulerInfo {
    SchedulerInfo {
        name: scheduler.name.to_owned(),
        binary: program.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned(),
        args: def.all_sched_args(),
        xxh3: job.scheduler_xxh3().unwrap_or_default(),
        enable_timeout_ms: millis(enable_limit),
    }
}

/// Guest RAM for a test that asks for `asked_mib`: the job's files lie in it, unpacked, and must leave room.
fn memory_mib(asked_mib: u32, job_bytes: u64) -> u32 {
    // The root file system takes at most half of RAM.
    let needed_mib = BASE_MEMORY_MIB + (job_bytes >> 20).saturating_mul(2);
    if needed_mib <= u64::from(asked_mib) {
        return asked_mib;
    }
    u32::try_from(needed_mib.next_multiple_of(MEMORY_STEP_MIB)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::TEST;
    use crate::limits::Assert;

    #[test]
    fn memory_is_raised_only_for_jobs_that_need_it() {
        assert_eq!(memory_mib(512, 40 << 20), 512);
        assert_eq!(memory_mib(320, 64 << 20), 320);
        assert_eq!(memory_mib(320, 65 << 20), 384);
        assert_eq!(memory_mib(512, 1 << 30), 2304);
        assert_eq!(memory_mib(512, u64::MAX), u32::MAX);
    }

    #[test]
    fn a_boots_time_is_a_number_of_seconds() {
        let of = |word: &str| {
            let environment = Environment { boot_timeout_s: Some(word.to_owned()), ..Environment::default() };
            start_policy(&environment).map(|policy| policy.boot_timeout).map_err(|error| error.to_string())
        };
        assert_eq!(of("7"), Ok(Duration::from_secs(7)));
        for wrong in ["0", "-1", "7s", "3601", "1.5", "99999999999999999999"] {
            let said = format!("KTSTR_BOOT_TIMEOUT_S is `{wrong}`; it is a number of seconds from 1 to 3600");
            assert_eq!(of(wrong), Err(said));
        }
        let default = start_policy(&Environment::default()).expect("a policy").boot_timeout;
        assert_eq!(default, StartPolicy::default().boot_timeout);
    }

    #[test]
    fn claims_and_closures_are_recorded_by_text_and_label() {
        let check = HostCheck { label: "steady", run: |_, _| Ok(()) };
        let def = TestDef { claims: &["each(x>=1)"], check: Some(check), ..TEST };
        let claims = recorded_claims(&def).expect("claims");
        let kept: Vec<_> = claims.iter().map(|claim| (claim.text.as_str(), claim.origin)).collect();
        assert_eq!(kept, [("each(x >= 1)", ClaimOrigin::Data), ("steady", ClaimOrigin::Closure)]);
    }

    #[test]
    fn claims_keep_their_order() {
        let def = TestDef { claims: &["each(x >= 1)", "nondecreasing(y)"], ..TEST };
        let claims = recorded_claims(&def).expect("claims");
        let texts: Vec<&str> = claims.iter().map(|claim| claim.text.as_str()).collect();
        assert_eq!(texts, ["each(x >= 1)", "nondecreasing(y)"]);
    }

    #[test]
    fn every_fault_of_a_claim_is_shown_with_a_caret() {
        let def = TestDef { claims: &["each(x >= )", "nondecreasing(y)", "nondecresing(y)"], ..TEST };
        let error = recorded_claims(&def).expect_err("two faults").to_string();
        assert!(error.starts_with("2 of demo::two's claims"), "{error}");
        assert_eq!(error.matches('^').count().min(2), 2, "{error}");
        assert!(error.contains("nondecreasing"), "{error}");
    }

    #[test]
    fn the_guest_runs_exactly_the_one_test_ignored_or_not() {
        let def = TestDef { path: "demo::inner::two", ..TEST };
        assert_eq!(guest_args(&def)[..2], ["--exact", "inner::two"]);
        assert!(guest_args(&def).contains(&"--include-ignored".to_owned()));
        assert_eq!(test_info(&def).package, "demo::demo");
    }

    #[test]
    fn the_limits_of_test_and_scheduler_are_recorded() {
        assert_eq!(test_info(&TEST).thresholds, None);
        let def = TestDef { assert: Assert::NONE.max_gap_ms(100), allow_splats: true, ..TEST };
        let info = test_info(&def);
        assert_eq!(info.thresholds.and_then(|limits| limits.max_gap_ms), Some(100));
        assert!(info.allow_splats);
    }

    #[test]
    fn the_body_outlives_workers_that_are_stuck() {
        assert!(body_limit(&TEST) > TEST.duration() + Duration::from_secs(16));
    }
}
