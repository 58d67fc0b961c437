//! What crosses between a guest and its host: the layout of the channel memory, frames, rings, messages.
//!
//! Both sides use this crate, so that there is one definition. The program that is PID 1 of the guest is this
//! package's binary (feature `init`).

mod frame;
pub mod layout;
pub mod message;
pub mod ring;
