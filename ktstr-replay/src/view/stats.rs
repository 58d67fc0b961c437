//! The statistics that the scheduler served, of all captures side by side or of one. They are no memory: a trace without
//! checkpoints has them, too.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::Shown;
use crate::run::Run;
use crate::text::{Align, layout};
use crate::text::{clean, escaped, seconds, shorten};
use crate::trace::record::Sample;
use crate::value::{MAX_LEAVES, StatsError, StatsReply, stats_leaves};

/// Most captures side by side.
const COLUMNS: usize = 12;
/// Longest text in a cell, in characters.
const CELL_CHARS: usize = 24;
/// Longest path of a member, in characters.
const MEMBER_CHARS: usize = 200;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum NoStats {
    /// There are none.
    #[error(transparent)]
    None(#[from] StatsError),
    /// There is no such capture.
    #[error("no capture at `{at}`; there are: {have}")]
    NoneAt {
        /// What was asked for.
        at: String,
        /// Tags and times of those that are there.
        have: String,
    },
    /// There are none of that capture.
    #[error("the scheduler was not asked for its statistics after the capture {tag}")]
    NotAsked {
        /// The capture.
        tag: String,
    },
}

/// Show the statistics of all captures; or those of the capture tagged `at`, or, where `at` is a time, of the last one at or
/// before it.
///
/// # Errors
/// [`NoStats`].
pub fn show_stats(run: &Run<'_>, at: Option<&str>) -> Result<Shown, NoStats> {
    let answers = run.samples.stats();
    if answers.is_empty() {
        return Err(StatsError::None.into());
    }
    let samples: Vec<&Sample> = match at {
        None => run.samples.iter().collect(),
        Some(at) => vec![run.capture_at(at).ok_or_else(|| none_at(run, at))?],
    };
    let asked: Vec<Asked<'_>> = samples
        .iter()
        .flat_map(|sample| answers.of_sample(sample.index).iter().map(|reply| Asked { sample, reply }))
        .collect();
    let json = json!({ "captures": asked.iter().map(|asked| asked.json(run)).collect::<Vec<_>>() });
    let mut lines = match (at, asked.as_slice(), samples.as_slice()) {
        (Some(_), [], [sample, ..]) => return Err(NoStats::NotAsked { tag: clean(&sample.tag) }),
        (Some(_), ..) => asked.iter().flat_map(|asked| asked.lines(run)).collect(),
        (None, ..) => side_by_side(run, &asked),
    };
    let cut = asked.iter().filter_map(|one| Some(stats_leaves(one.reply.json().ok()?)));
    if let Some(most) = cut.filter(|leaves| leaves.is_cut).map(|leaves| leaves.found.len()).max() {
        let why = if most < MAX_LEAVES { ", as their names are long" } else { "" };
        lines.push(format!("the first {most} members of an answer are listed{why}; --json has all"));
    }
    Ok(Shown { lines, json })
}

fn none_at(run: &Run<'_>, at: &str) -> NoStats {
    let one = |sample: &Sample| format!("{} ({})", sample.tag, seconds(run.since_start_ns(sample.guest_ns)));
    let have = clean(&run.samples.iter().map(one).collect::<Vec<_>>().join(", "));
    NoStats::NoneAt { at: at.to_owned(), have }
}

/// A capture, and what the scheduler answered after it.
struct Asked<'r> {
    sample: &'r Sample,
    reply: &'r StatsReply,
}

