//! Tests that are `host_only`: their body runs here, in a process of its own. No kernel, emulator or cache is needed.

use std::env;

use anyhow::{Context, Result};
use ktstr_record::recorder::{HostRequest, record_on_host};
use ktstr_replay::trace::record::Manifest;

use super::environment::{BODY, Environment};
use super::{judge, prepare, results};
use crate::test_def::TestDef;

/// Record the body and judge the recording.
///
/// # Errors
/// A test that did not pass; a process that cannot be started, a trace that cannot be written.
pub fn run(def: &TestDef, environment: &Environment) -> Result<()> {
    let request = HostRequest {
        trace: results::trace_path(def, environment)?,
        manifest: Manifest { test: prepare::test_info(def), ..Manifest::default() },
        claims: prepare::recorded_claims(def)?,
        program: env::current_exe().context("could not find the test binary")?,
        args: prepare::guest_args(def),
        variable: BODY,
        timeout: prepare::body_limit(def),
    };
    judge::judge(def, record_on_host(request)?)?.print()
}
