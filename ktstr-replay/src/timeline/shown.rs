//! Events as a person reads them, and those around a moment.

use super::build::ScenarioStep;
use super::happened::What;
use super::{Happened, Timeline};
use crate::text::{Align, clean, escaped, layout};
use crate::units::GuestNs;

/// Events that are shown before and after one.
const NEIGHBOURS: usize = 4;

impl Timeline {
    /// What kind of event it is, and the event in words.
    fn words(&self, event: &Happened<'_>) -> (&'static str, String) {
        match event.what {
            What::Step(step) => (self.history.kind(step), self.history.words(step)),
            What::Fire(watch, fire) => {
                let task = task(fire.pid, &fire.comm);
                let place = escaped(&fire.place);
                ("watch", format!("{} {} -> {}, by {task} in {place}", watch.target, fire.old, fire.new))
            }
            What::Call(probe, call) => {
                let task = task(call.hit.pid, &call.hit.comm);
                let values: Vec<String> =
                    call.values().map(|(name, value)| format!("{name}={value}")).collect();
                ("probe", format!("{}({}), by {task}", probe.function(), values.join(", ")))
            }
            What::Scenario(ScenarioStep::Op { name, detail }) => ("op", format!("{name} {detail}")),
            What::Scenario(ScenarioStep::Begin { index, name }) => ("phase_begin", format!("{index} {name}")),
            What::Scenario(ScenarioStep::End { index, name }) => ("phase_end", format!("{index} {name}")),
        }
    }

    /// `worker[105]`, of a place in the history.
    pub(crate) fn task_named(&self, place: u32) -> String {
        let task = self.history.task(place);
        task.map_or_else(|| "?".to_owned(), |task| format!("{}[{}]", escaped(&task.comm), task.pid))
    }

    /// Events as a table, those that `is_marked` takes with a mark.
    pub(crate) fn table(
        &self,
        events: &[Happened<'_>],
        is_marked: impl Fn(&Happened<'_>) -> bool,
    ) -> Vec<String> {
        if events.is_empty() {
            return Vec::new();
        }
        let mut rows = vec![["  time", "CPU", "event", ""].map(str::to_owned).to_vec()];
        rows.extend(events.iter().map(|event| {
            let mark = if is_marked(event) { ">" } else { " " };
            let s = self.since_start_ns(event.at) as f64 / 1e9;
            let cpu = event.cpu().map_or_else(|| "-".to_owned(), |cpu| cpu.to_string());
            let (kind, words) = self.words(event);
            vec![format!("{mark} {s:.6}s"), cpu, kind.to_owned(), clean(&words)]
        }));
        layout(&[Align::Left, Align::Right, Align::Left, Align::Left], &rows)
    }

    /// The events around a moment as a table, those that `is_marked` takes with a mark.
    pub(crate) fn around(&self, at: GuestNs, is_marked: impl Fn(&Happened<'_>) -> bool) -> Vec<String> {
        let mut near: Vec<Happened<'_>> = Vec::new();
        let steps = &self.history.steps;
        let begin = steps.partition_point(|step| step.at < at);
        let from = begin.saturating_sub(NEIGHBOURS);
        let behind = steps.partition_point(|step| step.at <= at).saturating_add(NEIGHBOURS).min(steps.len());
        near.extend((from..behind).filter_map(|nth| {
            steps.get(nth).map(|step| Happened { at: step.at, nth, what: What::Step(step) })
        }));
        let others = self.scenario.iter().enumerate();
        near.extend(others.map(|(nth, (at, step))| Happened { at: *at, nth, what: What::Scenario(step) }));
        for watch in &self.watches.watches {
            near.extend(watch.fires.iter().enumerate().map(|(nth, (at, fire))| Happened {
                at: *at,
                nth: super::matching::numbered(watch.number, nth),
                what: What::Fire(watch, fire),
            }));
        }
        for probe in &self.probes.probes {
            near.extend(probe.calls.iter().enumerate().map(|(nth, call)| Happened {
                at: call.at,
                nth: super::matching::numbered(probe.number, nth),
                what: What::Call(probe, call),
            }));
        }
        near.sort_by_key(Happened::key);
        // What it is about is among those of that time, of which there may be many.
        let first = near.iter().position(&is_marked);
        let first = first.unwrap_or_else(|| near.partition_point(|event| event.at < at));
        let end = first.saturating_add(NEIGHBOURS + 1).min(near.len());
        let shown = near.get(first.saturating_sub(NEIGHBOURS)..end).unwrap_or_default();
        self.table(shown, is_marked)
    }
}

fn task(pid: Option<u32>, comm: &str) -> String {
    pid.map_or_else(|| "an unknown task".to_owned(), |pid| format!("{}[{pid}]", escaped(comm)))
}
