//! CSV, as RFC 4180 has it.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;

use crate::run::Run;
use crate::value::leaves;

use super::events::{details, name};

/// Write the captures, one a row: its tag, kind, times in ns, phase, why it was missed if it was, pause in us, and then a
/// column for each global variable of the scheduler. A cell without a value is empty.
///
/// # Errors
/// Those of `out`.
pub fn series_csv(run: &Run<'_>, out: &mut dyn Write) -> csv::Result<()> {
    let rows: Vec<(_, HashMap<String, String>)> = run
        .samples
        .iter()
        .map(|sample| {
            let snapshot = run.samples.snapshot(sample);
            let values = leaves(snapshot.vars());
            (sample, values.into_iter().map(|(name, value)| (name, value.render())).collect())
        })
        .collect();
    let variables: BTreeSet<&String> = rows.iter().flat_map(|(_, values)| values.keys()).collect();
    let mut csv = csv::Writer::from_writer(out);
    let fixed = ["tag", "kind", "since_start_ns", "guest_ns", "phase", "missed", "pause_us"];
    csv.write_record(fixed.into_iter().chain(variables.iter().map(|name| name.as_str())))?;
    for (sample, values) in &rows {
        let phase = sample.phase.as_ref().map_or_else(String::new, |(index, _)| index.to_string());
        let fixed = [
            sample.tag.clone(),
            format!("{:?}", sample.kind),
            run.since_start_ns(sample.guest_ns).to_string(),
            sample.guest_ns.to_string(),
            phase,
            sample.missed.clone().unwrap_or_default(),
            sample.pause_us.to_string(),
        ];
        let values = variables.iter().map(|&name| values.get(name).cloned().unwrap_or_default());
        csv.write_record(fixed.into_iter().chain(values))?;
    }
    csv.flush()?;
    Ok(())
}

/// Write the events, one a row: times in ns, what kind of event, and what it says as a JSON object.
///
/// # Errors
/// Those of `out`.
pub fn events_csv(run: &Run<'_>, out: &mut dyn Write) -> csv::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["since_start_ns", "guest_ns", "host_ns", "event", "details"])?;
    for event in &run.events {
        csv.write_record([
            run.since_start_ns(event.guest_ns).to_string(),
            event.guest_ns.to_string(),
            event.host_ns.to_string(),
            name(&event.body).to_owned(),
            details(&event.body).to_string(),
        ])?;
    }
    csv.flush()?;
    Ok(())
}
