//! What `#[derive(Payload)]` makes of a program.

use super::check::MetricCheck;

/// What is made of a payload's output.
pub use ktstr_replay::trace::record::{PayloadOutput, Polarity};

/// A program that tests run in their guests. Made by `#[derive(Payload)]` of a struct without fields, which then names the payload
/// wherever one is meant.
///
/// ```
/// use ktstr::prelude::*;
///
/// #[derive(Payload)]
/// #[payload(binary = "fio", package = "fio", output = Json)]
/// #[default_args("--name=reads", "--rw=randread", "--size=1m", "--output-format=json")]
/// #[metric(name = "jobs.0.read.iops", polarity = HigherBetter, unit = "iops")]
/// #[default_check(min("jobs.0.read.iops", 10.0))]
/// struct Fio;
///
/// fn body(ctx: &Ctx) -> Result<AssertResult> {
///     let report = ctx.payload(&Fio).arg("--runtime=2").run()?;
///     ensure!(report.metric("jobs.0.read.iops").is_some());
///     Ok(AssertResult::pass())
/// }
/// assert_eq!(Fio::DEFINITION.name, "fio");
/// ```
pub trait Payload {
    /// The program, and how it is judged.
    const DEFINITION: &'static PayloadDef;
}

/// A program that tests run in their guests, as `#[derive(Payload)]` describes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PayloadDef {
    /// What reports and claims call it.
    pub name: &'static str,
    /// Name of the program, or its path relative to [`PayloadDef::manifest_dir`] where it has a `/`.
    pub binary: &'static str,
    /// Package of the archive that has the program, for hosts that do not.
    pub package: Option<&'static str>,
    /// What is made of its output.
    pub output: PayloadOutput,
    /// Arguments that come before those of a test.
    pub args: &'static [&'static str],
    /// Metrics that it must write, with what is said of them.
    pub metrics: &'static [MetricDef],
    /// Checks of every run.
    pub checks: &'static [MetricCheck],
    /// Files and folders of the host that it reads.
    pub include_files: &'static [&'static str],
    /// Folder of the package that it is declared in.
    pub manifest_dir: &'static str,
}

/// A metric that a payload must write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricDef {
    /// Its path in the JSON: `jobs.0.read.iops`.
    pub name: &'static str,
    /// Which of two values is the better one.
    pub polarity: Polarity,
    /// Its unit; may be empty.
    pub unit: &'static str,
}

/// The definition of a payload, by a value of its type.
pub const fn definition_of<P: Payload>(_: &P) -> &'static PayloadDef {
    P::DEFINITION
}

/// Refuse payloads that could not be told apart: reports, claims and the guest know them by name.
///
/// # Panics
/// While compiling, when two have one name.
pub const fn check_payloads(payloads: &[&PayloadDef]) {
    let mut one = 0;
    while one < payloads.len() {
        let mut other = one + 1;
        while other < payloads.len() {
            assert!(
                !same(payloads[one].name.as_bytes(), payloads[other].name.as_bytes()),
                "two payloads of the test have one name: give one of them another with `#[payload(name = \"..\")]`"
            );
            other += 1;
        }
        one += 1;
    }
}

/// Whether two texts are the same, of whom that is asked while compiling.
pub const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;
    use crate::payload::tests::SHELL;

    #[test]
    fn payloads_of_one_name_are_refused() {
        let other = PayloadDef { name: "other", ..SHELL };
        check_payloads(&[&SHELL, &other]);
        assert!(catch_unwind(|| check_payloads(&[&SHELL, &other, &SHELL])).is_err());
    }
}
