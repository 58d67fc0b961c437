//! Running a test again whose scheduler died, to see how it comes to that: in a second machine that watches and probes what the first run's
//! trace names. What that saw becomes a further segment of the first run's trace.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use ktstr_record::recorder::{RecordRequest, SignalGuard, is_interrupted, record};
use ktstr_replay::repro::{Chain, NoChain, Target, TargetKind, is_same_failure};
use ktstr_replay::run::Run;
use ktstr_replay::text::escaped;
use ktstr_replay::trace::record::manifest::{ReproAttempt, ReproInfo};
use ktstr_replay::trace::{Trace, append_segment};
use ktstr_replay::units::millis;
use ktstr_replay::verdict::Outcome;

use super::environment::{AUTO_REPRO, Environment};
use super::judge::{self, Judged};
use super::left::beside;
use super::prepare;
use super::say::say;
use crate::probe::ProbeSpec;
use crate::test_def::TestDef;
use crate::watch::WatchSpec;

/// How often it is tried.
const ATTEMPTS: usize = 3;

/// Run a test again whose scheduler died, up to three times, until that happens once more. What goes wrong here is said, and takes
/// nothing from the first run. Returns whether its trace has a second machine now.
pub fn repro(def: &TestDef, environment: &Environment, first: &Judged) -> bool {
    if !is_wanted(def, environment, first) {
        return false;
    }
    // A check of the test's own may panic at what the second machine saw.
    let tried = catch_unwind(AssertUnwindSafe(|| try_repro(def, environment, first)))
        .unwrap_or_else(|_| Err(anyhow!("it panicked, as is said above")));
    tried.unwrap_or_else(|error| {
        say(&format!("the failure could not be made to happen again: {error:#}"));
        false
    })
}

fn is_wanted(def: &TestDef, environment: &Environment, first: &Judged) -> bool {
    let failed = first.verdict.outcome() == Outcome::Fail;
    failed
        && def.auto_repro
        && def.scheduler.is_some()
        && !def.expect_err
        && !environment.no_repro
        && !first.interrupted
        && !is_interrupted()
}

fn try_repro(def: &TestDef, environment: &Environment, first: &Judged) -> Result<bool> {
    // A signal between two machines would end this process without the report of the first, and leave files.
    let _signals = SignalGuard::new().context("could not handle signals")?;
    let trace = Trace::open(&first.path)?;
    let run = Run::load(&trace);
    let chain = match Chain::of(&run) {
        Ok(chain) => chain,
        // Whatever else failed, there is no scheduler's end to look at.
        Err(NoChain::NoFailure | NoChain::NoBody) => return Ok(false),
        Err(error @ NoChain::Memory(_)) => return Err(error.into()),
    };
    // What fails besides the exit that the test wants is nothing that a scheduler died of, unless one below it did.
    let is_expected = |kind| run.scheduler_exit().is_some_and(|exit| exit.is_of_kind(kind));
    if chain.below.is_empty() && def.expect_scx_exit.is_some_and(is_expected) {
        return Ok(false);
    }
    let of_kind = |kind| {
        let these = chain.targets.iter().filter(move |target| target.kind == kind);
        these.map(Target::text).collect::<Vec<String>>()
    };
    let looked_at = LookedAt {
        watched: of_kind(TargetKind::Watch),
        probed: of_kind(TargetKind::Probe),
        failure_at: Duration::from_nanos(chain.after_ns),
    };
    let targets = looked_at.watched.iter().chain(&looked_at.probed).cloned().collect();
    let mut info = ReproInfo { attempts: Vec::new(), targets };
    let mut last: Option<SecondTrace> = None;
    for attempt in 1..=ATTEMPTS {
        say(&format!(
            "{} died; the test is run again to see how, attempt {attempt} of {ATTEMPTS}, with {} watched and \
             {} functions probed ({AUTO_REPRO}=0 or `auto_repro = false` turns this off)",
            if chain.below.is_empty() { "the scheduler" } else { "a scheduler below the root" },
            escaped(&looked_at.watched.join(", ")),
            looked_at.probed.len()
        ));
        let again = TestDef { seed: seed(def.seed, attempt), ..*def };
        let begun = Instant::now();
        let (second, its_trace) = attempted(&again, environment, &looked_at, &first.path)?;
        if second.interrupted || is_interrupted() {
            return Ok(false);
        }
        let seen = Trace::open(&second.path)?;
        let seen = Run::load(&seen);
        let reproduced = is_same_failure(&run, &seen);
        let title = ktstr_replay::report::title(&seen, &second.verdict);
        let took_ms = millis(begun.elapsed());
        info.attempts.push(ReproAttempt { seed: again.seed, reproduced, ended: title, took_ms });
        last = Some(its_trace);
        if reproduced {
            break;
        }
    }
    let Some(last) = last else { return Ok(false) };
    append_segment(&first.path, &last.0, |manifest| manifest.repro = Some(info))
        .context("could not add the second machine to the trace")?;
    Ok(true)
}

/// The seed of an attempt: another one each time, and the same whenever the test is run.
fn seed(first: u64, attempt: usize) -> u64 {
    first.wrapping_add(attempt as u64)
}

/// One attempt, recorded and judged.
fn attempted(
    def: &TestDef,
    environment: &Environment,
    looked_at: &LookedAt,
    first: &Path,
) -> Result<(Judged, SecondTrace)> {
    let mut request = prepare::prepare(def, environment)?;
    request.trace = beside(first);
    look_at(&mut request, looked_at);
    let mut recording = record(request)?;
    let its_trace = SecondTrace(recording.path.clone());
    // Judged, it would be reported in the place of the first.
    if let Some(error) = recording.write_error.take() {
        return Err(Error::new(error).context("what the second machine saw could not be written"));
    }
    Ok((judge::judge(def, recording)?, its_trace))
}

/// What the chain names.
struct LookedAt {
    watched: Vec<String>,
    probed: Vec<String>,
    /// How long after the begin of the body it failed.
    failure_at: Duration,
}

/// Have the recorder watch and probe what the chain names, and take captures before the failure is due.
fn look_at(request: &mut RecordRequest, LookedAt { watched, probed, failure_at }: &LookedAt) {
    request.captures.failure_at = Some(*failure_at);
    for target in watched {
        let asked = request.watches.iter().any(|order| order.target == *target);
        if !asked && let Ok(order) = WatchSpec::on(target).order() {
            request.watches.push(order);
        }
    }
    for target in probed {
        let asked = request.probes.iter().any(|order| order.target == *target);
        if !asked && let Ok(order) = ProbeSpec::on(target).order() {
            request.probes.push(order);
        }
    }
}

/// The file of a second machine's trace, which is there until it is in the first one, or of no use.
struct SecondTrace(PathBuf);

impl Drop for SecondTrace {
    fn drop(&mut self) {
        // A file more does no harm.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::TEST;

    #[test]
    fn a_second_machines_file_is_there_no_longer_than_it_is_of_use() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let path = dir.path().join("a.repro.trace.zst");
        fs::write(&path, "").expect("a file");
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _trace = SecondTrace(path.clone());
            assert!(!path.exists(), "it is there");
        }));
        assert!(panicked.is_err() && !path.exists());
    }

    #[test]
    fn every_attempt_has_a_seed_of_its_own() {
        let seeds: std::collections::BTreeSet<u64> =
            (0..=ATTEMPTS).map(|attempt| seed(TEST.seed, attempt)).collect();
        assert_eq!(seeds.len(), ATTEMPTS + 1);
        assert_eq!(seed(u64::MAX, 1), 0);
    }
}
