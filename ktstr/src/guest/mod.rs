//! Guest mode: the test binary, run by guest-init inside of the VM, runs the body.

mod channel;
mod place;
mod run;

pub use channel::{Channel, ChannelError};
pub use place::{Place, place};
pub use run::run;
