//! PID 1 of a ktstr guest.
//!
//! The only program in the initramfs. It mounts what a kernel offers, tells the host through channel memory in guest
//! memory that it is ready, receives its job the same way (files, then what to run), runs it and powers off.
//! It runs under `SCHED_FIFO`, so that a stalled scheduler under test does not stall the report of it, and
//! sleeps in `poll` while the test runs, so that it does not disturb what it watches.

mod kernel;
mod doorbell;
mod memory;
mod link;
mod reserve;
mod history;
mod delivery;
mod program;
mod socket;
mod stats;
mod system;
mod run;

use std::env::set_current_dir;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use guest_init::layout::{STATE_BUSY, STATE_DONE, STATE_READY};
use guest_init::message::{GuestStage, ToHost};

use crate::kernel::Kmsg;
use crate::link::Link;
use crate::memory::Cmdline;
use crate::reserve::Reserve;
use crate::socket::TestSocket;

/// Why init cannot do its job: what was tried and what was found, for the host's report.
type Failure = String;

/// Where programs start.
const WORKING_FOLDER: &str = "/tmp";

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("guest-init: this is PID 1 of a ktstr guest; as another process it does nothing");
        return ExitCode::FAILURE;
    }
    // The panic's own message goes to the console by the default hook.
    let outcome =
        catch_unwind(connect).unwrap_or_else(|_| Err("init panicked before it had a channel".into()));
    match outcome {
        Ok((mut link, socket)) => serve(&mut link, socket),
        Err(failure) => eprintln!("guest-init: {failure}"),
    }
    system::power_off()
}

/// What has to work before the host can be told anything.
fn connect() -> Result<(Link, TestSocket), Failure> {
    let socket = TestSocket::pair()?;
    system::mount_for_channel()?;
    let cmdline = Cmdline::read()?;
    Ok((Link::open(&cmdline)?, socket))
}

/// Do the job, and whatever comes of it tell the host.
fn serve(link: &mut Link, socket: TestSocket) {
    let outcome = catch_unwind(AssertUnwindSafe(|| work(link, socket)));
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(panic) => Some(format!("init panicked: {}", panic_text(panic.as_ref()))),
    };
    if let Some(detail) = failure {
        eprintln!("guest-init: {detail}");
        link.stage(GuestStage::Failed, detail);
    }
    link.stage(GuestStage::PoweringOff, String::new());
    link.set_state(STATE_DONE);
}

fn work(link: &mut Link, socket: TestSocket) -> Result<(), Failure> {
    system::mount_rest()?;
    set_current_dir(WORKING_FOLDER).map_err(|error| format!("entering {WORKING_FOLDER}: {error}"))?;
    system::raise_priority()?;
    let mut kmsg = Kmsg::open()?;
    kmsg.flush(link);
    // A guest without one does its job all the same, and its trace says that there is none.
    if let Err(why) = history::begin() {
        eprintln!("guest-init: no history: {why}");
    }
    let reserve = Reserve::allocate();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    link.send(&ToHost::Ready { release });
    link.set_state(STATE_READY);
    let delivery = delivery::await_job(link, &mut kmsg, reserve)?;
    link.set_state(STATE_BUSY);
    if delivery.stop {
        return Ok(());
    }
    let outcome = run::JobRun::new(link, &mut kmsg, socket, delivery).finish();
    kmsg.flush(link);
    outcome
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
