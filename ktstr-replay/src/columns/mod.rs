//! The tables of a checkpoint: their columns by name, and the rows that claims filter and add up.
//!
//! Each column is one row of a list in this module: its name in claims, its head in the view, its value. The views lay the same
//! lists out, so that what a person sees and what a claim asks are one thing.

mod cell;
mod cgroups;
mod dsqs;
mod maps;
mod rows;
mod runqueues;
mod tasks;

pub(crate) use cell::{Cell, Column, lay_out};
pub(crate) use cgroups::CGROUPS;
pub(crate) use dsqs::DSQS;
pub(crate) use maps::{MAPS, MapRow, is_full};
pub(crate) use rows::Rows;
pub(crate) use runqueues::RUNQUEUES;
pub(crate) use tasks::TASKS;

/// A time in ms with one digit.
pub(crate) fn millis(ns: i64) -> String {
    format!("{:.1}", ns as f64 / 1e6)
}
