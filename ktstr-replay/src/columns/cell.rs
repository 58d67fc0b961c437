//! Columns and their cells.

use crate::text::{Align, layout};
use crate::text::{clean, escaped};
use crate::value::Scalar;

/// A column of a table whose rows are `R`.
pub(crate) struct Column<R> {
    /// What claims call it.
    pub name: &'static str,
    /// Its head in the view; `None`: the view does not show it.
    pub head: Option<(&'static str, Align)>,
    value: fn(&R) -> Cell,
    /// What the view shows in place of the value.
    shown: Option<fn(&R) -> String>,
    /// Of other rows it says nothing.
    only: Option<fn(&R) -> bool>,
    /// The values that it can have, where they are few: another one in a claim is a slip.
    pub known: &'static [&'static str],
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// There is none.
    None,
    /// A number.
    Number(Scalar),
    /// A number that also has a name.
    Named(Scalar, String),
    /// A text.
    Text(String),
}

impl Cell {
    /// A number, or none.
    pub(crate) fn number(value: Option<impl Into<Scalar>>) -> Self {
        value.map_or(Self::None, |value| Self::Number(value.into()))
    }

    /// A text, or none.
    pub(crate) fn text(value: Option<impl Into<String>>) -> Self {
        value.map_or(Self::None, |value| Self::Text(value.into()))
    }

    /// A time of so many ns, in ms.
    pub(crate) fn millis(ns: Option<i64>) -> Self {
        Self::number(ns.map(|ns| ns as f64 / 1e6))
    }

    /// The number, if it is one.
    pub(crate) fn scalar(&self) -> Option<Scalar> {
        match self {
            Self::Number(scalar) | Self::Named(scalar, _) => Some(*scalar),
            Self::None | Self::Text(_) => None,
        }
    }

    /// The text, or a number's name.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Named(_, text) => Some(text),
            Self::None | Self::Number(_) => None,
        }
    }

    /// For a person; `-` where there is nothing.
    pub(crate) fn display(&self) -> String {
        match self {
            Self::None => "-".to_owned(),
            Self::Number(Scalar::Float(value)) => format!("{value:.1}"),
            Self::Number(scalar) => scalar.to_string(),
            Self::Text(text) | Self::Named(_, text) => clean(&escaped(text)),
        }
    }
}

impl<R> Column<R> {
    /// A column that the view does not show.
    pub(crate) const fn hidden(name: &'static str, value: fn(&R) -> Cell) -> Self {
        Self { name, head: None, value, shown: None, only: None, known: &[] }
    }

    /// A column of the view, aligned to the right.
    pub(crate) const fn right(name: &'static str, head: &'static str, value: fn(&R) -> Cell) -> Self {
        Self { name, head: Some((head, Align::Right)), value, shown: None, only: None, known: &[] }
    }

    /// A column of the view, aligned to the left.
    pub(crate) const fn left(name: &'static str, head: &'static str, value: fn(&R) -> Cell) -> Self {
        Self { name, head: Some((head, Align::Left)), value, shown: None, only: None, known: &[] }
    }

    /// The same, of which the view shows another text than that of the value.
    pub(crate) const fn showing(self, shown: fn(&R) -> String) -> Self {
        Self { shown: Some(shown), ..self }
    }

    /// The same, which says nothing of other rows than these.
    pub(crate) const fn only(self, rows: fn(&R) -> bool) -> Self {
        Self { only: Some(rows), ..self }
    }

    /// Its value in a row.
    pub(crate) fn value(&self, row: &R) -> Cell {
        if self.is_of(row) { (self.value)(row) } else { Cell::None }
    }

    /// What the view shows of a row.
    fn show(&self, row: &R) -> String {
        match self.shown.filter(|_| self.is_of(row)) {
            Some(shown) => shown(row),
            None => self.value(row).display(),
        }
    }

    fn is_of(&self, row: &R) -> bool {
        self.only.is_none_or(|only| only(row))
    }

    /// The same, with the values that it can have.
    pub(crate) const fn one_of(self, known: &'static [&'static str]) -> Self {
        Self { known, ..self }
    }
}

/// The lines of a view: a head, and a line for each row.
pub(crate) fn lay_out<'r, R: 'r>(columns: &[Column<R>], rows: impl Iterator<Item = &'r R>) -> Vec<String> {
    let shown: Vec<_> = columns.iter().filter_map(|column| Some((column, column.head?))).collect();
    let align: Vec<_> = shown.iter().map(|(_, (_, align))| *align).collect();
    let mut lines: Vec<Vec<String>> = vec![shown.iter().map(|(_, (head, _))| (*head).to_owned()).collect()];
    lines.extend(rows.map(|row| shown.iter().map(|(column, _)| column.show(row)).collect()));
    layout(&align, &lines)
}
