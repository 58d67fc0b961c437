//! What happened in the guest: its workers, the timeline, and the ends of its logs.

use crate::judge::how_it_ended;
use crate::kernel::log::read_log;
use crate::run::{Checkpoints, Run};
use crate::text::{Align, both_ends, clean, counted, layout, seconds, shorten, tail};
use crate::trace::record::{
    Away, CaptureKind, EventBody, GuestEnd, OutputSource, ProbeNews, Stage, WatchNews,
};
use crate::units::GuestNs;
use crate::verdict::{Outcome, Verdict};
use crate::view::{dmesg, probes, watches};

use super::{Detail, Section};

/// Workers that are shown.
const WORKERS: usize = 32;
/// Entries that are shown of the beginning, and of the end.
const EACH_END: usize = 20;
/// syslog's `KERN_WARNING`; lower is worse.
const WARNING: u8 = 4;
const WARNINGS: usize = 20;
const OUTPUT: usize = 20;
const KERNEL: usize = 12;
const CONSOLE: usize = 24;
/// Lines of the kernel log in memory that are shown.
const IN_MEMORY: usize = 24;

/// The table of workers.
pub(super) fn workers(run: &Run<'_>, detail: Detail) -> Option<Section> {
    use Align::{Left, Right};
    let time = |ns: u64| seconds(i64::try_from(ns).unwrap_or(i64::MAX));
    let head =
        ["worker", "pid", "work", "units", "CPU", "share", "longest gap", "waited", "migrations", "CPUs", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let shown = detail.most(WORKERS);
    for w in run.workers().take(shown) {
        let share = match w.wall_ns {
            0 => "-".to_owned(),
            wall => format!("{:.1}%", w.cpu_ns as f64 / wall as f64 * 100.0),
        };
        let cpus: Vec<_> = w.cpus_used.iter().take(16).map(ToString::to_string).collect();
        rows.push(vec![
            clean(&format!("{}/{}", w.cgroup, w.index)),
            w.pid.to_string(),
            clean(&w.work),
            w.work_units.to_string(),
            time(w.cpu_ns),
            share,
            time(w.max_gap_ns),
            time(w.run_delay_ns),
            w.migrations.to_string(),
            cpus.join(","),
            clean(w.fault.as_deref().unwrap_or_default()),
        ]);
    }
    if rows.len() == 1 {
        return None;
    }
    let align = [Left, Right, Left, Right, Right, Right, Right, Right, Right, Left, Left];
    let mut lines = layout(&align, &rows);
    let more = run.workers().count().saturating_sub(shown);
    if more > 0 {
        lines.push(format!("and {more} more; `ktstr replay TRACE --full` has all"));
    }
    Some(Section { title: "workers".to_owned(), lines })
}

/// What happened when: stages, phases, operations, and captures that are not periodic.
pub(super) fn timeline(run: &Run<'_>, detail: Detail) -> Section {
    let mut entries: Vec<(GuestNs, String)> = Vec::new();
    for event in &run.events {
        let text = match &event.body {
            EventBody::Stage { stage, detail } => with(stage.as_str(), detail),
            EventBody::Body { error: Some(_), .. } => "the body returned an error".to_owned(),
            EventBody::PhaseBegin { index, name } => format!("phase {index} begins: {name}"),
            EventBody::PhaseEnd { index } => format!("phase {index} ends"),
            EventBody::Op { name, detail } => with(name, detail),
            EventBody::Payload(run) => format!("payload {} {}", run.name, how_it_ended(run)),
            EventBody::LongWait(wait) => {
                let capture = wait.sample.and_then(|index| run.sample(index));
                with(
                    &capture.map_or_else(|| "no capture".to_owned(), |s| format!("capture {}", s.tag)),
                    &wait.in_words(),
                )
            }
            EventBody::End { end, detail } => with(&format!("the machine ended ({end:?})"), detail),
            body => match of_asked(body) {
                Some(text) => text,
                None => continue,
            },
        };
        entries.push((event.guest_ns, text));
    }
    entries.extend(run.sub_schedulers().iter().map(|news| (news.at, news.in_words())));
    // A watch's fire has its line already, and so has a long wait.
    let told = |kind: CaptureKind| {
        matches!(kind, CaptureKind::Periodic | CaptureKind::Watch | CaptureKind::HalfWatchdog)
    };
    for sample in run.samples.iter().filter(|s| !told(s.kind)) {
        entries.push((sample.guest_ns, format!("capture {}", sample.tag)));
    }
    // Stable: what happened at the same time stays in the order in which it was recorded.
    entries.sort_by_key(|(at, _)| *at);
    let row =
        |(at, text): &(GuestNs, String)| vec![seconds(run.since_start_ns(*at)), shorten(&clean(text), 140)];
    let more = |left_out| format!("{left_out} more; `ktstr replay TRACE --full` has all");
    let rows = both_ends(&entries, detail.most(EACH_END), row, more);
    Section { title: "timeline".to_owned(), lines: layout(&[Align::Right, Align::Left], &rows) }
}

/// A line of the timeline for what happened to a watch or a probe. The calls of a probe are too many for one each.
fn of_asked(body: &EventBody) -> Option<String> {
    let (what, away) = match body {
        EventBody::Watch(news) => (format!("watch {}", news.target), news.what.away()),
        EventBody::Probe(news) => (format!("probe {}", news.target), news.what.away()),
        _ => return None,
    };
    if let Some((how, why)) = away {
        let how = match how {
            Away::Waiting => "waits",
            Away::Disarmed => "taken away",
            Away::Refused => "refused",
        };
        return Some(format!("{what} {how}: {why}"));
    }
    match body {
        EventBody::Watch(news) => match &news.what {
            WatchNews::Armed { value, .. } => Some(format!("{what} armed: {value}")),
            WatchNews::Fired(fire) => {
                let by = fire.source.as_ref().unwrap_or(&fire.place);
                Some(format!("{what}: {} -> {} on CPU {} by {by}", fire.old, fire.new, fire.cpu))
            }
            _ => None,
        },
        EventBody::Probe(news) => match &news.what {
            ProbeNews::Armed { place, .. } => Some(format!("{what} armed: {place}")),
            _ => None,
        },
        _ => None,
    }
}

/// What the watches saw.
pub(super) fn watches(run: &Run<'_>) -> Section {
    let log = run.watches();
    let lines = log.watches.iter().flat_map(|watch| watches::lines(run, watch)).collect();
    Section { title: "watches".to_owned(), lines }
}

/// What the probes saw.
pub(super) fn probes(run: &Run<'_>) -> Section {
    let log = run.probes();
    let lines = log.probes.iter().flat_map(|probe| probes::short(run, probe)).collect();
    Section { title: "probes".to_owned(), lines }
}

fn with(what: &str, detail: &str) -> String {
    if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") }
}

/// Ends of logs: the kernel's warnings first, then what the programs wrote, then the kernel log, then the console.
pub(super) fn logs(run: &Run<'_>, verdict: &Verdict, detail: Detail) -> Vec<Section> {
    let line = |(_, at, text): (u8, GuestNs, &str)| {
        format!("{:>9}  {}", seconds(run.since_start_ns(at)), clean(text))
    };
    // What the kernel says while it boots is of the machine, not of the run, if it came as far as a run.
    let began = [Stage::JobUnpacked, Stage::SchedulerStarted]
        .map(|stage| run.stage(stage).map(|(_, e, _)| e.guest_ns));
    let began_ns = began.into_iter().flatten().min().unwrap_or_default();
    let warns = |(level, at, _): &(u8, GuestNs, &str)| *level <= WARNING && *at >= began_ns;
    let warnings: Vec<_> = run.kmsg().filter(warns).map(line).collect();
    let all: Vec<_> = run.kmsg().filter(|(_, at, _)| *at >= began_ns).map(line).collect();
    let mut sections = Vec::new();
    let mut programs = Vec::new();
    for (source, whose) in
        [(OutputSource::Scheduler, "scheduler's output"), (OutputSource::Test, "test's output")]
    {
        // Of a scheduler that did not load, the finding itself has shown the end of what it wrote; of a body that
        // returned Ok, libtest says no more.
        let told = match source {
            OutputSource::Scheduler => run.stage(Stage::SchedulerEnabled).is_none(),
            _ => verdict.findings.iter().any(|f| f.what == "body" && f.outcome == Outcome::Pass),
        };
        if told {
            continue;
        }
        let (lines, before) = tail(&run.output(source), detail.most(OUTPUT));
        programs.push(Section { title: titled(whose, before), lines });
    }
    let all_warn = all.iter().all(|line| warnings.contains(line));
    sections.push(last("kernel's warnings and errors", warnings, detail.most(WARNINGS)));
    sections.extend(programs);
    if !all_warn {
        sections.push(last("kernel log", all, detail.most(KERNEL)));
    }
    if console_matters(run) || detail == Detail::Full {
        let (lines, before) = tail(&run.console(), detail.most(CONSOLE));
        sections.push(Section { title: titled("console", before), lines });
        let (lines, before) = tail(&run.output(OutputSource::Init), detail.most(OUTPUT));
        sections.push(Section { title: titled("guest-init's output", before), lines });
    }
    sections
}

/// The console says little that the kernel log does not, unless the guest did not come to an orderly end.
fn console_matters(run: &Run<'_>) -> bool {
    run.stage(Stage::InitFailed).is_some() || !matches!(run.end(), Some((GuestEnd::PoweredOff, _)))
}

fn last(whose: &str, lines: Vec<String>, max: usize) -> Section {
    let before = lines.len().saturating_sub(max);
    Section { title: titled(whose, before), lines: lines.into_iter().skip(before).collect() }
}

fn titled(whose: &str, before: usize) -> String {
    if before == 0 { whose.to_owned() } else { format!("{whose} (after {})", counted(before, "line")) }
}

/// The end of the kernel log out of memory, where the guest did not live to hand it on.
pub(super) fn log_in_memory(run: &Run<'_>, detail: Detail) -> Option<Section> {
    if !console_matters(run) {
        return None;
    }
    let checkpoints = Checkpoints::of(run).ok()?;
    let checkpoint = checkpoints.open(*checkpoints.all().last()?).ok()?;
    let log = read_log(&checkpoint.kernel()).ok()?;
    let received = run.events.iter().filter_map(|event| match &event.body {
        EventBody::Kmsg { sequence, .. } => Some(*sequence),
        _ => None,
    });
    let received = received.max();
    let fresh = log.records.iter().filter(|record| received.is_none_or(|last| record.seq > last));
    let lines: Vec<_> = fresh.flat_map(dmesg::lines).collect();
    let from = lines.len().saturating_sub(detail.most(IN_MEMORY));
    let title = format!("kernel log in memory that did not reach the host ({})", checkpoint.title());
    Some(Section { title, lines: lines.into_iter().skip(from).collect() })
}
