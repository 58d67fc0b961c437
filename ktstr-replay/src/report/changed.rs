//! The scheduler's variables that changed between the last two captures, where there is no exit that shows them.

use crate::run::Run;
use crate::text::seconds;

use super::Section;
use super::exit::show;
use crate::text::clean;
use crate::text::table::{Align, layout};
use crate::value::changing;

/// Variables that are shown.
const SHOWN: usize = 20;

pub(super) fn section(run: &Run<'_>) -> Option<Section> {
    if run.scheduler_exit().is_some_and(|exit| exit.sample.is_some()) {
        return None;
    }
    let mut with_maps = run.samples.iter().rev().filter(|s| s.missed.is_none() && !s.maps.is_empty());
    let (last, before) = (with_maps.next()?, with_maps.next()?);
    let (now, then) = (run.samples.snapshot(last), run.samples.snapshot(before));
    let at = |s: &crate::trace::record::Sample| {
        clean(&format!("{} ({})", s.tag, seconds(run.since_start_ns(s.guest_ns))))
    };
    let mut rows = vec![vec!["variable".to_owned(), at(before), at(last)]];
    let mut more = 0;
    for (name, value) in changing(&now) {
        let Ok(old) = then.var(&name) else { continue };
        if old.same(&value) {
            continue;
        }
        if rows.len() > SHOWN {
            more += 1;
            continue;
        }
        rows.push(vec![clean(&name), show(&old), show(&value)]);
    }
    if rows.len() == 1 {
        return None;
    }
    let mut lines = layout(&[Align::Left; 3], &rows);
    if more > 0 {
        lines.push(format!("and {more} more; `ktstr replay TRACE --var NAME` prints any"));
    }
    Some(Section {
        title: "scheduler's variables that changed between the last two captures".to_owned(),
        lines,
    })
}
