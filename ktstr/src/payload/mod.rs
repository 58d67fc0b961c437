//! Payloads: programs that a test runs in its guest, what they are, how they are started, and what they measured.
//!
//! ```text
//! definition   what `#[derive(Payload)]` makes of a program     definition.rs, check.rs
//! spec         a definition with a test's own arguments         spec.rs
//! launch       where the guest has it, and what starts it       launch.rs
//! process      a run of it, from start to end                   process.rs, output.rs
//! json         the numbers of its output                        json.rs
//! report       what a body is given of a run                    report.rs
//! ```

mod check;
mod definition;
mod spec;
mod launch;
mod output;
mod json;
mod report;
mod process;
#[cfg(test)]
pub(crate) mod tests;

pub use check::MetricCheck;
pub use definition::{MetricDef, Payload, PayloadDef, check_payloads, definition_of, same};
pub use launch::{FILES, Launch, LaunchError};
pub use process::Running;
pub use report::PayloadReport;
pub use spec::PayloadSpec;
