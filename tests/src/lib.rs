//! What the end-to-end tests share: running tests as child processes, and looking at what they leave.

mod cache;
mod child;
mod disturbed;
mod fixture;
mod ktstr;
mod procs;
mod python;
mod readings;
mod written;

pub use cache::cache_without_templates;
pub use child::{Ended, Mortal, run_bounded};
pub use disturbed::Disturbed;
pub use fixture::{Fixture, Point, TestRun, fixture};
pub use ktstr::{cargo_ktstr, has_nextest, ktstr, target_folder};
pub use procs::{Tree, descendants};
pub use python::python;
pub use readings::{DUMP, Printed, READINGS, json_of, run_reading};
pub use written::written;
