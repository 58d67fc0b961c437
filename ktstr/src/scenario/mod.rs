//! Scenarios: phases of set-up, hold and teardown, each of them timed events in the trace.

mod execute;
mod step;

pub use execute::{execute_defs, execute_steps};
pub use step::{HoldSpec, Step};

#[cfg(test)]
mod tests;
