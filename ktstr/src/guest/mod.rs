//! Guest mode: the test binary, run by guest-init inside of the VM, runs the body.

mod channel;
mod place;
mod run;

#[cfg(test)]
pub use channel::tests as channel_tests;
pub use channel::{Channel, ChannelError};
pub use place::{Place, place};
pub use run::run;
