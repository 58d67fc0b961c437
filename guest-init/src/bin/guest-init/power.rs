//! The end of the guest.

use rustix::system::{RebootCommand, reboot};

/// Power off. If the kernel refuses, PID 1 exits, which is a kernel panic: the host sees an end in any case.
pub fn off() -> ! {
    rustix::fs::sync();
    let refused = reboot(RebootCommand::PowerOff);
    eprintln!("guest-init: powering off: {refused:?}");
    std::process::exit(1)
}
