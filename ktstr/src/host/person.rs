//! A shell for a person in the place of a test's body: the machine, the scheduler and the files are those of the test.

use std::io::{self, Write};
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ktstr_record::job::JobBuilder;
use ktstr_record::provision::Provisioner;
use ktstr_record::recorder::record;

use super::environment::{Environment, SHELL_MACHINE};
use super::{judge, prepare};
use crate::gauntlet::{PRESETS, Preset};
use crate::limits::Assert;
use crate::payload::Launch;
use crate::shell::{NAME, PACKAGE, PROGRAM};
use crate::test_def::TestDef;

/// How long a person may stay.
pub const STAY: Duration = Duration::from_secs(24 * 3600);

/// Exit code of the test binary after such a run that went well. It differs from that of a test that passed: nothing was tested.
pub const ENDED: i32 = 77;

/// The taint of such a run.
const TAINT: &str = "a person had a shell in the guest";

/// The test on the machine of this name; its path stays, as the test is what has the shell in its place. `None`: on its own.
///
/// # Errors
/// A machine that is not in the gauntlet's table.
fn on_machine(def: &TestDef, machine: Option<&str>) -> Result<TestDef> {
    let Some(name) = machine else { return Ok(*def) };
    let Some(preset) = Preset::named(name) else {
        let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        bail!("{SHELL_MACHINE} is `{name}`, and the machines of the gauntlet are {}", names.join(", "));
    };
    Ok(def.variant(def.path, preset))
}

/// Record the run. Nothing that the test asks of its body is judged, as that does not run.
///
/// # Errors
/// As those of a test; a test without a machine.
pub fn run(def: &TestDef, environment: &Environment) -> Result<()> {
    if def.host_only {
        bail!("{} is `host_only`: there is no guest to have a shell in", def.path);
    }
    // The scheduler, the machine, the kernel's log and the trace are judged.
    let def = TestDef {
        claims: &[],
        check: None,
        fail_fast: false,
        num_snapshots: 0,
        assert: Assert::NONE,
        expect_err: false,
        expect_scx_error_contains: None,
        expect_scx_error_matches: None,
        expect_scx_exit: None,
        allow_restarts: true,
        ..on_machine(def, environment.shell_machine.as_deref())?
    };
    let mut request = prepare::prepare(&def, environment)?;
    // The guest ends the shell when its time is up, and has to come up before and to power off after.
    request.run_timeout += STAY;
    let test = &mut request.manifest.test;
    test.thresholds = None;
    test.asked = test
        .asked
        .take()
        .map(|asked| ktstr_replay::trace::record::manifest::Asked { payloads: Vec::new(), ..asked });
    request.manifest.taints.push(TAINT.to_owned());
    judge::judge(&def, record(request)?)?.print()?;
    // Who has set the variable by accident has no test that passed.
    let _gone = io::stdout().flush();
    process::exit(ENDED)
}

/// Pack the shell.
///
/// # Errors
/// A package that cannot be had.
pub fn pack(provisioner: &Provisioner, job: &mut JobBuilder) -> Result<()> {
    let found = provisioner.package_program(PACKAGE, PROGRAM).context("the shell of the guest")?;
    if found.loader.is_some() {
        bail!("{PROGRAM} of {} is not linked statically", found.version);
    }
    let program = job.package_payload(PACKAGE, &found)?;
    let launch =
        Launch { program: program.path, args: program.args, env: program.env, package: found.version };
    job.bytes_for_test(&Launch::path(NAME), 0o444, serde_json::to_vec(&launch)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::TEST;

    #[test]
    fn a_shell_is_on_the_machine_that_is_asked_for() {
        let own = on_machine(&TEST, None).expect("its own");
        assert_eq!((own.topology, own.memory_mib), (TEST.topology, TEST.memory_mib));
        let large = on_machine(&TEST, Some("llcs15_cpus120")).expect("one of the table");
        assert_eq!((large.topology.to_string(), large.path), ("1n15l8c1t".to_owned(), TEST.path));
        assert!(large.memory_mib > TEST.memory_mib);
        let error = on_machine(&TEST, Some("llcs15")).expect_err("none of the table").to_string();
        assert!(error.contains("`llcs15`") && error.contains("llcs15_cpus120"), "{error}");
    }
}
