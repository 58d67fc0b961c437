//! Text for people: made harmless to a terminal, laid out as tables, with times and names that they can read.

mod clean;
mod suggest;
mod table;
mod time;

pub(crate) use clean::{clean, counted, listed, shorten, tail, wrapped};
pub use clean::{escaped, plain_json, plain_lines, printable};
pub use suggest::Candidates;
pub(crate) use suggest::nearest;
pub(crate) use table::both_ends;
pub use table::{Align, layout};
pub use time::SpanNs;
pub(crate) use time::seconds;
pub use time::time_ns;
