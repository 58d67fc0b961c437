//! Whether what was asked for came: captures, workers' reports, claims and checks.
//!
//! What can get lost between a test's definition and its verdict is compared with what the definition says, which the
//! manifest has. A failure of this kind is the harness's, or comes of a run that ended early; it is never the failure
//! that a test expects.

use std::collections::{BTreeMap, BTreeSet};

use super::thresholds::{BUSY_CLOCK_MOVES_NS, is_busy, worker_name};
use crate::claim::Claim;
use crate::run::Run;
use crate::text::{counted, listed, seconds};
use crate::trace::record::{CaptureKind, Loss, LossKind, Sample, ScxState, Stage};
use crate::verdict::{Finding, Origin, Outcome, Verdict};

fn finding(what: &str, outcome: Outcome, found: String) -> Finding {
    Finding::new(Origin::Run, what, outcome, found)
}

/// Whether each capture that was asked for was taken, once, and after the one before it.
///
/// `so_far`: the outcome of scheduler, machine and body. A run that ended early has no captures after its end.
pub(super) fn judge_captures(run: &Run<'_>, so_far: Outcome) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(absent(run));
    findings.extend(missed(run, so_far));
    findings.extend(same_instant(run));
    findings.extend(other_maps(run));
    findings
}

/// Captures without even a placeholder, or with more than one record.
fn absent(run: &Run<'_>) -> Option<Finding> {
    // There was nothing to take one of.
    if run.manifest.is_on_host() {
        return None;
    }
    let began = run.stage(Stage::BodyStarted).is_some();
    let tested = run.stage(Stage::TestExited).is_some();
    let asked = if began { run.manifest.test.num_snapshots } else { 0 };
    let mut tags: Vec<(String, bool)> = (0..asked).map(|i| (format!("periodic_{i:03}"), true)).collect();
    tags.push(("attach".to_owned(), began));
    tags.push(("end".to_owned(), tested && run.scheduler_exits().is_empty()));
    let mut by_tag: BTreeMap<&str, usize> = BTreeMap::new();
    for sample in run.samples.iter().filter(|s| s.kind != CaptureKind::OnDemand) {
        *by_tag.entry(&sample.tag).or_default() += 1;
    }
    let count = |tag: &str| by_tag.get(tag).copied().unwrap_or_default();
    let wrong: Vec<String> = tags
        .iter()
        .filter_map(|(tag, wanted)| match (count(tag), wanted) {
            (0, true) => Some(format!("{tag}: neither the capture nor a word of why it is not there")),
            (n @ 2.., _) => Some(format!("{tag}: recorded {n} times")),
            _ => None,
        })
        .collect();
    if wrong.is_empty() {
        return None;
    }
    // A trace that is cut, damaged or short of records by its own word has lost them by that.
    let outcome = if is_short(run) { Outcome::Inconclusive } else { Outcome::Fail };
    let found = format!("{} not in the trace as asked for", counted(wrong.len(), "capture"));
    Some(finding("captures", outcome, found).with_lines(listed(wrong)))
}

/// Whether the trace itself says that records may be missing.
fn is_short(run: &Run<'_>) -> bool {
    let of_records = |loss: &Loss| {
        let kinds = [LossKind::Capture, LossKind::Write, LossKind::Records, LossKind::GuestFrames];
        // What a person had left out are whole sorts of records, of which captures are none.
        loss.count > 0 && kinds.contains(&loss.kind) && !loss.is_on_purpose()
    };
    run.is_partial() || run.losses.iter().any(of_records)
}

