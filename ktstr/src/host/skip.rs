//! Tests that are not run: those of a scheduler for other kernels, and those on a machine that they are not for. What is left of
//! them is a trace that says why.

use std::iter;

use anyhow::{Context, Result};
use ktstr_record::provision::{KernelRange, KernelSpec, Provisioner};
use ktstr_record::recorder::begin_trace;
use ktstr_record::spec::Kernel;
use ktstr_replay::judge::CheckSource;
use ktstr_replay::report;
use ktstr_replay::run::Run;
use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::Manifest;
use ktstr_replay::trace::record::manifest::{KernelInfo, MachineInfo, SchedulerInfo};

use super::environment::Environment;
use super::say::say;
use super::{prepare, results};
use crate::scheduler::Scheduler;
use crate::test_def::TestDef;

/// Whether the test is not run on the kernel at hand; then its trace is written and its report printed.
///
/// # Errors
/// A range that is none, a kernel that cannot be had, a trace that cannot be written.
pub fn is_for_another_kernel(def: &TestDef, environment: &Environment) -> Result<bool> {
    let schedulers: Vec<&Scheduler> =
        iter::chain(def.scheduler, def.staged_schedulers.iter().copied()).collect();
    if schedulers.iter().all(|scheduler| scheduler.kernels.is_none()) {
        return Ok(false);
    }
    let (spec, kernel) = kernel(environment)?;
    for scheduler in schedulers {
        if let Some(why) = why(scheduler, &kernel.release)? {
            record(def, environment, &spec, &kernel, why)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Do not run the test: write its trace, and print its report.
///
/// # Errors
/// A kernel that cannot be had, a trace that cannot be written.
pub fn skip(def: &TestDef, environment: &Environment, why: String) -> Result<()> {
    let (spec, kernel) = kernel(environment)?;
    record(def, environment, &spec, &kernel, why)
}

/// The kernel at hand.
fn kernel(environment: &Environment) -> Result<(KernelSpec, Kernel)> {
    let spec = KernelSpec::parse(environment.kernel.as_deref().unwrap_or("latest"))?;
    let kernel = Provisioner::open()?.kernel(&spec)?;
    Ok((spec, kernel))
}

/// Why `scheduler` is not run on the kernel `release`; `None` where it is for it.
fn why(scheduler: &Scheduler, release: &str) -> Result<Option<String>> {
    let Some(kernels) = scheduler.kernels else { return Ok(None) };
    let name = scheduler.name;
    let range =
        KernelRange::parse(kernels).with_context(|| format!("the `kernels` of scheduler `{name}`"))?;
    let text = || format!("scheduler `{name}` is for kernels {range}, and this one is {release}");
    Ok((!range.admits(release)).then(text))
}

/// Writes the trace of a test that was not run, and prints its report.
fn record(
    def: &TestDef,
    environment: &Environment,
    spec: &KernelSpec,
    kernel: &Kernel,
    why: String,
) -> Result<()> {
    let path = results::trace_path(def, environment)?;
    let manifest = Manifest {
        ktstr_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: jiff::Timestamp::now().to_string(),
        test: prepare::test_info(def),
        scheduler: def.scheduler.map(|scheduler| SchedulerInfo {
            name: scheduler.name.to_owned(),
            args: def.all_sched_args(),
            ..SchedulerInfo::default()
        }),
        kernel: KernelInfo {
            release: kernel.release.clone(),
            asked: match spec {
                KernelSpec::Path(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                other => other.to_string(),
            },
            xxh3: kernel.id.clone(),
            ..KernelInfo::default()
        },
        machine: MachineInfo { topology: def.topology.to_string(), ..MachineInfo::default() },
        skipped: Some(why.clone()),
        ..Manifest::default()
    };
    let (path, mut writer) = begin_trace(&path, &manifest).context("could not write the trace")?;
    writer.commit().context("could not write the trace")?;
    let trace = Trace::open(&path)?;
    let run = Run::load(&trace);
    let verdict = run.judge(None, CheckSource::Recorded);
    println!("{}{}", report::render(&run, &verdict), report::provenance(&path));
    // Test harnesses keep what a test prints that does not fail.
    say(&format!("skipped {}: {why}", def.libtest_name()));
    writer.verdict(&verdict).context("could not add the verdict to the trace")?;
    writer.finish().context("could not close the trace")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::host::tests::TEST;
    use crate::scheduler::SchedulerSource;

    const FOR_7_1: Scheduler = Scheduler {
        name: "demo",
        source: SchedulerSource::Binary("scx_demo"),
        enable: &[],
        disable: &[],
        sched_args: &[],
        topology: None,
        kargs: &[],
        sysctls: &[],
        config_file: None,
        config_file_def: None,
        enable_timeout_s: None,
        assert: None,
        constraints: None,
        cgroup_parent: None,
        kernels: Some("7.1.."),
        manifest_dir: "/nonexistent",
    };

    #[test]
    fn a_kernel_is_in_the_range_or_the_reason_says_both() {
        assert_eq!(why(&FOR_7_1, "7.1.13+deb13-cloud-amd64").expect("a range"), None);
        assert_eq!(why(&Scheduler { kernels: None, ..FOR_7_1 }, "6.12.1").expect("none"), None);
        let found = why(&FOR_7_1, "7.0.13").expect("a range");
        assert_eq!(found.as_deref(), Some("scheduler `demo` is for kernels 7.1.., and this one is 7.0.13"));
        let error = why(&Scheduler { kernels: Some("7.3"), ..FOR_7_1 }, "7.0.13").expect_err("no range");
        assert!(format!("{error:#}").contains("the `kernels` of scheduler `demo`"), "{error:#}");
    }

    #[test]
    fn what_is_left_of_a_skipped_test_is_a_trace_that_says_why() {
        let dir = TempDir::new().expect("a folder");
        let environment = Environment { results: Some(dir.path().to_owned()), ..Environment::default() };
        let kernel = Kernel {
            asked: "7.0".to_owned(),
            release: "7.0.13".to_owned(),
            vmlinux: "/v".into(),
            bzimage: None,
            id: "00".to_owned(),
            has_sched_ext: true,
        };
        let def = TestDef { scheduler: Some(&FOR_7_1), claims: &["always(alive)"], ..TEST };
        record(&def, &environment, &KernelSpec::Latest, &kernel, "it is too old".to_owned())
            .expect("recorded");
        let trace = Trace::open(&dir.path().join("demo.demo.two.trace.zst")).expect("a trace");
        let run = Run::load(&trace);
        let verdict = run.judge(None, CheckSource::Recorded);
        assert_eq!(run.recorded_verdict().as_ref(), Some(&verdict));
        let text = report::render(&run, &verdict);
        assert!(text.starts_with("SKIP two: it is too old\n  checked: nothing, it was not run\n"), "{text}");
        assert!(text.contains("kernel 7.0.13, 1n1l2c1t"), "{text}");
    }
}
