//! For people.

use std::fmt::Write as _;

use super::{Change, Diff, Part};
use crate::text::printable;

/// Differences of each part that are shown.
const SHOWN: usize = 40;
/// Longest value, in characters.
const VALUE_CHARS: usize = 60;

impl Diff {
    /// The differences as text, at most 40 of each part.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for part in Part::ALL {
            let of_part: Vec<_> = self.changes.iter().filter(|change| change.part == part).collect();
            if of_part.is_empty() {
                continue;
            }
            let _ = writeln!(out, "{part}: {} different", of_part.len());
            let mut capture = None;
            for change in of_part.iter().take(SHOWN) {
                if change.capture != capture {
                    capture.clone_from(&change.capture);
                    let _ = writeln!(out, "  at {}", printable(capture.as_deref().unwrap_or_default()));
                }
                let _ = writeln!(out, "  {}", line(change));
            }
            if of_part.len() > SHOWN {
                let _ = writeln!(out, "  and {} more; --json has all", of_part.len() - SHOWN);
            }
        }
        if out.is_empty() { String::from("no difference\n") } else { out }
    }
}

fn line(change: &Change) -> String {
    let side = |value: &Option<String>| match value {
        None => String::from("(none)"),
        Some(value) => {
            let value = printable(value);
            match value.char_indices().nth(VALUE_CHARS) {
                Some((cut, _)) => format!("{}...", &value[..cut]),
                None => value,
            }
        }
    };
    format!("{:<36}  {}  ->  {}", printable(&change.what), side(&change.a), side(&change.b))
}