/// Placeholders: the test asked for a capture, and the recorder says why there is none.
fn missed(run: &Run<'_>, so_far: Outcome) -> Option<Finding> {
    let missed: Vec<(&Sample, &str)> =
        run.samples.iter().filter_map(|s| s.missed.as_deref().map(|why| (s, why))).collect();
    let (first, why) = missed.first()?;
    let ended = run.body_end().map(|(_, event)| event.guest_ns);
    let late = missed.iter().all(|(sample, _)| run.is_after_body(sample));
    let outcome = match (late, so_far) {
        // What matters of such a run has its own finding.
        (_, Outcome::Fail | Outcome::Inconclusive) => Outcome::Skip,
        (true, _) if run.scheduler_exit().is_some() => Outcome::Skip,
        (true, _) => Outcome::Fail,
        (false, _) => Outcome::Inconclusive,
    };
    let of = run.samples.iter().count();
    let mut found =
        format!("{} of {} not taken, from {} on: {why}", missed.len(), counted(of, "capture"), first.tag);
    if let (true, Some(end)) = (late, ended) {
        let window = seconds(
            i64::try_from(run.manifest.test.duration_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000),
        );
        found.push_str(&format!(
            "; the body ended at {}, before its window of {window}",
            seconds(run.since_start_ns(end))
        ));
    }
    let lines = missed.iter().map(|(sample, why)| format!("{}: {why}", sample.tag)).collect();
    Some(finding("captures", outcome, found).with_lines(if late { Vec::new() } else { listed(lines) }))
}

/// Neighbours of which the later one shows nothing newer: an old capture under a new name, or a machine that did not
/// run between them.
fn same_instant(run: &Run<'_>) -> Option<Finding> {
    let taken: Vec<&Sample> = run.taken().collect();
    let mut wrong = Vec::new();
    for pair in taken.windows(2) {
        let [one, two] = pair else { continue };
        let apart = two.guest_ns.0.checked_sub(one.guest_ns.0);
        let names = format!("{} and {}", one.tag, two.tag);
        match apart {
            None => wrong.push(format!("{names}: the guest's time goes back from one to the other")),
            Some(0) if two.host_ns > one.host_ns => {
                wrong.push(format!("{names}: of one moment of the guest's time"));
            }
            Some(ns) if ns >= BUSY_CLOCK_MOVES_NS && busy_clocks_stand(one, two) => {
                let apart = seconds(i64::try_from(ns).unwrap_or(i64::MAX));
                wrong.push(format!("{names}: {apart} apart, and no busy CPU's clock moved"));
            }
            Some(_) => {}
        }
    }
    if wrong.is_empty() {
        return None;
    }
    let found = format!("{} of captures are not one after the other", counted(wrong.len(), "pair"));
    Some(finding("captures", Outcome::Inconclusive, found).with_lines(listed(wrong)))
}

/// There are CPUs that were busy in both captures, and the clock of none of them moved.
fn busy_clocks_stand(one: &Sample, two: &Sample) -> bool {
    let mut busy = one.cpus.iter().filter(|cpu| is_busy(cpu)).filter_map(|cpu| {
        let later = two.cpus.iter().find(|other| other.cpu == cpu.cpu && is_busy(other))?;
        Some(later.clock_ns == cpu.clock_ns)
    });
    busy.next().is_some_and(|stands| stands && busy.all(|stands| stands))
}

/// Neighbours that have a map of the same name and are not of the same map: what is compared over time is then not one thing.
fn other_maps(run: &Run<'_>) -> Option<Finding> {
    let taken: Vec<&Sample> = run.with_maps().collect();
    let enabling = |s: &Sample| s.scx.as_ref().map(|scx| (scx.enable_seq, scx.ops_name.clone()));
    let is_enabled = |s: &Sample| s.scx.as_ref().is_some_and(ScxState::is_enabled);
    let only = |s: &Sample, name: &str| {
        let mut ids = s.maps.iter().filter(|map| map.name == name).map(|map| map.id);
        ids.next().filter(|_| ids.next().is_none())
    };
    let mut wrong = Vec::new();
    for pair in taken.windows(2) {
        let [one, two] = pair else { continue };
        // A scheduler that starts again has made its maps before it is enabled.
        let of_one = enabling(one) == enabling(two) && is_enabled(one) && is_enabled(two);
        if one.kind == CaptureKind::Attach || !of_one {
            continue;
        }
        for map in &one.maps {
            if let (Some(id), Some(other)) = (only(one, &map.name), only(two, &map.name))
                && id != other
            {
                wrong.push(format!(
                    "{} and {}: {} is map {id} in the one and {other} in the other",
                    one.tag, two.tag, map.name
                ));
            }
        }
    }
    if wrong.is_empty() {
        return None;
    }
    let found = format!("{} changed under the same name", counted(wrong.len(), "map"));
    Some(finding("captures", Outcome::Inconclusive, found).with_lines(listed(wrong)))
}

