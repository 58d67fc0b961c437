//! A payload's run as JSON.

use serde_json::{Map, Value as Json, json};

use crate::trace::record::{MetricCheck, PayloadOutput, PayloadRun, Polarity};

/// The run as one object, its metrics by path. JSON has no value for a metric that is no number: it is `null`.
pub(super) fn json(run: &PayloadRun) -> Json {
    let metrics: Map<String, Json> =
        run.metrics.iter().map(|metric| (metric.path.clone(), json!(metric.value))).collect();
    let declared = run.declared.iter().map(|metric| {
        let polarity = match metric.polarity {
            Polarity::Neutral => "neutral",
            Polarity::HigherBetter => "higher_better",
            Polarity::LowerBetter => "lower_better",
        };
        json!({ "path": metric.path, "polarity": polarity, "unit": metric.unit })
    });
    json!({
        "name": run.name,
        "program": run.program,
        "package": run.package,
        "args": run.args,
        "cgroup": run.cgroup,
        "pid": run.pid,
        "began_ns": run.began_ns,
        "wall_ns": run.wall_ns,
        "cpu_ns": run.cpu_ns,
        "timeout_ns": run.timeout_ns,
        "end": format!("{:?}", run.end),
        "exit_code": run.exit_code,
        "signal": run.signal,
        "fault": run.fault,
        "output": match run.output {
            PayloadOutput::ExitCode => "exit_code",
            PayloadOutput::Json => "json",
        },
        "stdout_bytes": run.stdout_bytes,
        "stderr_bytes": run.stderr_bytes,
        "stdout_tail": run.stdout_tail,
        "stderr_tail": run.stderr_tail,
        "metrics": metrics,
        "metrics_left_out": run.metrics_left_out,
        "metrics_fault": run.metrics_fault,
        "declared": declared.collect::<Vec<_>>(),
        "checks": run.checks.iter().map(check).collect::<Vec<_>>(),
    })
}

fn check(check: &MetricCheck) -> Json {
    match check {
        MetricCheck::Min { path, limit } => json!({ "metric": path, "min": limit }),
        MetricCheck::Max { path, limit } => json!({ "metric": path, "max": limit }),
        MetricCheck::Range { path, low, high } => json!({ "metric": path, "min": low, "max": high }),
        MetricCheck::Exists { path } => json!({ "metric": path }),
        MetricCheck::ExitCode { code } => json!({ "exit_code": code }),
    }
}
