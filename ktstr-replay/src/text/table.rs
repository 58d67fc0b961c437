//! Tables of text.

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// At its beginning.
    Left,
    /// At its end.
    Right,
}

/// Lines of `rows`, of which the first is the head; each column as wide as its widest cell.
#[must_use]
pub fn layout(align: &[Align], rows: &[Vec<String>]) -> Vec<String> {
    let width = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..align.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).zip(align).map(|((cell, width), align)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
/// Rows of the first and of the last `each_end` items; between them one with what `more` says of how many are left out.
pub(crate) fn both_ends<T>(
    items: &[T],
    each_end: usize,
    row: impl Fn(&T) -> Vec<String>,
    more: impl Fn(usize) -> String,
) -> Vec<Vec<String>> {
    let mut rows: Vec<_> = items.iter().take(each_end).map(&row).collect();
    let left_out = items.len().saturating_sub(each_end.saturating_mul(2));
    if left_out > 0 {
        let mut gap = vec!["...".to_owned(), more(left_out)];
        gap.resize(rows.first().map_or(2, Vec::len), String::new());
        rows.push(gap);
    }
    rows.extend(items.iter().skip(each_end.max(items.len().saturating_sub(each_end))).map(row));
    rows
}
