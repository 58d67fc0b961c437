//! Scenarios: phases of set-up, hold and teardown, each of them timed events in the trace.

mod execute;
mod life;
mod step;

pub use execute::{ScenarioError, execute_defs, execute_steps};
pub use life::{SchedulerDied, SchedulerLife};
pub use step::{HoldError, HoldSpec, Step};

#[cfg(test)]
mod tests;