impl Asked<'_> {
    fn json(&self, run: &Run<'_>) -> Json {
        let mut json = json!({
            "sample": self.sample.index,
            "tag": self.sample.tag,
            "since_start_ns": run.since_start_ns(self.sample.guest_ns),
            "target": self.reply.target,
            "asked_ns": self.reply.asked_ns,
            "answered_ns": self.reply.answered_ns,
        });
        match self.reply.json() {
            Ok(stats) => json["stats"] = stats.clone(),
            Err(why) => json["error"] = why.to_string().into(),
        }
        json
    }

    /// Name and time of the capture, how long after it the scheduler was asked, and how long it took to answer.
    fn row(&self, run: &Run<'_>) -> Vec<String> {
        let ms = |ns: i64| format!("{:.1}", ns as f64 / 1e6);
        let Self { sample, reply } = self;
        let asked = reply.asked_ns.map_or_else(|| "-".to_owned(), |asked| ms(asked.since(sample.guest_ns)));
        let took = reply.asked_ns.map_or_else(|| "-".to_owned(), |asked| ms(reply.answered_ns.since(asked)));
        let why = reply.json().err().map(|why| clean(&why.to_string())).unwrap_or_default();
        vec![clean(&sample.tag), seconds(run.since_start_ns(sample.guest_ns)), asked, took, why]
    }

    fn lines(&self, run: &Run<'_>) -> Vec<String> {
        let mut lines = about(&[self], run, &[]);
        let rows: Vec<_> = self
            .reply
            .json()
            .map(stats_leaves)
            .unwrap_or_default()
            .found
            .into_iter()
            .map(|(path, leaf)| vec![member(&path), clean(&escaped(&leaf.to_string()))])
            .collect();
        lines.push(String::new());
        lines.extend(layout(&[Align::Left, Align::Left], &rows));
        lines
    }
}

/// A line for each of these captures, with a number before it where there are `numbers`.
fn about(asked: &[&Asked<'_>], run: &Run<'_>, numbers: &[usize]) -> Vec<String> {
    let head = ["capture", "time", "asked after ms", "took ms", ""].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    rows.extend(asked.iter().map(|asked| asked.row(run)));
    let mut align = vec![Align::Left, Align::Right, Align::Right, Align::Right, Align::Left];
    if !numbers.is_empty() {
        let numbers = std::iter::once("#".to_owned()).chain(numbers.iter().map(ToString::to_string));
        for (row, number) in rows.iter_mut().zip(numbers) {
            row.insert(0, number);
        }
        align.insert(0, Align::Right);
    }
    layout(&align, &rows)
}

/// The captures, and then a row for each member with its values in them.
fn side_by_side(run: &Run<'_>, asked: &[Asked<'_>]) -> Vec<String> {
    let numbers: Vec<usize> = (0..asked.len()).collect();
    let mut lines = about(&asked.iter().collect::<Vec<_>>(), run, &numbers);
    lines.push(String::new());
    let answered: Vec<usize> =
        numbers.into_iter().filter(|i| asked.get(*i).is_some_and(|one| one.reply.json().is_ok())).collect();
    let shown = answered.get(answered.len().saturating_sub(COLUMNS)..).unwrap_or_default();
    // By target, as there may be several.
    let mut members: BTreeMap<(&str, String), BTreeMap<usize, String>> = BTreeMap::new();
    for (i, one) in shown.iter().filter_map(|i| Some((*i, asked.get(*i)?))) {
        for (path, leaf) in one.reply.json().map(stats_leaves).unwrap_or_default().found {
            members.entry((&one.reply.target, path)).or_default().insert(i, cell(leaf));
        }
    }
    let mut rows =
        vec![std::iter::once("member".to_owned()).chain(shown.iter().map(|i| format!("#{i}"))).collect()];
    for ((_, path), values) in &members {
        let mut row = vec![member(path)];
        row.extend(shown.iter().map(|i| values.get(i).cloned().unwrap_or_else(|| "-".to_owned())));
        rows.push(row);
    }
    let mut align = vec![Align::Left];
    align.resize(1 + shown.len(), Align::Right);
    lines.extend(layout(&align, &rows));
    let more = answered.len() - shown.len();
    if more > 0 {
        lines.push(format!("and {more} captures before these; --at shows one, --json all"));
    }
    lines
}

/// A path out of an answer. A table is as wide as its longest one.
fn member(path: &str) -> String {
    shorten(&clean(&escaped(path)), MEMBER_CHARS)
}

/// A value in a table: floats with three digits, texts cut.
fn cell(leaf: &Json) -> String {
    match leaf.as_f64().filter(|_| leaf.is_f64()) {
        Some(number) => format!("{number:.3}"),
        None => shorten(&clean(&escaped(&leaf.to_string())), CELL_CHARS),
    }
}
