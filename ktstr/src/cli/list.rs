//! `cargo ktstr list`: which tests there are.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use ktstr_replay::text::{Align, layout};

use super::asked::{descriptions, workspace};
use super::commands::CommandArgs;
use super::out;
use super::test::table::TestName;
use super::test::{Runner, TestArgs};
use crate::description::TestDescription;

/// List the workspace's ktstr tests: scheduler, machine, workload window, and how many machines of the gauntlet each is for.
///
/// The test binaries are built and asked; nothing is booted. Claims, watches and probes that cannot be read are shown, each with a caret
/// under its fault; the exit code is then 1, unless their tests are ignored.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// The tests of the test target of this name, else those whose names contain it.
    #[arg(value_name = "TEST")]
    filter: Option<String>,
    /// The tests of these packages only (default: all that depend on ktstr).
    #[arg(short, long, value_name = "NAME")]
    package: Vec<String>,
    /// Each test with its limits and its variants of the gauntlet, as a JSON array.
    #[arg(long)]
    json: bool,
}

impl CommandArgs for ListArgs {
    fn run(self) -> Result<ExitCode> {
        let workspace = workspace()?;
        let tests = descriptions(
            &workspace,
            &TestArgs::of(self.filter, self.package, Vec::new()),
            Runner::CargoTest,
        )?;
        if self.json {
            out::write_json(&tests)?;
        } else {
            out::write(&table(&tests))?;
        }
        let mut code = ExitCode::SUCCESS;
        for test in &tests {
            if let Some(text) = unreadable(test) {
                out::note(&text);
                if !test.ignored {
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }
}

/// What of the test cannot be read, for people; `None` where all of it can.
pub(super) fn unreadable(test: &TestDescription) -> Option<String> {
    let all = test.unreadable.join("\n");
    let name = format!("{}::{}", test.target, test.name);
    (!all.is_empty())
        .then(|| format!("ktstr: {name} has claims, watches or probes that cannot be read:\n{all}"))
}

fn table(tests: &[TestDescription]) -> String {
    let head = ["TEST", "SCHEDULER", "TOPOLOGY", "RAM", "WINDOW", "GAUNTLET"];
    let align = [Align::Left, Align::Left, Align::Left, Align::Right, Align::Right, Align::Right];
    let name = |test: &TestDescription| TestName::of(&test.package, &test.target, &test.name);
    let names: Vec<TestName> = tests.iter().map(name).collect();
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(tests.iter().map(|test| {
        let fitting = test.variants.iter().filter(|variant| variant.excluded.is_none()).count();
        vec![
            name(test).shown(&names),
            test.scheduler.clone(),
            test.topology.clone(),
            format!("{} MiB", test.memory_mib),
            format!("{} s", test.duration_s),
            format!("{fitting} of {}", test.variants.len()),
        ]
    }));
    layout(&align, &rows).iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::TEST;

    #[test]
    fn a_test_is_a_line() {
        let text = table(&[TestDescription::of(&TEST)]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["demo::two", "eevdf", "1n1l2c1t", "512", "MiB", "12", "s", "10", "of", "16"]);
    }
}
