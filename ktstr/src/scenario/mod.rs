//! Scenarios: phases of set-up, operations, hold and teardown, each of them timed events in the trace.

mod op;
mod step;
mod error;
mod undo;
mod check;
mod engine;
mod apply;
mod payloads;
mod execute;
pub mod canned;

pub use execute::{execute_defs, execute_scenario, execute_steps};
pub use op::Op;
pub use step::{Backdrop, HoldSpec, Step};

#[cfg(test)]
mod tests;
