//! A payload with what a test adds to its definition.

use std::time::Duration;

use super::check::MetricCheck;
use super::definition::{Payload, PayloadDef};

/// How a payload is to be run. `&P` of a payload `P` is one without anything added.
///
/// ```
/// use ktstr::prelude::*;
/// use std::time::Duration;
///
/// #[derive(Payload)]
/// #[payload(binary = "stress-ng", package = "stress-ng", output = ExitCode)]
/// struct Stress;
///
/// let load = PayloadSpec::of(&Stress).args(["--cpu", "2"]).timeout(Duration::from_secs(5));
/// let def = CgroupDef::named("cg_0").workload(load);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a payload does nothing until it is run"]
pub struct PayloadSpec {
    pub(crate) def: &'static PayloadDef,
    pub(crate) args: Vec<String>,
    pub(crate) cgroup: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) checks: Vec<MetricCheck>,
}

impl PayloadSpec {
    /// As it is defined.
    pub fn of<P: Payload>(_: &P) -> Self {
        Self { def: P::DEFINITION, args: Vec::new(), cgroup: None, timeout: None, checks: Vec::new() }
    }

    /// One more argument, behind those before.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments, behind those before.
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Start it in this cgroup, which must be there by then.
    pub fn in_cgroup(mut self, name: impl Into<String>) -> Self {
        self.cgroup = Some(name.into());
        self
    }

    /// How long it may take; without it, the workload window and 10 s. One that takes longer is ended, and fails.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// One more check of this run.
    pub fn check(mut self, check: MetricCheck) -> Self {
        self.checks.push(check);
        self
    }

    /// All its arguments.
    pub(super) fn all_args(&self) -> Vec<String> {
        self.def.args.iter().map(|&arg| arg.to_owned()).chain(self.args.iter().cloned()).collect()
    }

    /// All its checks.
    pub(super) fn all_checks(&self) -> impl Iterator<Item = MetricCheck> {
        self.def.checks.iter().chain(&self.checks).copied()
    }
}

impl<P: Payload> From<&P> for PayloadSpec {
    fn from(payload: &P) -> Self {
        Self::of(payload)
    }
}
