//! Limits eased by what the host's gaps can account for: what breaks even these is the scheduler's failure all the same.

use crate::judge::host_gaps::HostGaps;
use crate::run::Run;
use crate::trace::record::{Stage, Thresholds};
use crate::units::HostNs;

/// A wait gets as much longer as the gap in it, and then the guest catches up on what the gap kept from it.
const AFTERMATH: u64 = 2;
const MS: u64 = 1_000_000;

/// What a run is judged by once its gaps are allowed for.
pub(super) struct Eased {
    pub limits: Thresholds,
    /// A worker may have done no work at all.
    pub may_idle: bool,
}

/// The limits of a run whose host did not run the machine for some of the body's time; `None` where it always did. Those that a gap of
/// any length can break are not set, and those of where something was, not when, are as they were.
pub(super) fn eased(run: &Run<'_>, limits: &Thresholds) -> Option<Eased> {
    let gaps = HostGaps::of(run);
    let (began, ended) = body(run);
    let missing_ns = gaps.reaching_into_ns(began, ended).saturating_mul(AFTERMATH);
    if missing_ns == 0 {
        return None;
    }
    // Of what is measured over all of a worker's time, at most this part can be missing. Workers of a step live for a part of the body.
    let body_ns = ended.0.saturating_sub(began.0);
    let whole = run.workers().filter(|worker| worker.fault.is_none() && worker.wall_ns > 0);
    let least_ns = whole.map(|worker| worker.wall_ns).fold(body_ns, u64::min);
    let part = (missing_ns as f64 / least_ns.max(1) as f64).min(1.0);
    let least = |limit: Option<f64>| limit.map(|limit| limit * (1.0 - part));
    let limits = Thresholds {
        max_gap_ms: limits.max_gap_ms.map(|ms| ms.saturating_add(missing_ns.div_ceil(MS))),
        max_p99_wake_latency_ns: limits.max_p99_wake_latency_ns.map(|ns| ns.saturating_add(missing_ns)),
        min_share_pct: least(limits.min_share_pct),
        max_spread_pct: limits.max_spread_pct.map(|spread| spread + 100.0 * part),
        min_work_rate: least(limits.min_work_rate),
        min_iteration_rate: least(limits.min_iteration_rate),
        max_throughput_cv: None,
        max_wake_latency_cv: None,
        max_imbalance_ratio: None,
        max_local_dsq_depth: None,
        max_fallback_rate: None,
        max_keep_last_rate: None,
        fail_on_stall: false,
        ..limits.clone()
    };
    Some(Eased { limits, may_idle: part >= 1.0 })
}

/// From the body's start to its end, by the host's clock; of a body that did not come to one of these, all that the run has.
fn body(run: &Run<'_>) -> (HostNs, HostNs) {
    let at = |stage| run.stage(stage).map(|(_, event, _)| event.host_ns);
    let last = run.events.iter().map(|event| event.host_ns).max();
    let ended = at(Stage::BodyEnded).or_else(|| at(Stage::TestExited)).or(last);
    (at(Stage::BodyStarted).unwrap_or(HostNs(0)), ended.unwrap_or(HostNs(u64::MAX)))
}
