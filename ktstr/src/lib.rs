//! What test authors use, and the programs `ktstr` and `cargo-ktstr`.

pub mod cli;
