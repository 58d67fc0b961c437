//! Runqueues: what each CPU runs and what waits for it; as a sample has it ([`read_runqueues`]), and all that a checkpoint
//! tells ([`read_runqueue_details`]).

mod detail;
mod sample;

pub use detail::{RunnableTask, Runqueue, Runqueues, read_runqueue_details};
pub use sample::read_runqueues;
