//! Columns side by side: `ktstr replay --var`.

use crate::series::Column;
use crate::text::seconds;

use crate::text::table::{Align, layout};
use crate::text::{clean, shorten};

/// Longest reason for a missing value, in characters.
const REASON_CHARS: usize = 60;

/// A line for each sample, with its tag, its time and the columns' values. The columns are of one series.
pub fn columns(columns: &[&Column]) -> String {
    let Some(first) = columns.first() else { return String::new() };
    let mut head = vec!["sample".to_owned(), "time".to_owned()];
    head.extend(columns.iter().map(|c| clean(&c.projection.to_string())));
    let mut rows = vec![head];
    for (i, point) in first.points.iter().enumerate() {
        let mut row = vec![clean(&point.tag), seconds(first.since_start_ns(point))];
        row.extend(columns.iter().map(|column| match column.points.get(i).map(|p| &p.value) {
            Some(Ok(value)) => value.to_string(),
            Some(Err(why)) => format!("({})", shorten(&clean(&why.to_string()), REASON_CHARS)),
            None => "-".to_owned(),
        }));
        rows.push(row);
    }
    let mut align = vec![Align::Left, Align::Right];
    align.resize(2 + columns.len(), Align::Right);
    let mut out = layout(&align, &rows).join("\n");
    out.push('\n');
    out
}
