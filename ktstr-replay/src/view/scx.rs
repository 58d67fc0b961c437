//! sched_ext and its schedulers, a line for each thing.

use super::{OpenCheckpoint, Shown, cell, millis};
use crate::kernel::scx::{Scheduler, read_schedulers};
use crate::kernel::{Gaps, KernelError};
use crate::text::{Align, layout};
use crate::text::{clean, escaped};

pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let Some(all) = read_schedulers(&checkpoint.kernel()) else {
        let lines = vec!["this kernel has no sched_ext".to_owned()];
        return Ok(Shown::new(lines, &Gaps::default(), &serde_json::Value::Null));
    };
    let mut rows = vec![
        ("state", cell(all.state.as_ref())),
        ("schedulers enabled since boot", cell(all.enable_seq)),
        ("CPUs come and gone", cell(all.hotplug_seq)),
        ("tasks refused", cell(all.nr_rejected)),
        ("watchdog last looked, ms ago", cell(all.watchdog_age_ns.map(millis))),
    ];
    if all.schedulers.is_empty() {
        rows.push(("schedulers", "none".to_owned()));
    }
    let mut lines = two_columns(rows);
    for scheduler in &all.schedulers {
        lines.push(String::new());
        lines.push(clean(&format!("scheduler {}", cell(scheduler.name.as_ref()))));
        lines.extend(two_columns(of(scheduler)).iter().map(|line| format!("  {line}")));
    }
    Ok(Shown::new(lines, &all.gaps, &all))
}

fn of(scheduler: &Scheduler) -> Vec<(&str, String)> {
    let signed = |ns: u64| millis(i64::try_from(ns).unwrap_or(i64::MAX));
    let mut rows = vec![
        ("level", cell(scheduler.level)),
        ("cgroup", cell(scheduler.cgroup.as_ref())),
        ("flags", cell(Some(scheduler.flags.join("|")).filter(|flags| !flags.is_empty()))),
        ("default slice, ms", cell(scheduler.slice_dfl_ns.map(signed))),
        ("watchdog's timeout, ms", cell(scheduler.watchdog_timeout_ns.map(signed))),
        ("bypass depth", cell(scheduler.bypass_depth)),
        ("aborting", cell(scheduler.aborting)),
    ];
    if scheduler.exit_kind != 0 {
        let kind = scheduler.exit_kind_name.as_deref().unwrap_or("exit kind");
        rows.push(("exit", clean(&format!("{kind} ({})", scheduler.exit_kind))));
        rows.push(("exit code", cell(scheduler.exit_code)));
        let one_line = |text: &Option<String>| cell(text.as_ref().map(|text| escaped(text.trim_end())));
        rows.push(("reason", one_line(&scheduler.exit_reason)));
        rows.push(("message", one_line(&scheduler.exit_message)));
        rows.extend(scheduler.exit_backtrace.iter().map(|frame| ("at", clean(frame))));
        if let Some(dump) = &scheduler.exit_dump {
            rows.push(("dump", format!("{} lines, see --json", dump.lines().count())));
        }
    }
    rows.extend(scheduler.events.iter().map(|event| (event.name.as_str(), event.count.to_string())));
    rows
}

fn two_columns(rows: Vec<(&str, String)>) -> Vec<String> {
    let rows: Vec<_> = rows.into_iter().map(|(what, value)| vec![clean(what), value]).collect();
    layout(&[Align::Left, Align::Left], &rows)
}
