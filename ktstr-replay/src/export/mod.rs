//! A trace in the forms of other tools.

pub mod vmcore;
