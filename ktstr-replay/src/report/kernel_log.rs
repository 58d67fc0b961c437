//! The end of the kernel log out of memory, where the guest did not live to hand it on.

use crate::kernel::log::read_log;
use crate::run::Checkpoints;
use crate::run::Run;
use crate::trace::record::EventBody;
use crate::view::dmesg;

use super::Section;
use super::logs::console_matters;

/// Lines that are shown.
const LINES: usize = 24;

pub(super) fn section(run: &Run<'_>) -> Option<Section> {
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
    let from = lines.len().saturating_sub(LINES);
    let title = format!("kernel log in memory that did not reach the host ({})", checkpoint.title());
    Some(Section { title, lines: lines.into_iter().skip(from).collect() })
}
