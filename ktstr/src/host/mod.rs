//! Host mode: from a test's description to its verdict.

pub mod environment;
pub mod say;
pub mod live;
mod sources;
pub mod optimized;
mod describe;
pub mod shell;
mod checking;
mod judge;
mod program;
mod payloads;
pub mod results;
pub mod machine;
pub mod person;
mod prepare;
pub mod left;
mod repro;
mod skip;
mod on_host;
pub mod untraced;

use anyhow::bail;
use environment::{DESCRIBE, Environment, SHELL, SHELL_MACHINE};
use judge::Judged;
use ktstr_record::machine::carries;
use ktstr_record::recorder::{RecordError, RecordRequest, is_interrupted, record, remember_runner};
use ktstr_replay::trace::record::Manifest;

use crate::gauntlet::Preset;
use crate::test_def::TestDef;

/// Record a run of a test, and judge the recording. A run in which the emulator failed says nothing of the test, and is
/// made once more; both traces stay.
///
/// # Errors
/// A test that did not pass; what could not be had, recorded or judged.
pub fn run(def: &TestDef) -> anyhow::Result<()> {
    let environment = begin()?;
    let result = run_in(def, &environment);
    untraced::leave(def, &environment, &result);
    result
}

fn run_in(def: &TestDef, environment: &Environment) -> anyhow::Result<()> {
    if let Some(folder) = &environment.describe {
        return describe::describe(def, folder);
    }
    if def.host_only && !environment.shell {
        return on_host::run(def, environment);
    }
    if skip::is_for_another_kernel(def, environment)? {
        return Ok(());
    }
    if environment.shell {
        return person::run(def, environment);
    }
    let request = prepare::prepare(def, environment)?;
    run_request(def, environment, request)
}

/// As [`run`], of the variant of a test on a machine of the gauntlet. A machine that the test is not for, or that this host
/// cannot carry, is skipped, and its trace has the reason.
///
/// # Errors
/// Those of [`run`].
pub fn run_variant(def: &TestDef, preset: &Preset) -> anyhow::Result<()> {
    let environment = begin()?;
    let result = run_variant_in(def, preset, &environment);
    untraced::leave(def, &environment, &result);
    result
}

fn run_variant_in(def: &TestDef, preset: &Preset, environment: &Environment) -> anyhow::Result<()> {
    if environment.describe.is_some() {
        bail!(
            "the test was not run: {DESCRIBE} asks for descriptions, which variants have in that of their test"
        );
    }
    if environment.shell {
        bail!(
            "the test was not run: {SHELL} asks for a shell, which is in the place of a test and not of a variant: run the test \
             itself with {SHELL_MACHINE}={}",
            preset.name
        );
    }
    if let Some(why) = def.bounds().excludes(preset.topology) {
        return skip::skip(def, environment, why);
    }
    if skip::is_for_another_kernel(def, environment)? {
        return Ok(());
    }
    let request = prepare::prepare(def, environment)?;
    match carries(&request.machine) {
        Err(error) if error.is_limit() => skip::skip(def, environment, error.to_string()),
        _ => run_request(def, environment, request),
    }
}

/// What this process is told, for a test that begins.
///
/// # Errors
/// A process that is to end: the tests that libtest would still run are neither built nor prepared.
fn begin() -> anyhow::Result<Environment> {
    remember_runner();
    say::runners_stderr();
    if is_interrupted() {
        return Err(RecordError::Interrupted.into());
    }
    Ok(Environment::read())
}

fn run_request(def: &TestDef, environment: &Environment, request: RecordRequest) -> anyhow::Result<()> {
    let recording = record(request)?;
    if !judge::emulator_failed(&recording) {
        let mut judged = judge::judge(def, recording)?;
        if repro::repro(def, environment, &judged) {
            judged.report_anew()?;
        }
        return judged.print();
    }
    let first = recording.path.clone();
    // It does not pass; its report is printed.
    let _inconclusive = judge::judge(def, recording).and_then(Judged::print);
    println!(
        "note: the emulator failed, so the test is run once more; the trace of that run is {}",
        first.display()
    );
    let mut request = prepare::prepare(def, environment)?;
    request.manifest.taints.push(Manifest::RETRIED.to_owned());
    // What failed may be in the template.
    request.attached = false;
    judge::judge(def, record(request)?)?.print()
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::assert::AssertResult;
    use crate::test_def::TestDef;

    /// A test with all defaults.
    pub const TEST: TestDef = TestDef {
        path: "demo::two",
        package: "demo",
        manifest_dir: "/demo",
        body: |_| Ok(AssertResult::pass()),
        ..TestDef::NEW
    };
}