/// Whether every worker that was started reported, and ended when told to.
///
/// `so_far`: the outcome of scheduler, machine and body: after their failure workers need not have come to an end.
pub(super) fn judge_workers(run: &Run<'_>, so_far: Outcome) -> Option<Finding> {
    let mut spawned: BTreeMap<String, usize> = BTreeMap::new();
    for group in run.spawned_workers() {
        *spawned.entry(group.cgroup).or_default() += group.count;
    }
    let mut reported: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for worker in run.workers() {
        *reported.entry(&worker.cgroup).or_default() += 1;
        if let Some(fault) = &worker.fault {
            wrong.push(format!("{}: {fault}", worker_name(worker)));
        }
    }
    for (cgroup, count) in &spawned {
        let came = reported.get(cgroup.as_str()).copied().unwrap_or_default();
        if came != *count {
            wrong.push(format!("cgroup {cgroup}: {count} were started and {came} reported"));
        }
    }
    if wrong.is_empty() {
        return None;
    }
    let outcome = match so_far {
        Outcome::Fail | Outcome::Inconclusive => Outcome::Skip,
        Outcome::Skip | Outcome::Pass if run.scheduler_exit().is_some() => Outcome::Skip,
        Outcome::Skip | Outcome::Pass if is_short(run) => Outcome::Inconclusive,
        Outcome::Skip | Outcome::Pass => Outcome::Fail,
    };
    let total: usize = spawned.values().sum();
    let found = match wrong.as_slice() {
        [one] => one.clone(),
        many => format!("{} faults of {}", many.len(), counted(total, "worker")),
    };
    let lines = if wrong.len() > 1 { listed(wrong) } else { Vec::new() };
    Some(finding("workers", outcome, found).with_lines(lines))
}

/// Whether the verdict has judged what the test's definition asks for, no more and no less.
///
/// `claims`: those that were recorded were to be judged, not others that a reader gave.
pub(super) fn judge_asked(run: &Run<'_>, verdict: &Verdict, claims: bool) -> Option<Finding> {
    let asked = run.manifest.test.asked.as_ref()?;
    let mut wrong = Vec::new();
    if claims {
        // In the one text form, as they are recorded; what does not parse stands for itself.
        let form =
            |text: &String| text.parse::<Claim>().map_or_else(|_| text.clone(), |claim| claim.to_string());
        let judged = verdict.findings.iter().filter(|f| f.origin == Origin::Claim).map(|f| f.what.clone());
        compare("claim", asked.claims.iter().map(form), judged, &mut wrong);
    }
    let labels: BTreeSet<String> = verdict
        .findings
        .iter()
        .filter_map(|finding| match &finding.origin {
            Origin::Check(label) => Some(label.clone()),
            _ => None,
        })
        .collect();
    compare("check", asked.checks.iter().cloned(), labels.into_iter(), &mut wrong);
    if wrong.is_empty() {
        return None;
    }
    let outcome = if is_short(run) { Outcome::Inconclusive } else { Outcome::Fail };
    let found = "what is judged is not what the test asks for".to_owned();
    Some(finding("asked", outcome, found).with_lines(listed(wrong)))
}

/// What one side has and the other has not, each as often as it is there.
fn compare(
    what: &str,
    asked: impl Iterator<Item = String>,
    judged: impl Iterator<Item = String>,
    wrong: &mut Vec<String>,
) {
    let mut balance: BTreeMap<String, i64> = BTreeMap::new();
    asked.for_each(|text| *balance.entry(text).or_default() += 1);
    judged.for_each(|text| *balance.entry(text).or_default() -= 1);
    for (text, count) in balance {
        match count {
            1.. => wrong.push(format!("the test has the {what} `{text}`, and it was not judged")),
            0 => {}
            _ => wrong.push(format!("the {what} `{text}` was judged, and the test does not have it")),
        }
    }
}
