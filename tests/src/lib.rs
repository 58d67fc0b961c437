//! What the end-to-end tests share: running tests as child processes, and looking at what they leave.

mod cache;
mod child;
mod cost;
mod disturbed;
mod files;
mod fixture;
mod history_size;
mod ktstr;
mod procs;
mod python;
mod rates;
mod readings;
mod written;

pub use cache::cache_without_templates;
pub use child::{Ended, Mortal, run_bounded};
pub use cost::{Cost, NoCost, on_one_cpu, ping_pong, spin};
pub use disturbed::Disturbed;
pub use files::files_below;
pub use fixture::{Fixture, Point, TestRun, fixture};
pub use history_size::history_size;
pub use ktstr::{cargo_ktstr, has_nextest, ktstr, target_folder};
pub use procs::{Tree, descendants};
pub use python::python;
pub use rates::{CallsAt, NoCalls};
pub use readings::{DUMP, Printed, READINGS, json_of, run_reading};
pub use written::written;
